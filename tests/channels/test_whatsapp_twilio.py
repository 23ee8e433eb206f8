"""WhatsApp through Twilio: forms to events, messages to forms, and the simulator that keeps WhatsApp's rules."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from adapters import Callback, Handshake, Http, SendError
from adapters._http import new_session
from adapters._load import class_for
from adapters._media import MediaClient
from adapters._whatsapp_facts import CHANNEL as CLOUD
from adapters._whatsapp_settings import Settings
from adapters._whatsapp_twilio import CHANNEL, TwilioWhatsApp, form_for
from adapters.sandbox._base import Webhook
from adapters.sandbox.twilio import ContentTemplate, Person, TwilioSimulator
from adapters.testing import AdapterCase
from adapters.whatsapp import WhatsAppAdapter
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
    Event,
    Ignored,
    InboundMessage,
    Interactive,
    Location,
    OutboundFile,
    OutboundMessage,
    PlatformError,
    Received,
    Referral,
    Sticker,
    Template,
    Thread,
    Unreadable,
    Unsupported,
)
from normalizers.model import Person as Customer
from normalizers.sms import normalize

AC, MG, HX = "AC00000000000000000000000000000001", "MG00000000000000000000000000000001", "HX" + "0" * 31 + "1"
SM1, MM2 = f"SM{1:032}", f"MM{2:032}"
OURS, POOLED, THEIRS = "+15550199999", "+15550188888", "+4915501234567"
TOKEN, PUBLIC = "t0ken-newest", "https://gw.example"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
PAYLOADS = Path(__file__).parent / "payloads" / "whatsapp_twilio"
FORM_TYPE = "application/x-www-form-urlencoded"

USER = Address("whatsapp", "bsuid", "DE.77000011112222")
PHONE = Address("whatsapp", "phone", THEIRS, "everywhere")
MARA = Customer((USER, PHONE), "Mara Lind")
ACCOUNT = Account(
    "wa", "whatsapp", frozenset({OURS}),
    options={"account_sid": AC, "number": OURS, "messaging_service_sid": ""},
    templates=({"name": "order_update", "language": "en", "sid": HX},),
)  # fmt: skip
SERVICE = Account("wa", "whatsapp", options={"account_sid": AC, "number": "", "messaging_service_sid": MG})


def fields(name: str, **changes: str) -> dict[str, str]:
    """A sample's fields, with some of them changed."""
    lines = (PAYLOADS / f"{name}.txt").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#")) | changes


def received(
    form: Mapping[str, str] | bytes, account: Account = ACCOUNT, query: Mapping[str, str] | None = None
) -> Received:
    body = form if isinstance(form, bytes) else urlencode(form).encode()
    return Received(body, {"content-type": FORM_TYPE}, query or {}, NOW, account)


def message(**values: Any) -> InboundMessage:
    base: dict[str, Any] = {
        "id": SM1, "at": NOW, "routing_key": f"{AC}:whatsapp:{OURS}", "channel": "whatsapp", "path": "$",
        "sender": MARA,
    }  # fmt: skip
    return InboundMessage(**base | values)


SHORT = {
    "MessageSid": SM1, "AccountSid": AC, "From": f"whatsapp:{THEIRS}", "To": f"whatsapp:{OURS}", "NumMedia": "0",
    "ProfileName": "Mara Lind", "WaId": THEIRS[1:], "ExternalUserId": f"whatsapp:{USER.value}",
    "SmsStatus": "received", "MessageType": "text", "Forwarded": "false", "FrequentlyForwarded": "false",
}  # fmt: skip
HELLO = SHORT | {"Body": "Hello"}
MEDIA = f"https://api.twilio.com/2010-04-01/Accounts/{AC}/Messages/{MM2}/Media/ME{1:032}"
STATUS = {"MessageSid": SM1, "AccountSid": AC, "From": f"whatsapp:{OURS}", "To": f"whatsapp:{THEIRS}"}


def media(media_type: str, **more: str) -> dict[str, str]:
    return SHORT | {"NumMedia": "1", "MediaUrl0": MEDIA, "MediaContentType0": media_type, "Body": "", **more}


def ignored(reason: str, id: str = SM1, **values: Any) -> Ignored:
    base: dict[str, Any] = {"at": NOW, "channel": "whatsapp", "path": "$"}
    return Ignored(id=id, reason=reason, **base | values)


def update(word: str, status: Any, **values: Any) -> DeliveryUpdate:
    base: dict[str, Any] = {"recipient": PHONE, "learned": (PHONE,)}
    return DeliveryUpdate(
        id=f"{SM1}:{word}", at=NOW, channel="whatsapp", path="$", target=SM1, status=status, **base | values
    )


INBOUND: dict[str, tuple[Received, tuple[Event, ...]]] = {  # name of the case -> (delivery, events)
    "a text": (received(HELLO), (message(text="Hello"),)),
    "by phone alone": (
        received({k: v for k, v in HELLO.items() if k not in ("ExternalUserId", "ProfileName", "WaId")}),
        (message(text="Hello", sender=Customer((PHONE,))),),
    ),
    "by user id alone": (
        received({k: v for k, v in HELLO.items() if k != "WaId"} | {"From": f"whatsapp:{USER.value}"}),
        (message(text="Hello", sender=Customer((USER,), "Mara Lind")),),
    ),
    "a user id where the number should be": (
        received(HELLO | {"From": f"whatsapp:{USER.value}", "WaId": USER.value}),
        (message(text="Hello", sender=Customer((USER,), "Mara Lind")),),
    ),
    "through a service": (
        received(HELLO | {"MessagingServiceSid": MG, "To": f"whatsapp:{POOLED}"}, SERVICE),
        (message(text="Hello", routing_key=f"{AC}:whatsapp:{MG}", own_address=POOLED),),
    ),
    "a template's button": (
        received(fields("button")),
        (
            message(
                kind="interactive", text="Yes, please", context=Context(reply_to=f"MM{9:032}"),
                content=Interactive("yes-1", "Yes, please", type="button"),
            ),
        ),
    ),
    "a button without a payload": (
        received(HELLO | {"ButtonText": "Hello"}),
        (message(kind="interactive", text="Hello", content=Interactive("Hello", "Hello", type="button")),),
    ),
    "a row of a list": (
        received(HELLO | {"ListId": "r1", "ListTitle": "Blue", "ListDescription": "dark", "Body": "Blue"}),
        (message(kind="interactive", text="Blue", content=Interactive("r1", "Blue", "dark", "list_reply")),),
    ),
    "a form": (
        received(SHORT | {"Body": "", "MessageType": "interactive", "InteractiveData": '{"size": 4}'}),
        (message(kind="interactive", content=Interactive(type="nfm_reply", values={"size": 4})),),
    ),
    "a form that writes no JSON": (
        received(SHORT | {"InteractiveData": "{"}),
        (message(kind="interactive", content=Interactive(type="nfm_reply", values={"response_json": "{"})),),
    ),
    "a place": (
        received(SHORT | {"Latitude": "52.5", "Longitude": "13.4", "Label": "Shop", "Address": "Street 1"}),
        (message(kind="location", text="Shop, Street 1", content=Location(52.5, 13.4, "Shop", "Street 1")),),
    ),
    "a place without a name": (
        received(SHORT | {"Latitude": "52.5", "Longitude": "13.4"}),
        (message(kind="location", text="52.5, 13.4", content=Location(52.5, 13.4)),),
    ),
    "a picture with words": (
        received(media("image/jpeg", Body="broken", MessageType="image")),
        (message(kind="image", text="broken",
                 attachments=(Attachment(kind="image", media_type="image/jpeg", ref=MEDIA),)),),
    ),
    "a voice note": (
        received(media("audio/ogg", MessageType="audio")),
        (message(kind="audio", attachments=(Attachment(kind="audio", media_type="audio/ogg", ref=MEDIA),)),),
    ),
    "a sticker": (
        received(media("image/webp")),
        (message(kind="sticker", content=Sticker(),
                 attachments=(Attachment(kind="sticker", media_type="image/webp", ref=MEDIA),)),),
    ),
    "a contact card": (
        received(media("text/vcard", MessageType="contacts")),
        (message(kind="file", attachments=(Attachment(kind="file", media_type="text/vcard", ref=MEDIA),)),),
    ),
    "from an ad, forwarded": (
        received(HELLO | {
            "Forwarded": "true", "FrequentlyForwarded": "true", "ReferralSourceType": "ad", "ReferralSourceId": "120",
            "ReferralSourceUrl": "https://fb.me/x", "ReferralHeadline": "Sale", "ReferralBody": "Now",
            "ReferralCtwaClid": "clid", "ReferralMediaUrl": "https://x.example/i"}),
        (message(text="Hello", context=Context(
            forwarded=True, referral=Referral("ad", "120", "https://fb.me/x", "Sale", "Now", "clid"),
            metadata={"frequently_forwarded": True, "referral_media_url": "https://x.example/i"})),),
    ),
    "an empty text": (received(SHORT | {"Body": ""}), (message(),)),
    "a kind nobody knows": (
        received(SHORT | {"Body": "", "MessageType": "hologram"}),
        (message(kind="unsupported", content=Unsupported("hologram", "neither text nor media")),),
    ),
    "media promised and missing": (
        received(SHORT | {"Body": "", "NumMedia": "1"}),
        (message(kind="unsupported", content=Unsupported("text", "neither text nor media")),),
    ),
    "a keyword that Twilio recognised": (
        received(HELLO | {"Body": "STOP", "OptOutType": "STOP"}),
        (
            message(text="STOP", flags=("answered_by_platform",)),
            ConsentChange(
                id=f"{SM1}:STOP", at=NOW, routing_key=f"{AC}:whatsapp:{OURS}", channel="whatsapp", path="$",
                person=MARA, state="opted_out", source="platform",
            ),
        ),
    ),
    "a bare STOP is judged by the core": (received(HELLO | {"Body": "STOP"}), (message(text="STOP"),)),
    "our own number": (
        received(HELLO | {"From": f"whatsapp:{OURS}", "To": f"whatsapp:{POOLED}"}),
        (ignored("echo: sent by a number of ours", routing_key=f"{AC}:whatsapp:{POOLED}"),),
    ),
    "an SMS": (
        received({"MessageSid": SM1, "AccountSid": AC, "From": THEIRS, "To": OURS, "Body": "Hi",
                  "MessagingServiceSid": MG}),
        (InboundMessage(id=SM1, at=NOW, routing_key=f"{AC}:{OURS} {AC}:{MG}", channel="sms", path="$", text="Hi",
                        sender=Customer((Address("sms", "phone", THEIRS, "everywhere"),))),),
    ),
    "at an account of SMS": (
        received(HELLO | {"MessagingServiceSid": MG}, Account("sms", "sms", options={"number": OURS})),
        (message(text="Hello", routing_key=f"{AC}:whatsapp:{OURS} {AC}:whatsapp:{MG}"),),
    ),
    "read, with our id": (
        received(STATUS | {"MessageStatus": "read", "ChannelPrefix": "whatsapp"}, query={"mid": "m-1"}),
        (update("read", "read", ours="m-1"),),
    ),
    "outside of the window": (
        received(STATUS | {"MessageStatus": "undelivered", "ErrorCode": "63016", "To": f"whatsapp:{USER.value}"}),
        (update("undelivered", "failed", routing_key=f"{AC}:whatsapp:{OURS}", recipient=USER, learned=(USER,),
                error=PlatformError("63016")),),
    ),
    "a receipt without our id, at an account of SMS": (
        received(STATUS | {"MessageStatus": "sent"}, Account("sms", "sms", options={"number": OURS})),
        (update("sent", "sent", routing_key=f"{AC}:whatsapp:{OURS}"),),
    ),
    "a status nobody knows": (
        received(STATUS | {"MessageStatus": "teleported"}, query={"mid": "m-1"}),
        (ignored("message status 'teleported'", f"{SM1}:teleported"),),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("delivery", "events"), INBOUND.values(), ids=INBOUND)
def test_inbound(delivery: Received, events: tuple[Event, ...]) -> None:
    assert normalize(delivery) == events


BROKEN = {  # name of the case -> (body, path, problem)
    "no sender": (urlencode({**HELLO, "From": ""}).encode(), "$.From", "missing"),
    "nobody behind the prefix": (urlencode({**HELLO, "From": "whatsapp:"}).encode(), "$.From", "names nobody"),
    "no id": (b"Body=Hello&From=whatsapp%3A%2B15550100001", "$.MessageSid", "missing"),
    "no coordinates": (urlencode(SHORT | {"Latitude": "x", "Longitude": "1"}).encode(), "$.Latitude", "no coordinates"),
    "not a form": (b"hello", "$", "not a form"),
}


@pytest.mark.parametrize(("body", "path", "problem"), BROKEN.values(), ids=BROKEN)
def test_broken(body: bytes, path: str, problem: str) -> None:
    (event,) = normalize(received(body))
    assert isinstance(event, Unreadable)
    assert (event.path, event.problem) == (path, problem)


FIELD = st.sampled_from([*fields("button"), "MediaUrl0", "Latitude", "Longitude", "ListId", "MessageStatus"])
WORD = st.sampled_from([f"whatsapp:{OURS}", "whatsapp:", "rcs:x", "STOP", "sent", "1", "-1", ""]) | st.text()


@given(st.dictionaries(FIELD | st.text(), WORD, max_size=12))
def test_property_any_form_gives_events(form: dict[str, str]) -> None:
    events = normalize(received(urlencode(form, errors="surrogatepass").encode()))
    assert len(events) >= 1
    assert msgspec.json.encode(events)


@given(st.binary())
def test_property_any_bytes_give_events(body: bytes) -> None:
    assert len(normalize(received(body))) >= 1


# --- what goes out ----------------------------------------------------------------------------------------------------

OUT = OutboundMessage(id="m-1", key="k", account="wa", channel="whatsapp", to=(USER, PHONE), text="Tomorrow.")
FROM = [("From", f"whatsapp:{OURS}")]
TO = ("To", f"whatsapp:{THEIRS}")
PHOTO = OutboundFile(kind="image", media_type="image/png", filename="a.png", size=3, url="https://gw.example/f/1")


def out(**changes: Any) -> OutboundMessage:
    return msgspec.structs.replace(OUT, **changes)


FORMS: dict[str, tuple[OutboundMessage, list[tuple[str, str]]]] = {
    "a text": (OUT, [TO, *FROM, ("Body", "Tomorrow.")]),
    "with a callback": (
        out(callback_url="https://gw.example/w?mid=m-1"),
        [TO, *FROM, ("Body", "Tomorrow."), ("StatusCallback", "https://gw.example/w?mid=m-1")],
    ),
    "to a user id": (out(to=(USER,)), [("To", f"whatsapp:{USER.value}"), *FROM, ("Body", "Tomorrow.")]),
    "a picture with words": (
        out(file=PHOTO), [TO, *FROM, ("Body", "Tomorrow."), ("MediaUrl", "https://gw.example/f/1")],
    ),
    "a template with texts": (
        out(text="", template=Template("order_update", "en", ("Mara", "12"))),
        [TO, *FROM, ("ContentSid", HX), ("ContentVariables", '{"1":"Mara","2":"12"}')],
    ),
    "a template without a language": (
        out(text="", template=Template("order_update")), [TO, *FROM, ("ContentSid", HX)],
    ),
    "a template by its sid, places by name": (
        out(text="", template=Template(HX, "", {"variables": {"name": "Mara", "day": 12}})),
        [TO, *FROM, ("ContentSid", HX), ("ContentVariables", '{"name":"Mara","day":"12"}')],
    ),
    "a template by its body": (
        out(text="", template=Template("order_update", "en", {"body": ["Mara"]})),
        [TO, *FROM, ("ContentSid", HX), ("ContentVariables", '{"1":"Mara"}')],
    ),
    "a place": (
        out(text="", content=Location(52.5, 13.4, "Shop", "Street 1")),
        [TO, *FROM, ("Body", "Street 1"), ("PersistentAction", "geo:52.5,13.4|Shop")],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("outbound", "form"), FORMS.values(), ids=FORMS)
def test_forms(outbound: OutboundMessage, form: list[tuple[str, str]]) -> None:
    assert list(form_for(outbound, FROM, ACCOUNT)) == form


UNSAYABLE = {
    "nobody": (out(to=()), "no-address"),
    "nothing": (out(text=""), "empty"),
    "a file nobody can fetch": (out(file=msgspec.structs.replace(PHOTO, url="")), "no-media-address"),
    "two files": (out(files=(PHOTO, PHOTO)), "files"),
    "a group": (out(thread=Thread(kind="group", key="g")), "group"),
    "a reaction": (out(reaction="👍", context=Context(reply_to=SM1)), "reaction"),
    "contact cards": (out(content=ContactCards((ContactCard("Ann"),))), "content"),
    "a template without a sid": (out(template=Template("other", "en")), "no-content-sid"),
    "a template in another language": (out(template=Template("order_update", "de")), "no-content-sid"),
    "a template with a file": (out(template=Template(HX), file=PHOTO), "template"),
    "components": (out(template=Template(HX, "", {"header": "x", "body": ["y"]})), "template"),
}


@pytest.mark.parametrize(("given_", "code"), UNSAYABLE.values(), ids=UNSAYABLE)
def test_what_cannot_be_said_is_refused_for_certain(given_: OutboundMessage, code: str) -> None:
    with pytest.raises(SendError) as caught:
        form_for(given_, FROM, ACCOUNT)
    assert (caught.value.code, caught.value.certain) == (code, True)


# --- set-up -----------------------------------------------------------------------------------------------------------

GIVEN: dict[str, Any] = {"provider": "twilio", "account_sid": AC, "auth_token": (Secret(TOKEN),), "number": OURS}
FAULTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no credentials": (
        {"account_sid": "", "auth_token": ()}, ["account_sid: missing", "auth_token: missing"],
    ),
    "no sender": ({"number": ""}, ["number: missing, and no messaging_service_sid in its place"]),
    "no number": ({"number": "ACME"}, ["number: must be + and the country code with the number"]),
    "what belongs to the other": (
        {"phone_number_id": "1", "appsecret_proof": True},
        [f'{name}: is no setting of provider = "twilio"' for name in ("phone_number_id", "appsecret_proof")],
    ),
    "the other provider": (
        {"provider": "meta"},
        [
            "phone_number_id: missing", "access_token: missing", "app_secret: missing", "verify_token: missing",
            'account_sid: is no setting of provider = "meta"', 'auth_token: is no setting of provider = "meta"',
            'number: is no setting of provider = "meta"',
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "faults"), FAULTS.values(), ids=FAULTS)
def test_faults_name_the_key(changes: dict[str, Any], faults: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^\w+: ") as caught:
        Settings(**GIVEN | changes)
    assert str(caught.value).splitlines() == faults


def test_the_provider_decides_who_serves_the_account() -> None:
    settings = Settings(**GIVEN | {"number": "whatsapp:+1 (555) 019-9999"})
    assert (settings.number, settings.api_base) == (OURS, "https://api.twilio.com")
    assert class_for(WhatsAppAdapter, settings) is TwilioWhatsApp
    adapter = adapter_with(None)
    assert adapter.routing_keys() == {f"{AC}:whatsapp:{OURS}"}
    assert adapter.account.own_addresses == {OURS}
    assert not isinstance(adapter, Handshake)
    assert TOKEN not in repr(adapter)


def test_the_window_and_the_rule_for_templates_are_whatsapps_own() -> None:
    assert (CHANNEL.name, CHANNEL.title) == (CLOUD.name, CLOUD.title)
    assert (CHANNEL.window, CHANNEL.templates, CHANNEL.keywords) == (CLOUD.window, True, CLOUD.keywords)
    assert (CHANNEL.limits.text_max, CHANNEL.limits.text_unit, CHANNEL.limits.split) == (1600, "utf16", True)
    assert CHANNEL.errors["63016"].error_class == "window-closed"
    assert {CHANNEL.errors[code].error_class for code in ("21610", "63014", "63033")} == {"opted-out"}


def adapter_with(http: Any, **changes: Any) -> TwilioWhatsApp:
    templates = ({"name": "order_update", "language": "en", "sid": HX},)
    account = Account("wa", "whatsapp", templates=templates)
    return TwilioWhatsApp(account, Settings(**GIVEN | changes), http)


# --- the simulator ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def platform(**how: Any) -> AsyncIterator[tuple[TwilioSimulator, TwilioWhatsApp]]:
    """A simulator, and the adapter of its account."""
    simulator = TwilioSimulator(account_sid=AC, auth_token=TOKEN, numbers=(), whatsapp_numbers=(OURS,), **how)
    simulator.whatsapp.templates[HX] = ContentTemplate(HX, variables=2)
    session, media_client = new_session(), MediaClient(allow_private=True)
    async with simulator, session:
        yield simulator, adapter_with(Http(session, [simulator.url], media_client), api_base=simulator.url)
        await media_client.aclose()


def mara(**how: Any) -> Person:
    return Person(THEIRS, USER.value, **how)


def read(adapter: TwilioWhatsApp, webhook: Webhook) -> tuple[Event, ...]:
    """A webhook through the adapter's own door: verified, then normalised."""
    path = webhook.url.removeprefix(PUBLIC)
    query = dict(parse_qsl(path.partition("?")[2]))
    headers = {name.lower(): (value,) for name, value in webhook.headers.items()}
    callback = Callback("POST", webhook.url, path, query, headers, webhook.body)
    adapter.verify(callback)
    adapter.well_formed(callback)
    kept = {name: values[0] for name, values in headers.items()}
    return adapter.normalize(Received(webhook.body, kept, query, NOW, adapter.account))


async def test_what_people_write_is_signed_and_read() -> None:
    async with platform(whatsapp_url=f"{PUBLIC}/webhooks/wa") as (simulator, adapter):
        sid = await simulator.person_writes(mara(), "Hello")
        (event,) = read(adapter, simulator.posted[-1][0])
        assert event == message(id=sid, at=NOW, text="Hello")
        await simulator.person_writes(mara(hide_phone=True), "Again")
        (event,) = read(adapter, simulator.posted[-1][0])
        assert isinstance(event, InboundMessage)
        assert event.sender.addresses == (USER,)


async def test_a_file_is_fetched_with_the_credentials() -> None:
    async with platform(whatsapp_url=f"{PUBLIC}/webhooks/wa") as (simulator, adapter):
        await simulator.person_writes(mara(), media=[("image/jpeg", b"picture")])
        (event,) = read(adapter, simulator.posted[-1][0])
        assert isinstance(event, InboundMessage)
        chunks = adapter.fetch(event.attachments[0], b"")
        assert b"".join([chunk async for chunk in chunks]) == b"picture"


OUTCOMES: dict[str, tuple[dict[str, Any], str, str]] = {  # name -> (change of the message, last status, code)
    "a text within the window": ({}, "read", ""),
    "to the user id": ({"to": (USER,)}, "read", ""),
    "a template": ({"text": "", "template": Template("order_update", "en", ("a", "b"))}, "read", ""),
    "a wrong number of texts": ({"text": "", "template": Template("order_update", "en", ("a",))}, "failed", "63028"),
    "a template nobody has": ({"text": "", "template": Template("HX" + "f" * 32)}, "failed", "63027"),
    "somebody who is not on WhatsApp": ({"to": (Address("whatsapp", "phone", "+491"),)}, "failed", "63024"),
}


@pytest.mark.parametrize(("changes", "last", "code"), OUTCOMES.values(), ids=OUTCOMES)
async def test_sends_and_their_receipts(changes: dict[str, Any], last: str, code: str) -> None:
    async with platform() as (simulator, adapter):
        person = simulator.whatsapp.add(mara(reads=True))
        person.last_wrote = simulator.now()
        sent = await adapter.send(out(callback_url=f"{PUBLIC}/webhooks/wa?mid=m-1", **changes))
        await simulator.settled()
        updates = [event for webhook, _ in simulator.posted for event in read(adapter, webhook)]
        assert all(isinstance(event, DeliveryUpdate) and event.ours == "m-1" for event in updates)
        final = updates[-1]
        assert isinstance(final, DeliveryUpdate)
        assert (final.target, final.status, final.error.code if final.error else "") == (sent.external_id, last, code)


async def test_a_text_outside_of_the_window_fails_by_receipt() -> None:
    async with platform() as (simulator, adapter):
        person = simulator.whatsapp.add(mara())
        person.last_wrote, simulator.clock_ahead_s = simulator.now(), 24 * 3600.0 + 1
        await adapter.send(out(callback_url=f"{PUBLIC}/webhooks/wa?mid=m-1"))
        await simulator.settled()
        (event,) = read(adapter, simulator.posted[-1][0])
        assert isinstance(event, DeliveryUpdate)
        assert event.error == PlatformError("63016")


REFUSALS: dict[str, tuple[dict[str, Any], str, str]] = {  # name -> (change, class, code)
    "a text that is too long": ({"text": "a" * 1601}, "permanent", "21617"),
    "somebody who opted out": ({"to": (Address("whatsapp", "phone", "+15550100002"),)}, "opted-out", "21610"),
    "no number": ({"to": (Address("whatsapp", "phone", "nobody"),)}, "bad-recipient", "21211"),
}


@pytest.mark.parametrize(("changes", "error_class", "code"), REFUSALS.values(), ids=REFUSALS)
async def test_refusals(changes: dict[str, Any], error_class: str, code: str) -> None:
    async with platform() as (simulator, adapter):
        simulator.opted_out.add((f"whatsapp:{OURS}", "whatsapp:+15550100002"))
        with pytest.raises(SendError) as caught:
            await adapter.send(out(**changes))
        assert (caught.value.error_class, caught.value.code) == (error_class, code)


async def test_a_number_that_is_no_sender() -> None:
    async with platform() as (simulator, adapter):
        simulator.whatsapp.numbers = ("+15550177777",)
        with pytest.raises(SendError) as caught:
            await adapter.send(OUT)
        assert (caught.value.error_class, caught.value.code) == ("auth", "63007")


async def test_a_lost_answer_is_found_in_the_list_but_never_for_a_template() -> None:
    async with platform() as (simulator, adapter):
        for changed, found in ((OUT, True), (out(text="", id="m-2", template=Template(HX)), False)):
            simulator.fail_next("reset_after_accept")
            with pytest.raises(SendError):
                await adapter.send(changed)
            if found:
                sent = await adapter.find(changed)
                assert sent is not None
                assert sent.external_id in simulator.messages
            else:
                with pytest.raises(SendError, match="not-alone"):
                    await adapter.find(changed)


# --- the contract -----------------------------------------------------------------------------------------------------


def sign(body: bytes) -> Callback:
    """As Twilio signs: a form by its fields, anything else by nothing at all."""
    path = "/webhooks/wa"
    params = MultiDict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    signature = RequestValidator(TOKEN).compute_signature(PUBLIC + path, params)
    headers = {"content-type": (FORM_TYPE,), "x-twilio-signature": (signature,)}
    return Callback("POST", PUBLIC + path, path, {}, headers, body)


CASE = AdapterCase(
    adapter=WhatsAppAdapter,
    settings={"provider": "twilio", "account_sid": AC, "auth_token": TOKEN, "number": OURS, "api_base": "{base}"},
    message=urlencode(HELLO).encode(),
    unknown_kind=urlencode(SHORT | {"Body": "", "MessageType": "hologram"}).encode(),
    unknown_event=b"EventType=onConversationAdded&ConversationSid=CH1&AccountSid=" + AC.encode(),
    echo=urlencode(HELLO | {"From": f"whatsapp:{OURS}", "To": f"whatsapp:{POOLED}"}).encode(),
    malformed=b"hello",
    sign=sign,
    headers={"content-type": FORM_TYPE},
    outbound=OUT,
    success=json.dumps({"sid": SM1, "status": "queued", "error_code": None}).encode(),
    success_status=201,
    external_id=SM1,
    error_body=lambda status: json.dumps(
        {"code": {401: 20003, 429: 20429}.get(status, 20500 if status >= 500 else 21617), "status": status}
    ).encode(),
    secrets=(TOKEN,),
    account=ACCOUNT,
)
