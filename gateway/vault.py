"""Access tokens of platforms, kept in the store: sealed, shared by all processes, fetched by one of them at a time.

Adapters that hold such tokens (`adapters.TokenHolder`) are given this in the place of their own memory. A token
survives a restart; of several processes one asks the platform for the next, and the others find it here.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from adapters import SendError, Token
from config.secret import Secret
from gateway.ids import micros, new_id
from gateway.store import platform_tokens
from gateway.store.dialect import StoreUnavailable
from gateway.store.engine import Database

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=45)  # longer than any call for a token may take
WAIT_S = 15.0  # for another who fetches: a message still leaves within the same send, or is tried later
_POLL_S = (0.05, 0.1, 0.2, 0.4)  # the last again and again
_PURPOSE = b"channel gateway: platform tokens"


class _Kept(msgspec.Struct, array_like=True):
    """What is sealed. `name` is in it, so that a row copied to another name opens nothing."""

    name: str
    value: str
    refresh: str


class Seal:
    """Hides tokens with the keys of `[gateway] secret_key`: the first seals, all of them open."""

    def __init__(self, keys: Sequence[Secret]) -> None:
        self._fernet = MultiFernet([Fernet(_derived(key)) for key in keys])

    def close(self, name: str, token: Token) -> str:
        """The token sealed under a name."""
        kept = _Kept(name, token.value.reveal(), token.refresh.reveal())
        return self._fernet.encrypt(msgspec.json.encode(kept)).decode()

    def open(self, name: str, sealed: str, renew_at: float) -> Token | None:
        """The token, or None when none of the keys opens it under this name."""
        try:
            kept = msgspec.json.decode(self._fernet.decrypt(sealed.encode()), type=_Kept)
        except (InvalidToken, msgspec.DecodeError):
            return None
        return Token(Secret(kept.value), renew_at, Secret(kept.refresh)) if kept.name == name else None


def _derived(key: Secret) -> bytes:
    raw = HKDF(hashes.SHA256(), 32, salt=None, info=_PURPOSE).derive(key.reveal().encode())
    return base64.urlsafe_b64encode(raw)


class Vault:
    """A `TokenCache` over the store. Raises `SendError` ("retry") while the store cannot answer: nothing was sent."""

    def __init__(self, database: Database, keys: Sequence[Secret], clock: Callable[[], datetime]) -> None:
        self._database, self._seal, self._clock = database, Seal(keys), clock
        self._known: dict[str, Token] = {}  # spares a look into the store with every message
        self._versions: dict[str, int] = {}  # of what this process last read or kept
        self._unsaved: dict[str, Token] = {}  # fetched while the store was down
        self._locks: dict[str, asyncio.Lock] = {}

    async def load(self, key: str) -> Token | None:
        """The newest token; within `owner` as the store has it, else perhaps as it was when last read."""
        known = self._known.get(key)
        return known if known is not None else await self._read(key)

    async def save(self, key: str, token: Token) -> None:
        """Keep the token, unless another process has kept one since this one read it last.

        Where the store is down the token is used all the same, and kept as soon as the store is back: a refresh token
        works once, and its successor must not be lost.
        """
        self._known[key] = token
        try:
            await self._write(key, token)
        except SendError:
            log.error("tokens.not_saved", extra={"token": key})
            self._unsaved[key] = token

    @asynccontextmanager
    async def owner(self, key: str) -> AsyncIterator[None]:
        """Held by one at a time, over all processes; what is loaded within is what the store has now."""
        async with self._locks.setdefault(key, asyncio.Lock()):
            name = new_id()
            await self._lease(key, name)
            try:
                if (unsaved := self._unsaved.get(key)) is not None:
                    await self._write(key, unsaved)
                self._known.pop(key, None)
                yield
            finally:
                await self._release(key, name)

    # --- inside ---

    async def _read(self, key: str) -> Token | None:
        with _excused():
            row = await self._database.read(lambda connection: platform_tokens.load(connection, key))
        self._versions[key] = row["version"] if row is not None else 0
        if row is None or not row["sealed"]:
            return None
        token = self._seal.open(key, row["sealed"], row["renew_at"] / 1_000_000)
        if token is None:
            log.warning("tokens.unreadable", extra={"token": key, "detail": "sealed with a key that is gone"})
            return None
        self._known[key] = token
        return token

    async def _write(self, key: str, token: Token) -> None:
        sealed, renew_at = self._seal.close(key, token), int(token.renew_at * 1_000_000)
        version, now = self._versions.get(key, 0), micros(self._clock())
        with _excused():
            kept = await self._database.write(
                lambda connection: platform_tokens.save(connection, key, sealed, renew_at, version, now)
            )
        self._unsaved.pop(key, None)
        if kept:
            self._versions[key] = version + 1
        else:
            log.warning("tokens.overtaken", extra={"token": key})
            self._known.pop(key, None)

    async def _lease(self, key: str, name: str) -> None:
        """Wait until this process may fetch. Who holds the lease and dies loses it in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WAIT_S
        for delay_s in itertools.chain(_POLL_S, itertools.repeat(_POLL_S[-1])):
            now = self._clock()
            with _excused():
                taken = await self._database.write(
                    lambda connection, now=now: platform_tokens.lease(  # type: ignore[misc]
                        connection, key, name, micros(now), micros(now + LEASE)
                    )
                )
            if taken:
                return
            if loop.time() > deadline:
                raise SendError("retry", "token-busy", "another process has been fetching an access token for long")
            await asyncio.sleep(delay_s)

    async def _release(self, key: str, name: str) -> None:
        """What cannot be released ends by itself."""
        try:
            await self._database.write(lambda connection: platform_tokens.release(connection, key, name))
        except StoreUnavailable:
            log.warning("tokens.not_released", extra={"token": key})


@contextmanager
def _excused() -> Iterator[None]:
    try:
        yield
    except StoreUnavailable:
        raise SendError("retry", "store", "the store of access tokens cannot answer") from None
