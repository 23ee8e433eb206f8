"""Access tokens for mailboxes of Google and Microsoft, which take no passwords any more.

Sources: RFC 6749 (4.4 client credentials, 6 refresh); Google "OAuth 2.0 Mechanism" for IMAP; Microsoft "Authenticate an
IMAP, POP or SMTP connection using OAuth". Google gives no new refresh token on renewal, Microsoft does.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

from adapters._errors import SendError
from adapters._http import Http
from adapters._tokens import Token, TokenCache, current
from config.secret import Secret
from normalizers._fields import text, whole

_EARLY_S = 300  # a token is renewed this long before it ends
_LIFE_S = 3600


@dataclass(frozen=True, slots=True)
class OAuth2:
    """A client of the provider. Without `refresh_token` the application speaks for itself (client credentials)."""

    token_url: str
    client_id: str
    client_secret: Secret | None = None
    refresh_token: Secret | None = None
    scope: str = ""

    def __post_init__(self) -> None:
        if not self.token_url.startswith(("https://", "http://")):
            raise ValueError("token_url: not an https address")
        if not self.client_id:
            raise ValueError("client_id: is empty")
        if self.client_secret is None and self.refresh_token is None:
            raise ValueError("refresh_token: give a refresh token, a client secret, or both")


class MailTokens:
    """The access token of one mailbox, renewed by one at a time. A successor of the refresh token is kept with it."""

    def __init__(self, account: str, settings: OAuth2, http: Http, cache: TokenCache) -> None:
        first = settings.refresh_token or settings.client_secret
        seal = hashlib.sha256(first.reveal().encode() if first is not None else b"").hexdigest()[:16]
        self._settings, self._http, self.cache = settings, http, cache
        self._key = f"mail:{account}:{seal}"

    async def current(self) -> str:
        """A valid access token. Raises `SendError`; class `auth` means that a person has to consent again."""
        token = await current(self.cache, self._key, time.time(), self._renew)
        return token.reveal()

    async def _renew(self, last: Token | None) -> Token:
        settings, refresh = self._settings, Secret("")
        form = [("client_id", settings.client_id)]
        if settings.client_secret is not None:
            form.append(("client_secret", settings.client_secret.reveal()))
        if settings.scope:
            form.append(("scope", settings.scope))
        if settings.refresh_token is None:
            form.append(("grant_type", "client_credentials"))
        else:
            refresh = last.refresh if last is not None and last.refresh else settings.refresh_token
            form += [("grant_type", "refresh_token"), ("refresh_token", refresh.reveal())]
        answer = await self._http.request("POST", settings.token_url, form=tuple(form))
        body = answer.json_or_empty()
        if answer.status in (400, 401, 403):
            raise SendError("auth", text(body, "error") or "oauth2", f"the provider gives no token: {answer.status}")
        if answer.status != 200 or not (access := text(body, "access_token")):
            raise SendError("retry", "oauth2", f"the provider gives no token now: {answer.status}")
        renew_at = time.time() + max((whole(body, "expires_in") or _LIFE_S) - _EARLY_S, 1)
        successor = text(body, "refresh_token")
        return Token(Secret(access), renew_at, Secret(successor) if successor else refresh)
