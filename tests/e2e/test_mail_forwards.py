"""A customer's mail forwarded by one of us: whose ticket it becomes, what is shown, whom the answer reaches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.world import SUPPORT, World, eventually, shown

AGENT, COLLEAGUE, CARL = "mia@shop.test", "bob@shop.test", "carl@other.test"
HEAD = (
    "Authentication-Results: mx.shop.test; dmarc=pass header.from=shop.test\r\n"
    f"From: Mia <{AGENT}>\r\nTo: {SUPPORT}\r\nCc: {COLLEAGUE}\r\nReply-To: {COLLEAGUE}\r\nSubject: WG: My order\r\n"
    "Message-ID: <forward@shop.test>\r\n"
)
BELOW = (
    "He is angry, be nice.\r\n\r\n-----Ursprüngliche Nachricht-----\r\nVon: Carl Lee <carl@other.test>\r\n"
    "Gesendet: Dienstag, 12. Mai 2026 08:00\r\nAn: Mia <mia@shop.test>\r\nBetreff: My order\r\n\r\n"
    "Where is it?\r\n\r\nCarl\r\n"
)
PLAIN = f"{HEAD}Content-Type: text/plain; charset=utf-8\r\n\r\n{BELOW}"
IN_HTML = (
    f"{HEAD}Content-Type: text/html; charset=utf-8\r\n\r\n<p>He is angry, be nice.</p><hr><div><b>From:</b> Carl Lee "
    "&lt;carl@other.test&gt;<br><b>Sent:</b> Tuesday, 12 May 2026 08:00<br><b>To:</b> Mia<br><b>Subject:</b> My order"
    "<br><br></div><div>Where is it?<br><br>Carl</div>"
)
AS_A_FILE = (
    f"{HEAD}Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nHe is angry, be nice.\r\n--b\r\n"
    f"Content-Type: message/rfc822\r\n\r\nFrom: Carl Lee <{CARL}>\r\nSubject: My order\r\n\r\n"
    "Where is it?\r\n\r\nCarl\r\n--b--\r\n"
)
CHECKED = 'authserv_id = ["mx.shop.test"]\nautomatic = { created = true }'


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World.open(tmp_path, mail_more=CHECKED) as opened:
        yield opened


async def forwarded(world: World, raw: str) -> dict[str, Any]:
    await world.mail.hand_over(world.smtp_port, AGENT, [SUPPORT], raw.encode())
    return await world.api.ticket()


async def hire(world: World) -> str:
    return str((await world.api.post("users", {"email": AGENT.title(), "name": "Mia", "role": "agent"}))["id"])


@pytest.mark.parametrize("raw", [PLAIN, IN_HTML, AS_A_FILE], ids=["plain", "HTML", "as a file"])
async def test_the_author_of_a_forwarded_mail_is_the_tickets_person(world: World, raw: str) -> None:
    mia = await hire(world)
    ticket = await forwarded(world, raw)
    assert ticket["subject"] == "My order"
    contact = await world.api.get(f"contacts/{ticket['contact_id']}")
    assert (contact["name"], [one["external_id"] for one in contact["identities"]]) == ("Carl Lee", [CARL])
    (message,) = await world.api.messages(ticket, 1)
    assert shown(message, "text", "html") == ("Where is it?\n\nCarl", "")
    assert "He is angry" in message["full_text"]
    assert message["author"]["name"] == "Carl Lee"
    assert "forwarded_by_user" in message["flags"]
    entry = next(entry for entry in await world.api.log(ticket) if entry["kind"] == "message.forwarded")
    assert entry["actor"] == {"type": "agent", "id": mia, "name": "Mia"}
    await world.api.settled(await world.api.replied(ticket, "On its way"), "sent")
    await eventually(lambda: world.mail.sends)
    (mail,) = world.mail.sends  # no acknowledgement to an address that only the forward names
    assert (mail.recipients, mail.headers.get("subject")) == ((CARL,), "Re: My order")
    await world.mail.customer_writes(world.smtp_port, CARL, SUPPORT, text="Thanks", reply_to=mail)
    assert (await world.api.messages(ticket, 3))[2]["visibility"] == "private"


NOT_SO = {  # what is changed in the mail
    "forged": ("dmarc=pass", "dmarc=fail"),
    "nobody vouches for it": ("Authentication-Results: mx.shop.test", "Authentication-Results: mx.evil.test"),
    "not said to be a forward": ("Subject: WG: ", "Subject: "),
    "of one of our own addresses": ("carl@other.test", SUPPORT),
    "of a machine": ("carl@other.test", "noreply@other.test"),
    "of his own": ("carl@other.test", AGENT),
}


@pytest.mark.parametrize("change", NOT_SO.values(), ids=NOT_SO)
async def test_who_forwards_else_writes_himself(world: World, change: tuple[str, str]) -> None:
    await hire(world)
    ticket = await forwarded(world, PLAIN.replace(*change))
    assert (await world.api.get(f"contacts/{ticket['contact_id']}"))["identities"][0]["external_id"] == AGENT
    message = (await world.api.get(f"tickets/{ticket['id']}/messages"))["items"][0]  # some are acknowledged
    assert ("forwarded_by_user" in message["flags"], "He is angry" in message["text"]) == (False, True)


@pytest.mark.parametrize("known", ["nobody", "somebody who has left"])
async def test_only_users_forward_for_others(world: World, known: str) -> None:
    if known != "nobody":
        await world.api.patch(f"users/{await hire(world)}", active=False)
    ticket = await forwarded(world, PLAIN)
    assert (await world.api.get(f"contacts/{ticket['contact_id']}"))["identities"][0]["external_id"] == AGENT


async def test_where_nobody_checks_mail_nobody_forwards_for_others(tmp_path: Path) -> None:
    async with World.open(tmp_path) as world:
        await hire(world)
        ticket = await forwarded(world, PLAIN)
        assert (await world.api.get(f"contacts/{ticket['contact_id']}"))["identities"][0]["external_id"] == AGENT


async def test_a_forward_into_a_thread_stays_there(world: World) -> None:
    await hire(world)
    await world.mailed(CARL)
    ticket = await world.api.ticket()
    (first,) = await world.api.messages(ticket, 1)
    raw = f"In-Reply-To: <{first['external_id']}>\r\n{PLAIN}"
    await world.mail.hand_over(world.smtp_port, AGENT, [SUPPORT], raw.encode())
    message = (await world.api.messages(ticket, 2))[1]
    assert "He is angry" in message["text"]
    assert "forwarded_by_user" not in message["flags"]
