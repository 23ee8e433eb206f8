"""From what an agent writes to a message ready to be judged: addresses, thread, files, mail headers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, bindparam, select

from adapters import Channel, Dresser
from gateway import contents, signed_urls
from gateway.core import Core
from gateway.ids import new_id
from gateway.outgoing_files import outgoing_files
from gateway.requests import AttachmentRequest, ContentRequest, RequestError, TemplateRequest
from gateway.store.places import Place, Record, last_words, writes_from
from gateway.store.schema import messages
from normalizers._bounces import answers_nobody
from normalizers._html import sanitise, to_text
from normalizers._mime_text import own_form
from normalizers.model import (
    Address,
    Context,
    MailHeaders,
    OutboundMessage,
    Purpose,
    Template,
    Thread,
    ThreadKind,
    Visibility,
)
from outbox.rules.repeats import words_key

REFERENCES_MAX = 20
CC_MAX = 48
ACKNOWLEDGEMENT = "created"  # the automatic message that answers whoever wrote
LINKS_VALID = timedelta(days=30)  # of files that travel as addresses for people to follow
_PREFIX = re.compile(
    r"^\s*(?:(?:re|aw|antw|sv|vs|r|rif|res|odp|ynt|回复|答复|回覆)(?:\[\d+\])?\s*[:：]\s*)+", re.IGNORECASE
)
_read_context = msgspec.json.Decoder(Context).decode
_refs = select(messages.c.external_id).where(
    messages.c.conversation_id == bindparam("b_id"), messages.c.external_id != "", messages.c.visibility != "note"
)
_latest_refs = _refs.order_by(messages.c.id.desc()).limit(REFERENCES_MAX)
_first_ref = _refs.order_by(messages.c.id).limit(1)


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """What is said, however it was asked for."""

    text: str = ""
    html: str = ""
    attachments: Sequence[AttachmentRequest] = ()
    template: TemplateRequest | None = None
    visibility: Visibility = "private"
    purpose: Purpose = "reply"
    author_name: str = ""
    human: bool = False  # a person wrote it
    automatic: str = ""
    first: bool = False  # the customer did not write before it
    content: ContentRequest | None = None
    in_reply_to: str = ""  # our id of the message to quote
    subject: str = ""  # of its own, in the place of the ticket's
    overrides: tuple[str, ...] = ()  # rules a person has decided to pass over


class Draft(msgspec.Struct, frozen=True):
    """A message before the rules: `files` are rows of the table attachments, `words` the hash by which the same words
    are found again where the platform minds repeats, `answers` the message quoted."""

    place: Place
    message: OutboundMessage
    files: tuple[dict[str, Any], ...]
    fields: dict[str, dict[str, str]]  # what the account's template may show beside the message
    human: bool = False
    words: str = ""
    answers: str | None = None


def draft(connection: Connection, core: Core, place: Place, channel: Channel | None, words: Words) -> Draft:
    """The message as the agent means it, whole; the rules bring it into the channel's form. Raises `RequestError`."""
    message_id, account, now = new_id(), place.ticket["account"], core.clock()
    if words.template is not None and len(words.attachments) > 1:
        raise RequestError(422, "invalid", "a template takes one file at most, for its header", "attachments")
    html, text = _said(words)
    takes_html = channel is not None and channel.limits.html
    valid = LINKS_VALID if channel is not None and channel.limits.links else signed_urls.VALID
    files = outgoing_files(connection, core, message_id, words.attachments, now, valid)
    answered = _context(place.last)
    public = place.conversation["kind"] == "public"
    quoted, quote_token = "", ""
    if words.in_reply_to:
        quoted, quote_token = contents.quoted(connection, place, channel, words.in_reply_to)
    message = OutboundMessage(
        id=message_id,
        key=str(UUID(hex=message_id)),
        account=account,
        channel=place.ticket["channel"],
        to=_recipients(connection, place, answered, automatic=bool(words.automatic)),
        text=text,
        html=html if takes_html else "",
        files=tuple(file for _, file in files),
        template=None if words.template is None else as_template(words.template),
        content=contents.of(words, channel),
        context=Context(
            reply_to=place.last["external_id"] if public and place.last is not None else quoted,
            quote_token=quote_token,
            metadata=answered.metadata if answered is not None and not _is_mail(place, channel) else {},
        ),
        thread=_thread(place),
        mail=_mail(connection, core, place, answered, message_id, words) if _is_mail(place, channel) else None,
        visibility=words.visibility,
        purpose=words.purpose,
        author_name=words.author_name,
        own_address=_own_address(core, place),
        overrides=words.overrides,
    )
    filled = words.template is not None and channel is not None and channel.templates  # else the rule says it
    links = channel is not None and channel.links_in_text and "<a" in text.lower()
    linked = links and not words.attachments and not words.automatic
    if words.visibility != "note" and (words.content is not None or quote_token or filled or linked):
        contents.check(core, message, words)
    key = words_key(channel.name, text) if channel is not None and channel.repeats is not None else ""
    rows = tuple(row for row, _ in files)
    return Draft(place, message, rows, fields_of(place, words), words.human, key, words.in_reply_to or None)


def _said(words: Words) -> tuple[str, str]:
    """HTML and text. A template goes without: words beside it are for the channels its chain may lead to."""
    if words.template is not None:
        return "", ""
    html = sanitise(words.html) if words.html else ""
    return html, words.text or (to_text(html, addresses=True).strip() if html else "")


def fields_of(place: Place, words: Words) -> dict[str, dict[str, str]]:
    """What a template may show of ticket, person and agent.

    An acknowledgement of what a stranger wrote shows none of the stranger's words: whoever forges a sender would else
    have us send them to anybody.
    """
    ticket, identity = place.ticket, place.identity
    theirs = words.automatic != ACKNOWLEDGEMENT
    return {
        "ticket": {
            "number": str(ticket["number"] or ""),
            "subject": ticket["subject"] if theirs else "",
            "status": ticket["status"],
        },
        "contact": {"name": identity["name"] if theirs else "", "language": identity["language"]},
        "agent": {"name": "" if words.automatic else words.author_name},
    }


def as_part(core: Core, message: OutboundMessage, outbox_id: str, number: int) -> OutboundMessage:
    """One part of a judged message under the id of its row in the outbox, which receipts bring back."""
    public_url = core.settings.gateway.public_url.rstrip("/")
    mail = message.mail
    if mail is not None and number:
        domain = mail.message_id.rpartition("@")[2]
        mail = msgspec.structs.replace(mail, message_id=core.tokens.mail_id(outbox_id, domain))
    return msgspec.structs.replace(
        message,
        id=outbox_id,
        key=str(UUID(hex=outbox_id)),
        mail=mail,
        callback_url=f"{public_url}/webhooks/{message.account}?mid={outbox_id}" if public_url else "",
    )


def dressed(core: Core, part: OutboundMessage, fields: dict[str, dict[str, str]]) -> OutboundMessage:
    """A part in its final form, where its account has a template. It is kept so: a repeat has the same bytes, whatever
    becomes of the template meanwhile."""
    account = core.accounts.get(part.account)
    if account is None or not isinstance(account.adapter, Dresser):
        return part
    return account.adapter.dress(part, fields)


def as_template(request: TemplateRequest) -> Template:
    """A template as it is asked for."""
    given = request.parameters
    return Template(request.name, request.language, tuple(given) if isinstance(given, list) else given)


def _context(last: Record | None) -> Context | None:
    return _read_context(last["context"]) if last is not None and last["context"] else None


def _thread(place: Place) -> Thread:
    kind: ThreadKind = place.conversation["kind"]
    key: str = place.conversation["key"]
    if kind in ("group", "session", "public"):
        key = key.partition(":")[2]  # "group:<id>", "session:<id>", "<identity>:<post>"
    elif kind in ("private", "mail"):
        key = ""
    parent = place.last["external_id"] if kind == "public" and place.last is not None else ""
    return Thread(kind=kind, key=key, parent=parent)


def _own_address(core: Core, place: Place) -> str:
    """Which of the account's addresses speaks: the one the customer wrote to, else the account's own."""
    told = msgspec.json.decode(place.ticket["channel_info"]).get("own_address", "")
    account = core.accounts.get(place.ticket["account"])
    return told or (getattr(account.settings.options, "address", "") if account is not None else "")


# --- mail -------------------------------------------------------------------------------------------------------------


def _is_mail(place: Place, channel: Channel | None) -> bool:
    return place.conversation["kind"] == "mail" or (channel is not None and channel.key == "message_id")


def _recipients(
    connection: Connection, place: Place, answered: Context | None, *, automatic: bool = False
) -> tuple[Address, ...]:
    """The identity's addresses; for mail the one its owner wants answers at comes instead."""
    if place.conversation["kind"] != "mail":
        return place.addresses
    if automatic:
        return place.addresses[:1]  # an automatic answer goes to who wrote, not where he points us (RFC 3834, 4)
    if place.last is not None and place.last["identity_id"] != place.identity["id"]:
        answered = _context(last_words(connection, place))
    wanted = [address for address in _reply_to(answered) if _takes_part(place, address)]
    if not wanted:
        return place.addresses[:1]
    return (Address(place.ticket["channel"], "email", wanted[0], "everywhere", "claimed"),)


def _reply_to(answered: Context | None) -> list[str]:
    """Where the writer of a mail wants answers; nowhere else than where he wrote from, if empty."""
    told = str(answered.metadata.get("reply_to", "")).split(",") if answered is not None else []
    return [address.strip() for address in told if "@" in address]


def _takes_part(place: Place, address: str) -> bool:
    """Whether somebody may read the thread: who was brought into it by a forged mail may not."""
    participants = msgspec.json.decode(place.conversation.get("participants") or "[]")
    return not participants or address.casefold() in participants


def _mail(
    connection: Connection, core: Core, place: Place, answered: Context | None, message_id: str, words: Words
) -> MailHeaders:
    own = _own_address(core, place)
    local, _, domain = own.rpartition("@")
    account = core.accounts.get(place.ticket["account"])
    references = _references(connection, place)
    answers = place.last["external_id"] if place.last is not None else ""
    subject = place.ticket["subject"]
    token = core.tokens.reply_token(place.ticket["number"]) if place.ticket["number"] else ""
    return MailHeaders(
        subject=words.subject or (subject if words.first else f"Re: {_PREFIX.sub('', subject)}"),
        message_id=core.tokens.mail_id(message_id, domain or "localhost"),
        in_reply_to=answers or (references[-1] if references else ""),
        references=references,
        reply_to=f"{local.partition('+')[0]}+t{token}@{domain}" if local and token else "",
        cc=() if words.automatic else _copies(connection, core, place, answered),
        sender_name=getattr(account.settings.options, "name", "") if account is not None else "",
        automatic=bool(words.automatic),
        loop_token=core.tokens.loop_token() if words.automatic else "",
        unsubscribe_url=_way_out(core, place) if words.purpose == "marketing" else "",
    )


def _way_out(core: Core, place: Place) -> str:
    """The address by which the person leaves the list with one click (RFC 8058 wants https)."""
    public_url = core.settings.gateway.public_url.rstrip("/")
    if not public_url.startswith("https://"):
        return ""
    return f"{public_url}/unsubscribe/{core.tokens.unsubscribe_token(place.identity['id'])}"


def _references(connection: Connection, place: Place) -> tuple[str, ...]:
    """The ids of the thread's mails, oldest first: the first one and the latest."""
    conversation = {"b_id": place.conversation["id"]}
    latest = list(connection.execute(_latest_refs, conversation).scalars())[::-1]
    if len(latest) == REFERENCES_MAX:
        latest = [*connection.execute(_first_ref, conversation).scalars(), *latest[1:]]
    return tuple(dict.fromkeys(latest))


def _copies(connection: Connection, core: Core, place: Place, answered: Context | None) -> tuple[str, ...]:
    """Who else the answer goes to: whoever wrote last, and whoever got that mail beside us; never we ourselves, nobody
    twice, no machine. Who got a mail with us in Bcc does not learn that we got it, nor do the recipients of a list."""
    last = place.last
    if last is None or answered is None:
        return ()
    told, wanted = answered.metadata, _reply_to(answered)
    if not wanted and last["identity_id"] != place.identity["id"]:  # somebody else of the thread
        wanted = [writes_from(connection, last["identity_id"])]
    listed = last["automatic"] == "bulk"
    if listed or "not_addressed" not in msgspec.json.decode(last["flags"]):
        wanted += told.get("cc", ()) if listed else (*told.get("to", ()), *told.get("cc", ()))
    own = {address.casefold() for account in core.accounts for address in account.adapter.account.own_addresses}
    to = {address.value.casefold() for address in _recipients(connection, place, answered)}
    found = {address.casefold(): address for address in map(str, wanted) if "@" in address}
    others = [
        written
        for folded, written in found.items()
        if folded not in to and _takes_part(place, folded) and not own_form(folded, own) and not answers_nobody(folded)
    ]
    return tuple(others[:CC_MAX])
