"""Who goes first in a conversation: replies before bulk, of each what was written first, and one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select, update

from gateway import replies
from gateway.ids import micros
from gateway.replies import MessageRequest, ReplyRequest, Submitted
from gateway.store import claim, schema, waiting
from gateway.store.outbox import OutboxStore
from gateway.store.waiting import Wait
from gateway.tickets import Actor
from outbox.policy import Policy
from outbox.rules.settings import QuietHoursSettings
from tests.pigeon import START, World, world
from tests.support.postgres import Postgres, held_lock

AGENT = Actor("agent", "u1", "Bo")


@pytest.fixture
async def loft(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as found:
        yield found


async def sell(loft: World, words: str = "Sale!") -> Submitted:
    request = MessageRequest(channel="open", to="ring77", text=words, purpose="marketing")
    answer = await replies.proactive(loft.core, request, AGENT)
    assert isinstance(answer, Submitted)
    return answer


async def say(loft: World, ticket: str, words: str) -> str:
    answer = await replies.submit(loft.core, ticket, ReplyRequest(text=words), AGENT)
    assert isinstance(answer, Submitted)
    return answer.message_id


def arrived(loft: World) -> list[str]:
    return [send.payload["text"] for send in loft.platform.sends]


async def waits(loft: World, message_id: str) -> Wait | None:
    def job(connection: Any) -> Wait | None:
        parts = connection.execute(schema.outbox.select()).mappings().all()
        now = micros(loft.clock())
        found = waiting.reasons(connection, loft.core.accounts, OutboxStore(loft.core).pace, parts, now)
        return next((found.get(part["id"]) for part in parts if part["message_id"] == message_id), None)

    return await loft.core.database.read(job)


async def test_what_is_held_for_the_morning_holds_no_reply(tmp_path: Path) -> None:
    quiet = Policy(settings={QuietHoursSettings: QuietHoursSettings(hours="09:00-18:00")})
    async with world(tmp_path, policy=quiet) as loft:
        loft.clock.now = START.replace(hour=19)
        sale = await sell(loft)
        assert sale.status == "held"
        for words in ("Your code is 1234", "Anything else?"):
            answer = await say(loft, sale.ticket_id, words)
            assert await waits(loft, answer) is None or words == "Anything else?"
        await loft.run(loft.dispatcher())
        assert arrived(loft) == ["Your code is 1234", "Anything else?"]
        assert await loft.status(sale.message_id) == "held"
        loft.clock.forward(seconds=14 * 3600)
        await loft.run(loft.dispatcher())
        assert arrived(loft)[-1] == "Sale!"


async def test_a_reply_overtakes_bulk_that_has_not_left(loft: World) -> None:
    first, second = await sell(loft), await sell(loft, "More!")
    await say(loft, first.ticket_id, "answer")
    dispatcher = loft.dispatcher(concurrency=1)
    assert await waits(loft, second.message_id) == Wait("order", "", "another message of the conversation is queued")
    await loft.run(dispatcher)
    assert arrived(loft) == ["answer", "Sale!", "More!"]


async def test_a_reply_waits_for_bulk_that_is_leaving(loft: World) -> None:
    sale, dispatcher = await sell(loft), loft.dispatcher()
    loft.platform.gate = asyncio.Event()
    assert await dispatcher.round() == 1
    answer = await say(loft, sale.ticket_id, "answer")
    assert await waits(loft, answer) == Wait("order", "", "an earlier message of the conversation is sending")
    assert await dispatcher.round() == 0
    loft.platform.gate.set()
    await loft.run(dispatcher)
    assert arrived(loft) == ["Sale!", "answer"]


async def test_bulk_waits_for_a_reply_that_is_leaving_and_goes_then(loft: World) -> None:
    sale = await sell(loft)
    later = micros(loft.clock()) + 1_000_000
    await loft.execute(update(schema.outbox).values(state="held", not_before=later))
    await say(loft, sale.ticket_id, "answer")
    dispatcher = loft.dispatcher()
    loft.platform.gate = asyncio.Event()
    assert await dispatcher.round() == 1
    loft.clock.forward(seconds=2)
    assert await dispatcher.round() == 0
    assert await waits(loft, sale.message_id) == Wait("order", "", "another message of the conversation is sending")
    loft.platform.gate.set()
    await loft.run(dispatcher)
    assert arrived(loft) == ["answer", "Sale!"]


async def test_one_that_goes_again_waits_for_a_later_one_that_is_leaving(loft: World) -> None:
    ticket, dispatcher = await loft.ticket(), loft.dispatcher()
    loft.platform.refuse_next(400, "gone")
    first = await say(loft, ticket, "first")
    await loft.run(dispatcher)
    assert await loft.status(first) == "failed"
    loft.platform.gate = asyncio.Event()
    second = await say(loft, ticket, "second")
    assert await dispatcher.round() == 1
    await replies.retry(loft.core, first, AGENT)
    assert await dispatcher.round() == 0
    assert await loft.status(second) == "sending"
    loft.platform.gate.set()
    await loft.run(dispatcher)
    assert arrived(loft) == ["second", "first"]


@pytest.mark.postgres
async def test_a_reply_does_not_leave_beside_bulk_that_another_sender_is_taking(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sender has taken bulk and not committed yet; the reply is written, and another sender looks."""
    taken, commit_sending = asyncio.Event(), claim._commit_sending

    def slowly(connection: Connection, *arguments: Any) -> Any:
        if not taken.is_set():
            taken.set()
            connection.execute(select(func.pg_advisory_xact_lock(7)))
        return commit_sending(connection, *arguments)

    monkeypatch.setattr(claim, "_commit_sending", slowly)
    empty = postgres.empty()
    url = empty.set(drivername="postgresql").render_as_string(hide_password=False)
    async with world(tmp_path, database_url=url) as loft, held_lock(empty, 7) as go_on:
        loft.platform.gate = asyncio.Event()
        one, other = (loft.dispatcher(owner=owner, alone=False) for owner in ("one", "other"))
        sale = await sell(loft)
        taking = asyncio.create_task(one.round())
        await asyncio.wait_for(taken.wait(), 20)
        answer = await say(loft, sale.ticket_id, "answer")
        looking = asyncio.create_task(other.round())
        await asyncio.sleep(0.2)  # it comes as far as it can
        await go_on()
        assert await taking == 1
        assert await looking == 0
        assert await loft.status(answer) == "queued"
        loft.platform.gate.set()
        await one.settled()
        await loft.run(other)
        assert arrived(loft) == ["Sale!", "answer"]
