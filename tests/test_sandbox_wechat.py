"""The simulated WeChat account, held against the documentation, and our adapter held against the platform."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
import pytest
from aiohttp import web

from adapters import Callback, HandshakeRefused, Http, MediaError, SendError, Throttled, VerificationError
from adapters._base import MediaFetcher, Probe, Profiles
from adapters._contract_bench import RECEIVED_AT
from adapters._http import new_session
from adapters._media import MediaClient
from adapters._tokens import InProcessTokens, TokenHolder
from adapters._wechat_api import https
from adapters.sandbox._base import Fault
from adapters.sandbox.wechat import Follower, WeChatSimulator
from adapters.wechat import Settings, WeChatAdapter
from config.secret import Secret
from normalizers.model import (
    Account,
    Address,
    Attachment,
    ConsentChange,
    DeliveryUpdate,
    Engagement,
    Event,
    InboundMessage,
    Interactive,
    Link,
    OutboundFile,
    OutboundMessage,
    Person,
    Received,
    Template,
)
from tests.support.patience import patience_s

E = TypeVar("E")
PNG, OTHER = b"\x89PNG" + b"a" * 200_000, b"{not json, not an image"
HOURS_48 = 48 * 3600


@dataclass
class Side:
    """Our side: a webhook that verifies, answers and normalises at once."""

    platform: WeChatSimulator
    adapter: WeChatAdapter
    http: Http
    events: list[Event] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    async def webhook(self, request: web.Request) -> web.Response:
        body, query = await request.read(), dict(request.query)
        callback = Callback(request.method, str(request.url), request.path_qs, query, {}, body)
        self.bodies.append(body)
        try:
            if request.method == "GET":
                answer = self.adapter.handshake(callback)
                return web.Response(status=answer.status, body=answer.body)
            self.adapter.verify(callback)
        except VerificationError:
            return web.Response(status=401)
        except HandshakeRefused:
            return web.Response(status=403)
        self.adapter.well_formed(callback)
        if self.statuses:
            return web.Response(status=self.statuses.pop(0))
        self.events += self.adapter.normalize(Received(body, {}, query, RECEIVED_AT, self.adapter.account))
        answer = self.adapter.acknowledge(callback)
        return web.Response(status=answer.status, body=answer.body)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def another(self, **changes: Any) -> WeChatAdapter:
        """One more adapter on the same account."""
        return adapter_for(self.platform, self.http, **changes)


def adapter_for(platform: WeChatSimulator, http: Http, **changes: Any) -> WeChatAdapter:
    values: dict[str, Any] = {
        "app_id": platform.app_id, "app_secret": (Secret(platform.app_secret),), "token": (Secret(platform.token),),
        "original_id": platform.original_id, "encoding_aes_key": (Secret(platform.encoding_aes_key),),
        "api_base": platform.api_base,
    }  # fmt: skip
    return WeChatAdapter(Account("wx", "wechat"), Settings(**values | changes), http, clock=platform.now)


@pytest.fixture
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    async with WeChatSimulator() as platform, new_session() as session:
        media = MediaClient()
        http = Http(session, [platform.url], media, timeout_s=patience_s(request))
        side = Side(platform, adapter_for(platform, http), http)
        app = web.Application()
        app.add_routes([web.route("*", "/webhooks/wx", side.webhook)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        platform.webhook_url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/wx"
        yield side
        await platform.stop()
        await media.aclose()
        await runner.cleanup()


def mara() -> Follower:
    return Follower("oDemoUser000000000000000001", unionid="union-1")


MARA = Address("wechat", "openid", mara().openid)


def reply(text: str = "明天到。", **values: Any) -> OutboundMessage:
    base: dict[str, Any] = {"id": "outbox-1", "key": "key-1", "account": "wx", "channel": "wechat", "to": (MARA,)}
    return OutboundMessage(**base | {"text": text} | values)


async def refused(side: Side, message: OutboundMessage) -> tuple[str, str]:
    with pytest.raises(SendError) as caught:
        await side.adapter.send(message)
    return caught.value.code, caught.value.error_class


async def collected(side: Side, attachment: Attachment) -> bytes:
    async with aclosing(side.adapter.fetch(attachment, b"")) as chunks:  # type: ignore[type-var]
        return b"".join([chunk async for chunk in chunks])


# --- handshake and callbacks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["plain", "compatible", "secure"])
async def test_the_handshake_passes_with_our_token_only(side: Side, mode: Any) -> None:
    side.platform.mode = mode
    assert await side.platform.handshake() == (200, "5318241234567890123")
    assert (await side.platform.handshake("wrong"))[0] == 403


@pytest.mark.parametrize("mode", ["plain", "compatible", "secure"])
async def test_messages_arrive_in_every_mode(side: Side, mode: Any) -> None:
    side.platform.mode = mode
    message_id = await side.platform.customer_writes(mara(), "您好 ]]> & 🙂")
    ((_, status),) = side.platform.posted
    assert status == 200
    assert (b"Content" in side.bodies[0]) == (mode != "secure")
    (message,) = side.of(InboundMessage)
    assert (message.id, message.text, message.routing_key) == (message_id, "您好 ]]> & 🙂", "gh_sandbox")
    assert message.sender == Person((MARA,))


async def test_secure_accounts_take_encrypted_posts_only(side: Side) -> None:
    side.adapter = side.another(security="secure")
    for mode, status in (("plain", 401), ("compatible", 200), ("secure", 200)):
        side.platform.mode = cast("Any", mode)
        await side.platform.customer_writes(mara())
        assert side.platform.posted[-1][1] == status
    assert len(side.of(InboundMessage)) == 2


@pytest.mark.parametrize(("mode", "name", "value"), [
    ("plain", "token", "another"), ("secure", "token", "another"),
    ("secure", "encoding_aes_key", "Z" * 43), ("secure", "app_id", "wx-another"),
])  # fmt: skip
async def test_what_others_sign_is_refused(side: Side, mode: Any, name: str, value: str) -> None:
    side.platform.mode = mode
    setattr(side.platform, name, value)
    await side.platform.customer_writes(mara())
    assert [status for _, status in side.platform.posted] == [401]
    assert side.events == []


async def test_a_callback_without_an_answer_comes_again(side: Side) -> None:
    side.platform.redelivery.tries, side.platform.redelivery.pause_s = 3, 0.0
    side.statuses = [503, 503]
    await side.platform.customer_writes(mara())
    assert [status for _, status in side.platform.posted] == [503, 503, 200]
    assert len(side.of(InboundMessage)) == 1


async def test_what_followers_do_becomes_events(side: Side) -> None:
    customer = mara()
    await side.platform.customer_follows(customer, "shop7")
    await side.platform.customer_acts(customer, "CLICK", "order")
    await side.platform.customer_acts(customer, "VIEW", "https://shop.example")
    await side.platform.customer_leaves(customer)
    assert [change.state for change in side.of(ConsentChange)] == ["unblocked", "blocked"]
    assert [engagement.kind for engagement in side.of(Engagement)] == ["follow", "click", "view"]


# --- what an action allows --------------------------------------------------------------------------------------------


async def test_a_message_allows_five_in_48_hours(side: Side) -> None:
    customer = mara()
    await side.platform.customer_writes(customer)
    await side.platform.customer_writes(customer)
    for _ in range(5):
        assert (await side.adapter.send(reply())).external_id == ""
    assert await refused(side, reply()) == ("45047", "window-closed")
    assert [accepted.payload["text"] for accepted in side.platform.sends] == [{"content": "明天到。"}] * 5
    await side.platform.customer_writes(customer)
    side.platform.clock_ahead_s = HOURS_48
    assert await refused(side, reply()) == ("45015", "window-closed")


@pytest.mark.parametrize("act", ["follow", "CLICK", "SCAN", "scancode_push", "scancode_waitmsg", "msgmenu"])
async def test_other_actions_allow_three_in_a_minute(side: Side, act: str) -> None:
    customer = mara()

    async def acts() -> None:
        if act == "follow":
            await side.platform.customer_follows(customer)
        elif act == "msgmenu":
            await side.platform.customer_writes(customer, "Yes", bizmsgmenuid="1")
        else:
            await side.platform.customer_acts(customer, act, "k")

    await acts()
    for _ in range(3):
        await side.adapter.send(reply())
    assert await refused(side, reply()) == ("45047", "window-closed")
    await acts()
    side.platform.clock_ahead_s = 60
    assert await refused(side, reply()) == ("45015", "window-closed")
    (kind,) = {engagement.kind for engagement in side.of(Engagement)}
    assert kind in (WeChatAdapter.channels[0].window or cast("Any", None)).allowances
    assert [message.opens_window for message in side.of(InboundMessage)] in ([], [False, False])


async def test_a_menu_link_allows_nothing(side: Side) -> None:
    await side.platform.customer_acts(mara(), "VIEW", "https://shop.example")
    assert await refused(side, reply()) == ("45015", "window-closed")


async def test_who_left_or_is_not_known_gets_nothing(side: Side) -> None:
    assert await refused(side, reply()) == ("40003", "bad-recipient")
    customer = mara()
    await side.platform.customer_writes(customer)
    customer.blocks = True
    assert await refused(side, reply()) == ("48002", "bad-recipient")
    await side.platform.customer_leaves(customer)
    assert await refused(side, reply()) == ("45015", "window-closed")


# --- templates --------------------------------------------------------------------------------------------------------


def template(**parameters: Any) -> OutboundMessage:
    return reply("", template=Template("tpl", "", parameters))


async def test_templates_pass_outside_the_window_once_for_each_key(side: Side) -> None:
    side.platform.world.templates.add("tpl")
    side.platform.add_follower(mara())
    sent = await side.adapter.send(template(thing1="Parcel"))
    again = await side.adapter.send(template(thing1="Parcel"))
    await side.platform.settled()
    (accepted,) = side.platform.sends
    assert (sent.external_id, again.external_id) == (accepted.external_id, accepted.external_id)
    assert accepted.payload["data"] == {"thing1": {"value": "Parcel"}}
    ((update),) = side.of(DeliveryUpdate)
    assert (update.target, update.status, update.recipient) == (sent.external_id, "delivered", MARA)


async def test_a_template_that_a_follower_refuses_fails_later(side: Side) -> None:
    side.platform.world.templates.add("tpl")
    side.platform.add_follower(mara()).blocks = True
    await side.adapter.send(template())
    await side.platform.settled()
    (update,) = side.of(DeliveryUpdate)
    assert update.error is not None
    assert WeChatAdapter.channels[0].errors[update.error.code].error_class == "bad-recipient"


async def test_notices_need_consent(side: Side) -> None:
    side.platform.world.templates.add("tpl")
    customer = side.platform.add_follower(mara())
    sent = await side.adapter.send(template(notice="subscription", data={"thing1": "x"}))
    await side.platform.settled()
    assert [(update.target, update.status) for update in side.of(DeliveryUpdate)] == [(sent.external_id, "delivered")]
    customer.refuses = frozenset({"tpl"})
    assert await refused(side, template(notice="subscription", data={})) == ("43101", "bad-recipient")


async def test_unknown_templates_and_accounts_without_rights(side: Side) -> None:
    customer = side.platform.add_follower(mara())
    assert await refused(side, template()) == ("40037", "permanent")
    side.platform.world.templates.add("tpl")
    customer.follows = False
    assert await refused(side, template()) == ("43004", "bad-recipient")
    side.platform.behaviour.certified = False
    assert await refused(side, template()) == ("48001", "permanent")


# --- the access token -------------------------------------------------------------------------------------------------


async def test_one_owner_fetches_the_token_for_all(side: Side) -> None:
    """However many send at a time, in however many adapters that share a cache."""
    side.platform.add_follower(mara()).grant((100, 60.0), side.platform.now())
    other = side.another()
    assert isinstance(other, TokenHolder)
    other.tokens = side.adapter.tokens
    await asyncio.gather(*(adapter.send(reply()) for adapter in (side.adapter, other) * 10))
    assert (side.platform.token_calls, len(side.platform.sends)) == (1, 20)


async def test_the_token_is_renewed_before_it_ends(side: Side) -> None:
    side.platform.add_follower(mara()).grant((100, 9e4), side.platform.now())
    for ahead, calls in ((0, 1), (6890, 1), (6901, 2), (6901, 2)):
        side.platform.clock_ahead_s = ahead
        await side.adapter.send(reply())
        assert side.platform.token_calls == calls


async def test_a_token_that_others_replaced_is_fetched_once_more(side: Side) -> None:
    side.platform.add_follower(mara()).grant((100, 60.0), side.platform.now())
    await side.adapter.send(reply())
    side.platform.new_token()
    await asyncio.gather(*(side.adapter.send(reply()) for _ in range(10)))
    assert (side.platform.token_calls, len(side.platform.sends)) == (2, 11)


async def test_a_token_refused_again_stops_the_account(side: Side) -> None:
    side.platform.add_follower(mara()).grant((100, 60.0), side.platform.now())
    side.platform.behaviour.refuse_tokens = True
    with pytest.raises(SendError) as caught:
        await side.adapter.send(reply())
    assert (caught.value.code, caught.value.error_class, caught.value.pause) == ("40001", "auth", "account")
    assert side.platform.calls == 1  # the platform gave the same token again: no need to ask twice
    assert side.platform.token_calls == 2


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "another app": ({"app_id": "wx-another"}, "40013"),
    "another secret": ({"app_secret": (Secret("another-secret"),)}, "40125"),
}


@pytest.mark.parametrize(("changes", "code"), WRONG.values(), ids=WRONG)
async def test_wrong_credentials_are_named_as_such(side: Side, changes: dict[str, Any], code: str) -> None:
    side.adapter = side.another(**changes)
    for call in (side.adapter.send(reply()), side.adapter.probe()):
        with pytest.raises(SendError) as caught:
            await call
        assert (caught.value.code, caught.value.error_class, caught.value.pause) == (code, "auth", "account")
    assert side.platform.calls == 0


async def test_the_probe_sees_an_address_that_is_not_allowed(side: Side) -> None:
    assert isinstance(side.adapter, Probe)
    await side.adapter.probe()
    side.platform.behaviour.address_allowed = False
    with pytest.raises(SendError, match="40164") as caught:
        await side.adapter.probe()
    assert caught.value.request_id == "6500-sandbox"


async def test_no_token_no_message(side: Side) -> None:
    """Whatever becomes of the call for a token: no message left."""

    side.adapter = side.another(api_base=f"{side.platform.url}/nowhere")
    side.adapter.tokens = InProcessTokens()
    with pytest.raises(SendError) as caught:
        await side.adapter.send(reply())
    assert (caught.value.certain, side.platform.calls) == (True, 0)


# --- faults -----------------------------------------------------------------------------------------------------------

FAULTS: dict[Fault, tuple[str, bool, int]] = {  # fault -> (class, certain, messages the platform took)
    "timeout": ("unknown", False, 0), "timeout_after_accept": ("unknown", False, 1), "reset": ("unknown", False, 0),
    "reset_after_accept": ("unknown", False, 1), "500": ("unknown", False, 0),
    "500_after_accept": ("unknown", False, 1),
    "garbage": ("unknown", False, 1), "half": ("unknown", False, 1), "429": ("throttle", True, 0),
}  # fmt: skip


@pytest.mark.parametrize(("fault", "outcome"), FAULTS.items(), ids=FAULTS)
async def test_faults(side: Side, fault: Fault, outcome: tuple[str, bool, int]) -> None:
    side.platform.add_follower(mara()).grant((100, 60.0), side.platform.now())
    side.platform.fail_next(fault)
    with pytest.raises(SendError) as caught:
        await side.adapter.send(reply())
    assert (caught.value.error_class, caught.value.certain, len(side.platform.sends)) == outcome
    assert side.platform.calls == 1


async def test_the_quota_of_the_day_waits_for_midnight_in_china(side: Side) -> None:
    side.platform.add_follower(mara()).grant((100, 60.0), side.platform.now())
    side.platform.behaviour.quota_of_the_day_used = True
    at = datetime(2026, 11, 22, 15, 0, tzinfo=UTC)  # 23:00 in China
    side.adapter._api._clock = at.timestamp
    with pytest.raises(Throttled) as caught:
        await side.adapter.send(reply())
    assert (caught.value.code, caught.value.retry_after_s, caught.value.pause) == ("45009", 3600.0, "endpoint")


async def test_limits_are_enforced(side: Side) -> None:
    customer = side.platform.add_follower(mara())
    customer.grant((100, 60.0), side.platform.now())
    await side.adapter.send(reply("好" * 682))
    assert await refused(side, reply("好" * 683)) == ("45002", "permanent")


async def test_the_body_is_raw_utf8(side: Side) -> None:
    side.platform.add_follower(mara()).grant((100, 60.0), side.platform.now())
    seen: list[bytes] = []
    request = side.http.request

    async def listening(method: str, url: str, **values: Any) -> Any:
        seen.append(values.get("json") or b"")
        return await request(method, url, **values)

    side.http.request = listening  # type: ignore[method-assign]
    await side.adapter.send(reply())
    assert "明天到。".encode() in seen[-1]


# --- what else can be said --------------------------------------------------------------------------------------------


async def test_menus_articles_and_links(side: Side) -> None:
    side.platform.add_follower(mara()).grant((100, 60.0), side.platform.now())
    await side.adapter.send(reply(content=Interactive(values={"buttons": [{"id": "1", "title": "Yes"}]})))
    await side.adapter.send(reply("", content=Link("https://a.example", "A")))
    await side.adapter.send(reply(content=Interactive(values={"url": "https://a.example"})))
    assert [accepted.payload["msgtype"] for accepted in side.platform.sends] == ["msgmenu", "news", "text"]


async def test_an_agent_speaks_and_one_nobody_knows_is_left_out(side: Side) -> None:
    side.platform.add_follower(mara()).grant((100, 60.0), side.platform.now())
    side.platform.behaviour.agents = frozenset({"anna@gh_sandbox"})
    for name, note in (("anna@gh_sandbox", ""), ("ben@gh_sandbox", "61452")):
        side.adapter = side.another(kf_account=name)
        assert (await side.adapter.send(reply())).note == note
    assert [accepted.payload.get("customservice") for accepted in side.platform.sends] == [
        {"kf_account": "anna@gh_sandbox"}, None,
    ]  # fmt: skip


# --- files ------------------------------------------------------------------------------------------------------------


def picture(path: Path, content: bytes = PNG, **values: Any) -> OutboundFile:
    path.write_bytes(content)
    base: dict[str, Any] = {"kind": "image", "media_type": "image/png", "filename": "Grüße.png", "size": len(content)}
    return OutboundFile(**base | {"open_path": str(path)} | values)


async def test_a_file_is_uploaded_and_sent(side: Side, tmp_path: Path) -> None:
    side.platform.add_follower(mara()).grant((100, 60.0), side.platform.now())
    await side.adapter.send(reply("", file=picture(tmp_path / "a", b"x" * 3_000_000)))
    (accepted,) = side.platform.sends
    stored = side.platform.world.files[accepted.payload["image"]["media_id"]]
    assert (len(stored.content), stored.media_type, stored.type) == (3_000_000, "image/png", "image")


async def test_a_file_at_an_address_is_fetched_first(side: Side) -> None:
    side.platform.add_follower(mara()).grant((100, 60.0), side.platform.now())
    await side.adapter.probe()
    token = await side.adapter.tokens.load(f"wechat:{side.platform.url}:{side.platform.app_id}")
    assert token is not None
    there = f"{side.platform.url}/cgi-bin/media/get?access_token={token.value.reveal()}&media_id="
    film = OutboundFile(
        kind="video", media_type="video/mp4", filename="a.mp4", size=4,
        url=there + side.platform.add_file(b"film", "video/mp4"),
        preview_url=there + side.platform.add_file(b"jpg", "image/jpeg"),
    )  # fmt: skip
    bare = msgspec.structs.replace(film, preview_url=there.replace("http://", "ftp://"))
    await side.adapter.send(reply("", file=film))
    await side.adapter.send(reply("", file=bare))
    first, second = (accepted.payload["video"] for accepted in side.platform.sends)
    assert [side.platform.world.files[first[key]].content for key in ("media_id", "thumb_media_id")] == [
        b"film",
        b"jpg",
    ]
    assert (second.keys(), second["title"]) == ({"media_id", "title"}, "a.mp4")


async def test_a_file_that_is_gone_sends_nothing(side: Side, tmp_path: Path) -> None:
    side.platform.add_follower(mara()).grant((100, 60.0), side.platform.now())
    gone = picture(tmp_path / "a")
    (tmp_path / "a").unlink()
    assert await refused(side, reply("", file=gone)) == ("file-gone", "permanent")
    assert await refused(side, reply("", file=msgspec.structs.replace(gone, open_path=""))) == ("file", "permanent")
    private = msgspec.structs.replace(gone, open_path="", url="https://127.0.0.1/x")
    assert await refused(side, reply("", file=private)) == ("file-gone", "permanent")
    assert await refused(side, reply("", file=picture(tmp_path / "a", b""))) == ("40006", "permanent")
    assert side.platform.sends == []


async def test_an_upload_that_vanished_is_made_again(side: Side, tmp_path: Path) -> None:
    side.platform.add_follower(mara()).grant((100, 60.0), side.platform.now())
    add, lost = side.platform.add_file, list[Any]()

    def losing(content: bytes, media_type: str, type: str = "image") -> str:
        media_id = add(content, media_type, type)
        if not lost:
            lost.append(side.platform.world.files.pop(media_id))
        return media_id

    side.platform.add_file = losing  # type: ignore[method-assign]
    await side.adapter.send(reply("", file=picture(tmp_path / "a")))
    assert (len(lost), len(side.platform.sends), side.platform.calls) == (1, 1, 2)


async def test_files_of_customers_are_fetched_while_they_last(side: Side) -> None:
    assert isinstance(side.adapter, MediaFetcher)
    await side.platform.customer_sends_file(mara(), PNG, "image/png")
    await side.platform.customer_sends_file(mara(), b"#!AMR" + b"{" * 100_000, "audio/amr", kind="voice", Format="amr")
    image, voice = (message.attachments[0] for message in side.of(InboundMessage))
    assert await collected(side, image) == PNG
    side.platform.new_token()  # another system took ours away
    assert await collected(side, voice) == b"#!AMR" + b"{" * 100_000
    side.platform.clock_ahead_s = 3 * 24 * 3600
    with pytest.raises(MediaError, match="40007") as caught:
        await collected(side, image)
    assert not caught.value.retryable
    by_address = msgspec.structs.replace(image, url=f"{side.platform.url}/cgi-bin/media/get")
    assert json.loads(await collected(side, by_address))["errcode"] == 41001  # the picture's own address


async def test_films_may_lie_elsewhere(side: Side) -> None:
    await side.platform.customer_sends_file(mara(), b"film", "video/mp4", kind="video", ThumbMediaId="t")
    film = side.of(InboundMessage)[0].attachments[0]
    side.platform.behaviour.videos_elsewhere = "http://127.0.0.1:1/film"
    with pytest.raises(MediaError, match="blocked"):  # judged like any address
        await collected(side, film)
    side.platform.behaviour.videos_elsewhere = ""
    assert await collected(side, film) == b"film"


def test_the_platforms_own_hosts_are_asked_with_https() -> None:
    assert https("http://mmbiz.qpic.cn/a?b=c") == "https://mmbiz.qpic.cn/a?b=c"
    for as_it_is in ("https://mmbiz.qpic.cn/a", "http://127.0.0.1:1/qpic.cn/", "http://evil-qpic.cn/", "", "http"):
        assert https(as_it_is) == as_it_is


UNFETCHABLE = {
    "neither id nor address": (Attachment(kind="image"), "no id", False),
    "a file that begins like an answer": (Attachment(kind="image", ref="odd"), "no file", True),
    "no token": (Attachment(kind="image", ref="m"), "no access token: 40164", True),
}


@pytest.mark.parametrize(("name", "case"), UNFETCHABLE.items(), ids=UNFETCHABLE)
async def test_unfetchable(side: Side, name: str, case: tuple[Attachment, str, bool]) -> None:
    attachment, words, retryable = case
    odd = side.platform.add_file(OTHER, "image/png")
    side.platform.world.files["odd"] = side.platform.world.files[odd]
    side.platform.behaviour.address_allowed = name != "no token"
    with pytest.raises(MediaError, match=words) as caught:
        await collected(side, attachment)
    assert caught.value.retryable is retryable


# --- people -----------------------------------------------------------------------------------------------------------


async def test_profiles_have_no_names(side: Side) -> None:
    assert isinstance(side.adapter, Profiles)
    side.platform.add_follower(mara())
    union = Address("wechat", "unionid", "union-1", "platform")
    assert await side.adapter.profile(MARA) == Person(
        (MARA, union),
        profile={
            "subscribe": "1", "subscribe_time": "1750000000", "subscribe_scene": "ADD_SCENE_QR_CODE",
            "qr_scene_str": "shop7", "tagid_list": "2",
        },
        language="zh-CN",
    )  # fmt: skip
    side.platform.add_follower(Follower(MARA.value, follows=False))
    assert await side.adapter.profile(MARA) == Person((MARA,), profile={"subscribe": "0"}, unreachable=True)
    assert await side.adapter.profile(union) is None
    with pytest.raises(SendError, match="40003"):
        await side.adapter.profile(Address("wechat", "openid", "oNobody"))
