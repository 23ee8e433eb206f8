"""What every bus does, the one of a single process and the one over Redis."""

from __future__ import annotations

import asyncio

import pytest

from gateway.bus import QUEUE_MAX, REPLAY_MAX, RESET
from gateway.bus.memory import Place, parse_id
from tests.bus.conftest import Buses, saying
from tests.support.world import eventually


async def test_a_waiter_is_woken_by_its_topic_alone(either: Buses) -> None:
    bus = await either.bus()
    await bus.wait("outbox", 0.001)
    assert not await bus.wait("outbox", 0.001)
    waiting = asyncio.create_task(bus.wait("outbox", 30))
    await asyncio.sleep(0)
    bus.wake("intake")
    await asyncio.sleep(0.02)
    assert not waiting.done()
    bus.wake("outbox")
    assert await waiting
    bus.wake("outbox", everywhere=False)  # before anybody waits
    assert await bus.wait("outbox", 30)
    assert not await bus.wait("outbox", 0.001)


async def test_every_listener_hears_every_event_once_and_in_order(either: Buses) -> None:
    bus = await either.bus()
    ears = [await either.ear(bus) for _ in range(3)]
    words = [f"w{number}" for number in range(700)]
    for first in range(0, 700, 7):
        bus.publish(saying(*words[first : first + 7]))
        if first % 70 == 0:
            await asyncio.sleep(0)
    for ear in ears:
        await ear.until(words[-1])
        assert ear.words == words
        assert len({event.id for event in ear.heard}) == 700
        assert (ear.heard[0].type, ear.heard[0].account) == ("message.updated", "a")


async def test_a_listener_hears_what_happens_from_now_on(either: Buses) -> None:
    bus = await either.bus()
    bus.publish(saying("before"))
    ear = await either.ear(bus)
    bus.publish(saying("after"))
    await ear.until("after")
    assert ear.words == ["after"]


async def test_who_comes_back_hears_what_he_missed_and_nothing_twice(either: Buses) -> None:
    bus = await either.bus()
    ear = await either.ear(bus)
    bus.publish(saying("1", "2", "3"))
    await ear.until("3")
    bus.publish(saying("4"))
    again = await either.ear(bus, ear.heard[1].id)
    bus.publish(saying("5"))
    await again.until("5")
    assert again.words == ["3", "4", "5"]
    newest = await either.ear(bus, again.heard[-1].id)
    bus.publish(saying("6"))
    await newest.until("6")
    assert newest.words == ["6"]


@pytest.mark.parametrize("given", ["another-7", "-", "7", "0a0b0c0d-" + "9" * 20, "0a0b0c0d-²", "x" * 100_000])
async def test_an_id_that_nobody_knows_is_told_to_look_again(either: Buses, given: str) -> None:
    bus = await either.bus()
    ear = await either.ear(bus)
    bus.publish(saying("1"))
    await ear.until("1")
    lost = await either.ear(bus, given)
    bus.publish(saying("2"))
    await lost.until("2")
    assert lost.words == [RESET, "1", "2"]


async def test_an_id_that_is_too_old_is_told_to_look_again(either: Buses) -> None:
    bus = await either.bus()
    ear = await either.ear(bus)
    words = [f"w{number}" for number in range(REPLAY_MAX + 5)]
    for word in words:
        bus.publish(saying(word))
        await asyncio.sleep(0)
    await ear.until(words[-1])
    late = await either.ear(bus, ear.heard[0].id)
    await late.until(words[-1])
    assert late.words == [RESET, *words[5:]]
    just = await either.ear(bus, ear.heard[4].id)
    await just.until(words[-1])
    assert just.words == words[5:]


async def test_a_slow_listener_is_cut_off_and_comes_back(either: Buses) -> None:
    bus = await either.bus()
    slow, quick = bus.listen(), await either.ear(bus)
    first = asyncio.ensure_future(anext(slow))
    await asyncio.sleep(0)
    words = [f"w{number}" for number in range(QUEUE_MAX + 2)]
    for word in words:
        bus.publish(saying(word))
        await asyncio.sleep(0)
    await quick.until(words[-1])
    last = await first
    with pytest.raises(StopAsyncIteration):
        await anext(slow)
    back = await either.ear(bus, last.id)
    await back.until(words[-1])
    assert back.words == words[1:]
    assert quick.words == words


async def test_closing_ends_every_listener(either: Buses) -> None:
    bus = await either.bus()
    ear = await either.ear(bus)
    bus.close()
    await eventually(lambda: ear.ended)


def test_a_place_tells_nothing_twice_and_of_every_gap() -> None:
    (event,) = saying("x")
    place = Place("s", 4, 0)
    assert [told.type for told in place.pass_on(event.at("s", 4))] == []
    assert [told.type for told in place.pass_on(event.at("s", 5))] == ["message.updated"]
    assert [told.type for told in place.pass_on(event.at("s", 7))] == [RESET, "message.updated"]
    assert [told.id for told in place.pass_on(event.at("alone", 1, 1))] == ["alone-1"]
    assert [told.id for told in place.pass_on(event.at("s", 8, 1))] == []  # the same, come by the series
    assert [told.id for told in place.pass_on(event.at("s", 9, 2))] == ["s-9"]
    assert parse_id("s-9") == ("s", 9)
