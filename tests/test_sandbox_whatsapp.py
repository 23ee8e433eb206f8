"""The simulated WhatsApp platform, held against the documentation, and our adapter held against the platform."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
from aiohttp import web

from adapters import Ambiguous, Callback, HandshakeRefused, Http, MediaError, SendError, Throttled, VerificationError
from adapters._contract_bench import RECEIVED_AT
from adapters._http import new_session
from adapters._media import MediaClient
from adapters.sandbox._base import Fault
from adapters.sandbox.meta_whatsapp import Approved, Customer, MetaWhatsApp
from adapters.whatsapp import Settings, WhatsAppAdapter
from config.secret import Secret
from normalizers.model import (
    Account,
    Address,
    Attachment,
    ConsentChange,
    ContactCard,
    ContactCards,
    Context,
    DeliveryUpdate,
    Echo,
    Event,
    IdentityChange,
    InboundMessage,
    Interactive,
    Location,
    OutboundFile,
    OutboundMessage,
    Received,
    Template,
)
from tests.support.patience import patience_s

E = TypeVar("E")
TOKEN, APP_SECRET, VERIFY = "sandbox-token", "sandbox-app-secret", "verify-me"


@dataclass
class Side:
    """Our side: a webhook that verifies, answers and normalises at once."""

    platform: MetaWhatsApp
    adapter: WhatsAppAdapter
    http: Http
    events: list[Event] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

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
        if self.statuses:
            return web.Response(status=self.statuses.pop(0))
        self.events += self.adapter.normalize(Received(body, {}, {}, RECEIVED_AT, self.adapter.account))
        return web.Response()

    def with_business(self) -> WhatsAppAdapter:
        """The adapter of an account that knows its business, and proves its secret with each call."""
        settings = replace(self.adapter._settings, waba_id=self.platform.waba_id, appsecret_proof=True)
        return WhatsAppAdapter(self.adapter.account, settings, self.http)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    async with MetaWhatsApp(app_secret=APP_SECRET) as platform, new_session() as session:
        settings = Settings(
            phone_number_id=platform.phone_number_id, access_token=(Secret(TOKEN),), app_secret=(Secret(APP_SECRET),),
            verify_token=(Secret(VERIFY),), api_base=platform.api_base,
        )  # fmt: skip
        media = MediaClient()
        http = Http(session, [platform.url], media, timeout_s=patience_s(request))
        side = Side(platform, WhatsAppAdapter(Account("wa", "whatsapp"), settings, http), http)
        app = web.Application()
        app.add_routes([web.route("*", "/webhooks/wa", side.webhook)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        platform.webhook_url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/wa"
        yield side
        await platform.stop()
        await media.aclose()
        await runner.cleanup()


def mara() -> Customer:
    return Customer("4915501234567", "DE.77000011112222")


def phone(customer: Customer) -> Address:
    return Address("whatsapp", "phone", f"+{customer.wa_id}", "everywhere")


def user(customer: Customer) -> Address:
    return Address("whatsapp", "bsuid", customer.user_id)


def reply(customer: Customer, text: str = "Tomorrow.", **fields: Any) -> OutboundMessage:
    values: dict[str, Any] = {"id": "outbox-1", "key": "k", "account": "wa", "channel": "whatsapp"}
    return OutboundMessage(**values | {"to": (user(customer), phone(customer)), "text": text} | fields)


def words(side: Side) -> list[tuple[str, str]]:
    return [(update.status, update.ours) for update in side.of(DeliveryUpdate)]


async def refused(side: Side, message: OutboundMessage) -> tuple[str, str]:
    with pytest.raises(SendError) as caught:
        await side.adapter.send(message)
    return caught.value.code, caught.value.error_class


# --- handshake and webhooks -------------------------------------------------------------------------------------------


async def test_the_handshake_passes_with_our_token_only(side: Side) -> None:
    assert await side.platform.handshake(VERIFY) == (200, "1158201444")
    assert (await side.platform.handshake("wrong"))[0] == 403


async def test_webhooks_are_signed_over_escaped_ascii(side: Side) -> None:
    wamid = await side.platform.customer_writes(mara(), "Grüße 🙂 /")
    ((webhook, status),) = side.platform.posted
    assert status == 200
    assert webhook.body.isascii()
    assert rb"\/" in webhook.body
    ((message),) = side.of(InboundMessage)
    assert (message.id, message.text, message.sender.addresses) == (wamid, "Grüße 🙂 /", (user(mara()), phone(mara())))


async def test_a_webhook_signed_with_another_secret_is_refused(side: Side) -> None:
    side.platform.app_secret = "another"
    await side.platform.customer_writes(mara())
    assert [status for _, status in side.platform.posted] == [401]
    assert side.events == []


async def test_a_webhook_not_answered_2xx_comes_again(side: Side) -> None:
    side.platform.redelivery.tries, side.platform.redelivery.pause_s = 3, 0.0
    side.statuses = [500, 503]
    await side.platform.customer_writes(mara())
    assert [status for _, status in side.platform.posted] == [500, 503, 200]
    assert len(side.of(InboundMessage)) == 1


async def test_a_hidden_phone_number_does_not_come(side: Side) -> None:
    hidden = Customer("4915501234567", "DE.77000011112222", username="mara", hide_phone=True)
    await side.platform.customer_writes(hidden)
    (message,) = side.of(InboundMessage)
    assert (message.sender.addresses, message.sender.handle) == ((user(hidden),), "mara")


async def test_what_customers_do_becomes_events(side: Side) -> None:
    customer = mara()
    await side.platform.customer_sets_marketing(customer, stop=True)
    await side.platform.business_writes(customer, "on our way")
    await side.platform.customer_changes_number(customer, "4915509999999", "DE.9")
    await side.platform.customer_writes(customer, type="location", location={"latitude": 1, "longitude": 2})
    assert [(change.state, change.scope) for change in side.of(ConsentChange)] == [("opted_out", "marketing")]
    assert [echo.text for echo in side.of(Echo)] == ["on our way"]
    (moved,) = side.of(IdentityChange)
    assert (moved.old, moved.new) == ((user(mara()), phone(mara())), (user(customer), phone(customer)))
    assert [message.kind for message in side.of(InboundMessage)] == ["location"]


# --- sending ----------------------------------------------------------------------------------------------------------


async def test_a_reply_within_the_window_arrives_and_is_reported(side: Side) -> None:
    customer = mara()
    customer.reads = True
    wamid = await side.platform.customer_writes(customer)
    sent = await side.adapter.send(reply(customer, context=Context(reply_to=wamid)))
    await side.platform.settled()
    (accepted,) = side.platform.sends_of("outbox-1")
    assert accepted.external_id == sent.external_id
    assert accepted.payload["context"] == {"message_id": wamid}
    assert sent.addresses == (user(customer), phone(customer))
    assert words(side) == [("sent", "outbox-1"), ("delivered", "outbox-1"), ("read", "outbox-1")]


async def test_a_closed_window_is_accepted_and_fails_later(side: Side) -> None:
    customer = mara()
    await side.platform.customer_writes(customer)
    side.platform.clock_ahead_s = 24 * 3600 + 1
    await side.adapter.send(reply(customer))
    await side.platform.settled()
    (update,) = side.of(DeliveryUpdate)
    assert (update.status, update.error and update.error.code) == ("failed", "131047")


async def test_a_closed_window_may_be_refused_at_once(side: Side) -> None:
    side.platform.behaviour.refuse_closed_window = True
    assert await refused(side, reply(side.platform.add_customer(mara()))) == ("131047", "window-closed")


async def test_reactions_and_echoes_open_no_window(side: Side) -> None:
    customer = mara()
    side.platform.behaviour.refuse_closed_window = True
    await side.platform.customer_writes(customer, type="reaction", reaction={"message_id": "wamid.0", "emoji": "👍"})
    await side.platform.business_writes(customer, "Hi")
    assert await refused(side, reply(customer)) == ("131047", "window-closed")


async def test_nobody_at_that_number(side: Side) -> None:
    await side.adapter.send(reply(mara()))
    await side.platform.settled()
    assert [update.error and update.error.code for update in side.of(DeliveryUpdate)] == ["131026"]


TEMPLATES = {
    "fitting": (Template("hello", "de", ("Mara",)), ""),
    "another language": (Template("hello", "en", ("Mara",)), "132001"),
    "too few parameters": (Template("hello", "de"), "132000"),
    "paused": (Template("old", "de"), "132015"),
}


@pytest.mark.parametrize(("template", "code"), TEMPLATES.values(), ids=TEMPLATES)
async def test_templates_pass_outside_the_window(side: Side, template: Template, code: str) -> None:
    customer = side.platform.add_customer(mara())
    side.platform.add_template(Approved("hello", "de", 1))
    side.platform.add_template(Approved("old", "de", status="PAUSED"))
    message = reply(customer, "", template=template)
    if code:
        assert await refused(side, message) == (code, "permanent")
        assert side.platform.sends == []
    else:
        await side.adapter.send(message)
        await side.platform.settled()
        assert [status for status, _ in words(side)] == ["sent", "delivered"]


async def test_marketing_to_one_who_stopped_it_fails_as_opt_out(side: Side) -> None:
    customer = side.platform.add_customer(mara())
    customer.stopped_marketing = True
    side.platform.add_template(Approved("offer", "de", category="MARKETING"))
    await side.adapter.send(reply(customer, "", template=Template("offer", "de")))
    await side.platform.settled()
    assert [(change.state, change.scope) for change in side.of(ConsentChange)] == [("opted_out", "marketing")]


async def test_limits_and_credentials_are_enforced(side: Side) -> None:
    customer = mara()
    await side.platform.customer_writes(customer)
    assert await refused(side, reply(customer, "x" * 4097)) == ("100", "permanent")
    own = (Address("whatsapp", "phone", f"+{side.platform.own_number}"),)
    assert await refused(side, reply(customer, to=own)) == ("131021", "bad-recipient")
    side.platform.access_token = "another"
    assert await refused(side, reply(customer)) == ("190", "auth")
    with pytest.raises(SendError):
        await side.adapter.probe()
    side.platform.access_token, side.platform.phone_number_id = TOKEN, "1"
    assert await refused(side, reply(customer)) == ("33", "permanent")


async def test_the_probe_passes(side: Side) -> None:
    await side.adapter.probe()


async def test_pair_rate_and_throughput(side: Side) -> None:
    customer = mara()
    await side.platform.customer_writes(customer)
    side.platform.behaviour.pair_burst = 2
    for _ in range(2):
        await side.adapter.send(reply(customer))
    with pytest.raises(Throttled) as caught:
        await side.adapter.send(reply(customer))
    assert (caught.value.code, caught.value.pause, caught.value.retry_after_s) == ("131056", "recipient", 6.0)
    side.platform.clock_ahead_s = 7
    await side.adapter.send(reply(customer))
    side.platform.behaviour.pair_burst, side.platform.behaviour.per_second = None, 1
    with pytest.raises(Throttled) as caught:
        await side.adapter.send(reply(customer))
    assert (caught.value.code, caught.value.pause) == ("130429", "endpoint")


# --- files ------------------------------------------------------------------------------------------------------------


async def test_a_file_on_our_disk_is_uploaded_first(side: Side, tmp_path: Path) -> None:
    customer = mara()
    await side.platform.customer_writes(customer)
    path = tmp_path / "bill.pdf"
    await asyncio.to_thread(path.write_bytes, b"%PDF-1.7 content")
    bill = OutboundFile(
        kind="file", media_type="application/pdf", filename="Rechnung ü.pdf", size=16, open_path=str(path)
    )
    await side.adapter.send(reply(customer, file=bill))
    document = side.platform.sends[0].payload["document"]
    assert (document["filename"], document["caption"]) == ("Rechnung ü.pdf", "Tomorrow.")
    kept = Attachment(kind="file", ref=document["id"])
    assert b"".join([chunk async for chunk in side.adapter.fetch(kept, b"")]) == b"%PDF-1.7 content"


async def test_a_file_is_uploaded_once_while_its_id_lives(side: Side, tmp_path: Path) -> None:
    customer = mara()
    await side.platform.customer_writes(customer)
    path = tmp_path / "bill.pdf"
    await asyncio.to_thread(path.write_bytes, b"%PDF-1.7 content")
    bill = OutboundFile(kind="file", media_type="application/pdf", filename="b.pdf", size=16, open_path=str(path))
    for _ in range(3):
        await side.adapter.send(reply(customer, file=bill))
    assert (side.platform.uploads, len(side.platform.sends)) == (1, 3)
    side.platform.drop_files()
    assert await refused(side, reply(customer, file=bill)) == ("131009", "retry")
    await side.adapter.send(reply(customer, file=bill))
    assert (side.platform.uploads, len(side.platform.sends)) == (2, 4)


async def test_the_header_of_a_template_is_the_uploaded_file(side: Side, tmp_path: Path) -> None:
    customer = side.platform.add_customer(mara())
    side.platform.add_template(Approved("bill", "de", parameters=1, header="document", buttons=("url", "copy_code")))
    path = tmp_path / "bill.pdf"
    await asyncio.to_thread(path.write_bytes, b"%PDF-1.7 content")
    bill = OutboundFile(kind="file", media_type="application/pdf", filename="b.pdf", size=16, open_path=str(path))
    parameters = {"body": ["Mara"], "buttons": ["abc", {"sub_type": "copy_code", "code": "25OFF"}]}
    template = Template("bill", "de", parameters)
    await side.adapter.send(reply(customer, "", template=template, file=bill))
    (header, *_) = side.platform.sends[0].payload["template"]["components"]
    assert header["parameters"][0]["document"]["filename"] == "b.pdf"
    assert await refused(side, reply(customer, "", template=template)) == ("132012", "permanent")


WRONG_COMPONENTS: dict[str, dict[str, Any]] = {
    "another header": {"header": {"video": {"link": "https://x.example/v"}}},
    "no header": {},
    "a button too many": {"header": "Hi", "buttons": ["a", "b"]},
    "another button": {"header": "Hi", "buttons": [{"sub_type": "quick_reply", "payload": "p"}]},
    "cards": {"header": "Hi", "carousel": [{"body": ["a"]}]},
}


@pytest.mark.parametrize("parameters", WRONG_COMPONENTS.values(), ids=WRONG_COMPONENTS)
async def test_components_must_be_the_templates_own(side: Side, parameters: dict[str, Any]) -> None:
    side.platform.add_template(Approved("hi", "de", header="text", buttons=("url",)))
    customer = side.platform.add_customer(mara())
    assert await refused(side, reply(customer, "", template=Template("hi", "de", parameters))) == (
        "132012", "permanent",
    )  # fmt: skip
    await side.adapter.send(reply(customer, "", template=Template("hi", "de", {"header": "Hi", "buttons": ["a"]})))


CONTENTS: dict[str, dict[str, Any]] = {
    "buttons": {"content": Interactive(values={"buttons": ["Yes", "No"]})},
    "a list": {"content": Interactive(values={"rows": ["a", "b"], "label": "Pick"})},
    "a place": {"text": "", "content": Location(52.5, 13.4)},
    "contact cards": {"text": "", "content": ContactCards((ContactCard("Ann", ("+491",)),))},
    "a reaction": {"text": "", "reaction": "👍", "context": Context(reply_to="wamid.1")},
}


@pytest.mark.parametrize("fields", CONTENTS.values(), ids=CONTENTS)
async def test_structured_messages_are_taken(side: Side, fields: dict[str, Any]) -> None:
    customer = mara()
    await side.platform.customer_writes(customer)
    await side.adapter.send(reply(customer, **fields))
    assert len(side.platform.sends) == 1


# --- the account ------------------------------------------------------------------------------------------------------


async def test_templates_are_listed_page_by_page(side: Side) -> None:
    for number in range(5):
        side.platform.add_template(Approved(f"t{number}", "de", parameters=number, category="MARKETING"))
    side.platform.page_max = 2
    assert await side.adapter.templates() is None  # nobody said which business
    adapter = side.with_business()
    listed = await adapter.templates()
    assert listed is not None
    assert [(one.name, one.parameters, one.status, one.category) for one in listed] == [
        (f"t{number}", number, "approved", "marketing") for number in range(5)
    ]
    side.platform.access_token = "another"
    with pytest.raises(SendError):
        await adapter.templates()


async def test_a_lost_subscription_is_made_again(side: Side) -> None:
    adapter = side.with_business()
    assert await adapter.subscribe() is False
    side.platform.subscribed = False
    assert await side.adapter.subscribe() is False  # nobody said which business
    assert await adapter.subscribe() is True
    assert side.platform.subscribed


async def test_a_failed_upload_surely_sent_nothing(side: Side, tmp_path: Path) -> None:
    gone = OutboundFile(kind="file", media_type="a/b", filename="x", size=1, open_path=str(tmp_path / "gone"))
    assert await refused(side, reply(mara(), file=gone)) == ("file-gone", "permanent")
    assert side.platform.calls == 0


async def test_a_customers_file_is_fetched_in_two_steps(side: Side) -> None:
    await side.platform.customer_sends_file(mara(), b"picture", "image/jpeg", caption="look")
    (message,) = side.of(InboundMessage)
    assert message.text == "look"
    (picture,) = message.attachments
    assert b"".join([chunk async for chunk in side.adapter.fetch(picture, b"")]) == b"picture"


async def test_an_address_that_expired_is_asked_for_afresh(side: Side) -> None:
    file_id = side.platform.add_file(b"picture", "image/jpeg")
    chunks = side.adapter.fetch(Attachment(kind="image", ref=file_id), b"")
    expired = side.platform.now
    ticks = iter([0.0, 301.0])
    side.platform.now = lambda: expired() + next(ticks, 301.0)  # type: ignore[method-assign]
    assert b"".join([chunk async for chunk in chunks]) == b"picture"


async def test_a_download_without_the_token_or_with_other_content_is_refused(side: Side) -> None:
    file_id = side.platform.add_file(b"picture", "image/jpeg")
    address = (await side.adapter._graph.get(file_id, {}))["url"]
    async with aiohttp.ClientSession() as session, session.get(address) as answer:
        assert answer.status == 401
    side.platform.behaviour.corrupt_media = True
    with pytest.raises(MediaError, match="hash"):
        _ = [chunk async for chunk in side.adapter.fetch(Attachment(kind="image", ref=file_id), b"")]


async def test_a_file_that_is_gone(side: Side) -> None:
    with pytest.raises(MediaError) as caught:
        _ = [chunk async for chunk in side.adapter.fetch(Attachment(kind="image", ref="404"), b"")]
    assert not caught.value.retryable


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
async def test_faults(side: Side, fault: Fault, wanted: tuple[type[SendError], int]) -> None:
    """Whatever became of the answer: a message the platform took is proven by its receipts, which name our id."""
    customer = mara()
    await side.platform.customer_writes(customer)
    side.platform.fail_next(fault)
    with pytest.raises(wanted[0]):
        await side.adapter.send(reply(customer))
    await side.platform.settled()
    assert len(side.platform.sends_of("outbox-1")) == wanted[1]
    assert words(side) == [("sent", "outbox-1"), ("delivered", "outbox-1")] * wanted[1]
    await side.adapter.send(reply(customer, id="outbox-2"))
    assert len(side.platform.sends) == wanted[1] + 1


async def test_receipts_late_twice_and_out_of_order(side: Side) -> None:
    customer = mara()
    customer.reads = True
    await side.platform.customer_writes(customer)
    side.platform.receipts.hold, side.platform.receipts.copies, side.platform.receipts.shuffle = True, 2, True
    await side.adapter.send(reply(customer))
    await side.platform.settled()
    assert words(side) == []
    side.platform.release()
    await side.platform.settled()
    arrived = [status for status, _ in words(side)]
    assert sorted(arrived) == ["delivered", "delivered", "read", "read", "sent", "sent"]
    assert arrived != sorted(arrived, key=("sent", "delivered", "read").index)
    assert len({event.id for event in side.of(DeliveryUpdate)}) == 3


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="no fault named"):
        MetaWhatsApp().fail_next("gremlins")  # type: ignore[arg-type]
