"""Instagram there and back, over real sockets: direct messages and comments to tickets, replies, receipts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.sandbox.instagram import Customer, InstagramAccount
from tests.support.world import World, shown


@dataclass
class Shop:
    """The gateway with an Instagram account, and a customer of it."""

    world: World
    instagram: InstagramAccount
    mara: Customer


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with World.platforms(tmp_path) as world, InstagramAccount() as instagram:
        with world.file.open("a", encoding="utf-8") as file:
            file.write(f"""
[[accounts]]
id = "ig"
adapter = "instagram"
instagram_id = "{instagram.instagram_id}"
access_token = "{instagram.access_token}"
app_secret = ["another", "{instagram.app_secret}"]
verify_token = "hello"
human_agent = true
api_base = "{instagram.api_base}"
""")
        await world.start()
        instagram.webhook_url = f"{world.gateway.address}/webhooks/ig"
        mara = instagram.add_customer(Customer("62000000007", "Mara Lind", "mara.lind", reads=True))
        yield Shop(world, instagram, mara)
        await world.stop()


async def test_a_direct_message_there_and_back(shop: Shop) -> None:
    api, instagram, mara = shop.world.api, shop.instagram, shop.mara
    assert await instagram.handshake("hello") == (200, "1158201444")
    mid = await instagram.customer_writes(mara, "Do you have it in blue?")
    ticket = await api.ticket()
    assert shown(ticket, "channel", "account", "via", "status") == ("instagram", "ig", "instagram", "new")
    assert set(ticket["tags"]) >= {"instagram", "messaging_support"}
    (message,) = await api.messages(ticket, 1)
    assert shown(message, "external_id", "text", "direction") == (mid, "Do you have it in blue?", "inbound")
    reply = await api.replied(ticket, "We do.")
    detail = await api.settled(reply, "read")
    (accepted,) = instagram.sends
    assert accepted.payload["message"] == {"text": "We do."}
    assert accepted.external_id == detail["external_id"]
    await instagram.settled()
    await api.messages(ticket, 2)  # the echo of our own message is no message of its own
    answer = {"mid": "aWdfanswer", "text": "Great!", "reply_to": {"mid": accepted.external_id}}
    await instagram.customer_does(mara, message=answer)
    thread = await api.messages(ticket, 3)
    assert thread[2]["in_reply_to"] == reply["id"]
    await instagram.staff_writes(mara, "Written in the app")
    thread = await api.messages(ticket, 4)
    assert shown(thread[3], "direction", "text", "status") == ("outbound", "Written in the app", "sent")


async def test_a_comment_is_answered_below_it(shop: Shop) -> None:
    api, instagram = shop.world.api, shop.instagram
    ref = await instagram.customer_comments(shop.mara, "Price?", instagram.media())
    ticket = await api.ticket()
    assert shown(ticket, "channel", "account") == ("instagram_comment", "ig")
    assert "messaging_support" not in ticket["tags"]
    reply = await api.replied(ticket, "24 EUR.")
    detail = await api.settled(reply, "sent")
    made = instagram.comments[detail["external_id"]]
    assert (made.text, made.parent) == ("24 EUR.", ref)
    await instagram.settled()
    await api.messages(ticket, 2)  # our own comment came back, and is the one we know
    await instagram.customer_writes(shop.mara, "And shipping?")
    direct = (await api.items("tickets", 2))[0]
    assert direct["channel"] == "instagram"
    assert direct["contact_id"] == ticket["contact_id"]  # the same id in both: the same person


async def test_long_texts_go_in_parts_of_a_thousand_bytes(shop: Shop) -> None:
    await shop.instagram.customer_writes(shop.mara, "Tell me more")
    ticket = await shop.world.api.ticket()
    words = " ".join(f"größer{number}" for number in range(300))
    reply = await shop.world.api.replied(ticket, words)
    detail = await shop.world.api.settled(reply, "read")
    texts = [accepted.payload["message"]["text"] for accepted in shop.instagram.sends]
    assert len(texts) == len(detail["parts"]) > 1
    assert max(len(text.encode()) for text in texts) <= 1000
    assert " ".join(texts).split() == words.split()


async def test_a_day_later_the_window_is_closed(shop: Shop) -> None:
    await shop.instagram.customer_writes(shop.mara, "Hello")
    ticket = await shop.world.api.ticket()
    shop.world.clock.ahead = timedelta(hours=24, minutes=1)
    shop.instagram.clock_ahead_s = shop.world.clock.ahead.total_seconds()
    refused = await shop.world.api.reply(ticket, "Too late?", author={"type": "bot", "id": "1", "name": "Bot"})
    assert (refused.status, refused.rules) == (422, ["window"])
    assert shop.instagram.calls == 0


async def test_a_message_taken_back_is_cleared(shop: Shop) -> None:
    mid = await shop.instagram.customer_writes(shop.mara, "My card number is 12")
    ticket = await shop.world.api.ticket()
    await shop.instagram.customer_unsends(shop.mara, mid)
    path = f"tickets/{ticket['id']}/messages"
    found = await shop.world.api.until(path, lambda page: bool(page["items"][0]["deleted_at"]))
    assert found["items"][0]["text"] == ""


async def test_a_story_is_linked_and_never_fetched(shop: Shop) -> None:
    story = {"type": "story_mention", "payload": {"url": f"{shop.instagram.url}/files/1-1"}}
    await shop.instagram.customer_writes(shop.mara, attachments=[story])
    ticket = await shop.world.api.ticket()
    (message,) = await shop.world.api.messages(ticket, 1)
    assert message["kind"] == "story"
    assert [file["state"] for file in message["attachments"]] == ["linked"]


async def test_a_lost_answer_is_found_in_the_conversation(shop: Shop) -> None:
    await shop.instagram.customer_writes(shop.mara, "Hello")
    ticket = await shop.world.api.ticket()
    shop.instagram.receipts.mute = True
    shop.instagram.fail_next("reset_after_accept")
    reply = await shop.world.api.replied(ticket, "Did you get it?")
    await shop.world.api.settled(reply, "unknown")
    shop.world.clock.ahead = timedelta(minutes=1)
    detail = await shop.world.api.settled(reply, "sent")
    assert detail["external_id"] == shop.instagram.sends[0].external_id
    assert len(shop.instagram.sends) == 1


async def test_an_echo_settles_a_lost_answer_by_its_text(shop: Shop) -> None:
    api = shop.world.api
    await shop.instagram.customer_writes(shop.mara, "Hello")
    ticket = await api.ticket()
    shop.instagram.fail_next("reset_after_accept")
    reply = await api.replied(ticket, "Did you get it?")
    detail = await api.settled(reply, "read")  # the receipt finds it by the id that the echo told
    assert detail["external_id"] == shop.instagram.sends[0].external_id
    await shop.instagram.staff_writes(shop.mara, "Did you get it?")  # the same words again, by somebody else
    thread = await api.messages(ticket, 3)
    assert [message["author"]["name"] for message in thread[1:]] == ["Kim", "Instagram inbox"]


async def test_an_echo_that_is_faster_than_the_answer_makes_no_second_message(shop: Shop) -> None:
    api = shop.world.api
    await shop.instagram.customer_writes(shop.mara, "Hello")
    ticket = await api.ticket()
    shop.instagram.drop_s = 0.02
    shop.instagram.fail_next("slow")
    reply = await api.replied(ticket, "It left today.")
    await api.until(f"messages/{reply['id']}", lambda detail: bool(detail["attempts"]) and detail["status"] == "read")
    await shop.instagram.settled()
    detail = await api.until(f"messages/{reply['id']}", lambda one: one["attempts"][0]["outcome"] == "sent")
    assert detail["external_id"] == shop.instagram.sends[0].external_id
    assert len((await api.get(f"tickets/{ticket['id']}/messages"))["items"]) == 2


async def test_webhooks_nobody_signed_are_refused(shop: Shop) -> None:
    shop.instagram.app_secret = "wrong"
    assert await shop.instagram.customer_does(shop.mara, message={"mid": "m", "text": "Hi"}) == 401
    assert (await shop.world.api.get("tickets"))["items"] == []
