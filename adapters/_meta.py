"""What the platforms behind Meta's Graph API share: webhook handshake, signature, answers and error codes.

Sources: Meta, Graph API, Webhooks getting started; Error handling; Secure requests, 2025-11.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from adapters._base import Answer, Callback
from adapters._errors import ErrorRule, HandshakeRefused, MalformedBody, SendError, VerificationError, platform_error
from adapters._http import HttpAnswer, retry_after
from adapters._signing import check_hmac, same
from config.secret import Secret
from normalizers._fields import NotWellFormed, items, load_json, mapping, number, text
from normalizers.model import Received

SIGNATURE = "x-hub-signature-256"
_ADAPTERS = {"page": "facebook", "instagram": "instagram", "whatsapp_business_account": "whatsapp"}
MEDIA_HOSTS = ("lookaside.fbsbx.com",)
"""Where Graph's media addresses lead; they want the same token as the API."""


def answer_handshake(callback: Callback, verify_tokens: Sequence[Secret]) -> Answer:
    """The challenge alone, as plain text, when mode and token fit. Raises `HandshakeRefused`."""
    query = callback.query
    challenge, given = query.get("hub.challenge", ""), query.get("hub.verify_token", "")
    fits = [same(token.reveal(), given) for token in verify_tokens if token]
    if query.get("hub.mode") != "subscribe" or not challenge or not any(fits):
        raise HandshakeRefused("hub.mode or hub.verify_token does not fit")
    return Answer(200, challenge.encode("utf-8", "replace"))


def check_signature(callback: Callback, app_secrets: Sequence[Secret]) -> None:
    """Raise `VerificationError` unless one of the app's secrets signed the bytes as they came.

    The older SHA-1 signature beside it is not looked at. Meta escapes all that is not ASCII in its JSON, so a body that
    was parsed and written again hashes differently.
    """
    if len(callback.headers.get(SIGNATURE, ())) > 1:
        raise VerificationError("the signature is doubled")
    check_hmac(app_secrets, callback.body, callback.header(SIGNATURE), prefix="sha256=")


def meant_for(received: Received) -> str:
    """The adapter for what a webhook is about: an app may have one address for all. "" for what we do not know."""
    try:
        body = load_json(received.body)
    except NotWellFormed:
        return ""
    return _ADAPTERS.get(text(body, "object"), "") if isinstance(body, dict) else ""


def check_json(callback: Callback) -> None:
    """Raise `MalformedBody` unless the body is JSON."""
    try:
        load_json(callback.body)
    except NotWellFormed as error:
        raise MalformedBody(str(error)) from None


def read_answer(answer: HttpAnswer, errors: Mapping[str, ErrorRule], secrets: Iterable[Secret] = ()) -> dict[str, Any]:
    """The answer's object when it is a success. Raises `SendError`, by code and not by title as Meta asks.

    A code is refined by its subcode ("10/2018278") where `errors` knows the pair, or the subcode with whatever code
    ("*/2534068"). `secrets` are cut from what is shown: Graph quotes a token it cannot parse.
    """
    if answer.status < 300:
        body = answer.json()
        if not isinstance(body, dict):
            return {}
        if "error" not in body:
            return body
    else:
        body = answer.json_or_empty()
    error = mapping(body, "error")
    code, subcode = text(error, "code"), text(error, "error_subcode")
    if subcode and (rule := errors.get(f"{code}/{subcode}") or errors.get(f"*/{subcode}")):  # says more than its code
        code = f"{code}/{subcode}"
        errors = {code: rule}
    words = text(mapping(error, "error_data"), "details") or text(error, "message") or text(error, "error_user_msg")
    raise platform_error(
        errors,
        answer.status,
        code,
        words,
        retry_after_s=retry_after(answer.headers) or regain_after(answer.headers),
        request_id=text(error, "fbtrace_id") or answer.headers.get("x-fb-trace-id", ""),
        secrets=secrets,
    )


def regain_after(headers: Mapping[str, str]) -> float | None:
    """Seconds until access is regained, as `X-Business-Use-Case-Usage` tells (in minutes) for any of its businesses."""
    try:
        usage = load_json(headers.get("x-business-use-case-usage", "").encode("utf-8", "replace"))
    except NotWellFormed:
        return None
    told = [entry for name in usage for _, entry in items(usage, name)] if isinstance(usage, dict) else []
    longest = max((number(entry, "estimated_time_to_regain_access") or 0.0 for entry in told), default=0.0)
    return min(longest * 60, 86_400.0) if longest > 0 else None


def before_sending(error: SendError) -> SendError:
    """The same error for a call made ahead of the message itself: whatever became of it, no message left."""
    if error.certain:
        return error
    return SendError("retry", error.code, error.detail, request_id=error.request_id)


_MINUTE = timedelta(minutes=1)  # Graph gives no time to wait; its rate windows roll

GRAPH_ERRORS: Mapping[str, ErrorRule] = {
    "0": ErrorRule("auth", "the app user could not be authenticated", pause="account"),
    "1": ErrorRule("retry", "unknown fault of the API"),
    "2": ErrorRule("retry", "temporary fault of the API"),
    "3": ErrorRule("auth", "the app lacks the capability"),
    "4": ErrorRule("throttle", "call rate of the app", resend_safe=True, pause="endpoint", wait=_MINUTE),
    "10": ErrorRule("auth", "permission missing"),
    "33": ErrorRule("permanent", "the object is gone or not ours"),  # meaning unverified
    "100": ErrorRule("permanent", "invalid parameter"),
    "190": ErrorRule("auth", "the access token has expired or was revoked", pause="account"),
    **{str(code): ErrorRule("auth", "permission missing") for code in range(200, 300)},
    "368": ErrorRule("policy", "blocked for a policy violation, for a time"),
}
"""Codes every Graph API knows. A dead token pauses the account; a missing permission fails only the message."""
