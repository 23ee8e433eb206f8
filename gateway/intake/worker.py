"""The worker that files what was kept: in batches, a poison event alone set aside, store trouble sat out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, and_, func, insert, or_, select, text, update

from adapters import Channel
from config.settings import AccountSettings
from gateway import errands
from gateway.automatic import Told
from gateway.automatic.texts import switched_on
from gateway.bus import LiveEvent
from gateway.core import Core
from gateway.crm.work import want_lookups
from gateway.ids import micros, new_id
from gateway.intake import aliases
from gateway.intake import events as stage
from gateway.intake.context import Rules
from gateway.intake.decide import decide
from gateway.intake.load import load
from gateway.intake.records import Changes, EventRow
from gateway.intake.save import dead_letter, mark_deliveries, save
from gateway.intake.suspension import OPEN, Screen
from gateway.store import conflicts, merging, vip
from gateway.store.detours import TakeOver, stay
from gateway.store.dialect import StoreUnavailable
from gateway.store.many import among, insert_ignore
from gateway.store.redact import forget_copies
from gateway.store.schema import dead_letters, deliveries, events
from gateway.tickets import Policy
from gateway.vip import vip_policy
from outbox.crashpoints import reach

log = logging.getLogger(__name__)

TOPIC = "intake"
FILED = "filed"
BATCH = 500
BATCH_BYTES = 32 * 2**20  # of deliveries normalised together
TRIES = 5
SWEEP_S = 30.0
RETRY_S = (1, 5, 30, 120)

# Word for word the conditions of the partial indexes: a bound value would not find them.
_DELIVERIES_OPEN = text("deliveries.state IN ('received', 'retry')")
_EVENTS_OPEN = text("events.state IN ('new', 'retry')")
_NOTHING: frozenset[str] = frozenset()
_EVENTS_PARKED = text("events.state = 'parked'")


def rules_of(core: Core) -> Rules:
    """The rules of intake, from the configuration and what the adapters declare."""
    settings = core.settings
    days = settings.tickets.new_ticket_when_solved_for
    regions = {account.id: account.settings.region or settings.gateway.region for account in core.accounts}
    screens = {
        (account.id, channel.name): screen_of(account.settings, channel)
        for account in core.accounts
        for channel in account.channels.values()
    }
    automatic = {account.id: switched_on(account.settings.automatic) for account in core.accounts}
    own = frozenset(
        address.casefold() for account in core.accounts for address in account.adapter.account.own_addresses
    )
    return Rules(
        channel=core.accounts.channel,
        tokens=core.tokens,
        matching=settings.gateway.matching_attribute,
        tickets=Policy(timedelta(days=days) if days is not None else None, settings.tickets.follow_up),
        vip=vip_policy(settings),
        region=lambda account: regions.get(account, settings.gateway.region),
        own_addresses=own,
        screen=lambda account, channel: screens.get((account, channel), OPEN),
        suspended_for=timedelta(days=settings.retention.suspended_days),
        automatic=lambda account: automatic.get(account, _NOTHING),
    )


def screen_of(account: AccountSettings, channel: Channel) -> Screen:
    """What an account lets through: its own causes, else those the channel declares, and its lists."""
    return Screen(
        suspends=channel.suspends if account.suspend is None else frozenset(account.suspend),
        blocklist=frozenset(pattern.casefold() for pattern in account.blocklist),
        allowlist=frozenset(pattern.casefold() for pattern in account.allowlist),
        allowlist_only=account.allowlist_only,
        tickets_per_hour=account.tickets_per_hour,
    )


Notify = Callable[[Connection, Sequence[tuple[str, str]]], Told]
"""Writes the automatic messages for (event, ticket id) inside a batch's transaction (`gateway.automatic.notify`)."""


class IntakeWorker:
    """Normalises kept deliveries and files their events. One per process; `run` until cancelled."""

    def __init__(self, core: Core, notify: Notify | None = None, take_over: TakeOver = stay) -> None:
        """`take_over`: where messages go that receipts report as refused."""
        self._core, self._notify, self._take_over = core, notify, take_over
        self._rules = rules_of(core)
        self._swept = 0.0

    async def run(self) -> None:
        """Work until cancelled. Store trouble is waited out; nothing else stops it."""
        pause = 0.5
        while True:
            try:
                worked = await self.step()
                pause = 0.5
            except StoreUnavailable:
                log.warning("intake.store_unavailable", extra={"retry_in_s": pause})
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
                continue
            except Exception:
                log.exception("intake.failed")
                await asyncio.sleep(1.0)
                continue
            if not worked:
                await self._core.bus.wait(TOPIC, 1.0)

    async def step(self) -> int:
        """Normalise and file what is there now, once; how many deliveries and events that were."""
        kept = await self._normalise()
        filed = await self._file()
        await self._sweep()
        return kept + filed

    async def drain(self) -> None:
        """Work until nothing is left to do now."""
        while await self.step():
            pass

    # --- deliveries to events ---

    async def _normalise(self) -> int:
        now = micros(self._core.clock())
        rows = await self._core.database.read(lambda connection: _take_deliveries(connection, now))
        if rows:
            await self._take(rows, now)
        return len(rows)

    async def _take(self, rows: Sequence[Any], now: int) -> None:
        """Keep the events of deliveries; where that fails for their own sake, of each by itself."""
        result = await asyncio.to_thread(stage.normalise, rows, self._core.accounts)
        if len(result.events) <= stage.EVENTS_MAX and await self._take_in(result, now):
            return
        try:
            await self._keep(result, now)
        except StoreUnavailable:
            raise
        except Exception as error:
            if len(rows) > 1:
                for row in rows:
                    await self._take([row], now)
                return
            log.exception("intake.delivery_failed", extra={"account": rows[0]["account"], "delivery": rows[0]["id"]})
            problem = f"its events cannot be kept: {type(error).__name__}"
            await self._keep(stage.Normalised(broken=[(rows[0]["id"], rows[0]["account"], problem)]), now)

    async def _keep(self, result: stage.Normalised, now: int) -> None:
        new = await self._core.database.bulk(lambda connection: _keep_events(connection, result, now, "new"))
        self._count(result, len(new))

    async def _take_in(self, result: stage.Normalised, now: int) -> bool:
        """Keep the events and file them in the same transaction; False when that fails for their own sake.

        Nothing is written then: they are kept by themselves, and filed by halves from the events table.
        """

        def job(connection: Connection) -> tuple[int, list[EventRow], Changes]:
            merging.alone(connection)
            new = _keep_events(connection, result, now, "done")
            rows = [row for row in result.rows if row.id in new]
            return len(new), rows, self._work(connection, rows, now, settled=True)

        try:
            new, rows, changes = await self._core.database.bulk(job)
        except StoreUnavailable:
            raise
        except Exception as error:
            log.warning("intake.batch_failed", extra={"events": len(result.events), "error": type(error).__name__})
            return False
        self._count(result, new)
        self._tell(rows, changes)
        return True

    def _count(self, result: stage.Normalised, new: int) -> None:
        metrics = self._core.metrics
        if len(result.events) > new:
            metrics.events.labels("any", "duplicate").inc(len(result.events) - new)
        if result.unroutable:
            metrics.events.labels("any", "unroutable").inc(result.unroutable)
            log.warning("intake.unroutable", extra={"events": result.unroutable})
        for _ in result.broken:
            metrics.dead_letters.labels("inbound").inc()

    # --- events to tickets ---

    async def _file(self) -> int:
        now = micros(self._core.clock())
        rows = await self._core.database.read(lambda connection: _take_events(connection, now))
        if rows:
            await self._file_batch(rows)
        return len(rows)

    async def _file_batch(self, rows: Sequence[EventRow]) -> None:
        """File rows in one transaction; if that fails for their own sake, by halves until the guilty one is alone."""
        now = micros(self._core.clock())

        def job(connection: Connection) -> tuple[Sequence[EventRow], Changes]:
            merging.alone(connection)  # one batch at a time decides who is whose, whichever process files it
            left = _still_open(connection, rows)
            return left, self._work(connection, left, now)

        try:
            left, changes = await self._core.database.bulk(job)
        except StoreUnavailable:
            raise
        except Exception as error:
            if len(rows) > 1:
                middle = len(rows) // 2
                await self._file_batch(rows[:middle])
                await self._file_batch(rows[middle:])
                return
            log.exception("intake.event_failed", extra={"event_id": rows[0].id, "attempts": rows[0].attempts + 1})
            await self._set_aside(rows[0], error, now)
            return
        self._tell(left, changes)

    def _work(self, connection: Connection, rows: Sequence[EventRow], now: int, *, settled: bool = False) -> Changes:
        snapshot = load(connection, rows, self._rules)
        changes = decide(rows, snapshot, self._rules, now, new_id)
        save(connection, rows, snapshot, changes, self._rules, now, settled=settled, take_over=self._take_over)
        changes.live += aliases.join(connection, self._rules, changes.aliases, now)
        if changes.notices and self._notify is not None:
            told = self._notify(connection, changes.notices)
            changes.live += [(event.type, event.data, event.account) for event in told.events]
            changes.stopped += told.stopped
        for merge in changes.merges:
            if merge.loser:
                vip.merged(connection, merge.winner, self._rules.vip, now)
        crms = self._core.settings.crm
        changes.asked = want_lookups(connection, crms, changes.tickets, now) if crms and changes.tickets else []
        return changes

    async def _set_aside(self, row: EventRow, error: Exception, now: int) -> None:
        """Try again a little later, five times in all; then the dead letters."""
        attempts = row.attempts + 1
        reason = f"{type(error).__name__}: {error}"[:500]
        dead = attempts >= TRIES
        wait = RETRY_S[min(attempts, len(RETRY_S)) - 1] * 1_000_000

        def job(connection: Connection) -> bool:
            values: dict[str, Any] = {"attempts": attempts, "error": type(error).__name__}
            values |= {"state": "dead"} if dead else {"state": "retry", "not_before": now + wait}
            mine = (events.c.id == row.id, _EVENTS_OPEN, events.c.attempts == row.attempts)  # no other worker's by now
            died = connection.execute(update(events).where(*mine).values(**values)).rowcount > 0 and dead
            if died:
                connection.execute(insert(dead_letters), [dead_letter(row, reason, now)])
            return died

        if await self._core.database.write(job):
            self._core.metrics.dead_letters.labels("inbound").inc()
            log.error("intake.dead_letter", extra={"event_id": row.id, "account": row.account})

    def _tell(self, rows: Sequence[EventRow], changes: Changes) -> None:
        reach("receipts.committed")
        core = self._core
        kinds = {row.id: row.event.__struct_config__.tag for row in rows}
        for event_id, (state, _) in changes.outcomes.items():
            core.metrics.events.labels(kinds[event_id], state).inc()
            if state == "dead":
                core.metrics.dead_letters.labels("inbound").inc()
        for row in rows:
            if changes.outcomes[row.id][0] == "dead":
                log.error("intake.dead_letter", extra={"event_id": row.id, "account": row.account})
        core.metrics.conflicts.inc(len(changes.conflicts))
        core.metrics.count_refusals(changes.stopped)
        core.bus.publish(LiveEvent(kind, data, account) for kind, data, account in changes.live)
        for crm in changes.asked:
            core.bus.wake(f"{errands.TOPIC}.{crm}")
        if changes.attachments or changes.deletions:
            core.bus.wake("media")
        if changes.lookups:
            core.bus.wake("lookups")
        if changes.templates:
            core.bus.wake("templates")
        core.bus.wake("outbox")
        core.bus.wake(FILED)

    # --- what waits ---

    async def _sweep(self) -> None:
        """Events whose message never came are settled; a gauge tells how far behind we are."""
        if time.monotonic() - self._swept < SWEEP_S:
            return
        self._swept = time.monotonic()
        now = micros(self._core.clock())
        await self._core.database.write(lambda connection: _give_up_parked(connection, now))
        oldest = await self._core.database.read(_oldest)
        self._core.metrics.conflicts_open.set(await self._core.database.read(conflicts.count_open))
        self._core.metrics.oldest_inbound.set(max(0.0, (now - oldest) / 1e6) if oldest else 0.0)


def _take_deliveries(connection: Connection, now: int) -> list[Any]:
    """The oldest deliveries not yet normalised, up to `BATCH` and about `BATCH_BYTES`."""
    due = and_(
        _DELIVERIES_OPEN,
        or_(deliveries.c.not_before.is_(None), deliveries.c.not_before <= now),
    )
    sizes = connection.execute(
        select(deliveries.c.id, func.length(deliveries.c.body)).where(due).order_by(deliveries.c.id).limit(BATCH)
    ).all()
    ids: list[str] = []
    total = 0
    for delivery_id, size in sizes:
        if ids and total + size > BATCH_BYTES:
            break
        ids.append(delivery_id)
        total += size
    if not ids:
        return []
    columns = (
        deliveries.c.id, deliveries.c.account, deliveries.c.url, deliveries.c.headers, deliveries.c.query,
        deliveries.c.body, deliveries.c.received_at,
    )  # fmt: skip
    statement = select(*columns).where(among(connection, deliveries.c.id, ids)).order_by(deliveries.c.id)
    return list(connection.execute(statement).mappings())


def _keep_events(connection: Connection, result: stage.Normalised, now: int, state: str) -> set[str]:
    """Write the events in `state` and settle their deliveries; the ids of those that were not there before."""
    for event in result.events:
        if event["state"] != "unroutable":
            event["state"] = state
    insert_ignore(connection, events, result.events)
    mark_deliveries(connection, result.done, now)
    for delivery_id, account, problem in result.broken:
        mine = update(deliveries).where(deliveries.c.id == delivery_id, _DELIVERIES_OPEN)
        if not connection.execute(mine.values(state="dead", error=problem)).rowcount:
            continue  # another worker was faster
        connection.execute(
            insert(dead_letters).values(
                id=new_id(), direction="inbound", kind="delivery", ref=delivery_id, account=account,
                error_class="permanent", code="normalise", detail=problem, attempts=1, created_at=now,
            )
        )  # fmt: skip
    made = [event["id"] for event in result.events]
    new = set(connection.execute(select(events.c.id).where(among(connection, events.c.id, made))).scalars())
    forget_copies(connection, [row for row in result.rows if row.id not in new])
    return new


def _still_open(connection: Connection, rows: Sequence[EventRow]) -> list[EventRow]:
    """Without those that another worker has filed since they were read."""
    ids = select(events.c.id).where(among(connection, events.c.id, [row.id for row in rows]), _EVENTS_OPEN)
    still = set(connection.execute(ids).scalars())
    return [row for row in rows if row.id in still]


def _take_events(connection: Connection, now: int) -> list[EventRow]:
    statement = (
        select(
            events.c.id, events.c.delivery_id, events.c.account, events.c.received_at, events.c.attempts,
            events.c.payload, events.c.released,
        )
        .where(
            _EVENTS_OPEN,
            or_(events.c.not_before.is_(None), events.c.not_before <= now),
        )
        .order_by(events.c.id)
        .limit(BATCH)
    )  # fmt: skip
    return [
        EventRow(*row[:5], stage.decode(row[5]), tuple(filter(None, row[6].split(","))))
        for row in connection.execute(statement).all()
    ]


def _give_up_parked(connection: Connection, now: int) -> None:
    connection.execute(
        update(events)
        .where(_EVENTS_PARKED, events.c.not_before <= now)
        .values(state="ignored", error="the message it names never came")
    )


def _oldest(connection: Connection) -> int | None:
    waiting = select(func.min(deliveries.c.received_at)).where(_DELIVERIES_OPEN)
    filing = select(func.min(events.c.received_at)).where(_EVENTS_OPEN)
    return min(filter(None, (connection.execute(waiting).scalar(), connection.execute(filing).scalar())), default=None)
