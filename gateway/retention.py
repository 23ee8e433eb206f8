"""What is kept only for a time: raw payloads, idempotency keys, uploads nobody used."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from sqlalchemy import Connection, delete, exists, func, select, update

from gateway.core import Core
from gateway.ids import micros
from gateway.store import suppressions, suspended
from gateway.store.dialect import StoreUnavailable
from gateway.store.schema import attachments, dead_letters, deliveries, events, idempotency, tickets, uploads
from gateway.store.tickets import change
from gateway.tickets import SYSTEM, Patch

log = logging.getLogger(__name__)

EVERY_S = 3600.0
CHUNK = 500
IDEMPOTENCY_KEPT = timedelta(days=7)
UPLOADS_KEPT = timedelta(days=2)


class Retention:
    """Removes what is past its time, a little at a time. `run` until cancelled."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def run(self) -> None:
        while True:
            try:
                await self.step()
            except StoreUnavailable:
                pass  # the next round does it
            except Exception:
                log.exception("retention.failed")
            await asyncio.sleep(EVERY_S)

    async def step(self) -> None:
        """Everything that is due now."""
        now = micros(self._core.clock())
        raw_before = now - self._core.settings.retention.raw_days * 86_400_000_000
        dropped = CHUNK
        while dropped == CHUNK:  # a little at a time, so that nobody waits long for the store
            dropped = await self._core.database.write(lambda connection: _drop_raw(connection, raw_before))
        dropped = CHUNK
        while dropped == CHUNK:
            dropped = await self._core.database.write(lambda connection: _drop_letters(connection, raw_before))
        await self._close_solved(now)
        await self._suspended(now, raw_before)
        await self._core.database.write(lambda connection: suppressions.expire(connection, now))
        keys_before = now - IDEMPOTENCY_KEPT // timedelta(microseconds=1)
        await self._core.database.write(
            lambda connection: connection.execute(delete(idempotency).where(idempotency.c.created_at < keys_before))
        )
        uploads_before = now - UPLOADS_KEPT // timedelta(microseconds=1)
        for path in await self._core.database.write(lambda connection: _drop_uploads(connection, uploads_before)):
            self._core.blobs.remove(path)

    async def _suspended(self, now: int, decided_before: int) -> None:
        """What nobody decided on in time is dropped; decisions of long ago are forgotten."""

        def job(connection: Connection) -> int:
            old = suspended.open_ids(connection, CHUNK, expired_at=now)
            suspended.drop(connection, old, "retention", now)
            return len(old)

        while await self._core.database.write(job) == CHUNK:
            log.info("retention.dropping_suspended")
        await self._core.database.write(lambda connection: suspended.forget_settled(connection, decided_before))

    async def _close_solved(self, now: int) -> None:
        """Close what has been solved for longer than the operator wants; nothing closes by itself otherwise."""
        days = self._core.settings.tickets.close_solved_after
        if days is None:
            return
        before = now - int(days * 86_400_000_000)
        while await self._core.database.write(lambda connection: _close(connection, before, now)) == CHUNK:
            log.info("retention.closing_tickets")


def _close(connection: Connection, before: int, now: int) -> int:
    """Close tickets that have been solved since `before`; how many were found."""
    old = select(tickets.c.id).where(tickets.c.status == "solved", tickets.c.solved_at < before).limit(CHUNK)
    ids = list(connection.execute(old).scalars())
    for ticket_id in ids:
        change(connection, ticket_id, Patch(status="closed"), SYSTEM, now, note="solved for long enough")
    return len(ids)


def _drop_raw(connection: Connection, before: int) -> int:
    """Old raw payloads go; their events keep the dedupe keys and lose what they said. What a dead letter or a
    suspended message waits for is kept until somebody has decided."""
    waiting = dead_letters.c.replayed_at.is_(None), dead_letters.c.dropped_at.is_(None)
    unread = exists().where(dead_letters.c.ref == deliveries.c.id, *waiting)
    unfiled = exists().where(events.c.delivery_id == deliveries.c.id, dead_letters.c.ref == events.c.id, *waiting)
    held = exists().where(events.c.delivery_id == deliveries.c.id, events.c.state == "suspended")
    done = deliveries.c.received_at < before, deliveries.c.state.in_(("done", "dead"))
    old = select(deliveries.c.id).where(*done, ~unread, ~unfiled, ~held).limit(CHUNK)
    ids = list(connection.execute(old).scalars())
    if ids:
        settled = events.c.state.in_(("done", "ignored", "unroutable", "dead"))
        connection.execute(update(events).where(events.c.delivery_id.in_(ids), settled).values(payload="{}"))
        connection.execute(delete(deliveries).where(deliveries.c.id.in_(ids)))
    return len(ids)


def _drop_letters(connection: Connection, before: int) -> int:
    """Dead letters that somebody settled long ago go: their words may be a customer's."""
    old = (
        select(dead_letters.c.id)
        .where(func.coalesce(dead_letters.c.replayed_at, dead_letters.c.dropped_at) < before)
        .limit(CHUNK)
    )
    ids = list(connection.execute(old).scalars())
    connection.execute(delete(dead_letters).where(dead_letters.c.id.in_(ids)))
    return len(ids)


def _drop_uploads(connection: Connection, before: int) -> list[str]:
    """Uploads that went into no message; the files to remove."""
    used = exists().where(attachments.c.path == uploads.c.path)
    rows = connection.execute(
        select(uploads.c.id, uploads.c.path).where(uploads.c.created_at < before, ~used).limit(CHUNK)
    ).all()
    if rows:
        connection.execute(delete(uploads).where(uploads.c.id.in_([row.id for row in rows])))
    return [row.path for row in rows]
