"""The token of an account by Instagram Login: it lives 60 days, and must be renewed while it lives.

Source: Meta, Instagram Platform, Business Login: Refresh a long-lived token, 2025-11. A token must be a day old before
it can be renewed (unverified), and how old the configured one is nobody tells: so the first renewal comes a day after
we first see it. A new one in the configuration starts afresh.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from yarl import URL

from adapters._errors import SendError
from adapters._http import Http
from adapters._meta import read_answer
from adapters._meta_facts import MESSAGING_ERRORS
from adapters._tokens import InProcessTokens, Token, TokenCache
from config.secret import Secret
from normalizers._fields import text

log = logging.getLogger(__name__)

YOUNG: Final = timedelta(days=1).total_seconds()
EVERY: Final = timedelta(days=7).total_seconds()  # of 60: many failures in a row do no harm
AGAIN: Final = timedelta(hours=6).total_seconds()  # after a renewal that failed


class LongLivedToken:
    """The newest token there is, renewed by one at a time. `cache` may be one that lasts and is shared."""

    def __init__(
        self, account: str, configured: Secret, api_base: str, http: Http, *, now: Callable[[], float] = time.time
    ) -> None:
        self._account, self._configured, self._http, self._now = account, configured, http, now
        self._base = api_base
        seal = hashlib.sha256(configured.reveal().encode()).hexdigest()[:16]
        self._key = f"instagram:{account}:{seal}"
        self.cache: TokenCache = InProcessTokens()

    async def current(self) -> Secret:
        """A token that works, as far as we know. A renewal that fails is only logged: the old one lives on."""
        token = await self.cache.load(self._key)
        if token is not None and token.renew_at > self._now():
            return token.value
        async with self.cache.owner(self._key):
            token = await self.cache.load(self._key)
            if token is None:
                token = Token(self._configured, self._now() + YOUNG)
            elif token.renew_at > self._now():
                return token.value
            else:
                token = await self._renewed(token)
            await self.cache.save(self._key, token)
        return token.value

    async def _renewed(self, old: Token) -> Token:
        url = URL(self._base).with_path("/refresh_access_token")  # it has no version
        query = {"grant_type": "ig_refresh_token", "access_token": old.value.reveal()}
        try:
            answer = await self._http.request("GET", str(url.with_query(query)))
            value = text(read_answer(answer, MESSAGING_ERRORS, (old.value,)), "access_token")
        except SendError as error:
            log.warning("instagram.token_not_renewed", extra={"account": self._account, "error": error.code})
            value = ""
        if not value:
            return Token(old.value, self._now() + AGAIN)
        return Token(Secret(value), self._now() + EVERY)
