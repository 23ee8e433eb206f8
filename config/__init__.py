"""What the operator chose: settings read from TOML, secrets that cannot be printed."""
