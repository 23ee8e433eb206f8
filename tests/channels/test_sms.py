"""SMS through Twilio: what comes in, what proves it, what goes out. Sockets are real, the platform is the simulator."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from adapters._base import Answer, Callback
from adapters._errors import Ambiguous, MalformedBody, MediaError, SendError, Throttled, VerificationError
from adapters._http import Http, new_session
from adapters._media import MediaClient
from adapters.sandbox._base import Webhook
from adapters.sandbox.twilio import TwilioSimulator
from adapters.sms import CHANNEL, Settings, SmsAdapter, channel_for, form_for
from adapters.testing import AdapterCase
from config.secret import Secret
from normalizers.model import (
    Account,
    Address,
    Attachment,
    ConsentChange,
    DeliveryUpdate,
    Event,
    Ignored,
    InboundMessage,
    Location,
    OutboundFile,
    OutboundMessage,
    Person,
    PlatformError,
    Received,
    Template,
    Unreadable,
    Unsupported,
)
from normalizers.sms import normalize, phone

AC, MG = "AC00000000000000000000000000000001", "MG00000000000000000000000000000001"
SM1, MM2, SM3, SM4 = (f"{kind}{number:032}" for kind, number in (("SM", 1), ("MM", 2), ("SM", 3), ("SM", 4)))
OURS, POOLED, CUSTOMER = "+15550199999", "+15550188888", "+15550100001"
TOKEN, OLD_TOKEN = "t0ken-newest", "t0ken-older"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
PUBLIC = "https://gw.example"
PAYLOADS = Path(__file__).parent / "payloads" / "sms"

ANN = Address("sms", "phone", CUSTOMER, "everywhere", "attested")
ACCOUNT = Account(
    "sms-main",
    "sms",
    frozenset({OURS}),
    options={"account_sid": AC, "number": OURS, "messaging_service_sid": ""},
)
SERVICE = Account("sms-pool", "sms", options={"account_sid": AC, "number": "", "messaging_service_sid": MG})


def fields(name: str, **changes: str) -> dict[str, str]:
    """A sample's fields, with some of them changed."""
    lines = (PAYLOADS / f"{name}.txt").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#")) | changes


def received(
    form: Mapping[str, str] | bytes, account: Account = ACCOUNT, query: Mapping[str, str] | None = None, **headers: str
) -> Received:
    body = form if isinstance(form, bytes) else urlencode(form).encode()
    declared = {"content-type": "application/x-www-form-urlencoded"} | {
        k.replace("_", "-"): v for k, v in headers.items()
    }
    return Received(body, declared, query or {}, NOW, account)


def message(**values: Any) -> InboundMessage:
    """The message of the plain sample, with some values changed."""
    base: dict[str, Any] = {
        "id": SM1, "at": NOW, "routing_key": f"{AC}:{OURS}", "channel": "sms", "path": "$", "sender": Person((ANN,)),
    }  # fmt: skip
    return InboundMessage(**base | values)


# --- what comes in ----------------------------------------------------------------------------------------------------

MEDIA = f"https://api.twilio.com/2010-04-01/Accounts/{AC}/Messages/{MM2}/Media/ME"
PLACE = {"city": "SAN FRANCISCO", "state": "CA", "zip": "94110", "country": "US"}
SHORT = {"MessageSid": SM1, "AccountSid": AC, "From": CUSTOMER, "To": OURS, "NumMedia": "0", "SmsStatus": "received"}
HELLO = SHORT | {"Body": "Hello"}
STATUS = {"MessageSid": SM4, "AccountSid": AC, "From": OURS, "To": CUSTOMER}
MMS = message(
    id=MM2,
    routing_key=f"{AC}:{MG}",
    sender=Person((ANN,), profile={"country": "US"}),
    kind="image",
    attachments=(
        Attachment(kind="image", media_type="image/jpeg", ref=f"{MEDIA}{1:032}"),
        Attachment(kind="file", media_type="text/vcard", ref=f"{MEDIA}{2:032}"),
    ),
    own_address=POOLED,
)


def ignored(reason: str, id: str = SM1, **values: Any) -> Ignored:
    base: dict[str, Any] = {"at": NOW, "routing_key": f"{AC}:{OURS}", "channel": "sms", "path": "$"}
    return Ignored(id=id, reason=reason, **base | values)


def update(word: str, status: Any, **values: Any) -> DeliveryUpdate:
    return DeliveryUpdate(
        id=f"{SM4}:{word}", at=NOW, channel="sms", path="$", target=SM4, recipient=ANN, status=status, **values
    )


INBOUND: dict[str, tuple[Received, tuple[Event, ...]]] = {  # name of the case -> (delivery, events)
    "a text": (
        received(fields("sms")),
        (message(sender=Person((ANN,), profile=PLACE), text="Hello, where is my order? 🙂"),),
    ),
    "pictures, through a service": (received(fields("mms"), SERVICE), (MMS,)),
    "a picture with words": (
        received(fields("mms", Body="Look"), SERVICE),
        (msgspec.structs.replace(MMS, text="Look"),),
    ),
    "a number of its own though it is in a service": (
        received(HELLO | {"MessagingServiceSid": MG}),
        (message(text="Hello"),),
    ),
    "a service's number by its own webhook": (
        received(HELLO | {"To": POOLED}, SERVICE),
        (message(text="Hello", routing_key="", own_address=POOLED),),
    ),
    "for another number of the account": (
        received(HELLO | {"To": POOLED}),
        (message(text="Hello", routing_key=f"{AC}:{POOLED}", own_address=POOLED),),
    ),
    "for another service of the account": (
        received(HELLO | {"To": POOLED, "MessagingServiceSid": "MG2"}),
        (message(text="Hello", routing_key=f"{AC}:MG2", own_address=POOLED),),
    ),
    "the old names of the id": (
        received({key: value for key, value in HELLO.items() if key != "MessageSid"} | {"SmsSid": SM1}),
        (message(text="Hello"),),
    ),
    "nothing but blanks": (received(SHORT | {"Body": "  "}), (message(text="  "),)),
    "an empty text": (received(SHORT | {"Body": ""}), (message(),)),
    "neither text nor media": (
        received(SHORT),
        (message(kind="unsupported", content=Unsupported("empty", "neither text nor media")),),
    ),
    "a kind nobody knows": (
        received(SHORT | {"MessageType": "hologram"}),
        (message(kind="unsupported", content=Unsupported("hologram", "neither text nor media")),),
    ),
    "media promised and missing": (
        received(SHORT | {"Body": "", "NumMedia": "1"}),
        (message(kind="unsupported", content=Unsupported("empty", "neither text nor media")),),
    ),
    "bytes that are no text": (received(urlencode(SHORT).encode() + b"&Body=a%ff"), (message(text="a�"),)),
    "a NUL": (received(urlencode(SHORT).encode() + b"&Body=a%00b"), (message(text="ab"),)),
    "a keyword that Twilio recognised": (
        received(fields("stop")),
        (
            message(id=SM3, text="Arrêt", flags=("answered_by_platform",)),
            ConsentChange(
                id=f"{SM3}:STOP", at=NOW, routing_key=f"{AC}:{OURS}", channel="sms", path="$", person=Person((ANN,)),
                state="opted_out", source="platform",
            ),
        ),
    ),
    "a keyword that lifts the block": (
        received(fields("stop", Body="start", OptOutType="start")),
        (
            message(id=SM3, text="start", flags=("answered_by_platform",)),
            ConsentChange(
                id=f"{SM3}:START", at=NOW, routing_key=f"{AC}:{OURS}", channel="sms", path="$", person=Person((ANN,)),
                state="opted_in", source="platform",
            ),
        ),
    ),
    "a cry for help": (
        received(fields("stop", Body="help", OptOutType="HELP")),
        (message(id=SM3, text="help", flags=("answered_by_platform",)),),
    ),
    "a bare STOP is judged by the core": (received(HELLO | {"Body": "STOP"}), (message(text="STOP"),)),
    "a short code": (
        received(HELLO | {"From": "24273"}),
        (message(text="Hello", sender=Person((Address("sms", "short_code", "24273"),)), automatic="generated"),),
    ),
    "a sender's name": (
        received(HELLO | {"From": "ACME Bank"}),
        (
            message(
                text="Hello",
                sender=Person((Address("sms", "sender_name", "ACME Bank", "account", "claimed"),)),
                automatic="generated",
            ),
        ),
    ),
    "a national number": (
        received(HELLO | {"From": "030 901820"}, msgspec.structs.replace(ACCOUNT, region="DE")),
        (message(text="Hello", sender=Person((Address("sms", "phone", "+4930901820", "everywhere"),))),),
    ),
    "one number of ours to another": (
        received(HELLO | {"From": OURS, "To": POOLED}),
        (ignored("echo: sent by a number of ours", routing_key=f"{AC}:{POOLED}"),),
    ),
    "RCS": (
        received(HELLO | {"From": f"rcs:{CUSTOMER}", "To": "rcs:brand"}),
        (ignored("channel 'rcs'", routing_key=f"{AC}:rcs:brand"),),
    ),
    "delivered, with our id": (
        received(fields("delivered"), query={"mid": "m-1"}),
        (update("delivered", "delivered", ours="m-1"),),
    ),
    "not delivered, through a service": (
        received(fields("undelivered"), SERVICE),
        (
            update(
                "undelivered",
                "failed",
                routing_key=f"{AC}:{MG}",
                error=PlatformError("30005", "Unknown destination handset"),
            ),
        ),
    ),
    "a receipt by RCS for a message of ours": (
        received(STATUS | {"MessageStatus": "read", "To": f"rcs:{CUSTOMER}", "From": "rcs:a"}, query={"mid": "m-1"}),
        (update("read", "read", ours="m-1"),),
    ),
    "a receipt of another channel": (
        received(STATUS | {"MessageStatus": "read", "To": f"messenger:{CUSTOMER}"}),
        (ignored("channel 'messenger'", f"{SM4}:read", routing_key=""),),
    ),
    "a canceled message": (
        received(STATUS | {"MessageStatus": "canceled", "ErrorCode": "0"}, query={"mid": "m-1"}),
        (update("canceled", "failed", ours="m-1", error=PlatformError("canceled")),),
    ),
    "a status nobody knows": (
        received(STATUS | {"MessageStatus": "teleported"}),
        (ignored("message status 'teleported'", f"{SM4}:teleported"),),
    ),
    "a call": (
        received(b"CallSid=CA1&CallStatus=ringing"),
        (
            ignored(
                "event 'ringing'",
                hashlib.sha256(b"CallSid=CA1&CallStatus=ringing").hexdigest()[:32],
                routing_key="",
                channel="",
            ),
        ),
    ),
    "an event stream": (
        received((PAYLOADS / "event_stream.json").read_bytes(), content_type="application/json"),
        (
            ignored(
                f"event 'com.twilio.messaging.message.delivered' of {SM4}", f"EZ{1:032}", routing_key="", channel="",
                path="$[0]",
            ),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("delivery", "events"), INBOUND.values(), ids=INBOUND)
def test_inbound(delivery: Received, events: tuple[Event, ...]) -> None:
    assert normalize(delivery) == events


STATUSES = {
    "accepted": "queued", "scheduled": "queued", "queued": "queued", "sending": "queued", "sent": "sent",
    "partially_delivered": "sent", "delivered": "delivered", "read": "read", "undelivered": "failed",
    "failed": "failed", "canceled": "failed",
}  # fmt: skip


@pytest.mark.parametrize(("word", "status"), STATUSES.items())
def test_statuses(word: str, status: str) -> None:
    (event,) = normalize(received(STATUS | {"MessageStatus": word}))
    assert isinstance(event, DeliveryUpdate)
    assert (event.id, event.status, event.routing_key) == (f"{SM4}:{word}", status, f"{AC}:{OURS}")


BROKEN = {  # name of the case -> (body, path, problem)
    "no sender": (urlencode({**HELLO, "From": ""}).encode(), "$.From", "missing"),
    "no id": (b"Body=Hello&From=%2B15550100001", "$.MessageSid", "missing"),
    "a status without an id": (b"MessageStatus=sent", "$.MessageSid", "missing"),
    "not a form": (b"hello", "$", "not a form"),
    "not UTF-8": (b"\xff=1", "$", "not a form"),
}


@pytest.mark.parametrize(("body", "path", "problem"), BROKEN.values(), ids=BROKEN)
def test_broken(body: bytes, path: str, problem: str) -> None:
    (event,) = normalize(received(body))
    assert isinstance(event, Unreadable)
    assert (event.path, event.problem) == (path, problem)


PHONES = {  # (as given, region) -> as we know it
    ("+15550199999", ""): "+15550199999",
    ("+1 (555) 019-9999", ""): "+15550199999",
    ("030 901820", "DE"): "+4930901820",
    ("030 901820", ""): "030 901820",
    ("24273", "US"): "24273",
    ("ACME", "US"): "ACME",
    ("", "US"): "",
    ("+" + "9" * 5000, ""): "+" + "9" * 5000,
}


@pytest.mark.parametrize(("given_as", "known_as"), PHONES.items())
def test_phones(given_as: tuple[str, str], known_as: str) -> None:
    assert phone(*given_as) == known_as


FIELD = st.sampled_from([*fields("sms"), *fields("mms"), *fields("delivered"), "OptOutType", "EventType"]) | st.text()
WORD = st.sampled_from([OURS, CUSTOMER, "whatsapp:+1", "STOP", "sent", "1", "-1", "9" * 30, ""]) | st.text()


@given(st.dictionaries(FIELD, WORD, max_size=12))
def test_property_any_form_gives_events(form: dict[str, str]) -> None:
    delivery = received(urlencode(form, errors="surrogatepass").encode())
    events = normalize(delivery)
    assert events == normalize(delivery)
    assert len(events) >= 1
    assert msgspec.json.encode(events)


@given(st.binary() | st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode()))
def test_property_any_bytes_give_events(body: bytes) -> None:
    for declared in ("application/json", "application/x-www-form-urlencoded", "", "\udcff"):
        assert len(normalize(received(body, content_type=declared))) >= 1


# --- what proves it ---------------------------------------------------------------------------------------------------


def signed(
    body: bytes, *, path: str = "/webhooks/sms-main", token: str = TOKEN, as_json: bool = False, url: str = ""
) -> Callback:
    """A callback as Twilio sends it: a form signed by its fields, anything else by its hash in the query."""
    params: MultiDict[str] = MultiDict()
    if as_json:
        path += f"{'&' if '?' in path else '?'}bodySHA256={hashlib.sha256(body).hexdigest()}"
    else:
        params = MultiDict(parse_qsl(body.decode(), keep_blank_values=True))
    signature = RequestValidator(token).compute_signature((url or PUBLIC) + path, params)
    declared = "application/json" if as_json else "application/x-www-form-urlencoded; charset=UTF-8"
    return Callback(
        "POST",
        PUBLIC + path,
        path,
        dict(parse_qsl(urlsplit(path).query, keep_blank_values=True)),
        {"content-type": (declared,), "x-twilio-signature": (signature,)},
        body,
    )


def sign(body: bytes) -> Callback:
    return signed(body, as_json=body[:1] in (b"{", b"[", b"\xff"))


def adapter_with(http: Http | None = None, **changes: Any) -> SmsAdapter:
    values = {"account_sid": AC, "auth_token": (Secret(TOKEN), Secret(OLD_TOKEN)), "number": OURS} | changes
    return SmsAdapter(Account("sms-main", "sms"), Settings(**values), http)  # type: ignore[arg-type]


FORM = urlencode(fields("sms")).encode()
JSON = (PAYLOADS / "event_stream.json").read_bytes()
GENUINE = {  # name of the case -> callback
    "a form": signed(FORM),
    "a form with blanks at the ends": signed(b"Body=+a+&From=&X=%20"),
    "repeated names": signed(b"A=2&A=1&A=1&B=&B=x"),
    "an older token": signed(FORM, token=OLD_TOKEN),
    "a query with our id": signed(FORM, path="/webhooks/sms-main?mid=019a%2Cx&b=%20+"),
    "with the port though it is the usual one": signed(FORM, url=f"{PUBLIC}:443"),
    "a field nobody knows": signed(FORM + b"&AddOns=%7B%22status%22%3A%22successful%22%7D"),
    "JSON": signed(JSON, as_json=True),
    "JSON that is not UTF-8": signed(b'{"a":"\xff"}', as_json=True),
    "no body": signed(b""),
}


@pytest.mark.parametrize("callback", GENUINE.values(), ids=GENUINE)
def test_genuine(callback: Callback) -> None:
    adapter_with().verify(callback)


def changed(callback: Callback, signature: str | None = None, **changes: Any) -> Callback:
    headers = dict(callback.headers)
    if signature is not None:
        headers["x-twilio-signature"] = (signature,) if signature else ()
    headers |= changes.pop("headers", {})
    return replace(callback, headers=headers, **changes)


FORM_TYPE = {"content-type": ("application/x-www-form-urlencoded",)}
JSON_TYPE = {"content-type": ("application/json",)}
FORGED = {  # name of the case -> callback
    "another body": changed(signed(FORM), body=FORM.replace(b"Hello", b"Bye")),
    "a field more": changed(signed(FORM), body=FORM + b"&A="),
    "no fields at all": changed(signed(FORM), body=b""),
    "another query": changed(signed(FORM), url=f"{PUBLIC}/webhooks/sms-main?mid=x"),
    "another path": changed(signed(FORM), url=f"{PUBLIC}/webhooks/other"),
    "another token": signed(FORM, token="guess"),
    "no signature": changed(signed(FORM), signature=""),
    "an empty signature": changed(signed(FORM), headers={"x-twilio-signature": ("",)}),
    "two signatures": changed(signed(FORM), headers={"x-twilio-signature": ("a", "b")}),
    "a signature that is not ASCII": changed(signed(FORM), signature="é" * 28),
    "half a surrogate for a signature": changed(signed(FORM), signature="\ud800" * 28),
    "a short signature": changed(signed(FORM), signature="x"),
    "other JSON": changed(signed(JSON, as_json=True), body=JSON + b" "),
    "other JSON called a form": changed(signed(JSON, as_json=True), body=b"Body=Hi", headers=FORM_TYPE),
    "no JSON, called an empty form": changed(signed(JSON, as_json=True), body=b"", headers=FORM_TYPE),
    "JSON without its hash": changed(signed(b""), body=JSON, headers=JSON_TYPE),
    "JSON by a form's signature": changed(signed(FORM), headers=JSON_TYPE),
    "a hash that is not ASCII": changed(signed(JSON, as_json=True), query={"bodySHA256": "é" * 64}),
    "a form that is not UTF-8": changed(signed(FORM), body=b"\xff\xfe=1"),
    "a form with too many fields": changed(signed(FORM), body=b"a=1&" * 2000),
    "a shared key nobody has": changed(
        signed(FORM), headers={"x-twilio-webhooks-signature-settings": ("key=k,algorithm=HMAC_SHA256",)}
    ),
    "an address that is none": changed(signed(FORM), url="https://[::1/x"),
    "an address with half a surrogate": changed(signed(FORM), url=f"{PUBLIC}/\ud800"),
}


@pytest.mark.parametrize("callback", FORGED.values(), ids=FORGED)
def test_forged(callback: Callback) -> None:
    with pytest.raises(VerificationError):
        adapter_with().verify(callback)


def test_the_official_validator_agrees_on_json() -> None:
    callback = signed(JSON, as_json=True)
    assert RequestValidator(TOKEN).validate(callback.url, JSON.decode(), callback.header("x-twilio-signature"))


@given(st.binary(max_size=200), st.text(max_size=40), st.sampled_from([FORM_TYPE, JSON_TYPE, {"content-type": ("",)}]))
def test_property_no_bytes_crash_the_check(body: bytes, signature: str, declared: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(VerificationError):
        adapter_with().verify(changed(signed(FORM), signature=signature, body=body, headers=declared))


MALFORMED = {"not a form": signed(b"hello"), "not JSON": signed(b"{", as_json=True), "bytes": sign(b"\xff{not at all")}


@pytest.mark.parametrize("callback", MALFORMED.values(), ids=MALFORMED)
def test_malformed(callback: Callback) -> None:
    adapter = adapter_with()
    adapter.verify(callback)
    with pytest.raises(MalformedBody):
        adapter.well_formed(callback)


def test_well_formed_and_acknowledged() -> None:
    for callback in GENUINE.values():
        if b"\xff" not in callback.body:
            adapter_with().well_formed(callback)
    answer = adapter_with().acknowledge(signed(FORM))
    assert answer == Answer(200, b'<?xml version="1.0" encoding="UTF-8"?><Response/>', "text/xml")


# --- settings ---------------------------------------------------------------------------------------------------------

REFUSED_SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "neither number nor service": ({"number": ""}, "number: missing"),
    "a number without its country": ({"number": "555 019 99 99"}, r"number: must begin with \+"),
    "no token": ({"auth_token": ()}, "auth_token: missing"),
}


@pytest.mark.parametrize(("changes", "problem"), REFUSED_SETTINGS.values(), ids=REFUSED_SETTINGS)
def test_refused_settings(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        adapter_with(**changes)


def test_an_account_knows_its_number_and_its_keys() -> None:
    adapter = adapter_with(number="+1 (555) 019-9999", messaging_service_sid=MG)
    assert adapter.account.own_addresses == {OURS}
    assert adapter.routing_keys() == {f"{AC}:{OURS}", f"{AC}:{MG}"}
    assert adapter_with(number="", messaging_service_sid=MG).routing_keys() == {f"{AC}:{MG}"}
    assert TOKEN not in repr(adapter)


# --- what goes out ----------------------------------------------------------------------------------------------------

CALLBACK = f"{PUBLIC}/webhooks/sms-main?mid=m-1"
HI = OutboundMessage(
    id="m-1", key="k-1", account="sms-main", channel="sms", to=(ANN,), text="Hi", callback_url=CALLBACK
)
PHOTO = OutboundFile(kind="image", media_type="image/png", filename="a.png", size=3, url="https://gw.example/f/1")
NUMBER = Settings(AC, (Secret(TOKEN),), OURS)
ABROAD = Address("sms", "phone", "+491701234567", "everywhere")

FORMS: dict[str, tuple[OutboundMessage, Settings, list[tuple[str, str]]]] = {
    "a text": (HI, NUMBER, [("To", CUSTOMER), ("From", OURS), ("Body", "Hi"), ("StatusCallback", CALLBACK)]),
    "through a service": (
        HI,
        Settings(AC, (Secret(TOKEN),), messaging_service_sid=MG),
        [("To", CUSTOMER), ("MessagingServiceSid", MG), ("Body", "Hi"), ("StatusCallback", CALLBACK)],
    ),
    "a sender of a pool": (
        HI,
        Settings(AC, (Secret(TOKEN),), OURS, MG),
        [("To", CUSTOMER), ("From", OURS), ("MessagingServiceSid", MG), ("Body", "Hi"), ("StatusCallback", CALLBACK)],
    ),
    "a picture alone": (
        msgspec.structs.replace(HI, text="", file=PHOTO, callback_url=""),
        NUMBER,
        [("To", CUSTOMER), ("From", OURS), ("MediaUrl", "https://gw.example/f/1")],
    ),
    "two pictures with words": (
        msgspec.structs.replace(HI, files=(PHOTO, PHOTO), callback_url=""),
        NUMBER,
        [("To", CUSTOMER), ("From", OURS), ("Body", "Hi"), *[("MediaUrl", "https://gw.example/f/1")] * 2],
    ),
    "from the number of the pool that was written to": (
        msgspec.structs.replace(HI, own_address=POOLED, callback_url=""),
        Settings(AC, (Secret(TOKEN),), messaging_service_sid=MG),
        [("To", CUSTOMER), ("From", POOLED), ("MessagingServiceSid", MG), ("Body", "Hi")],
    ),
    "an own number before that of the ticket": (
        msgspec.structs.replace(HI, own_address=POOLED, callback_url=""),
        NUMBER,
        [("To", CUSTOMER), ("From", OURS), ("Body", "Hi")],
    ),
    "a picture where there is no MMS": (
        msgspec.structs.replace(HI, to=(ABROAD,), files=(PHOTO, PHOTO), callback_url=""),
        NUMBER,
        [("To", ABROAD.value), ("From", OURS), ("Body", "Hi\nhttps://gw.example/f/1\nhttps://gw.example/f/1")],
    ),
    "a picture alone where there is no MMS": (
        msgspec.structs.replace(HI, to=(ABROAD,), text="", file=PHOTO, callback_url=""),
        NUMBER,
        [("To", ABROAD.value), ("From", OURS), ("Body", "https://gw.example/f/1")],
    ),
    "to a short code": (
        msgspec.structs.replace(HI, to=(Address("sms", "short_code", "24273"),), callback_url=""),
        NUMBER,
        [("To", "24273"), ("From", OURS), ("Body", "Hi")],
    ),
    "from a name, abroad": (
        msgspec.structs.replace(HI, to=(ABROAD,), callback_url=""),
        Settings(AC, (Secret(TOKEN),), "ACME"),
        [("To", ABROAD.value), ("From", "ACME"), ("Body", "Hi")],
    ),
    "with smart encoding": (
        msgspec.structs.replace(HI, callback_url=""),
        Settings(AC, (Secret(TOKEN),), OURS, smart_encoding=True),
        [("To", CUSTOMER), ("From", OURS), ("Body", "Hi"), ("SmartEncoded", "true")],
    ),
    "a text is composed": (
        msgspec.structs.replace(HI, text="e\u0301", callback_url=""),
        NUMBER,
        [("To", CUSTOMER), ("From", OURS), ("Body", "é")],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("outbound", "settings", "form"), FORMS.values(), ids=FORMS)
def test_forms(outbound: OutboundMessage, settings: Settings, form: list[tuple[str, str]]) -> None:
    assert list(form_for(outbound, settings)) == form


IMPOSSIBLE: dict[str, tuple[dict[str, Any], str, str]] = {  # name -> (change, class, code)
    "nobody to send to": ({"to": (Address("sms", "sender_name", "ACME"),)}, "bad-recipient", "no-phone"),
    "nothing to send": ({"text": ""}, "permanent", "empty"),
    "a template": ({"text": "", "template": Template("hello")}, "permanent", "content"),
    "a place": ({"content": Location(52.5, 13.4)}, "permanent", "content"),
    "links that do not fit": (
        {"to": (ABROAD,), "text": "a" * 1590, "file": PHOTO}, "permanent", "links-too-long",
    ),
    "a file nobody can fetch": (
        {"file": msgspec.structs.replace(PHOTO, url="")}, "permanent", "no-media-address",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "error_class", "code"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_impossible(changes: dict[str, Any], error_class: str, code: str) -> None:
    with pytest.raises(SendError) as caught:
        form_for(msgspec.structs.replace(HI, **changes), NUMBER)
    assert (caught.value.error_class, caught.value.code, caught.value.certain) == (error_class, code, True)


@asynccontextmanager
async def platform(*, allow_private: bool = False, **how: Any) -> AsyncIterator[tuple[TwilioSimulator, SmsAdapter]]:
    """A simulator, and the adapter of its account."""
    simulator = TwilioSimulator(account_sid=AC, auth_token=TOKEN, numbers=(OURS,), services={MG: (POOLED,)}, **how)
    session, media = new_session(), MediaClient(allow_private=allow_private)
    async with simulator, session:
        yield simulator, adapter_with(Http(session, [simulator.url], media, timeout_s=2.0), api_base=simulator.url)
        await media.aclose()


def test_a_name_may_not_be_the_sender_everywhere() -> None:
    with pytest.raises(SendError) as caught:
        form_for(HI, Settings(AC, (Secret(TOKEN),), "ACME"))
    assert (caught.value.error_class, caught.value.code) == ("permanent", "sender-name")


def test_with_advanced_opt_out_twilio_alone_knows_the_words() -> None:
    settings = Settings(AC, (Secret(TOKEN),), messaging_service_sid=MG, advanced_opt_out=True)
    assert channel_for(settings).keywords.stop == frozenset()
    assert {"stop", "arrêt", "stopp", "alto"} <= channel_for(NUMBER).keywords.stop
    with pytest.raises(ValueError, match=r"^advanced_opt_out: "):
        Settings(AC, (Secret(TOKEN),), OURS, advanced_opt_out=True)


@pytest.mark.parametrize(
    ("sender", "per_second"), [(OURS, 1.0), ("+18885550199", 3.0), ("24273", 10.0), ("ACME", 10.0)]
)
def test_the_sender_decides_the_pace(sender: str, per_second: float) -> None:
    channel = adapter_with(number=sender).channels[0]
    assert (channel.pace.per_second, channel.pace.unit) == (per_second, "segment")


class Quick(SmsAdapter):
    media_delays_s = (0.01, 0.02)


async def test_a_text_is_sent_once() -> None:
    async with platform() as (simulator, adapter):
        sent = await adapter.send(msgspec.structs.replace(HI, callback_url=""))
        assert list(simulator.messages) == [sent.external_id]
        assert [(send.to, send.payload.body) for send in simulator.sends] == [(CUSTOMER, "Hi")]


async def test_a_probe_reads_the_account() -> None:
    async with platform() as (simulator, adapter):
        await adapter.probe()
        simulator.auth_token = "changed"
        with pytest.raises(SendError) as caught:
            await adapter.probe()
    assert (caught.value.error_class, caught.value.code, caught.value.pause) == ("auth", "20003", "account")
    assert TOKEN not in str(caught.value)


REFUSALS: dict[str, tuple[dict[str, Any], str, str]] = {  # name -> (change, class, code)
    "no phone number": ({"to": (Address("sms", "phone", "+1"),)}, "bad-recipient", "21211"),
    "a text that is too long": ({"text": "a" * 1601}, "permanent", "21617"),
    "a callback's host with an underscore": ({"callback_url": "https://a_b/x"}, "permanent", "21609"),
    "a person who has opted out": ({"to": (Address("sms", "phone", "+15550100002"),)}, "opted-out", "21610"),
}


@pytest.mark.parametrize(("changes", "error_class", "code"), REFUSALS.values(), ids=REFUSALS)
async def test_refusals(changes: dict[str, Any], error_class: str, code: str) -> None:
    async with platform() as (simulator, adapter):
        simulator.opted_out.add((OURS, "+15550100002"))
        with pytest.raises(SendError) as caught:
            await adapter.send(msgspec.structs.replace(HI, **changes))
    assert (caught.value.error_class, caught.value.code, caught.value.certain) == (error_class, code, True)


FAULTS: dict[str, tuple[type[SendError], int]] = {  # fault -> (error, messages the platform took)
    "429": (Throttled, 0),
    "500": (Ambiguous, 0),
    "500_after_accept": (Ambiguous, 1),
    "reset": (Ambiguous, 0),
    "reset_after_accept": (Ambiguous, 1),
    "garbage": (Ambiguous, 1),
    "half": (Ambiguous, 1),
}


@pytest.mark.parametrize(("fault", "expected"), FAULTS.items(), ids=FAULTS)
async def test_faults(fault: Any, expected: tuple[type[SendError], int]) -> None:
    error, taken = expected
    async with platform() as (simulator, adapter):
        simulator.fail_next(fault)
        with pytest.raises(error):
            await adapter.send(msgspec.structs.replace(HI, callback_url=""))
        assert (simulator.calls, len(simulator.sends)) == (1, taken)


def as_callback(webhook: Webhook) -> Callback:
    """The simulator's POST as our web server would see it."""
    parts = urlsplit(webhook.url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    headers = {name.lower(): (value,) for name, value in webhook.headers.items()}
    return Callback("POST", webhook.url, target, dict(parse_qsl(parts.query)), headers, webhook.body)


async def test_what_the_platform_posts_is_genuine_and_read() -> None:
    nobody = "http://127.0.0.1:1/webhooks/sms-main"  # what is posted is kept, whoever answers
    async with platform(webhook_url=nobody) as (simulator, adapter):
        simulator.failures[CUSTOMER] = 30003
        sent = await adapter.send(msgspec.structs.replace(HI, callback_url=f"{nobody}?mid=m-1"))
        await simulator.settled()
        written = await simulator.customer_writes("Grüße 🙂", media=[("image/png", b"picture")])
        events: list[Event] = []
        for webhook, _ in simulator.posted:
            callback = as_callback(webhook)
            adapter.verify(callback)
            adapter.well_formed(callback)
            headers = {name: values[0] for name, values in callback.headers.items()}
            events += adapter.normalize(Received(callback.body, headers, callback.query, NOW, adapter.account))
    updates = [event for event in events if isinstance(event, DeliveryUpdate)]
    assert [(event.status, event.ours, event.target) for event in updates] == [
        ("queued", "m-1", sent.external_id),
        ("sent", "m-1", sent.external_id),
        ("failed", "m-1", sent.external_id),
    ]
    assert updates[-1].error == PlatformError("30003")
    (inbound,) = (event for event in events if isinstance(event, InboundMessage))
    assert (inbound.id, inbound.kind, inbound.text, len(inbound.attachments)) == (written, "image", "Grüße 🙂", 1)
    assert {event.routing_key for event in events} <= adapter.routing_keys() | {""}


# --- files ------------------------------------------------------------------------------------------------------------


def fetching(adapter: SmsAdapter) -> Quick:
    return Quick(adapter.account, adapter._settings, adapter._api._http)


async def read(adapter: SmsAdapter, url: str) -> bytes:
    return b"".join([chunk async for chunk in fetching(adapter).fetch(Attachment(kind="image", ref=url), b"")])


async def test_a_file_is_fetched_across_the_redirect() -> None:
    async with platform(allow_private=True, separate_cdn=True) as (simulator, adapter):
        simulator.media_missing = 2
        url = simulator._keep(MM2, "image/png", b"picture")
        assert await read(adapter, url) == b"picture"  # the storage refuses a credential, so none was sent


async def test_a_file_that_stays_away_may_come_later() -> None:
    async with platform() as (simulator, adapter):
        simulator.media_missing = 3
        with pytest.raises(MediaError, match="status 404") as caught:
            await read(adapter, simulator._keep(MM2, "image/png", b"picture"))
        assert caught.value.retryable


@pytest.mark.parametrize(
    "path",
    [
        f"/2010-04-01/Accounts/AC2/Messages/{MM2}/Media/ME1",
        f"/2010-04-01/Accounts/{AC}/Messages/{MM2}/Media/../../Media/ME1",
        f"/2010-04-01/Accounts/{AC}.json",
        quote(f"/2010-04-01/Accounts/{AC}/Messages/x/Media/ME1/"),
    ],
)
async def test_no_credential_leaves_for_anything_but_our_media(path: str) -> None:
    async with platform() as (simulator, adapter):
        with pytest.raises(MediaError, match=r"status 40[14]"):
            await read(adapter, simulator.url + path)


async def test_a_file_elsewhere_is_guarded() -> None:
    async with platform() as (simulator, adapter):
        for url in ("https://127.0.0.1/x", "http://example.com/x", "not an address", "https://[/"):
            with pytest.raises(MediaError, match="blocked"):
                await read(adapter, url)
        assert simulator.calls == 0


# --- the channel's data -----------------------------------------------------------------------------------------------

CLASSES = {  # class -> codes, from Twilio's error dictionary
    "throttle": "20429 21611 30001 30022 30023 30025 30026 30027 30450 63017 63018 63026 63038 14107",
    "retry": "20500 20503 30003 30017 30047 63009 63010 63012",
    "auth": "20003 20005 20006 10001 30002 30018 30032 30034 63001 63002 63007 63008 63020 63022",
    "bad-recipient": (
        "21211 21604 21217 21401 30014 21612 21614 21635 30006 30004 30005 63003 63015 63024 63031 63032"
    ),
    "opted-out": "21610 30640 63014 63033",
    "window-closed": "63016 30610",
    "policy": "30007",
    "permanent": (
        "20404 21701 21703 21704 21705 21212 21603 21606 21601 21616 21659 30024 21408 21608 21219 21602 21617 21618"
        " 21609 21205 21624 21620 21623 11751 30011 30019 21621 21622 63019 35114 35118 30010 30012 30013 30008 63005"
        " 63013 63021 63006 63011 63027 63028 63029 63030 63034 63037 63040 63041 21656 11200"
        " 11205 11220 12100 12300 57012 30009"
    ),
}


def test_every_code_has_its_class() -> None:
    expected = {code: error_class for error_class, codes in CLASSES.items() for code in codes.split()}
    assert {code: rule.error_class for code, rule in CHANNEL.errors.items()} == expected


def test_only_a_dead_token_pauses_the_account() -> None:
    assert [code for code, rule in CHANNEL.errors.items() if rule.pause == "account"] == ["20003"]


def test_only_what_was_not_handed_on_is_sent_again() -> None:
    safe = {code for code, rule in CHANNEL.errors.items() if rule.resend_safe}
    assert " ".join(sorted(safe)) == "30001 30003 30017 30022 30023 30027 30047 30450 63017 63018 63038"


# --- the contract -----------------------------------------------------------------------------------------------------

CASE = AdapterCase(
    adapter=SmsAdapter,
    settings={"account_sid": AC, "auth_token": TOKEN, "number": OURS, "api_base": "{base}"},
    message=FORM,
    unknown_kind=urlencode(SHORT | {"MessageType": "hologram"}).encode(),
    unknown_event=b"EventType=onConversationAdded&ConversationSid=CH1&AccountSid=" + AC.encode(),
    echo=urlencode(HELLO | {"From": OURS, "To": POOLED}).encode(),
    sign=sign,
    headers={"content-type": "application/x-www-form-urlencoded"},
    outbound=HI,
    success=json.dumps({"sid": SM4, "status": "queued", "error_code": None}).encode(),
    success_status=201,
    external_id=SM4,
    error_body=lambda status: json.dumps(
        {"code": {401: 20003, 429: 20429}.get(status, 20500 if status >= 500 else 21617), "status": status}
    ).encode(),
    secrets=(TOKEN,),
    account=ACCOUNT,
)


# --- what became of a send whose answer was lost ----------------------------------------------------------------------


async def lost(adapter: SmsAdapter, simulator: TwilioSimulator, fault: Any, **changes: Any) -> OutboundMessage:
    message = msgspec.structs.replace(HI, callback_url="", **changes)
    simulator.fail_next(fault)
    with pytest.raises(Ambiguous):
        await adapter.send(message)
    return message


async def test_a_lost_answer_is_found_in_the_list() -> None:
    async with platform() as (simulator, adapter):
        message = await lost(adapter, simulator, "reset_after_accept")
        (sid,) = simulator.messages
        found = await adapter.find(message)
        assert found is not None
        assert (found.external_id, simulator.calls) == (sid, 1)


async def test_a_message_whose_answer_came_is_no_other() -> None:
    async with platform() as (simulator, adapter):
        before = await adapter.send(msgspec.structs.replace(HI, id="m-0", callback_url=""))
        message = await lost(adapter, simulator, "reset_after_accept")
        found = await adapter.find(message)
        assert found is not None
        assert found.external_id == list(simulator.messages)[-1] != before.external_id


UNSAID: dict[str, tuple[str, str, str]] = {  # name -> (fault, what to change of the platform, code)
    "not there yet": ("reset", "", "not-listed"),
    "two alike": ("reset_after_accept", "twice", "not-alone"),
    "other words": ("reset", "other", "not-alone"),
}


@pytest.mark.parametrize(("fault", "change", "code"), UNSAID.values(), ids=UNSAID)
async def test_what_the_list_does_not_tell_is_not_said(fault: str, change: str, code: str) -> None:
    async with platform() as (simulator, adapter):
        message = await lost(adapter, simulator, fault)
        another = adapter_with(adapter._api._http, api_base=simulator.url)  # another system of the same account
        if change:
            await another.send(msgspec.structs.replace(message, text=message.text if change == "twice" else "Bye"))
        with pytest.raises(SendError) as caught:
            await adapter.find(message)
        assert (caught.value.code, caught.value.error_class) == (code, "unknown")
        with pytest.raises(SendError, match="not-remembered"):
            await another.find(message)


async def test_what_is_not_listed_for_long_was_never_taken() -> None:
    async with platform() as (simulator, adapter):
        message = await lost(adapter, simulator, "reset")
        adapter._api._attempts._clock = lambda: datetime.now(UTC) + timedelta(minutes=6)
        assert await adapter.find(message) is None
