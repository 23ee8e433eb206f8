"""Crash points that are passed only after minutes: the sender dies there, its heir finishes, and nothing is done twice.

The others are passed by real processes in `e2e/test_crash_points.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters import Sent
from gateway import replies
from gateway.replies import ReplyRequest, Submitted
from gateway.store import schema
from gateway.tickets import Actor
from outbox import crashpoints
from tests.pigeon import FindingAdapter, World, world

AGENT = Actor("agent", "u1", "Bo")


class Death(BaseException):
    """The process is gone: what comes after does not happen."""


class Undone(Exception):
    """In the store's own thread: the transaction is undone, as if it had never been."""


@contextlib.contextmanager
def dying(point: str) -> Iterator[list[str]]:
    """Die at the next passing of the point; names the point once it has happened."""
    died: list[str] = []

    def die() -> None:
        died.append(point)
        raise Undone if point.endswith("written") else Death

    crashpoints.arm(point, die=die)
    try:
        yield died
    finally:
        crashpoints.disarm()


async def say(loft: World, ticket: str, words: str) -> str:
    answer = await replies.submit(loft.core, ticket, ReplyRequest(text=words), AGENT)
    assert isinstance(answer, Submitted)
    return answer.message_id


async def lost(loft: World) -> tuple[str, str, str]:
    """A conversation whose first message is unknown, and one behind it: ticket, head, follower."""
    ticket = await loft.ticket()
    head, follower = await say(loft, ticket, "1"), await say(loft, ticket, "2")
    loft.platform.fail_next("reset_after_accept")
    await loft.run(loft.dispatcher())
    assert await loft.status(head) == "unknown"
    return ticket, head, follower


@pytest.mark.parametrize("point", ["settle.committed", "sweep.committed"])
async def test_a_death_after_the_commit_leaves_what_was_committed(tmp_path: Path, point: str) -> None:
    await _die(tmp_path, point)


@pytest.mark.parametrize("point", ["settle.written", "sweep.written"])
async def test_a_death_before_the_commit_leaves_all_to_be_done(tmp_path: Path, point: str) -> None:
    await _die(tmp_path, point)


async def _die(directory: Path, point: str) -> None:
    async with world(directory, adapters={"loft": FindingAdapter}) as loft:
        ticket, head, follower = await lost(loft)
        (part,) = await loft.rows(schema.outbox, schema.outbox.c.message_id == head)
        FindingAdapter.truth = {part.id: Sent("p1")} if point.startswith("settle") else {}
        sender = loft.dispatcher()
        await sender.recover()
        loft.clock.forward(minutes=11)
        with dying(point) as died, contextlib.suppress(Death, Undone):
            await sender.keep()
            await asyncio.gather(*sender._errands, return_exceptions=True)
        assert died == [point]
        await sender.abandon()
        heir = loft.dispatcher()
        await heir.recover()
        for _ in range(3):
            loft.clock.forward(minutes=2)
            await heir.keep()
            await heir.settled()
            await loft.run(heir)
        settled = "sent" if point.startswith("settle") else "unknown"
        assert [await loft.status(m) for m in (head, follower)] == [settled, "sent"]
        assert [send.payload["text"] for send in loft.platform.sends] == ["1", "2"]
        assert (await loft.log(ticket)).count("reply.undecided") == 1


def test_every_point_is_known_by_its_name() -> None:
    with pytest.raises(ValueError, match="no crash point"):
        crashpoints.arm("claim.imagined")
