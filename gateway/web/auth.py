"""Who calls the API: a key, or a user signed in at the console; what they may do, and the accounts they may see."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Callable, Sequence

import msgspec
from aiohttp import web
from sqlalchemy import Connection, RowMapping

from gateway.core import Core
from gateway.ids import micros
from gateway.permissions import BUILT_IN, ROLE_OF_SCOPE, grants
from gateway.store import keys, users
from gateway.store.dialect import StoreUnavailable
from gateway.tickets import Actor
from gateway.web.problems import Problem

USED_EVERY_S = 60  # how exact `last_used_at` is
CSRF_HEADER = "X-CSRF-Token"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Caller(msgspec.Struct, frozen=True):
    """Who calls. `accounts` None: all of them. `rights`: each of these sets must grant what is to be done.

    `id` is what idempotency, limits and uploads go by: the key's, or the user's.
    """

    id: str
    name: str
    rights: tuple[frozenset[str], ...]
    accounts: frozenset[str] | None = None
    user_id: str = ""
    role: str = ""
    session: str = ""  # hash of the session, when there is one
    csrf: str = ""

    def may(self, permission: str) -> bool:
        """Whether the permission is granted."""
        return all(grants(right, permission) for right in self.rights)

    def sees(self, account: str) -> bool:
        """Whether things of this account exist for the caller."""
        return self.accounts is None or account in self.accounts

    @property
    def actor(self) -> Actor:
        """Who a change is written down to: a user, or a key, which is no person."""
        return Actor("agent", self.user_id, self.name) if self.user_id else Actor("bot", self.id, self.name)


NOBODY = Caller("", "", (frozenset(),), frozenset())


def cookie_name(core: Core) -> str:
    """The session cookie: bound to this host and to https wherever the gateway is reached by it."""
    return "__Host-session" if secure(core) else "session"


def secure(core: Core) -> bool:
    """Whether browsers reach the gateway by https."""
    return core.settings.gateway.public_url.startswith("https://")


class Authenticator:
    """Finds out who calls in the store, each time: a revoked key or an ended session is worth nothing at once."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._noted: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def caller(self, request: web.Request) -> Caller:
        """Who sent the request. Raises `Problem` "unauthorized", which does not tell what was wrong, and "csrf"."""
        values = request.headers.getall("Authorization", [])
        if not values and (token := request.cookies.get(cookie_name(self._core), "")):
            return await self._by_session(request, token)
        scheme, _, secret = values[0].partition(" ") if len(values) == 1 else ("", "", "")
        if scheme.lower() != "bearer" or not secret.startswith(keys.PREFIX) or len(secret) > 200:
            raise Problem("unauthorized")
        return await self._by_key(secret)

    async def _by_key(self, secret: str) -> Caller:
        def job(connection: Connection) -> tuple[RowMapping, Caller] | None:
            row = keys.find(connection, secret)
            return None if row is None else (row, _key_caller(connection, row))

        try:
            found = await self._core.database.read(job)
        except users.UserError:  # its user's role is gone
            found = None
        if found is None:
            raise Problem("unauthorized")
        row, caller = found
        self._note(row["id"], row["last_used_at"], lambda connection, now: keys.used(connection, row["id"], now))
        return caller

    async def _by_session(self, request: web.Request, token: str) -> Caller:
        now = micros(self._core.clock())

        def job(connection: Connection) -> tuple[RowMapping, Caller] | None:
            row = users.session(connection, token, now)
            return None if row is None else (row, _session_caller(connection, row))

        found = await self._core.database.read(job) if len(token) <= 200 else None
        if found is None:
            raise Problem("unauthorized")
        row, caller = found
        if request.method not in _SAFE:
            given = request.headers.get(CSRF_HEADER, "")
            if not hmac.compare_digest(given.encode("utf-8", "surrogatepass"), caller.csrf.encode()):
                raise Problem("csrf", f"the header {CSRF_HEADER} is missing or wrong")
        self._note(
            row["hash"],
            row["last_used_at"],
            lambda connection, at: users.session_used(connection, row["hash"], row["id"], at),
        )
        return caller

    def _note(self, name: str, last_used_at: int | None, write: Callable[[Connection, int], None]) -> None:
        now = micros(self._core.clock())
        last = max(self._noted.get(name, 0), last_used_at or 0)
        if now - last < USED_EVERY_S * 1_000_000:
            return
        self._noted[name] = now
        task = asyncio.get_running_loop().create_task(self._write(lambda connection: write(connection, now)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, job: Callable[[Connection], None]) -> None:
        with contextlib.suppress(StoreUnavailable):  # reading must go on when nothing can be written
            await self._core.database.write(job)

    async def close(self) -> None:
        """Let the notes be written that are on their way."""
        if self._tasks:
            await asyncio.wait(list(self._tasks))


def _accounts(*columns: str) -> frozenset[str] | None:
    """What all of these limits leave; an empty one limits nothing."""
    found: frozenset[str] | None = None
    for column in columns:
        wanted: Sequence[str] = msgspec.json.decode(column)
        if wanted:
            found = frozenset(wanted) if found is None else found & frozenset(wanted)
    return found


def _key_caller(connection: Connection, row: RowMapping) -> Caller:
    """A key may what its scope says; one that belongs to a user never more than the user."""
    rights = BUILT_IN[ROLE_OF_SCOPE[row["scope"]]]
    if not row["user_id"]:
        return Caller(row["id"], row["name"], (rights,), _accounts(row["accounts"]))
    user = users.load(connection, row["user_id"])
    return Caller(
        row["id"], user["name"], (rights, users.known_role(connection, user["role"])),
        _accounts(row["accounts"], user["accounts"]), user_id=user["id"], role=user["role"],
    )  # fmt: skip


def _session_caller(connection: Connection, row: RowMapping) -> Caller:
    return Caller(
        row["id"], row["name"], (users.known_role(connection, row["role"]),), _accounts(row["accounts"]),
        user_id=row["id"], role=row["role"], session=row["hash"], csrf=row["csrf"],
    )  # fmt: skip
