"""Sending replies through the outbox, against a bare client that only posts. The platform answers after 20 ms."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from sqlalchemy import func, select

from adapters import Http
from adapters._http import new_session
from adapters._media import MediaClient
from gateway.core import Core
from gateway.intake import IntakeWorker
from gateway.replies import ReplyRequest, Submitted, submit
from gateway.store import dialect
from gateway.store.claim import claim
from gateway.store.detours import stay
from gateway.store.facts import FactSource
from gateway.store.outbox import OutboxStore
from gateway.store.schema import outbox, tickets
from gateway.store.states import is_open
from gateway.tickets import Actor
from normalizers.model import OutboundMessage
from outbox.dispatcher import Dispatcher
from outbox.lanes import CONCURRENCY
from outbox.pacing import Pacing
from outbox.ports import Go
from outbox.rules import load_rules
from tests.bench.figures import Plan, Report, Row, Side, play, ratios
from tests.bench.processes import Child, child
from tests.bench.world import ACCOUNT, STORE, keep_all, make_core, message_body
from tests.pigeon import world as pigeons
from tests.support.postgres import Postgres

AGENT = Actor("agent", "bench", "Bench")
BODY = {"messaging_product": "whatsapp", "to": "491550000001", "type": "text", "text": {"body": "On its way."}}


class Outbound:
    """Tickets to reply on, and the ways to send."""

    def __init__(self, core: Core, session: aiohttp.ClientSession, url: str, replies: int) -> None:
        self._core, self._session, self._url, self._replies = core, session, url, replies
        self._tickets: list[str] = []
        self._round = 0
        self._senders: tuple[Child, ...] = ()
        self.sent = self.queued = 0
        # microseconds of ours for each send, and for queueing each reply
        self.cpu: dict[str, list[float]] = {"queue": [], "outbox": [], "two": [], "bare": []}
        self.queued_per_s: list[float] = []

    async def prepare(self, *senders: Child) -> None:
        """As many customers as there are replies in a round; `senders` are further processes on the same store."""
        self._senders = senders
        await keep_all(self._core, [message_body(number, number) for number in range(self._replies)])
        await IntakeWorker(self._core).drain()
        self._tickets = await self._core.database.read(lambda c: list(c.execute(select(tickets.c.id)).scalars()))

    def forget(self) -> None:
        """The figures so far do not count."""
        for figures in (*self.cpu.values(), self.queued_per_s):
            figures.clear()

    async def _queue(self) -> None:
        """A reply on every ticket."""
        self._round += 1
        request = ReplyRequest(text=f"On its way, {self._round}.")
        started, spent = time.perf_counter(), time.process_time()
        for start in range(0, len(self._tickets), 256):
            part = self._tickets[start : start + 256]
            answers = await asyncio.gather(*(submit(self._core, ticket, request, AGENT) for ticket in part))
            self.queued += sum(isinstance(answer, Submitted) for answer in answers)
        self.cpu["queue"].append((time.process_time() - spent) / self._replies * 1e6)
        self.queued_per_s.append(self._replies / (time.perf_counter() - started))

    async def _count(self) -> None:
        statement = select(func.count()).select_from(outbox).where(outbox.c.state == "sent")
        self.sent = await self._core.database.read(lambda c: int(c.execute(statement).scalar_one()))

    async def gateway(self) -> float:
        """Queued replies sent per second: claimed, judged, intent on disk, sent, outcome on disk."""
        await self._queue()
        store, left, done = OutboxStore(self._core), len(self._tickets), asyncio.Event()

        def observe(_account: str, _outcome: str) -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set()

        dispatcher = Dispatcher(
            store, self._core.accounts, self._core.clock, store.pace, owner="bench", rules=load_rules(),
            observe=observe,
        )  # fmt: skip
        started, spent = time.perf_counter(), time.process_time()
        task = asyncio.create_task(dispatcher.run())
        async with asyncio.timeout(120):
            await done.wait()
            await dispatcher.settled()  # the last outcomes are on disk
        elapsed = time.perf_counter() - started
        self.cpu["outbox"].append((time.process_time() - spent) / self._replies * 1e6)
        await dispatcher.stop()
        await task
        await self._count()
        return len(self._tickets) / elapsed

    async def two(self) -> float:
        """The same by other processes, that share the store and the sends at a time."""
        await self._queue()
        left = select(outbox.c.id).where(is_open()).limit(1)
        started = time.perf_counter()
        await asyncio.gather(*(sender.tell({}) for sender in self._senders))
        async with asyncio.timeout(120):
            while await self._core.database.read(lambda c: c.execute(left).first()) is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # other processes empty it
        elapsed = time.perf_counter() - started
        told = await asyncio.gather(*(sender.ask({}) for sender in self._senders))
        self.cpu["two"].append(sum(one["cpu_s"] for one in told) / self._replies * 1e6)
        await self._count()
        return len(self._tickets) / elapsed

    async def bare(self) -> float:
        """Posts per second of a client that remembers nothing."""
        left = iter(range(self._replies))

        async def post() -> None:
            for _ in left:
                async with self._session.post(self._url, json=BODY) as answer:
                    await answer.read()

        started, spent = time.perf_counter(), time.process_time()
        await asyncio.gather(*(post() for _ in range(CONCURRENCY)))
        self.cpu["bare"].append((time.process_time() - spent) / self._replies * 1e6)
        return self._replies / (time.perf_counter() - started)


async def run(plan: Plan, directory: Path) -> Report:
    """The same number of sends at the same concurrency, one reply for each conversation; on each store."""
    logging.getLogger("gateway").setLevel(logging.CRITICAL)
    replies = 1000 if plan.quick else 3000
    report = Report(f"outbound: {replies} replies a round, {CONCURRENCY} at a time, a platform that takes 20 ms")
    await _compare(plan, directory / "embedded", replies, "", "embedded", ">= 0.5", report)
    with contextlib.suppress(ImportError), Postgres.start(directory / "postgres") as server:
        address = server.empty().set(drivername="postgresql").render_as_string(hide_password=False)
        await _compare(plan, directory / "scaled", replies, address, "PostgreSQL", ">= 0.6", report)
    report.rows += await asyncio.to_thread(_claims, plan, directory)
    report.rows.append(await _pace(directory / "pace"))
    return report


async def _compare(
    plan: Plan, directory: Path, replies: int, database: str, name: str, aim: str, report: Report
) -> None:
    directory.mkdir()
    async with contextlib.AsyncExitStack() as stack:
        platform = await stack.enter_async_context(child("servers", "platform", str(directory / "platform")))
        session = await stack.enter_async_context(new_session())
        base = f"http://127.0.0.1:{int(await platform.line())}/v23.0"
        media = MediaClient(allow_private=False, max_bytes=1)
        core = make_core(directory, api_base=base, http=Http(session, (base,), media), database=database)
        senders = []
        for number in range(2 if database else 0):
            arguments = (str(directory / f"sender{number}"), database, base, str(CONCURRENCY // 2))
            senders.append(await stack.enter_async_context(child("sender", *arguments)))
            await senders[-1].line()
        work = Outbound(core, session, f"{base}/900/messages", replies)
        try:
            await work.prepare(*senders)
            sides: dict[str, Side] = {"outbox": work.gateway, "bare": work.bare}
            if senders:
                sides["two"] = work.two
            for side in sides.values():
                await side()  # connections, statements and caches are made: that is not the rate
            work.forget()
            found = await play(Plan(min(plan.rounds, 4), plan.quick, plan.order), sides)
        finally:
            await core.database.stop()
            await media.aclose()
    report.rows += [
        Row(f"outbox, {name}", "bare client", ratios(found["outbox"], found["bare"]), aim),
        Row(f"outbox, {name}, by CPU", "bare client", ratios(work.cpu["bare"], work.cpu["outbox"])),
        Row(f"outbox, {name}, CPU of a send", "", work.cpu["outbox"], unit="us"),
        Row("bare, CPU of a send", "", work.cpu["bare"], unit="us"),
        Row(f"outbox, {name}, per second", "", found["outbox"], unit="/s"),
        Row("bare, per second", "", found["bare"], unit="/s"),
        Row(f"replies queued, {name}, CPU of one", "", work.cpu["queue"], unit="us"),
        Row(f"replies queued, {name}, per second", "", work.queued_per_s, unit="/s"),
    ]
    if senders:
        report.rows += [
            Row(f"outbox, {name}, two senders", "bare client", ratios(found["two"], found["bare"]), aim),
            Row(f"outbox, {name}, two senders, CPU of a send", "", work.cpu["two"], unit="us"),
            Row(f"outbox, {name}, two senders, per second", "", found["two"], unit="/s"),
        ]
    report.notes.append(f"{name}: replies queued: {work.queued:,}; recorded as sent: {work.sent:,}")


# --- the claim, by what is queued ---

_FILL = """
INSERT INTO outbox (id, message_id, conversation_id, account, channel, payload, not_before, queued_at)
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)
SELECT printf('%032x', n), printf('%032x', n), printf('%032x', n), :account, 'whatsapp', :payload, n, n FROM numbers
"""
_CLAIMS, _TAKEN = 20, 40


def _claims(plan: Plan, directory: Path) -> list[Row]:
    """Seconds for a claim of 40 heads with so much queued, paired by turn; each is undone, so that nothing runs out."""
    sizes = (1_000, 100_000 if plan.quick else 1_000_000)
    cores = [(_filled(directory / f"queue{size}", size)) for size in sizes]
    found: list[list[float]] = [[], []]
    for turn in range(_CLAIMS):
        for index, core in enumerate(cores):
            found[index].append(_claim(core, turn))
    for core in cores:
        asyncio.run(core.database.stop())
    large, small = f"{sizes[1]:,}", f"{sizes[0]:,}"
    return [
        Row(f"claim with {large} queued", f"with {small}", ratios(found[1][2:], found[0][2:]), "<= 1.5"),
        Row(f"claim of {_TAKEN} with {large} queued", "", [1000 * seconds for seconds in found[1][2:]], unit="ms"),
    ]


def _filled(directory: Path, count: int) -> Core:
    directory.mkdir()
    core = make_core(directory)
    message = OutboundMessage(id="m", key="k", account=ACCOUNT, channel="whatsapp", to=(), text="On its way.")
    values = {"count": count, "account": ACCOUNT, "payload": msgspec.json.encode(message).decode()}
    connection = sqlite3.connect(directory / STORE)
    connection.execute("PRAGMA synchronous = OFF")  # nothing is lost but time
    with connection:
        connection.execute(_FILL, values)
    connection.close()
    return core


def _claim(core: Core, turn: int) -> float:
    store = OutboxStore(core)
    pacing = Pacing(core.accounts, store.pace, shared=False)
    now = core.clock()
    engine = dialect.write_engine(core.database.url)
    with engine.connect() as connection:
        connection.begin()
        arguments: tuple[Any, ...] = (
            lambda _account, _pause: _TAKEN, lambda c: Go(c.parcel.message, now), pacing,
            stay, "bench", now, turn,
        )  # fmt: skip
        source = FactSource(core.accounts)
        started = time.perf_counter()
        claimed = claim(connection, source, *arguments)
        elapsed = time.perf_counter() - started
        assert len(claimed.going) == _TAKEN
        connection.rollback()
    engine.dispose()
    return elapsed


# --- the pace, on a clock of its own ---


async def _pace(directory: Path) -> Row:
    """Sends of a minute at 20 a second, against what 20 a second makes."""
    directory.mkdir()
    async with pigeons(directory, rate=20) as loft:
        tickets = [await loft.ticket() for _ in range(130)]
        for number in range(10):
            await asyncio.gather(*(submit(loft.core, t, ReplyRequest(text=f"{number}"), AGENT) for t in tickets))
        dispatcher, end = loft.dispatcher(), loft.clock() + timedelta(seconds=60)
        while loft.clock() < end:
            await dispatcher.round()
            await dispatcher.settled()
            loft.clock.forward(seconds=dispatcher._idle_s())
        return Row("sent in a minute at 20 a second", "1200", [len(loft.platform.sends) / 1200], "0.98-1.02")
