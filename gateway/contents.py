"""Structured content and quotes of what agents write: whether the channel takes them, and in this form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection, select

from adapters import Channel, ContentCheck, ContentRefused, SendError
from gateway.core import Core
from gateway.requests import ContentRequest, RequestError
from gateway.store.places import Place
from gateway.store.schema import messages
from normalizers.model import Context, Location, OutboundMessage
from outbox import measure

if TYPE_CHECKING:  # it asks here
    from gateway.drafts import Words

_read_context = msgspec.json.Decoder(Context).decode


def of(words: Words, channel: Channel | None) -> ContentRequest | None:
    """Structured content, where the channel can send it. Raises `RequestError`."""
    content = words.content
    if content is None:
        return None
    kind = content.__struct_config__.tag
    if words.visibility == "note" or channel is None or kind not in channel.contents:
        name = "a note" if words.visibility == "note" or channel is None else channel.title
        raise RequestError(422, "invalid", f"{name} takes no content of kind {kind}", "content")
    if words.attachments or words.template is not None:
        raise RequestError(422, "invalid", "content goes alone or beside a text", "content")
    if isinstance(content, Location):
        _check_place(content)
    limits = channel.limits
    most = limits.caption_max or limits.text_max
    if measure.length(words.text, limits.text_unit) > most or not measure.fits(words.text, limits):
        unit = "bytes" if limits.text_unit == "bytes" else "characters"
        raise RequestError(422, "invalid", f"the text beside content has at most {most} {unit}", "text")
    return content


def _check_place(place: Location) -> None:
    for name, value, most in (("latitude", place.latitude, 90), ("longitude", place.longitude, 180)):
        if not -most <= value <= most:
            raise RequestError(422, "invalid", f"must be -{most} to {most}", f"content.{name}")


def check_text(words: Words, *, later: bool) -> None:
    """A template goes without a text, unless a chain says it `later`. Raises `RequestError`."""
    field = "text" if words.text.strip() else "html" if words.html.strip() else ""
    if field and words.template is not None and (words.visibility == "note" or not later):
        problem = "a template goes without a text of its own: nothing would show it, and no fallback step would say it"
        raise RequestError(422, "invalid", problem, field)


def check(core: Core, message: OutboundMessage, words: Words) -> None:
    """What only the adapter knows of its platform: how many buttons, how long their titles. Raises `RequestError`."""
    account = core.accounts.get(message.account)
    adapter: object = account.adapter if account is not None else None
    if not isinstance(adapter, ContentCheck):
        return
    try:
        adapter.check_content(message)
    except ContentRefused as error:
        field = "html" if error.field == "text" and not words.text else error.field
        raise RequestError(422, "invalid", error.problem, field) from None
    except SendError as error:
        raise RequestError(422, "invalid", error.detail or error.code, "content") from None


def quoted(connection: Connection, place: Place, channel: Channel | None, message_id: str) -> tuple[str, str]:
    """The platform's id of a message of this conversation, and its token where one is needed to quote it.

    Raises `RequestError`.
    """
    if channel is None or not channel.quotes:
        name = channel.title if channel is not None else "the channel"
        raise RequestError(422, "invalid", f"{name} does not quote messages", "in_reply_to")
    found = connection.execute(
        select(messages.c.external_id, messages.c.context).where(
            messages.c.id == message_id, messages.c.conversation_id == place.conversation["id"]
        )
    ).first()
    if found is None or not found.external_id:
        raise RequestError(422, "invalid", "the conversation has no such message", "in_reply_to")
    if not channel.quote_tokens:
        return found.external_id, ""
    token = _read_context(found.context).quote_token if found.context else ""
    if not token:
        raise RequestError(422, "invalid", f"{channel.title} gave no right to quote this message", "in_reply_to")
    return found.external_id, token
