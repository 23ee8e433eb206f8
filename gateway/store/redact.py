"""What a customer unsends goes: text, files, and the slice of the raw payload it came in."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select, update

from gateway.store import search_index
from gateway.store.many import among
from gateway.store.schema import attachments, deliveries, events, message_refs, messages
from normalizers._fields import NotWellFormed, load_json
from normalizers.model import InboundMessage, MessageEdited

if TYPE_CHECKING:  # intake imports this module
    from gateway.intake.records import EventRow, Known

_STEP = re.compile(r"\.([A-Za-z0-9_]+)|\[(\d+)\]")


def redact(connection: Connection, known: Known, at: int) -> None:
    """Empty a message, mark its files as gone, and cut its slice out of the kept delivery."""
    named = select(messages.c.external_id).where(messages.c.id == known.id).scalar_subquery()
    connection.execute(
        update(events)
        .where(events.c.delivery_id == known.delivery_id, events.c.dedupe_key == named)
        .values(payload="{}")
    )
    connection.execute(
        update(messages)
        .where(messages.c.id == known.id)
        .values(text="", html="", full_text="", content=None, context=None, subject="", reply_token="", deleted_at=at)
    )
    connection.execute(
        update(attachments)
        .where(attachments.c.message_id == known.id)
        .values(state="deleted", url="", ref="", filename="", reason="deleted by its author")
    )
    search_index.forget(connection, [known.id])
    if known.delivery_id:
        _cut(connection, known.delivery_id, known.raw_path)
    _redact_edits(connection, known)


def _redact_edits(connection: Connection, known: Known) -> None:
    """What the message was changed to is its words as well. An account's edits are few and next to each other."""
    names = set(connection.execute(select(message_refs.c.ref).where(message_refs.c.message_id == known.id)).scalars())
    accounts = select(messages.c.account).where(messages.c.id == known.id).scalar_subquery()
    edits = select(events.c.id, events.c.delivery_id, events.c.payload).where(
        events.c.account == accounts, events.c.kind == "message_edited", events.c.payload != "{}"
    )
    for event_id, delivery_id, payload in connection.execute(edits).all():
        edit = json.loads(payload)
        if edit.get("target") in names:
            connection.execute(update(events).where(events.c.id == event_id).values(payload="{}"))
            _cut(connection, delivery_id, edit.get("path", ""))


def forget_copies(connection: Connection, repeated: Sequence[EventRow]) -> None:
    """Of what was delivered once more: the words of messages that were taken back before are cut out of that, too."""
    named: dict[tuple[str, str], list[EventRow]] = {}
    for row in repeated:
        if isinstance(row.event, InboundMessage | MessageEdited):
            name = row.event.target if isinstance(row.event, MessageEdited) else row.event.id
            named.setdefault((row.account, name), []).append(row)
    if not named:
        return
    accounts, refs = {account for account, _ in named}, {name for _, name in named}
    gone = (
        select(message_refs.c.account, message_refs.c.ref)
        .join(messages, messages.c.id == message_refs.c.message_id)
        .where(
            message_refs.c.account.in_(accounts),
            among(connection, message_refs.c.ref, refs),
            messages.c.deleted_at.is_not(None),
        )
    )
    for account, name in connection.execute(gone).all():
        for row in named.get((account, name), ()):
            _cut(connection, row.delivery_id, row.event.path)


def _cut(connection: Connection, delivery_id: str, path: str) -> None:
    body = connection.execute(select(deliveries.c.body).where(deliveries.c.id == delivery_id)).scalar()
    if body is not None:
        cut = update(deliveries).where(deliveries.c.id == delivery_id).values(body=without(bytes(body), path))
        connection.execute(cut)


def without(body: bytes, path: str) -> bytes:
    """The JSON body with the value at `path` ("$.entry[0].messages[1]") replaced; empty when it cannot be cut out."""
    try:
        tree = load_json(body)
    except NotWellFormed:
        return b""
    steps: list[str | int] = [int(index) if index else name for name, index in _STEP.findall(path.removeprefix("$"))]
    if not steps:
        return b""
    place: Any = tree
    try:
        for step in steps[:-1]:
            place = place[step]
        place[steps[-1]] = {"redacted": True}
    except (KeyError, IndexError, TypeError):
        return b""
    return json.dumps(tree, separators=(",", ":")).encode()


def without_naming(body: bytes, values: Collection[str], words: Collection[str]) -> bytes:
    """The JSON body without the innermost objects that name somebody by one of the `values`; empty when one of the
    `words` stands in it even then, or when it is no JSON."""
    if not body:
        return b""
    try:
        tree = load_json(body)
    except NotWellFormed:
        return b""
    rest = json.dumps(_pruned(tree, frozenset(values)), separators=(",", ":"), ensure_ascii=False)
    if any(word in rest for word in words):
        return b""
    return rest.encode("utf-8", "surrogatepass")


def _pruned(tree: Any, values: frozenset[str]) -> Any:
    if isinstance(tree, list):
        return [_pruned(item, values) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if any(isinstance(item, str | int) and str(item).removeprefix("+") in values for item in tree.values()):
        return {"redacted": True}
    return {key: _pruned(item, values) for key, item in tree.items()}
