"""Messages that come in over our own API (C16): the body of `POST /api/v1/messages`, with an id of ours."""

from __future__ import annotations

from typing import Any

from normalizers._fields import NotWellFormed, digest, items, load_json, mapping, plain, text
from normalizers.model import Address, Attachment, Event, InboundMessage, Person, Received, Unreadable
from normalizers.model import Context as MessageContext

CHANNEL = "api"
_KINDS = {"image": "image", "audio": "audio", "video": "video"}


def normalize(received: Received) -> tuple[Event, ...]:
    """The message as one event. What the caller says about the person is a claim and merges nothing."""
    try:
        body = load_json(received.body)
    except NotWellFormed as error:
        return (Unreadable(id=digest(received.body), at=received.received_at, channel=CHANNEL, problem=str(error)),)
    if not isinstance(body, dict):
        return (Unreadable(id=digest(received.body), at=received.received_at, channel=CHANNEL, problem="no object"),)
    name = text(body, "id") or digest(received.body)
    attachments = tuple(_attachment(item) for _, item in items(body, "attachments")) if "attachments" in body else ()
    words = text(body, "text")
    return (
        InboundMessage(
            id=name,
            at=received.received_at,
            channel=CHANNEL,
            path="$",
            sender=_person(mapping(body, "from"), name),
            kind="text" if words or not attachments else attachments[0].kind,
            text=words,
            html=text(body, "html"),
            subject=text(body, "subject"),
            attachments=attachments,
            context=_context(body) if "metadata" in body else None,
        ),
    )


def _context(body: Any) -> MessageContext | None:
    return MessageContext(metadata=plain(body["metadata"])) if mapping(body, "metadata") else None


_FIELDS = (("external_id", "id"), ("email", "email"), ("phone", "phone"))


def _person(given: Any, name: str) -> Person:
    addresses = [
        Address(CHANNEL, kind, value, "everywhere" if kind != "external_id" else "account", "claimed")
        for kind, field in _FIELDS
        if field in given and (value := text(given, field))
    ]
    return Person(
        tuple(addresses) or (Address(CHANNEL, "anonymous", name, evidence="claimed"),), name=text(given, "name")
    )


def _attachment(item: Any) -> Attachment:
    media_type = text(item, "media_type")
    upload = text(item, "upload")
    return Attachment(
        kind=_KINDS.get(media_type.partition("/")[0], "file"),  # type: ignore[arg-type]
        media_type=media_type,
        filename=text(item, "filename"),
        ref=f"upload:{upload}" if upload else "",
        url=text(item, "url"),
    )
