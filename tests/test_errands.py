"""The errand worker: what fails comes again by the stored schedule, or becomes a dead letter that can be replayed."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from adapters import SendError, Throttled
from gateway import deadletters
from gateway.core import Core
from gateway.errands import ErrandWorker
from gateway.ids import micros
from gateway.store import dead
from gateway.store import errands as store
from gateway.store.errands import Errand
from gateway.store.schema import errands
from gateway.tickets import SYSTEM
from outbox.schedule import SCHEDULES
from tests.web.conftest import make_core

T0 = datetime(2026, 5, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        return self.now


class Bench:
    """A worker with one target, whose answers are given in advance."""

    def __init__(self, core: Core, clock: Clock) -> None:
        self.core, self.clock = core, clock
        self.answers: list[Exception | None] = []
        self.done: list[Errand] = []
        self.worker = ErrandWorker(core, {"crm": self._do}, chance=lambda: 0.5)

    async def _do(self, errand: Errand) -> None:
        self.done.append(errand)
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer

    async def want(self, key: str = "k") -> None:
        row = store.wanted("test", "crm", "lane", key, {"text": "secret"}, micros(self.clock()), subject="c" * 32)
        await self.core.database.write(lambda connection: store.want(connection, [row]))

    async def row(self) -> Any:
        return await self.core.database.read(lambda c: c.execute(select(errands)).mappings().one())

    async def step(self) -> int:
        return await self.worker.step("crm")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = Clock()
    core = dataclasses.replace(make_core(tmp_path), clock=clock)
    yield Bench(core, clock)
    await core.database.stop()


async def letters(bench: Bench) -> Sequence[Any]:
    """The open dead letters."""
    return await bench.core.database.read(lambda connection: dead.oldest(connection, dead.Filter(), 10, "", ""))


async def test_what_fails_comes_again_by_the_schedule_and_dies_in_the_end(bench: Bench) -> None:
    delays = SCHEDULES["sink"].delays
    bench.answers = [SendError("retry", "down", "nobody is there")] * (len(delays) + 1)
    await bench.want()
    assert await bench.step() == 1  # the first try is made at once
    for number, delay in enumerate(delays, 1):
        row = await bench.row()
        assert (row["state"], row["attempts"], row["code"]) == ("waiting", number, "down")
        assert row["not_before"] == micros(bench.clock() + delay)
        bench.clock.now += delay - timedelta(seconds=1)
        assert await bench.step() == 0
        bench.clock.now += timedelta(seconds=1)
        assert await bench.step() == 1
    assert {errand.id for errand in bench.done} == {bench.done[0].id}  # one key for all tries
    (letter,) = await letters(bench)
    assert (letter["kind"], letter["account"], letter["error_class"], letter["attempts"]) == (
        "errand",
        "crm",
        "retry",
        8,
    )
    await deadletters.replay(bench.core, letter["id"], SYSTEM)
    assert await bench.step() == 1
    assert (await bench.row())["state"] == "done"
    assert bench.done[-1].id == bench.done[0].id
    with pytest.raises(deadletters.DeadLetterError):
        await deadletters.replay(bench.core, letter["id"], SYSTEM)
    assert await bench.step() == 0


async def test_a_lost_answer_is_asked_for_again_and_a_refusal_is_not(bench: Bench) -> None:
    bench.answers = [SendError("unknown", "timeout", certain=False), SendError("permanent", "no", "not like this")]
    await bench.want()
    await bench.step()
    assert (await bench.row())["error_class"] == "unknown"
    bench.clock.now += timedelta(seconds=5)
    await bench.step()
    row = await bench.row()
    assert (row["state"], row["attempts"]) == ("dead", 2)
    await bench.want("next")  # and the lane goes on


async def test_waiting_for_others_uses_up_no_try(bench: Bench) -> None:
    bench.answers = [Throttled("429", retry_after_s=7.0), Throttled("429"), SendError("auth", "401")]
    await bench.want()
    for wait in (timedelta(seconds=7), timedelta(seconds=30), timedelta(minutes=5)):
        await bench.step()
        row = await bench.row()
        assert (row["state"], row["attempts"], row["not_before"]) == ("waiting", 0, micros(bench.clock() + wait))
        bench.clock.now += wait
    await bench.step()
    assert (await bench.row())["state"] == "done"


async def test_a_fault_of_ours_is_tried_again_too(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.answers = [ZeroDivisionError("secret")]
    await bench.want()
    await bench.step()
    assert (await bench.row())["code"] == "internal"
    assert "errands.broken" in caplog.text


async def test_dropped_letters_are_not_replayed(bench: Bench) -> None:
    bench.answers = [SendError("permanent", "no")]
    await bench.want()
    await bench.step()
    (letter,) = await letters(bench)
    await deadletters.drop(bench.core, letter["id"], SYSTEM)
    with pytest.raises(deadletters.DeadLetterError):
        await deadletters.replay(bench.core, letter["id"], SYSTEM)
