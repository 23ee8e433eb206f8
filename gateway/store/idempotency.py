"""`Idempotency-Key`: the same key of the same caller gives the same answer, and with another body it is refused."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from gateway.store.many import insert_ignore
from gateway.store.schema import idempotency


class OtherBody(Exception):
    """The key was used before, with another body."""


def fingerprint(body: Any) -> str:
    """A hash of what was asked for, whatever the order of its fields."""
    return hashlib.sha256(msgspec.json.encode(body, order="deterministic")).hexdigest()


def take(connection: Connection, scope: str, key: str, body_hash: str, now: int) -> None:
    """Note that the caller used this key for this body. Raises `OtherBody` when it was for another one."""
    row = {"scope": scope, "key": key, "fingerprint": body_hash, "status": 0, "response": "", "created_at": now}
    insert_ignore(connection, idempotency, [row])
    statement = select(idempotency.c.fingerprint).where(idempotency.c.scope == scope, idempotency.c.key == key)
    if connection.execute(statement).scalar_one() != body_hash:
        raise OtherBody
