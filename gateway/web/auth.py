"""Who calls the API: keys, their scopes, and the accounts they may see."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import msgspec
from aiohttp import web
from sqlalchemy import RowMapping

from gateway.core import Core
from gateway.ids import micros
from gateway.store import keys
from gateway.store.dialect import StoreUnavailable
from gateway.tickets import Actor
from gateway.web.problems import Problem

USED_EVERY_S = 60  # how exact `last_used_at` is


class ApiKey(msgspec.Struct, frozen=True):
    """A valid key. `accounts` None: all of them."""

    id: str
    name: str
    scope: str
    accounts: frozenset[str] | None = None

    def may(self, scope: str) -> bool:
        """Whether the key has this scope or a stronger one."""
        return keys.SCOPES.index(self.scope) >= keys.SCOPES.index(scope)

    def sees(self, account: str) -> bool:
        """Whether things of this account exist for the key."""
        return self.accounts is None or account in self.accounts

    @property
    def actor(self) -> Actor:
        """Who a change by this key is written down to: a key is no person."""
        return Actor("bot", self.id, self.name)


def _api_key(row: RowMapping) -> ApiKey:
    accounts: Sequence[str] = msgspec.json.decode(row["accounts"])
    return ApiKey(row["id"], row["name"], row["scope"], frozenset(accounts) if accounts else None)


class Authenticator:
    """Finds the key of a request in the store, each time: a revoked key is worth nothing at once."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._noted: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def key(self, request: web.Request) -> ApiKey:
        """The request's key. Raises `Problem` "unauthorized", which does not tell what was wrong."""
        values = request.headers.getall("Authorization", [])
        scheme, _, secret = values[0].partition(" ") if len(values) == 1 else ("", "", "")
        if scheme.lower() != "bearer" or not secret.startswith(keys.PREFIX) or len(secret) > 200:
            raise Problem("unauthorized")
        row = await self._core.database.read(lambda connection: keys.find(connection, secret))
        if row is None:
            raise Problem("unauthorized")
        self._note_use(row)
        return _api_key(row)

    def _note_use(self, row: RowMapping) -> None:
        now = micros(self._core.clock())
        last = max(self._noted.get(row["id"], 0), row["last_used_at"] or 0)
        if now - last < USED_EVERY_S * 1_000_000:
            return
        self._noted[row["id"]] = now
        task = asyncio.get_running_loop().create_task(self._write_use(row["id"], now))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write_use(self, key_id: str, now: int) -> None:
        with contextlib.suppress(StoreUnavailable):  # reading must go on when nothing can be written
            await self._core.database.write(lambda connection: keys.used(connection, key_id, now))

    async def close(self) -> None:
        """Let the notes be written that are on their way."""
        if self._tasks:
            await asyncio.wait(list(self._tasks))
