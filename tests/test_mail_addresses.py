"""Mail addresses a caller of the API gives: what is none is refused with its field, what is one gets its mail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.world import World, eventually

NONE = (
    "a@@b.test",
    "a@b@c.test",
    "@b.test",
    "a@",
    "a",
    "a b@c.test",
    "a@b .test",
    "a@b..test",
    "a@-b.test",
    "<a@b.test>",
)
TAKEN = {  # as it is given -> the recipient on the envelope
    "ann+shop@customer.test": "ann+shop@customer.test",
    "o'neil/x=1@customer.test": "o'neil/x=1@customer.test",
    '"ann lee"@customer.test': '"ann lee"@customer.test',
    '"a@b"@customer.test': '"a@b"@customer.test',
    '"a\\"b"@customer.test': '"a\\"b"@customer.test',
    "jörg@customer.test": "jörg@customer.test",
    "bob@bücher.test": "bob@xn--bcher-kva.test",
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World.open(tmp_path) as opened:
        yield opened


async def test_what_is_no_mail_address_is_refused_with_its_field(world: World) -> None:
    await world.mailed()
    contact = f"contacts/{(await world.api.ticket())['contact_id']}"
    for text in NONE:
        for method, path, body, code, field in (
            ("POST", "messages", {"channel": "email", "to": text, "text": "Hi"}, "invalid_body", "to"),
            ("POST", "suppressions", {"channel": "email", "address": text}, "invalid_body", "address"),
            ("PATCH", contact, {"attributes": {"email": text}}, "invalid_value", "attributes.email"),
            (
                "POST", "messages", {"direction": "inbound", "from": {"email": text}, "text": "Hi"},
                "invalid_body", "from.email",
            ),
        ):  # fmt: skip
            answer = await world.api.call(method, path, json=body)
            refused = (answer.status, answer.json.get("code"), answer.json.get("field"))
            assert refused == (422, code, field), (path, text)
    assert world.mail.sends == []


async def test_what_is_one_gets_its_mail(world: World) -> None:
    for text, recipient in TAKEN.items():
        await world.api.post("messages", {"channel": "email", "to": text, "subject": "Hello", "text": "Hi"})
        await eventually(
            lambda recipient=recipient: world.mail.sends[-1:] and world.mail.sends[-1].recipients == (recipient,)
        )
        made = await world.api.post("suppressions", {"channel": "email", "address": text})
        assert made["address"] == recipient
    inbound = {"direction": "inbound", "from": {"email": "Ann+shop@customer.test"}, "text": "Hi"}
    assert (await world.api.call("POST", "messages", json=inbound)).status == 202
