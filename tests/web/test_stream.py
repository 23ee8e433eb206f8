"""Live events: told as they happen, taken up where they broke off, and only to those who may know."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from gateway.bus import REPLAY_MAX, LiveEvent
from gateway.ids import micros
from gateway.store import keys
from gateway.web.app import STREAMS
from gateway.web.stream import Streams
from tests.support.api import WAIT_S
from tests.web.conftest import Gateway

PATH = "/api/v1/events"


class Listener:
    """A client of the stream."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def block(self) -> dict[str, Any]:
        """The next block that is no comment; empty at the end."""
        while True:
            found: dict[str, Any] = {}
            lines = []
            while (line := (await self.answer.content.readline()).decode()) not in ("\n", ""):
                lines.append(line.rstrip("\n"))
            if not lines and line == "":
                return {}
            for entry in lines:
                name, _, value = entry.partition(": ")
                if name in ("event", "id"):
                    found[name] = value
                elif name == "data":
                    found["data"] = msgspec.json.decode(value)
            if found:
                return found


@asynccontextmanager
async def listening(gateway: Gateway, *, key: str = "", last: str = "", path: str = PATH) -> AsyncIterator[Listener]:
    headers = {"Authorization": f"Bearer {key or gateway.key}"}
    if last:
        headers["Last-Event-ID"] = last
    async with gateway.session.get(gateway.base + path, headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert await answer.content.readline() == b"retry: 2000\n"
        yield Listener(answer)


def event(number: int, account: str = "echo-a") -> LiveEvent:
    return LiveEvent("ticket.updated", {"n": number}, account)


async def test_events_are_told_and_taken_up_again(gateway: Gateway) -> None:
    bus = gateway.core.bus
    async with listening(gateway) as listener:
        bus.publish([event(1), event(2)])
        first, second = await listener.block(), await listener.block()
        assert (first["event"], first["data"], second["data"]) == ("ticket.updated", {"n": 1}, {"n": 2})
    bus.publish([event(3)])
    async with listening(gateway, last=first["id"]) as listener:
        bus.publish([event(4)])
        assert [(await listener.block())["data"]["n"] for _ in range(3)] == [2, 3, 4]
    async with listening(gateway, path=f"{PATH}?after={second['id']}") as listener:
        assert (await listener.block())["data"] == {"n": 3}


async def test_who_may_have_missed_something_is_told_so(gateway: Gateway) -> None:
    bus = gateway.core.bus
    async with listening(gateway) as listener:
        bus.publish([event(0)])
        old = (await listener.block())["id"]
    async with listening(gateway, last="another-7") as listener:
        assert (await listener.block())["event"] == "reset"
        assert (await listener.block())["data"] == {"n": 0}
    bus.publish([event(number) for number in range(REPLAY_MAX + 5)])
    async with listening(gateway, last=old) as listener:
        assert (await listener.block())["event"] == "reset"
        assert (await listener.block())["data"] == {"n": 5}


async def test_a_limited_key_hears_of_its_accounts_only(gateway: Gateway) -> None:
    key = await gateway.make_key("tenant", "read", ["echo-b"])
    async with listening(gateway, key=key) as listener:
        gateway.core.bus.publish([event(1), event(2, ""), event(3, "echo-b")])
        assert (await listener.block())["data"] == {"n": 3}


async def test_what_happens_over_the_api_is_told(gateway: Gateway) -> None:
    async with listening(gateway) as listener:
        ticket = await gateway.customer_writes()
        heard = [(await listener.block())["event"] for _ in range(2)]
        assert set(heard) == {"ticket.created", "message.received"}
        await gateway.ok("PATCH", f"/api/v1/tickets/{ticket['id']}", json={"status": "open"})
        changed = await listener.block()
        assert (changed["event"], changed["data"]["ticket_id"]) == ("ticket.updated", ticket["id"])


async def test_a_heartbeat_keeps_it_alive_until_the_key_is_revoked(gateway: Gateway) -> None:
    key = await gateway.make_key("brief")
    row = await gateway.core.database.read(lambda c: keys.find(c, key))
    assert row is not None
    streams = gateway.app[STREAMS]
    assert isinstance(streams, Streams)
    streams.heartbeat_s = 0.02
    async with listening(gateway, key=key) as listener:
        lines = [await listener.answer.content.readline() for _ in range(6)]
        assert lines.count(b": \n") >= 1
        now = micros(gateway.core.clock())
        await gateway.core.database.write(lambda c: keys.revoke(c, row["id"], now))
        assert await listener.block() == {}


async def test_who_is_out_hears_no_more_however_much_there_is_to_tell(gateway: Gateway) -> None:
    """Revoked while events follow each other without a pause, in which nothing else would ask who listens."""
    key = await gateway.make_key("brief")
    row = await gateway.core.database.read(lambda c: keys.find(c, key))
    assert row is not None
    gateway.app[STREAMS].heartbeat_s = 0.05
    async with listening(gateway, key=key) as listener:
        now = micros(gateway.core.clock())
        await gateway.core.database.write(lambda c: keys.revoke(c, row["id"], now))
        for number in range(5000):
            gateway.core.bus.publish([event(number)])
            if await listener.block() == {}:
                return
    raise AssertionError("a revoked key went on hearing")


async def test_accounts_taken_from_a_user_are_heard_of_no_more(gateway: Gateway) -> None:
    body = {"email": "mia@shop.test", "name": "Mia", "role": "agent", "accounts": ["echo-a", "echo-b"]}
    user = await gateway.ok("POST", "/api/v1/users", 201, json=body)
    made = await gateway.ok("POST", "/api/v1/keys", 201, json={"name": "mia", "scope": "agent", "user": user["id"]})
    gateway.app[STREAMS].heartbeat_s = 0.02
    async with listening(gateway, key=made["key"]) as listener:
        gateway.core.bus.publish([event(0)])
        assert (await listener.block())["data"] == {"n": 0}
        await gateway.ok("PATCH", f"/api/v1/users/{user['id']}", json={"accounts": ["echo-b"]})
        for _ in range(2):  # the first heartbeat may have been on its way
            while await listener.answer.content.readline() != b": \n":
                pass
        gateway.core.bus.publish([event(1), event(2, "echo-b")])
        assert (await listener.block())["data"] == {"n": 2}


async def test_head_has_no_body(gateway: Gateway) -> None:
    """What is streamed, too: a byte after such an answer would be taken for the beginning of the next."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.base.rpartition(":")[2]))
    async with asyncio.timeout(WAIT_S):
        for path in (PATH, "/api/v1/contacts/export", "/api/v1/tickets"):
            writer.write(f"HEAD {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_a_merge_is_told_in_one_form(gateway: Gateway) -> None:
    one = await gateway.customer_writes("a", "+4915112345678")
    two = await gateway.customer_writes("b", "+4917099999999")
    async with listening(gateway) as listener:
        path = f"/api/v1/contacts/{two['contact_id']}/merge"
        await gateway.ok("POST", path, json={"into": one["contact_id"]})
        told = await listener.block()
    assert told["event"] == "contact.merged"
    assert told["data"] == {"contact_id": one["contact_id"], "merged_id": two["contact_id"]}


async def test_a_stop_ends_the_streams(gateway: Gateway) -> None:
    async with listening(gateway) as listener:
        await asyncio.sleep(0)
        await gateway.app[STREAMS].close()
        assert await listener.block() == {}
