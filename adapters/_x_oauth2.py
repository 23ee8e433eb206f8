"""X's second kind of credential: access tokens that live two hours, made from a refresh token that changes with use.

Only files of direct messages ask for it. Source: X, OAuth 2.0 Authorization Code Flow with PKCE, 2026-08.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

from adapters._errors import SendError, hide
from adapters._http import Http
from adapters._tokens import Token, TokenCache, current
from adapters._x_api import success
from config.secret import Secret
from normalizers._fields import text, whole

_EARLY_S = 60  # a token is renewed this long before it ends
_LIFE_S = 7200


@dataclass(frozen=True, slots=True)
class OAuth2:
    """An OAuth 2.0 client of the app with `offline.access`, and the first refresh token of the account's user."""

    client_id: str
    client_secret: Secret
    refresh_token: Secret

    def __post_init__(self) -> None:
        if not self.client_id:
            raise ValueError("client_id: is empty")


class AccessTokens:
    """The access token of one account, renewed by one at a time.

    A refresh token works once (widely observed, not documented): its successor is kept in one step with the access
    token, before anything else happens. What is kept goes by the configured refresh token: a new one in the
    configuration starts afresh.
    """

    def __init__(self, account: str, settings: OAuth2, base: str, http: Http, cache: TokenCache) -> None:
        self._settings, self._url, self._http = settings, f"{base.rstrip('/')}/2/oauth2/token", http
        seal = hashlib.sha256(settings.refresh_token.reveal().encode()).hexdigest()[:16]
        self._key = f"x:{account}:{seal}"
        self.cache = cache

    async def current(self, refused: str = "") -> str:
        """A valid access token, another than the one X has `refused`. Raises `SendError`."""
        token = await current(self.cache, self._key, time.time(), self._renew, refused=refused)
        return token.reveal()

    async def _renew(self, last: Token | None) -> Token:
        refresh = last.refresh if last is not None and last.refresh else self._settings.refresh_token
        client = self._settings.client_id
        form = (("grant_type", "refresh_token"), ("refresh_token", refresh.reveal()), ("client_id", client))
        secret = self._settings.client_secret
        answer = await self._http.request("POST", self._url, form=form, basic=(client, secret.reveal()))
        if answer.status in (400, 401):
            problem = text(answer.json_or_empty(), "error_description") or f"status {answer.status}"
            raise SendError("auth", "oauth2-refresh", hide(problem, (refresh, secret)))
        body = success(answer, (refresh, secret))
        if not (access := text(body, "access_token")):
            raise SendError("retry", "oauth2-refresh", "an answer without a token")
        successor = text(body, "refresh_token")
        renew_at = time.time() + (whole(body, "expires_in") or _LIFE_S) - _EARLY_S
        return Token(Secret(access), renew_at, Secret(successor) if successor else refresh)
