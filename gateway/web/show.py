"""From rows to what the API shows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import unescape
from typing import Any
from urllib.parse import unquote

import msgspec
from sqlalchemy import RowMapping

from gateway.ids import micros, rfc3339
from gateway.store.views import History
from gateway.store.waiting import Wait
from gateway.web import types
from gateway.web.values import attributes
from normalizers import model
from outbox.verdict import Verdict

_decode = msgspec.json.decode
_content = msgspec.json.Decoder(model.Content)
_CID = re.compile(r"""(?P<before>\bsrc\s*=\s*["'])cid:(?P<id>[^"'\s>]+)""", re.IGNORECASE)
ATTACHMENTS = "/api/v1/attachments/"


def moment(value: int | None) -> str:
    """A moment that is always there."""
    return rfc3339(value or 0) or ""


def ticket(row: RowMapping, follow_ups: Sequence[str]) -> types.Ticket:
    """A ticket's row and its follow-up tickets."""
    return types.Ticket(
        id=row["id"],
        number=row["number"],
        subject=row["subject"],
        status=row["status"],
        priority=row["priority"],
        channel=row["channel"],
        account=row["account"],
        via=row["via"],
        updated_via=row["updated_via"],
        contact_id=row["contact_id"],
        contact_name=row["contact_name"] or "",
        identity_id=row["identity_id"],
        conversation_id=row["conversation_id"],
        assignee=row["assignee"] or None,
        group=row["group_name"] or None,
        tags=_decode(row["tags"]),
        fields=_decode(row["fields"]),
        channel_info=_decode(row["channel_info"]),
        follow_up_of=row["follow_up_of"] or None,
        follow_ups=list(follow_ups),
        conversation_state=row["conversation_state"],
        created_at=moment(row["created_at"]),
        updated_at=moment(row["updated_at"]),
        solved_at=rfc3339(row["solved_at"]),
        closed_at=rfc3339(row["closed_at"]),
        external_refs=_decode(row["external_refs"]),
        sequence=row["sequence"],
    )


def author(text: str) -> types.Author:
    """Who wrote, from the JSON in the store."""
    value = _decode(text)
    return types.Author(type=value.get("type", "system"), id=value.get("id") or "", name=value.get("name") or "")


def ticket_event(row: RowMapping) -> types.TicketEvent:
    """A line of the event log."""
    return types.TicketEvent(
        id=row["id"],
        sequence=row["sequence"],
        kind=row["kind"],
        actor=author(row["actor"]),
        data=_decode(row["data"]),
        at=moment(row["at"]),
    )


# --- messages ---------------------------------------------------------------------------------------------------------


def content(text: str | None) -> dict[str, Any] | None:
    """A message's content under its kind, every field of it present: `content.location.latitude`."""
    if not text:
        return None
    try:
        value = _content.decode(text)
    except (msgspec.ValidationError, msgspec.DecodeError):  # written by a later or earlier version
        tree = _decode(text)
        return {tree.pop("kind", "unknown"): tree} if isinstance(tree, dict) else None
    kind = str(value.__struct_config__.tag)
    tree = _whole(value)
    return {kind: tree["contacts"] if kind == "contacts" else tree}


def _whole(value: Any) -> Any:
    """A struct as a dictionary without leaving defaults out."""
    if isinstance(value, msgspec.Struct):
        return {name: _whole(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple | list):
        return [_whole(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def attachment(row: RowMapping) -> types.AttachmentView:
    """A file of a message. What is only linked keeps the platform's address."""
    return types.AttachmentView(
        id=row["id"],
        kind=row["kind"],
        media_type=row["media_type"],
        filename=row["filename"],
        size=row["size"],
        state=row["state"],
        reason=row["reason"],
        url=row["url"] if row["state"] == "linked" else f"{ATTACHMENTS}{row['id']}",
        content_id=row["content_id"],
    )


def _content_id(written: str) -> str:
    """In the form they are compared in: HTML has it percent-encoded (RFC 2392), and some programs change its case."""
    return unquote(written).lower()


def inline(html: str, files: Iterable[RowMapping]) -> str:
    """The HTML with its `cid:` images pointing at our copies."""
    ids = {_content_id(row["content_id"].strip("<>")): row["id"] for row in files if row["content_id"]}
    if not ids:
        return html

    def replaced(found: re.Match[str]) -> str:
        attachment_id = ids.get(_content_id(unescape(found["id"])))
        return found[0] if attachment_id is None else f"{found['before']}{ATTACHMENTS}{attachment_id}"

    return _CID.sub(replaced, html)


def error(text: str | None) -> types.MessageError | None:
    """A message's error, from the JSON in the store."""
    if not text:
        return None
    value = _decode(text)
    return types.MessageError(
        code=str(value.get("code", "")), error_class=str(value.get("class", "")), detail=str(value.get("detail", ""))
    )


def attempt_error(row: RowMapping | None) -> types.MessageError | None:
    """What the last attempt ran into, for a message that still waits."""
    if row is None or not row["error_class"]:
        return None
    return types.MessageError(code=row["code"], error_class=row["error_class"], detail=row["detail"])


def reaction(entry: Mapping[str, Any]) -> types.ReactionView:
    """One person's reaction, as the store keeps it."""
    return types.ReactionView(
        emoji=entry["emoji"],
        identity_id=entry["identity_id"],
        contact_id=entry["contact_id"],
        at=moment(entry["at"]),
    )


WAITING = frozenset({"queued", "held", "sending"})


def _message_fields(row: RowMapping, files: Sequence[RowMapping], last: RowMapping | None) -> dict[str, Any]:
    shown_error = error(row["error"])
    if shown_error is None and row["status"] in WAITING:
        shown_error = attempt_error(last)
    return {
        "id": row["id"],
        "ticket_id": row["ticket_id"],
        "conversation_id": row["conversation_id"],
        "contact_id": row["contact_id"],
        "direction": row["direction"],
        "visibility": row["visibility"],
        "channel": row["channel"],
        "account": row["account"],
        "external_id": row["external_id"],
        "kind": row["kind"],
        "subject": row["subject"],
        "text": row["text"],
        "html": inline(row["html"], files),
        "full_text": row["full_text"],
        "content": content(row["content"]),
        "context": _decode(row["context"]) if row["context"] else None,
        "attachments": [attachment(file) for file in files],
        "in_reply_to": row["in_reply_to"] or None,
        "author": author(row["author"]),
        "purpose": row["purpose"],
        "automatic": row["automatic"],
        "flags": _decode(row["flags"]),
        "reactions": [reaction(entry) for entry in _decode(row["reactions"])],
        "sent_at": rfc3339(row["sent_at"]),
        "received_at": rfc3339(row["received_at"]),
        "created_at": moment(row["created_at"]),
        "status": row["status"],
        "error": shown_error,
        "edited_at": rfc3339(row["edited_at"]),
        "deleted_at": rfc3339(row["deleted_at"]),
    }


def message(row: RowMapping, files: Sequence[RowMapping], last: RowMapping | None = None) -> types.Message:
    """A message as lists show it. `last` is its last attempt."""
    return types.Message(**_message_fields(row, files, last))


def tries(rows: Sequence[RowMapping], parts: Mapping[str, int]) -> list[types.Attempt]:
    """The tries of a message in their order; `parts` are the numbers of its parts by id.

    Each part's are counted here: the number a try has in the store tells how much patience was used up, which begins
    anew when a person sends the message again.
    """
    tried: Counter[str] = Counter()
    found: list[types.Attempt] = []
    for row in rows:
        tried[row["outbox_id"]] += 1
        found.append(attempt(row, tried[row["outbox_id"]], parts.get(row["outbox_id"], 0)))
    return found


def attempt(row: RowMapping, number: int, part: int) -> types.Attempt:
    """One try of a part."""
    return types.Attempt(
        number=number,
        part=part,
        at=moment(row["started_at"]),
        finished_at=rfc3339(row["finished_at"]),
        outcome=row["outcome"],
        error_class=row["error_class"],
        code=row["code"],
        detail=row["detail"],
        request_id=row["request_id"],
    )


def waiting(found: Wait | None) -> types.Waiting | None:
    """What a part waits for."""
    return None if found is None else wait(found)


def wait(found: Wait) -> types.Waiting:
    """One reason to wait."""
    return types.Waiting(
        code=found.code, error_class=found.error_class, reason=found.reason, until=rfc3339(found.until)
    )


def is_undecided(part: Mapping[Any, Any]) -> bool:
    """Whether a part waits for a person's decision."""
    return part["state"] == "unknown" and part["asked_at"] is not None and not part["settled"]


def message_detail(
    row: RowMapping, files: Sequence[RowMapping], history: History, wait: Wait | None
) -> types.MessageDetail:
    """A message with its attempts, receipts and parts, and what it waits for."""
    number = {part["id"]: part["part"] for part in history.parts}
    last = history.attempts[-1] if history.attempts else None
    fields = _message_fields(row, files, last)
    if fields["error"] is None and wait is not None and wait.error_class:
        fields["error"] = types.MessageError(code=wait.code, error_class=wait.error_class, detail=wait.reason)
    return types.MessageDetail(
        **fields,
        waiting=waiting(wait),
        undecided=any(map(is_undecided, history.parts)),
        attempts=tries(history.attempts, number),
        receipts=[
            types.Receipt(
                status=heard["status"],
                at=moment(heard["at"]),
                received_at=moment(heard["received_at"]),
                recipient=heard["recipient"],
                applied=bool(heard["applied"]),
                part=number.get(heard["outbox_id"]),
                error=error(heard["error"]),
            )
            for heard in history.receipts
        ],
        parts=[
            types.Part(
                id=part["id"],
                part=part["part"],
                state=part["state"],
                external_id=part["external_id"],
                attempts=part["attempts"],
                not_before=rfc3339(part["not_before"]),
                sent_at=rfc3339(part["sent_at"]),
                error=error(part["error"]),
            )
            for part in history.parts
        ]
        if len(history.parts) > 1
        else [],
    )


def verdict(given: Verdict) -> types.VerdictView:
    """What a rule says."""
    until = given.until
    return types.VerdictView(
        rule=given.rule,
        decision=given.decision,
        reason=given.reason,
        source=given.source,
        until=None if until is None else rfc3339(micros(until)),
        remedy=given.remedy,
    )


# --- people -----------------------------------------------------------------------------------------------------------


def identity(row: RowMapping, window: types.WindowView) -> types.Identity:
    """What one channel knows of a person."""
    return types.Identity(
        id=row["id"],
        channel=row["channel"],
        account=row["account"],
        external_id=row["external_id"],
        name=row["name"],
        handle=row["handle"],
        profile=_decode(row["profile"]),
        state=row["state"],
        opted_out_of=_decode(row["optouts"]),
        last_inbound_at=rfc3339(row["last_inbound_at"]),
        window=window,
    )


def contact(
    row: RowMapping, values: Iterable[RowMapping], identities: list[types.Identity], known: Collection[str]
) -> types.Contact:
    """A contact with what is visible of it. `known`: the custom attributes there are."""
    found, origins = attributes(row, values, identities, known)
    return types.Contact(
        id=row["id"],
        name=row["name"],
        language=row["language"],
        organization=row["organization"],
        tags=_decode(row["tags"]),
        vip=bool(row["vip"]),
        attributes=found,
        values=origins,
        identities=identities,
        created_at=moment(row["created_at"]),
        last_seen_at=moment(row["last_seen_at"]),
    )


def attribute(entry: Mapping[str, Any], standard: frozenset[str]) -> types.Attribute:
    """A contact attribute."""
    return types.Attribute(
        name=entry["name"],
        title=entry["title"] or entry["name"],
        kind=entry["kind"],
        type=entry["type"],
        choices=list(entry["choices"]),
        position=entry["position"],
        visible=bool(entry["visible"]),
        unique=bool(entry["unique_value"]),
        standard=entry["name"] in standard,
        channels=list(entry["channels"]),
        managed_by=entry["managed_by"],
        editable=bool(entry["editable"]),
    )


def deletion(row: RowMapping) -> types.Deletion:
    """A deleted contact."""
    return types.Deletion(
        contact_id=row["contact_id"],
        deleted_by=row["deleted_by"],
        deleted_at=moment(row["deleted_at"]),
        channels=_decode(row["channels"]),
        removed=_decode(row["removed"]),
    )
