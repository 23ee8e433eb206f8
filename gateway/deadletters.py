"""Dead letters, handled: tried again by the same code with the same keys, or put aside for good, one or many."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, delete, select, update

from gateway import errands, replies
from gateway.bounds import PER_SECOND
from gateway.bus import LiveEvent
from gateway.core import Core
from gateway.ids import micros
from gateway.intake.worker import TOPIC
from gateway.requests import RequestError
from gateway.store import dead, states
from gateway.store import errands as errand_store
from gateway.store.dialect import StoreUnavailable
from gateway.store.schema import deliveries, events, messages
from gateway.store.tickets import to_json
from gateway.tickets import Actor, Entry
from outbox.crashpoints import reach

log = logging.getLogger(__name__)

JOBS = "dead_jobs"  # the bus's topic
_AGAIN: dict[str, Any] = {"state": "retry", "attempts": 0, "not_before": None, "error": ""}
_SECOND = 1_000_000
_LEASE = 60 * _SECOND
_POLL_S = 1.0
_read_filter = msgspec.json.Decoder(dead.Filter).decode


class DeadLetterError(Exception):
    """A dead letter that cannot be handled: it is unknown, or was handled before."""


async def replay(core: Core, letter_id: str, actor: Actor) -> None:
    """Try again. Inbound: from the kept raw payload on; outbound: the rules judge anew. Harmless when done twice.

    Raises `DeadLetterError`, also when a rule refuses it now, and what `replies.replay_dead` raises.
    """
    letter = await core.database.read(lambda connection: dead.letter(connection, letter_id, None))
    if letter is None:
        raise DeadLetterError("there is no such dead letter")
    if letter["kind"] == "errand":
        now = micros(core.clock())
        if not await core.database.write(lambda connection: _replay_errand(connection, letter, now)):
            raise DeadLetterError("it was handled before")
        core.bus.wake(f"{errands.TOPIC}.{letter['account']}")
        return
    if letter["direction"] == "outbound":
        answer = await replies.replay_dead(core, letter_id, actor)
        if isinstance(answer, replies.Denied):
            raise DeadLetterError(answer.verdicts[0].reason)
        return
    now = micros(core.clock())
    if not await core.database.write(lambda connection: _replay_inbound(connection, letter, now)):
        raise DeadLetterError("it was handled before")
    log.info("dead_letter.replayed", extra={"dead_id": letter_id, "actor": actor.id or actor.name})
    core.bus.wake(TOPIC)


async def drop(core: Core, letter_id: str, actor: Actor) -> None:
    """Put a dead letter aside for good; the raw payload stays until its time is over. Raises `DeadLetterError`."""
    now = micros(core.clock())

    def job(connection: Connection) -> list[LiveEvent]:
        letter = dead.letter(connection, letter_id, None)
        if letter is None or not dead.settle(connection, letter_id, "dropped_at", now):
            raise DeadLetterError("there is no such open dead letter")
        ticket = connection.execute(select(messages.c.ticket_id).where(messages.c.id == letter["message_id"])).scalar()
        if ticket is None:
            return []
        data = {"message_id": letter["message_id"], "error": {"class": letter["error_class"], "code": letter["code"]}}
        states.log_many(connection, {ticket: [Entry("reply.dropped", actor, data)]}, now)
        live = {"ticket_id": ticket, "message_id": letter["message_id"], "status": "failed"}
        return [LiveEvent("message.updated", live, letter["account"])]

    core.bus.publish(await core.database.write(job))
    log.warning("dead_letter.dropped", extra={"dead_id": letter_id, "actor": actor.id or actor.name})


def _replay_errand(connection: Connection, letter: RowMapping, now: int) -> bool:
    """Hand the errand out again, under the id it always had."""
    if not dead.settle(connection, letter["id"], "replayed_at", now):
        return False
    return errand_store.again(connection, letter["ref"], now)


def _replay_inbound(connection: Connection, letter: RowMapping, now: int) -> bool:
    """Hand it to the intake again: an unreadable item is normalised anew, which is what a fix is for."""
    if not dead.settle(connection, letter["id"], "replayed_at", now):
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


# --- many of them -----------------------------------------------------------------------------------------------------


async def start(core: Core, action: str, wanted: dead.Filter, per_second: int, actor: Actor) -> RowMapping:
    """Order that every open letter `wanted` names is replayed or dropped (`action`), so many a second; the job."""
    now = micros(core.clock())

    def job(connection: Connection) -> RowMapping:
        made = dead.start_job(connection, action, wanted, per_second, to_json(actor), now)
        reach("job.written")
        return made

    made = await core.database.write(job)
    reach("job.committed")
    log.warning("dead_letter.job", extra={"job": made["id"], "action": action, "letters": made["total"]})
    core.bus.wake(JOBS)
    return made


def filter_of(job: RowMapping) -> dead.Filter:
    """Which letters a job is about."""
    return _read_filter(job["filter"])


class Undertaker:
    """Carries out the jobs: the next letters of each, once a second. `run` until cancelled.

    A job is kept with how far it has come. A crash between a letter and that note hands the letter out again, when it
    is open no longer: nothing is done twice.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    async def run(self) -> None:
        while True:
            try:
                while await self.step():
                    pass
            except StoreUnavailable:
                pass  # the next round does it
            except Exception:
                log.exception("dead_letter.job_failed")
            await self._core.bus.wait(JOBS, _POLL_S)

    async def step(self) -> bool:
        """A second's worth of one job; False when no job has anything to do now."""
        core, now = self._core, micros(self._core.clock())
        job = await core.database.write(lambda connection: dead.take_job(connection, now, now + _LEASE))
        if job is None:
            return False
        actor, wanted = msgspec.json.decode(job["actor"], type=Actor), filter_of(job)
        count = PER_SECOND.nearest(job["per_second"])  # a job may be older than its bounds
        letters = await core.database.read(lambda c: dead.oldest(c, wanted, count, job["last_id"], job["end_id"]))
        for letter in letters:
            if not await self._carry_out(job, letter["id"], actor):
                return True
        ended = len(letters) < count
        values: dict[str, Any] = {"not_before": now + _SECOND, "updated_at": micros(core.clock())}
        if ended:
            values["state"] = "done"
        await core.database.write(lambda connection: dead.go_on(connection, job["id"], values))
        if ended:
            log.info("dead_letter.job_done", extra={"job": job["id"]})
        return True

    async def _carry_out(self, job: RowMapping, letter_id: str, actor: Actor) -> bool:
        """One letter; False when the job was cancelled meanwhile."""
        core, done = self._core, True
        current = await core.database.read(lambda connection: dead.job(connection, job["id"]))
        if current is None or current["state"] != "running":
            return False
        try:
            await (replay if job["action"] == "replay" else drop)(core, letter_id, actor)
        except (DeadLetterError, RequestError):
            done = False  # refused by a rule, which stands on its ticket, or handled by somebody else
        now = micros(core.clock())
        await core.database.write(
            lambda connection: dead.count(connection, job["id"], int(done), int(not done), letter_id, now)
        )
        return True
