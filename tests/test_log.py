"""What must never be printed: secrets in credentials, and what customers and agents say, hunted by canaries."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
from pathlib import Path

import pytest

from gateway.log import JsonFormatter, redact
from tests.support.api import Api
from tests.support.process import run, serving
from tests.support.world import World

LINES = {
    "bearer": ("Authorization: Bearer gw_AbC-123", "Authorization: Bearer ***"),
    "query": ("GET /x?access_token=abc&y=1", "GET /x?access_token=***&y=1"),
    "signature": ("sha256=0a1b2c", "sha256=***"),
    "mail": ("from <ann.lee@customer.test>", "from <[mail]>"),
    "phone": ("to +4915112345601 now", "to [phone] now"),
    "plain words": ("store.commit_failed", "store.commit_failed"),
}


@pytest.mark.parametrize(("text", "expected"), LINES.values(), ids=LINES)
def test_redaction(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_an_exception_is_logged_without_its_words() -> None:
    try:
        raise ValueError("what the customer wrote")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "it.failed", None, info)
    line = JsonFormatter().format(record)
    assert "ValueError" in line
    assert "customer wrote" not in line


async def test_no_canary_is_ever_printed(tmp_path: Path) -> None:
    """A unique word in every credential and body; none of it may appear in the output, whatever goes wrong."""
    canary = re.compile(rb"canary[A-Za-z0-9]+")
    env = {"GATEWAY_SECRET": "canarySecretKey1234"}
    async with World.platforms(tmp_path, more='secret_key = "env:GATEWAY_SECRET"') as world:
        world.whatsapp.access_token, world.whatsapp.app_secret = "canaryToken", "canaryAppSecret"
        world.twilio.auth_token = "canaryTwilio"
        text = world.file.read_text("utf-8").replace("sandbox-app-secret", "canaryAppSecret")
        text = text.replace("sandbox-token", "canaryToken", 1).replace("sandbox-token", "canaryTwilio")
        world.file.write_text(text, "utf-8")
        key = (await run("keys", "create", "tests", "--scope", "admin", "--config", world.file, env=env)).out.strip()
        async with serving(world.file, env=env) as served:
            world.point(served.address)
            api = Api(served.address, key)
            ann = world.customer("canaryName")
            await world.whatsapp.customer_writes(ann, "canaryText")
            await world.mail.customer_writes(
                served.smtp_port,
                "canaryMail@customer.test",
                "support@shop.test",
                subject="canarySubject",
                text="canaryBody",
            )
            await world.twilio.customer_writes("canarySms", sender="+15550100001")
            tickets = await api.items("tickets", 3)
            world.whatsapp.fail_next("garbage")
            world.twilio.refusals["+15550100001"] = 21211
            world.mail.refuse("canarymail@customer.test")
            for ticket in tickets:
                await api.reply(ticket, "canaryReply")
            broken = {"field": "messages", "value": world.whatsapp._value() | {"messages": ["canaryBroken"]}}
            await world.whatsapp.post([broken])
            world.whatsapp.app_secret = "canaryWrongSecret"
            await world.whatsapp.customer_writes(ann, "canaryForged")
            await api.call("GET", "tickets?q=canaryQuery", headers={"Authorization": "Bearer canaryKey"})
            await api.call("POST", "messages", data=b'{"text": "canaryMalformed')
            await api.until("dead", lambda page: len(page["items"]) >= 3)
            await api.close()
            await asyncio.sleep(0.1)
            assert await served.stop(signal.SIGTERM) == 0
            printed = "\n".join((*served.out, *served.err)).encode()
        checked = await run("check", "--config", world.file, env=env)
        listed = await run("dead", "list", "--config", world.file, env=env)
        printed += "".join((checked.out, checked.err, listed.out, listed.err)).encode()
    assert canary.findall(printed) == []
    assert key.encode() not in printed
    assert b"4915112345601" not in printed
