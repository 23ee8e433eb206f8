"""Mail that leaves, from end to end: its form, its size, the way out of marketing, and what agents hear of delays."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import dkim
import pytest

from tests.support.world import SUPPORT, World, eventually, shown
from tests.test_dkim import dns, pem, rsa

ANN = "ann@customer.test"
BRANDED = 'template = { html = "file:reply.html", delimiter = "##- Please type your reply above this line -##" }'


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World.open(tmp_path) as opened:
        yield opened


async def test_a_signed_reply_in_the_brands_form_and_the_answer_to_it(tmp_path: Path) -> None:
    (tmp_path / "reply.html").write_text(
        "<h1>{{ account.name }}</h1><div>{{ delimiter }}</div>{{ content }}<p>Ticket {{ ticket.number }}, "
        "{{ agent.name }} for {{ contact.name }}</p>",
        "utf-8",
    )
    (tmp_path / "key.pem").write_text(pem(rsa()), "utf-8")
    signing = 'dkim = { domain = "shop.test", selector = "s1", private_key = "file:key.pem" }'
    async with World.open(tmp_path, mail_more=f"{BRANDED}\n{signing}") as world:
        await world.mailed(ANN, name="Ann <b>Lee</b>", subject="Lamp")
        ticket = await world.api.ticket()
        message = await world.api.replied(ticket, "It is <here>.")
        assert message["text"] == "It is <here>."
        await world.api.settled(message, "sent")
        (mail,) = world.mail.sends
        assert dkim.verify(mail.raw, dnsfunc=dns(s1__shop_test=rsa()))
        assert "<h1>Shop Support</h1>" in mail.html
        assert "It is &lt;here&gt;." in mail.html
        assert f"Ticket {ticket['number']}, Kim for Ann" in mail.html
        assert "<b>Lee</b>" not in mail.html
        assert "It is <here>." in mail.text
        # an answer below which a program puts our text without any mark of quotation
        await world.mailed(ANN, to=mail.headers.get("reply-to"), text=f"Thanks!\n\n{mail.text}", subject="Re: Lamp")
        thread = await world.api.messages(ticket, 3)
        assert thread[2]["text"].startswith("Thanks!")
        assert "It is <here>." not in thread[2]["text"]
        assert "It is <here>." in thread[2]["full_text"]


async def test_a_repeat_has_the_same_bytes_even_when_the_template_changed(tmp_path: Path) -> None:
    (tmp_path / "reply.html").write_text("<p>{{ content }}</p>", "utf-8")
    (tmp_path / "key.pem").write_text(pem(rsa()), "utf-8")
    signing = 'dkim = { domain = "shop.test", selector = "s1", private_key = "file:key.pem" }'
    async with World.open(tmp_path, mail_more=f"{BRANDED}\n{signing}") as world:
        await world.mailed(ANN)
        ticket = await world.api.ticket()
        world.mail.fail_next("drop_after_dot")
        message = await world.api.replied(ticket, "Hi")
        await world.api.until(f"messages/{message['id']}", lambda detail: bool(detail["error"]))
        await world.stop()
        (tmp_path / "reply.html").write_text("<h1>New</h1>{{ content }}", "utf-8")
        await world.start()
        world.clock.ahead = timedelta(minutes=15)
        await world.api.settled(message, "sent")
        first, second = world.mail.sends
        assert first.raw == second.raw


async def test_large_files_leave_as_links_that_work(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    small = await world.api.upload(b"small", "note.txt", "text/plain")
    large = await world.api.upload(b"x" * (19 * 2**20), "film.mp4", "video/mp4")
    message = await world.api.replied(ticket, "See", attachments=[{"upload": small}, {"upload": large}])
    assert [shown(verdict, "rule", "reason") for verdict in message.get("verdicts", [])] in (
        [], [("linked_files", "sent as a link: film.mp4")],
    )  # fmt: skip
    detail = await world.api.settled(message, "sent")
    assert [file["filename"] for file in detail["attachments"]] == ["note.txt", "film.mp4"]
    (mail,) = world.mail.sends
    assert len(mail.raw) < 2**20
    assert b'filename="note.txt"' in mail.raw
    found = re.search(r"film\.mp4 \(19\.0 MiB\):\n(https://\S+)", mail.text)
    assert found
    answer = await world.api.call("GET", urlsplit(found[1]).path)
    assert (answer.status, len(answer.body)) == (200, 19 * 2**20)
    judged = await world.api.reply(ticket, "See", attachments=[{"upload": large}])
    assert judged.status == 202


# --- marketing --------------------------------------------------------------------------------------------------------


async def advertised(world: World) -> str:
    """The path of the way out of a marketing mail."""
    body = {"account": "mail", "to": ANN, "subject": "News", "text": "Buy!", "purpose": "marketing"}
    message = await world.api.post("messages", body)
    await world.api.settled(message, "sent")
    mail = world.mail.sends[-1]
    assert mail.headers.get("list-unsubscribe-post") == "List-Unsubscribe=One-Click"
    found = re.fullmatch(r"<(https://\S+)>", mail.headers.get("list-unsubscribe"))
    assert found
    assert found[1] in mail.html
    return urlsplit(found[1]).path


async def optouts(world: World) -> list[str]:
    (contact,) = (await world.api.get("contacts"))["items"]
    found: list[str] = contact["identities"][0]["opted_out_of"]
    return found


async def test_one_click_ends_marketing_and_nothing_else(world: World) -> None:
    path = await advertised(world)
    async with aiohttp.ClientSession(trust_env=False) as session:
        async with session.get(world.gateway.address + path) as answer:  # scanners follow every link
            assert answer.status == 200
            assert 'method="post"' in await answer.text()
        assert await optouts(world) == []
        for _ in range(2):
            form = {"List-Unsubscribe": "One-Click"}
            async with session.post(world.gateway.address + path, data=form, allow_redirects=False) as answer:
                assert answer.status == 200
                assert "Set-Cookie" not in answer.headers
    assert await optouts(world) == ["marketing"]
    body = {"account": "mail", "to": ANN, "subject": "News", "text": "Buy!", "purpose": "marketing"}
    refused = await world.api.call("POST", "messages", json=body)
    assert (refused.status, refused.rules) == (422, ["opt_out"])
    assert (await world.api.call("POST", "messages", json=body | {"purpose": "transactional"})).status == 202


@pytest.mark.parametrize("change", ["a", "", "A" * 100, "%00", "ä"])
async def test_only_links_of_ours_do_something(world: World, change: str) -> None:
    path = await advertised(world)
    async with aiohttp.ClientSession(trust_env=False) as session:
        for wrong in (f"/unsubscribe/{change or 'x'}", path[:-9] + ("a" if path[-9] != "a" else "b") + path[-8:]):
            async with session.post(world.gateway.address + wrong) as answer:
                assert answer.status == 404
    assert await optouts(world) == []


async def test_a_reply_is_no_marketing(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    await world.api.settled(await world.api.replied(ticket, "Hi"), "sent")
    assert "list-unsubscribe" not in world.mail.sends[0].headers


# --- waiting ----------------------------------------------------------------------------------------------------------


async def tried(world: World, message: dict[str, Any], times: int) -> dict[str, Any]:
    found: dict[str, Any] = await world.api.until(
        f"messages/{message['id']}",
        lambda detail: len([a for a in detail["attempts"] if a["outcome"]]) >= times,
    )
    return found


async def test_an_agent_hears_of_a_long_delay_once(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    world.mail.fail_next("451", 4)
    message = await world.api.replied(ticket, "Hi")
    for number, hours in enumerate((0, 2, 5, 12), start=1):
        world.clock.ahead = timedelta(hours=hours)
        await tried(world, message, number)
        delays = [line for line in await world.api.log(ticket) if line["kind"] == "reply.delayed"]
        assert len(delays) == (hours >= 4)
    assert delays[0]["data"]["message_id"] == message["id"]
    assert delays[0]["data"]["error"]["class"] == "retry"
    world.clock.ahead = timedelta(hours=20)
    await world.api.settled(message, "sent")


async def test_a_full_mailbox_is_tried_for_a_day(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    world.mail.refuse(ANN, "452 4.2.2 mailbox full")
    message = await world.api.replied(ticket, "Hi")
    await tried(world, message, 1)
    world.clock.ahead = timedelta(hours=12)
    assert (await tried(world, message, 2))["status"] == "queued"
    world.clock.ahead = timedelta(hours=25)
    detail = await world.api.settled(message, "failed")
    assert shown(detail["error"], "class", "code") == ("bad-recipient", "452 4.2.2")


async def test_a_refused_login_pauses_the_account_and_keeps_its_mail(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    world.mail.answer_next("mail", "530 5.7.0 authentication required")
    message = await world.api.replied(ticket, "Hi")
    await world.api.settled(message, "held")
    accounts = (await world.api.get("accounts"))["items"]
    (paused,) = next(account["paused"] for account in accounts if account["id"] == "mail")
    assert (paused["class"], paused["reason"]) == ("auth", "530 5.7.0 5.7.0 authentication required")
    world.clock.ahead = timedelta(minutes=6)
    await world.api.settled(message, "sent")
    await eventually(lambda: len(world.mail.sends) == 1)
    assert world.mail.sends[0].headers.get("from").endswith(f"<{SUPPORT}>")
