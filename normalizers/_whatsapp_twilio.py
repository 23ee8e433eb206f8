"""WhatsApp as Twilio posts it: the forms of SMS with prefixed addresses and the fields of a rich channel.

Sources: Twilio, "Twilio's request to your incoming message Webhook URL", "Outbound Message Status in Status
Callbacks", 2026-09; business-scoped user ids in `From` and `ExternalUserId`, 2026-07. Twilio tells no time of its own:
windows count from receipt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from normalizers._fields import Broken, NotWellFormed, load_json, number, plain
from normalizers._twilio import (
    Fields,
    attachments,
    delivery_update,
    message_sid,
    need,
    routing_key,
    status_of,
    with_consent,
)
from normalizers._whatsapp_people import CHANNEL, addresses_of
from normalizers.model import (
    Address,
    Attachment,
    Content,
    Context,
    Event,
    Ignored,
    InboundMessage,
    Interactive,
    Location,
    MessageKind,
    Person,
    Received,
    Referral,
    Sticker,
    Unsupported,
)

_WHATSAPP = "whatsapp:"


def events(fields: Fields, received: Received) -> tuple[Event, ...]:
    """The events of one webhook about a message on WhatsApp. Raises `Broken`.

    What the Cloud API tells and Twilio does not (reactions, edits, system notes, preferences) does not come.
    """
    word = status_of(fields)
    sid = message_sid(fields)
    theirs, ours = ("To", "From") if word else ("From", "To")
    customer, own = need(fields, theirs), fields.get(ours, "")
    own = own.removeprefix(_WHATSAPP)
    if word:
        # The address we gave names the account that sent; without our id, the sender's number does.
        key = "" if "mid" in received.query else routing_key(fields, own, received, CHANNEL)
        return (_status(fields, customer, key, received),)
    key = routing_key(fields, own, received, CHANNEL)
    if customer.removeprefix(_WHATSAPP) in received.account.own_addresses:
        return (
            Ignored(
                id=sid, at=received.received_at, routing_key=key, channel=CHANNEL, path="$",
                reason="echo: sent by a number of ours",
            ),
        )  # fmt: skip
    return _message(fields, sid, customer, own, key, received)


def _status(fields: Fields, customer: str, key: str, received: Received) -> Event:
    people = _addresses(fields, customer)
    update = delivery_update(fields, received, CHANNEL, people[0], key)
    return update if isinstance(update, Ignored) else replace(update, learned=people)


def _message(fields: Fields, sid: str, customer: str, own: str, key: str, received: Received) -> tuple[Event, ...]:
    kind, words, files, content = _part(fields)
    opt_out_type = fields.get("OptOutType", "").upper()
    message = InboundMessage(
        id=sid,
        at=received.received_at,
        routing_key=key,
        channel=CHANNEL,
        path="$",
        sender=Person(_addresses(fields, customer), name=fields.get("ProfileName", "")),
        kind=kind,
        text=words,
        attachments=files,
        content=content,
        context=_context(fields),
        own_address=own if own != received.account.options.get("number", own) else "",
        flags=("answered_by_platform",) if opt_out_type else (),
    )
    return with_consent(message, opt_out_type) if opt_out_type else (message,)


def _addresses(fields: Fields, customer: str) -> tuple[Address, ...]:
    """The user id before the number. Either may stand in `From`; `ExternalUserId` and `WaId` bring the other."""
    value = customer.removeprefix(_WHATSAPP).removeprefix("+")
    user, phone = fields.get("ExternalUserId", "").removeprefix(_WHATSAPP), fields.get("WaId", "")
    if not value:
        raise Broken(".From", "names nobody")
    if value.isdecimal():
        phone = value
    else:
        user = value
    return addresses_of(user, phone if phone.isdecimal() else "")


# --- what was said ----------------------------------------------------------------------------------------------------


def _part(fields: Fields) -> tuple[MessageKind, str, tuple[Attachment, ...], Content | None]:
    """Kind, what an agent reads, files, structured content."""
    words = fields.get("Body", "")
    if chosen := _chosen(fields):
        return "interactive", words or chosen.title, (), chosen
    if (place := _place(fields)) is not None:
        shown = words or ", ".join(filter(None, (place.name, place.address)))
        return "location", shown or f"{place.latitude}, {place.longitude}", (), place
    if files := attachments(fields):
        if files[0].media_type == "image/webp":  # pictures come as JPEG or PNG
            sticker = (replace(files[0], kind="sticker"), *files[1:])
            return "sticker", words, sticker, Sticker()
        return files[0].kind, words, files, None
    if words or ("Body" in fields and fields.get("MessageType", "text") == "text" and _no_media(fields)):
        return "text", words, (), None
    return "unsupported", "", (), Unsupported(fields.get("MessageType") or "empty", "neither text nor media")


def _no_media(fields: Fields) -> bool:
    return fields.get("NumMedia", "0") in ("", "0")


def _chosen(fields: Fields) -> Interactive | None:
    """A button, a row of a list (`List...` as widely seen, page not readable: unverified), or a form filled in."""
    if row := fields.get("ListId", ""):
        title = fields.get("ListTitle", "") or fields.get("Body", "")
        return Interactive(row, title, fields.get("ListDescription", ""), "list_reply")
    if fields.get("ButtonPayload") or fields.get("ButtonText"):
        title = fields.get("ButtonText", "")
        return Interactive(fields.get("ButtonPayload", "") or title, title, type="button")
    if answers := fields.get("InteractiveData", ""):  # (unverified) a flow's answers, JSON
        return Interactive(type="nfm_reply", values=_answers(answers))
    return None


def _answers(given: str) -> Mapping[str, Any]:
    try:
        answers = load_json(given.encode("utf-8", "replace"))
    except NotWellFormed:
        return {"response_json": given}
    return dict(plain(answers)) if type(answers) is dict else {"response_json": given}


def _place(fields: Fields) -> Location | None:
    if not fields.get("Latitude") or not fields.get("Longitude"):
        return None
    latitude, longitude = number(fields, "Latitude"), number(fields, "Longitude")
    if latitude is None or longitude is None:
        raise Broken(".Latitude", "no coordinates")
    return Location(latitude, longitude, fields.get("Label", ""), fields.get("Address", ""))


def _context(fields: Fields) -> Context | None:
    """What the message answers, whether it was forwarded, and the ad that brought it; None where it tells nothing."""
    often = fields.get("FrequentlyForwarded") == "true"
    forwarded = often or fields.get("Forwarded") == "true"
    reply_to = fields.get("OriginalRepliedMessageSid", "")
    ad = Referral(
        fields.get("ReferralSourceType", ""),
        fields.get("ReferralSourceId", ""),
        fields.get("ReferralSourceUrl", ""),
        fields.get("ReferralHeadline", ""),
        fields.get("ReferralBody", ""),
        fields.get("ReferralCtwaClid", ""),
    )
    referral = None if ad == Referral() else ad
    if not (forwarded or reply_to or referral):
        return None
    metadata: dict[str, Any] = {"frequently_forwarded": True} if often else {}
    if referral and fields.get("ReferralMediaUrl"):
        metadata["referral_media_url"] = fields["ReferralMediaUrl"]
    return Context(reply_to=reply_to, forwarded=forwarded, referral=referral, metadata=metadata)
