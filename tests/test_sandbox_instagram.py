"""The simulated Instagram account, held against the documentation, and our adapter held against the account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest
from aiohttp import web

from adapters import Ambiguous, Callback, HandshakeRefused, Http, SendError, Throttled, VerificationError
from adapters._contract_bench import RECEIVED_AT
from adapters._http import new_session
from adapters._instagram_token import LongLivedToken
from adapters._media import MediaClient
from adapters._tokens import InProcessTokens, Token
from adapters.instagram import InstagramAdapter, Settings
from adapters.sandbox._base import Fault
from adapters.sandbox.instagram import Customer, InstagramAccount
from config.secret import Secret
from normalizers.model import (
    Account,
    Address,
    Attachment,
    Context,
    DeliveryUpdate,
    Echo,
    Event,
    InboundMessage,
    Interactive,
    MessageDeleted,
    OutboundFile,
    OutboundMessage,
    Person,
    Received,
    Thread,
    ThreadControl,
)
from tests.support.patience import patience_s

E = TypeVar("E")
TOKEN, APP_SECRET, VERIFY, PAGE = "sandbox-token", "sandbox-app-secret", "verify-me", "110220330"
DAY = 24 * 3600


@dataclass
class Side:
    """Our side: a webhook that verifies, answers and normalises at once."""

    platform: InstagramAccount
    adapter: InstagramAdapter
    settings: Settings
    http: Http
    events: list[Event] = field(default_factory=list)

    async def webhook(self, request: web.Request) -> web.Response:
        headers: dict[str, tuple[str, ...]] = {}
        for name, value in request.headers.items():
            headers[name.lower()] = (*headers.get(name.lower(), ()), value)
        body = await request.read()
        callback = Callback(request.method, str(request.url), request.path_qs, dict(request.query), headers, body)
        try:
            if request.method == "GET":
                answer = self.adapter.handshake(callback)
                return web.Response(status=answer.status, body=answer.body)
            self.adapter.verify(callback)
        except VerificationError:
            return web.Response(status=401)
        except HandshakeRefused:
            return web.Response(status=403)
        self.events += self.adapter.normalize(Received(body, {}, {}, RECEIVED_AT, self.adapter.account))
        return web.Response()

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def switch(self, **settings: Any) -> None:
        self.adapter = InstagramAdapter(Account("ig", "instagram"), replace(self.settings, **settings), self.http)

    async def reach(self, message: OutboundMessage) -> Mapping[str, Any]:
        """What the platform took of it."""
        await self.adapter.send(message)
        payload: Mapping[str, Any] = self.platform.sends[-1].payload
        return payload


@pytest.fixture(params=["instagram", "page"])
def login(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    """By Instagram Login; through a Page in the tests that ask for `login` and are at it."""
    by_page = "login" in request.fixturenames and request.getfixturevalue("login") == "page"
    page_id = PAGE if by_page else ""
    async with InstagramAccount(app_secret=APP_SECRET, page_id=page_id) as platform, new_session() as session:
        settings = Settings(
            platform.instagram_id, (Secret(TOKEN),), (Secret("another"), Secret(APP_SECRET)), (Secret(VERIFY),),
            login_type=platform.login, page_id=page_id, api_base=platform.api_base,
        )  # fmt: skip
        media = MediaClient()
        http = Http(session, [platform.url], media, timeout_s=patience_s(request))
        side = Side(platform, InstagramAdapter(Account("ig", "instagram"), settings, http), settings, http)
        app = web.Application()
        app.add_routes([web.route("*", "/webhooks/ig", side.webhook)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        platform.webhook_url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/ig"
        yield side
        await platform.stop()
        await media.aclose()
        await runner.cleanup()


def mara() -> Customer:
    return Customer("62000000007", "Mara Lind", "mara.lind")


def igsid(customer: Customer) -> Address:
    return Address("instagram", "igsid", customer.id)


def reply(customer: Customer, text: str = "24 EUR.", **fields: Any) -> OutboundMessage:
    values: dict[str, Any] = {"id": "outbox-1", "key": "k", "account": "ig", "channel": "instagram"}
    return OutboundMessage(**values | {"to": (igsid(customer),), "text": text} | fields)


def under(message: InboundMessage, text: str = "24 EUR.", **fields: Any) -> OutboundMessage:
    """An answer to a comment or mention, as the core makes it."""
    metadata = message.context.metadata if message.context is not None else {}
    values: dict[str, Any] = {
        "id": "outbox-1", "key": "k", "account": "ig", "channel": "instagram_comment",
        "to": message.sender.addresses, "text": text, "visibility": "public",
        "thread": Thread(kind="public", key=message.thread.key, parent=message.id),
        "context": Context(reply_to=message.id, metadata=metadata),
    }  # fmt: skip
    return OutboundMessage(**values | fields)


async def refused(side: Side, message: OutboundMessage) -> tuple[str, str]:
    with pytest.raises(SendError) as caught:
        await side.adapter.send(message)
    return caught.value.code, caught.value.error_class


async def commented(side: Side, text: str = "Price?", **more: Any) -> InboundMessage:
    """A comment below a post of ours, as it arrived."""
    await side.platform.customer_comments(mara(), text, more.pop("post", "") or side.platform.media(), **more)
    return side.of(InboundMessage)[-1]


def pdf(tmp_path: Path, url: str = "") -> OutboundFile:
    path = tmp_path / "bill.pdf"
    path.write_bytes(b"%PDF-1.7")
    return OutboundFile(
        kind="file", media_type="application/pdf", filename="bill.pdf", size=8, open_path=str(path), url=url
    )


# --- what comes in ----------------------------------------------------------------------------------------------------


async def test_the_handshake_passes_with_our_token_only(side: Side) -> None:
    assert await side.platform.handshake(VERIFY) == (200, "1158201444")
    assert (await side.platform.handshake("wrong"))[0] == 403


async def test_webhooks_are_signed_and_the_second_secret_fits(side: Side) -> None:
    mid = await side.platform.customer_writes(mara(), "Grüße 🙂 /")
    (message,) = side.of(InboundMessage)
    assert (message.id, message.text, message.sender.addresses) == (mid, "Grüße 🙂 /", (igsid(mara()),))
    side.platform.app_secret = "yet another"
    await side.platform.customer_writes(mara())
    assert [status for _, status in side.platform.posted] == [200, 401]


async def test_comments_come_in_the_envelope_of_either_login(side: Side, login: str) -> None:
    first = await commented(side)
    below = await commented(side, "And in blue?", post=first.thread.key, parent=first.id)
    assert [message.channel for message in (first, below)] == ["instagram_comment"] * 2
    assert first.sender == Person((igsid(mara()),), handle="mara.lind")
    assert (below.thread.key, below.thread.parent) == (first.thread.key, first.id)
    webhook, _ = side.platform.posted[0]
    assert (b'"changes"' in webhook.body) is (login == "page")


async def test_a_message_taken_back_and_one_held_by_another_app(side: Side) -> None:
    mid = await side.platform.customer_writes(mara())
    await side.platform.customer_unsends(mara(), mid)
    assert [deleted.target for deleted in side.of(MessageDeleted)] == [mid]
    await side.platform.customer_does(mara(), standby=True, message={"mid": "aWdf2", "text": "Hi"})
    assert [control.action for control in side.of(ThreadControl)] == ["standby"]
    assert side.of(InboundMessage)[-1].flags == ("standby",)


async def test_staff_in_the_inbox_is_an_echo(side: Side) -> None:
    mid = await side.platform.staff_writes(mara(), "Hello")
    (echo,) = side.of(Echo)
    assert (echo.id, echo.text, echo.app, echo.ours) == (mid, "Hello", "Instagram inbox", "")
    assert side.of(DeliveryUpdate) == []


# --- direct -----------------------------------------------------------------------------------------------------------


async def test_a_reply_arrives_comes_back_and_is_read(side: Side, login: str) -> None:
    customer = mara()
    customer.reads = True
    await side.platform.customer_writes(customer)
    sent = await side.adapter.send(reply(customer))
    await side.platform.settled()
    (accepted,) = side.platform.sends
    assert (accepted.external_id, sent.addresses) == (sent.external_id, (igsid(customer),))
    assert "messaging_type" not in accepted.payload
    ours = "outbox-1" if login == "page" else ""
    assert [(echo.id, echo.ours) for echo in side.of(Echo)] == [(sent.external_id, ours)]
    read = [update for update in side.of(DeliveryUpdate) if update.status == "read"]
    assert [(update.target, update.up_to) for update in read] == [(sent.external_id, True)]


async def test_receipts_come_late_twice_and_in_disorder(side: Side) -> None:
    customer = mara()
    customer.reads = True
    await side.platform.customer_writes(customer)
    side.platform.receipts.copies, side.platform.receipts.shuffle, side.platform.receipts.hold = 2, True, True
    await side.adapter.send(reply(customer))
    await side.platform.settled()
    assert (side.of(Echo), side.of(DeliveryUpdate)) == ([], [])
    side.platform.release()
    await side.platform.settled()
    assert len(side.of(Echo)) == len(side.of(DeliveryUpdate)) == 2
    assert len({update.id for update in side.of(DeliveryUpdate)}) == 1


async def test_windows(side: Side) -> None:
    customer = side.platform.add_customer(mara())
    closed = ("10/2534022", "window-closed")
    assert await refused(side, reply(customer)) == closed
    await side.platform.customer_does(customer, reaction={"mid": "m_0", "action": "react", "reaction": "love"})
    await side.adapter.send(reply(customer))
    side.platform.clock_ahead_s = DAY + 1
    assert await refused(side, reply(customer)) == closed
    side.switch(human_agent=True)
    assert await refused(side, reply(customer, tag="HUMAN_AGENT")) == ("10", "auth")
    side.platform.behaviour.human_agent = True
    await side.adapter.send(reply(customer, tag="HUMAN_AGENT"))
    side.platform.clock_ahead_s = 7 * DAY + 1
    assert await refused(side, reply(customer, tag="HUMAN_AGENT")) == closed


async def test_who_cannot_be_reached(side: Side) -> None:
    assert await refused(side, reply(mara())) == ("100/2018001", "bad-recipient")
    customer = side.platform.add_customer(mara())
    customer.blocked = True
    assert await refused(side, reply(customer)) == ("551", "bad-recipient")


async def test_a_text_is_counted_in_bytes(side: Side) -> None:
    customer = mara()
    await side.platform.customer_writes(customer)
    await side.adapter.send(reply(customer, "ü" * 500))
    assert await refused(side, reply(customer, "ü" * 501)) == ("100", "permanent")
    assert await refused(side, reply(customer, "🙂" * 251)) == ("100", "permanent")


async def test_rates_and_credentials_are_enforced(side: Side) -> None:
    customer = mara()
    await side.platform.customer_writes(customer)
    side.platform.behaviour.sends_per_second = 1
    side.platform.clock_ahead_s = -60.0
    await side.adapter.send(reply(customer))
    side.platform.behaviour.sends_per_second = 0
    assert await refused(side, reply(customer)) == ("613", "throttle")
    side.platform.behaviour.restricted = True
    with pytest.raises(Throttled) as caught:
        await side.adapter.send(reply(customer))
    assert (caught.value.code, caught.value.pause, caught.value.retry_after_s) == ("10/1893063", "endpoint", 1800.0)
    side.platform.access_token = "another"
    assert await refused(side, reply(customer)) == ("190", "auth")


async def test_the_probe_names_the_id_that_webhooks_use(side: Side, login: str) -> None:
    await side.adapter.probe()
    side.switch(instagram_id="9000000001")
    with pytest.raises(SendError, match=side.platform.instagram_id) as caught:
        await side.adapter.probe()
    assert caught.value.code == "wrong-id"
    side.platform.access_token = "another"
    with pytest.raises(SendError) as caught:
        await side.adapter.probe()
    assert caught.value.error_class == "auth"


async def test_an_app_that_demands_the_proof_gets_it(side: Side) -> None:
    side.platform.behaviour.demand_proof = True
    with pytest.raises(SendError):
        await side.adapter.probe()
    side.switch(appsecret_proof=True, app_secret=(Secret(APP_SECRET),))
    await side.adapter.probe()


async def test_choices_hearts_and_answers(side: Side) -> None:
    customer = mara()
    mid = await side.platform.customer_writes(customer)
    chosen = await side.reach(reply(customer, content=Interactive(values={"buttons": ["Yes", "No"]})))
    assert [row["title"] for row in chosen["message"]["quick_replies"]] == ["Yes", "No"]
    answered = await side.reach(reply(customer, context=Context(reply_to=mid)))
    assert answered["reply_to"] == {"mid": mid}
    sent = await side.adapter.send(reply(customer, "", reaction="❤", context=Context(reply_to=mid)))
    assert sent.external_id == ""


# --- files ------------------------------------------------------------------------------------------------------------


async def test_a_file_on_our_disk_goes_by_upload_or_by_its_address(side: Side, login: str, tmp_path: Path) -> None:
    customer = mara()
    await side.platform.customer_writes(customer)
    bill = await asyncio.to_thread(pdf, tmp_path)
    if login == "page":
        taken = await side.reach(reply(customer, "", file=bill))
        assert taken["message"]["attachment"]["payload"].keys() == {"attachment_id"}
    else:
        assert await refused(side, reply(customer, "", file=bill)) == ("file", "permanent")
        assert side.platform.calls == 0
        taken = await side.reach(reply(customer, "", file=replace_url(bill, "https://x.example/b")))
        assert taken["message"]["attachment"]["payload"] == {"url": "https://x.example/b"}


def replace_url(given: OutboundFile, url: str) -> OutboundFile:
    values = {name: getattr(given, name) for name in given.__struct_fields__} | {"url": url}
    return OutboundFile(**values)


FILES = {  # what lies at the address -> our error
    "application/pdf": None,
    "text/plain": "100/2018047",
    "gone": "100/2018008",
}


@pytest.mark.parametrize(("found", "code"), FILES.items(), ids=FILES)
async def test_files_by_address_are_fetched_and_looked_at(
    side: Side, found: str, code: str | None, tmp_path: Path
) -> None:
    customer = mara()
    await side.platform.customer_writes(customer)
    side.platform.behaviour.fetches = True
    url = side.platform.address_of(side.platform.add_file(b"%PDF-1.7", "text/plain" if found == "gone" else found))
    if found == "gone":
        side.platform.expire(url)
    message = reply(customer, "", file=await asyncio.to_thread(pdf, tmp_path, url))
    if code is None:
        await side.adapter.send(message)
    else:
        assert (await refused(side, message))[0] == code


@pytest.mark.parametrize("login", ["page"], indirect=True)  # without a Page nothing is uploaded
async def test_too_large_a_file_is_refused_on_upload(side: Side, login: str, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    await asyncio.to_thread(path.write_bytes, bytes(8 * 2**20 + 1))
    large = OutboundFile(kind="image", media_type="image/png", filename="l.png", size=1, open_path=str(path))
    await side.platform.customer_writes(mara())
    assert await refused(side, reply(mara(), "", file=large)) == ("100/2018109", "permanent")


async def test_a_file_whose_address_expired_is_asked_for_afresh(side: Side) -> None:
    await side.platform.customer_sends_file(mara(), b"picture", "image/jpeg")
    ((picture,),) = (message.attachments for message in side.of(InboundMessage))
    side.platform.expire(picture.url)
    assert b"".join([chunk async for chunk in side.adapter.fetch(picture, b"")]) == b"picture"


async def test_a_story_is_linked_and_not_kept(side: Side) -> None:
    story = {"type": "story_mention", "payload": {"url": "https://cdn.example/story"}}
    await side.platform.customer_writes(mara(), attachments=[story])
    ((attachment,),) = (message.attachments for message in side.of(InboundMessage))
    assert attachment == Attachment(kind="image", url="https://cdn.example/story", no_store=True)


# --- public -----------------------------------------------------------------------------------------------------------


async def test_a_comment_is_answered_in_public(side: Side, login: str) -> None:
    first = await commented(side)
    sent = await side.adapter.send(under(first))
    await side.platform.settled()
    made = side.platform.comments[sent.external_id]
    assert (made.text, made.parent, made.author) == ("24 EUR.", first.id, side.platform.instagram_id)
    (echo,) = side.of(Echo)
    assert (echo.id, echo.recipient, echo.channel) == (sent.external_id, None, "instagram_comment")
    assert len(side.of(InboundMessage)) == 1
    side.platform.comments[first.id].hidden = True
    assert await refused(side, under(first)) == ("100/33", "permanent")


async def test_an_answer_to_an_answer_lands_below_the_first_comment_and_names_its_person(side: Side) -> None:
    first = await commented(side)
    below = await commented(side, "In blue?", post=first.thread.key, parent=first.id)
    sent = await side.adapter.send(under(below, "Yes."))
    made = side.platform.comments[sent.external_id]
    assert (made.parent, made.text) == (first.id, "@mara.lind Yes.")
    again = await side.adapter.send(under(below, "Yes, @mara.lind!"))
    assert side.platform.comments[again.external_id].text == "Yes, @mara.lind!"


async def test_a_comment_below_our_own_post(side: Side) -> None:
    media = side.platform.media()
    thread = Thread(kind="public", key=media)
    message = OutboundMessage(
        id="outbox-1", key="k", account="ig", channel="instagram_comment", to=(), text="Sold out.", thread=thread,
        visibility="public",
    )  # fmt: skip
    sent = await side.adapter.send(message)
    assert side.platform.comments[sent.external_id].parent == media


async def test_what_no_comment_can_be(side: Side, tmp_path: Path) -> None:
    first = await commented(side)
    bill = await asyncio.to_thread(pdf, tmp_path, "https://x.example/b")
    assert await refused(side, under(first, file=bill)) == ("file", "permanent")
    assert await refused(side, under(first, "")) == ("empty", "permanent")
    assert await refused(side, under(first, content=Interactive(values={"url": "x"}))) == ("content", "permanent")
    assert await refused(side, under(first, file=bill, visibility="private")) == ("file", "permanent")
    assert side.platform.calls == 0
    assert await refused(side, under(first, "x" * 2201)) == ("100", "permanent")


async def test_a_live_comment_is_answered_in_private_only(side: Side) -> None:
    live = await commented(side, live=True)
    assert live.flags == ("live",)
    assert (await refused(side, under(live)))[1] == "permanent"
    await side.adapter.send(under(live, visibility="private"))


async def test_a_private_reply_is_one_within_seven_days(side: Side, login: str) -> None:
    first = await commented(side)
    payload = await side.reach(under(first, "Your number, please?", visibility="private"))
    assert payload["recipient"] == {"comment_id": first.id}
    await side.platform.settled()
    assert [echo.channel for echo in side.of(Echo)] == ["instagram"]
    assert await refused(side, under(first, visibility="private")) == ("10900", "permanent")
    late = await commented(side)
    side.platform.clock_ahead_s = 7 * DAY + 1
    assert await refused(side, under(late, visibility="private")) == ("10/2534022", "window-closed")
    side.platform.behaviour.private_replies_per_hour = 0
    assert await refused(side, under(await commented(side), visibility="private")) == ("613", "throttle")


@pytest.mark.parametrize("caption", [False, True])
async def test_a_mention_is_looked_up_and_answered_by_its_own_call(side: Side, caption: bool) -> None:
    ref = await side.platform.customer_mentions("with @the.shop", caption=caption)
    (pointer,) = side.of(InboundMessage)
    assert (pointer.kind, pointer.flags) == ("unsupported", ("mention",))
    message = await side.adapter.look_up(pointer)
    assert (message.kind, message.text, message.lookup) == ("text", "with @the.shop", "")
    assert abs(message.at.timestamp() - side.platform.now()) < 60
    assert await side.adapter.look_up(message) is message
    sent = await side.adapter.send(under(message, "Thank you!"))
    assert side.platform.comments[sent.external_id].parent == ref
    with pytest.raises(SendError) as caught:
        await side.adapter.find(under(message, key=key_at(side.platform.now())))
    assert caught.value.code == "cannot-say"


async def test_a_comment_without_words_is_looked_up(side: Side) -> None:
    pointer = await commented(side, "")
    side.platform.comments[pointer.id].text = "Later told"
    message = await side.adapter.look_up(pointer)
    assert (message.text, message.sender.handle) == ("Later told", "mara.lind")


async def test_comments_are_hidden_and_deleted(side: Side) -> None:
    first = await commented(side)
    await side.adapter.hide(first.id, hidden=True)
    assert side.platform.comments[first.id].hidden
    await side.adapter.hide(first.id, hidden=False)
    sent = await side.adapter.send(under(first))
    with pytest.raises(SendError):
        await side.adapter.hide(sent.external_id, hidden=True)
    await side.adapter.delete(sent.external_id)
    assert sent.external_id not in side.platform.comments
    with pytest.raises(SendError) as caught:
        await side.adapter.delete(sent.external_id)
    assert caught.value.code == "100/33"


# --- people, subscription ---------------------------------------------------------------------------------------------


async def test_profiles_are_told_once_a_person_has_written(side: Side) -> None:
    customer = side.platform.add_customer(mara())
    assert await side.adapter.profile(igsid(customer)) is None
    await side.platform.customer_writes(customer)
    known = {"followers": 12, "follows_us": True, "verified": False}
    assert await side.adapter.profile(igsid(customer)) == Person((igsid(customer),), "Mara Lind", "mara.lind", known)
    assert await side.adapter.profile(Address("instagram", "anonymous", "1", evidence="claimed")) is None
    side.platform.access_token = "another"
    with pytest.raises(SendError):
        await side.adapter.profile(igsid(customer))


async def test_an_account_that_stopped_posting_is_told_again(side: Side, login: str) -> None:
    assert await side.adapter.subscribe()
    wanted = {"messages"} if login == "page" else {"messages", "message_echoes", "comments", "live_comments"}
    assert wanted <= set(side.platform.subscribed)
    assert not await side.adapter.subscribe()
    side.switch(app_id="1")
    assert await side.adapter.subscribe()
    assert side.adapter.subscription_checks == timedelta(hours=1)


async def test_a_token_is_renewed_while_it_lives(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    day, moment = 24 * 3600.0, [1000.0]
    token = LongLivedToken("ig", Secret(TOKEN), side.platform.api_base, side.http, now=lambda: moment[0])
    assert await token.current() == Secret(TOKEN)  # as configured, for a day: it may be too young
    moment[0] += day - 1
    assert await token.current() == Secret(TOKEN)
    moment[0] += 1
    found = await asyncio.gather(*(token.current() for _ in range(5)))
    assert set(found) == {Secret(side.platform.access_token)} != {Secret(TOKEN)}
    moment[0] += 7 * day - 1
    assert await token.current() == found[0]
    newest, side.platform.access_token = side.platform.access_token, "taken away"
    moment[0] += 1
    assert await token.current() == Secret(newest)  # the renewal failed; what we have is all there is
    assert [record.message for record in caplog.records] == ["instagram.token_not_renewed"]
    assert newest not in caplog.text
    side.platform.access_token = newest
    moment[0] += day / 4
    assert await token.current() != Secret(newest)


async def test_calls_go_by_the_renewed_token(side: Side) -> None:
    cache = InProcessTokens()
    side.adapter.tokens = cache
    await side.adapter.probe()
    (key,) = cache._tokens
    await cache.save(key, Token(Secret("renewed"), 2e10))
    side.platform.access_token = "renewed"
    await side.adapter.probe()
    assert side.adapter.tokens is cache


# --- faults -----------------------------------------------------------------------------------------------------------

FAULTS: dict[Fault, tuple[type[SendError], int]] = {  # -> our error, messages the platform took
    "timeout": (Ambiguous, 0),
    "timeout_after_accept": (Ambiguous, 1),
    "reset": (Ambiguous, 0),
    "reset_after_accept": (Ambiguous, 1),
    "500": (Ambiguous, 0),
    "500_after_accept": (Ambiguous, 1),
    "429": (Throttled, 0),
    "slow": (Ambiguous, 1),
    "garbage": (Ambiguous, 1),
    "half": (Ambiguous, 1),
}


def key_at(seconds: float) -> str:
    """A UUID of version 7 made at this moment."""
    return str(UUID(int=int(seconds * 1000) << 80 | 7 << 76 | 2 << 62))


@pytest.mark.parametrize(("fault", "wanted"), FAULTS.items(), ids=str)
async def test_a_lost_answer_is_found_in_the_conversation(
    side: Side, fault: Fault, wanted: tuple[type[SendError], int]
) -> None:
    customer = mara()
    await side.platform.customer_writes(customer)
    side.platform.clock_ahead_s = -60
    await side.adapter.send(reply(customer))  # the same words, a minute ago
    side.platform.clock_ahead_s = 0
    await side.adapter.send(reply(customer, "Else?"))
    message = reply(customer, key=key_at(side.platform.now()))
    side.platform.fail_next(fault)
    with pytest.raises(wanted[0]) as caught:
        await side.adapter.send(message)
    if fault == "429":
        assert caught.value.retry_after_s == 180.0
    assert len(side.platform.sends) == 2 + wanted[1]
    if wanted[1]:
        found = await side.adapter.find(message)
        assert found is not None
        assert found.external_id == side.platform.sends[-1].external_id
        return
    with pytest.raises(SendError) as unsaid:  # it may still be on its way
        await side.adapter.find(message)
    assert unsaid.value.code == "cannot-say"


@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize("fault", ["timeout", "reset_after_accept"])
async def test_a_lost_answer_to_a_comment_is_found(side: Side, fault: Fault, below: bool) -> None:
    target = await commented(side)
    if below:
        target = await commented(side, "In blue?", post=target.thread.key, parent=target.id)
    side.platform.clock_ahead_s = -60
    await side.adapter.send(under(target))  # the same words, a minute ago
    side.platform.clock_ahead_s = 0
    message = under(target, key=key_at(side.platform.now()))
    side.platform.fail_next(fault)
    with pytest.raises(Ambiguous):
        await side.adapter.send(message)
    found = await side.adapter.find(message)
    if fault == "timeout":
        assert found is None
    else:
        assert found is not None
        assert found.external_id == side.platform.sends[-1].external_id
    with pytest.raises(SendError) as caught:
        await side.adapter.find(under(target, key="k"))
    assert caught.value.code == "cannot-say"


async def test_through_a_page_the_echo_settles_a_lost_answer(side: Side, login: str) -> None:
    customer = mara()
    await side.platform.customer_writes(customer)
    side.platform.fail_next("reset_after_accept")
    with pytest.raises(Ambiguous):
        await side.adapter.send(reply(customer))
    await side.platform.settled()
    proofs = [update.ours for update in side.of(DeliveryUpdate) if update.status == "sent"]
    assert proofs == (["outbox-1"] if login == "page" else [])
