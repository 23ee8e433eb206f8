"""The accept path against everything that may come to it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from config.settings import LimitSettings
from gateway.core import Core
from gateway.store.dialect import StoreUnavailable
from gateway.store.schema import deliveries
from gateway.web.ratelimit import PerMinute
from tests.web.conftest import Gateway, running
from tests.web.echo import signed

GOOD = b'{"messages": [{"id": "m1", "from": "+4915112345678", "text": "Hi"}]}'


async def kept(core: Core) -> list[dict[str, Any]]:
    """What was kept, in order."""
    statement = select(deliveries).order_by(deliveries.c.id)
    return await core.database.read(lambda c: [dict(row) for row in c.execute(statement).mappings()])


async def test_a_delivery_is_kept_as_it_came_and_answered_as_the_platform_wants(gateway: Gateway) -> None:
    headers = {"User-Agent": "Platform/1", "Cookie": "a=b", "Authorization": "Basic eA==", "X-Forwarded-For": "1.2.3.4"}
    answer = await gateway.call(
        "POST", "/webhooks/echo-a?mid=1&name=%C3%A4%FF", key="", data=GOOD, headers=signed(GOOD) | headers
    )
    assert (answer.status, answer.body) == (200, b"thanks")
    [row] = await kept(gateway.core)
    assert (row["account"], row["source"], row["body"], row["state"]) == ("echo-a", "webhook", GOOD, "received")
    assert row["url"] == f"{gateway.base}/webhooks/echo-a?mid=1&name=%C3%A4%FF"
    assert json.loads(row["query"]) == {"mid": "1", "name": "ä\ufffd"}
    assert json.loads(row["headers"]) == {
        "content-type": ["application/json"],
        "user-agent": ["Platform/1"],
        "x-echo-signature": [signed(GOOD)["X-Echo-Signature"]],
    }


async def test_the_public_url_is_what_platforms_sign(tmp_path: Path) -> None:
    async with running(tmp_path, public_url="https://support.example.com/gw/") as gateway:
        await gateway.call("POST", "/webhooks/echo-a?x=1", key="", data=GOOD, headers=signed(GOOD))
        [row] = await kept(gateway.core)
        assert row["url"] == "https://support.example.com/gw/webhooks/echo-a?x=1"


HEADERS = signed(GOOD)
REFUSED: dict[str, tuple[str, str, dict[str, str] | list[tuple[str, str]], bytes, int]] = {
    "no signature": ("POST", "/webhooks/echo-a", {}, GOOD, 401),
    "a wrong signature": ("POST", "/webhooks/echo-a", {"X-Echo-Signature": "sha256=" + "0" * 64}, GOOD, 401),
    "a garbled signature": ("POST", "/webhooks/echo-a", {"X-Echo-Signature": "rubbish"}, GOOD, 401),
    "a changed body": ("POST", "/webhooks/echo-a", HEADERS, GOOD + b" ", 401),
    "another account's path": ("POST", "/webhooks/nobody", HEADERS, GOOD, 404),
    "a path below the account": ("POST", "/webhooks/echo-a/x", HEADERS, GOOD, 404),
    "a doubled signature": (
        "POST",
        "/webhooks/echo-a",
        [*HEADERS.items(), ("X-Echo-Signature", "sha256=0")],
        GOOD,
        400,
    ),
    "a Content-Encoding": ("POST", "/webhooks/echo-a", HEADERS | {"Content-Encoding": "gzip"}, GOOD, 400),
    "no JSON": ("POST", "/webhooks/echo-a", signed(b"{no"), b"{no", 400),
    "an empty body": ("POST", "/webhooks/echo-a", signed(b""), b"", 400),
    "nested too deeply": ("POST", "/webhooks/echo-a", signed(b"[" * 100_000), b"[" * 100_000, 400),
    "a fault of the adapter": ("POST", "/webhooks/echo-a", {}, b"explode", 503),
    "PUT": ("PUT", "/webhooks/echo-a", HEADERS, GOOD, 405),
    "DELETE": ("DELETE", "/webhooks/echo-a", HEADERS, b"", 405),
    "GET with a wrong token": ("GET", "/webhooks/echo-a?token=no&challenge=1", {}, b"", 403),
    "GET with a token that is not ASCII": ("GET", "/webhooks/echo-a?token=%C3%A4", {}, b"", 403),
    "GET of an account without handshake": ("GET", "/webhooks/api", {}, b"", 405),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_refused_is_not_kept(gateway: Gateway, case: str) -> None:
    method, path, headers, body, status = REFUSED[case]
    async with gateway.session.request(method, gateway.base + path, headers=headers, data=body) as answer:
        assert answer.status == status
        assert (answer.headers.get("Retry-After") == "5") == (status == 503)
    assert await kept(gateway.core) == []


async def test_a_signature_that_is_not_ascii_is_401(gateway: Gateway) -> None:
    reader, writer = await connect(gateway)
    writer.write(
        b"POST /webhooks/echo-a HTTP/1.1\r\nHost: x\r\nX-Echo-Signature: sha256=\xc3\xa4\xff\r\n"
        b"Content-Length: 2\r\nConnection: close\r\n\r\n{}"
    )
    assert (await reader.readline()).split()[1] == b"401"
    writer.close()


async def connect(gateway: Gateway) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = gateway.base.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


async def test_the_handshake_answers_the_challenge(gateway: Gateway) -> None:
    answer = await gateway.call("GET", "/webhooks/echo-a?token=hello&challenge=42", key="")
    assert (answer.status, answer.body) == (200, b"42")


async def test_a_body_in_pieces_and_one_in_chunks_are_taken(gateway: Gateway) -> None:
    async def pieces() -> Any:
        for index in range(0, len(GOOD), 10):
            yield GOOD[index : index + 10]
            await asyncio.sleep(0)

    answer = await gateway.call("POST", "/webhooks/echo-a", key="", data=pieces(), headers=signed(GOOD))
    assert answer.status == 200
    assert [row["body"] for row in await kept(gateway.core)] == [GOOD]


async def test_too_large_too_slow_and_too_many(tmp_path: Path) -> None:
    limits = LimitSettings(webhook_bytes=1000, body_timeout_s=0.1, in_flight=1)
    async with running(tmp_path, limits=limits) as gateway:
        big = b"x" * 1001

        async def chunks() -> Any:
            yield big

        for body in (big, chunks()):
            assert (await gateway.call("POST", "/webhooks/echo-a", key="", data=body)).status == 413
        reader, writer = await connect(gateway)
        writer.write(b"POST /webhooks/echo-a HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{")
        await writer.drain()
        for _ in range(1000):
            if gateway.core.metrics.registry.get_sample_value("gateway_requests_in_flight"):
                break
            await asyncio.sleep(0.001)
        answer = await gateway.call("POST", "/webhooks/echo-a", key="", data=GOOD, headers=signed(GOOD))
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert (await reader.readline()).split()[1] == b"408"
        writer.close()
        assert (await gateway.call("POST", "/webhooks/echo-a", key="", data=GOOD, headers=signed(GOOD))).status == 200
        assert len(await kept(gateway.core)) == 1


async def test_a_store_that_is_down_or_slow_is_503(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(_row: dict[str, Any]) -> Any:
        raise StoreUnavailable("full")

    monkeypatch.setattr(gateway.core.database, "keep", down)
    assert (await gateway.webhook(GOOD)).status == 503
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(gateway.core.database, "keep", lambda _row: never)
    assert (await gateway.webhook(GOOD)).status == 503
    assert never.cancelled()
    monkeypatch.undo()
    assert (await gateway.webhook(GOOD)).status == 200


async def test_what_no_text_column_takes_is_cleaned(gateway: Gateway) -> None:
    reader, writer = await connect(gateway)
    head = f"X-Echo-Signature: {signed(GOOD)['X-Echo-Signature']}\r\nContent-Length: {len(GOOD)}\r\n".encode()
    writer.write(
        b"POST /webhooks/echo-a?q=%00%ED%A0%80&r=%F0 HTTP/1.1\r\nHost: x\r\nUser-Agent: \xff\xfe\r\n"
        + head
        + b"\r\n"
        + GOOD
    )
    assert (await reader.readline()).split()[1] == b"200"
    writer.close()
    [row] = await kept(gateway.core)
    assert "\0" not in json.loads(row["query"])["q"]


def test_an_address_is_counted_by_the_minute() -> None:
    now = 0.0
    counter = PerMinute(2, lambda: now)
    assert [counter.allows("a") for _ in range(3)] == [True, True, False]
    assert counter.allows("b")
    now = 60.0
    assert counter.allows("a")


async def test_deliveries_are_counted_by_outcome(gateway: Gateway) -> None:
    await gateway.webhook(GOOD)
    await gateway.call("POST", "/webhooks/echo-a", key="", data=GOOD)
    text = (await gateway.call("GET", "/metrics", key="")).body.decode()
    assert 'gateway_deliveries_total{account="echo-a",outcome="accepted"} 1.0' in text
    assert 'gateway_deliveries_total{account="echo-a",outcome="unverified"} 1.0' in text
