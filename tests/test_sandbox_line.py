"""Our LINE adapter against the simulated platform, and both against the documentation and LINE's own library."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp
import pytest
from aiohttp import web
from linebot.v3.messaging import PushMessageRequest, ReplyMessageRequest
from linebot.v3.webhook import SignatureValidator, WebhookParser

from adapters import Ambiguous, Callback, Http, MediaError, SendError, Throttled, VerificationError
from adapters._contract_bench import RECEIVED_AT
from adapters._http import new_session
from adapters._line_body import objects_for
from adapters._media import MediaClient
from adapters._tokens import InProcessTokens, TokenHolder
from adapters.line import LineAdapter, Settings
from adapters.sandbox._base import Fault
from adapters.sandbox.line import Group, LineSimulator, User
from config.secret import Secret
from normalizers.model import (
    Account,
    Address,
    Attachment,
    ConsentChange,
    Context,
    DeliveryUpdate,
    Engagement,
    Event,
    Ignored,
    InboundMessage,
    MessageDeleted,
    OutboundFile,
    OutboundMessage,
    Person,
    Received,
    Thread,
)
from tests.channels import test_line as samples
from tests.support.patience import patience_s

E = TypeVar("E")
TOKEN, SECRET = "sandbox-token", "sandbox-channel-secret"
OTHER = "U" + "4" * 32
MIKA, GROUP, ROOM = "U" + "1" * 32, "C" + "2" * 32, "R" + "3" * 32


@dataclass
class Side:
    """Our side: a webhook that verifies, answers and normalises at once."""

    platform: Platform
    adapter: LineAdapter
    events: list[Event] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    async def webhook(self, request: web.Request) -> web.Response:
        headers: dict[str, tuple[str, ...]] = {}
        for name, value in request.headers.items():
            headers[name.lower()] = (*headers.get(name.lower(), ()), value)
        body = await request.read()
        callback = Callback(request.method, str(request.url), request.path_qs, dict(request.query), headers, body)
        try:
            self.adapter.verify(callback)
        except VerificationError:
            return web.Response(status=401)
        if self.statuses:
            return web.Response(status=self.statuses.pop(0))
        self.events += self.adapter.normalize(Received(body, {}, {}, RECEIVED_AT, self.adapter.account))
        return web.Response()

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def token(self) -> str:
        """The reply token of the last message that came in."""
        context = self.of(InboundMessage)[-1].context
        return context.reply_token if context else ""


class Platform(LineSimulator):
    """`behind_reply`: the fault of the call that follows the next reply."""

    behind_reply: Fault | None = None

    async def _reply(self, request: web.Request) -> web.Response:
        if self.behind_reply is not None:
            self.fail_next(self.behind_reply)
            self.behind_reply = None
        return await super()._reply(request)


class Hasty(LineAdapter):
    transcoding_delays_s = (0.0,)


@pytest.fixture
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    async with Platform() as platform, new_session() as session:
        settings = Settings(
            (Secret(SECRET),), platform.bot_user_id, (Secret(TOKEN),), api_base=platform.url,
            data_base=platform.data_base,
        )  # fmt: skip
        media = MediaClient()
        http = Http(session, [platform.url, platform.data_base], media, timeout_s=patience_s(request))
        side = Side(platform, Hasty(Account("line", "line"), settings, http))
        app = web.Application()
        app.add_routes([web.post("/webhooks/line", side.webhook)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        platform.webhook_url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/line"
        yield side
        await platform.stop()
        await media.aclose()
        await runner.cleanup()


def mika(**fields: Any) -> User:
    return User(MIKA, **fields)


def address(user_id: str = MIKA) -> Address:
    return Address("line", "user_id", user_id)


def reply(number: int = 1, token: str = "", **fields: Any) -> OutboundMessage:
    values: dict[str, Any] = {
        "id": f"outbox-{number}", "key": key(number), "account": "line", "channel": "line", "to": (address(),),
        "text": "Tomorrow.", "context": Context(reply_token=token),
    }  # fmt: skip
    return OutboundMessage(**values | fields)


def key(number: int) -> str:
    return str(uuid.UUID(int=number))


async def refused(side: Side, message: OutboundMessage) -> tuple[str, str]:
    with pytest.raises(SendError) as caught:
        await side.adapter.send(message)
    return caught.value.code, caught.value.error_class


def arrived(side: Side) -> list[tuple[str, Any]]:
    return [(to, one.get("text", one["type"])) for to, one in side.platform.inbox]


async def content(side: Side, attachment: Attachment) -> bytes:
    return b"".join([chunk async for chunk in side.adapter.fetch(attachment, b"")])


# --- LINE's own library -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "signature"), samples.VECTORS.items(), ids=["plain", "not ASCII"])
def test_the_official_library_signs_as_we_do(text: str, signature: str) -> None:
    assert SignatureValidator(samples.SECRET).validate(text, signature)
    assert samples.signed(text.encode()).header("x-line-signature") == signature


@pytest.mark.parametrize("name", ["first_message.json", "text_in_group.json"])
def test_the_official_library_reads_our_samples(name: str) -> None:
    callback = samples.signed(samples.file(name))
    raw = callback.body.decode()
    (found,) = WebhookParser(samples.SECRET).parse(raw, callback.header("x-line-signature"))
    assert found.message.text == json.loads(raw)["events"][0]["message"]["text"]


@pytest.mark.parametrize("given", [given for given, _ in samples.OBJECTS.values()], ids=samples.OBJECTS)
def test_the_official_library_takes_our_objects(given: OutboundMessage) -> None:
    """Read into its models and written again, nothing is missing and nothing was added."""
    objects = objects_for(given)
    push = {"to": MIKA, "messages": objects, "notificationDisabled": False}
    assert PushMessageRequest.from_dict(push).to_dict() == push
    answer = {"replyToken": "t", "messages": objects, "notificationDisabled": False}
    assert ReplyMessageRequest.from_dict(answer).to_dict() == answer


# --- webhooks ---------------------------------------------------------------------------------------------------------


async def test_the_official_library_reads_the_webhooks(side: Side) -> None:
    user, group = mika(), Group(GROUP)
    await side.platform.customer_writes(user, '荷物 🙏 "quoted"')
    await side.platform.customer_sends_file(user, b"x", "image/jpeg")
    await side.platform.customer_sends_file(user, b"x", "application/pdf", kind="file")
    await side.platform.customer_presses(user, "a=1", datetime="2026-12-25T01:00")
    await side.platform.customer_blocks(user)
    await side.platform.customer_follows(user)
    await side.platform.bot_joins(group)
    await side.platform.bot_leaves(group)
    parser, kinds = WebhookParser(SECRET), []
    for webhook, status in side.platform.posted:
        assert status == 200
        for event in parser.parse(webhook.body.decode(), webhook.headers["X-Line-Signature"]):
            kinds.append(event.type)
    assert kinds == ["message", "message", "message", "postback", "unfollow", "follow", "join", "leave"]
    assert side.of(InboundMessage)[0].text == '荷物 🙏 "quoted"'


async def test_a_webhook_signed_with_another_secret_is_refused(side: Side) -> None:
    side.platform.channel_secret = "another"
    await side.platform.customer_writes(mika())
    assert [status for _, status in side.platform.posted] == [401]
    assert side.events == []


async def test_the_console_verifies_without_events(side: Side) -> None:
    assert await side.platform.verify_webhook() == 200
    assert [type(event) for event in side.events] == [Ignored]


async def test_a_webhook_not_answered_2xx_comes_again_under_the_same_ids(side: Side) -> None:
    side.platform.redelivery.tries = 3
    side.statuses = [500, 503]
    name = await side.platform.customer_writes(mika())
    assert [status for _, status in side.platform.posted] == [500, 503, 200]
    assert [b'"isRedelivery":true' in webhook.body for webhook, _ in side.platform.posted] == [False, True, True]
    assert [message.id for message in side.of(InboundMessage)] == [name]


async def test_what_people_do_becomes_events(side: Side) -> None:
    user, group = mika(consents=False), Group(GROUP)
    await side.platform.customer_follows(user)
    await side.platform.customer_blocks(user)
    await side.platform.bot_joins(group)
    await side.platform.bot_leaves(group)
    name = await side.platform.customer_writes(user, group=group)
    await side.platform.customer_unsends(user, name)
    assert [(change.state, change.person, change.thread.key) for change in side.of(ConsentChange)] == [
        ("unblocked", Person((address(),)), ""), ("blocked", Person((address(),)), ""),
        ("unblocked", None, GROUP), ("blocked", None, GROUP),
    ]  # fmt: skip
    assert [engagement.kind for engagement in side.of(Engagement)] == ["follow", "join"]
    assert [message.sender.addresses[0].kind for message in side.of(InboundMessage)] == ["anonymous"]
    assert [deleted.target for deleted in side.of(MessageDeleted)] == [name]


# --- reply or push ----------------------------------------------------------------------------------------------------


async def test_a_fresh_token_answers_free_of_charge_and_without_a_key(side: Side) -> None:
    await side.platform.customer_writes(mika())
    sent = await side.adapter.send(reply(token=side.token()))
    (accepted,) = side.platform.sends
    assert (accepted.ours, accepted.external_id, accepted.to) == ("", sent.external_id, MIKA)
    assert sent.request_id
    assert arrived(side) == [(MIKA, "Tomorrow.")]
    assert (side.platform.used, side.platform.calls) == (0, 1)


async def test_without_a_token_it_is_pushed_under_its_key(side: Side) -> None:
    side.platform.add_user(mika())
    await side.adapter.send(reply())
    assert [accepted.ours for accepted in side.platform.sends] == [key(1)]
    assert side.platform.used == 1


async def test_a_token_refused_has_sent_nothing_and_a_push_follows(side: Side) -> None:
    await side.platform.customer_writes(mika())
    token = side.token()
    await side.adapter.send(reply(1, token))
    await side.adapter.send(reply(2, token, text="used"))
    side.platform.clock_ahead_s = 61
    await side.adapter.send(reply(3, "never seen", text="unknown"))
    await side.platform.customer_writes(mika())
    late = side.token()
    side.platform.clock_ahead_s += 61
    await side.adapter.send(reply(4, late, text="late"))
    assert [accepted.ours for accepted in side.platform.sends] == ["", key(2), key(3), key(4)]
    assert [text for _, text in arrived(side)] == ["Tomorrow.", "used", "unknown", "late"]


async def test_a_refused_token_alone_is_told(side: Side) -> None:
    assert await refused(side, reply(token="x", to=())) == ("invalid-reply-token", "window-closed")
    assert await refused(side, reply(to=())) == ("no-address", "bad-recipient")


async def test_the_platform_refuses_a_key_on_a_reply(side: Side) -> None:
    await side.platform.customer_writes(mika())
    url, body = f"{side.platform.url}/v2/bot/message/reply", {"replyToken": side.token(), "messages": []}
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Line-Retry-Key": key(1)}
    async with aiohttp.ClientSession() as session, session.post(url, json=body, headers=headers) as answer:
        assert answer.status == 400


async def test_the_same_key_again_is_the_first_success(side: Side) -> None:
    side.platform.add_user(mika())
    first = await side.adapter.send(reply())
    again = await side.adapter.send(reply())
    assert (again.external_id, again.request_id) == (first.external_id, first.request_id)
    assert len(side.platform.inbox) == 1
    side.platform.clock_ahead_s = 24 * 3600 + 1
    await side.adapter.send(reply())
    assert len(side.platform.inbox) == 2  # forgotten by then: why the key has an end


async def test_text_and_files_leave_in_one_call(side: Side) -> None:
    await side.platform.customer_writes(mika())
    picture = OutboundFile(kind="image", media_type="image/png", filename="p", size=9, url="https://x.example/p")
    sent = await side.adapter.send(reply(token=side.token(), files=(picture, picture)))
    assert [text for _, text in arrived(side)] == ["Tomorrow.", "image", "image"]
    assert (len(sent.aliases), side.platform.calls) == (2, 1)


async def test_groups_and_rooms_are_written_to_as_a_whole(side: Side) -> None:
    for number, group in enumerate((Group(GROUP, members=[mika()]), Group(ROOM, kind="room", members=[mika()])), 1):
        await side.platform.bot_joins(group)
        await side.platform.customer_writes(mika(), group=group)
        thread = side.of(InboundMessage)[-1].thread
        assert thread == Thread(kind="group", key=group.group_id)
        await side.adapter.send(reply(number, side.token(), thread=thread, text="reply"))
        await side.adapter.send(reply(number, thread=thread, text="push"))
    assert arrived(side) == [(GROUP, "reply"), (GROUP, "push"), (ROOM, "reply"), (ROOM, "push")]
    await side.platform.bot_leaves(side.platform.groups[GROUP])
    assert await refused(side, reply(9, thread=Thread(kind="group", key=GROUP))) == ("failed-to-send", "bad-recipient")


async def test_who_has_blocked_us_gets_nothing_and_no_answer_tells(side: Side) -> None:
    user = mika()
    await side.platform.customer_blocks(user)
    assert (await side.adapter.send(reply())).external_id
    assert (side.platform.inbox, side.platform.used) == ([], 0)


async def test_nobody_by_that_id(side: Side) -> None:
    assert await refused(side, reply()) == ("failed-to-send", "bad-recipient")


async def test_limits_and_credentials_are_enforced(side: Side) -> None:
    side.platform.add_user(mika())
    await side.adapter.send(reply(1, text="🙂" * 2500))
    with pytest.raises(SendError, match=r"messages\[0\].text: Length must be between 0 and 5000"):
        await side.adapter.send(reply(2, text="🙂" * 2500 + "x"))
    side.platform.access_token = "another"
    assert await refused(side, reply(3)) == ("401", "auth")
    with pytest.raises(SendError):
        await side.adapter.probe()


async def test_the_month_ends_pushes_and_no_replies(side: Side) -> None:
    side.platform.quota = 0
    await side.platform.customer_writes(mika())
    with pytest.raises(Throttled) as caught:
        await side.adapter.send(reply(1))
    assert (caught.value.code, caught.value.pause, caught.value.retry_after_s) == ("monthly-limit", "endpoint", 3600)
    await side.adapter.send(reply(1, side.token()))
    assert len(side.platform.inbox) == 1


async def test_the_call_rate(side: Side) -> None:
    side.platform.add_user(mika())
    side.platform.per_second = 1
    await side.adapter.send(reply(1))
    with pytest.raises(Throttled) as caught:
        await side.adapter.send(reply(2))
    assert (caught.value.code, caught.value.pause) == ("rate-limit", "endpoint")


async def test_a_video_watched_to_its_end_is_the_only_receipt(side: Side) -> None:
    side.platform.add_user(mika(watches=True))
    film = OutboundFile(
        kind="video", media_type="video/mp4", filename="f", size=9, url="https://x.example/v",
        preview_url="https://x.example/p",
    )  # fmt: skip
    await side.adapter.send(reply(1))
    await side.adapter.send(reply(2, files=(film,)))
    await side.platform.settled()
    assert [(update.status, update.ours) for update in side.of(DeliveryUpdate)] == [("read", "outbox-2")]


# --- people and files -------------------------------------------------------------------------------------------------


async def test_profiles(side: Side) -> None:
    user = mika(picture="https://x.example/i", status="hi")
    side.platform.add_group(Group(GROUP, members=[user]))
    side.platform.add_group(Group(ROOM, kind="room", members=[user]))
    assert await side.adapter.profile(address()) == Person(
        (address(),), "Mika", profile={"picture": "https://x.example/i", "status": "hi"}, language="ja"
    )
    await side.platform.customer_blocks(user)
    assert await side.adapter.profile(address()) is None
    for key_ in (GROUP, ROOM):
        found = await side.adapter.member_profile(address(), Thread(kind="group", key=key_))
        assert found == Person((address(),), "Mika")
    assert await side.adapter.profile(Address("line", "anonymous", "7", evidence="claimed")) is None
    side.platform.access_token = "another"
    with pytest.raises(SendError):
        await side.adapter.profile(address())


async def test_the_probe_proves_token_and_account(side: Side) -> None:
    await side.adapter.probe()
    side.platform.bot_user_id = "U" + "0" * 32
    with pytest.raises(SendError, match="another-account"):
        await side.adapter.probe()


FILES = {  # kind, what the platform says while it prepares -> whether it can be had
    "a picture": ("image", (), True),
    "a document": ("file", (), True),
    "a video": ("video", (), True),
    "a video ready at the second asking": ("video", ("processing",), True),
    "a sound not ready yet": ("audio", ("processing",) * 9, False),
}


@pytest.mark.parametrize(("kind", "preparing", "there"), FILES.values(), ids=FILES)
async def test_files_come_from_the_data_host(side: Side, kind: str, preparing: tuple[str, ...], there: bool) -> None:
    await side.platform.customer_sends_file(mika(), b"bytes", "video/mp4", kind=kind, preparing=preparing)
    (attachment,) = side.of(InboundMessage)[0].attachments
    if there:
        assert await content(side, attachment) == b"bytes"
    else:
        with pytest.raises(MediaError, match="still preparing") as caught:
            await content(side, attachment)
        assert caught.value.retryable


async def test_a_sound_that_cannot_be_prepared_is_given_up(side: Side) -> None:
    await side.platform.customer_sends_file(mika(), b"x", "audio/mp4", kind="audio", preparing=("failed",))
    with pytest.raises(MediaError, match="could not prepare") as caught:
        await content(side, side.of(InboundMessage)[0].attachments[0])
    assert not caught.value.retryable


async def test_of_a_film_that_cannot_be_prepared_its_preview_is_left(side: Side) -> None:
    failed = ("processing", "failed")
    await side.platform.customer_sends_file(mika(), b"x", "video/mp4", kind="video", preparing=failed, preview=b"jpg")
    assert await content(side, side.of(InboundMessage)[0].attachments[0]) == b"jpg"
    await side.platform.customer_sends_file(mika(), b"x", "video/mp4", kind="video", preparing=failed)
    with pytest.raises(MediaError, match="404"):
        await content(side, side.of(InboundMessage)[1].attachments[0])


async def test_a_file_taken_back_is_gone(side: Side) -> None:
    name = await side.platform.customer_sends_file(mika(), b"x", "video/mp4", kind="video")
    await side.platform.customer_unsends(mika(), name)
    with pytest.raises(MediaError, match="404"):
        await content(side, Attachment(kind="video", ref=name))


async def test_a_dead_token_fetches_nothing(side: Side) -> None:
    await side.platform.customer_sends_file(mika(), b"x", "video/mp4", kind="video")
    side.platform.access_token = "another"
    with pytest.raises(MediaError, match="401") as caught:
        await content(side, side.of(InboundMessage)[0].attachments[0])
    assert caught.value.retryable


async def test_a_file_kept_elsewhere_is_fetched_without_our_token(side: Side) -> None:
    """Even at a host of ours: whoever sent the message chose the address."""
    kept = await side.platform.customer_sends_file(mika(), b"x", "image/jpeg")
    trap = Attachment(kind="image", url=f"{side.platform.data_base}/v2/bot/message/{kept}/content")
    with pytest.raises(MediaError, match="401"):
        await content(side, trap)
    with pytest.raises(MediaError, match="blocked"):
        await content(side, Attachment(kind="image", url="http://127.0.0.1:1/x"))
    with pytest.raises(MediaError, match="neither"):
        await content(side, Attachment(kind="image"))


# --- access tokens that are fetched -----------------------------------------------------------------------------------

PUBLIC = samples.RSA.public_key()
KINDS: dict[str, tuple[dict[str, Any], float]] = {  # -> settings, seconds it is used for
    "stateless": ({}, 840),
    "short-lived": ({}, 29 * 86_400),
    "v2.1": ({"assertion_key": (Secret(samples.JWK),)}, 29 * 86_400),
    "v2.1 by PEM": ({"assertion_key": (Secret(samples.PEM),), "assertion_kid": "kid-1"}, 29 * 86_400),
}


def fetching(side: Side, kind: str, **more: Any) -> LineAdapter:
    """Another adapter of the account, whose token is fetched."""
    side.platform.access_token = "nobody's"
    side.platform.issued.keys["kid-1"] = PUBLIC
    values: dict[str, Any] = {
        "channel_secret": (Secret(SECRET),), "bot_user_id": side.platform.bot_user_id, "token_kind": kind,
        "channel_id": side.platform.issued.channel_id, "api_base": side.platform.url,
        "data_base": side.platform.data_base,
    }  # fmt: skip
    return Hasty(Account("line", "line"), Settings(**values | more), side.adapter._http)


@pytest.mark.parametrize(("name", "kind"), KINDS.items(), ids=KINDS)
async def test_a_token_is_fetched_once_and_used_while_it_lives(
    side: Side, name: str, kind: tuple[dict[str, Any], float]
) -> None:
    await side.platform.customer_sends_file(mika(), b"bytes", "image/jpeg")
    side.adapter = fetching(side, name.partition(" ")[0], **kind[0])
    assert isinstance(side.adapter, TokenHolder)
    await asyncio.gather(*(side.adapter.send(reply(number)) for number in range(5)))
    assert await content(side, side.of(InboundMessage)[0].attachments[0]) == b"bytes"
    await side.adapter.probe()
    assert (side.platform.issued.calls, len(side.platform.inbox)) == (1, 5)
    cache = side.adapter.tokens
    assert isinstance(cache, InProcessTokens)
    (kept,) = cache._tokens.values()
    assert abs(kept.renew_at - time.time() - kind[1]) < 30


async def test_a_token_that_is_refused_is_fetched_once_more(side: Side) -> None:
    await side.platform.customer_writes(mika())
    side.adapter, token = fetching(side, "stateless"), side.token()
    await side.adapter.probe()
    side.platform.issued.revoke()
    await side.adapter.send(reply(token=token))  # the refused call left the reply token as it was
    assert (side.platform.issued.calls, arrived(side)) == (2, [(MIKA, "Tomorrow.")])


@pytest.mark.parametrize(("name", "kind"), KINDS.items(), ids=KINDS)
async def test_what_proves_nothing_gets_no_token(side: Side, name: str, kind: tuple[dict[str, Any], float]) -> None:
    side.platform.add_user(mika())
    side.adapter = fetching(side, name.partition(" ")[0], **kind[0])
    side.platform.channel_secret, side.platform.issued.keys = "another", {}
    for call in (side.adapter.send(reply()), side.adapter.probe()):
        with pytest.raises(SendError) as caught:
            await call
        assert (caught.value.code, caught.value.error_class, caught.value.pause) == ("token-refused", "auth", "account")
        assert samples.PEM[40:80] not in str(caught.value)
    assert side.platform.calls == 0


async def test_no_token_no_message(side: Side) -> None:
    """Whatever becomes of the call for a token: no message left."""
    side.adapter = fetching(side, "stateless", api_base=f"{side.platform.url}/nowhere")
    with pytest.raises(SendError) as caught:
        await side.adapter.send(reply())
    assert (caught.value.certain, side.platform.calls) == (True, 0)
    with pytest.raises(MediaError):
        await content(side, Attachment(kind="image", ref="1"))


# --- the month's messages ---------------------------------------------------------------------------------------------


async def test_a_reserve_is_kept_for_replies(side: Side) -> None:
    values = {name: getattr(side.adapter._settings, name) for name in Settings.__slots__}
    side.adapter = Hasty(Account("line", "line"), Settings(**values | {"quota_reserve": 2}), side.adapter._http)
    group = side.platform.add_group(Group(GROUP, members=[mika(), User(OTHER), User("U" + "5" * 32)]))
    side.platform.quota, side.platform.used = 10, 4
    await side.adapter.send(reply(1, purpose="transactional"))
    await side.adapter.send(reply(2, purpose="marketing", thread=Thread(kind="group", key=group.group_id)))
    with pytest.raises(Throttled) as caught:
        await side.adapter.send(reply(3, purpose="transactional"))
    assert (caught.value.code, caught.value.pause, caught.value.retry_after_s) == ("quota-reserve", None, 3600)
    await side.adapter.send(reply(4))  # a reply passes
    assert side.platform.used == 9


async def test_without_a_limit_or_an_answer_nothing_waits(side: Side) -> None:
    values = {name: getattr(side.adapter._settings, name) for name in Settings.__slots__}
    side.adapter = Hasty(Account("line", "line"), Settings(**values | {"quota_reserve": 5}), side.adapter._http)
    side.platform.add_user(mika())
    await side.adapter.send(reply(1, purpose="marketing"))
    assert len(side.platform.inbox) == 1
    side.platform.quota = 0
    with pytest.raises(Throttled, match="monthly-limit"):  # nobody knew: the platform says so itself
        await side.adapter.send(reply(2, purpose="marketing"))


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


@pytest.mark.parametrize(("fault", "wanted"), FAULTS.items(), ids=str)
async def test_a_push_repeated_after_any_fault_arrives_once(
    side: Side, fault: Fault, wanted: tuple[type[SendError], int]
) -> None:
    side.platform.add_user(mika())
    side.platform.fail_next(fault)
    with pytest.raises(wanted[0]):
        await side.adapter.send(reply())
    assert len(side.platform.inbox) == wanted[1]
    sent = await side.adapter.send(reply())
    assert [accepted.external_id for accepted in side.platform.sends] == [sent.external_id]
    assert arrived(side) == [(MIKA, "Tomorrow.")]


@pytest.mark.parametrize(("fault", "wanted"), FAULTS.items(), ids=str)
async def test_a_reply_is_never_followed_by_a_push_after_a_fault(
    side: Side, fault: Fault, wanted: tuple[type[SendError], int]
) -> None:
    """Only a refused token is; a lost answer stays a lost answer."""
    await side.platform.customer_writes(mika())
    side.platform.fail_next(fault)
    with pytest.raises(wanted[0]):
        await side.adapter.send(reply(token=side.token()))
    assert (len(side.platform.sends), side.platform.calls) == (wanted[1], 1)


async def test_a_fault_of_the_push_behind_a_refused_token_keeps_its_key(side: Side) -> None:
    """Repeating the whole is safe: the token is refused again, the push is known by its key."""
    side.platform.add_user(mika())
    side.platform.behind_reply = "500_after_accept"
    with pytest.raises(Ambiguous):
        await side.adapter.send(reply(token="expired"))
    await side.adapter.send(reply(token="expired"))
    assert side.platform.calls == 4  # reply and push, twice
    assert arrived(side) == [(MIKA, "Tomorrow.")]
