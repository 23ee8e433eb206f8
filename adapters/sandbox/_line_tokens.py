"""Where the LINE sandbox issues channel access tokens, in each of the platform's three ways.

Source: LINE, Channel access token; Issue channel access token v2.1; Issue stateless channel access token, 2026-07.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import jwt
from aiohttp import web

MONTH_S, STATELESS_S, ASSERTION_S = 30 * 24 * 3600, 900, 1800


class TokenDesk:
    """The tokens of one channel. `keys`: the public keys of its assertion signing keys, by their ids."""

    def __init__(self, channel_id: str, channel_secret: Callable[[], str], now: Callable[[], float]) -> None:
        self.channel_id, self._secret, self._now = channel_id, channel_secret, now
        self.keys: dict[str, Any] = {}
        self.calls = 0
        self._ends: dict[str, float] = {}

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """The calls that issue a token."""
        return (
            web.post("/v2/oauth/accessToken", self._issue(self._known, MONTH_S)),
            web.post("/oauth2/v2.1/token", self._issue(self._asserted, MONTH_S)),
            web.post("/oauth2/v3/token", self._issue(self._known, STATELESS_S)),
        )

    def valid(self, token: str) -> bool:
        """Whether the token was issued here and has not ended."""
        return self._ends.get(token, 0.0) > self._now()

    def revoke(self) -> None:
        """Whatever was issued is worth nothing any more."""
        self._ends.clear()

    def _issue(
        self, proves: Callable[[Mapping[str, Any]], bool], life_s: int
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def issue(request: web.Request) -> web.Response:
            self.calls += 1
            form = await request.post()
            if form.get("grant_type") != "client_credentials" or not proves(form):
                problem = {"error": "invalid_client", "error_description": "invalid client credentials"}
                return web.json_response(problem, status=400)
            token = f"issued-{secrets.token_hex(16)}"
            self._ends[token] = self._now() + life_s
            return web.json_response({"access_token": token, "expires_in": life_s, "token_type": "Bearer"})

        return issue

    def _known(self, form: Mapping[str, Any]) -> bool:
        return (form.get("client_id"), form.get("client_secret")) == (self.channel_id, self._secret())

    def _asserted(self, form: Mapping[str, Any]) -> bool:
        signed = str(form.get("client_assertion", ""))
        try:
            key = self.keys[jwt.get_unverified_header(signed)["kid"]]
            claims = jwt.decode(
                signed, key, ["RS256"], audience="https://api.line.me/", issuer=self.channel_id,
                options={"require": ["iss", "sub", "aud", "exp", "token_exp"]},
            )  # fmt: skip
        except (jwt.PyJWTError, KeyError):
            return False
        return bool(claims["sub"] == self.channel_id and claims["exp"] - self._now() <= ASSERTION_S)
