"""What all channels through Twilio share: the signature of webhooks, the Messages API, and media.

Sources: Twilio, "Webhooks security", "Message resource", "Media resource", 2026-09; the official library's
`RequestValidator`, 9.13.0, read and run. What Twilio's statuses mean stands in `normalizers._twilio`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from aiohttp import encode_basic_auth
from multidict import MultiDict
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]
from yarl import URL

from adapters._base import Answer, Callback, Sent
from adapters._errors import Ambiguous, MalformedBody, MediaError, SendError, VerificationError, platform_error
from adapters._http import Http, HttpAnswer, retry_after
from adapters._signing import same
from adapters._twilio_errors import ERRORS
from adapters._twilio_find import Attempts
from config.secret import Secret
from normalizers._fields import NotWellFormed, load_form, load_json
from normalizers._twilio import STATUS, is_json

__all__ = [
    "API_BASE", "ERRORS", "NO_REPLY", "SIGNATURE_HEADER", "Form", "TwilioApi", "check_signature", "check_well_formed",
]  # fmt: skip

Form = Sequence[tuple[str, str]]

API_BASE: Final = "https://api.twilio.com"
SIGNATURE_HEADER: Final = "x-twilio-signature"
NO_REPLY: Final = Answer(200, b'<?xml version="1.0" encoding="UTF-8"?><Response/>', "text/xml")
"""The empty TwiML: any text in an answer would be sent to the customer, and billed."""

_SHARED_KEY_HEADER = "x-twilio-webhooks-signature-settings"
_FIELDS_MAX = 1000
_LISTED = 100  # newest messages to one person that are looked through
_PLATFORM_HOST = re.compile(r"api(\.[a-z0-9-]+){0,2}\.twilio\.com")  # with edge and region


def check_signature(tokens: Sequence[Secret], callback: Callback) -> None:
    """Raise `VerificationError` unless one of the auth tokens signed the address called and the body.

    A form is signed field by field, decoded, blanks and repeated names included. Any other body is covered by its hash
    in the query (`bodySHA256`), which the signature covers in turn. Webhooks signed with a shared key are refused: the
    account has none.
    """
    given = callback.headers.get(SIGNATURE_HEADER, ())
    if len(given) != 1 or not given[0]:
        raise VerificationError("the signature is missing" if not any(given) else "more than one signature")
    if not given[0].isascii():
        raise VerificationError("the signature is malformed")
    if _SHARED_KEY_HEADER in callback.headers:
        raise VerificationError("signed with a shared key, which is not known")
    fields = _signed_fields(callback)
    try:
        fits = any(RequestValidator(token.reveal()).validate(callback.url, fields, given[0]) for token in tokens)
    except ValueError:  # an address the library cannot take apart, text it cannot encode
        raise VerificationError("the address cannot be signed") from None
    if not fits:
        raise VerificationError("the signature does not fit")


def _signed_fields(callback: Callback) -> MultiDict[str]:
    """The form's fields as Twilio signed them; none for a body that its hash covers. Raises `VerificationError`.

    The library takes `None`, an empty mapping or a hash that is missing for "no body": so the hash is compared here,
    over the raw bytes, whatever the content type says, and a body that is neither hashed nor a form is refused.
    """
    declared = callback.header("content-type").lower()
    hashed = callback.query.get("bodySHA256")
    if hashed is not None and not same(hashlib.sha256(callback.body).hexdigest(), hashed.lower()):
        raise VerificationError("the body's hash does not fit")
    if "json" in declared or (hashed is not None and "form" not in declared):
        if hashed is None and callback.body:
            raise VerificationError("the body's hash is missing")
        return MultiDict()
    try:
        pairs = parse_qsl(callback.body.decode("utf-8"), keep_blank_values=True, max_num_fields=_FIELDS_MAX)
    except ValueError:
        raise VerificationError("the body is no form that could be signed") from None
    return MultiDict(pairs)


def check_well_formed(callback: Callback) -> None:
    """Raise `MalformedBody` when the body is not the JSON or the form it says it is."""
    load = load_json if is_json(callback.header("content-type"), callback.body) else load_form
    try:
        load(callback.body)
    except NotWellFormed as error:
        raise MalformedBody(str(error)) from None


class TwilioApi:
    """The calls of one account."""

    def __init__(self, account_sid: str, auth_token: Sequence[Secret], api_base: str, http: Http) -> None:
        self._sid, self._tokens, self._http = account_sid, tuple(auth_token), http
        self._media_path = re.compile(
            rf"/2010-04-01/Accounts/{re.escape(account_sid)}/Messages/[A-Za-z0-9]+/Media/[A-Za-z0-9]+"
        )
        self._attempts = Attempts()
        self._root = f"{api_base.rstrip('/')}/2010-04-01/Accounts/{account_sid}"

    async def send(self, form: Form, ours: str) -> Sent:
        """Create a message, once. Raises `SendError`.

        There is no idempotency key: an answer that is lost leaves the truth to the status callback, and to `find`.
        """
        self._attempts.begin(ours)
        answer = await self._http.request("POST", f"{self._root}/Messages.json", form=form, basic=self._basic())
        body = self._success(answer)
        sid, request_id = body.get("sid"), _request_id(answer)
        if not isinstance(sid, str) or not sid:
            raise Ambiguous("no-sid", f"status {answer.status} without a message id", request_id=request_id)
        self._attempts.took(ours, sid)
        code = str(body.get("error_code") or "")
        if STATUS.get(str(body.get("status"))) == "failed":  # the first status is never reported by a callback
            words = str(body.get("error_message") or "")
            raise platform_error(
                ERRORS, 400, code or str(body["status"]), words, request_id=request_id, secrets=self._secrets()
            )
        return Sent(external_id=sid, request_id=request_id, note=code)

    async def find(self, form: Form, ours: str) -> Sent | None:
        """The message a send whose answer was lost became; None: surely none. Raises `SendError`, also when unsure."""
        query = urlencode({"To": dict(form)["To"], "PageSize": _LISTED})
        answer = await self._http.request("GET", f"{self._root}/Messages.json?{query}", basic=self._basic())
        self._success(answer)
        return self._attempts.find(ours, form, answer)

    async def probe(self) -> None:
        """Read the account itself. Raises `SendError` when the credentials are wrong or the account is not active."""
        body = self._success(await self._http.request("GET", f"{self._root}.json", basic=self._basic()))
        status = body.get("status", "active")
        if status != "active":
            raise SendError("auth", "account-not-active", f"the account is {status}", pause="account")

    def media(self, url: str, missing_delays_s: Sequence[float]) -> AsyncIterator[bytes]:
        """A file of an inbound message. Raises `MediaError`.

        The address redirects to a storage host, and answers 404 for a moment after the webhook. The credentials go
        only to the account's own media on Twilio's API, or on the host configured for it.
        """
        try:
            target = URL(url, encoded=True)
        except ValueError:
            raise MediaError("blocked: not an address", retryable=False) from None
        if not self._media_path.fullmatch(target.raw_path):
            return self._http.download(url, missing_delays_s=missing_delays_s)
        host = target.host or ""
        return self._http.download(
            url,
            basic=self._basic(),
            media_hosts=(host,) if _PLATFORM_HOST.fullmatch(host) else (),
            missing_delays_s=missing_delays_s,
        )

    def _basic(self) -> tuple[str, str]:
        return self._sid, self._tokens[0].reveal()

    def _secrets(self) -> tuple[Secret | str, ...]:
        """What Twilio may quote of our requests: the tokens, and how the first travels."""
        return *self._tokens, encode_basic_auth(*self._basic()).removeprefix("Basic ")

    def _success(self, answer: HttpAnswer) -> dict[str, Any]:
        """The body of a 2xx answer. Raises `SendError`."""
        if 200 <= answer.status < 300:
            body = answer.json()
            if isinstance(body, dict):
                return body
            raise Ambiguous("unreadable", f"status {answer.status} with a body that is no object")
        body = answer.json_or_empty()
        raise platform_error(
            ERRORS,
            answer.status,
            str(body.get("code") or ""),
            str(body.get("message") or ""),
            retry_after_s=retry_after(answer.headers),
            request_id=_request_id(answer),
            secrets=self._secrets(),
        )


def _request_id(answer: HttpAnswer) -> str:
    return answer.headers.get("twilio-request-id", "")
