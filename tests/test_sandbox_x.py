"""The simulated X against its documentation, and our adapter against the simulator."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from adapters import Ambiguous, Callback, Http, MediaError, SendError, Throttled, VerificationError
from adapters._contract_bench import RECEIVED_AT
from adapters._http import new_session
from adapters._media import MediaClient
from adapters._x_oauth2 import OAuth2
from adapters.sandbox._base import Fault
from adapters.sandbox.x import User, XSimulator
from adapters.x import Settings, XAdapter
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
    OutboundFile,
    OutboundMessage,
    Person,
    Received,
    Thread,
)
from tests.support.patience import patience_s

E = TypeVar("E")
ANA = "800000000000000002"


@dataclass
class Side:
    """Our side: a webhook that verifies, answers and normalises at once."""

    platform: XSimulator
    adapter: XAdapter
    events: list[Event] = field(default_factory=list)
    refuse_next: int = 0

    async def webhook(self, request: web.Request) -> web.Response:
        headers = {name.lower(): (value,) for name, value in request.headers.items()}
        body = await request.read()
        callback = Callback(request.method, str(request.url), request.path_qs, dict(request.query), headers, body)
        if request.method == "GET":
            answer = self.adapter.handshake(callback)
            return web.Response(status=answer.status, body=answer.body, content_type=answer.content_type)
        try:
            self.adapter.verify(callback)
        except VerificationError:
            return web.Response(status=401)
        if self.refuse_next:
            self.refuse_next -= 1
            return web.Response(status=503)
        self.events += self.adapter.normalize(Received(body, {}, {}, RECEIVED_AT, self.adapter.account))
        return web.Response()

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


def settings(platform: XSimulator, **more: Any) -> Settings:
    given: dict[str, Any] = {
        "user_id": platform.world.own.id, "consumer_key": platform.consumer_key,
        "consumer_secret": (Secret(platform.consumer_secret),), "access_token": (Secret(platform.access_token),),
        "access_token_secret": (Secret(platform.access_token_secret),), "api_base": platform.url,
        "oauth2": OAuth2("sandbox-client", Secret("sandbox-client-secret"), Secret("sandbox-refresh")),
    }  # fmt: skip
    return Settings(**given | more)


@pytest.fixture
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    async with XSimulator() as platform, new_session() as session:
        media = MediaClient()
        http = Http(session, [platform.url], media, timeout_s=patience_s(request))
        side = Side(platform, XAdapter(Account("x-main", "x"), settings(platform), http))
        app = web.Application()
        app.add_routes([web.route("*", "/webhooks/x", side.webhook)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        platform.webhook_url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/x"
        yield side
        await platform.stop()
        await media.aclose()
        await runner.cleanup()


def ana(**more: Any) -> User:
    return User(ANA, "ana_ex", "Ana", **more)


def answer(message: InboundMessage, text: str = "Tomorrow.", **fields: Any) -> OutboundMessage:
    """As the core would draft it."""
    public = message.thread.kind == "public"
    metadata = message.context.metadata if message.context is not None else {}
    given: dict[str, Any] = {
        "id": "outbox-1", "key": "k", "account": "x-main", "channel": message.channel, "text": text,
        "to": message.sender.addresses, "visibility": "public" if public else "private",
        "thread": Thread(kind="public", key=message.thread.key, parent=message.id) if public else message.thread,
        "context": Context(reply_to=message.id if public else "", metadata=metadata),
    }  # fmt: skip
    return OutboundMessage(**given | fields)


def first_words(to: str, text: str = "Hello.") -> OutboundMessage:
    address = Address("x", "user_id", to, "platform")
    return OutboundMessage(id="outbox-9", key="k", account="x-main", channel="x_dm", to=(address,), text=text)


async def refused(side: Side, message: OutboundMessage) -> tuple[str, str]:
    with pytest.raises(SendError) as caught:
        await side.adapter.send(message)
    return caught.value.code, caught.value.error_class


def texts(side: Side) -> list[str]:
    return [str(send.payload.get("text", "")) for send in side.platform.sends]


# --- the platform itself ----------------------------------------------------------------------------------------------


def by_hand(method: str, url: str, platform: XSimulator, token_secret: str = "") -> str:
    """The header RFC 5849 asks for, made without the library that adapter and simulator share."""

    def escaped(words: str) -> str:
        return quote(words, safe="-._~")

    given = {
        "oauth_consumer_key": platform.consumer_key, "oauth_nonce": "n" * 32, "oauth_signature_method": "HMAC-SHA1",
        "oauth_timestamp": str(int(time.time())), "oauth_token": platform.access_token, "oauth_version": "1.0",
    }  # fmt: skip
    address, _, query = url.partition("?")
    pairs = sorted((escaped(name), escaped(value)) for name, value in [*parse_qsl(query), *given.items()])
    base = "&".join((method, escaped(address), escaped("&".join(f"{name}={value}" for name, value in pairs))))
    key = f"{escaped(platform.consumer_secret)}&{escaped(token_secret or platform.access_token_secret)}"
    mac = base64.b64encode(hmac.new(key.encode(), base.encode(), hashlib.sha1).digest()).decode()
    return "OAuth " + ", ".join(
        f'{name}="{escaped(value)}"' for name, value in [*given.items(), ("oauth_signature", mac)]
    )


async def test_a_signature_made_by_hand_passes_and_a_wrong_one_does_not() -> None:
    async with XSimulator() as platform, aiohttp.ClientSession() as session:
        url = f"{platform.url}/2/users/me?user.fields=name%2Cusername"
        for secret, status in (("", 200), ("wrong", 401)):
            headers = {"Authorization": by_hand("GET", url, platform, secret)}
            async with session.get(URL(url, encoded=True), headers=headers) as answer:
                assert answer.status == status


# --- webhooks ---------------------------------------------------------------------------------------------------------


async def test_the_check_passes_with_our_secret_only(side: Side) -> None:
    assert await side.platform.check_webhook()
    side.platform.consumer_secret = "another"
    assert not await side.platform.check_webhook()


async def test_a_webhook_switched_off_is_switched_on_again(side: Side) -> None:
    assert await side.adapter.subscribe() is False
    side.platform.webhook_valid = False
    assert await side.adapter.subscribe() is True
    assert side.platform.webhook_valid


async def test_a_delivery_signed_by_somebody_else_is_refused(side: Side) -> None:
    side.platform.consumer_secret = "another"
    assert await side.platform.post_body(b"{}") == 401


async def test_a_delivery_comes_again_until_it_is_taken(side: Side) -> None:
    side.platform.redelivery.tries, side.refuse_next = 3, 2
    await side.platform.customer_writes(ana(), "Hi")
    assert [message.text for message in side.of(InboundMessage)] == ["Hi"]


async def test_probe(side: Side) -> None:
    await side.adapter.probe()
    side.platform.access_token_secret = "revoked"
    with pytest.raises(SendError) as caught:
        await side.adapter.probe()
    assert (caught.value.error_class, caught.value.code, caught.value.pause) == ("auth", "32", "account")


# --- in public --------------------------------------------------------------------------------------------------------


async def test_a_mention_is_answered_once_and_comes_back(side: Side) -> None:
    name = await side.platform.customer_mentions(ana(), "@shop_help it is broken")
    (message,) = side.of(InboundMessage)
    assert (message.id, message.channel, message.flags) == (name, "x", ("summoned",))
    sent = await side.adapter.send(answer(message))
    await side.platform.settled()
    (echo,) = side.of(Echo)
    assert (echo.id, echo.thread.key, echo.text) == (sent.external_id, name, "Tomorrow.")
    assert side.platform.sends[0].payload == {"text": "Tomorrow.", "reply": {"in_reply_to_tweet_id": name}}


async def test_a_reply_to_our_reply_stays_in_the_thread(side: Side) -> None:
    name = await side.platform.customer_mentions(ana(), "@shop_help hi")
    sent = await side.adapter.send(answer(side.of(InboundMessage)[0]))
    await side.platform.customer_mentions(ana(), "thanks", reply_to=sent.external_id, mention=False)
    follow_up = side.of(InboundMessage)[1]
    assert (follow_up.thread, follow_up.flags) == (Thread(kind="public", key=name, parent=sent.external_id), ())
    assert await refused(side, answer(follow_up, "You are welcome.")) == ("not-summoned", "window-closed")


async def test_what_x_refuses_in_public(side: Side) -> None:
    await side.platform.customer_mentions(ana(), "hello", mention=False)
    lenient = settings(side.platform, require_summon=False)
    adapter = XAdapter(Account("x-main", "x"), lenient, side.adapter._http)
    message = side.of(InboundMessage)[0]
    with pytest.raises(SendError) as caught:
        await adapter.send(answer(message))
    assert (caught.value.code, caught.value.error_class) == ("433", "window-closed")
    side.platform.require_summon = False
    assert (await adapter.send(answer(message))).external_id
    side.platform.world.users[ANA].blocks_us = True
    with pytest.raises(SendError) as caught:
        await adapter.send(answer(message, "Again."))
    assert (caught.value.code, caught.value.error_class) == ("136", "bad-recipient")


async def test_a_post_whose_answer_was_lost_is_found(side: Side) -> None:
    await side.platform.customer_mentions(ana(), "@shop_help hi")
    reply = answer(side.of(InboundMessage)[0], "See https://shop.example/o/17 & wait")
    side.platform.fail_next("reset_after_accept")
    with pytest.raises(Ambiguous):
        await side.adapter.send(reply)
    found = await side.adapter.find(reply)
    assert found is not None
    assert found.external_id == side.platform.sends[0].external_id


async def test_a_post_sent_again_after_a_timeout_is_the_one_that_is_there(side: Side) -> None:
    await side.platform.customer_mentions(ana(), "@shop_help hi")
    reply = answer(side.of(InboundMessage)[0])
    side.platform.fail_next("timeout_after_accept")
    with pytest.raises(Ambiguous):
        await side.adapter.send(reply)
    again = await side.adapter.send(reply)
    assert (again.external_id, again.note) == (side.platform.sends[0].external_id, "found")
    assert len(side.platform.sends) == 1


# --- in private -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("envelope", ["activity", "account"])
async def test_a_direct_message_is_answered_and_read(side: Side, envelope: Any) -> None:
    side.platform.envelope = envelope
    await side.platform.customer_writes(ana(), "Where is order 17?")
    (message,) = side.of(InboundMessage)
    assert (message.text, message.sender.name, message.sender.handle) == ("Where is order 17?", "Ana", "ana_ex")
    sent = await side.adapter.send(answer(message))
    await side.platform.settled()
    await side.platform.customer_reads(ana())
    assert [echo.id for echo in side.of(Echo)] == [sent.external_id]
    (read,) = side.of(DeliveryUpdate)
    assert (read.status, read.target, read.up_to) == ("read", sent.external_id, True)


async def test_only_who_takes_them_gets_first_messages(side: Side) -> None:
    side.platform.add(User("5", "open", "Open", open=True))
    side.platform.add(User("6", "closed", "Closed"))
    assert (await side.adapter.send(first_words("5"))).external_id
    assert await refused(side, first_words("6")) == ("349", "bad-recipient")
    assert await refused(side, first_words("7")) == ("resource-not-found", "bad-recipient")
    assert side.platform.calls == 1


async def test_who_blocks_us_gets_nothing(side: Side) -> None:
    await side.platform.customer_writes(customer := ana())
    customer.blocks_us = True
    assert await refused(side, answer(side.of(InboundMessage)[0])) == ("349", "bad-recipient")


async def test_a_direct_message_whose_answer_was_lost_is_found_by_who_tried(side: Side) -> None:
    await side.platform.customer_writes(ana())
    message = side.of(InboundMessage)[0]
    before = await side.adapter.send(answer(message, id="outbox-0"))
    side.platform.fail_next("half")
    with pytest.raises(Ambiguous):
        await side.adapter.send(answer(message, "Or the day after."))
    found = await side.adapter.find(answer(message, "Or the day after."))
    assert found is not None
    assert found.external_id not in ("", before.external_id)
    other = XAdapter(Account("x-main", "x"), settings(side.platform), side.adapter._http)
    with pytest.raises(SendError, match="not-seen"):
        await other.find(answer(message, "Or the day after."))


async def test_what_was_not_sent_is_not_found(side: Side) -> None:
    await side.platform.customer_writes(ana())
    message = side.of(InboundMessage)[0]
    side.platform.fail_next("reset")
    with pytest.raises(Ambiguous):
        await side.adapter.send(answer(message))
    with pytest.raises(SendError, match="not-seen"):
        await side.adapter.find(answer(message))


async def test_an_encrypted_message_is_shown(side: Side) -> None:
    await side.platform.customer_chats(ana())
    (message,) = side.of(InboundMessage)
    assert (message.kind, message.channel, message.sender.name) == ("unsupported", "x_dm", "Ana")


FAULTS: dict[Fault, bool] = {"500": False, "500_after_accept": True, "garbage": True, "timeout": False}


@pytest.mark.parametrize(("fault", "taken"), FAULTS.items(), ids=FAULTS)
async def test_lost_answers_are_unknown(side: Side, fault: Fault, taken: bool) -> None:
    await side.platform.customer_writes(ana())
    side.platform.fail_next(fault)
    with pytest.raises(Ambiguous):
        await side.adapter.send(answer(side.of(InboundMessage)[0]))
    assert (texts(side), side.platform.calls) == (["Tomorrow."] if taken else [], 1)


async def test_too_many_requests_say_when(side: Side) -> None:
    await side.platform.customer_writes(ana())
    side.platform.fail_next("429")
    with pytest.raises(Throttled) as caught:
        await side.adapter.send(answer(side.of(InboundMessage)[0]))
    assert caught.value.retry_after_s is not None
    assert 890 < caught.value.retry_after_s <= 900
    assert (caught.value.pause, texts(side)) == ("endpoint", [])


# --- files ------------------------------------------------------------------------------------------------------------


def picture(tmp_path: Path, **more: Any) -> OutboundFile:
    place = tmp_path / "file"
    place.write_bytes(b"bytes" * 100)
    given: dict[str, Any] = {"kind": "image", "media_type": "image/png", "filename": "a.png", "size": 500}
    return OutboundFile(**given | {"open_path": str(place)} | more)


async def test_pictures_go_with_a_post(side: Side, tmp_path: Path) -> None:
    await side.platform.customer_mentions(ana(), "@shop_help hi")
    await side.adapter.send(answer(side.of(InboundMessage)[0], files=(picture(tmp_path),) * 2))
    ids = side.platform.sends[0].payload["media"]["media_ids"]
    uploaded = [(side.platform.world.files[one].category, side.platform.world.files[one].content) for one in ids]
    assert uploaded == [("tweet_image", b"bytes" * 100)] * 2


async def test_a_video_goes_in_pieces_and_is_waited_for(side: Side, tmp_path: Path) -> None:
    await side.platform.customer_writes(ana())
    clip = picture(tmp_path, kind="video", media_type="video/mp4")
    side.platform.processing_polls = 2
    await side.adapter.send(answer(side.of(InboundMessage)[0], "", file=clip))
    (attached,) = side.platform.sends[0].payload["attachments"]
    assert side.platform.world.files[attached["media_id"]].category == "dm_video"


async def test_a_file_is_uploaded_once_over_several_tries(side: Side, tmp_path: Path) -> None:
    await side.platform.customer_writes(ana())
    message = answer(side.of(InboundMessage)[0], file=picture(tmp_path))
    side.platform.fail_next("429")
    with pytest.raises(Throttled):
        await side.adapter.send(message)
    await side.adapter.send(message)
    assert len(side.platform.world.files) == 1


async def test_a_file_that_is_gone(side: Side, tmp_path: Path) -> None:
    await side.platform.customer_writes(ana())
    gone = picture(tmp_path, open_path=str(tmp_path / "nothing"))
    assert await refused(side, answer(side.of(InboundMessage)[0], file=gone)) == ("file-gone", "permanent")


async def content(adapter: XAdapter, attachment: Attachment) -> bytes:
    return b"".join([chunk async for chunk in adapter.fetch(attachment, b"")])


async def test_a_file_of_a_direct_message_takes_a_renewed_token(side: Side) -> None:
    await side.platform.customer_writes(ana(), "look", file=b"picture")
    (message,) = side.of(InboundMessage)
    assert (message.text, message.kind) == ("look", "image")
    (attachment,) = message.attachments
    both = await asyncio.gather(content(side.adapter, attachment), content(side.adapter, attachment))
    assert (tuple(both), side.platform.refreshes) == ((b"picture", b"picture"), 1)
    side.platform.revoke_access_token()
    assert (await content(side.adapter, attachment), side.platform.refreshes) == (b"picture", 2)


async def test_tokens_outlive_the_adapter_where_they_are_kept(side: Side) -> None:
    await side.platform.customer_writes(ana(), file=b"picture")
    (attachment,) = side.of(InboundMessage)[0].attachments
    await content(side.adapter, attachment)
    heir = XAdapter(Account("x-main", "x"), settings(side.platform), side.adapter._http)
    with pytest.raises(MediaError, match="oauth2-refresh"):  # the configured token was used up
        await content(heir, attachment)
    heir.tokens = side.adapter.tokens
    side.platform.revoke_access_token()
    assert await content(heir, attachment) == b"picture"


async def test_without_oauth2_a_file_of_a_direct_message_says_why(side: Side) -> None:
    bare = XAdapter(Account("x-main", "x"), settings(side.platform, oauth2=None), side.adapter._http)
    with pytest.raises(MediaError, match="setting oauth2") as caught:
        await content(bare, Attachment(kind="image", ref="dm:1/2/a.jpg"))
    assert not caught.value.retryable


async def test_without_oauth2_the_address_of_the_message_is_signed(side: Side) -> None:
    bare = XAdapter(Account("x-main", "x"), settings(side.platform, oauth2=None), side.adapter._http)
    await side.platform.customer_writes(ana(), file=b"picture")
    (attachment,) = side.of(InboundMessage)[0].attachments
    assert await content(bare, attachment) == b"picture"
    side.platform.access_token_secret = "another"
    with pytest.raises(MediaError, match="status 401"):
        await content(bare, attachment)
    with pytest.raises(MediaError, match="blocked"):  # and goes to no host of somebody's choice
        await content(bare, Attachment(kind="image", ref="dm:1/2/a", url="http://127.0.0.1:1/dm/1/2/a"))


async def test_subscriptions_that_are_missing_are_made(side: Side) -> None:
    wanted = ("dm.received", "post.mention.create")
    eager = XAdapter(Account("x-main", "x"), settings(side.platform, subscriptions=wanted), side.adapter._http)
    with pytest.raises(SendError, match="no-webhook"):
        side.platform.webhook_url, address = "https://elsewhere.example/webhooks/other", side.platform.webhook_url
        await eager.subscribe()
    side.platform.webhook_url = address.rpartition("/")[0] + "/x-main"
    assert await eager.subscribe() is True
    made = [(one["event_type"], one["filter"], one["tag"]) for one in side.platform.world.subscriptions]
    assert made == [(kind, {"user_id": side.platform.world.own.id}, "x-main") for kind in wanted]
    assert await eager.subscribe() is False
    del side.platform.world.subscriptions[0]["filter"]["user_id"]  # the list does not tell whose it is: no matter
    side.platform.revoke_access_token()
    assert await eager.subscribe() is True
    assert len(side.platform.world.subscriptions) == 2


async def test_a_file_of_a_post_is_looked_up(side: Side) -> None:
    await side.platform.customer_mentions(ana(), "@shop_help look", file=b"picture")
    (attachment,) = side.of(InboundMessage)[0].attachments
    assert await content(side.adapter, attachment) == b"picture"
    with pytest.raises(MediaError, match="no such file"):
        await content(side.adapter, Attachment(kind="image", ref=f"{attachment.ref}0"))


async def test_profile(side: Side) -> None:
    side.platform.add(ana())
    address = Address("x", "user_id", ANA, "platform")
    assert await side.adapter.profile(address) == Person((address,), "Ana", "ana_ex")
    assert await side.adapter.profile(Address("x", "user_id", "5", "platform")) is None


async def test_bodies_hold_nothing_x_does_not_know() -> None:
    async with XSimulator() as platform, new_session() as session:
        http = Http(session, [platform.url], MediaClient())
        api = XAdapter(Account("x-main", "x"), settings(platform), http)._api
        with pytest.raises(SendError, match="unknown properties"):
            await api.call("POST", "/2/tweets", json=json.loads('{"text": "Hi", "extra": 1}'))
