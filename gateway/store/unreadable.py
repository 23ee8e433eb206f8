"""Rows of the outbox whose message cannot be read: given up by themselves, so that they hold nobody else.

What was about to leave has failed. What was being sent as its sender died may have arrived, and is `unknown`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, insert, update

from adapters import ErrorClass
from gateway.store import states
from gateway.store.outcomes import dead_letter
from gateway.store.rest import hold_back_rest
from gateway.store.schema import attempts, dead_letters, outbox
from gateway.store.tickets import to_json
from outbox.ports import Failure


class Unreadable(NamedTuple):
    """A row of the outbox whose message cannot be read, and what is wrong with it."""

    row: Row[Any]
    account: str
    problem: str


def _failure(problem: str, error_class: ErrorClass = "permanent") -> Failure:
    return Failure("unreadable", error_class, f"the stored message cannot be read: {problem}"[:500])


def give_up(
    connection: Connection, found: Sequence[Unreadable], now: int
) -> tuple[list[states.Changed], list[dict[str, Any]]]:
    """Messages about to leave that cannot be read have failed: what changed, and their dead letters."""
    letters: list[dict[str, Any]] = []
    for row, account, problem in found:
        failure = _failure(problem)
        values = {"state": "failed", "not_before": None, "error": to_json(failure)}
        connection.execute(update(outbox).where(outbox.c.id == row.id).values(**values))
        letters.append(dead_letter(row.id, row.message_id, account, row.channel, failure, row.attempts, now))
    connection.execute(insert(dead_letters), letters)
    hold_back_rest(connection, [row.id for row, _, _ in found], now)
    changed = states.refresh(connection, [row.message_id for row, _, _ in found], now)
    states.promote(connection, [row.conversation_id for row, _, _ in found], now)
    return changed, letters


def leave_unknown(connection: Connection, found: Sequence[Unreadable], now: int) -> list[states.Changed]:
    """Messages a dead sender left that cannot be read: they may have arrived, and nobody can repeat them."""
    for row, _, problem in found:
        error = to_json(_failure(problem, "unknown"))
        taken = connection.execute(
            update(outbox)
            .where(outbox.c.id == row.id, outbox.c.state == "sending", outbox.c.fence == row.fence)
            .values(state="unknown", unknown_at=now, lease_until=None, not_before=None, error=error)
        )
        if taken.rowcount:
            connection.execute(
                update(attempts)
                .where(attempts.c.outbox_id == row.id, attempts.c.finished_at.is_(None))
                .values(finished_at=now, outcome="unknown", error_class="unknown", code="unreadable", detail=problem)
            )
    return states.refresh(connection, [row.message_id for row, _, _ in found], now)
