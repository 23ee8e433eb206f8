"""The suppression list as people keep it: put an address on it, take it off, look."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping

from gateway.core import Core
from gateway.ids import micros
from gateway.proactive import address_of
from gateway.requests import RequestError
from gateway.store import suppressions as store

SCOPES = ("all", "automatic", "marketing")


def known_as(core: Core, channel: str, value: str) -> str:
    """The address in the form the list has it. Raises `RequestError`: unknown_channel, invalid."""
    serving = core.accounts.serving(channel)
    if not serving:
        raise RequestError(422, "unknown_channel", f"no account serves {channel!r}", "channel")
    try:
        return address_of(core, value, serving[0].id, serving[0].channels[channel]).value
    except RequestError as error:
        raise RequestError(error.status, error.code, error.detail, "address") from None


def add(
    connection: Connection, core: Core, *, channel: str, address: str, scope: str = "all", detail: str = "",
    expires_at: datetime | None = None, created_by: str = "",
) -> RowMapping:  # fmt: skip
    """Put an address on the list by hand; the entry. Raises `RequestError`."""
    now = core.clock()
    if scope not in SCOPES:
        raise RequestError(422, "invalid", f"one of {', '.join(SCOPES)} must be chosen", "scope")
    if expires_at is not None and (expires_at.tzinfo is None or expires_at <= now):
        raise RequestError(422, "invalid", "must be a moment to come, with its offset from UTC", "expires_at")
    value = known_as(core, channel, address)
    entry = store.Entry(
        channel=channel, address=value, scope=scope, detail=detail, created_by=created_by,
        expires_at=None if expires_at is None else micros(expires_at),
    )  # fmt: skip
    store.add(connection, [entry], micros(now))
    row = store.load(connection, channel, value, scope)
    assert row is not None
    return row


def plain(row: RowMapping) -> dict[str, Any]:
    """An entry as the command line shows it."""
    names = ("id", "channel", "address", "scope", "reason", "detail", "message_id", "created_at", "expires_at")
    return {name: row[name] for name in names}
