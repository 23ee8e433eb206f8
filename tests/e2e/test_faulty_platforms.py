"""Every simulated platform with everything that goes wrong on it: what it counts is held against what we say.

One gateway with an account on each; each fault hits one reply to a customer of its own. Without a key nothing arrives
twice, with one its effect is one; "sent" is said only of what arrived; what came with our id comes back as a receipt
and settles what was unknown. A few platforms stand side by side in one test: most of the time is waiting for answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest

from adapters import Http, _smtp_client
from adapters._load import find
from adapters.sandbox._base import ACCEPTING, Fault, Platform
from adapters.sandbox._mail_server import MailFault, MailStage
from adapters.sandbox._twilio_whatsapp import Person
from adapters.sandbox.facebook import Customer as Friend
from adapters.sandbox.facebook import FacebookPage
from adapters.sandbox.instagram import InstagramAccount
from adapters.sandbox.line import LineSimulator, User
from adapters.sandbox.meta_whatsapp import Customer, MetaWhatsApp
from adapters.sandbox.smtp import ACCEPTING as MAIL_ACCEPTING
from adapters.sandbox.twilio import TwilioSimulator
from adapters.sandbox.wechat import Follower, WeChatSimulator
from adapters.sandbox.x import User as Poster
from adapters.sandbox.x import XSimulator
from config import settings as configuration
from gateway import runtime
from gateway.control import create_key
from gateway.loading import settings_types
from gateway.runtime import Gateway
from tests.support.api import Api
from tests.support.world import TestClock, World

FAULTS: tuple[Fault, ...] = get_args(Fault)
_TWO_MINUTES, _HOUR = timedelta(minutes=2), timedelta(hours=1)
PUBLIC_URL = "https://support.shop.test"


@dataclass
class Side:
    """A platform with an account of ours on it. `writes` lets a new customer write; `arrived` counts what a person saw
    of some words. `reports`: what was taken comes back with our id, or can be asked for. `proves`: the platform can be
    asked, and what it does not know goes again."""

    channel: str
    platform: Platform
    account: dict[str, Any]
    writes: Callable[[int], Awaitable[object]]
    arrived: Callable[[str], int]
    keyed: bool = False
    reports: bool = False
    proves: bool = False


def _seen(platform: Platform) -> Callable[[str], int]:
    return lambda words: sum(words in repr(accepted.payload) for accepted in platform.sends)


def whatsapp() -> Side:
    platform = MetaWhatsApp()
    account = {"adapter": "whatsapp", "phone_number_id": platform.phone_number_id, "verify_token": "hello",
               "access_token": platform.access_token, "app_secret": platform.app_secret}  # fmt: skip

    async def writes(number: int) -> None:
        who = platform.add_customer(Customer(f"4915112345{number:03}", f"DE.{number}", "Ann"))
        await platform.customer_writes(who, "Hello")

    return Side("whatsapp", platform, account, writes, _seen(platform), reports=True)


def sms() -> Side:
    platform = TwilioSimulator(public_url=PUBLIC_URL, numbers=("+15550199999",))
    account = {"adapter": "sms", "account_sid": platform.account_sid, "auth_token": platform.auth_token,
               "number": "+15550199999", "rate": 50}  # fmt: skip

    async def writes(number: int) -> None:
        await platform.customer_writes("Hello", sender=f"+1555010{number:04}")

    return Side("sms", platform, account, writes, _seen(platform), reports=True)


def line() -> Side:
    platform = LineSimulator()
    account = {"adapter": "line", "channel_secret": platform.channel_secret, "access_token": platform.access_token,
               "bot_user_id": platform.bot_user_id}  # fmt: skip

    async def writes(number: int) -> None:
        await platform.customer_writes(platform.add_user(User(f"U{number:032}")), "Hello")

    def arrived(words: str) -> int:
        return sum(words in str(content.get("text")) for _, content in platform.inbox)

    return Side("line", platform, account, writes, arrived, keyed=True)


def messenger() -> Side:
    platform = FacebookPage()
    account = {"adapter": "facebook", "page_id": platform.page_id, "access_token": platform.access_token,
               "app_secret": platform.app_secret, "verify_token": "hello", "app_id": platform.app_id}  # fmt: skip

    async def writes(number: int) -> None:
        await platform.customer_writes(platform.add_customer(Friend(f"7000{number}")), "Hello")

    return Side("messenger", platform, account, writes, _seen(platform), reports=True)


def wechat() -> Side:
    platform = WeChatSimulator()
    account = {"adapter": "wechat", "app_id": platform.app_id, "app_secret": platform.app_secret,
               "token": platform.token, "original_id": platform.original_id}  # fmt: skip

    async def writes(number: int) -> None:
        await platform.customer_writes(platform.add_follower(Follower(f"openid{number}")), "Hello")

    return Side("wechat", platform, account, writes, _seen(platform))


def x() -> Side:
    platform = XSimulator()
    account = {"adapter": "x", "user_id": "700000000000000001", "consumer_key": platform.consumer_key,
               "consumer_secret": platform.consumer_secret, "access_token": platform.access_token,
               "access_token_secret": platform.access_token_secret}  # fmt: skip

    async def writes(number: int) -> None:
        who = platform.add(Poster(f"80000000000000{number:04}", f"user{number}", f"User {number}", open=True))
        await platform.customer_writes(who, "Hello")

    return Side("x_dm", platform, account, writes, _seen(platform))


def comments() -> Side:
    platform, side = FacebookPage(), messenger()
    account = side.account | {"page_id": platform.page_id, "access_token": platform.access_token,
                              "app_secret": platform.app_secret, "app_id": platform.app_id}  # fmt: skip

    async def writes(number: int) -> None:
        post = platform.page_post(f"News {number}")
        await platform.customer_comments(Friend(f"7000{number}"), "Is it for sale?", post)

    return Side("facebook", platform, account, writes, _seen(platform), proves=True)


def _instagram(platform: InstagramAccount) -> dict[str, Any]:
    return {"adapter": "instagram", "instagram_id": platform.instagram_id, "access_token": platform.access_token,
            "app_secret": platform.app_secret, "verify_token": "hello", "app_id": platform.app_id}  # fmt: skip


def instagram() -> Side:
    platform = InstagramAccount()

    async def writes(number: int) -> None:
        await platform.customer_writes(platform.add_customer(Friend(f"6200{number}")), "Hello")

    return Side("instagram", platform, _instagram(platform), writes, _seen(platform), reports=True)


def instagram_comments() -> Side:
    platform = InstagramAccount()

    async def writes(number: int) -> None:
        await platform.customer_comments(Friend(f"6200{number}"), "Is it for sale?", platform.media())

    return Side("instagram_comment", platform, _instagram(platform), writes, _seen(platform), proves=True)


def x_posts() -> Side:
    platform, side = XSimulator(), x()

    async def writes(number: int) -> None:
        who = Poster(f"80000000000000{number:04}", f"user{number}", f"User {number}", open=True)
        await platform.customer_mentions(who, "@shop is it for sale?")

    return Side("x", platform, side.account, writes, _seen(platform))


def whatsapp_by_twilio() -> Side:
    number = "+15550177777"
    platform = TwilioSimulator(public_url=PUBLIC_URL, whatsapp_numbers=(number,))
    account = {"adapter": "whatsapp", "provider": "twilio", "account_sid": platform.account_sid,
               "auth_token": platform.auth_token, "number": number}  # fmt: skip

    async def writes(number: int) -> None:
        await platform.person_writes(Person(f"+4915112345{number:03}", f"DE.{number}"), "Hello")

    return Side("whatsapp", platform, account, writes, _seen(platform), reports=True)


SIDES = {
    "x": x, "whatsapp": whatsapp, "sms": sms,
    "line": line, "messenger": messenger, "wechat": wechat,
    "comments": comments, "instagram": instagram, "instagram_comments": instagram_comments,
    "x_posts": x_posts, "whatsapp_by_twilio": whatsapp_by_twilio,
}  # fmt: skip
SIDE_BY_SIDE = 4
GROUPS = [tuple(SIDES)[start : start + SIDE_BY_SIDE] for start in range(0, len(SIDES), SIDE_BY_SIDE)]


def _impatient(session: Any, media: Any) -> Callable[[tuple[str, ...]], Http]:
    """The gateway's own client, which waits for an answer for a second only."""
    return lambda hosts: Http(session, hosts, media, timeout_s=1.0)


@asynccontextmanager
async def stage(side: Side, directory: Path) -> AsyncIterator[tuple[Api, TestClock]]:
    """The platform, and a gateway with an account on it."""
    async with AsyncExitStack() as stack:
        platform: Any = await stack.enter_async_context(side.platform)
        bases = {"api_base": getattr(platform, "api_base", platform.url)}
        if hasattr(platform, "data_base"):
            bases["data_base"] = platform.data_base
        tree = {
            "gateway": {"public_url": PUBLIC_URL, "listen": "127.0.0.1:0", "data_dir": "var"},
            "accounts": [{"id": "main", **side.account, **bases}],
        }
        found = find()
        clock = TestClock()
        gateway = Gateway(
            configuration.parse(tree, settings_types(found), base_dir=directory), clock=clock, found=found
        )
        await gateway.start()
        stack.push_async_callback(gateway.stop)
        platform.webhook_url = f"{gateway.address}/webhooks/main"
        if hasattr(platform, "local_url"):
            platform.webhook_url = platform.whatsapp_url = f"{PUBLIC_URL}/webhooks/main"
            platform.local_url = gateway.address
        key = await create_key(gateway.core, {"name": "tests", "scope": "admin"})
        api = Api(gateway.address, key["key"])
        stack.push_async_callback(api.close)
        yield api, clock


@pytest.mark.parametrize("names", GROUPS, ids="+".join)
async def test_what_a_platform_counts_is_what_we_say(
    names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "http_maker", _impatient)
    async with AsyncExitStack() as stack:
        work = []
        for name in names:  # one after another: what brings a store up to date may run once at a time
            side, directory = SIDES[name](), tmp_path / name
            directory.mkdir()
            work.append((name, side, *await stack.enter_async_context(stage(side, directory))))
        found = await asyncio.gather(*(_suffer(*given) for given in work), return_exceptions=True)
    if failures := [error for error in found if isinstance(error, Exception)]:
        raise ExceptionGroup("it is not", failures)


async def _suffer(name: str, side: Side, api: Api, clock: TestClock) -> None:
    """Every fault once; what the platform counted, and what we say in the end."""
    for number in range(len(FAULTS)):
        await side.writes(number)
    tickets = await api.items("tickets", len(FAULTS), limit="50")
    clock.ahead += _TWO_MINUTES  # past every reply token
    replies: dict[Fault, dict[str, Any]] = {}
    for fault, ticket in zip(FAULTS, tickets, strict=True):
        assert ticket["channel"] == side.channel
        side.platform.fail_next(fault)
        replies[fault] = await api.replied(ticket, f"words of {fault}.")
        await api.until(
            f"messages/{replies[fault]['id']}",
            lambda found: found["attempts"] and found["attempts"][0]["finished_at"],
        )
        clock.ahead += _HOUR  # retries are due, pauses are over, and the breaker has forgotten
        await api.until(f"messages/{replies[fault]['id']}", partial(_final, side, fault))
    for fault, reply in replies.items():
        found = await api.until(f"messages/{reply['id']}", partial(_final, side, fault))
        arrived, about = side.arrived(f"words of {fault}."), (name, fault)
        assert arrived <= 1, (*about, "sent twice")
        told = found["status"] in ("sent", "delivered", "read")
        assert not told or arrived == 1, (*about, "said to be sent")
        assert (found["status"], arrived) == ("unknown", 0) or told or not side.reports, about
        if not side.keyed and not side.proves and fault != "429":
            assert arrived == (fault in ACCEPTING), about


# --- mail: a repeat is the same mail to its reader, by its Message-ID ---

_CUTS: tuple[MailFault, ...] = get_args(MailFault)
_LATER, _NEVER = "421 4.3.2 later", "550 5.7.1 never"
_AT_STAGES: list[tuple[MailStage, str]] = [
    ("connect", _LATER), ("ehlo", _LATER), ("mail", _LATER), ("mail", _NEVER), ("rcpt", _LATER), ("rcpt", _NEVER),
]  # fmt: skip


async def test_what_mail_servers_got_is_what_we_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_smtp_client, "ANSWER_TIMEOUT_S", 1.0)
    async with World.open(tmp_path) as world:
        api, mail, clock = world.api, world.mail, world.clock
        faults: dict[str, Callable[[], None]] = {kind: partial(mail.fail_next, kind) for kind in _CUTS}
        faults |= {f"{at}, {answer[:3]}": partial(mail.answer_next, at, answer) for at, answer in _AT_STAGES}
        for number in range(len(faults)):
            await world.mailed(f"ann{number}@customer.test")
        tickets = await api.items("tickets", len(faults), limit="100")
        replies: dict[str, dict[str, Any]] = {}
        for (name, fails), ticket in zip(faults.items(), tickets, strict=True):
            mail.cut_all()  # so that it connects anew
            fails()
            replies[name] = await api.replied(ticket, f"words of <{name}>")
            path = f"messages/{replies[name]['id']}"
            await api.until(path, lambda found: found["attempts"] and found["attempts"][0]["finished_at"])
            clock.ahead += _HOUR
            await api.until(path, lambda found: found["status"] in ("sent", "failed"))
        for name, reply in replies.items():
            found = await api.get(f"messages/{reply['id']}")
            copies = [sent for sent in mail.sends if f"words of <{name}>" in sent.text]
            never = name in ("552", "550", "554") or name.endswith("550")
            assert (found["status"], bool(copies)) == (("failed", False) if never else ("sent", True)), name
            assert len({sent.message_id for sent in copies}) <= 1, (name, "two mails to their reader")
            assert len(copies) == 1 or name in MAIL_ACCEPTING or never, (name, "repeated without need")


def _final(side: Side, fault: Fault, found: dict[str, Any]) -> bool:
    """Whether a message has come as far as it can."""
    told: bool = found["status"] in ("sent", "delivered", "read")
    if side.keyed or side.proves or fault == "429" or (side.reports and fault in ACCEPTING):
        return told
    unknown: bool = found["status"] == "unknown"
    return unknown or (told and fault in ACCEPTING)  # the platform may have been asked
