"""SMS and MMS as Twilio posts them: a form for each message that came in and for each step of one that went out.

Sources: Twilio, "Twilio's request to your incoming message Webhook URL", "Outbound Message Status in Status
Callbacks", "Advanced Opt-Out", 2026-09.
"""

from __future__ import annotations

import re
from typing import Final

import phonenumbers

from normalizers import _whatsapp_twilio
from normalizers._fields import Broken, NotWellFormed, digest, load_form
from normalizers._twilio import (
    PREFIX,
    Fields,
    attachments,
    delivery_update,
    is_json,
    is_message,
    is_whatsapp,
    json_events,
    message_sid,
    need,
    no_message,
    routing_key,
    status_of,
    unreadable,
    with_consent,
)
from normalizers.model import (
    Address,
    Context,
    Event,
    Ignored,
    InboundMessage,
    Person,
    Received,
    Unreadable,
    Unsupported,
)

CHANNEL: Final = "sms"
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_SHORT_CODE = re.compile(r"[0-9]{3,8}")
_PLACE: Final = (("city", "FromCity"), ("state", "FromState"), ("zip", "FromZip"), ("country", "FromCountry"))


def normalize(received: Received) -> tuple[Event, ...]:
    """Turn one webhook of Twilio into events, of SMS or of WhatsApp, whichever account it came to. Never raises.

    A text or picture message gives an `InboundMessage`, with a `ConsentChange` behind it when Twilio recognised an
    opt-out word; a status callback gives a `DeliveryUpdate`. Messages of other channels and of our own numbers are
    `Ignored`.
    """
    try:
        if is_json(received.headers.get("content-type", ""), received.body):
            return json_events(received)
        fields = load_form(received.body)
        return _whatsapp_twilio.events(fields, received) if is_whatsapp(fields) else _events(fields, received)
    except NotWellFormed as error:
        return (Unreadable(id=digest(received.body), at=received.received_at, path="$", problem=str(error)),)
    except Broken as broken:
        return (unreadable(broken, received, CHANNEL),)


def phone(number: str, region: str = "") -> str:
    """The number in E.164; the text as it stands when it is no phone number (short codes, sender names)."""
    if _E164.fullmatch(number) or _SHORT_CODE.fullmatch(number) or len(number) > 40:
        return number
    try:
        parsed = phonenumbers.parse(number, region or None)
    except phonenumbers.NumberParseException:
        return number
    possible = phonenumbers.is_possible_number(parsed)
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164) if possible else number


def address(number: str, region: str = "") -> Address:
    """Whom a number of Twilio's means: a phone, a short code, or a sender name nobody can answer."""
    value = phone(number, region)
    if _E164.fullmatch(value):
        return Address(CHANNEL, "phone", value, "everywhere", "attested")
    if _SHORT_CODE.fullmatch(value):
        return Address(CHANNEL, "short_code", value)
    return Address(CHANNEL, "sender_name", value, "account", "claimed")


def _events(fields: Fields, received: Received) -> tuple[Event, ...]:
    if status_of(fields):
        return (_status(fields, received),)
    if not is_message(fields):
        return (no_message(fields, received),)
    sid, sender, to = message_sid(fields), need(fields, "From"), fields.get("To", "")
    key = routing_key(fields, to, received)
    if reason := _not_a_customer(sender, to, received):
        return (
            Ignored(id=sid, at=received.received_at, routing_key=key, channel=CHANNEL, path="$", reason=reason),
        )  # fmt: skip
    return _message(fields, sid, sender, to, key, received)


def _message(fields: Fields, sid: str, sender: str, to: str, key: str, received: Received) -> tuple[Event, ...]:
    account = received.account
    who = address(sender, account.region)
    place = {name: value for name, field in _PLACE if (value := fields.get(field))}
    person = Person((who,), profile=place) if place else Person((who,))
    files, text = attachments(fields), fields.get("Body", "")
    empty = not files and ("Body" not in fields or (not text and fields.get("NumMedia", "0") != "0"))
    opt_out_type = fields.get("OptOutType", "").upper()
    reply_to = fields.get("OriginalRepliedMessageSid", "")
    message = InboundMessage(
        id=sid,
        at=received.received_at,
        routing_key=key,
        channel=CHANNEL,
        path="$",
        sender=person,
        kind="unsupported" if empty else files[0].kind if files else "text",
        text=text,
        attachments=files,
        content=Unsupported(fields.get("MessageType") or "empty", "neither text nor media") if empty else None,
        context=Context(reply_to=reply_to) if reply_to else None,
        own_address=to if to != account.options.get("number", to) else "",
        automatic="" if who.kind == "phone" else "generated",
        flags=("answered_by_platform",) if opt_out_type else (),
    )
    return with_consent(message, opt_out_type) if opt_out_type else (message,)


def _status(fields: Fields, received: Received) -> Event:
    """A service may choose RCS for a message of ours: its receipts count, those of other channels do not."""
    to = fields.get("To", "")
    prefix = PREFIX.match(to)
    if prefix and prefix[1] != "rcs":
        return Ignored(
            id=f"{message_sid(fields)}:{status_of(fields)}",
            at=received.received_at,
            channel=CHANNEL,
            path="$",
            reason=f"channel {prefix[1]!r}",
        )
    recipient = address(to[prefix.end() :] if prefix else to, received.account.region) if to else None
    # The address we gave names the account that sent; without our id, the sender's number does.
    key = "" if "mid" in received.query else routing_key(fields, fields.get("From", ""), received)
    return delivery_update(fields, received, CHANNEL, recipient, key)


def _not_a_customer(sender: str, to: str, received: Received) -> str:
    """Why the message is none for this channel; "" when it is."""
    if prefix := PREFIX.match(sender) or PREFIX.match(to):
        return f"channel {prefix[1]!r}"
    account = received.account
    if sender in account.own_addresses or sender == account.options.get("number"):
        return "echo: sent by a number of ours"
    return ""
