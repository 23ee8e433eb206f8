"""LINE's channel access tokens: one that is configured, or one that is fetched and kept until it must be renewed.

Source: LINE, Channel access token; Issue channel access token v2.1; Issue stateless channel access token, 2026-07.
"""

from __future__ import annotations

import json
import time
from typing import Any, Final, Literal

import jwt
from jwt.algorithms import RSAAlgorithm

from adapters._errors import Ambiguous, SendError, hide, platform_error
from adapters._http import Http, retry_after
from adapters._line_facts import ERRORS
from adapters._tokens import Token, TokenCache, current
from config.secret import Secret
from normalizers._fields import text, whole

Kind = Literal["long-lived", "short-lived", "v2.1", "stateless"]
"""How the account comes by its token, in LINE's own words. All but the first are fetched."""

_PATHS: Final = {"short-lived": "/v2/oauth/accessToken", "v2.1": "/oauth2/v2.1/token", "stateless": "/oauth2/v3/token"}
_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_AUDIENCE: Final = "https://api.line.me/"  # of an assertion, whatever host it is sent to
_ASSERTION_S: Final = 30 * 60  # its longest life
_LIFE_S: Final = 30 * 24 * 3600  # of a v2.1 token: the longest
_STATELESS_S: Final = 900


def assertion_key(given: Secret) -> Any:
    """The private key of the "assertion signing key" pair: a JWK, as the console makes it, or PEM. Raises `ValueError`
    without showing any of it."""
    text_ = given.reveal().strip()
    try:
        return RSAAlgorithm.from_jwk(text_) if text_.startswith("{") else RSAAlgorithm(RSAAlgorithm.SHA256).prepare_key(
            text_
        )  # fmt: skip
    except Exception:
        raise ValueError("neither a private RSA key as JWK nor one in PEM") from None


def key_id(given: Secret, kid: str) -> str:
    """The id LINE gave the key: beside it, or within the JWK."""
    text_ = given.reveal().strip()
    return kid or (str(json.loads(text_).get("kid", "")) if text_.startswith("{") else "")


class AccessTokens:
    """The access token of one channel. `configured`: as the operator gave it; else the kind says how one is fetched."""

    def __init__(
        self,
        kind: Kind,
        channel_id: str,
        channel_secret: Secret,
        assertion: tuple[Any, str] | None,
        base: str,
        http: Http,
        cache: TokenCache,
        *,
        configured: Secret | None = None,
    ) -> None:
        self._kind, self._id, self._secret, self._assertion = kind, channel_id, channel_secret, assertion
        self._configured, self._base, self._http, self.cache = configured, base.rstrip("/"), http, cache
        self._key = f"line:{self._base}:{channel_id}:{kind}"

    @property
    def renewable(self) -> bool:
        """Whether a token that LINE refuses can be replaced without a person."""
        return self._configured is None

    async def current(self, refused: str = "") -> str:
        """A valid token, another than the one LINE has `refused`. Raises `SendError`; nothing was sent then."""
        if self._configured is not None:
            return self._configured.reveal()
        return (await current(self.cache, self._key, time.time(), self._fetch, refused=refused)).reveal()

    async def _fetch(self, last: Token | None) -> Token:
        asked_at = time.time()
        try:
            form = self._form(asked_at)
            answer = await self._http.request("POST", f"{self._base}{_PATHS[self._kind]}", form=form)
        except Ambiguous as error:
            raise SendError("retry", error.code, error.detail) from None
        body = answer.json_or_empty()
        said: list[Secret | str | None] = [self._secret, dict(form).get("client_assertion")]
        if answer.status >= 500:
            raise SendError("retry", str(answer.status), "no access token")
        if answer.status in (400, 401, 403):  # LINE's words for a wrong id, secret, key or assertion
            words = text(body, "error_description") or text(body, "error") or f"status {answer.status}"
            raise SendError("auth", "token-refused", hide(words, said), pause="account")
        if answer.status >= 300:
            raise platform_error(
                ERRORS, answer.status, str(answer.status), text(body, "message"),
                retry_after_s=retry_after(answer.headers), secrets=said,
            )  # fmt: skip
        if not (value := text(body, "access_token")):
            raise SendError("retry", "no-token", "an answer without an access token")
        life_s = whole(body, "expires_in") or _STATELESS_S
        return Token(Secret(value), asked_at + life_s - max(60, life_s // 30))

    def _form(self, now_s: float) -> tuple[tuple[str, str], ...]:
        grant = ("grant_type", "client_credentials")
        if self._kind != "v2.1":
            return grant, ("client_id", self._id), ("client_secret", self._secret.reveal())
        assert self._assertion is not None
        key, kid = self._assertion
        claims = {"iss": self._id, "sub": self._id, "aud": _AUDIENCE, "exp": int(now_s) + _ASSERTION_S,
                  "token_exp": _LIFE_S}  # fmt: skip
        signed = jwt.encode(claims, key, "RS256", headers={"kid": kid})
        return grant, ("client_assertion_type", _ASSERTION_TYPE), ("client_assertion", signed)
