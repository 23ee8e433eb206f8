"""The simulated Page, held against the documentation, and our adapter held against the Page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest
from aiohttp import web

from adapters import (
    Ambiguous,
    Callback,
    HandshakeRefused,
    Http,
    MediaError,
    SendError,
    Throttled,
    VerificationError,
)
from adapters._contract_bench import RECEIVED_AT
from adapters._http import new_session
from adapters._media import MediaClient
from adapters.facebook import FacebookAdapter, Settings
from adapters.sandbox._base import Fault
from adapters.sandbox.facebook import Customer, FacebookPage
from config.secret import Secret
from normalizers.model import (
    Account,
    Address,
    Attachment,
    Context,
    DeliveryUpdate,
    Echo,
    Engagement,
    Event,
    InboundMessage,
    Interactive,
    MessageDeleted,
    MessageEdited,
    OutboundFile,
    OutboundMessage,
    Person,
    Received,
    Sticker,
    Template,
    Thread,
)
from tests.support.patience import patience_s

E = TypeVar("E")
TOKEN, APP_SECRET, VERIFY = "sandbox-token", "sandbox-app-secret", "verify-me"
DAY = 24 * 3600


@dataclass
class Side:
    """Our side: a webhook that verifies, answers and normalises at once."""

    platform: FacebookPage
    adapter: FacebookAdapter
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
        self.adapter = FacebookAdapter(self.adapter.account, replace(self.settings, **settings), self.http)


@pytest.fixture
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    async with FacebookPage(app_secret=APP_SECRET) as platform, new_session() as session:
        settings = Settings(
            platform.page_id, (Secret(TOKEN),), (Secret(APP_SECRET),), (Secret(VERIFY),), api_base=platform.api_base
        )
        media = MediaClient()
        http = Http(session, [platform.url], media, timeout_s=patience_s(request))
        side = Side(platform, FacebookAdapter(Account("fb", "facebook"), settings, http), settings, http)
        app = web.Application()
        app.add_routes([web.route("*", "/webhooks/fb", side.webhook)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        platform.webhook_url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/fb"
        yield side
        await platform.stop()
        await media.aclose()
        await runner.cleanup()


def jo() -> Customer:
    return Customer("9988776655", commenter="4455667788")


def psid(customer: Customer) -> Address:
    return Address("messenger", "psid", customer.id)


def reply(customer: Customer, text: str = "Tomorrow.", **fields: Any) -> OutboundMessage:
    values: dict[str, Any] = {"id": "outbox-1", "key": "k", "account": "fb", "channel": "messenger"}
    return OutboundMessage(**values | {"to": (psid(customer),), "text": text} | fields)


def under(ref: str, post: str, text: str = "Yes, we do.", **fields: Any) -> OutboundMessage:
    """An answer below a comment or post."""
    values: dict[str, Any] = {"id": "outbox-1", "key": "k", "account": "fb", "channel": "facebook", "to": ()}
    thread, context = Thread(kind="public", key=post, parent=ref), Context(reply_to=ref)
    return OutboundMessage(
        **values | {"text": text, "thread": thread, "context": context, "visibility": "public"} | fields
    )


async def refused(side: Side, message: OutboundMessage) -> tuple[str, str]:
    with pytest.raises(SendError) as caught:
        await side.adapter.send(message)
    return caught.value.code, caught.value.error_class


async def content_of(side: Side, attachment: Attachment) -> bytes:
    return b"".join([chunk async for chunk in side.adapter.fetch(attachment, b"")])


# --- what comes in ----------------------------------------------------------------------------------------------------


async def test_the_handshake_passes_with_our_token_only(side: Side) -> None:
    assert await side.platform.handshake(VERIFY) == (200, "1158201444")
    assert (await side.platform.handshake("wrong"))[0] == 403


async def test_webhooks_are_signed_over_escaped_ascii(side: Side) -> None:
    mid = await side.platform.customer_writes(jo(), "Grüße 🙂 /")
    ((webhook, status),) = side.platform.posted
    assert status == 200
    assert webhook.body.isascii()
    assert rb"\/" in webhook.body
    (message,) = side.of(InboundMessage)
    assert (message.id, message.text, message.sender.addresses) == (mid, "Grüße 🙂 /", (psid(jo()),))
    side.platform.app_secret = "another"
    await side.platform.customer_writes(jo())
    assert [status for _, status in side.platform.posted] == [200, 401]


async def test_what_people_do_in_public_becomes_events(side: Side) -> None:
    post = side.platform.page_post()
    ref = await side.platform.customer_comments(jo(), "Austria?", post)
    below = await side.platform.customer_comments(jo(), "And Malta?", post, ref)
    await side.platform.comment_changes(ref, "edited", "Austria!")
    await side.platform.comment_changes(below, "hide")
    await side.platform.comment_changes(ref, "remove")
    visit = await side.platform.customer_posts(jo(), "Broken shoes")
    found = [(message.id, message.thread.key, message.thread.parent) for message in side.of(InboundMessage)]
    assert found == [(ref, post, ""), (below, post, ref), (visit, visit, "")]
    assert [(edit.target, edit.text) for edit in side.of(MessageEdited)] == [(ref, "Austria!")]
    assert [deleted.target for deleted in side.of(MessageDeleted)] == [ref]
    assert [(event.kind, event.values) for event in side.of(Engagement)] == [("hidden", {"message": below})]
    assert {message.sender.addresses[0] for message in side.of(InboundMessage)} == {
        Address("facebook", "commenter", "4455667788")
    }


async def test_staff_in_the_inbox_is_an_echo(side: Side) -> None:
    mid = await side.platform.staff_writes(jo(), "Hello")
    (echo,) = side.of(Echo)
    assert (echo.id, echo.text, echo.app, echo.ours) == (mid, "Hello", "Page inbox", "")
    assert side.of(DeliveryUpdate) == []


# --- Messenger --------------------------------------------------------------------------------------------------------


async def test_a_reply_arrives_comes_back_and_is_reported(side: Side) -> None:
    customer = jo()
    customer.reads = True
    await side.platform.customer_writes(customer)
    sent = await side.adapter.send(reply(customer))
    await side.platform.settled()
    (accepted,) = side.platform.sends_of("outbox-1")
    assert (accepted.external_id, sent.addresses) == (sent.external_id, (psid(customer),))
    assert accepted.payload["messaging_type"] == "RESPONSE"
    assert [(echo.id, echo.ours) for echo in side.of(Echo)] == [(sent.external_id, "outbox-1")]
    updates = [(update.status, update.target, update.ours) for update in side.of(DeliveryUpdate)]
    assert updates[:2] == [("sent", sent.external_id, "outbox-1"), ("delivered", sent.external_id, "")]
    assert [update.status for update in side.of(DeliveryUpdate) if update.watermark] == ["delivered", "read"]


async def test_windows(side: Side) -> None:
    customer = side.platform.add_customer(jo())
    closed = ("10/2018278", "window-closed")
    assert await refused(side, reply(customer)) == closed
    await side.platform.customer_does(customer, reaction={"mid": "m_0", "action": "react", "reaction": "like"})
    await side.adapter.send(reply(customer))
    side.platform.clock_ahead_s = DAY + 1
    assert await refused(side, reply(customer)) == closed
    assert await refused(side, reply(customer, tag="HUMAN_AGENT")) == ("tag", "permanent")
    side.switch(human_agent=True)
    assert await refused(side, reply(customer, tag="HUMAN_AGENT")) == ("10", "auth")
    side.platform.behaviour.human_agent = True
    await side.adapter.send(reply(customer, tag="HUMAN_AGENT"))
    side.platform.clock_ahead_s = 7 * DAY + 1
    assert await refused(side, reply(customer, tag="HUMAN_AGENT")) == closed
    side.platform.behaviour.templates.add(("ready", "de"))
    await side.adapter.send(reply(customer, "", template=Template("ready", "de", ("12",))))
    assert await refused(side, reply(customer, "", template=Template("other", "de"))) == ("100", "permanent")


async def test_who_cannot_be_reached(side: Side) -> None:
    assert await refused(side, reply(jo())) == ("100/2018001", "bad-recipient")
    customer = side.platform.add_customer(jo())
    customer.blocked = True
    assert await refused(side, reply(customer)) == ("551", "bad-recipient")


async def test_limits_and_credentials_are_enforced(side: Side) -> None:
    customer = jo()
    await side.platform.customer_writes(customer)
    await side.adapter.send(reply(customer, "x" * 1999))
    assert await refused(side, reply(customer, "x" * 2000)) == ("100", "permanent")
    side.platform.behaviour.restricted = True
    with pytest.raises(Throttled) as caught:
        await side.adapter.send(reply(customer))
    assert (caught.value.code, caught.value.pause, caught.value.retry_after_s) == ("10/1893063", "endpoint", 1800.0)
    side.platform.access_token = "another"
    assert await refused(side, reply(customer)) == ("190", "auth")
    with pytest.raises(SendError):
        await side.adapter.probe()


async def test_an_app_that_demands_the_proof_gets_it(side: Side) -> None:
    customer = jo()
    await side.platform.customer_writes(customer)
    side.platform.behaviour.demand_proof = True
    assert await refused(side, reply(customer)) == ("100", "permanent")
    side.switch(appsecret_proof=True)
    await side.adapter.send(reply(customer))
    await side.adapter.probe()


async def test_choices_and_reactions(side: Side) -> None:
    customer = jo()
    mid = await side.platform.customer_writes(customer)
    await side.adapter.send(reply(customer, content=Interactive(values={"buttons": ["Yes", "No"]})))
    assert [row["title"] for row in side.platform.sends[0].payload["message"]["quick_replies"]] == ["Yes", "No"]
    sent = await side.adapter.send(reply(customer, "", reaction="👍", context=Context(reply_to=mid)))
    assert sent.external_id == ""


# --- public -----------------------------------------------------------------------------------------------------------


async def test_a_comment_is_answered_in_public(side: Side) -> None:
    post = side.platform.page_post()
    ref = await side.platform.customer_comments(jo(), "Austria?", post)
    sent = await side.adapter.send(under(ref, post))
    await side.platform.settled()
    made = side.platform.comments[sent.external_id]
    assert (made.text, made.parent, made.author) == ("Yes, we do.", ref, side.platform.page_id)
    (echo,) = side.of(Echo)
    assert (echo.id, echo.recipient, echo.thread) == (
        sent.external_id, None, Thread(kind="public", key=post, parent=ref),
    )  # fmt: skip
    assert len(side.of(InboundMessage)) == 1
    assert await refused(side, under(ref, post)) == ("506", "permanent")
    await side.platform.comment_changes(ref, "hide")
    assert await refused(side, under(ref, post, "Still?")) == ("100/33", "permanent")
    assert await refused(side, under("", "")) == ("no-comment", "permanent")
    assert await refused(side, under(ref, post, "")) == ("empty", "permanent")


async def test_a_comment_with_a_picture(side: Side, tmp_path: Path) -> None:
    post = side.platform.page_post()
    ref = await side.platform.customer_comments(jo(), "How?", post)
    path = tmp_path / "map.png"
    await asyncio.to_thread(path.write_bytes, b"picture")
    map_ = OutboundFile(kind="image", media_type="image/png", filename="map.png", size=7, open_path=str(path))
    await side.adapter.send(under(ref, post, file=map_))
    linked = OutboundFile(kind="image", media_type="image/png", filename="m", size=7, url="https://x.example/m")
    await side.adapter.send(under(ref, post, "Here", files=(linked,)))
    first, second = (accepted.payload for accepted in side.platform.sends)
    assert first.keys() == {"message", "attachment_id"}
    assert second == {"message": "Here", "attachment_url": "https://x.example/m"}
    film = OutboundFile(kind="video", media_type="video/mp4", filename="f", size=7, url="https://x.example/f")
    assert await refused(side, under(ref, post, file=film)) == ("file", "permanent")


async def test_a_private_reply_is_one_and_tells_who_it_went_to(side: Side) -> None:
    post = side.platform.page_post()
    ref = await side.platform.customer_comments(jo(), "Where is my order?", post)
    sent = await side.adapter.send(under(ref, post, "Your number, please?", visibility="private"))
    await side.platform.settled()
    assert sent.addresses == (psid(jo()),)
    assert side.platform.sends[0].payload["recipient"] == {"comment_id": ref}
    assert [(echo.channel, echo.ours) for echo in side.of(Echo)] == [("messenger", "outbox-1")]
    assert await refused(side, under(ref, post, visibility="private")) == ("10900", "permanent")
    visit = await side.platform.customer_posts(jo(), "Broken shoes")
    await side.adapter.send(under(visit, visit, visibility="private"))
    assert side.platform.sends[1].payload["recipient"] == {"post_id": visit}


async def test_comments_are_hidden_and_deleted(side: Side) -> None:
    post = side.platform.page_post()
    ref = await side.platform.customer_comments(jo(), "Rubbish!", post)
    await side.adapter.hide(ref, hidden=True)
    assert side.platform.comments[ref].hidden
    await side.adapter.hide(ref, hidden=False)
    assert [(event.kind, event.values) for event in side.of(Engagement)] == [
        ("hidden", {"message": ref}), ("unhidden", {"message": ref}),
    ]  # fmt: skip
    await side.adapter.delete(ref)
    assert ref not in side.platform.comments
    assert await refused(side, under(ref, post)) == ("100/33", "permanent")


async def test_a_private_reply_after_seven_days_is_too_late(side: Side) -> None:
    post = side.platform.page_post()
    ref = await side.platform.customer_comments(jo(), "Where?", post)
    side.platform.clock_ahead_s = 7 * DAY + 1
    assert await refused(side, under(ref, post, visibility="private")) == ("10/2018278", "window-closed")


# --- files, people, look-ups ------------------------------------------------------------------------------------------


async def test_a_file_on_our_disk_is_uploaded_first(side: Side, tmp_path: Path) -> None:
    customer = jo()
    await side.platform.customer_writes(customer)
    path = tmp_path / "bill.pdf"
    await asyncio.to_thread(path.write_bytes, b"%PDF-1.7")
    bill = OutboundFile(kind="file", media_type="application/pdf", filename="Rechnung ü.pdf", size=8,
                        open_path=str(path))  # fmt: skip
    await side.adapter.send(reply(customer, "", file=bill))
    attachment = side.platform.sends[0].payload["message"]["attachment"]
    assert attachment["type"] == "file"
    assert attachment["payload"].keys() == {"attachment_id"}
    await asyncio.to_thread(path.unlink)
    assert await refused(side, reply(customer, "", file=bill)) == ("file-gone", "permanent")
    assert side.platform.calls == 1


async def test_a_file_whose_address_expired_is_asked_for_afresh(side: Side) -> None:
    await side.platform.customer_sends_file(jo(), b"picture", "image/jpeg")
    ((picture,),) = (message.attachments for message in side.of(InboundMessage))
    assert await content_of(side, picture) == b"picture"
    side.platform.expire(picture.url)
    assert await content_of(side, picture) == b"picture"
    gone = Attachment(kind="image", url=picture.url, ref="0:m_gone")
    with pytest.raises(MediaError):
        await content_of(side, gone)
    with pytest.raises(MediaError, match="no address"):
        await content_of(side, Attachment(kind="image"))


async def test_a_sticker_below_a_post_is_looked_up(side: Side) -> None:
    post = side.platform.page_post()
    ref = await side.platform.customer_comments(jo(), "", post)
    url = f"{side.platform.url}/files/{side.platform.add_file(b'sticker', 'image/png')}-1"
    side.platform.comments[ref].attachment = {"type": "sticker", "media": {"image": {"src": url}}}
    (pointer,) = side.of(InboundMessage)
    assert pointer.lookup == ref
    message = await side.adapter.look_up(pointer)
    assert (message.kind, message.content, message.lookup) == ("sticker", Sticker(), "")
    assert await side.adapter.look_up(message) is message
    (sticker,) = message.attachments
    side.platform.expire(url)
    side.platform.comments[ref].attachment = {"media": {"image": {"src": url.replace("-1", "-2")}}}
    assert await content_of(side, sticker) == b"sticker"


async def test_profiles_are_told_where_they_may_be(side: Side) -> None:
    customer = side.platform.add_customer(jo())
    told = {"first_name": "Jo", "last_name": "Example"}
    assert await side.adapter.profile(psid(customer)) == Person((psid(customer),), "Jo Example", profile=told)
    customer.hidden = True
    assert await side.adapter.profile(psid(customer)) == Person((psid(customer),), "Jo Example")
    assert await side.adapter.profile(Address("messenger", "psid", "1")) is None
    assert await side.adapter.profile(Address("facebook", "commenter", customer.id)) is None
    side.platform.access_token = "another"
    with pytest.raises(SendError):
        await side.adapter.profile(psid(customer))


async def test_a_page_that_stopped_posting_is_told_again(side: Side) -> None:
    assert await side.adapter.subscribe()
    assert {"feed", "messages", "message_echoes"} <= set(side.platform.subscribed)
    assert not await side.adapter.subscribe()
    side.switch(app_id="1")
    assert await side.adapter.subscribe()


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
async def test_a_lost_answer_is_settled_by_the_echo(
    side: Side, fault: Fault, wanted: tuple[type[SendError], int]
) -> None:
    customer = jo()
    await side.platform.customer_writes(customer)
    side.platform.fail_next(fault)
    with pytest.raises(wanted[0]) as caught:
        await side.adapter.send(reply(customer))
    if fault == "429":
        assert caught.value.retry_after_s == 180.0
    await side.platform.settled()
    assert len(side.platform.sends_of("outbox-1")) == wanted[1]
    proofs = [update.ours for update in side.of(DeliveryUpdate) if update.status == "sent"]
    assert proofs == ["outbox-1"] * wanted[1]
    with pytest.raises(SendError):
        await side.adapter.find(reply(customer))


def key_at(seconds: float) -> str:
    """A UUID of version 7 made at this moment."""
    return str(UUID(int=int(seconds * 1000) << 80 | 7 << 76 | 2 << 62))


@pytest.mark.parametrize("fault", ["timeout", "reset_after_accept"])
async def test_a_lost_answer_to_a_comment_is_found(side: Side, fault: Fault) -> None:
    post = side.platform.page_post()
    ref = await side.platform.customer_comments(jo(), "Austria?", post)
    side.platform.clock_ahead_s = -60
    await side.adapter.send(under(ref, post))  # the same words, long ago
    side.platform.clock_ahead_s = 0
    await side.adapter.send(under(ref, post, "Else?"))
    message = under(ref, post, key=key_at(side.platform.now()))
    side.platform.fail_next(fault)
    with pytest.raises(Ambiguous):
        await side.adapter.send(message)
    found = await side.adapter.find(message)
    if fault == "timeout":
        assert found is None
    else:
        assert found is not None
        assert found.external_id == side.platform.sends[-1].external_id
    for unknowable in (under(ref, post, key="k"), under(ref, post, key=message.key, visibility="private")):
        with pytest.raises(SendError) as caught:
            await side.adapter.find(unknowable)
        assert caught.value.code == "cannot-say"
