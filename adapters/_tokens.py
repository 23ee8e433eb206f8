"""One access token for all who call a platform: kept in a cache, refreshed by one owner at a time.

An adapter begins with a cache of its own, in memory. A gateway gives it one that lasts and that all processes share
(`TokenHolder.tokens`) before the first call; a token may be 512 characters and more, and is kept encrypted there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from config.secret import Secret


@dataclass(frozen=True, slots=True)
class Token:
    """`renew_at`: Unix seconds from which a new one should be fetched; the platform still takes this one then.

    `refresh`: what the next one is made from, where a platform works that way. Both are kept in one step.
    """

    value: Secret
    renew_at: float
    refresh: Secret = field(default=Secret(""))


class TokenCache(Protocol):
    """Where tokens are kept, by a key that names platform and application. May raise `SendError`: nothing was sent."""

    async def load(self, key: str) -> Token | None:
        """The newest token, or None. Outside of `owner` it may be one that others have replaced."""
        ...

    async def save(self, key: str, token: Token) -> None:
        """Replace the token. Called within `owner`, after `load`."""
        ...

    def owner(self, key: str) -> AbstractAsyncContextManager[object]:
        """Held while a token is fetched: by one at a time, over all who share the cache."""
        ...


@runtime_checkable
class TokenHolder(Protocol):
    """Adapters whose access token is fetched, not configured. What they are given as `tokens` lasts and is shared."""

    tokens: TokenCache


@dataclass(slots=True)
class InProcessTokens:
    """The default: for one process, until it ends."""

    _tokens: dict[str, Token] = field(default_factory=dict)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def load(self, key: str) -> Token | None:
        return self._tokens.get(key)

    async def save(self, key: str, token: Token) -> None:
        self._tokens[key] = token

    def owner(self, key: str) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())


Fetch = Callable[[Token | None], Awaitable[Token]]
"""Asks the platform for the next token, given the last one."""


async def current(cache: TokenCache, key: str, now_s: float, fetch: Fetch, *, refused: str = "") -> Secret:
    """A token that is good now and is not `refused`; fetched once, however many ask at a time.

    Raises what `fetch` raises; then each of those who waited tries for itself, one after another.
    """
    token = await cache.load(key)
    if token is not None and _good(token, now_s, refused):
        return token.value
    return await renewed(cache, key, now_s, fetch, refused=refused)


async def renewed(
    cache: TokenCache, key: str, now_s: float, fetch: Fetch, *, refused: str = "", always: bool = False
) -> Secret:
    """The same with a look at what all share; `always`: fetched whatever is there, to prove the credentials.

    Who stops waiting does not stop the fetching: what a platform gives only once must be kept.
    """

    async def renew() -> Secret:
        async with cache.owner(key):
            token = await cache.load(key)
            if token is None or always or not _good(token, now_s, refused):
                token = await fetch(token)
                await cache.save(key, token)
        return token.value

    task = asyncio.ensure_future(renew())
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(task)


def _good(token: Token, now_s: float, refused: str) -> bool:
    return token.renew_at > now_s and token.value.reveal() != refused
