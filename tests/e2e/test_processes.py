"""Several processes on one PostgreSQL and one Redis: what one does, the others know at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.support.api import Api
from tests.support.postgres import Postgres
from tests.support.process import Served, run, serving
from tests.support.redis import PASSWORD, RedisServer
from tests.support.world import World, eventually

PATIENT = "tests.support.patient"  # its senders look for work once an hour


async def read_events(api: Api, into: list[tuple[str, str, dict[str, Any]]], after: str = "") -> None:
    """Write down the live events of a web process: type, id, data."""
    headers = {"Authorization": f"Bearer {api.key}"} | ({"Last-Event-ID": after} if after else {})
    async with aiohttp.ClientSession() as session, session.get(f"{api.base}/api/v1/events", headers=headers) as answer:
        assert answer.status == 200
        found: dict[str, str] = {}
        async for raw in answer.content:
            line = raw.decode().rstrip("\n")
            if not line:
                if "data" in found:
                    into.append((found["event"], found.get("id", ""), msgspec.json.decode(found["data"])))
                found = {}
            elif not line.startswith(":"):
                name, _, value = line.partition(": ")
                found[name] = value
            else:
                into.append(("connected", "", {}))


class Listener:
    """Somebody at the live events of one process."""

    def __init__(self, api: Api, after: str = "") -> None:
        self.heard: list[tuple[str, str, dict[str, Any]]] = []
        self._task = asyncio.create_task(read_events(api, self.heard, after))

    async def until(self, kind: str, **data: Any) -> str:
        """The id of the first such event, once it was heard."""

        def fitting() -> list[str]:
            if self._task.done():
                self._task.result()
            return [name for type_, name, told in self.heard if type_ == kind and data.items() <= told.items()]

        await eventually(lambda: bool(fitting()), 30)
        return fitting()[0]

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Site:
    """Two web processes, a worker and a sender."""

    def __init__(self, world: World, key: str, stack: AsyncExitStack) -> None:
        self.world, self.key, self.stack = world, key, stack
        self.served: dict[str, Served] = {}
        self.apis: list[Api] = []

    def listen(self, api: Api, after: str = "") -> Listener:
        """Somebody who listens until the test ends, or is sent away."""
        listener = Listener(api, after)
        self.stack.push_async_callback(listener.close)
        return listener

    @property
    def texts(self) -> list[str]:
        """What customers got."""
        return [str(send.payload["text"]["body"]) for send in self.world.whatsapp.sends]

    @property
    def changes(self) -> dict[str, list[str]]:
        """What each process has logged of its way to Redis."""
        logged = {name: map(msgspec.json.decode, served.err) for name, served in self.served.items()}
        return {
            name: [line["event"] for line in lines if line["event"].startswith("bus.")]
            for name, lines in logged.items()
        }

    @property
    def said(self) -> str:
        """All that the processes have written."""
        return "\n".join(line for served in self.served.values() for line in served.out + served.err)


@pytest.fixture
async def site(tmp_path: Path, postgres: Postgres, redis_server: RedisServer) -> AsyncIterator[Site]:
    database = postgres.database().render_as_string(hide_password=False).replace("postgresql+psycopg", "postgresql")
    more = f'database = "{database}"\nredis = "{redis_server.url}"\nsecret_key = "a key that all share"'
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(World.platforms(tmp_path, more=more))
        made = await run("keys", "create", "tests", "--scope", "admin", "--config", world.file)
        site = Site(world, made.out.strip(), stack)
        for name, role in (("web", "web"), ("worker", "worker"), ("sender", "sender")):
            site.served[name] = await stack.enter_async_context(serving(world.file, "--roles", role, module=PATIENT))
        more_web = world.file.with_name("second.toml")
        mail_port = world.file.read_text("utf-8").replace('[smtp]\nlisten = "127.0.0.1:0"\n', "")
        more_web.write_text(mail_port, "utf-8")  # mail is received by one process only
        site.served["web 2"] = await stack.enter_async_context(serving(more_web, "--roles", "web", module=PATIENT))
        for name in ("web", "web 2"):
            site.apis.append(Api(site.served[name].address, site.key))
            stack.push_async_callback(site.apis[-1].close)
        world.point(site.served["web"].address)
        yield site


@pytest.mark.postgres
async def test_what_one_process_does_the_others_know(site: Site, redis_server: RedisServer) -> None:
    here, there = site.apis
    one, two = site.listen(here), site.listen(there)
    for listener in (one, two):
        await listener.until("connected")
    await site.world.whatsapp.customer_writes(site.world.customer(), "Hello")
    ticket = await here.ticket()
    await two.until("ticket.created", ticket_id=ticket["id"])
    message = (await here.reply(ticket, "Good morning")).json
    sent = await two.until("message.updated", message_id=message["id"], status="sent")  # only the wake-up can do this
    assert await one.until("message.updated", message_id=message["id"], status="sent") == sent
    assert site.texts == ["Good morning"]
    await two.close()
    second = (await there.reply(ticket, "Once more")).json
    await one.until("message.updated", message_id=second["id"], status="sent")
    again = site.listen(here, sent)  # on the other process than before
    await again.until("message.updated", message_id=second["id"], status="sent")
    assert "reset" not in [kind for kind, _, _ in again.heard]
    assert message["id"] not in [data.get("message_id") for _, name, data in again.heard if name == sent]
    assert PASSWORD not in site.said


@pytest.mark.postgres
async def test_redis_dies_and_no_request_fails(site: Site, redis_server: RedisServer) -> None:
    here, there = site.apis
    await site.world.whatsapp.customer_writes(site.world.customer(), "Hello")
    ticket = await here.ticket()
    redis_server.kill()
    one = site.listen(here)
    await one.until("connected")
    assert (await here.reply(ticket, "Into the dark")).status == 202
    await one.until("ticket.updated", ticket_id=ticket["id"])  # what happens here is told here
    await here.until("/readyz", lambda page: page["warnings"] and "Redis" in page["warnings"][-1])
    assert (await here.get("/readyz"))["status"] == "ready"
    assert b"\ngateway_bus_connected 0.0\n" in (await here.call("GET", "/metrics")).body
    checked = await run("check", "--config", site.world.file)
    assert (checked.code, checked.out) == (0, "ok\n")
    assert "warning: gateway.redis: Redis does not answer: ConnectionError" in checked.err.splitlines()
    redis_server.begin()
    await here.until("/readyz", lambda page: not any("Redis" in warning for warning in page["warnings"]))
    await eventually(lambda: site.texts == ["Into the dark"], 30)
    two = site.listen(there)
    await two.until("connected")
    message = (await here.reply(ticket, "There is light")).json
    await two.until("message.updated", message_id=message["id"], status="sent")
    assert b"\ngateway_bus_connected 1.0\n" in (await here.call("GET", "/metrics")).body
    await eventually(lambda: all(len(changes) >= 3 for changes in site.changes.values()), 30)
    assert all(changes == ["bus.connected", "bus.lost", "bus.connected"] for changes in site.changes.values())
    wrong = site.world.file.with_name("wrong.toml")
    wrong.write_text(site.world.file.read_text("utf-8").replace(PASSWORD, f"{PASSWORD}Wrong"), "utf-8")
    refused = await run("check", "--config", wrong)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.splitlines() == ["gateway.redis: Redis refuses the credentials"]
    assert PASSWORD not in site.said + checked.err + refused.err
