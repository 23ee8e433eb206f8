"""The list of addresses that are not written to, by channel and scope. Functions inside the caller's transaction.

What bounced gets on it by itself once it has failed often enough; until then its row counts and holds nothing back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, bindparam, delete, select

from adapters import Suppress
from gateway.ids import new_id
from gateway.store.many import among, upsert
from gateway.store.schema import suppressions
from outbox.facts import folded

_COUNTED_FOR = 180 * 86_400_000_000  # microseconds: how long failures are remembered where the rule names no time
_KEYS = ("address", "channel", "scope")
_CHANGED = ("reason", "detail", "message_id", "created_by", "strikes", "active", "created_at", "expires_at")


class Failed(msgspec.Struct, frozen=True):
    """An address that a message could not be brought to, and what the platform's table says of it."""

    channel: str
    address: str
    rule: Suppress
    message_id: str
    detail: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An address to put on the list. Moments in microseconds."""

    channel: str
    address: str
    scope: str = "all"
    reason: str = "manual"  # manual, complaint
    detail: str = ""
    message_id: str = ""
    created_by: str = ""
    expires_at: int | None = None


_about = select(suppressions).where(
    suppressions.c.channel.in_(bindparam("b_channels", expanding=True)), suppressions.c.scope == "all"
)


def failed(connection: Connection, failures: Sequence[Failed], now: int) -> None:
    """Count failures; an address that has enough of them is suppressed from now on."""
    if not failures:
        return
    names = {folded(failure.address) for failure in failures}
    statement = _about.where(among(connection, suppressions.c.address, names))
    known: dict[tuple[str, str], dict[str, Any]] = {
        (row["channel"], row["address"]): dict(row)
        for row in connection.execute(statement, {"b_channels": list({f.channel for f in failures})}).mappings()
    }
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for failure in failures:
        key = (failure.channel, folded(failure.address))
        before = rows.get(key) or known.get(key)
        if before is not None and before["expires_at"] is not None and before["expires_at"] <= now:
            before = None
        rows[key] = _counted(failure, key, before, now)
    upsert(connection, suppressions, list(rows.values()), _KEYS, _CHANGED)


def _counted(failure: Failed, key: tuple[str, str], before: dict[str, Any] | None, now: int) -> dict[str, Any]:
    strikes = (before["strikes"] if before is not None else 0) + 1
    lasting = before is not None and before["active"] and before["expires_at"] is None
    if before is not None and lasting:  # a person's decision, or an address that is gone for good
        return before | {"strikes": strikes}
    lasts = None if failure.rule.lasts is None else int(failure.rule.lasts.total_seconds() * 1_000_000)
    active = strikes >= failure.rule.after or bool(before is not None and before["active"])
    counting = _COUNTED_FOR if lasts is None and not active else lasts
    return {
        "id": before["id"] if before is not None else new_id(), "channel": key[0], "address": key[1], "scope": "all",
        "reason": "bounce", "detail": failure.detail[:500], "message_id": failure.message_id, "created_by": "",
        "strikes": strikes, "active": active, "created_at": before["created_at"] if before is not None else now,
        "expires_at": None if counting is None else now + counting,
    }  # fmt: skip


def add(connection: Connection, entries: Sequence[Entry], now: int) -> None:
    """Put addresses on the list; what stood there of the same scope is replaced."""
    rows = {
        (entry.channel, folded(entry.address), entry.scope): msgspec.structs.asdict(entry)
        | {"id": new_id(), "address": folded(entry.address), "strikes": 0, "active": True, "created_at": now}
        for entry in entries
    }
    upsert(connection, suppressions, list(rows.values()), _KEYS, _CHANGED)


def page(
    connection: Connection, now: int, *, channel: str = "", address: str = "", scope: str = "", limit: int = 200,
    before: str | None = None,
) -> Sequence[RowMapping]:  # fmt: skip
    """What is on the list now, the newest first."""
    statement = select(suppressions).where(
        suppressions.c.active, suppressions.c.expires_at.is_(None) | (suppressions.c.expires_at > now)
    )
    for column, value in (("channel", channel), ("address", folded(address)), ("scope", scope)):
        if value:
            statement = statement.where(suppressions.c[column] == value)
    if before is not None:
        statement = statement.where(suppressions.c.id < before)
    return connection.execute(statement.order_by(suppressions.c.id.desc()).limit(limit)).mappings().all()


def load(connection: Connection, channel: str, address: str, scope: str) -> RowMapping | None:
    """The row of an address, or None."""
    statement = select(suppressions).where(
        suppressions.c.channel == channel, suppressions.c.address == folded(address), suppressions.c.scope == scope
    )
    return connection.execute(statement).mappings().first()


def drop(connection: Connection, ids: Iterable[str]) -> int:
    """Take entries off the list, what was counted for them too; how many there were."""
    return connection.execute(delete(suppressions).where(among(connection, suppressions.c.id, ids))).rowcount


def expire(connection: Connection, now: int) -> None:
    """Remove what is past its time."""
    connection.execute(delete(suppressions).where(suppressions.c.expires_at <= now))
