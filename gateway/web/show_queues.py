"""From rows of the outbox and of dead letters to what the API shows."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from sqlalchemy import RowMapping

from gateway.ids import rfc3339
from gateway.store.dead import Evidence
from gateway.store.payloads import UNREADABLE
from gateway.store.waiting import Wait
from gateway.web import show, types
from gateway.web.show import moment

_decode = msgspec.json.decode


def outbox_entry(row: RowMapping, wait: Wait | None) -> types.OutboxEntry:
    """A part in the outbox."""
    return types.OutboxEntry(
        id=row["id"],
        message_id=row["message_id"],
        ticket_id=row["ticket_id"] or "",
        part=row["part"],
        account=row["account"],
        channel=row["channel"],
        state=row["state"],
        attempts=row["attempts"],
        queued_at=moment(row["queued_at"]),
        not_before=rfc3339(row["not_before"]),
        lease_until=rfc3339(row["lease_until"]),
        sent_at=rfc3339(row["sent_at"]),
        external_id=row["external_id"],
        settled=bool(row["settled"]),
        undecided=show.is_undecided(row),
        waiting=show.waiting(wait),
        error=show.error(row["error"]),
    )


def _letter_fields(row: RowMapping) -> dict[str, Any]:
    return {
        "id": row["id"],
        "direction": row["direction"],
        "kind": row["kind"],
        "ref": row["ref"],
        "account": row["account"],
        "channel": row["channel"],
        "message_id": row["message_id"] or None,
        "error": types.MessageError(code=row["code"], error_class=row["error_class"], detail=row["detail"]),
        "attempts": row["attempts"],
        "created_at": moment(row["created_at"]),
        "replayed_at": rfc3339(row["replayed_at"]),
        "dropped_at": rfc3339(row["dropped_at"]),
    }


def dead_letter(row: RowMapping) -> types.DeadLetter:
    """A dead letter."""
    return types.DeadLetter(**_letter_fields(row))


def dead_letter_detail(letter: RowMapping, known: Evidence) -> types.DeadLetterDetail:
    """A dead letter with all that is kept of it."""
    return types.DeadLetterDetail(
        **_letter_fields(letter),
        raw=None if known.delivery is None else _raw(known.delivery),
        event=None if known.event is None else _decode(known.event["payload"]),
        history=show.tries(known.attempts, {letter["ref"]: known.part["part"] if known.part else 0}),
        payload=None if known.part is None else _kept(known.part["payload"]),
    )


def _kept(payload: str) -> dict[str, Any] | None:
    """A stored message or errand, as far as it can be read."""
    try:
        tree = _decode(payload)
    except UNREADABLE:
        return None
    return tree if isinstance(tree, dict) else None


def _raw(row: RowMapping) -> types.RawDelivery:
    body = bytes(row["body"])
    try:
        text, encoded = body.decode("utf-8"), None
    except UnicodeDecodeError:
        text, encoded = None, base64.b64encode(body).decode()
    return types.RawDelivery(
        id=row["id"], source=row["source"], received_at=moment(row["received_at"]), headers=_decode(row["headers"]),
        text=text, base64=encoded,
    )  # fmt: skip


def dead_job(row: RowMapping) -> types.DeadJob:
    """A job on dead letters."""
    wanted: dict[str, Any] = _decode(row["filter"])
    shown = {
        name: value for name, value in wanted.items() if name in ("direction", "account", "channel", "kind", "code")
    }
    if wanted.get("error_class"):
        shown["class"] = wanted["error_class"]
    shown |= {f"{name}": rfc3339(wanted[name]) for name in ("before", "after") if wanted.get(name) is not None}
    return types.DeadJob(
        id=row["id"], action=row["action"], state=row["state"], filter=shown, per_second=row["per_second"],
        total=row["total"], done=row["done"], refused=row["refused"], actor=show.author(row["actor"]),
        created_at=moment(row["created_at"]), updated_at=moment(row["updated_at"]),
    )  # fmt: skip
