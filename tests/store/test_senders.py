"""Several senders on one database: a conversation keeps its order, nothing is sent twice, the pace is kept by all of
them together."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Row, func, select
from sqlalchemy.engine import make_url

from gateway import replies
from gateway.replies import ReplyRequest, Submitted
from gateway.store import heads, schema
from gateway.tickets import Actor
from outbox.dispatcher import Dispatcher
from tests.pigeon import World, world
from tests.support.postgres import Postgres, held_lock

AGENT = Actor("agent", "u1", "Bo")
SEED = int(os.environ.get("SENDERS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
FAULTS: tuple[Any, ...] = ("reset_after_accept", "500_after_accept", "500", "reset", "429", "half", "garbage")


def address(server: Postgres) -> str:
    return server.empty().set(drivername="postgresql").render_as_string(hide_password=False)


async def say(loft: World, ticket: str, words: str) -> str:
    answer = await replies.submit(loft.core, ticket, ReplyRequest(text=words), AGENT)
    assert isinstance(answer, Submitted)
    return answer.message_id


async def together(senders: list[Dispatcher]) -> int:
    """One round of all of them at once; how many sends began."""
    began = sum(await asyncio.gather(*(sender.round() for sender in senders)))
    await asyncio.gather(*(sender.settled() for sender in senders))
    return began


@pytest.mark.postgres
@pytest.mark.parametrize("channel", ["keyed", "open"])
async def test_four_senders_keep_each_conversation_in_order(postgres: Postgres, tmp_path: Path, channel: str) -> None:
    print(f"\nseed {SEED}")
    chance = random.Random(SEED)
    async with world(tmp_path, database_url=address(postgres)) as loft:
        tickets = [await loft.ticket(channel) for _ in range(6)]
        said = {ticket: [f"{index}-{number}" for number in range(8)] for index, ticket in enumerate(tickets)}
        for number in range(8):
            await asyncio.gather(*(say(loft, ticket, words[number]) for ticket, words in said.items()))
        senders = [loft.dispatcher(owner=f"sender {number}", alone=False) for number in range(4)]
        for _ in range(60):
            if chance.random() < 0.5 and len(loft.platform._faults) < 3:
                loft.platform.fail_next(chance.choice(FAULTS))
            if chance.random() < 0.2:  # one dies in the middle of its sends
                victim = chance.randrange(4)
                await senders[victim].round()
                await senders[victim].abandon()
                senders[victim] = loft.dispatcher(owner=f"heir of {victim}", alone=False)
            await together(senders)
            loft.clock.forward(seconds=chance.choice([1, 6, 50, 130]))
            await chance.choice(senders).keep()
        loft.platform._faults.clear()
        for _ in range(40):
            loft.clock.forward(seconds=150)
            await senders[0].keep()
            await together(senders)
        parts = await loft.rows(schema.outbox)
        assert {part.state for part in parts} <= {"sent", "unknown"}, Counter(part.state for part in parts)
        arrived = Counter(send.ours for send in loft.platform.sends)
        assert set(arrived.values()) == {1}
        for part in parts:
            assert part.state != "sent" or arrived[part.id] == 1
            assert channel == "open" or part.state == "sent"
        unknown = {part.message_id for part in parts if part.state == "unknown"}
        excused = {row.text for row in await loft.rows(schema.messages) if row.id in unknown}
        order = [send.payload["text"] for send in loft.platform.sends]
        for words in said.values():
            own = [word for word in order if word in words and word not in excused]
            assert own == [word for word in words if word not in excused]


@pytest.mark.postgres
async def test_a_follower_that_becomes_the_head_while_it_is_looked_at_is_not_put_aside(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim reads a part behind another; before it goes on, that other one's outcome is recorded."""
    looked, put_aside, url = asyncio.Event(), heads._put_aside, address(postgres)

    def later(connection: Connection, rows: Sequence[Row[Any]], now: int) -> int:
        if rows:
            looked.set()
            connection.execute(select(func.pg_advisory_xact_lock(7)))
        return put_aside(connection, rows, now)

    monkeypatch.setattr(heads, "_put_aside", later)
    async with world(tmp_path, database_url=url) as loft, held_lock(make_url(url), 7) as go_on:
        ticket, dispatcher = await loft.ticket(), loft.dispatcher(alone=False)
        loft.platform.gate = asyncio.Event()
        first = await say(loft, ticket, "first")
        assert await dispatcher.round() == 1
        second = await say(loft, ticket, "second")
        looking = asyncio.create_task(dispatcher.round())
        await asyncio.wait_for(looked.wait(), 20)
        loft.platform.gate.set()
        await dispatcher.settled()
        assert await loft.status(first) == "sent"
        await go_on()
        assert await looking == 0  # it was a follower when it was read
        (part,) = await loft.rows(schema.outbox, schema.outbox.c.message_id == second)
        assert part.not_before is not None  # due: it waits for nobody
        await loft.run(dispatcher)
        assert await loft.status(second) == "sent"


@pytest.mark.postgres
async def test_all_senders_together_keep_the_rate(postgres: Postgres, tmp_path: Path) -> None:
    async with world(tmp_path, database_url=address(postgres), rate=5) as loft:
        for _ in range(30):
            await say(loft, await loft.ticket(), "Hello")
        senders, sent = [loft.dispatcher(owner=f"{number}", alone=False) for number in range(3)], []
        for _ in range(5):
            sent.append(await together(senders) + await together(senders))
            loft.clock.forward(seconds=0.5)
            sent.append(await together(senders))
            loft.clock.forward(seconds=0.5)
        assert sent == [5, 0] * 5


@pytest.mark.postgres
async def test_all_senders_together_keep_a_quota_and_a_pair_s_pace(postgres: Postgres, tmp_path: Path) -> None:
    async with world(tmp_path, database_url=address(postgres)) as loft:
        for _ in range(9):
            await say(loft, await loft.ticket("tight"), "Hello")
        slow = await loft.ticket("slow")
        for word in "abcd":
            await say(loft, slow, word)
        senders = [loft.dispatcher(owner=f"{number}", alone=False) for number in range(3)]
        for _ in range(6):
            await together(senders)
        words = Counter(send.payload["text"] for send in loft.platform.sends)
        assert words == {"Hello": 5, "a": 1, "b": 1}  # five in a quarter of an hour; two at once to one person
        loft.clock.forward(seconds=6)
        for _ in range(3):
            await together(senders)
        assert [send.payload["text"] for send in loft.platform.sends][-1] == "c"
        loft.clock.forward(seconds=timedelta(minutes=16).total_seconds())
        for _ in range(6):
            await together(senders)
        words = Counter(send.payload["text"] for send in loft.platform.sends)
        assert words == {"Hello": 8, "a": 1, "b": 1, "c": 1, "d": 1}  # eight a day
