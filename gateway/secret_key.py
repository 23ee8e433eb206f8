"""The key of our own tokens: from the configuration, or made once in the data directory of the embedded store."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from config.secret import Secret
from config.settings import ConfigError, Fault, Settings
from gateway.lock import make_data_dir


def secret_keys(settings: Settings) -> tuple[Secret, ...]:
    """The configured keys, newest first; else the one in `data_dir`, made with mode 0600. Raises `ConfigError`."""
    if settings.gateway.secret_key:
        for index, key in enumerate(settings.gateway.secret_key):
            if len(key.reveal()) < 16:
                raise ConfigError(Fault(f"gateway.secret_key[{index}]", "must have at least 16 characters"))
        return settings.gateway.secret_key
    if settings.gateway.database:
        raise ConfigError(Fault("gateway.secret_key", "missing: several processes must share it"))
    path = settings.data_dir / "secret_key"
    try:
        return (Secret(path.read_text("ascii").strip()),)
    except FileNotFoundError:
        return (_make(path),)


def _make(path: Path) -> Secret:
    make_data_dir(path.parent)
    key = secrets.token_urlsafe(32)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key + "\n")
        file.flush()
        os.fsync(file.fileno())
    return Secret(key)
