"""The bus of several processes: across, in one order, and through whatever may happen to Redis."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
from contextlib import suppress

import pytest
import redis

from gateway.bus import QUEUE_MAX, RESET, relay
from gateway.bus import redis as bus_module
from gateway.bus.check import trouble_of_redis
from gateway.bus.redis import RedisBus
from gateway.metrics import Metrics
from tests.bus.conftest import PATIENCE_S, Buses, Ear, connected, in_order, saying
from tests.support.redis import PASSWORD, RedisServer
from tests.support.world import eventually

SEED = int(os.environ.get("BUS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)


# --- waking ---


async def test_a_wake_up_reaches_the_other_process(buses: Buses) -> None:
    here, there = await buses.pair()
    await there.wait("outbox", 0.01)
    waiting = asyncio.create_task(there.wait("outbox", PATIENCE_S))
    await asyncio.sleep(0)
    here.wake("outbox", everywhere=False)
    here.wake("intake")
    assert await there.wait("intake", PATIENCE_S)  # by then the other would have come, too
    assert not waiting.done()
    here.wake("outbox")
    assert await waiting


async def test_many_wake_ups_are_one_call_and_are_not_called_again(buses: Buses, redis_server: RedisServer) -> None:
    here, there = await buses.pair()
    with redis.Redis.from_url(redis_server.url, protocol=2) as client, client.pubsub() as ear:
        ear.psubscribe("gateway:{tests}:wake")
        for _ in range(1000):
            here.wake("outbox")
            here.wake("media")
        assert await there.wait("outbox", PATIENCE_S)
        there.wake("last")
        assert await here.wait("last", PATIENCE_S)
        calls: list[bytes] = []
        async with asyncio.timeout(PATIENCE_S):
            while not calls or b'"last"' not in calls[-1]:
                message = await asyncio.to_thread(ear.get_message, timeout=1.0)
                if message is not None and message["type"] == "pmessage":
                    calls.append(message["data"])
    asked = [call for call in calls if not call.endswith(b",[]]")]
    assert len(asked) == 2
    assert asked[0].endswith(b',["media","outbox"]]')


async def test_two_gateways_that_share_a_redis_hear_nothing_of_each_other(
    buses: Buses, redis_server: RedisServer
) -> None:
    ours, other = await buses.bus(), RedisBus(redis_server.url, "others", Metrics())
    await other.start()
    ear, stranger = await buses.ear(ours), await buses.ear(other)
    await ours.wait("outbox", 0.01)
    other.wake("outbox")
    other.publish(saying("theirs"))
    ours.publish(saying("ours"))
    await ear.until("ours")
    await stranger.until("theirs")
    await eventually(lambda: other._accepted == 1 and not other._topics)
    assert (ear.words, stranger.words) == (["ours"], ["theirs"])
    assert not await ours.wait("outbox", 0.05)
    await stranger.close()
    await other.stop()


# --- events ---


async def test_several_publishers_are_heard_everywhere_in_one_order(buses: Buses) -> None:
    chance = random.Random(SEED)
    print(f"\nseed {SEED}")
    all_buses = [await buses.bus() for _ in range(3)]
    ears = [await buses.ear(bus) for bus in all_buses for _ in range(2)]
    said = {number: [f"{number}.{count}" for count in range(400)] for number in range(3)}

    async def publish(number: int) -> None:
        words = list(said[number])
        while words:
            size = chance.randrange(1, 9)
            all_buses[number].publish(saying(*words[:size]))
            del words[:size]
            await asyncio.sleep(chance.choice([0, 0, 0.001]))

    await asyncio.gather(*(publish(number) for number in said))
    for ear in ears:
        await ear.until(*(words[-1] for words in said.values()))
    assert len({tuple(ear.words) for ear in ears}) == 1
    assert len({tuple(event.id for event in ear.heard) for ear in ears}) == 1
    assert sorted(ears[0].words) == sorted(word for words in said.values() for word in words)
    assert all(in_order(ears[0].words, words) for words in said.values())


async def test_who_comes_back_to_another_process_goes_on_there(buses: Buses) -> None:
    here, there = await buses.pair()
    ear = await buses.ear(here)
    here.publish(saying("1", "2"))
    there.publish(saying("3"))
    await ear.until("1", "2", "3")
    await ear.close()
    here.publish(saying("4"))
    on_the_other = await buses.ear(there, ear.heard[1].id)
    started_later = await buses.bus()
    on_the_new = await buses.ear(started_later, ear.heard[1].id)
    here.publish(saying("5"))
    for again in (on_the_other, on_the_new):
        await again.until("5")
        assert again.words == [*ear.words[2:], "4", "5"]


async def test_who_is_ahead_of_this_process_hears_nothing_twice(buses: Buses) -> None:
    here, there = await buses.pair()
    ear = await buses.ear(here)
    here.publish(saying("1"))
    await ear.until("1")
    series = ear.heard[0].series
    ahead = await buses.ear(there, f"{series}-2")
    here.publish(saying("2", "3"))
    await ahead.until("3")
    assert ahead.words == ["3"]


async def test_another_thread_with_its_own_loop_is_like_another_process(
    buses: Buses, redis_server: RedisServer
) -> None:
    here = await buses.bus()
    ear = await buses.ear(here)
    heard: list[str] = []
    listens = threading.Event()

    async def elsewhere() -> None:
        there = RedisBus(redis_server.url, "tests", Metrics())
        await there.start()
        other = Ear(there)
        await asyncio.sleep(0)
        listens.set()
        await other.until("from here")
        there.publish(saying("from there"))
        await other.until("from there")
        heard.extend(other.words)
        await other.close()
        await there.stop()

    thread = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(elsewhere())))
    await asyncio.to_thread(listens.wait, PATIENCE_S)
    here.publish(saying("from here"))
    await ear.until("from there")
    await thread
    assert ear.words == heard == ["from here", "from there"]


async def test_what_was_said_last_is_brought_away_at_the_end(buses: Buses, redis_server: RedisServer) -> None:
    there = await buses.bus()
    ear = await buses.ear(there)
    await there.wait("outbox", 0.01)
    for number in range(10):
        short = RedisBus(redis_server.url, "tests", Metrics())
        await short.start()
        short.publish(saying(f"{number}"))
        short.wake("outbox")
        await short.stop()
        await ear.until(f"{number}")
        assert await there.wait("outbox", PATIENCE_S)


# --- Redis in trouble ---


class Talk:
    """Two processes that publish without pause, each with a listener."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.said: dict[str, list[str]] = {"a": [], "b": []}
        self.stopping = False

    async def open(self, buses: Buses) -> None:
        self.buses = dict(zip("ab", await buses.pair(), strict=True))
        self.ears = {name: await buses.ear(bus) for name, bus in self.buses.items()}
        self._tasks = [asyncio.create_task(self._talk(name)) for name in "ab"]

    async def _talk(self, name: str) -> None:
        while not self.stopping:
            self.say(name, self.chance.randrange(1, 5))
            await asyncio.sleep(self.chance.choice([0, 0.002, 0.01]))

    def say(self, name: str, count: int = 1) -> str:
        words = [f"{name}{len(self.said[name]) + number}" for number in range(count)]
        self.said[name] += words
        self.buses[name].publish(saying(*words))
        self.buses[name].wake("outbox")
        return words[-1]

    async def for_a_while(self) -> None:
        """Until each has said something more, at a moment that the seed chooses."""
        await asyncio.sleep(self.chance.uniform(0.02, 0.1))

    async def end(self) -> None:
        self.stopping = True
        await asyncio.gather(*self._tasks)

    async def all_goes_on(self) -> None:
        """What is said now is heard on both sides, by way of Redis."""
        await eventually(lambda: connected(*self.buses.values()), PATIENCE_S)
        last = [self.say("a"), self.say("b")]
        for ear in self.ears.values():
            await ear.until(*last)
        for name, bus in self.buses.items():
            await bus.wait("outbox", 0.05)
            await bus.wait("outbox", 0.05)
            self.buses["b" if name == "a" else "a"].wake("outbox")
            assert await bus.wait("outbox", PATIENCE_S)

    def check(self) -> None:
        """Own events are all there; the other's in order and each once, and if some are missing that was said."""
        for name, ear in self.ears.items():
            other = "b" if name == "a" else "a"
            assert [word for word in ear.events if word[0] == name] == self.said[name]
            theirs = [word for word in ear.events if word[0] == other]
            assert in_order(theirs, self.said[other])
            assert theirs == self.said[other] or RESET in ear.words


@pytest.fixture
async def talk(buses: Buses) -> Talk:
    print(f"\nseed {SEED}")
    made = Talk(random.Random(SEED))
    await made.open(buses)
    await made.for_a_while()
    return made


@pytest.mark.parametrize("turns", [1, 3])
async def test_redis_is_killed_and_started_again(talk: Talk, redis_server: RedisServer, turns: int) -> None:
    for _ in range(turns):
        redis_server.kill()
        await talk.for_a_while()
        await eventually(lambda: not any(map(connected, talk.buses.values())))
        alone = {name: talk.say(name) for name in "ab"}
        for name, word in alone.items():  # told at once, without any Redis
            await talk.ears[name].until(word)
        await asyncio.to_thread(redis_server.begin)
        for ear in talk.ears.values():  # what was said alone follows for the other
            await ear.until(*alone.values())
        await talk.for_a_while()
    await talk.end()
    await talk.all_goes_on()
    talk.check()
    assert all(RESET in ear.words for ear in talk.ears.values())  # it has forgotten what it knew


async def test_redis_says_nothing_for_a_while(talk: Talk, redis_server: RedisServer) -> None:
    redis_server.halt()
    try:
        await eventually(lambda: not any(map(connected, talk.buses.values())))
        for name, ear in talk.ears.items():
            await ear.until(talk.say(name))
    finally:
        redis_server.go_on()
    await talk.for_a_while()
    await talk.end()
    await talk.all_goes_on()
    talk.check()
    assert not any(RESET in ear.words for ear in talk.ears.values())  # nothing was lost, so nothing is said of it


async def test_connections_break(talk: Talk, redis_server: RedisServer) -> None:
    for _ in range(4):
        for kind in ("pubsub", "normal"):
            await asyncio.to_thread(redis_server.do, "CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            await talk.for_a_while()
    await talk.end()
    await talk.all_goes_on()
    talk.check()
    assert not any(RESET in ear.words for ear in talk.ears.values())


async def test_what_was_heard_before_a_flush_is_not_heard_again(buses: Buses, redis_server: RedisServer) -> None:
    """One has published an event and not read it back; the other has heard it; then Redis forgets the series."""
    here, there = await buses.pair()
    assert isinstance(here, RedisBus)
    ear, read, gate = await buses.ear(there), here._relay.read, asyncio.Event()

    async def later(after: int) -> relay.Page:
        await gate.wait()
        return await read(after)

    here._relay.read = later  # type: ignore[method-assign]
    here.publish(saying("once"))
    await ear.until("once")
    await asyncio.to_thread(redis_server.do, "FLUSHALL")
    gate.set()
    here.publish(saying("then"))
    await ear.until("then")
    assert ear.events == ["once", "then"]
    assert RESET in ear.words


async def test_redis_is_flushed(talk: Talk, redis_server: RedisServer) -> None:
    for _ in range(3):
        await asyncio.to_thread(redis_server.do, "FLUSHALL")
        await talk.for_a_while()
    await talk.end()
    await talk.all_goes_on()
    talk.check()
    assert all(RESET in ear.words for ear in talk.ears.values())
    again = talk.ears["a"].heard[-2]
    ear = Ear(talk.buses["b"], again.id)
    await ear.until(talk.ears["a"].words[-1])
    assert RESET not in ear.words
    await ear.close()


async def test_redis_is_flushed_while_nobody_speaks(
    buses: Buses, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "LOOK_S", 0.05)
    ear = await buses.ear(await buses.bus())
    redis_server.do("FLUSHALL")
    await ear.until(RESET)


async def test_redis_comes_back_with_an_older_memory(buses: Buses, redis_server: RedisServer) -> None:
    here, there = await buses.pair()
    ear, other = await buses.ear(here), await buses.ear(there)
    here.publish(saying("1", "2"))
    await ear.until("2")
    redis_server.do("SAVE")
    here.publish(saying("3", "4", "5"))
    await other.until("5")
    redis_server.kill()
    redis_server.begin()
    await eventually(lambda: connected(here, there) and RESET in ear.words and RESET in other.words, PATIENCE_S)
    there.publish(saying("6"))  # it would have the number of a known one
    await ear.until("6")
    await other.until("6")
    assert other.events == ear.events == ["1", "2", "3", "4", "5", "6"]


async def test_redis_is_full(talk: Talk, redis_server: RedisServer) -> None:
    await asyncio.to_thread(redis_server.do, "CONFIG", "SET", "maxmemory", 1)
    await eventually(lambda: not any(map(connected, talk.buses.values())))
    for name, ear in talk.ears.items():
        await ear.until(talk.say(name))
    await asyncio.to_thread(redis_server.do, "CONFIG", "SET", "maxmemory", 0)
    await talk.end()
    await talk.all_goes_on()
    talk.check()
    assert not any(RESET in ear.words for ear in talk.ears.values())


async def test_without_redis_from_the_start(buses: Buses, redis_server: RedisServer) -> None:
    redis_server.kill()
    here, there = await buses.pair()
    ear, other = await buses.ear(here), await buses.ear(there)
    here.publish(saying("1", "2"))
    here.wake("outbox")
    assert await here.wait("outbox", PATIENCE_S)
    await ear.until("2")
    back = await buses.ear(here, ear.heard[0].id)
    await back.until("2")
    assert (ear.words, back.words, other.words) == (["1", "2"], ["2"], [])
    assert not connected(here)
    redis_server.begin()
    await other.until(RESET)  # who knows what it has missed
    await eventually(lambda: connected(here, there), PATIENCE_S)
    here.publish(saying("3"))
    for listener in (ear, back, other):
        await listener.until("3")
    assert (ear.events, back.events) == (["1", "2", "3"], ["2", "3"])
    assert other.events in (["3"], ["1", "2", "3"])
    late = await buses.ear(there, f"{other.heard[-1].series}-0")
    await late.until("3")
    assert late.words == ["1", "2", "3"]


async def test_what_waited_for_redis_cuts_nobody_off(buses: Buses, redis_server: RedisServer) -> None:
    here, there = await buses.pair()
    ears = [await buses.ear(here), await buses.ear(there)]
    redis_server.halt()
    words = [f"{number}" for number in range(5 * QUEUE_MAX)]
    here.publish(saying(*words))
    await ears[0].until(words[-1])
    redis_server.go_on()
    await ears[1].until(words[-1])
    assert [ear.events for ear in ears] == [words, words]


async def test_what_is_more_than_is_kept_is_said_to_be_missing(
    buses: Buses, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = await buses.pair()
    ear, other = await buses.ear(here), await buses.ear(there)
    monkeypatch.setattr(bus_module, "UNSEEN_MAX", 10)
    redis_server.halt()
    here.publish(saying("0"))
    await eventually(lambda: not connected(here))
    here.publish(saying(*(f"{number}" for number in range(1, 30))))
    redis_server.go_on()
    await other.until("29")
    assert other.words[-11:] == [RESET, *(f"{number}" for number in range(20, 30))]
    assert isinstance(here, RedisBus)
    dropped = here._metrics.registry.get_sample_value("gateway_bus_dropped_total")
    assert dropped in (19, 20)  # Redis may have taken the first one before it fell silent
    await ear.until("29")
    assert ear.events == [f"{number}" for number in range(30)]


async def test_events_that_leave_the_stream_unread_are_said_to_be_missing(
    buses: Buses, redis_server: RedisServer
) -> None:
    here, there = await buses.pair()
    ear, other = await buses.ear(here), await buses.ear(there)
    here.publish(saying("1"))
    await other.until("1")
    redis_server.do("DEL", "gateway:{tests}:events")
    redis_server.do("HINCRBY", "gateway:{tests}:live", "count", 5)
    here.publish(saying("2"))
    for listener in (ear, other):
        await listener.until("2")
        assert listener.words == ["1", RESET, "2"]


async def test_the_stream_stays_short_and_foreign_matter_does_no_harm(
    buses: Buses, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = await buses.pair()
    ear = await buses.ear(there)
    monkeypatch.setattr(relay, "STREAM_MAX", 500)
    here.publish(saying(*(f"{number}" for number in range(2000))))
    await ear.until("1999")
    assert 500 <= redis_server.do("XLEN", "gateway:{tests}:events") < 1000
    assert 0 < redis_server.do("TTL", "gateway:{tests}:events") <= 7 * 86_400
    redis_server.do("PUBLISH", "gateway:{tests}:wake", "what is this?")
    number = redis_server.do("HINCRBY", "gateway:{tests}:live", "count", 1)
    redis_server.do("XADD", "gateway:{tests}:events", f"{number}-0", "event", "[1, 2]")
    here.publish(saying("at last"))
    await ear.until("at last")
    assert ear.words[-2:] == [RESET, "at last"]
    assert connected(here, there)


# --- addresses and secrets ---


@pytest.mark.parametrize("way", ["tcp", "tls", "socket"])
async def test_every_kind_of_address(redis_server: RedisServer, way: str) -> None:
    metrics = Metrics()
    here = RedisBus(redis_server.addresses[way], "tests", metrics)
    assert metrics.registry.get_sample_value("gateway_bus_connected") == 0
    await here.start()
    assert metrics.registry.get_sample_value("gateway_bus_connected") == 1
    assert await trouble_of_redis(redis_server.addresses[way], alone=False) == []
    await here.stop()


async def test_the_password_is_never_logged_and_each_change_once(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    metrics = Metrics()
    bus = RedisBus(redis_server.url, "tests", metrics)
    await bus.start()
    redis_server.kill()
    await eventually(lambda: bool(bus.warnings()))
    assert metrics.registry.get_sample_value("gateway_bus_connected") == 0
    await asyncio.sleep(1.0)  # several tries
    redis_server.begin()
    await eventually(lambda: not bus.warnings())
    await bus.stop()
    wrong = RedisBus(redis_server.url.replace(PASSWORD, f"{PASSWORD}Wrong"), "tests", Metrics())
    await wrong.start()
    assert wrong.warnings()
    await wrong.stop()
    ours = [record for record in caplog.records if record.name.startswith("gateway")]
    assert [record.getMessage() for record in ours] == ["bus.connected", "bus.lost", "bus.connected", "bus.lost"]
    assert ours[-1].__dict__["error"] == "AuthenticationError"
    assert not any(PASSWORD in repr(record.__dict__) for record in caplog.records)
    assert PASSWORD not in caplog.text + "".join(wrong.warnings())


@pytest.mark.parametrize("url", [f"redis://:{PASSWORD}@host:port", f"redis://:{PASSWORD}@host?no_such_option=1"])
async def test_an_address_that_is_none_is_refused_without_its_words(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        RedisBus(url, "tests", Metrics())
    assert PASSWORD not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert await trouble_of_redis(url, alone=False) == [("not an address of a Redis", True)]


async def test_check_says_whether_redis_answers(redis_server: RedisServer) -> None:
    assert await trouble_of_redis(redis_server.url, alone=False) == []
    ((words, fatal),) = await trouble_of_redis(redis_server.url, alone=True)
    assert words.startswith("of no use")
    assert not fatal
    wrong = redis_server.url.replace(PASSWORD, "wrong")
    assert await trouble_of_redis(wrong, alone=False) == [("Redis refuses the credentials", True)]
    without = redis_server.url.replace(f":{PASSWORD}@", "")
    assert await trouble_of_redis(without, alone=False) == [("Redis refuses the credentials", True)]
    redis_server.kill()
    ((words, fatal),) = await trouble_of_redis(redis_server.url, alone=False)
    assert words.startswith("Redis does not answer")
    assert not fatal


def test_nothing_of_it_needs_a_loop_to_be_told(redis_server: RedisServer) -> None:
    bus = RedisBus(redis_server.url, "tests", Metrics())
    with suppress(RuntimeError):
        asyncio.get_running_loop()
    bus.wake("outbox")
    bus.publish(saying("1"))
    assert bus.warnings()
