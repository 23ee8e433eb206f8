"""From what an agent writes to a message ready to be judged: addresses, thread, files, mail headers."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from sqlalchemy import Connection, RowMapping, bindparam, select

from adapters import Channel, Dresser
from gateway import signed_urls
from gateway.core import Core
from gateway.ids import new_id
from gateway.requests import AttachmentRequest, RequestError, TemplateRequest
from gateway.store.schema import addresses, conversations, identities, messages, uploads
from normalizers._html import sanitise, to_text
from normalizers.model import (
    Address,
    Context,
    MailHeaders,
    MediaKind,
    OutboundFile,
    OutboundMessage,
    Purpose,
    Template,
    Thread,
    ThreadKind,
    Visibility,
)

REFERENCES_MAX = 20
CC_MAX = 48
ACKNOWLEDGEMENT = "created"  # the automatic message that answers whoever wrote
LINKS_VALID = timedelta(days=30)  # of files that travel as addresses for people to follow
_KINDS: dict[str, MediaKind] = {"image": "image", "audio": "audio", "video": "video"}
_PREFIX = re.compile(
    r"^\s*(?:(?:re|aw|antw|sv|vs|r|rif|res|odp|ynt|回复|答复|回覆)(?:\[\d+\])?\s*[:：]\s*)+", re.IGNORECASE
)
_read_context = msgspec.json.Decoder(Context).decode


class Place(msgspec.Struct, frozen=True):
    """Where a message goes: the rows of its ticket, conversation and identity, and the customer's last message."""

    ticket: RowMapping
    conversation: RowMapping
    identity: RowMapping
    addresses: tuple[Address, ...]
    last: RowMapping | None


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """What is said, however it was asked for."""

    text: str = ""
    html: str = ""
    attachments: Sequence[AttachmentRequest] = ()
    template: TemplateRequest | None = None
    visibility: Visibility = "private"
    purpose: Purpose = "reply"
    author_name: str = ""
    automatic: str = ""
    first: bool = False  # the customer did not write before it
    subject: str = ""  # of its own, in the place of the ticket's
    overrides: tuple[str, ...] = ()  # rules a person has decided to pass over


class Draft(msgspec.Struct, frozen=True):
    """A message before the rules: `files` are rows of the table attachments."""

    place: Place
    message: OutboundMessage
    files: tuple[dict[str, Any], ...]
    fields: dict[str, dict[str, str]]  # what the account's template may show beside the message


_conversation = select(conversations).where(conversations.c.id == bindparam("b_id"))
_identity = select(identities).where(identities.c.id == bindparam("b_id"))
_last_inbound = (
    select(messages)
    .where(
        messages.c.conversation_id == bindparam("b_id"),
        messages.c.direction == "inbound",
        messages.c.visibility != "note",
    )
    .order_by(messages.c.id.desc())
    .limit(1)
)
_addresses = (
    select(addresses)
    .where(addresses.c.identity_id == bindparam("b_id"), addresses.c.kind != "anonymous")
    .order_by(addresses.c.attested_at.desc(), addresses.c.id.desc())
)


def place_of(connection: Connection, ticket: RowMapping, channel: Channel | None) -> Place:
    """All that is needed to write on a ticket."""
    conversation, identity = {"b_id": ticket["conversation_id"]}, {"b_id": ticket["identity_id"]}
    return Place(
        ticket,
        connection.execute(_conversation, conversation).mappings().one(),
        connection.execute(_identity, identity).mappings().one(),
        _reachable(connection.execute(_addresses, identity), channel),
        connection.execute(_last_inbound, conversation).mappings().first(),
    )


def _reachable(rows: Iterable[Any], channel: Channel | None) -> tuple[Address, ...]:
    """The identity's addresses one can send to, the best kind first; of a kind the newest first."""
    kinds = channel.address_kinds if channel is not None else ()
    found = [
        Address(row.channel, row.kind, row.value, row.scope, row.evidence)
        for row in rows
        if not kinds or row.kind in kinds
    ]
    return tuple(sorted(found, key=lambda address: kinds.index(address.kind) if kinds else 0))


def draft(connection: Connection, core: Core, place: Place, channel: Channel | None, words: Words) -> Draft:
    """The message as the agent means it, whole; the rules bring it into the channel's form. Raises `RequestError`."""
    message_id, account, now = new_id(), place.ticket["account"], core.clock()
    html = sanitise(words.html) if words.html else ""
    text = words.text or (to_text(html).strip() if html else "")
    takes_html = channel is not None and channel.limits.html
    valid = LINKS_VALID if channel is not None and channel.limits.links else signed_urls.VALID
    files = _files(connection, core, message_id, words.attachments, now, valid)
    answered = _context(place.last)
    public = place.conversation["kind"] == "public"
    message = OutboundMessage(
        id=message_id,
        key=str(UUID(hex=message_id)),
        account=account,
        channel=place.ticket["channel"],
        to=_recipients(place, answered, automatic=bool(words.automatic)),
        text=text,
        html=html if takes_html else "",
        files=tuple(file for _, file in files),
        template=_template(words.template),
        context=Context(
            reply_to=place.last["external_id"] if public and place.last is not None else "",
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
    return Draft(place, message, tuple(row for row, _ in files), fields_of(place, words))


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


def _template(request: TemplateRequest | None) -> Template | None:
    if request is None:
        return None
    given = request.parameters
    return Template(request.name, request.language, tuple(given) if isinstance(given, list) else given)


def _context(last: RowMapping | None) -> Context | None:
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


# --- files ------------------------------------------------------------------------------------------------------------


def _files(
    connection: Connection,
    core: Core,
    message_id: str,
    wanted: Sequence[AttachmentRequest],
    now: datetime,
    valid: timedelta,
) -> list[tuple[dict[str, Any], OutboundFile]]:
    found: list[tuple[dict[str, Any], OutboundFile]] = []
    public_url = core.settings.gateway.public_url.rstrip("/")
    for position, request in enumerate(wanted):
        field = f"attachments[{position}]"
        if bool(request.upload) == bool(request.url):
            raise RequestError(422, "invalid", 'exactly one of "upload" and "url" must be given', field)
        row = _stored(connection, request, field) if request.upload else _linked(request, field)
        row |= {"id": new_id(), "message_id": message_id, "position": position}
        kind = row["kind"] = _KINDS.get(row["media_type"].partition("/")[0], "file")
        url = row["url"]
        if row["path"] and public_url:
            url = f"{public_url}/media/{signed_urls.make(core.tokens, row['id'], now, valid)}"
        path = str(core.blobs.locate(row["path"])) if row["path"] else ""
        file = OutboundFile(
            kind=kind, media_type=row["media_type"], filename=row["filename"], size=row["size"] or 0, open_path=path,
            url=url,
        )  # fmt: skip
        found.append((row, file))
    return found


def _stored(connection: Connection, request: AttachmentRequest, field: str) -> dict[str, Any]:
    upload = connection.execute(select(uploads).where(uploads.c.id == request.upload)).mappings().first()
    if upload is None:
        raise RequestError(422, "unknown_upload", "there is no such upload", f"{field}.upload")
    name = _basename(request.filename or upload["filename"])
    return {
        "media_type": upload["media_type"] or _guess(name), "filename": name, "size": upload["size"],
        "path": upload["path"], "url": "", "state": "stored",
    }  # fmt: skip


def _linked(request: AttachmentRequest, field: str) -> dict[str, Any]:
    parts = urlsplit(request.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RequestError(422, "invalid", "not an http or https address", f"{field}.url")
    name = _basename(request.filename or parts.path)
    return {"media_type": _guess(name), "filename": name, "size": None, "path": "", "url": request.url,
            "state": "linked"}  # fmt: skip


def _guess(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def _basename(name: str) -> str:
    return "".join(c for c in PurePosixPath(name.replace("\\", "/")).name if c.isprintable())[:200] or "file"


# --- mail -------------------------------------------------------------------------------------------------------------


def _is_mail(place: Place, channel: Channel | None) -> bool:
    return place.conversation["kind"] == "mail" or (channel is not None and channel.key == "message_id")


def _recipients(place: Place, answered: Context | None, *, automatic: bool = False) -> tuple[Address, ...]:
    """The identity's addresses; for mail the one its owner wants answers at comes instead."""
    last = place.last
    if automatic and place.conversation["kind"] == "mail":
        return place.addresses[:1]  # an automatic answer goes to who wrote, not where he points us (RFC 3834, 4)
    if place.conversation["kind"] != "mail" or answered is None or last is None:
        return place.addresses
    wanted = str(answered.metadata.get("reply_to", "")).partition(",")[0].strip()
    if not wanted or last["identity_id"] != place.identity["id"] or "@" not in wanted:
        return place.addresses[:1]
    return (Address(place.ticket["channel"], "email", wanted, "everywhere", "claimed"),)


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
        cc=() if words.automatic else _copies(core, place, answered),
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
    statement = select(messages.c.external_id).where(
        messages.c.conversation_id == place.conversation["id"],
        messages.c.external_id != "",
        messages.c.visibility != "note",
    )
    latest = list(connection.execute(statement.order_by(messages.c.id.desc()).limit(REFERENCES_MAX)).scalars())[::-1]
    if len(latest) == REFERENCES_MAX:
        latest = [*connection.execute(statement.order_by(messages.c.id).limit(1)).scalars(), *latest[1:]]
    return tuple(dict.fromkeys(latest))


def _copies(core: Core, place: Place, answered: Context | None) -> tuple[str, ...]:
    """Who got a copy of the customer's last mail gets one of the answer: never we ourselves, nobody twice."""
    last, identity = place.last, place.identity
    if last is None or answered is None:
        return ()
    wanted = [str(address) for address in answered.metadata.get("cc", ())]
    if last["identity_id"] != identity["id"]:  # somebody else of the thread wrote
        wanted.insert(0, str(answered.metadata.get("reply_to", "")).partition(",")[0].strip())
    own = {address.casefold() for account in core.accounts for address in account.adapter.account.own_addresses}
    to = {address.value.casefold() for address in _recipients(place, answered)}
    found = {address.casefold(): address for address in wanted if "@" in address}
    return tuple(address for folded, address in found.items() if folded not in own | to)[:CC_MAX]
