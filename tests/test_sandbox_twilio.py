"""The simulated Twilio against its documentation, by the official client library where that can speak to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from multidict import MultiDict
from twilio.base.exceptions import TwilioRestException  # type: ignore[import-untyped]
from twilio.http.async_http_client import AsyncTwilioHttpClient  # type: ignore[import-untyped]
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]
from twilio.rest import Client  # type: ignore[import-untyped]

from adapters.sandbox.twilio import TwilioSimulator

TOKEN = "token"
OURS, POOLED, CUSTOMER, SERVICE = "+15550199999", "+15550188888", "+15550100001", "MG1"


class Redirected(AsyncTwilioHttpClient):  # type: ignore[misc]
    """The official transport, pointed at loopback."""

    def __init__(self, base: str) -> None:
        super().__init__(timeout=5)
        self._base = base

    async def request(
        self, method: str, url: str, *, headers: dict[str, str], auth: tuple[str, str], **how: Any
    ) -> Any:
        """The library's own way to pass the credential is deprecated by its HTTP client."""
        authorised = headers | {"Authorization": aiohttp.encode_basic_auth(*auth)}
        return await super().request(
            method, url.replace("https://api.twilio.com", self._base), headers=authorised, **how
        )


class OurSide:
    """Where webhooks arrive: keeps those whose signature the official validator accepts, refuses the others."""

    def __init__(self) -> None:
        self.forms: list[dict[str, str]] = []
        self.tokens: list[str] = []
        self.refuse_next = 0
        self.public = ""
        app = web.Application()
        app.router.add_post("/hook", self._take)
        self.server = TestServer(app)

    async def _take(self, request: web.Request) -> web.Response:
        body = (await request.read()).decode()
        url = (self.public or f"http://127.0.0.1:{self.server.port}") + request.raw_path
        form = MultiDict(parse_qsl(body, keep_blank_values=True))
        self.tokens.append(request.headers.get("I-Twilio-Idempotency-Token", ""))
        if not RequestValidator(TOKEN).validate(url, form, request.headers["X-Twilio-Signature"]):
            return web.Response(status=401)
        if self.refuse_next:
            self.refuse_next -= 1
            return web.Response(status=503)
        self.forms.append(dict(form) | dict(request.query))
        return web.Response(text="<Response/>", content_type="text/xml")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/hook"


@asynccontextmanager
async def both(**how: Any) -> AsyncIterator[tuple[TwilioSimulator, OurSide, Callable[..., Awaitable[Any]]]]:
    """The simulator, our side, and the official client's call that sends."""
    side = OurSide()
    await side.server.start_server()
    simulator = TwilioSimulator(
        auth_token=TOKEN, numbers=(OURS,), services={SERVICE: (POOLED,)}, webhook_url=side.url, **how
    )
    async with simulator, Redirected(simulator.url) as transport:
        client = Client(simulator.account_sid, TOKEN, http_client=transport)
        yield simulator, side, client.messages.create_async
    await side.server.close()


def statuses(side: OurSide) -> list[str]:
    return [form["MessageStatus"] for form in side.forms]


async def test_a_message_from_a_number() -> None:
    async with both() as (simulator, side, create):
        message = await create(to=CUSTOMER, from_=OURS, body="Hi", status_callback=f"{side.url}?mid=m-1&x=%C3%A4")
        assert (message.status, message.num_segments, message.error_code) == ("queued", "1", None)
        await simulator.settled()
        assert statuses(side) == ["sending", "sent", "delivered"]
        assert {(form["MessageSid"], form["mid"], form["To"]) for form in side.forms} == {
            (message.sid, "m-1", CUSTOMER)
        }
        assert [send.external_id for send in simulator.sends_of("m-1")] == [message.sid]


async def test_a_message_through_a_service() -> None:
    async with both() as (simulator, side, create):
        message = await create(to=CUSTOMER, messaging_service_sid=SERVICE, body="Hi", status_callback=side.url)
        assert (message.status, message.num_segments, message.from_) == ("accepted", "0", POOLED)
        await simulator.settled()
        assert statuses(side) == ["queued", "sending", "sent", "delivered"]
        assert {form["MessagingServiceSid"] for form in side.forms} == {SERVICE}


async def test_receipts_late_twice_and_out_of_order() -> None:
    async with both(seed=3) as (simulator, side, create):
        simulator.receipts.copies, simulator.receipts.shuffle, simulator.receipts.hold = 2, True, True
        await create(to=CUSTOMER, from_=OURS, body="Hi", status_callback=side.url)
        await simulator.settled()
        assert side.forms == []
        simulator.release()
        await simulator.settled()
        assert sorted(statuses(side)) == ["delivered"] * 2 + ["sending"] * 2 + ["sent"] * 2
        assert statuses(side) != sorted(statuses(side), key=["sending", "sent", "delivered"].index)


FATES = {  # name of the case -> (error code, carrier receipts, statuses, code in the last)
    "no receipt from the carrier": (None, False, ["sending", "sent"], None),
    "an unknown number": (30005, True, ["sending", "sent", "undelivered"], "30005"),
    "a queue that overflows": (30001, True, ["failed"], "30001"),
}


@pytest.mark.parametrize(("code", "receipts", "expected", "last"), FATES.values(), ids=FATES)
async def test_fates(code: int | None, receipts: bool, expected: list[str], last: str | None) -> None:
    async with both() as (simulator, side, create):
        simulator.carrier_receipts = receipts
        if code:
            simulator.failures[CUSTOMER] = code
        await create(to=CUSTOMER, from_=OURS, body="Hi", status_callback=side.url)
        await simulator.settled()
        assert (statuses(side), side.forms[-1].get("ErrorCode")) == (expected, last)


SEND = {"to": CUSTOMER, "from_": OURS, "body": "Hi"}
REFUSALS: dict[str, tuple[dict[str, Any], int]] = {  # name of the case -> (fields, code)
    "no number": (SEND | {"to": "+12"}, 21211),
    "letters for a number": (SEND | {"to": "ann"}, 21211),
    "no sender": ({"to": CUSTOMER, "body": "Hi"}, 21603),
    "a sender that is not ours": (SEND | {"from_": "+15550000000"}, 21606),
    "no such service": ({"to": CUSTOMER, "body": "Hi", "messaging_service_sid": "MG9"}, 21701),
    "nothing to say": ({"to": CUSTOMER, "from_": OURS}, 21602),
    "too long": (SEND | {"body": "a" * 1601}, 21617),
    "too many files": (SEND | {"media_url": ["https://a.example/x"] * 11}, 21623),
    "a file without an address": (SEND | {"media_url": ["x"]}, 21620),
    "a callback's host with an underscore": (SEND | {"status_callback": "https://a_b.example/"}, 21609),
    "opted out": (SEND | {"to": "+15550100002"}, 21610),
    "a landline": (SEND | {"to": "+15550100003"}, 21614),
}


@pytest.mark.parametrize(("fields", "code"), REFUSALS.values(), ids=REFUSALS)
async def test_refusals(fields: dict[str, Any], code: int) -> None:
    async with both() as (simulator, _, create):
        simulator.opted_out.add((OURS, "+15550100002"))
        simulator.refusals["+15550100003"] = 21614
        with pytest.raises(TwilioRestException) as caught:
            await create(**fields)
        assert (caught.value.code, caught.value.status, simulator.sends) == (code, 400, [])


async def test_credentials() -> None:
    async with both() as (simulator, _, create):
        simulator.auth_token = "another"
        with pytest.raises(TwilioRestException) as caught:
            await create(**SEND)
        assert (caught.value.code, caught.value.status) == (20003, 401)


async def test_throttled() -> None:
    async with both() as (simulator, _, create):
        simulator.fail_next("429")
        with pytest.raises(TwilioRestException) as caught:
            await create(**SEND)
        assert (caught.value.code, caught.value.status, simulator.sends) == (20429, 429, [])


async def test_the_list_and_the_account() -> None:
    async with both() as (simulator, _, create):
        sent = await create(**SEND)
        await create(**SEND | {"to": "+15550100002"})
        async with Redirected(simulator.url) as transport:
            client = Client(simulator.account_sid, TOKEN, http_client=transport)
            today = datetime.now(UTC)
            found = await client.messages.list_async(to=CUSTOMER, date_sent_after=today - timedelta(days=1))
            assert [(message.sid, message.body) for message in found] == [(sent.sid, "Hi")]
            assert await client.messages.list_async(to=CUSTOMER, date_sent_before=today - timedelta(days=2)) == []
            assert (await client.messages(sent.sid).fetch_async()).to == CUSTOMER
            assert (await client.api.accounts(simulator.account_sid).fetch_async()).status == "active"
            with pytest.raises(TwilioRestException, match="not found"):
                await client.messages("SM9").fetch_async()


async def test_a_customer_writes() -> None:
    async with both() as (simulator, side, _):
        sid = await simulator.customer_writes("Grüße 🙂 a+b&c=d", service=SERVICE, fields={"AddOns": "{}"})
        (form,) = side.forms
        expected = {
            "MessageSid": sid, "SmsSid": sid, "From": CUSTOMER, "To": POOLED, "MessagingServiceSid": SERVICE,
            "Body": "Grüße 🙂 a+b&c=d", "NumMedia": "0", "NumSegments": "1", "SmsStatus": "received", "FromCity": "",
            "AddOns": "{}", "AccountSid": simulator.account_sid,
        }  # fmt: skip
        assert {key: form.get(key) for key in expected} == expected


async def test_a_webhook_refused_comes_again_with_the_same_token() -> None:
    async with both() as (simulator, side, _):
        side.refuse_next, simulator.redelivery.tries, simulator.redelivery.pause_s = 1, 2, 0.0
        await simulator.customer_writes("Hi")
        assert [status for _, status in simulator.posted] == [503, 200]
        assert len(side.tokens) == 2
        assert side.tokens[0] == side.tokens[1] != ""


async def test_signatures_are_made_for_the_public_name() -> None:
    async with both() as (simulator, side, _):
        side.public = simulator.public_url = "https://support.example"
        simulator.webhook_url, simulator.local_url = "https://support.example/hook", side.url.removesuffix("/hook")
        await simulator.customer_writes("Hi")
        assert [form["Body"] for form in side.forms] == ["Hi"]


async def test_stop_blocks_and_start_lifts() -> None:
    async with both() as (simulator, side, create):
        simulator.advanced_opt_out = True
        await simulator.customer_writes("stop please")  # no keyword
        await create(**SEND)
        await simulator.customer_writes(" Stop ")
        with pytest.raises(TwilioRestException, match="unsubscribed"):
            await create(**SEND)
        await create(to=CUSTOMER, messaging_service_sid=SERVICE, body="Hi")  # another sender, another list
        await simulator.customer_writes("START")
        await create(**SEND)
        await simulator.customer_writes("help")
        assert [form.get("OptOutType") for form in side.forms] == [None, "STOP", "START", "HELP"]
        assert simulator.auto_replies == [(CUSTOMER, "STOP"), (CUSTOMER, "START"), (CUSTOMER, "HELP")]


@pytest.mark.parametrize("separate", [True, False], ids=["another host", "the same host"])
async def test_files(separate: bool) -> None:
    async with both(separate_cdn=separate) as (simulator, side, _):
        simulator.media_missing = 1
        await simulator.customer_writes(media=[("image/png", b"one"), ("text/vcard", b"two")])
        (form,) = side.forms
        assert (form["NumMedia"], form["MediaContentType1"], form["MessageSid"][:2]) == ("2", "text/vcard", "MM")
        headers = {"Authorization": aiohttp.encode_basic_auth(simulator.account_sid, TOKEN)}
        async with aiohttp.ClientSession() as session:
            seen = []
            for how in ({}, headers, headers):
                async with session.get(form["MediaUrl1"], headers=how, allow_redirects=False) as answer:
                    seen.append(answer.status)
                    location = answer.headers.get("Location", "")
            assert seen == [401, 404, 307]
            assert location.startswith(simulator.url) is not separate
            async with session.get(location) as answer:
                assert (await answer.read(), answer.content_type) == (b"two", "text/vcard")
            async with session.get(location, headers=headers) as answer:
                assert answer.status == (400 if separate else 200)


async def test_an_accepted_message_whose_answer_is_lost() -> None:
    async with both() as (simulator, side, create):
        simulator.fail_next("reset_after_accept")
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await create(**SEND, status_callback=f"{side.url}?mid=m-1")
        await simulator.settled()
        assert [form["mid"] for form in side.forms] == ["m-1"] * 3
        assert len(simulator.sends_of("m-1")) == 1
