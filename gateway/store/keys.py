"""API keys in the store: only their SHA-256, so that what is stolen from a backup opens nothing."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, insert, select, update

from gateway.ids import new_id
from gateway.store.schema import api_keys

PREFIX = "gw_"
SCOPES = ("read", "agent", "admin")  # each may what those before it may
NAME_MAX = 100


def new_key() -> str:
    """A key nobody can guess: 32 random bytes behind a prefix that scanners know it by."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(key: str) -> str:
    """What is stored of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def create(
    connection: Connection, name: str, scope: str, accounts: Sequence[str], now: int, user_id: str | None = None
) -> tuple[str, str]:
    """Make a key; its id and the key itself, which is shown this once. `accounts` empty: all. Raises `ValueError`.

    A key of a user may never more than the user, and what it changes is written down to the user.
    """
    if scope not in SCOPES:
        raise ValueError(f"scope: must be one of {', '.join(SCOPES)}")
    if not name.strip() or len(name) > NAME_MAX:
        raise ValueError(f"name: must have 1 to {NAME_MAX} characters")
    key, key_id = new_key(), new_id()
    row = {
        "id": key_id,
        "name": name.strip(),
        "hash": hash_of(key),
        "scope": scope,
        "accounts": msgspec.json.encode(sorted(set(accounts))).decode(),
        "user_id": user_id,
        "created_at": now,
    }
    connection.execute(insert(api_keys), [row])
    return key_id, key


def find(connection: Connection, key: str) -> RowMapping | None:
    """The row of a key that is known and not revoked, else None."""
    wanted = hash_of(key)
    row = connection.execute(select(api_keys).where(api_keys.c.hash == wanted)).mappings().first()
    if row is None or row["revoked_at"] is not None or not hmac.compare_digest(row["hash"], wanted):
        return None
    return row


def used(connection: Connection, key_id: str, now: int) -> None:
    """Note that the key was used."""
    connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(last_used_at=now))


def revoke(connection: Connection, key_id: str, now: int) -> bool:
    """Make a key useless at once; False when there is no such key."""
    statement = update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
    return connection.execute(statement.values(revoked_at=now)).rowcount > 0


def listing(connection: Connection) -> list[dict[str, Any]]:
    """All keys without their hashes, oldest first."""
    columns = [column for column in api_keys.c if column.name != "hash"]
    return [dict(row) for row in connection.execute(select(*columns).order_by(api_keys.c.id)).mappings()]
