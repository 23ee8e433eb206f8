"""What platforms allow, through the API and against simulators that enforce it: tags, private replies, tokens, caps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.sandbox.facebook import Customer, FacebookPage
from adapters.sandbox.line import LineSimulator
from adapters.sandbox.line import User as LineUser
from adapters.sandbox.wechat import Follower, WeChatSimulator
from adapters.sandbox.x import User as XUser
from adapters.sandbox.x import XSimulator
from tests.support.api import Api
from tests.support.single import Single as World
from tests.support.single import open_world
from tests.support.world import eventually

PERSON: dict[str, Any] = {"author": {"type": "agent", "id": "7", "name": "Kim"}}
BOT: dict[str, Any] = {"author": {"type": "bot", "id": "9", "name": "Robo"}}


# --- a Facebook Page --------------------------------------------------------------------------------------------------


@pytest.fixture
async def page(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A Page; `human_agent` unless a test's parameter says otherwise."""
    platform = FacebookPage()
    platform.behaviour.human_agent = True
    async with open_world(
        tmp_path, platform, "webhook_url", adapter="facebook", page_id=platform.page_id,
        access_token=platform.access_token, app_secret=platform.app_secret, verify_token="hello",
        api_base=lambda: platform.api_base, app_id=platform.app_id,
        human_agent=getattr(request, "param", True),
    ) as world:  # fmt: skip
        yield world


def jo() -> Customer:
    return Customer("9988776655", "Jo Example", commenter="4455667788")


async def test_a_person_answers_on_messenger_after_the_window_and_a_bot_does_not(page: World) -> None:
    await page.platform.customer_writes(jo(), "Is the shop open?")
    ticket = await page.api.ticket()
    contact = await page.api.get(f"contacts/{ticket['contact_id']}")
    window = contact["identities"][0]["window"]
    assert (window["open"], window["tag_until"] > window["until"]) == (True, True)
    page.later(timedelta(hours=25))
    for body in (BOT, {"author": None}):
        refused = await page.api.reply(ticket, "Yes, it is", **body)
        assert (refused.status, refused.rules[0]) == (422, "window")
        assert "let a person write" in refused.json["verdicts"][0]["remedy"]
    asked = await page.api.call(
        "POST", f"tickets/{ticket['id']}/replies?dry_run=true", json={"text": "Yes"} | PERSON
    )  # fmt: skip
    assert [(one["rule"], one["decision"]) for one in asked.json["verdicts"]] == [("human_agent", "change")]
    message = await page.api.replied(ticket, "Yes, it is")
    await page.api.until(f"messages/{message['id']}", lambda found: found["status"] in ("sent", "delivered"))
    (sent,) = page.platform.sends
    assert (sent.payload["messaging_type"], sent.payload["tag"]) == ("MESSAGE_TAG", "HUMAN_AGENT")
    queued = [event for event in await page.api.log(ticket) if event["kind"] == "reply.queued"]
    assert [one["rule"] for one in queued[-1]["data"]["verdicts"]] == ["human_agent"]
    page.later(timedelta(days=6))
    assert (await page.api.reply(ticket, "Still there?")).rules == ["window"]


@pytest.mark.parametrize("page", [False], indirect=True)
async def test_without_the_platforms_leave_nobody_uses_the_tag(page: World) -> None:
    await page.platform.customer_writes(jo())
    ticket = await page.api.ticket()
    page.later(timedelta(hours=25))
    assert (await page.api.reply(ticket, "Yes, it is")).rules == ["window"]
    contact = await page.api.get(f"contacts/{ticket['contact_id']}")
    assert contact["identities"][0]["window"]["tag_until"] is None


async def test_a_comment_is_answered_in_private_and_the_answer_opens_a_ticket(page: World) -> None:
    api, customer = page.api, jo()
    await page.platform.customer_comments(customer, "Do you ship to Austria?", page.platform.page_post())
    public = await api.ticket(channel="facebook")
    message = await api.replied(public, "Yes. May I have your order number?", visibility="private")
    assert message["visibility"] == "private"
    sent = await api.until(f"messages/{message['id']}", lambda found: found["status"] in ("sent", "delivered"))
    assert sent["ticket_id"] == public["id"]
    (request,) = page.platform.sends
    assert set(request.payload["recipient"]) == {"comment_id"}
    again = await api.reply(public, "One more thing", visibility="private")
    assert (again.status, again.rules) == (422, ["private_reply"])
    await api.replied(public, "We have written to you.")  # in public there is no such limit
    await page.platform.customer_writes(customer, "It is 4711")
    private = await api.ticket(channel="messenger")
    assert private["contact_id"] == public["contact_id"]
    for ticket, other in ((public, private), (private, public)):
        found = await api.until(
            f"tickets/{ticket['id']}/events", lambda page: any(e["kind"] == "ticket.linked" for e in page["items"])
        )
        (event,) = [one for one in found["items"] if one["kind"] == "ticket.linked"]
        assert (event["data"]["ticket_id"], event["data"]["number"]) == (other["id"], other["number"])
    contact = await api.get(f"contacts/{public['contact_id']}")
    assert {one["channel"] for one in contact["identities"]} == {"facebook", "messenger"}
    answer = await api.replied(private, "Thank you!")
    await api.until(f"messages/{answer['id']}", lambda found: found["status"] in ("sent", "delivered"))
    thread = await api.messages(public, 3)
    assert [one["visibility"] for one in thread] == ["public", "private", "public"]


async def test_a_private_reply_whose_answer_was_lost_is_used_and_proven_by_its_echo(page: World) -> None:
    api, customer = page.api, jo()
    await page.platform.customer_comments(customer, "Do you ship to Austria?", page.platform.page_post())
    public = await api.ticket(channel="facebook")
    page.platform.fail_next("reset_after_accept")
    message = await api.replied(public, "Yes", visibility="private")
    await api.until(f"messages/{message['id']}", lambda found: found["status"] in ("sent", "delivered"))
    assert (await api.reply(public, "Yes", visibility="private")).rules == ["private_reply"]
    await page.platform.customer_writes(customer, "Good")
    private = await api.ticket(channel="messenger")
    await api.until(
        f"tickets/{private['id']}/events", lambda page: any(e["kind"] == "ticket.linked" for e in page["items"])
    )
    assert (await api.get(f"tickets/{private['id']}"))["contact_id"] == public["contact_id"]


async def test_a_private_reply_comes_too_late_after_seven_days(page: World) -> None:
    await page.platform.customer_comments(jo(), "Hello?", page.platform.page_post())
    public = await page.api.ticket(channel="facebook")
    page.later(timedelta(days=7, seconds=1))
    refused = await page.api.reply(public, "Yes", visibility="private")
    assert (refused.status, refused.rules) == (422, ["private_reply"])
    assert refused.json["verdicts"][0]["until"]
    assert (await page.api.log(public))[-1]["data"]["rule"] == "private_reply"


# --- LINE -------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[World]:
    platform = LineSimulator()
    async with open_world(
        tmp_path, platform, "webhook_url", adapter="line", channel_secret=platform.channel_secret,
        access_token=platform.access_token, bot_user_id=platform.bot_user_id, api_base=lambda: platform.url,
        data_base=lambda: platform.data_base,
    ) as world:  # fmt: skip
        yield world


async def test_line_is_answered_by_token_once_and_by_push_afterwards(line: World) -> None:
    await line.platform.customer_writes(LineUser("U" + "a" * 32), "order 42?")
    ticket = await line.api.ticket()
    first, second = [await line.api.replied(ticket, text) for text in ("On its way", "It left today")]
    for message in (first, second):
        await line.api.settled(message, "sent")
    by_token, pushed = line.platform.sends
    assert by_token.payload["replyToken"]
    assert "replyToken" not in pushed.payload
    assert pushed.payload["to"] == "U" + "a" * 32
    assert line.platform.used == 1  # replies are free


async def test_a_token_older_than_its_time_is_not_tried(line: World) -> None:
    await line.platform.customer_writes(LineUser("U" + "a" * 32), "order 42?")
    ticket = await line.api.ticket()
    line.later(timedelta(seconds=51))
    await line.api.settled(await line.api.replied(ticket, "On its way"), "sent")
    (sent,) = line.platform.sends
    assert "replyToken" not in sent.payload


# --- WeChat -----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def wechat(tmp_path: Path) -> AsyncIterator[World]:
    platform = WeChatSimulator()
    async with open_world(
        tmp_path, platform, "webhook_url", adapter="wechat", app_id=platform.app_id, app_secret=platform.app_secret,
        token=platform.token, encoding_aes_key=platform.encoding_aes_key, original_id=platform.original_id,
        api_base=lambda: platform.api_base,
    ) as world:  # fmt: skip
        yield world


async def test_wechat_allows_five_messages_after_a_word_and_three_after_a_click(wechat: World) -> None:
    api, li = wechat.api, Follower("oLi0000000000000000000000001")
    await wechat.platform.customer_writes(li, "你好")
    ticket = await api.ticket()
    long = await api.reply(ticket, "好" * 4000)  # six parts
    assert (long.status, long.rules[0]) == (422, "window")
    messages = [await api.replied(ticket, f"{number}") for number in range(5)]
    sixth = await api.reply(ticket, "5")
    assert (sixth.status, sixth.rules) == (422, ["window"])
    for message in messages:
        await api.settled(message, "sent")
    assert len(wechat.platform.sends) == 5
    assert (await window_of(api, ticket))["remaining"] == 0
    await wechat.platform.customer_acts(li, "CLICK", "menu-1")
    path = f"contacts/{ticket['contact_id']}"
    await api.until(path, lambda contact: contact["identities"][0]["window"]["remaining"] == 3)
    more = [await api.replied(ticket, f"after the click {number}") for number in range(3)]
    assert (await api.reply(ticket, "and one more")).rules == ["window"]
    for message in more:
        await api.settled(message, "sent")
    assert len(wechat.platform.sends) == 8
    assert [event["kind"] for event in await api.log(ticket)].count("reply.refused") == 3


async def window_of(api: Api, ticket: dict[str, Any]) -> dict[str, Any]:
    contact = await api.get(f"contacts/{ticket['contact_id']}")
    found: dict[str, Any] = contact["identities"][0]["window"]
    return found


# --- X ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def x(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    platform = XSimulator()
    platform.require_summon = getattr(request, "param", True)
    async with open_world(
        tmp_path, platform, "webhook_url", adapter="x", user_id=platform.world.own.id,
        consumer_key=platform.consumer_key, consumer_secret=platform.consumer_secret,
        access_token=platform.access_token, access_token_secret=platform.access_token_secret,
        require_summon=platform.require_summon, api_base=lambda: platform.url,
    ) as world:  # fmt: skip
        yield world


def ada() -> XUser:
    return XUser("800000000000000001", "ada", "Ada")


async def unsummoned(world: World) -> dict[str, Any]:
    """A ticket whose last post answers ours and does not mention us."""
    customer = ada()
    await world.platform.customer_mentions(customer, "@shop_help where is my order?")
    ticket = await world.api.ticket()
    await world.api.replied(ticket, "On its way")
    await eventually(lambda: len(world.platform.sends) == 1)
    ours = world.platform.sends[0].external_id
    await world.platform.customer_mentions(customer, "thanks", reply_to=ours, mention=False)
    await world.api.messages(ticket, 3)
    return ticket


async def test_a_post_on_x_that_did_not_call_us_is_not_answered(x: World) -> None:
    ticket = await unsummoned(x)
    asked = await x.api.call("POST", f"tickets/{ticket['id']}/replies?dry_run=true", json={"text": "Bye"} | PERSON)
    assert (asked.status, asked.json["decision"], asked.rules) == (200, "deny", ["answerable"])
    refused = await x.api.reply(ticket, "Bye")
    assert (refused.status, refused.json["code"], refused.rules) == (422, "outbox_denied", ["answerable"])
    last = (await x.api.log(ticket))[-1]
    assert (last["kind"], last["data"]["rule"]) == ("reply.refused", "answerable")
    assert "mention" in last["data"]["reason"]
    assert len(x.platform.sends) == 1


@pytest.mark.parametrize("x", [False], indirect=True)
async def test_an_account_that_need_not_be_called_answers(x: World) -> None:
    ticket = await unsummoned(x)
    await x.api.settled(await x.api.replied(ticket, "Bye"), "sent")


async def test_x_hears_no_word_twice_and_one_machine_once(x: World) -> None:
    await x.platform.customer_mentions(ada(), "@shop_help where is my order?")
    ticket = await x.api.ticket()
    await x.api.settled(await x.api.replied(ticket, "On its way", **BOT), "sent")
    assert (await x.api.reply(ticket, "It left today", **BOT)).rules == ["automatic_answers"]
    assert (await x.api.reply(ticket, "On its way")).rules == ["duplicate"]
    await x.api.settled(await x.api.replied(ticket, "It left today"), "sent")
