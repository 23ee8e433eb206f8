"""Calls to X's API for one account: signed with OAuth 1.0a, and what X's refusals mean.

Sources: X, OAuth 1.0a, Creating a signature; Response codes and errors; Rate limits, 2026-08.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec
from oauthlib.oauth1 import Client

from adapters._errors import Ambiguous, SendError, hide, platform_error
from adapters._http import Http, HttpAnswer, retry_after
from adapters._x_facts import ERRORS, PHRASES
from config.secret import Secret
from normalizers._fields import text, whole

logging.getLogger("oauthlib").setLevel(logging.INFO)  # below, it writes tokens and signatures out

_WINDOWS = ("x-rate-limit", "x-user-limit-24hour", "x-app-limit-24hour")  # the latter two unverified
_DAY_S = 86_400.0


class Keys(msgspec.Struct, frozen=True):
    """What an account signs with."""

    consumer_key: str
    consumer_secret: Secret
    access_token: Secret
    access_token_secret: Secret


class XApi:
    """Signed calls of one user to `base`."""

    def __init__(self, keys: Keys, base: str, http: Http) -> None:
        self._keys, self.base, self.http = keys, base.rstrip("/"), http

    def authorization(self, method: str, url: str) -> str:
        """The header's value. Neither JSON nor multipart bodies are part of what is signed."""
        keys = self._keys
        client = Client(
            keys.consumer_key,
            client_secret=keys.consumer_secret.reveal(),
            resource_owner_key=keys.access_token.reveal(),
            resource_owner_secret=keys.access_token_secret.reveal(),
        )
        _, headers, _ = client.sign(url, http_method=method)
        return str(headers["Authorization"])

    async def call(
        self, method: str, path: str, query: Mapping[str, str] | None = None, *, json: Any = None, data: Any = None
    ) -> dict[str, Any]:
        """The answer's object, when it is a success. Raises `SendError`."""
        url = f"{self.base}{path}" + (f"?{urlencode(query)}" if query else "")
        signed = self.authorization(method, url)
        answer = await self.http.request(
            method,
            url,
            headers={"Authorization": signed},
            json=None if json is None else msgspec.json.encode(json),
            data=data,
        )
        keys = self._keys
        return success(answer, (signed, keys.consumer_secret, keys.access_token, keys.access_token_secret))

    async def ask(
        self, method: str, path: str, query: Mapping[str, str] | None = None, *, json: Any = None, data: Any = None
    ) -> dict[str, Any]:
        """`call`, where nothing is sent to anybody: whatever became of it, it may be tried again."""
        try:
            return await self.call(method, path, query, json=json, data=data)
        except SendError as error:
            if error.certain:
                raise
            raise SendError("retry", error.code, error.detail, request_id=error.request_id) from None


def success(answer: HttpAnswer, secrets: Iterable[Secret | str] = ()) -> dict[str, Any]:
    """The body of a 2xx answer. Raises `SendError`, from which `secrets` are cut."""
    if not 200 <= answer.status < 300:
        raise refusal(answer, tuple(secrets))
    if not answer.body:
        return {}
    body = answer.json()
    if not isinstance(body, dict):
        raise Ambiguous("unreadable", f"status {answer.status} with a body that is no object")
    return body


def refusal(answer: HttpAnswer, secrets: tuple[Secret | str, ...] = ()) -> SendError:
    """What an answer means that is no success: a problem of v2, or an error list of v1.1."""
    body = answer.json_or_empty()
    first = first_error(body)
    slug = text(body, "type").rstrip("/").rpartition("/")[2]
    words = text(body, "detail") or text(first, "message") or text(first, "detail") or text(body, "message")
    words = words or text(body, "title") or text(body, "error_description")
    request_id = answer.headers.get("x-transaction-id", "")
    if slug == "usage-capped":  # a 429 that no waiting helps against
        return SendError("auth", slug, hide(words, secrets), pause="account", request_id=request_id)
    code = text(first, "code") or text(body, "code") or _spoken(words) or (slug if slug in ERRORS else "")
    return platform_error(
        ERRORS,
        answer.status,
        code or str(answer.status),
        words,
        retry_after_s=wait_s(answer.headers),
        request_id=request_id,
        secrets=secrets,
    )


def first_error(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first of the answer's `errors`; a success may carry some too."""
    listed = body.get("errors")
    return listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], dict) else {}


def _spoken(words: str) -> str:
    """The code that the problem's own words stand for."""
    lower = words.lower()
    return next((code for phrase, code in PHRASES.items() if phrase in lower), "")


def wait_s(headers: Mapping[str, str]) -> float | None:
    """Seconds until the last of the exhausted windows opens again, at most a day; None where X does not tell."""
    resets = [
        reset
        for name in _WINDOWS
        if (reset := whole(headers, f"{name}-reset")) is not None and headers.get(f"{name}-remaining", "0") == "0"
    ]
    if not resets:
        return retry_after(headers)
    return min(max(max(resets) - time.time(), 1.0), _DAY_S)
