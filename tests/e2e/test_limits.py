"""Bad input against a running gateway: never a 500, nothing kept that was refused, nothing lost that was taken."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
import json
from typing import Any

import aiosmtplib
import pytest
from sqlalchemy import func, select

from gateway.store.schema import deliveries
from tests.support.world import SUPPORT, World

HOOK = "/webhooks/wa-main"
DEEP = b'{"object":"whatsapp_business_account","entry":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
HUGE = b'{"object":"whatsapp_business_account","n":' + b"9" * 5000 + b"}"
ODD = {  # signed, well-formed or not: (body, status)
    "not JSON": (b"hello", 400),
    "cut off": (b'{"object":', 400),
    "nothing": (b"", 400),
    "bytes": (bytes(range(256)), 400),
    "not UTF-8": (b'{"object": "\xff"}', 400),
    "nested without end": (DEEP, 400),
    "a list": (b"[]", 200),
    "a number": (b"42", 200),
    "an unknown object": (b'{"object":"page_of_tomorrow","entry":[]}', 200),
    "an unknown field": (b'{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[{"field":"x"}]}]}', 200),
    "wrong types all over": (
        b'{"object":"whatsapp_business_account","entry":[{"changes":{"value":[]}}, 7, null]}',
        200,
    ),
    "NUL and surrogates": (b'{"object":"whatsapp_business_account","entry":[{"id":"\\u0000\\ud800"}]}', 200),
}


async def post(world: World, body: bytes, **more: Any) -> int:
    """A POST signed as the platform would."""
    mac = hmac.new(world.whatsapp.app_secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={mac}"} | more
    return (await world.api.call("POST", HOOK, data=io.BytesIO(body), headers=headers)).status


async def kept(world: World) -> int:
    statement = select(func.count()).select_from(deliveries)
    return int(await world.gateway.core.database.read(lambda c: c.execute(statement).scalar_one()))


async def test_odd_webhooks(world: World) -> None:
    found = {name: await post(world, body) for name, (body, _) in ODD.items()}
    assert found == {name: status for name, (_, status) in ODD.items()}
    assert await kept(world) == sum(status == 200 for status in found.values())
    assert await post(world, HUGE) in (200, 400)
    await world.whatsapp.customer_writes(world.customer(), "Still here?")
    await world.api.messages(await world.api.ticket(), 1)


FORGED: dict[str, tuple[dict[str, str], int]] = {
    "wrong": ({"X-Hub-Signature-256": "sha256=" + "0" * 64}, 401),
    "empty": ({"X-Hub-Signature-256": ""}, 401),
    "short": ({"X-Hub-Signature-256": "sha256=00"}, 401),
    "not hexadecimal": ({"X-Hub-Signature-256": "sha256=" + "z" * 64}, 401),
    "not ASCII": ({"X-Hub-Signature-256": "sha256=ä"}, 401),
    "another scheme": ({"X-Hub-Signature-256": "md5=" + "0" * 32}, 401),
    "compressed": ({"Content-Encoding": "gzip"}, 400),
}


async def test_forged_webhooks_store_nothing(world: World) -> None:
    found = {name: await post(world, b"{}", **headers) for name, (headers, _) in FORGED.items()}
    assert found == {name: status for name, (_, status) in FORGED.items()}
    assert (await world.api.call("POST", "/webhooks/nobody", data=b"{}")).status == 404
    assert (await world.api.call("PUT", HOOK, data=b"{}")).status == 405
    assert await post(world, b" " * (4 * 2**20 + 1)) == 413
    assert await kept(world) == 0


CALLS: dict[str, tuple[str, str, bytes, int]] = {
    "not JSON": ("POST", "messages", b"{", 400),
    "an unknown field": ("POST", "messages", b'{"direction":"inbound","from":{"id":"1"},"text":"x","colour":1}', 422),
    "a wrong type": ("POST", "messages", b'{"direction":"inbound","from":{"id":"1"},"text":7}', 422),
    "NUL": ("POST", "messages", b'{"direction":"inbound","from":{"id":"1"},"text":"\\u0000"}', 422),
    "no text": ("POST", "messages", b'{"direction":"inbound","from":{"id":"1"}}', 422),
    "nested without end": ("POST", "messages", b"[" * 5000 + b"]" * 5000, 400),
    "no such channel": ("POST", "messages", b'{"channel":"telex","to":"1","text":"x"}', 422),
    "no number": ("POST", "messages", b'{"channel":"sms","to":"hello there","text":"x"}', 422),
    "no such ticket": ("GET", "tickets/nothing", b"", 404),
    "a reply to nothing": ("POST", "tickets/nothing/replies", b'{"text":"x"}', 404),
    "an unknown status": ("GET", "tickets?status=lost", b"", 400),
    "an unknown parameter": ("GET", "tickets?colour=red", b"", 400),
    "too many at once": ("GET", "tickets?limit=100000", b"", 400),
    "a forged cursor": ("GET", "tickets?cursor=AAAA", b"", 400),
    "no such message": ("POST", "messages/nothing/retry", b"", 404),
    "no such letter": ("POST", "dead/nothing/replay", b"", 404),
    "no such path": ("GET", "nothing", b"", 404),
    "no such method": ("DELETE", "tickets", b"", 405),
}


@pytest.mark.parametrize("key", ["admin", "none"])
async def test_odd_calls_are_problems(world: World, key: str) -> None:
    headers = {"Content-Type": "application/json"} | ({"Authorization": ""} if key == "none" else {})
    for name, (method, path, body, status) in CALLS.items():
        answer = await world.api.call(method, path, data=body or None, headers=headers)
        if key == "admin":
            assert answer.status == status, (name, answer.status, answer.body)
        else:
            assert answer.status in (401, 404, 405), (name, answer.status)
        assert answer.headers["Content-Type"].startswith("application/problem+json"), name
        assert answer.json["code"], name


async def test_odd_replies_are_refused_with_the_field(world: World) -> None:
    await world.whatsapp.customer_writes(world.customer(), "Hello")
    ticket = await world.api.ticket()
    for body in (
        {},
        {"text": ""},
        {"text": "x", "attachments": [{"upload": "nothing"}]},
        {"text": "x", "attachments": [{}]},
        {"text": "x", "attachments": [{"url": "file:///etc/passwd"}]},
        {"text": "x", "status": "lost"},
        {"text": "x", "author": {"type": "king"}},
        {"text": "x" * 1_000_001},
        {"template": {"name": ""}},
    ):
        answer = await world.api.call("POST", f"tickets/{ticket['id']}/replies", json=body)
        assert answer.status == 422, (json.dumps(body)[:100], answer.status, answer.body[:300])
    assert world.whatsapp.calls == 0
    await world.api.messages(ticket, 1)


async def test_a_slow_sender_is_let_go(world: World) -> None:
    host, port = world.gateway.address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST {HOOK} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
    answer = await asyncio.wait_for(reader.readline(), 20)
    writer.close()
    assert b" 408 " in answer


ODD_MAIL = {
    "nothing at all": b"",
    "no headers": b"Hello\r\n",
    "headers only": b"From: ann@customer.test\r\nSubject: Hi\r\n",
    "an unknown charset": b'From: ann@customer.test\r\nContent-Type: text/plain; charset="klingon"\r\n\r\n\xff\xfe',
    "a broken multipart": b'From: ann@customer.test\r\nContent-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\n',
    "NUL in the text": b"From: ann@customer.test\r\n\r\nHello\0there\r\n",
    "an encoded line break": b"From: =?utf-8?q?a=0D=0Ab?= <ann@customer.test>\r\n\r\nHello\r\n",
    "a bad date": b"From: ann@customer.test\r\nDate: never\r\n\r\nHello\r\n",
    "parts without end": b"From: ann@customer.test\r\n"
    + b"".join(b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (n, n) for n in range(300)),
}


async def test_odd_mails_are_kept(world: World) -> None:
    for name, raw in ODD_MAIL.items():
        answered = await world.mail.hand_over(world.smtp_port, "ann@customer.test", [SUPPORT], raw)
        assert answered.answer.startswith("250"), name
    assert await kept(world) == len(ODD_MAIL)
    await world.mailed("bob@customer.test", text="Still here?")
    found = await world.api.until("tickets", lambda page: any(t["subject"] == "Help" for t in page["items"]))
    shown = {ticket["id"] for ticket in found["items"]}
    letters = (await world.api.get("dead"))["items"]
    assert len(shown) + len(letters) >= 5


async def test_a_mail_that_is_too_large_is_refused(world: World) -> None:
    with pytest.raises(aiosmtplib.SMTPResponseException) as caught:
        await world.mail.hand_over(world.smtp_port, "ann@customer.test", [SUPPORT], b"x" * (50 * 2**20 + 100))
    assert caught.value.code == 552
    assert await kept(world) == 0
