"""kill -9 under load: what was answered is there, each once; nothing leaves twice; the store stays whole.

The run is seeded; a failure prints its seed. KILL_SEED=n repeats it, KILL_ROUNDS=n makes it longer.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import random
import signal
import sqlite3
import time
from pathlib import Path

import aiohttp
import pytest

from adapters.sandbox.meta_whatsapp import Customer
from tests.support.api import Api
from tests.support.process import Served, run
from tests.support.world import World, eventually

SEED = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(2**32)))
ROUNDS = int(os.environ.get("KILL_ROUNDS", 2))
WRITERS = 8
PEOPLE = 12


class Load:
    """Customers who write without pause. A delivery is posted again until it is answered 2xx, as platforms do."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world, self.chance = world, chance
        self.people = [world.customer(f"P{number}", f"491511234{number:04}") for number in range(PEOPLE)]
        self.made: dict[str, Customer] = {}
        self.acked: set[str] = set()
        self.resent = 0
        self.stopping = False

    async def write(self, writer: int) -> None:
        """One writer: posts its deliveries one after another."""
        async with aiohttp.ClientSession() as session:
            number = 0
            while not self.stopping:
                number += 1
                await self._deliver(session, f"wamid.{writer}.{number}")

    async def _deliver(self, session: aiohttp.ClientSession, wamid: str) -> None:
        who = self.made[wamid] = self.chance.choice(self.people)
        change = self.world.whatsapp.inbound(who, wamid, {"type": "text", "text": {"body": f"text of {wamid}"}})
        webhook = self.world.whatsapp.delivery([change])
        while not self.stopping:
            try:
                async with session.post(
                    self.world.whatsapp.webhook_url, data=webhook.body, headers=dict(webhook.headers)
                ) as answer:
                    if 200 <= answer.status < 300:
                        self.acked.add(wamid)
                        return
            except (aiohttp.ClientError, OSError):
                pass
            self.resent += 1
            await asyncio.sleep(0.05)


async def answer_some(
    world: World, api: Api, chance: random.Random, replies: dict[str, str], stop: asyncio.Event
) -> None:
    """An agent who answers whatever ticket comes to hand, with a key that makes asking again safe."""
    while not stop.is_set():
        try:
            tickets = (await api.get("tickets"))["items"]
            if tickets:
                key = f"reply {len(replies)}"
                answer = await api.reply(chance.choice(tickets), key, key=key)
                if answer.status == 202:
                    replies[answer.json["id"]] = key
        except (aiohttp.ClientError, OSError, AssertionError):
            pass
        await asyncio.sleep(0.02)


@pytest.mark.slow
async def test_what_was_answered_survives_kill_9(tmp_path: Path) -> None:
    print(f"\nseed {SEED}")
    chance = random.Random(SEED)
    async with World.platforms(tmp_path) as world:
        key = (await run("keys", "create", "tests", "--scope", "admin", "--config", world.file)).out.strip()
        world.whatsapp.redelivery.tries = 200
        load, replies, stop = Load(world, chance), dict[str, str](), asyncio.Event()
        served = await Served.start(world.file)
        address = served.address
        world.point(address)
        api = Api(address, key)
        work = [asyncio.create_task(load.write(writer)) for writer in range(WRITERS)]
        work.append(asyncio.create_task(answer_some(world, api, chance, replies, stop)))
        for _ in range(ROUNDS):
            await asyncio.sleep(chance.uniform(0.4, 1.0))
            await served.stop(signal.SIGKILL)
            served = await Served.start(world.file, "--listen", address.removeprefix("http://"))
            print(f"ready after {served.ready_s:.2f} s")
        await asyncio.sleep(0.3)
        load.stopping = True
        stop.set()
        await asyncio.gather(*work)
        began = time.monotonic()
        await _quiet(tmp_path)
        print(f"{len(load.acked)} acknowledged, {load.resent} resent, {len(replies)} replies; "
              f"filed {time.monotonic() - began:.2f} s after the last one")  # fmt: skip
        await world.whatsapp.settled()
        await api.close()
        assert await served.stop() == 0, served.err[-5:]
        _check_inbound(tmp_path, load)
        _check_outbound(tmp_path, world, replies)


WAITING = """
SELECT (SELECT count(*) FROM deliveries WHERE state IN ('received', 'retry'))
     + (SELECT count(*) FROM events WHERE state IN ('new', 'retry'))
     + (SELECT count(*) FROM outbox WHERE state = 'sending')
     + (SELECT count(*) FROM outbox AS waiting WHERE state = 'queued' AND NOT EXISTS (
            SELECT 1 FROM outbox AS head
            WHERE head.conversation_id = waiting.conversation_id AND head.id < waiting.id AND head.state = 'unknown'))
"""


async def _quiet(directory: Path) -> None:
    """Until nothing waits to be filed or sent, but behind a message of which nobody knows whether it arrived."""
    with contextlib.closing(sqlite3.connect(directory / "var" / "gateway.db")) as store:
        await eventually(lambda: store.execute(WAITING).fetchone() == (0,), 60)


def _check_inbound(directory: Path, load: Load) -> None:
    with contextlib.closing(sqlite3.connect(directory / "var" / "gateway.db")) as store:
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        open_work = "SELECT count(*) FROM events WHERE state IN ('new', 'retry')"
        assert store.execute(open_work).fetchone() == (0,)
        stored = collections.Counter(
            name for (name,) in store.execute("SELECT external_id FROM messages WHERE direction = 'inbound'")
        )
        tickets = store.execute("SELECT count(*), count(DISTINCT number), max(number) FROM tickets").fetchone()
        logged = store.execute("SELECT count(*) FROM ticket_events WHERE kind = 'message.received'").fetchone()[0]
        gaps = store.execute(
            "SELECT ticket_id FROM ticket_events GROUP BY ticket_id HAVING count(*) != max(sequence)"
        ).fetchall()
    assert load.acked, "nothing was ever acknowledged"
    assert load.acked <= stored.keys()
    assert stored.keys() <= load.made.keys()
    assert [name for name, times in stored.items() if times != 1] == []
    wrote = {load.made[name].wa_id for name in stored}
    assert tickets == (len(wrote),) * 3
    assert logged == len(stored)
    assert gaps == []


def _check_outbound(directory: Path, world: World, replies: dict[str, str]) -> None:
    with contextlib.closing(sqlite3.connect(directory / "var" / "gateway.db")) as store:
        parts = store.execute("SELECT id, message_id, state FROM outbox").fetchall()
    states = {message: state for _, message, state in parts}
    assert set(replies) <= set(states)
    taken = collections.Counter(accepted.ours for accepted in world.whatsapp.sends)
    assert [ours for ours, times in taken.items() if times != 1] == []
    for part, _, state in parts:
        assert state != "sending"
        if state in ("sent", "delivered", "read"):
            assert taken[part] == 1
