"""One access token for all who call a platform: kept in a cache, refreshed by one owner at a time.

A process has its own cache by default. One that several processes share (rows of the store, Redis) keeps `TokenCache`
and takes the place of `TokenHolder.tokens` before the first call; a token may be 512 characters and more, and is to be
kept encrypted.
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
    """`renew_at`: Unix seconds from which a new one should be fetched; the platform still takes this one then."""

    value: Secret
    renew_at: float


class TokenCache(Protocol):
    """Where tokens are kept, by a key that names platform and application."""

    async def load(self, key: str) -> Token | None:
        """The newest token, or None."""
        ...

    async def save(self, key: str, token: Token) -> None:
        """Replace the token."""
        ...

    def owner(self, key: str) -> AbstractAsyncContextManager[object]:
        """Held while a token is fetched: by one at a time, over all who share the cache."""
        ...


@runtime_checkable
class TokenHolder(Protocol):
    """Adapters whose access token is shared."""

    tokens: TokenCache


@dataclass(slots=True)
class InProcessTokens:
    """The default: for one process."""

    _tokens: dict[str, Token] = field(default_factory=dict)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def load(self, key: str) -> Token | None:
        return self._tokens.get(key)

    async def save(self, key: str, token: Token) -> None:
        self._tokens[key] = token

    def owner(self, key: str) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())


async def current(
    cache: TokenCache, key: str, now_s: float, fetch: Callable[[], Awaitable[Token]], *, refused: str = ""
) -> Secret:
    """A token that is good now and is not `refused`; fetched once, however many ask at a time.

    Raises what `fetch` raises; then each of those who waited tries for itself, one after another.
    """

    def good(token: Token | None) -> Token | None:
        return token if token is not None and token.renew_at > now_s and token.value.reveal() != refused else None

    if (token := good(await cache.load(key))) is not None:
        return token.value
    async with cache.owner(key):
        if (token := good(await cache.load(key))) is None:
            token = await fetch()
            await cache.save(key, token)
    return token.value
