"""Sending replies through the outbox, against a bare client that only posts. The platform answers after 20 ms."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import aiohttp
from sqlalchemy import func, select

from adapters import Http
from adapters._http import new_session
from adapters._media import MediaClient
from gateway.core import Core
from gateway.intake import IntakeWorker
from gateway.replies import ReplyRequest, Submitted, submit
from gateway.store.outbox import OutboxStore
from gateway.store.schema import outbox, tickets
from gateway.tickets import Actor
from outbox.dispatcher import CONCURRENCY, Dispatcher
from outbox.rules import load_rules
from tests.bench.figures import Plan, Report, Row, Side, play, ratios
from tests.bench.processes import child
from tests.bench.world import keep_all, make_core, message_body

AGENT = Actor("agent", "bench", "Bench")
BODY = {"messaging_product": "whatsapp", "to": "491550000001", "type": "text", "text": {"body": "On its way."}}


class Outbound:
    """Tickets to reply on, and both ways to send."""

    def __init__(self, core: Core, session: aiohttp.ClientSession, url: str, replies: int) -> None:
        self._core, self._session, self._url, self._replies = core, session, url, replies
        self._tickets: list[str] = []
        self._round = 0
        self.sent = self.queued = 0

    async def prepare(self) -> None:
        """As many customers as there are replies in a round."""
        await keep_all(self._core, [message_body(number, number) for number in range(self._replies)])
        await IntakeWorker(self._core).drain()
        self._tickets = await self._core.database.read(lambda c: list(c.execute(select(tickets.c.id)).scalars()))

    async def gateway(self) -> float:
        """Queued replies sent per second: claimed, judged, intent on disk, sent, outcome on disk."""
        self._round += 1
        request = ReplyRequest(text=f"On its way, {self._round}.")
        for start in range(0, len(self._tickets), 256):
            part = self._tickets[start : start + 256]
            answers = await asyncio.gather(*(submit(self._core, ticket, request, AGENT) for ticket in part))
            self.queued += sum(isinstance(answer, Submitted) for answer in answers)
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
        started = time.perf_counter()
        task = asyncio.create_task(dispatcher.run())
        async with asyncio.timeout(60):
            await done.wait()
            await dispatcher.settled()  # the last outcomes are on disk
        elapsed = time.perf_counter() - started
        statement = select(func.count()).select_from(outbox).where(outbox.c.state == "sent")
        self.sent = await self._core.database.read(lambda c: int(c.execute(statement).scalar_one()))
        await dispatcher.stop()
        await task
        return len(self._tickets) / elapsed

    async def bare(self) -> float:
        """Posts per second of a client that remembers nothing."""
        left = iter(range(self._replies))

        async def post() -> None:
            for _ in left:
                async with self._session.post(self._url, json=BODY) as answer:
                    await answer.read()

        started = time.perf_counter()
        await asyncio.gather(*(post() for _ in range(CONCURRENCY)))
        return self._replies / (time.perf_counter() - started)


async def run(plan: Plan, directory: Path) -> Report:
    """The same number of sends at the same concurrency, one reply for each conversation."""
    logging.getLogger("gateway").setLevel(logging.CRITICAL)
    replies = 500 if plan.quick else 2000
    async with child("servers", "platform", str(directory / "platform")) as platform, new_session() as session:
        base = f"http://127.0.0.1:{int(await platform.line())}/v23.0"
        media = MediaClient(allow_private=False, max_bytes=1)
        (directory / "outbound").mkdir()
        core = make_core(directory / "outbound", api_base=base, http=Http(session, (base,), media))
        work = Outbound(core, session, f"{base}/900/messages", replies)
        try:
            await work.prepare()
            sides: dict[str, Side] = {"outbox": work.gateway, "bare": work.bare}
            found = await play(Plan(min(plan.rounds, 4), plan.quick, plan.order), sides)
        finally:
            await core.database.stop()
            await media.aclose()
    report = Report(f"outbound: {replies} replies a round, {CONCURRENCY} at a time, a platform that takes 20 ms")
    report.rows = [
        Row("outbox", "bare client", ratios(found["outbox"], found["bare"]), ">= 0.75"),
        Row("outbox, per second", "", found["outbox"], unit="/s"),
        Row("bare, per second", "", found["bare"], unit="/s"),
    ]
    report.notes = [f"replies queued: {work.queued:,}; recorded as sent: {work.sent:,}"]
    return report
