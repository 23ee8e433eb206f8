"""The gateway dies at every named point around a commit, as by `kill -9`, and starts again: the promises hold.

Real processes, real platforms on sockets. One store lives through all the deaths; what the platforms counted is held
against it at the end. The run is seeded; CRASH_SEED=n repeats one.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import random
import signal
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from adapters.sandbox.line import LineSimulator, User
from outbox.crashpoints import POINTS
from tests.support.api import Api
from tests.support.dying import Nursery
from tests.support.process import Served, run
from tests.support.world import World, eventually

SEED = int(os.environ.get("CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
BY_TIME = {"settle.written", "settle.committed", "sweep.written", "sweep.committed"}  # see tests/test_crash_points.py
LINE = """
[[accounts]]
id = "line"
adapter = "line"
channel_secret = "{secret}"
access_token = "{token}"
bot_user_id = "{bot}"
api_base = "{base}"
data_base = "{data}"
"""


@dataclass
class Desk:
    """Agents at work while the gateway dies under them; `taken`: replies the API took, by message id."""

    world: World
    line: LineSimulator
    api: Api
    chance: random.Random
    tickets: list[dict[str, Any]] = field(default_factory=list)
    taken: dict[str, str] = field(default_factory=dict)
    said: int = 0

    async def work(self, point: str, number: int) -> None:
        """One round of all that passes a crash point. Errors of a dying gateway are what is wanted."""
        with contextlib.suppress(aiohttp.ClientError, OSError, AssertionError, KeyError):
            if point.startswith("decide") and not self.world.whatsapp._faults:
                self.world.whatsapp.fail_next("reset")  # followers wait behind it: only where it is needed
            for ticket in (self.tickets[0], self.tickets[number]):
                await self.say(ticket)
            await self.api.post("dead-jobs", {"action": "replay", "per_second": 100})
            await self.decide(self.tickets[number])

    async def say(self, ticket: dict[str, Any]) -> None:
        self.said += 1
        words = f"words {self.said}."
        answer = await self.api.reply(ticket, words, key=words)
        if answer.status == 202:
            self.taken[answer.json["id"]] = words

    async def decide(self, ticket: dict[str, Any]) -> None:
        """Somebody sends again what surely never arrived, or takes a reply back."""
        for entry in (await self.api.get("outbox", state="unknown", limit="50"))["items"]:
            if entry["account"] == "wa-main" and not self.world.whatsapp.sends_of(entry["id"]):
                await self.api.post(f"messages/{entry['message_id']}/retry")
                return
        await self.say(ticket)
        await self.api.post(f"messages/{list(self.taken)[-1]}/cancel")


@pytest.mark.slow
async def test_a_death_at_every_point_breaks_no_promise(tmp_path: Path) -> None:
    print(f"\nseed {SEED}")
    chance = random.Random(SEED)
    async with World.platforms(tmp_path) as world, LineSimulator() as line, Nursery.open(tmp_path) as nursery:
        with world.file.open("a") as config:
            config.write(
                LINE.format(
                    secret=line.channel_secret, token=line.access_token, bot=line.bot_user_id, base=line.url,
                    data=line.data_base,
                )
            )  # fmt: skip
        world.whatsapp.redelivery.tries = 400
        key = (await run("keys", "create", "tests", "--scope", "admin", "--config", world.file)).out.strip()
        served = await Served.start(world.file)
        address = served.address
        listen = address.removeprefix("http://")
        world.point(address)
        line.webhook_url = f"{address}/webhooks/line"
        desk = Desk(world, line, Api(address, key), chance)
        points = [name for name in POINTS if name not in BY_TIME]
        await line.customer_writes(line.add_user(User("U" + "a" * 32)), "Hello")
        desk.tickets = await desk.api.items("tickets", 1)
        # the first answer uses up the reply token, which no key covers: unknown, it would hold up the rest
        await desk.say(desk.tickets[0])
        await eventually(lambda: line.inbox)
        for number, point in enumerate(points):  # for each death somebody whom no unknown message holds up
            await world.whatsapp.customer_writes(world.customer(point, f"49151123456{number:02}"), "Hello")
        desk.tickets += await desk.api.items("tickets", len(points), channel="whatsapp")
        await served.stop(signal.SIGKILL)
        for number, point in enumerate(points, 1):
            life = await nursery.born(
                point, chance.randint(1, 2), "serve", "--config", str(world.file), "--listen", listen
            )
            until = asyncio.get_running_loop().time() + 60
            while not life.over:
                assert asyncio.get_running_loop().time() < until, f"{point} is never passed"
                await desk.work(point, number)
                await asyncio.sleep(0.02)
            print(f"died at {point}")
            assert await life.ended() == -signal.SIGKILL, (point, life.log.read_text("utf-8")[-1000:])
        world.whatsapp._faults.clear()
        served = await Served.start(world.file, "--listen", listen)
        await _quiet(tmp_path)
        await world.whatsapp.settled()
        await eventually(lambda: _unsettled(tmp_path, world) == [], 60)
        await desk.api.close()
        assert await served.stop() == 0, served.err[-5:]
        _check(tmp_path, desk)


WAITING = """
SELECT (SELECT count(*) FROM deliveries WHERE state IN ('received', 'retry'))
     + (SELECT count(*) FROM events WHERE state IN ('new', 'retry'))
     + (SELECT count(*) FROM dead_jobs WHERE state = 'running')
     + (SELECT count(*) FROM outbox WHERE state = 'sending')
     + (SELECT count(*) FROM outbox AS waiting WHERE state IN ('queued', 'held') AND NOT EXISTS (
            SELECT 1 FROM outbox AS head
            WHERE head.conversation_id = waiting.conversation_id AND head.id < waiting.id AND head.state = 'unknown'))
"""


async def _quiet(directory: Path) -> None:
    """Until nothing waits, but behind a message of which nobody knows whether it arrived."""
    with contextlib.closing(sqlite3.connect(directory / "var" / "gateway.db")) as store:
        await eventually(lambda: store.execute(WAITING).fetchone() == (0,), 90)


def _parts(directory: Path) -> list[Any]:
    with contextlib.closing(sqlite3.connect(directory / "var" / "gateway.db")) as store:
        store.row_factory = sqlite3.Row
        return store.execute("SELECT id, message_id, account, state, payload FROM outbox ORDER BY id").fetchall()


def _unsettled(directory: Path, world: World) -> list[str]:
    """What WhatsApp has taken, and its receipts have not told of yet."""
    taken = {accepted.ours for accepted in world.whatsapp.sends}
    return [part["id"] for part in _parts(directory) if part["id"] in taken and part["state"] in ("unknown", "sending")]


def _check(directory: Path, desk: Desk) -> None:
    with contextlib.closing(sqlite3.connect(directory / "var" / "gateway.db")) as store:
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    parts = _parts(directory)
    assert set(desk.taken) <= {part["message_id"] for part in parts}, "answered 202 and not there"
    whatsapp = collections.Counter(accepted.ours for accepted in desk.world.whatsapp.sends)
    line = collections.Counter(str(thing.get("text")) for _, thing in desk.line.inbox)
    assert len(whatsapp) > 5
    assert len(line) > 5
    for part in parts:
        words = next((word for word in desk.taken.values() if f'"{word}"' in part["payload"]), "")
        arrived = whatsapp[part["id"]] if part["account"] == "wa-main" else line[words]
        assert arrived <= 1, f"sent {arrived} times: {dict(part)}"
        assert part["state"] != "sending"
        if words and part["state"] in ("sent", "delivered", "read"):
            assert arrived == 1, f"said to be sent: {dict(part)}"
        if arrived and part["account"] == "wa-main":
            assert part["state"] in ("sent", "delivered", "read"), f"its receipt tells: {dict(part)}"
