"""What an operator sees of trouble from outside and below: requests that are no HTTP, and a store that is held."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.process import Served, serving
from tests.support.world import World, eventually

NO_HTTP = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS on the plain port
    b"BREW /coffee HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /webhooks/wa-main HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 20_000 + b"\r\n\r\n",  # the last: it is always told of
)


def _lines(served: Served) -> list[dict[str, Any]]:
    return [json.loads(line) for line in served.err if line.startswith("{")]


async def test_what_is_no_http_is_no_error_of_ours(tmp_path: Path) -> None:
    async with World.platforms(tmp_path) as world, serving(world.file) as served:
        host, _, port = served.address.removeprefix("http://").partition(":")
        for sent in NO_HTTP:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(sent)
            assert b" 400 " in await reader.readline()
            writer.close()
        await eventually(lambda: any(line["event"] == "web.no_http" for line in _lines(served)))
        assert {line["level"] for line in _lines(served) if line["event"] == "web.no_http"} == {"info"}
        assert [line for line in _lines(served) if line["level"] == "error"] == []


async def test_a_store_that_somebody_holds_is_named_and_loses_nothing(tmp_path: Path) -> None:
    async with World.platforms(tmp_path) as world, serving(world.file) as served, aiohttp.ClientSession() as session:
        world.point(served.address)
        ann = world.customer()

        async def deliver(wamid: str) -> int:
            change = world.whatsapp.inbound(ann, wamid, {"type": "text", "text": {"body": wamid}})
            webhook = world.whatsapp.delivery([change])
            url = world.whatsapp.webhook_url
            async with session.post(url, data=webhook.body, headers=dict(webhook.headers)) as answer:
                return answer.status

        assert await deliver("wamid.1") == 200
        with contextlib.closing(sqlite3.connect(tmp_path / "var" / "gateway.db", isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            assert await deliver("wamid.2") == 503
            await eventually(lambda: any(line["event"] == "store.commit_failed" for line in _lines(served)), 30)
            holder.execute("ROLLBACK")
        failed = [line["error"] for line in _lines(served) if line["event"] == "store.commit_failed"]
        assert set(failed) == {"OperationalError SQLITE_BUSY"}
        assert await deliver("wamid.2") == 200
        assert await deliver("wamid.2") == 200
        with contextlib.closing(sqlite3.connect(tmp_path / "var" / "gateway.db")) as store:
            names = "SELECT external_id FROM messages ORDER BY external_id"
            await eventually(lambda: store.execute(names).fetchall() == [("wamid.1",), ("wamid.2",)])
