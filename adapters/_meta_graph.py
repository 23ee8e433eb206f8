"""Calls of Meta's Graph API for one account: its token, its proof, its answers.

Sources: Meta, Graph API, Secure requests; Error handling, 2025-11; Messenger Platform, Attachment upload, 2026-05.
"""

from __future__ import annotations

import functools
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from adapters import _meta
from adapters._errors import ErrorRule, SendError
from adapters._http import Http
from config.secret import Secret
from normalizers._fields import text
from normalizers.model import OutboundFile

_encode = msgspec.json.encode
_quoted = functools.lru_cache(maxsize=256)(quote)  # of nearly all sends the same


def proof_of(token: Secret, app_secret: Secret) -> str:
    """`appsecret_proof`: shows that the caller knows the app's secret beside the token."""
    return hmac.digest(app_secret.reveal().encode(), token.reveal().encode(), "sha256").hex()


class Graph:
    """The Graph API as one account may use it. Every call is one try and raises `SendError`.

    `token` tells the one to use now; without it the first of `tokens` is. `prove` sends `appsecret_proof` with each
    call, which an app may demand; by the first secret, the newest.
    """

    def __init__(
        self, http: Http, api_base: str, tokens: Sequence[Secret], app_secrets: Sequence[Secret], *, prove: bool,
        token: Callable[[], Awaitable[Secret]] | None = None,
    ) -> None:  # fmt: skip
        self._http, self._base, self._tokens, self._token = http, api_base.rstrip("/"), tuple(tokens), token
        self._prover = app_secrets[0] if prove else None

    async def get(self, path: str, errors: Mapping[str, ErrorRule], **query: str) -> dict[str, Any]:
        """The answer's object."""
        return await self._call("GET", path, errors, query)

    async def post(self, path: str, body: Mapping[str, Any], errors: Mapping[str, ErrorRule]) -> dict[str, Any]:
        """The answer's object."""
        return await self._call("POST", path, errors, json=_encode(body))

    async def delete(self, path: str, errors: Mapping[str, ErrorRule]) -> dict[str, Any]:
        """The answer's object. The client library may ask a second time after a disconnect: then it is gone already."""
        return await self._call("DELETE", path, errors)

    async def _call(
        self, method: str, path: str, errors: Mapping[str, ErrorRule], query: Mapping[str, str] | None = None, *,
        json: bytes | None = None, data: aiohttp.FormData | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        token = await self._token() if self._token is not None else self._tokens[0]
        proof: Secret | None = None
        if self._prover is not None:
            proof = Secret(proof_of(token, self._prover))
            query = {**(query or {}), "appsecret_proof": proof.reveal()}
        url = f"{self._base}/{_quoted(path)}" + (f"?{urlencode(query, safe=',{}')}" if query else "")
        answer = await self._http.request(method, url, bearer=token.reveal(), json=json, data=data)
        return _meta.read_answer(answer, errors, filter(None, (*self._tokens, token, proof)))

    async def upload(
        self, path: str, file: OutboundFile, field: str, fields: Mapping[str, str], errors: Mapping[str, ErrorRule],
        wanted: str,
    ) -> str:  # fmt: skip
        """The id (`wanted` in the answer) of a file on disk, posted as `field`. When it fails, no message has left."""
        try:
            content = open(file.open_path, "rb")  # noqa: SIM115, ASYNC230 - the client reads it in a thread and closes it
        except OSError as error:
            raise SendError("permanent", "file-gone", f"{file.filename}: {error.strerror}") from None
        with content:
            form = aiohttp.FormData()
            for name, value in fields.items():
                form.add_field(name, value)
            form.add_field(field, content, filename=file.filename or file.kind, content_type=file.media_type)
            try:
                found = text(await self._call("POST", path, errors, data=form), wanted)
            except SendError as error:
                raise _meta.before_sending(error) from None
        if not found:
            raise SendError("retry", "no-file-id", "the upload brought no id")
        return found
