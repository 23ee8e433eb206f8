"""Our message as Messenger and Instagram Direct read it: pure. Source: Meta, Messenger Platform, Send API, 2026-05."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from adapters._base import Sent
from adapters._errors import Ambiguous, SendError
from adapters._interactive import no_such
from adapters._meta_facts import HUMAN_AGENT
from adapters._meta_offers import offered
from adapters._template_places import ready_components, unfit, words_of
from normalizers._fields import text
from normalizers._meta_messaging import ADDRESS_KINDS, EMOJI
from normalizers.model import Address, Interactive, MediaKind, OutboundFile, OutboundMessage, Purpose, Template

KINDS: Final[Mapping[MediaKind, str]] = {
    "image": "image", "audio": "audio", "video": "video", "file": "file", "sticker": "image",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Surface:
    """A private channel as one speaks on it: where Messenger and Instagram Direct differ."""

    channel: str
    purposes: Mapping[Purpose, str]  # what is told of a message within the window; empty: nothing
    reactions: Mapping[str, str]  # emoji -> the platform's word
    metadata: bool  # our message id may travel along, and comes back in the echo
    uploads: bool  # takes files of our disk; else only addresses it can fetch them from
    templates: bool = False
    posts: bool = False  # a post may be answered in private, not only a comment
    by_url: Mapping[str, Any] = field(default_factory=dict)  # what stands beside a file's address


MESSENGER: Final = Surface(
    "messenger",
    purposes={"reply": "RESPONSE", "transactional": "UPDATE", "marketing": "UPDATE"},
    reactions={emoji: word for word, emoji in EMOJI.items()},
    metadata=True,
    uploads=True,
    templates=True,
    posts=True,
    by_url={"is_reusable": False},
)


def body_for(message: OutboundMessage, surface: Surface, *, tags: bool, attachment_id: str = "") -> dict[str, Any]:
    """The body of one send. `tags` is whether the account may use message tags.

    `attachment_id` is the uploaded file's. Raises `SendError` for what cannot be said.
    """
    body: dict[str, Any] = {"recipient": _recipient(message, surface)}
    if message.reaction is not None:
        return body | _reaction(message, message.reaction, surface)
    content = _content(message, surface, attachment_id)
    if surface.metadata:
        content["metadata"] = message.id
    body |= _kind(message, surface, tags) | {"message": content}
    if message.thread.kind != "public" and message.context is not None and message.context.reply_to:
        body["reply_to"] = {"mid": message.context.reply_to}
    return body


def check_content(message: OutboundMessage, surface: Surface) -> None:
    """Raises `ContentRefused` for structured content the platform would not take like this."""
    _content(message, surface, "")


def file_of(message: OutboundMessage) -> OutboundFile | None:
    """The one file the message carries. Raises `SendError` for several."""
    files = (*filter(None, (message.file,)), *message.files)
    if len(files) > 1:
        raise refused("files", "one file per message")
    return files[0] if files else None


def refused(code: str, detail: str) -> SendError:
    """What this side already knows to be impossible."""
    return SendError("permanent", code, detail)


def answered_of(message: OutboundMessage) -> str:
    """The public comment or post a message answers. Raises `SendError` without one."""
    answered = message.context.reply_to if message.context is not None else ""
    if not (found := answered or message.thread.parent or message.thread.key):
        raise refused("no-comment", "names neither the comment nor the post it answers")
    return found


def sent_of(answer: Mapping[str, Any], message: OutboundMessage, channel: str) -> Sent:
    """The platform's id, and the id it knows the person by: news where a comment was answered in private."""
    external_id, person = text(answer, "message_id"), text(answer, "recipient_id")
    if not external_id and message.reaction is None:
        raise Ambiguous("no-id", "a success without a message id")
    return Sent(external_id, addresses=(Address(channel, ADDRESS_KINDS[channel], person),) if person else ())


def _recipient(message: OutboundMessage, surface: Surface) -> dict[str, str]:
    """The person; or, for a private reply, the comment or post it answers."""
    if message.thread.kind == "public":
        answered = answered_of(message)
        if answered != message.thread.key:
            return {"comment_id": answered}
        if not surface.posts:
            raise refused("no-comment", "only a comment can be answered in private")
        return {"post_id": answered}
    for kind, key in ((ADDRESS_KINDS[surface.channel], "id"), ("user_ref", "user_ref")):
        if found := next((address.value for address in message.to if address.kind == kind), ""):
            return {key: found}
    raise SendError("bad-recipient", "no-address", "the person never wrote in private")


def _kind(message: OutboundMessage, surface: Surface, tags: bool) -> dict[str, str]:
    """Within the window no tag is set; a template travels as one."""
    if message.tag:
        if message.tag != HUMAN_AGENT:
            raise refused("tag", f"the platform has no tag {message.tag!r} any more")
        if not tags:
            raise refused("tag", "human_agent is not switched on for this account")
        return {"messaging_type": "MESSAGE_TAG", "tag": message.tag}
    if _template_of(message) is not None:
        return {"messaging_type": "UTILITY"}
    return {"messaging_type": surface.purposes[message.purpose]} if surface.purposes else {}


def _reaction(message: OutboundMessage, emoji: str, surface: Surface) -> dict[str, Any]:
    mid = message.context.reply_to if message.context is not None else ""
    if not mid:
        raise refused("reaction", "names no message")
    if not emoji:
        return {"sender_action": "unreact", "payload": {"message_id": mid}}
    if (word := surface.reactions.get(emoji.removesuffix("\ufe0f"))) is None:
        raise refused("reaction", f"the platform takes only {' '.join(surface.reactions)}")
    return {"sender_action": "react", "payload": {"message_id": mid, "reaction": word}}


def _content(message: OutboundMessage, surface: Surface, attachment_id: str) -> dict[str, Any]:
    """Text or a file, never both: the platform takes one of them."""
    if (template := _template_of(message)) is not None:
        if not surface.templates:
            raise refused("template", "the platform has no templates here")
        return {"template": _template(template)}
    if isinstance(message.content, Interactive):
        return offered(message.content.values, message.text)
    if message.content is not None:
        raise no_such(message.content)
    if (file := file_of(message)) is not None:
        if message.text:
            raise refused("caption", "no text can stand beside a file")
        return {"attachment": _file(file, surface, attachment_id)}
    if not message.text:
        raise refused("empty", "nothing to send")
    return {"text": message.text}


def _file(file: OutboundFile, surface: Surface, attachment_id: str) -> dict[str, Any]:
    uploaded = attachment_id or (surface.uploads and file.open_path)
    if not (uploaded or file.url):
        where = "neither on disk nor at an address" if surface.uploads else "lies at no address the platform can reach"
        raise refused("file", f"{file.filename}: {where}")
    payload = {"attachment_id": attachment_id} if uploaded else {"url": file.url, **surface.by_url}
    return {"type": KINDS[file.kind], "payload": payload}


# --- templates --------------------------------------------------------------------------------------------


def _template_of(message: OutboundMessage) -> Template | None:
    return message.template or (message.content if isinstance(message.content, Template) else None)


def _template(template: Template) -> dict[str, Any]:
    """A list of texts fills the body; of an object "body" does, or "components" is taken as it stands."""
    given = template.parameters
    if not isinstance(given, Mapping):
        components = _body(given)
    elif "components" in given:
        components = ready_components(given["components"])
    elif given.keys() <= {"body"}:
        components = _body(given.get("body", ()))
    else:
        raise unfit("known components are body, or components as the platform words them")
    body = {"name": template.name, "language": {"code": template.language}}
    return body | ({"components": components} if components else {})


def _body(texts: Any) -> list[dict[str, Any]]:
    """The component of a template whose places are numbered, or named by an object."""
    if isinstance(texts, Mapping):
        named = [{"type": "text", "parameter_name": name, "text": words_of(value)} for name, value in texts.items()]
        return [{"type": "body", "parameters": named}] if named else []
    places = texts if isinstance(texts, list | tuple) else (texts,)
    listed = [{"type": "text", "text": words_of(value)} for value in places]
    return [{"type": "body", "parameters": listed}] if listed else []
