"""What Twilio's webhooks have in common, whichever channel they carry.

Sources: Twilio, "Twilio's request to your incoming message Webhook URL", "Outbound Message Status in Status Callbacks"
and "Webhooks security", 2026-09.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

from normalizers._fields import Broken, clean, digest, load_json, mapping, plain, text
from normalizers.model import (
    Address,
    Attachment,
    ConsentChange,
    DeliveryUpdate,
    Event,
    Ignored,
    InboundMessage,
    MediaKind,
    PlatformError,
    Received,
    Unreadable,
)

Fields = Mapping[str, str]
Status = Literal["queued", "sent", "delivered", "read", "failed"]

STATUS: Final[Mapping[str, Status]] = {
    "accepted": "queued",
    "scheduled": "queued",
    "queued": "queued",
    "sending": "queued",
    "sent": "sent",
    "partially_delivered": "sent",  # (assumed: some recipients or parts only, so not yet delivered)
    "delivered": "delivered",
    "read": "read",
    "undelivered": "failed",  # the carrier refused
    "failed": "failed",  # never left Twilio
    "canceled": "failed",
}
INBOUND: Final = frozenset({"", "received", "receiving"})  # `SmsStatus` of a message to us
MEDIA_MAX: Final = 100  # more than the ten an MMS can hold
_MEDIA_KIND: Final[Mapping[str, MediaKind]] = {"image": "image", "audio": "audio", "video": "video"}
_CONSENT: Final[Mapping[str, Literal["opted_out", "opted_in"]]] = {"STOP": "opted_out", "START": "opted_in"}
PREFIX: Final = re.compile(r"([a-z][a-z_]*):")  # whatsapp:+1..., rcs:...: which channel an address is of


def is_json(content_type: str, body: bytes) -> bool:
    """Whether a delivery says or shows that it is JSON; all else Twilio sends is a form."""
    return "json" in content_type.lower() if content_type else body[:1] in (b"{", b"[")


def json_events(received: Received) -> tuple[Event, ...]:
    """One `Ignored` for each event of a JSON delivery (event streams): none of them is used here.

    Raises `NotWellFormed`.
    """
    value = load_json(received.body)
    entries = value if isinstance(value, list) and value else [value]
    found: list[Event] = []
    for index, entry in enumerate(entries):
        item = entry if isinstance(entry, dict) else {}
        kind = text(item, "type") or type(entry).__name__
        sid = text(mapping(item, "data"), "messageSid")
        found.append(
            Ignored(
                id=text(item, "id") or digest(plain(entry)),
                at=received.received_at,
                path=f"$[{index}]" if entries is value else "$",
                reason=f"event {kind!r}" + (f" of {sid}" if sid else ""),
            )
        )
    return tuple(found)


def status_of(fields: Fields) -> str:
    """The word that tells how far a message of ours came; "" when the delivery is no status callback."""
    word = fields.get("MessageStatus") or fields.get("SmsStatus", "")
    return "" if word in INBOUND else word


def is_message(fields: Fields) -> bool:
    """Whether a delivery that is no status callback tells of a message to us at all."""
    return "Body" in fields or "MessageSid" in fields or "SmsSid" in fields or "SmsMessageSid" in fields


def no_message(fields: Fields, received: Received) -> Event:
    """What Twilio posts of calls and the like."""
    kind = fields.get("EventType") or fields.get("CallStatus") or next(iter(fields), "")
    return Ignored(id=digest(received.body), at=received.received_at, path="$", reason=f"event {kind!r}")


def is_whatsapp(fields: Fields) -> bool:
    """Whether a delivery is about a message on WhatsApp. A messaging service posts those of all channels to one
    address, whichever account of ours stands there."""
    return fields.get("To" if status_of(fields) else "From", "").startswith("whatsapp:")


def routing_key(fields: Fields, ours: str, received: Received, channel: str = "") -> str:
    """`{AccountSid}:{service}` for a message through a messaging service, else `{AccountSid}:{our number}`; the sender
    with a prefix on WhatsApp ("whatsapp").

    An account set up by its number keeps what comes to that number though the number is part of a service; one set up
    by its service keeps what a number posts to it directly. What came to an account of another channel is for the
    number's account, else for the service's.
    """
    options = received.account.options
    if received.account.adapter != (channel or "sms"):
        sid = fields.get("AccountSid") or options.get("account_sid", "")
        senders = (ours, fields.get("MessagingServiceSid", ""))
        return " ".join(f"{sid}:{_prefixed(channel, sender)}" for sender in senders if sender)
    service, own_service = fields.get("MessagingServiceSid", ""), options.get("messaging_service_sid", "")
    own_number = options.get("number", "")
    account = fields.get("AccountSid") or options.get("account_sid", "")
    if not account or (own_service and not own_number and not service):
        return ""
    if service and (service == own_service or ours != own_number):
        return f"{account}:{_prefixed(channel, service)}"
    return f"{account}:{_prefixed(channel, ours)}"


def _prefixed(channel: str, sender: str) -> str:
    return f"{channel}:{sender}" if channel else sender


def with_consent(message: InboundMessage, opt_out_type: str) -> tuple[Event, ...]:
    """The message, and behind it what Twilio made of it as an opt-out word: STOP, START, or HELP (no change).

    Twilio knows the operator's own and localised words, keeps a list of its own and has answered the customer.
    """
    state = _CONSENT.get(opt_out_type)
    if state is None:
        return (message,)
    consent = ConsentChange(
        id=f"{message.id}:{opt_out_type}",
        at=message.at,
        routing_key=message.routing_key,
        channel=message.channel,
        path="$",
        person=message.sender,
        state=state,
        source="platform",
    )
    return message, consent


def delivery_update(
    fields: Fields, received: Received, channel: str, recipient: Address | None, routing_key: str
) -> Event:
    """How far our message came. Callbacks carry no time of their own, come in any order, and come twice.

    Our own id stands in the query of the callback's address (`mid`), so that a callback finds its message even when
    it overtakes the answer to the send.
    """
    sid, word = message_sid(fields), status_of(fields)
    status = STATUS.get(word)
    if status is None:
        return Ignored(
            id=f"{sid}:{word}",
            at=received.received_at,
            routing_key=routing_key,
            channel=channel,
            path="$",
            reason=f"message status {word!r}",
        )
    code = fields.get("ErrorCode", "")
    if code in ("", "0"):
        code = word if word == "canceled" else ""
    return DeliveryUpdate(
        id=f"{sid}:{word}",
        at=received.received_at,
        routing_key=routing_key,
        channel=channel,
        path="$",
        status=status,
        target=sid,
        ours=clean(received.query.get("mid", "")),
        recipient=recipient,
        error=PlatformError(code, title=fields.get("ErrorMessage", "")) if code else None,
    )


def attachments(fields: Fields) -> tuple[Attachment, ...]:
    """The files of a message. `ref` is the address that the account's credentials open."""
    if "MediaUrl0" not in fields:
        return ()
    found: list[Attachment] = []
    for index in range(MEDIA_MAX):
        url = fields.get(f"MediaUrl{index}")
        if not url:
            break
        media_type = fields.get(f"MediaContentType{index}", "")
        found.append(
            Attachment(kind=_MEDIA_KIND.get(media_type.partition("/")[0], "file"), media_type=media_type, ref=url)
        )
    return tuple(found)


def message_sid(fields: Fields) -> str:
    """The message's id, also under its old names. Raises `Broken`."""
    return fields.get("MessageSid") or fields.get("SmsMessageSid") or fields.get("SmsSid") or need(fields, "MessageSid")


def need(fields: Fields, key: str) -> str:
    """The field's text. Raises `Broken` when it is missing or empty."""
    value = fields.get(key)
    if not value:
        raise Broken(f".{key}", "missing")
    return value


def unreadable(error: Broken, received: Received, channel: str) -> Unreadable:
    """The event for a delivery that lacks what Twilio promises."""
    return Unreadable(
        id=digest(received.body),
        at=received.received_at,
        channel=channel,
        path=f"${error.path}",
        problem=error.problem,
    )
