"""A reply that goes in several messages, of which one is refused: of a text the rest stays, files go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import deadletters, replies
from gateway.ids import micros
from gateway.replies import ReplyRequest, RequestError, Submitted
from gateway.requests import AttachmentRequest
from gateway.store import receipts, schema
from gateway.tickets import Actor
from normalizers.model import DeliveryUpdate, PlatformError
from tests.pigeon import OPEN, START, World, world
from tests.store.conftest import STORES
from tests.support.postgres import address_for

AGENT = Actor("agent", "u1", "Bo")
LONG = " ".join(["word"] * 55)  # three parts
WORDS = "Look at these two, please: both."  # no caption, it is too long for one


@pytest.fixture(params=STORES)
async def loft(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, database_url=address_for(request)) as made:
        yield made


async def say(loft: World, ticket: str, words: str = LONG, **more: Any) -> str:
    answer = await replies.submit(loft.core, ticket, ReplyRequest(text=words, **more), AGENT)
    assert isinstance(answer, Submitted)
    return answer.message_id


async def parts_of(loft: World, message_id: str) -> list[Any]:
    rows = await loft.rows(schema.outbox, schema.outbox.c.message_id == message_id)
    return sorted(rows, key=lambda row: row.part)


async def states(loft: World, message_id: str) -> list[str]:
    return [part.state for part in await parts_of(loft, message_id)]


async def second_refused(loft: World, ticket: str, **more: Any) -> str:
    """A message in parts whose first one was sent and whose second one is refused; what can go has gone."""
    message = await say(loft, ticket, **more)
    dispatcher = loft.dispatcher()
    await dispatcher.round()
    await dispatcher.settled()
    loft.platform.refuse_next(400, "gone")
    await loft.run(dispatcher)
    return message


async def test_the_rest_of_a_text_stays_and_says_which_part_was_refused(loft: World) -> None:
    ticket = await loft.ticket()
    message = await second_refused(loft, ticket)
    behind = await say(loft, ticket, "next")
    await loft.run(loft.dispatcher())
    assert await states(loft, message) == ["sent", "failed", "failed"]
    assert [send.payload["text"][:4] for send in loft.platform.sends] == ["word", "next"]
    errors = [msgspec.json.decode(part.error) for part in (await parts_of(loft, message))[1:]]
    assert [(error["code"], error["class"]) for error in errors] == [
        ("gone", "bad-recipient"), ("rest-of-text", "bad-recipient"),
    ]  # fmt: skip
    assert errors[1]["detail"] == "part 2 of 3 was not sent (gone)"
    row = await loft.message(message)
    assert (row.status, msgspec.json.decode(row.error)["code"]) == ("failed", "gone")
    assert await loft.status(behind) == "sent"
    (letter,) = await loft.rows(schema.dead_letters)
    assert letter.code == "gone"


@pytest.mark.parametrize("way", ["retry", "replay"])
async def test_it_is_sent_again_with_the_refused_part(loft: World, way: str) -> None:
    message = await second_refused(loft, await loft.ticket())
    if way == "retry":
        await replies.retry(loft.core, message, AGENT)
    else:
        (letter,) = await loft.rows(schema.dead_letters)
        await deadletters.replay(loft.core, letter.id, AGENT)
    await loft.run(loft.dispatcher())
    assert await states(loft, message) == ["sent"] * 3
    assert len(loft.platform.sends) == 3
    texts = [send.ours for send in loft.platform.sends]
    assert texts == [part.id for part in await parts_of(loft, message)]


async def test_a_letter_replayed_twice_leaves_the_one_of_the_next_failure_open(loft: World) -> None:
    message = await say(loft, await loft.ticket(), "Hello")
    for _ in range(2):
        loft.platform.refuse_next(400, "gone")
        await loft.run(loft.dispatcher())
        letters = await loft.rows(schema.dead_letters)
        await deadletters.replay(loft.core, letters[0].id, AGENT)
    old, new = await loft.rows(schema.dead_letters)
    assert (await loft.status(message), old.replayed_at is None, new.replayed_at) == ("failed", False, None)
    await deadletters.replay(loft.core, new.id, AGENT)
    await loft.run(loft.dispatcher())
    assert await loft.status(message) == "sent"


async def test_what_the_rules_stop_half_way_keeps_the_rest_as_well(loft: World) -> None:
    ticket = await loft.ticket()
    message = await say(loft, ticket)
    dispatcher = loft.dispatcher()
    await dispatcher.round()
    await dispatcher.settled()
    await loft.execute(schema.identities.update().values(state="opted_out"))
    await loft.run(dispatcher)
    assert await states(loft, message) == ["sent", "failed", "failed"]
    assert len(await loft.rows(schema.dead_letters)) == 1


async def test_files_go_although_one_was_refused(loft: World) -> None:
    files = [AttachmentRequest(url=f"https://files.example/{name}.pdf") for name in "ab"]
    message = await second_refused(loft, await loft.ticket(), words=WORDS, attachments=files)
    assert await states(loft, message) == ["sent", "failed", "sent"]
    loft.platform.refuse_next(400, "gone")  # the words before them are refused
    message = await say(loft, await loft.ticket(), WORDS, attachments=files)
    await loft.run(loft.dispatcher())
    assert await states(loft, message) == ["failed", "sent", "sent"]


async def test_a_failure_that_is_reported_later_stops_what_still_waits(loft: World) -> None:
    ticket = await loft.ticket()
    message, behind = await say(loft, ticket), await say(loft, ticket, "next")
    dispatcher = loft.dispatcher()
    await dispatcher.round()
    await dispatcher.settled()
    first = (await parts_of(loft, message))[0]
    told = DeliveryUpdate(
        id="r1", at=START, status="failed", target=first.external_id, error=PlatformError(code="gone", title="moved")
    )
    now = micros(loft.clock())
    await loft.core.database.write(lambda c: receipts.apply(c, "loft", OPEN, [told], now))
    assert await states(loft, message) == ["failed"] * 3
    await loft.run(dispatcher)  # what stood behind the text goes, though nothing of the text was in flight
    assert await loft.status(behind) == "sent"
    assert [send.payload["text"][:4] for send in loft.platform.sends] == ["word", "next"]


async def test_a_message_cut_short_by_a_person_never_reads_delivered(loft: World) -> None:
    ticket = await loft.ticket()
    message = await say(loft, ticket)
    dispatcher = loft.dispatcher()
    await dispatcher.round()
    await dispatcher.settled()
    await replies.cancel(loft.core, message, AGENT)
    row = await loft.message(message)
    assert (row.status, msgspec.json.decode(row.error)) == (
        "sent", {"code": "cancelled", "class": "permanent", "detail": "2 of 3 parts were cancelled"},
    )  # fmt: skip
    read = DeliveryUpdate(id="r1", at=START, status="read", target=row.external_id)
    now = micros(loft.clock())
    await loft.core.database.write(lambda c: receipts.apply(c, "loft", OPEN, [read], now))
    assert await states(loft, message) == ["read", "cancelled", "cancelled"]
    assert await loft.status(message) == "sent"
    with pytest.raises(RequestError):
        await replies.cancel(loft.core, message, AGENT)
