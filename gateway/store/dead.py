"""Dead letters in the database: found by what they are, read with all that is known of them, handled in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, func, insert, select, text, update

from gateway.ids import new_id
from gateway.store import dialect
from gateway.store.schema import attempts, dead_jobs, dead_letters, deliveries, errands, events, outbox
from gateway.store.search import Visible, seen
from gateway.store.views import Rows

OPEN = text("replayed_at IS NULL AND dropped_at IS NULL")  # word for word the condition of `ix_dead_letters_open`
_encode = msgspec.json.Encoder().encode


class Filter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which open dead letters are meant; what is empty says nothing. Moments in microseconds.

    `visible`: the accounts of who asks, None for all.
    """

    direction: str = ""
    account: str = ""
    channel: str = ""
    kind: str = ""
    error_class: str = ""
    code: str = ""
    before: int | None = None
    after: int | None = None
    visible: tuple[str, ...] | None = None

    @property
    def conditions(self) -> list[Any]:
        """What it says, as conditions on `dead_letters`."""
        found: list[Any] = [OPEN, seen(dead_letters.c.account, self.visible)]
        for column in ("direction", "account", "channel", "kind", "error_class", "code"):
            if wanted := getattr(self, column):
                found.append(dead_letters.c[column] == wanted)
        if self.before is not None:
            found.append(dead_letters.c.created_at < self.before)
        if self.after is not None:
            found.append(dead_letters.c.created_at >= self.after)
        return found


def page(connection: Connection, wanted: Filter, limit: int, before: str | None = None) -> Rows:
    """Dead letters that are neither replayed nor dropped, the newest first."""
    statement = select(dead_letters).where(*wanted.conditions)
    if before is not None:
        statement = statement.where(dead_letters.c.id < before)
    return connection.execute(statement.order_by(dead_letters.c.id.desc()).limit(limit)).mappings().all()


def oldest(connection: Connection, wanted: Filter, limit: int, after: str = "", end: str = "") -> Rows:
    """The same, the oldest first, behind `after` and up to `end`."""
    statement = select(dead_letters).where(*wanted.conditions, dead_letters.c.id > after)
    if end:
        statement = statement.where(dead_letters.c.id <= end)
    return connection.execute(statement.order_by(dead_letters.c.id).limit(limit)).mappings().all()


def letter(connection: Connection, letter_id: str, visible: Visible) -> RowMapping | None:
    """One dead letter, handled or not."""
    statement = select(dead_letters).where(dead_letters.c.id == letter_id, seen(dead_letters.c.account, visible))
    return connection.execute(statement).mappings().first()


def settle(connection: Connection, letter_id: str, column: str, now: int) -> bool:
    """Write the moment down at which an open letter was handled; False when it was handled before."""
    statement = update(dead_letters).where(dead_letters.c.id == letter_id, OPEN).values({column: now})
    return connection.execute(statement).rowcount > 0


class Evidence(msgspec.Struct):
    """What a letter is about: the kept delivery of an inbound one, the part and the tries of an outbound one.

    Of an errand the part is the errand."""

    delivery: RowMapping | None = None
    event: RowMapping | None = None
    part: RowMapping | None = None
    attempts: Rows = ()


def evidence(connection: Connection, found: RowMapping) -> Evidence:
    """All that is kept of it."""
    ref, known = found["ref"], Evidence()
    if found["kind"] == "errand":
        known.part = connection.execute(select(errands).where(errands.c.id == ref)).mappings().first()
        return known
    if found["direction"] == "outbound":
        tried = select(attempts).where(attempts.c.outbox_id == ref).order_by(attempts.c.id)
        known.attempts = connection.execute(tried).mappings().all()
        known.part = connection.execute(select(outbox).where(outbox.c.id == ref)).mappings().first()
        return known
    if found["kind"] == "event":
        known.event = connection.execute(select(events).where(events.c.id == ref)).mappings().first()
        ref = known.event["delivery_id"] if known.event is not None else ""
    known.delivery = connection.execute(select(deliveries).where(deliveries.c.id == ref)).mappings().first()
    return known


# --- jobs -------------------------------------------------------------------------------------------------------------


def start_job(connection: Connection, action: str, wanted: Filter, per_second: int, actor: str, now: int) -> RowMapping:
    """Order that all letters there are now are handled so; `actor` as JSON. The job."""
    statement = select(func.count(), func.max(dead_letters.c.id)).where(*wanted.conditions)
    total, last = connection.execute(statement).one()
    job_id = new_id()
    connection.execute(
        insert(dead_jobs).values(
            id=job_id, action=action, filter=_encode(wanted).decode(), per_second=per_second, actor=actor,
            state="running" if total else "done", end_id=last or "", total=total, created_at=now, updated_at=now,
            not_before=now,
        )
    )  # fmt: skip
    found = job(connection, job_id)
    assert found is not None
    return found


def job(connection: Connection, job_id: str) -> RowMapping | None:
    """One job."""
    return connection.execute(select(dead_jobs).where(dead_jobs.c.id == job_id)).mappings().first()


def jobs(connection: Connection, limit: int) -> Sequence[RowMapping]:
    """The newest jobs."""
    return connection.execute(select(dead_jobs).order_by(dead_jobs.c.id.desc()).limit(limit)).mappings().all()


def take_job(connection: Connection, now: int, lease: int) -> RowMapping | None:
    """A job with work to do, kept from others until `lease`."""
    due = select(dead_jobs).where(dead_jobs.c.state == "running", dead_jobs.c.not_before <= now)
    statement = dialect.for_claim(connection, due.order_by(dead_jobs.c.id).limit(1))
    found = connection.execute(statement).mappings().first()
    if found is not None:
        connection.execute(update(dead_jobs).where(dead_jobs.c.id == found["id"]).values(not_before=lease))
    return found


def go_on(connection: Connection, job_id: str, values: dict[str, Any]) -> None:
    """Write down how far a job has come; one cancelled meanwhile stays cancelled."""
    running = dead_jobs.c.id == job_id, dead_jobs.c.state == "running"
    connection.execute(update(dead_jobs).where(*running).values(values))


def count(connection: Connection, job_id: str, done: int, refused: int, last_id: str, now: int) -> None:
    """Letters handled by a job, whatever state it is in now."""
    connection.execute(
        update(dead_jobs)
        .where(dead_jobs.c.id == job_id)
        .values(done=dead_jobs.c.done + done, refused=dead_jobs.c.refused + refused, last_id=last_id, updated_at=now)
    )


def cancel_job(connection: Connection, job_id: str, now: int) -> bool:
    """End a job early; False when it has ended before."""
    running = dead_jobs.c.id == job_id, dead_jobs.c.state == "running"
    return connection.execute(update(dead_jobs).where(*running).values(state="cancelled", updated_at=now)).rowcount > 0
