"""What stays of a text that goes in several messages when one of them was refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, exists, or_, select, update

from gateway.store import states
from gateway.store.many import among_bound
from gateway.store.payloads import readable
from gateway.store.schema import attempts, outbox
from gateway.store.tickets import to_json
from outbox.ports import Failure

REST = "rest-of-text"  # the code of what was not sent because a part before it was refused

_FAILED = select(outbox.c.message_id).where(among_bound(outbox.c.id, "b_ids"))
_TOGETHER = (
    select(outbox.c.id, outbox.c.message_id, outbox.c.conversation_id, outbox.c.part, outbox.c.payload,
           outbox.c.state, outbox.c.error)
    .where(outbox.c.message_id.in_(_FAILED))
    .order_by(outbox.c.message_id, outbox.c.part)
)  # fmt: skip
_tried = exists(
    select(attempts.c.id).where(
        attempts.c.outbox_id == outbox.c.id, or_(attempts.c.outcome.is_(None), attempts.c.outcome == "unknown")
    )
)
_KEEP = (
    update(outbox)
    .where(outbox.c.id == bindparam("b_id"), states.is_due(), ~_tried)
    .values(state="failed", not_before=None, error=bindparam("b_error"))
)


def hold_back_rest(connection: Connection, failed: Iterable[str], now: int) -> None:
    """Of a text in parts nothing leaves behind a part that was refused: half a sentence tells something else.

    What still waits of it has failed with it, to be sent again with it; files are things of their own, and go. It has
    no dead letter of its own: that of the refused part stands for it.
    """
    ids = set(failed)
    if not ids:
        return
    parts: dict[str, list[Any]] = {}
    for row in connection.execute(_TOGETHER, {"b_ids": list(ids)}):
        parts.setdefault(row.message_id, []).append(row)
    freed: set[str] = set()
    for own in parts.values():
        refused = next((row for row in own if row.id in ids and row.state == "failed" and _is_text(row)), None)
        if refused is None:
            continue
        for row in own:
            if row.part > refused.part and row.state in ("queued", "held") and _is_text(row):
                error = to_json(_after(refused, len(own)))
                if connection.execute(_KEEP, {"b_id": row.id, "b_error": error}).rowcount:
                    freed.add(row.conversation_id)
    states.promote(connection, freed, now)


def _after(refused: Any, count: int) -> Failure:
    cause = msgspec.json.decode(refused.error, type=Failure) if refused.error else Failure("", "permanent")
    why = f"{cause.code} {cause.detail}".strip()
    return Failure(REST, cause.error_class, f"part {refused.part + 1} of {count} was not sent ({why})"[:500])


def _is_text(row: Any) -> bool:
    """Whether a part is words alone. One that cannot be read counts: it may be the middle of a sentence."""
    message = readable(row.payload)
    return message is None or (bool(message.text) and message.file is None and not message.files)


def is_rest(error: str | None) -> bool:
    """Whether a part failed only because one before it was refused."""
    return bool(error) and msgspec.json.decode(error or "", type=Failure).code == REST
