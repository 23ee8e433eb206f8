"""A stored message that cannot be read is given up by itself, and holds nobody else; both stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import update

from gateway import deadletters, replies
from gateway.replies import ReplyRequest, RequestError, Submitted
from gateway.store import schema
from gateway.tickets import Actor
from tests.pigeon import World, world
from tests.store.conftest import STORES
from tests.support.postgres import address_for

AGENT = Actor("agent", "u1", "Bo")
DAMAGED = {
    "cut off": '{"id": "x", "acc',
    "of another version": '{"id": 7, "channel": "open"}',
    "half a character": '{"id": "\\ud83d"}',
    "empty": "",
    "nested too deep": '{"a":' * 100_000,
}


@pytest.fixture(params=STORES)
async def loft(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, database_url=address_for(request)) as made:
        yield made


async def say(loft: World, ticket: str, words: str) -> str:
    answer = await replies.submit(loft.core, ticket, ReplyRequest(text=words), AGENT)
    assert isinstance(answer, Submitted)
    return answer.message_id


async def damage(loft: World, message_id: str, payload: str = '{"id": "x", "acc') -> None:
    where = schema.outbox.c.message_id == message_id
    await loft.execute(update(schema.outbox).where(where).values(payload=payload))


async def part_of(loft: World, message_id: str) -> Any:
    (row,) = await loft.rows(schema.outbox, schema.outbox.c.message_id == message_id)
    return row


@pytest.mark.parametrize("payload", DAMAGED.values(), ids=DAMAGED)
async def test_it_fails_alone(loft: World, payload: str) -> None:
    ticket, other = await loft.ticket(), await loft.ticket()
    broken, behind, elsewhere = await say(loft, ticket, "a"), await say(loft, ticket, "b"), await say(loft, other, "c")
    await damage(loft, broken, payload)
    await loft.run(loft.dispatcher())
    assert [await loft.status(one) for one in (broken, behind, elsewhere)] == ["failed", "sent", "sent"]
    error = msgspec.json.decode((await loft.message(broken)).error)
    assert (error["code"], error["class"]) == ("unreadable", "permanent")
    assert error["detail"].startswith("the stored message cannot be read: ")
    (letter,) = await loft.rows(schema.dead_letters)
    assert (letter.message_id, letter.code, letter.direction) == (broken, "unreadable", "outbound")
    assert "reply.failed" in await loft.log(ticket)


async def test_many_of_them_do_not_keep_others_from_leaving(loft: World) -> None:
    broken = [await say(loft, await loft.ticket(), "a") for _ in range(40)]
    for message in broken:
        await damage(loft, message)
    last = await say(loft, await loft.ticket(), "z")
    dispatcher = loft.dispatcher(concurrency=1)
    assert await dispatcher.round() == 1  # one round is enough: it claims again behind what it gave up
    await dispatcher.settled()
    assert await loft.status(last) == "sent"
    assert {await loft.status(message) for message in broken} == {"failed"}


async def test_a_person_is_told_that_it_cannot_be_sent_again(loft: World) -> None:
    broken = await say(loft, await loft.ticket(), "a")
    await damage(loft, broken)
    await loft.run(loft.dispatcher())
    (letter,) = await loft.rows(schema.dead_letters)
    for again in (replies.retry(loft.core, broken, AGENT), deadletters.replay(loft.core, letter.id, AGENT)):
        with pytest.raises(RequestError, match="cannot be read") as refused:
            await again
        assert (refused.value.status, refused.value.code) == (409, "not_retryable")


async def test_what_a_dead_sender_left_is_unknown_and_can_be_left(loft: World) -> None:
    """It may have arrived, also where the platform knows our key: nobody can repeat it."""
    ticket, other = await loft.ticket("keyed"), await loft.ticket("keyed")
    broken, behind, whole = await say(loft, ticket, "a"), await say(loft, ticket, "b"), await say(loft, other, "c")
    dead = loft.dispatcher()
    assert await dead.round() == 2
    await dead.abandon()
    await damage(loft, broken)
    heir = loft.dispatcher()
    await heir.recover()
    part = await part_of(loft, broken)
    assert (part.state, part.lease_until) == ("unknown", None)
    assert await loft.status(broken) == "unknown"
    tries = await loft.rows(schema.attempts, schema.attempts.c.message_id == broken)
    assert [(row.outcome, row.code) for row in tries] == [("unknown", "unreadable")]
    loft.clock.forward(seconds=10)
    await heir.keep()
    await loft.run(heir)
    assert [await loft.status(one) for one in (broken, behind, whole)] == ["unknown", "queued", "sent"]
    with pytest.raises(RequestError, match="cannot be read"):
        await replies.retry(loft.core, broken, AGENT)
    await replies.leave(loft.core, broken, AGENT)
    await loft.run(heir)
    assert [await loft.status(one) for one in (broken, behind)] == ["unknown", "sent"]
