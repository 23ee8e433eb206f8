"""A judged message as rows: its own, its parts in the outbox, its files, its ids; and answers to repeats."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, select

from gateway.core import Core
from gateway.drafts import Draft, as_part, dressed
from gateway.ids import micros, new_id
from gateway.requests import Denied, RequestError, Submitted
from gateway.store.many import insert_many
from gateway.store.outcomes import held_by
from gateway.store.schema import idempotency
from gateway.store.tickets import to_json
from gateway.tickets import Actor
from normalizers.model import ContactCards, Interactive, Link, Location, OutboundMessage
from outbox.judge import Judgment

_encode = msgspec.json.Encoder().encode
_read_answer: msgspec.json.Decoder[Submitted | Denied] = msgspec.json.Decoder(Submitted | Denied)
_WORDING = frozenset({"type", "sub_type", "index", "parameter_name"})  # how a platform words a component: no text
_FILE_DEFAULTS: dict[str, Any] = {"sha256": "", "reason": "", "ref": "", "content_id": ""}


def message_row(draft: Draft, author: Actor, status: str, automatic: str, now: int) -> dict[str, Any]:
    """The message as the thread shows it."""
    message, place = draft.message, draft.place
    mail = message.mail
    told = message.template or message.content
    answers = place.last is not None and (mail is not None or place.conversation["kind"] == "public")
    return {
        "id": message.id,
        "ticket_id": place.ticket["id"],
        "conversation_id": place.conversation["id"],
        "contact_id": place.ticket["contact_id"],
        "identity_id": place.identity["id"],
        "direction": "outbound",
        "visibility": message.visibility,
        "channel": message.channel,
        "account": message.account,
        "external_id": mail.message_id if mail is not None and status != "sent" else "",
        "kind": _kind(message),
        "subject": mail.subject if mail is not None else "",
        "text": message.text or _template_text(message) or _content_text(message),
        "html": message.html,
        "content": None if told is None else _encode(told).decode(),
        "in_reply_to": place.last["id"] if answers and place.last is not None else draft.answers,
        "author": to_json(author),
        "purpose": message.purpose,
        "automatic": automatic,
        "status": status,
        "sent_at": now if status == "sent" else None,
        "created_at": now,
        "words": "" if message.visibility == "note" else draft.words,
    }


def _kind(message: OutboundMessage) -> str:
    if message.template is not None:
        return "template"
    if message.content is not None:
        return str(message.content.__struct_config__.tag)
    return message.files[0].kind if message.files and not message.text else "text"


def _template_text(message: OutboundMessage) -> str:
    """What an agent reads in the place of a template's text, which only the platform knows."""
    template = message.template
    if template is None:
        return ""
    return " | ".join((f"[{template.name}]", *_texts_in(template.parameters)))


def _texts_in(given: Any) -> Iterator[str]:
    """What fills a template's places, wherever it stands."""
    if isinstance(given, Mapping):
        for name, value in given.items():
            if name not in _WORDING:
                yield from _texts_in(value)
    elif isinstance(given, list | tuple):
        for value in given:
            yield from _texts_in(value)
    elif given not in (None, ""):
        yield str(given)


def _content_text(message: OutboundMessage) -> str:
    """What an agent reads of content that goes without words."""
    match message.content:
        case Location() as place:
            return ", ".join(filter(None, (place.name, place.address))) or f"{place.latitude}, {place.longitude}"
        case ContactCards() as cards:
            return ", ".join(card.name for card in cards.contacts if card.name)
        case Link() as link:
            return " ".join(filter(None, (link.title, link.url)))
        case Interactive() as offer:
            shown = offer.values.get("cards") or ()
            titles = [str(card.get("title", "")) for card in shown if isinstance(card, dict)]
            return " | ".join(filter(None, titles))
        case _:
            return ""


def file_rows(files: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A message's files as its thread shows them."""
    return [_FILE_DEFAULTS | file for file in files]


def held_error(judgment: Judgment) -> str | None:
    """Why a message is held from the start, as `outcomes.stop` says of one held later. A pause tells of itself, and as
    long as it lasts."""
    if judgment.decision != "defer" or (verdict := judgment.decisive).rule == "paused":
        return None
    return to_json(held_by(verdict))


def part_rows(
    core: Core, draft: Draft, judgment: Judgment, now: int, *, bulk: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The parts of a message in their order, as they are queued, and the ids platforms will know them by. What the
    rules defer is held until then, and late only from when it is due."""
    until: datetime | None = judgment.until if judgment.decision == "defer" else None
    queued_at = max(now, micros(judgment.due)) if until is not None and judgment.due is not None else now
    rows: list[dict[str, Any]] = []
    refs: list[dict[str, Any]] = []
    for number, message in enumerate(judgment.parts):
        part_id = new_id()
        part = dressed(core, as_part(core, message, part_id, number), draft.fields)
        due = micros(until) if until is not None else now
        rows.append(
            {
                "id": part_id, "message_id": draft.message.id, "part": number,
                "conversation_id": draft.place.conversation["id"], "account": part.account, "channel": part.channel,
                "priority": int(bulk), "state": "held" if until is not None and number == 0 else "queued",
                "payload": _encode(part).decode(), "key": part.key, "not_before": due if number == 0 else None,
                "queued_at": queued_at, "error": held_error(judgment) if number == 0 else None,
            }
        )  # fmt: skip
        if part.mail is not None:
            refs.append(
                {"account": part.account, "ref": part.mail.message_id, "message_id": draft.message.id,
                 "outbox_id": part_id}
            )  # fmt: skip
    return rows, refs


_ANSWER = select(idempotency.c.fingerprint, idempotency.c.response).where(
    idempotency.c.scope == bindparam("b_scope"), idempotency.c.key == bindparam("b_key")
)


# --- repeats ----------------------------------------------------------------------------------------------------------


def fingerprint(*parts: Any) -> str:
    """A hash of a request, equal for equal ones."""
    return hashlib.sha256(_encode(parts)).hexdigest()


def answered(connection: Connection, scope: str, key: str, print_: str) -> Submitted | Denied | None:
    """The answer this key got before, None for a new one. Raises `RequestError` when it came with another body."""
    if not key:
        return None
    row = connection.execute(_ANSWER, {"b_scope": scope, "b_key": key}).first()
    if row is None:
        return None
    if row.fingerprint != print_:
        raise RequestError(
            409, "idempotency_conflict", "this Idempotency-Key was used with another request", "Idempotency-Key"
        )
    return _read_answer.decode(row.response)


def remember(connection: Connection, scope: str, key: str, print_: str, answer: Submitted | Denied, now: int) -> None:
    """Keep the answer for a repeat. A concurrent one with the same key fails here, and is then answered from it."""
    if key:
        row = {
            "scope": scope, "key": key, "fingerprint": print_, "status": 202 if isinstance(answer, Submitted) else 422,
            "response": _encode(answer).decode(), "created_at": now,
        }  # fmt: skip
        insert_many(connection, idempotency, [row])
