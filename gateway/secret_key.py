"""The key of our own tokens: from the configuration, or made once in the data directory of the embedded store."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from config.secret import Secret
from config.settings import ConfigError, Fault, Settings
from gateway.lock import make_data_dir

_LEAST = 16  # characters


def secret_keys(settings: Settings) -> tuple[Secret, ...]:
    """The configured keys, newest first; else the one in `data_dir`, made with mode 0600. Raises `ConfigError`."""
    if settings.gateway.secret_key:
        for index, key in enumerate(settings.gateway.secret_key):
            if len(key.reveal()) < _LEAST:
                raise ConfigError(Fault(f"gateway.secret_key[{index}]", f"must have at least {_LEAST} characters"))
        return settings.gateway.secret_key
    if settings.gateway.database:
        raise ConfigError(Fault("gateway.secret_key", "missing: several processes must share it"))
    path = settings.data_dir / "secret_key"
    if not path.exists():
        _make(path)
    try:
        text = path.read_text("ascii").strip()
    except UnicodeDecodeError:
        text = ""
    if len(text) < _LEAST:
        words = f"{path} is damaged: restore it from a backup; removed, it is made anew, and what it sealed is lost"
        raise ConfigError(Fault("gateway.data_dir", words))
    return (Secret(text),)


def _make(path: Path) -> None:
    """Write a new key, whole or not at all: half a key would be one that can be guessed."""
    make_data_dir(path.parent)
    descriptor, draft = tempfile.mkstemp(prefix=".secret_key-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another process was faster: that one counts
        except OSError:
            os.replace(draft, path)  # a file system without links
    finally:
        Path(draft).unlink(missing_ok=True)
