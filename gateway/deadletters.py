"""Dead letters, handled: tried again by the same code with the same keys, or put aside for good."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, RowMapping, delete, select, update

from gateway import replies
from gateway.core import Core
from gateway.ids import micros
from gateway.intake.worker import TOPIC
from gateway.store import queue_views
from gateway.store.schema import dead_letters, deliveries, events
from gateway.tickets import Actor

_AGAIN: dict[str, Any] = {"state": "retry", "attempts": 0, "not_before": None, "error": ""}


class DeadLetterError(Exception):
    """A dead letter that cannot be handled: it is unknown, or was handled before."""


async def open_letters(core: Core) -> list[RowMapping]:
    """All dead letters nobody has handled yet, the oldest first."""
    statement = (
        select(dead_letters)
        .where(dead_letters.c.replayed_at.is_(None), dead_letters.c.dropped_at.is_(None))
        .order_by(dead_letters.c.id)
    )
    return await core.database.read(lambda connection: list(connection.execute(statement).mappings()))


async def replay(core: Core, letter_id: str, actor: Actor) -> None:
    """Try again. Inbound: from the kept raw payload on; outbound: the rules judge anew. Harmless when done twice.

    Raises `DeadLetterError`, also when a rule refuses it now, and what `replies.replay_dead` raises.
    """
    letter = await core.database.read(lambda connection: queue_views.dead_letter(connection, letter_id, None))
    if letter is None:
        raise DeadLetterError("there is no such dead letter")
    if letter["direction"] == "outbound":
        answer = await replies.replay_dead(core, letter_id, actor)
        if isinstance(answer, replies.Denied):
            raise DeadLetterError(answer.verdicts[0].reason)
        return
    now = micros(core.clock())
    if not await core.database.write(lambda connection: _replay_inbound(connection, letter, now)):
        raise DeadLetterError("it was handled before")
    core.bus.wake(TOPIC)


async def drop(core: Core, letter_id: str) -> None:
    """Put a dead letter aside for good; the raw payload stays until its time is over. Raises `DeadLetterError`."""
    now = micros(core.clock())
    if not await core.database.write(lambda connection: queue_views.drop_letter(connection, letter_id, now)):
        raise DeadLetterError("there is no such open dead letter")


def _replay_inbound(connection: Connection, letter: RowMapping, now: int) -> bool:
    """Hand it to the intake again: an unreadable item is normalised anew, which is what a fix is for."""
    if not queue_views.settle_letter(connection, letter["id"], "replayed_at", now):
        return False
    delivery_id = letter["ref"]
    if letter["kind"] == "event":
        event = connection.execute(
            select(events.c.kind, events.c.delivery_id).where(events.c.id == letter["ref"])
        ).first()
        if event is None:
            return True
        if event.kind != "unreadable":
            connection.execute(
                update(events).where(events.c.id == letter["ref"], events.c.state == "dead").values(_AGAIN)
            )
            return True
        connection.execute(delete(events).where(events.c.id == letter["ref"]))
        delivery_id = event.delivery_id
    connection.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery_id, deliveries.c.state.in_(("dead", "done")))
        .values(_AGAIN)
    )
    return True
