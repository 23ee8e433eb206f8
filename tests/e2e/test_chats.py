"""LINE, X and WeChat there and back, over real sockets: customer, webhook, ticket, agent, outbox, platform."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.sandbox.line import Group as LineGroup
from adapters.sandbox.line import User as LineUser
from adapters.sandbox.wechat import Follower
from adapters.sandbox.x import User as XUser
from tests.support.chats import Chats
from tests.support.world import eventually, shown

MIKA, MARA, ANA = "U" + "1" * 32, "oDemoUser000000000000000001", "800000000000000002"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64


@pytest.fixture
async def chats(tmp_path: Path) -> AsyncIterator[Chats]:
    async with Chats.open(tmp_path) as found:
        yield found


async def test_line_there_and_back(chats: Chats) -> None:
    mika = LineUser(MIKA)
    name = await chats.line.customer_writes(mika, "荷物はどこですか？")
    ticket = await chats.api.ticket()
    assert shown(ticket, "channel", "account", "status", "subject") == ("line", "line", "new", "荷物はどこですか？")
    assert {"line", "messaging_support"} <= set(ticket["tags"])
    (message,) = await chats.api.messages(ticket, 1)
    assert shown(message, "external_id", "text", "kind") == (name, "荷物はどこですか？", "text")
    reply = await chats.api.replied(ticket, "明日届きます。")
    detail = await chats.api.settled(reply, "sent")
    (accepted,) = chats.line.sends
    assert (accepted.to, [one["text"] for one in accepted.payload["messages"]]) == (MIKA, ["明日届きます。"])
    assert detail["external_id"] == accepted.external_id
    await chats.line.customer_writes(mika, "Thanks!", reply_to=accepted.external_id)
    assert (await chats.api.messages(ticket, 3))[2]["in_reply_to"] == reply["id"]


async def test_line_nobody_is_answered_in_a_group_we_are_out_of(chats: Chats) -> None:
    mika = LineUser(MIKA)
    group = LineGroup("C" + "2" * 32, members=[mika])
    await chats.line.bot_joins(group)
    await chats.line.customer_writes(mika, "Is anybody there?", group=group)
    ticket = await chats.api.ticket()
    await chats.line.bot_leaves(group)
    log = f"tickets/{ticket['id']}/events"
    await chats.api.until(log, lambda page: page["items"][-1]["kind"] == "consent.changed")
    refused = await chats.api.reply(ticket, "Yes!")
    assert (refused.status, refused.rules) == (422, ["answerable"])
    assert "taken out of the group" in refused.json["verdicts"][0]["reason"]
    await chats.line.customer_writes(mika, "And here?")  # in private she is answered
    (private,) = [one for one in await chats.api.items("tickets", 2) if one["id"] != ticket["id"]]
    await chats.api.replied(private, "Here, yes")
    await chats.line.bot_joins(group)
    await chats.api.until(log, lambda page: page["items"][-1]["data"].get("source") == "join")
    await chats.api.settled(await chats.api.replied(ticket, "Back again"), "sent")
    assert chats.line.sends[-1].to == group.group_id


async def test_line_blocks_unsends_and_brings_files(chats: Chats) -> None:
    mika = LineUser(MIKA)
    name = await chats.line.customer_sends_file(mika, PNG, "image/png")
    ticket = await chats.api.ticket()
    path = f"tickets/{ticket['id']}/messages"
    found = await chats.api.until(path, lambda page: page["items"][0]["attachments"][0]["state"] == "stored")
    assert (await chats.api.call("GET", found["items"][0]["attachments"][0]["url"])).body == PNG
    await chats.line.customer_unsends(mika, name)
    await chats.api.until(path, lambda page: page["items"][0]["deleted_at"] is not None)
    await chats.line.customer_blocks(mika)
    contact = f"contacts/{ticket['contact_id']}"
    await chats.api.until(contact, lambda found: found["identities"][0]["state"] == "blocked")
    refused = await chats.api.reply(ticket, "Hello?")
    assert (refused.status, refused.rules) == (422, ["blocked"])
    await chats.line.customer_follows(mika)
    await chats.api.until(contact, lambda found: found["identities"][0]["state"] == "active")


async def test_a_mention_on_x_there_and_back(chats: Chats) -> None:
    ana = XUser(ANA, "ana_ex", "Ana")
    assert await chats.x.check_webhook()
    name = await chats.x.customer_mentions(ana, "@shop_help where is order 17?")
    ticket = await chats.api.ticket()
    assert shown(ticket, "channel", "account", "status") == ("x", "x", "new")
    (message,) = await chats.api.messages(ticket, 1)
    assert shown(message, "external_id", "visibility") == (name, "public")
    assert message["author"]["name"] == "Ana"
    too_long = await chats.api.reply(ticket, "好" * 141)
    assert (too_long.status, too_long.rules) == (422, ["text_length"])
    reply = await chats.api.replied(ticket, "It left today: https://shop.example.com/" + "x" * 250)
    detail = await chats.api.settled(reply, "sent")
    (accepted,) = chats.x.sends
    assert accepted.payload["reply"]["in_reply_to_tweet_id"] == name
    assert detail["external_id"] == accepted.external_id
    await chats.x.settled()  # our own post comes back, and is the same message
    assert len(await chats.api.messages(ticket, 2)) == 2


async def test_a_direct_message_on_x_there_and_back(chats: Chats) -> None:
    ana = XUser(ANA, "ana_ex", "Ana")
    name = await chats.x.customer_writes(ana, "Where is it?", file=PNG)
    ticket = await chats.api.ticket()
    assert shown(ticket, "channel", "account") == ("x_dm", "x")
    path = f"tickets/{ticket['id']}/messages"
    found = await chats.api.until(path, lambda page: page["items"][0]["attachments"][0]["state"] == "stored")
    assert shown(found["items"][0], "external_id", "text", "visibility") == (name, "Where is it?", "private")
    assert (await chats.api.call("GET", found["items"][0]["attachments"][0]["url"])).body == PNG
    upload = await chats.api.upload(PNG, "label.png", "image/png")
    reply = await chats.api.replied(ticket, "Your label", attachments=[{"upload": upload}])
    await chats.api.settled(reply, "sent")
    (accepted,) = chats.x.sends
    assert (accepted.to, accepted.payload["text"], len(accepted.payload["attachments"])) == (ANA, "Your label", 1)
    await chats.x.customer_reads(ana)
    await chats.api.settled(reply, "read")
    await chats.x.settled()
    assert len(await chats.api.messages(ticket, 2)) == 2


async def test_wechat_there_and_back(chats: Chats) -> None:
    mara = Follower(MARA)
    assert (await chats.wechat.handshake())[0] == 200
    name = await chats.wechat.customer_writes(mara, "我的包裹在哪里？")
    assert chats.wechat.posted[-1][1] == 200
    ticket = await chats.api.ticket()
    assert shown(ticket, "channel", "account", "subject") == ("wechat", "wechat", "我的包裹在哪里？")
    (message,) = await chats.api.messages(ticket, 1)
    assert shown(message, "external_id", "text") == (name, "我的包裹在哪里？")
    upload = await chats.api.upload(PNG, "label.png", "image/png")
    reply = await chats.api.replied(ticket, "明天到。", attachments=[{"upload": upload}])
    await chats.api.settled(reply, "sent")
    assert [accepted.payload["msgtype"] for accepted in chats.wechat.sends] == ["text", "image"]
    assert mara.remaining == 3
    await chats.wechat.customer_leaves(mara)
    contact = f"contacts/{ticket['contact_id']}"
    await chats.api.until(contact, lambda found: found["identities"][0]["state"] == "blocked")
    assert (await chats.api.reply(ticket, "Hello?")).rules == ["blocked"]


async def test_wechat_a_link_that_opens_no_page_is_refused_when_it_is_written(chats: Chats) -> None:
    await chats.wechat.customer_writes(Follower(MARA))
    ticket = await chats.api.ticket()
    refused = await chats.api.reply(ticket, 'Look <a href="javascript:alert(1)">here</a>')
    assert (refused.status, refused.json["code"]) == (422, "invalid_body")
    assert "a link that opens neither a page nor a mini program" in str(refused.json)
    words = 'Look <a href="https://shop.example">here</a>'
    await chats.api.settled(await chats.api.replied(ticket, words), "sent")
    assert [accepted.payload["text"]["content"] for accepted in chats.wechat.sends] == [words]


async def test_wechat_outside_the_window_a_template_arrives(chats: Chats) -> None:
    mara = Follower(MARA)
    chats.wechat.world.templates.add("parcel")
    await chats.wechat.customer_writes(mara)
    ticket = await chats.api.ticket()
    chats.clock.ahead = timedelta(hours=48, minutes=1)
    chats.wechat.clock_ahead_s = chats.clock.ahead.total_seconds()
    refused = await chats.api.reply(ticket, "Hello?")
    assert (refused.status, refused.rules) == (422, ["window"])
    parameters = {"thing1": "Parcel 12"}
    reply = await chats.api.replied(ticket, template={"name": "parcel", "parameters": parameters})
    await chats.api.settled(reply, "delivered")
    assert chats.wechat.sends[-1].payload["data"] == {"thing1": {"value": "Parcel 12"}}


async def test_a_clear_post_to_a_secure_account_stores_nothing(chats: Chats) -> None:
    chats.wechat.mode = "plain"
    await chats.wechat.customer_writes(Follower(MARA), "Forged")
    assert chats.wechat.posted[-1][1] == 401
    chats.wechat.mode = "secure"
    await chats.wechat.customer_writes(Follower(MARA), "Real")
    ticket = await chats.api.ticket()
    assert [message["text"] for message in await chats.api.messages(ticket, 1)] == ["Real"]
    await eventually(lambda: len(chats.wechat.posted) == 2)


async def test_customers_see_that_somebody_writes_where_the_platform_can(chats: Chats) -> None:
    await chats.line.customer_writes(LineUser(MIKA))
    await chats.wechat.customer_writes(Follower(MARA))
    await chats.x.customer_writes(XUser(ANA, "ana_ex", "Ana"))
    tickets = {ticket["channel"]: ticket for ticket in await chats.api.items("tickets", 3)}
    shown_on = {name: await chats.api.post(f"tickets/{ticket['id']}/typing") for name, ticket in tickets.items()}
    assert shown_on == {"line": {"shown": True}, "wechat": {"shown": True}, "x_dm": {"shown": False}}
    assert (chats.line.typing, chats.wechat.behaviour.typing) == ([MIKA], [MARA])
    chats.wechat.clock_ahead_s = 49 * 3600  # the window is closed over there: no error of ours
    assert await chats.api.post(f"tickets/{tickets['wechat']['id']}/typing") == {"shown": False}
    assert chats.line.sends == chats.wechat.sends == []
