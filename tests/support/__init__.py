"""What tests of the whole are built with: services, a gateway with simulated platforms around it, an API client."""
