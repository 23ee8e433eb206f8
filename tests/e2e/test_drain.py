"""How a gateway ends under a load balancer: it says so first, goes on serving for a moment, then closes its port."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.support.process import Served, serving
from tests.support.world import World


@asynccontextmanager
async def served(directory: Path, drain_s: float) -> AsyncIterator[tuple[World, Served, aiohttp.ClientSession]]:
    async with (
        World.platforms(directory, more=f"drain_s = {drain_s}") as world,
        serving(world.file) as process,
        aiohttp.ClientSession() as client,
    ):
        world.point(process.address)
        yield world, process, client


async def readiness(process: Served, client: aiohttp.ClientSession) -> tuple[int, dict[str, str]]:
    async with client.get(f"{process.address}/readyz", headers={"Connection": "close"}) as answer:
        return answer.status, (await answer.json())["checks"]


async def until_draining(process: Served, client: aiohttp.ClientSession) -> None:
    for _ in range(500):
        status, checks = await readiness(process, client)
        if status == 503:
            break
        await asyncio.sleep(0.02)
    assert checks["draining"] == "stopping"


async def test_a_balancer_sees_it_before_the_port_is_closed(tmp_path: Path) -> None:
    async with served(tmp_path, 1.0) as (world, process, client):
        ann = world.customer()
        assert await readiness(process, client) == (200, {"store": "ok", "schema": "ok", "disk": "ok"})
        began = time.monotonic()
        process.process.send_signal(signal.SIGTERM)
        await until_draining(process, client)
        message = world.whatsapp.inbound(ann, "wamid.1", {"type": "text", "text": {"body": "Do you still hear me?"}})
        assert await world.whatsapp.post([message]) == 200  # over a connection made now
        async with client.get(f"{process.address}/healthz") as answer:
            assert (answer.status, answer.headers["Connection"]) == (200, "close")
        assert await process.process.wait() == 0, process.err
        assert 1.0 <= time.monotonic() - began < 10
        with pytest.raises(aiohttp.ClientConnectorError):
            await readiness(process, client)


async def test_where_nobody_asks_nobody_is_waited_for(tmp_path: Path) -> None:
    async with served(tmp_path, 30) as (_, process, client):
        async with client.get(f"{process.address}/healthz") as answer:
            assert answer.status == 200
        began = time.monotonic()
        assert await process.stop() == 0, process.err
        assert time.monotonic() - began < 10


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    async with served(tmp_path, 30) as (_, process, client):
        assert (await readiness(process, client))[0] == 200
        process.process.send_signal(signal.SIGTERM)
        process.process.send_signal(signal.SIGINT)  # a supervisor signals process and group: that is one wish
        await until_draining(process, client)
        await asyncio.sleep(0.5)
        assert process.process.returncode is None
        began = time.monotonic()
        assert await process.stop() == 1
        assert time.monotonic() - began < 5
        assert [line for line in process.err if json.loads(line)["event"] == "gateway.stop_cut_short"]
