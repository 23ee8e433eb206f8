"""LINE: webhook bodies to events, messages to request bodies, answers to outcomes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import RSAAlgorithm

from adapters import Ambiguous, Callback, Http, HttpAnswer, SendError, VerificationError
from adapters._http import new_session
from adapters._line_body import objects_for, recipient_of
from adapters._line_facts import CHANNEL, ERRORS
from adapters._media import MediaClient
from adapters.line import LineAdapter, Settings, read_answer
from adapters.testing import AdapterCase
from config.secret import Secret
from config.settings import ConfigError, parse
from normalizers._fields import digest
from normalizers.line import normalize
from normalizers.model import (
    Account,
    AccountEvent,
    Address,
    Attachment,
    ConsentChange,
    Context,
    DeliveryUpdate,
    Engagement,
    Event,
    Ignored,
    InboundMessage,
    Interactive,
    Location,
    MessageDeleted,
    MessageEdited,
    Order,
    OutboundFile,
    OutboundMessage,
    Person,
    Received,
    Sticker,
    SystemNote,
    Template,
    Thread,
    ThreadControl,
    Unreadable,
    Unsupported,
)

PAYLOADS = Path(__file__).parent / "payloads" / "line"
BOT, SECRET, OLD_SECRET = (
    "U00112233445566778899aabbccddeeff",
    "0123456789abcdef0123456789abcdef",
    "older-channel-secret",
)
TOKEN = "line-token-canary"
USER, OTHER = "Uaaaabbbbccccddddeeeeffff00001111", "U22223333444455556666777788889999"
GROUP, ROOM = "Cffeeddccbbaa99887766554433221100", "Rffeeddccbbaa99887766554433221100"
EVENT = "01K7DEMO0000000000000000AB"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
AT = datetime(2025, 10, 9, 8, 53, 20, 123000, tzinfo=UTC)
MIKA = Person((Address("line", "user_id", USER),))
IN_GROUP, IN_ROOM = Thread(kind="group", key=GROUP), Thread(kind="group", key=ROOM)

ONE, MANY = {"type": "user", "userId": USER}, {"type": "group", "groupId": GROUP, "userId": USER}
HEAD = {
    "mode": "active", "timestamp": 1760000000123, "webhookEventId": EVENT, "deliveryContext": {"isRedelivery": False},
    "source": ONE,
}  # fmt: skip


def file(name: str) -> bytes:
    return (PAYLOADS / name).read_bytes()


def body(*events: Any, **envelope: Any) -> bytes:
    return json.dumps({"destination": BOT, "events": list(events)} | envelope).encode()


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return HEAD | {"type": kind} | fields


def came(kind: str, fields: Mapping[str, Any] | None = None, **more: Any) -> bytes:
    return body(event("message", message={"id": "7", "type": kind} | dict(fields or {}), **more))


def run(payload: bytes) -> tuple[Event, ...]:
    return normalize(Received(payload, {}, {}, NOW, Account("line", "line")))


PLACE: dict[str, Any] = {"id": EVENT, "at": AT, "routing_key": BOT, "channel": "line", "path": "$.events[0]"}


def message(sender: Person = MIKA, **fields: Any) -> InboundMessage:
    return InboundMessage(**{**PLACE, "id": "7", "sender": sender, **fields})


LINE_FILE = {"contentProvider": {"type": "line"}}
LIFF_FILE = {"contentProvider": {"type": "external", "originalContentUrl": "https://x.example/o.jpg",
                                 "previewImageUrl": "https://x.example/p.jpg"}}  # fmt: skip
MEMBERS = {"members": [{"type": "user", "userId": USER}, {"type": "user", "userId": OTHER}, {"type": "user"}]}
TOKEN_ONLY = Context(reply_token="t")

INBOUND: dict[str, tuple[bytes, tuple[Event, ...]]] = {
    "the first message": (
        file("first_message.json"),
        (message(id="700000000000000000", text="荷物はどこですか？ 🙏",
                 context=Context(reply_token="demo-reply-token-0", quote_token="demo-q0")),),
    ),
    "a group, with a quote, an emoji and a mention of us": (
        file("text_in_group.json"),
        (message(id="700000000000000001", text="@Shop order 42? (love)", thread=IN_GROUP, flags=("mentioned",),
                 context=Context(reply_to="699999999999999990", reply_token="demo-reply-token-1", quote_token="demo-q",
                                 metadata={"mark_as_read_token": "demo-read", "mentions": [BOT, "all"]})),),
    ),
    "a batch, one of it redelivered, with broken items": (
        file("batch.json"),
        (
            message(id="1", text="one", context=Context(reply_token="t1")),
            Unreadable(**PLACE | {"id": "01K7DEMO0000000000000000B2", "at": NOW, "path": "$.events[1].message.text"},
                       problem="missing"),
            Unreadable(**PLACE | {"id": digest(["no object"]), "at": NOW, "path": "$.events[2]"},
                       problem="not an object"),
            Unreadable(**PLACE | {"id": "01K7DEMO0000000000000000B4", "at": NOW, "path": "$.events[3].type"},
                       problem="missing"),
            message(Person((Address("line", "user_id", OTHER),)), id="5", text="five", path="$.events[4]",
                    at=AT.replace(microsecond=125000)),
        ),
    ),
    "a room": (
        came("text", {"text": "Hi"}, source={"type": "room", "roomId": ROOM, "userId": USER}),
        (message(text="Hi", thread=IN_ROOM),),
    ),
    "a group where LINE keeps back who wrote": (
        came("text", {"text": "Hi"}, source={"type": "group", "groupId": GROUP}),
        (message(Person((Address("line", "anonymous", "7", evidence="claimed"),)), text="Hi", thread=IN_GROUP),),
    ),
    "standby: kept, nothing to answer with": (
        came("text", {"text": "Hi"}, mode="standby", replyToken="t"),
        (message(text="Hi", flags=("standby",)), ThreadControl(**PLACE, person=MIKA, action="standby")),
    ),
    "no reply token": (came("text", {"text": ""}), (message(),)),
    "a picture": (
        came("image", LINE_FILE | {"quoteToken": "q", "imageSet": {"id": "s", "index": 1, "total": 2}}),
        (message(kind="image", attachments=(Attachment(kind="image", ref="7"),),
                 context=Context(quote_token="q", metadata={"image_set": {"id": "s", "index": 1, "total": 2}})),),
    ),
    "a picture kept elsewhere": (
        came("image", LIFF_FILE),
        (message(kind="image", attachments=(Attachment(kind="image", url="https://x.example/o.jpg"),)),),
    ),
    "a video": (
        came("video", LINE_FILE | {"duration": 3000}),
        (message(kind="video", attachments=(Attachment(kind="video", ref="7", duration_ms=3000),)),),
    ),
    "a voice message": (
        came("audio", LINE_FILE | {"duration": 900}),
        (message(kind="audio", attachments=(Attachment(kind="audio", ref="7", duration_ms=900),)),),
    ),
    "a document": (
        came("file", {"fileName": "請求書.pdf", "fileSize": 2138}),
        (message(kind="file", attachments=(Attachment(kind="file", filename="請求書.pdf", size=2138, ref="7"),)),),
    ),
    "a place": (
        came("location", {"title": "Shop", "address": "1-3 Kioicho", "latitude": 35.5, "longitude": 139.7}),
        (message(kind="location", text="Shop, 1-3 Kioicho", content=Location(35.5, 139.7, "Shop", "1-3 Kioicho")),),
    ),
    "a place without a name": (
        came("location", {"latitude": 35.5, "longitude": 139.7}),
        (message(kind="location", text="35.5, 139.7", content=Location(35.5, 139.7)),),
    ),
    "a sticker with words on it": (
        came("sticker", {"packageId": "1", "stickerId": "2", "stickerResourceType": "ANIMATION_SOUND",
                         "keywords": ["cony", 7, "sad"], "text": "sorry"}),
        (message(kind="sticker", text="sorry", content=Sticker("2", "1", True, ("cony", "sad"))),),
    ),
    "a kind nobody knows": (
        came("hologram", {"quoteToken": "q"}),
        (message(kind="unsupported", content=Unsupported("hologram"), context=Context(quote_token="q")),),
    ),
    "a postback": (
        body(event("postback", replyToken="t", postback={"data": "action=buy&id=1"})),
        (message(id=EVENT, kind="interactive", text="action=buy&id=1", context=TOKEN_ONLY,
                 content=Interactive("action=buy&id=1", type="postback")),),
    ),
    "a date picked, in standby": (
        body(event("postback", mode="standby", replyToken="t",
                   postback={"data": "d", "params": {"datetime": "2026-12-25T01:00"}})),
        (message(id=EVENT, kind="interactive", text="2026-12-25T01:00", flags=("standby",),
                 content=Interactive("d", type="postback", values={"datetime": "2026-12-25T01:00"})),
         ThreadControl(**PLACE, person=MIKA, action="standby")),
    ),
    "taken back": (
        body(event("unsend", unsend={"messageId": "6"}, source=MANY)),
        (MessageDeleted(**PLACE, target="6", sender=MIKA, thread=IN_GROUP),),
    ),
    "edited": (
        body(event("messageEdited", source=MANY, message={"id": "6", "type": "text", "text": "better"})),
        (MessageEdited(**PLACE, target="6", text="better", sender=MIKA, thread=IN_GROUP),),
    ),
    "added as a friend": (
        body(event("follow", replyToken="t", follow={"isUnblocked": False})),
        (ConsentChange(**PLACE, person=MIKA, state="unblocked", source="follow"),
         Engagement(**PLACE, person=MIKA, kind="follow", values={"is_unblocked": False}, context=TOKEN_ONLY)),
    ),
    "unblocked": (
        body(event("follow", follow={"isUnblocked": True})),
        (ConsentChange(**PLACE, person=MIKA, state="unblocked", source="follow"),
         Engagement(**PLACE, person=MIKA, kind="follow", values={"is_unblocked": True})),
    ),
    "blocked": (
        body(event("unfollow")), (ConsentChange(**PLACE, person=MIKA, state="blocked", source="unfollow"),),
    ),
    "added to a group": (
        body(event("join", replyToken="t", source={"type": "group", "groupId": GROUP})),
        (ConsentChange(**PLACE, person=None, state="unblocked", source="join", thread=IN_GROUP),
         Engagement(**PLACE, person=None, kind="join", thread=IN_GROUP, context=TOKEN_ONLY)),
    ),
    "removed from a room": (
        body(event("leave", source={"type": "room", "roomId": ROOM})),
        (ConsentChange(**PLACE, person=None, state="blocked", source="leave", thread=IN_ROOM),),
    ),
    "people joined": (
        body(event("memberJoined", replyToken="t", source={"type": "group", "groupId": GROUP}, joined=MEMBERS)),
        (message(id=EVENT, kind="system", text="3 people joined the group", automatic="generated", opens_window=False,
                 content=SystemNote("member_joined", {"members": [USER, OTHER]}), thread=IN_GROUP,
                 context=TOKEN_ONLY),),
    ),
    "somebody left": (
        body(event("memberLeft", source={"type": "group", "groupId": GROUP},
                   left={"members": [{"type": "user", "userId": USER}]})),
        (message(id=EVENT, kind="system", text="left the group", automatic="generated", opens_window=False,
                 content=SystemNote("member_left", {"members": [USER]}), thread=IN_GROUP),),
    ),
    "our video was watched": (
        body(event("videoPlayComplete", replyToken="t", videoPlayComplete={"trackingId": "outbox-42"})),
        (DeliveryUpdate(**PLACE, status="read", ours="outbox-42", recipient=MIKA.addresses[0]),),
    ),
    "a beacon": (
        body(event("beacon", replyToken="t", beacon={"hwid": "d41d8cd98f", "type": "enter", "dm": "00"})),
        (Engagement(**PLACE, person=MIKA, kind="beacon", context=TOKEN_ONLY,
                    values={"hwid": "d41d8cd98f", "type": "enter", "dm": "00"}),),
    ),
    "an account linked": (
        body(event("accountLink", link={"result": "ok", "nonce": "n"})),
        (Engagement(**PLACE, person=MIKA, kind="account_link", values={"result": "ok", "nonce": "n"}),),
    ),
    "a membership": (
        body(event("membership", membership={"type": "joined", "membershipId": 3189})),
        (Engagement(**PLACE, person=MIKA, kind="membership", values={"type": "joined", "membershipId": 3189}),),
    ),
    "a module detached": (
        body(event("module", module={"type": "detached", "botId": BOT, "reason": "bot_deleted"})),
        (AccountEvent(**PLACE, kind="module", alarming=True,
                      values={"type": "detached", "botId": BOT, "reason": "bot_deleted"}),),
    ),
    "the account suspended": (
        body(event("botSuspended", source=None)), (AccountEvent(**PLACE, kind="bot_suspended", alarming=True),),
    ),
    "the account resumed": (body(event("botResumed")), (AccountEvent(**PLACE, kind="bot_resumed"),)),
    "handed over to us": (
        body(event("activated", chatControl={"expireAt": 1760000600000})),
        (ThreadControl(**PLACE, person=MIKA, action="pass"),),
    ),
    "taken from us": (
        body(event("deactivated", source=MANY)),
        (ThreadControl(**PLACE, person=MIKA, action="take", thread=IN_GROUP),),
    ),
    "a notification message delivered": (
        body(event("delivery", delivery={"data": "x"})), (Ignored(**PLACE, reason="event 'delivery'"),),
    ),
    "an event nobody knows": (body(event("surprise")), (Ignored(**PLACE, reason="event 'surprise'"),)),
    "an event the console invents": (
        came("text", {"text": "Hello, world"}, replyToken="0" * 32),
        (Ignored(**PLACE, reason="a test event of the console"),),
    ),
    "no events: the console verifies": (
        body(),
        (Ignored(id=digest(body()), at=NOW, routing_key=BOT, channel="line", path="$", reason="no events"),),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("payload", "events"), INBOUND.values(), ids=INBOUND)
def test_inbound(payload: bytes, events: tuple[Event, ...]) -> None:
    assert run(payload) == events


BROKEN = {
    "no message": (event("message"), ".message"),
    "no message id": (event("message", message={"type": "text", "text": "x"}), ".message.id"),
    "no source": (event("message", source=None, message={"id": "7", "type": "text", "text": "x"}), ".source"),
    "a source nobody knows": (event("unfollow", source={"type": "square"}), ".source.type"),
    "a user without id": (event("unfollow", source={"type": "user"}), ".source.userId"),
    "a group without id": (event("leave", source={"type": "group"}), ".source.groupId"),
    "a text that is none": (event("message", message={"id": "7", "type": "text", "text": 7}), ".message.text"),
    "a place without coordinates": (event("message", message={"id": "7", "type": "location"}), ".message"),
    "a file elsewhere, nowhere": (
        event("message", message={"id": "7", "type": "image", "contentProvider": {"type": "external"}}),
        ".message.contentProvider.originalContentUrl",
    ),
    "nothing taken back": (event("unsend"), ".unsend.messageId"),
    "an edit of nothing": (event("messageEdited", message={"text": "x"}), ".message.id"),
    "an edit to nothing": (event("messageEdited", message={"id": "6"}), ".message.text"),
    "an empty postback": (event("postback"), ".postback"),
    "nobody joined": (event("memberJoined", source=MANY), ".joined"),
    "no video": (event("videoPlayComplete"), ".videoPlayComplete.trackingId"),
}


@pytest.mark.parametrize(("item", "path"), BROKEN.values(), ids=BROKEN)
def test_broken_items_are_named_by_path(item: Mapping[str, Any], path: str) -> None:
    (found,) = run(body(item))
    assert isinstance(found, Unreadable)
    assert (found.id, found.path, found.routing_key) == (EVENT, f"$.events[0]{path}", BOT)


@pytest.mark.parametrize("depth", [500, 990, 1010, 100_000])
def test_nesting_of_any_depth_gives_events(depth: int) -> None:
    nest = b"[" * depth + b"]" * depth
    assert run(b'{"events": [{"type": %s}]}' % nest)
    assert run(b'{"events": [{"type": "beacon", "replyToken": [], "beacon": {"a": %s}}]}' % nest)


# --- what proves it ---------------------------------------------------------------------------------------------------

VECTORS = {  # under the secret above; not made by this code
    '{"destination":"U00112233445566778899aabbccddeeff","events":[]}': "td5lK3WWTCeonRYTc97lr7PGszthdS96W/5qAQf3hlc=",
    '{"destination":"U00112233445566778899aabbccddeeff","events":[{"text":"café ☕"}]}':
        "OyeRGVabO0xcUsmI8w89fUnjwSNvQwf45MHqPzdBNmo=",
}  # fmt: skip
SETTINGS = Settings((Secret(SECRET), Secret(OLD_SECRET)), BOT, (Secret(TOKEN),))


def signed(raw: bytes, secret: str = SECRET) -> Callback:
    signature = base64.b64encode(hmac.digest(secret.encode(), raw, hashlib.sha256)).decode()
    headers = {"x-line-signature": (signature,), "content-type": ("application/json; charset=utf-8",)}
    return Callback("POST", "https://x.example/webhooks/line", "/webhooks/line", {}, headers, raw)


@pytest.fixture
async def adapter() -> AsyncIterator[LineAdapter]:
    async with new_session() as session:
        yield LineAdapter(Account("line", "line"), SETTINGS, Http(session, [SETTINGS.api_base], MediaClient()))


@pytest.mark.parametrize(("text", "signature"), VECTORS.items(), ids=["plain", "not ASCII"])
async def test_signatures_fit_the_vectors(adapter: LineAdapter, text: str, signature: str) -> None:
    callback = signed(text.encode())
    assert callback.header("x-line-signature") == signature
    adapter.verify(callback)


async def test_an_older_secret_still_verifies_and_a_doubled_header_does_not(adapter: LineAdapter) -> None:
    callback = signed(b"{}", OLD_SECRET)
    adapter.verify(callback)
    with pytest.raises(VerificationError):
        adapter.verify(replace(callback, headers={"x-line-signature": callback.headers["x-line-signature"] * 2}))


async def test_the_access_token_signs_nothing(adapter: LineAdapter) -> None:
    with pytest.raises(VerificationError):
        adapter.verify(signed(b"{}", TOKEN))


async def test_names_of_the_account(adapter: LineAdapter) -> None:
    assert adapter.routing_keys() == {BOT}
    assert adapter.account.own_addresses == {BOT}


@pytest.mark.parametrize("empty", ["channel_secret", "access_token", "bot_user_id"])
def test_empty_settings_are_refused(empty: str) -> None:
    values: dict[str, Any] = {"channel_secret": (Secret("a"),), "access_token": (Secret("b"),), "bot_user_id": "c"}
    with pytest.raises(ValueError, match=f"^{empty}: is empty"):
        Settings(**values | {empty: type(values[empty])()})


RSA = rsa.generate_private_key(65537, 2048)
PEM = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
JWK = json.dumps(RSAAlgorithm.to_jwk(RSA, as_dict=True) | {"kid": "kid-1"})
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no channel id": ({"token_kind": "stateless"}, "channel_id: missing, and token_kind is 'stateless'"),
    "a token nobody uses": (
        {"token_kind": "stateless", "channel_id": "1", "access_token": (Secret("t"),)},
        "access_token: has no use with token_kind 'stateless'",
    ),
    "no key": ({"token_kind": "v2.1", "channel_id": "1"}, "assertion_key: missing, and token_kind is 'v2.1'"),
    "no key at all": (
        {"token_kind": "v2.1", "channel_id": "1", "assertion_key": (Secret("{}"),)},
        "assertion_key: neither a private RSA key as JWK nor one in PEM",
    ),
    "a key without its id": (
        {"token_kind": "v2.1", "channel_id": "1", "assertion_key": (Secret(PEM),)},
        "assertion_kid: missing, and the key does not tell its id",
    ),
    "less than nothing": ({"quota_reserve": -1}, "quota_reserve: must be at least 0"),
}


@pytest.mark.parametrize(("more", "problem"), REFUSED.values(), ids=REFUSED)
def test_settings_that_do_not_fit_are_refused(more: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{problem}$"):
        Settings((Secret("a"),), BOT, **more)


def test_settings_from_toml() -> None:
    block = {"id": "l", "adapter": "line", "channel_secret": "a", "bot_user_id": BOT, "token_kind": "v2.1",
             "channel_id": "1", "assertion_key": JWK}  # fmt: skip
    found = parse({"accounts": [block]}, {"line": Settings}).accounts[0].options
    assert (found.token_kind, found.assertion_key) == ("v2.1", (Secret(JWK),))
    with pytest.raises(ConfigError, match=r"accounts\[0\]\.token_kind: must be one of"):
        parse({"accounts": [block | {"token_kind": "eternal"}]}, {"line": Settings})


# --- what is sent -----------------------------------------------------------------------------------------------------

KEY = "0a1b2c3d-0000-4000-8000-00000000002a"
OUT = OutboundMessage(id="outbox-42", key=KEY, account="line", channel="line", to=MIKA.addresses, text="Tomorrow.")
URL, PREVIEW = "https://x.example/f", "https://x.example/p"
WORDS = {"type": "text", "text": "Tomorrow."}


def out(**fields: Any) -> OutboundMessage:
    return OutboundMessage(**{name: getattr(OUT, name) for name in OUT.__struct_fields__} | fields)


def given(kind: str, media_type: str, name: str = "f", **fields: Any) -> OutboundFile:
    values: dict[str, Any] = {"kind": kind, "media_type": media_type, "filename": name, "size": 1000, "url": URL}
    return OutboundFile(**values | fields)


def postback(data: str, title: str) -> dict[str, Any]:
    return {"type": "postback", "label": title, "data": data, "displayText": title}


def quick(*choices: tuple[str, str]) -> dict[str, Any]:
    return {"items": [
        {"type": "action", "action": {"type": "postback", "label": title, "data": data, "displayText": title}}
        for data, title in choices
    ]}  # fmt: skip


OBJECTS: dict[str, tuple[OutboundMessage, list[dict[str, Any]]]] = {
    "a text": (OUT, [WORDS]),
    "a quote": (out(context=Context(quote_token="q")), [WORDS | {"quoteToken": "q"}]),
    "a text and files go together": (
        out(files=(given("image", "image/png"), given("file", "application/pdf", "bill.pdf"))),
        [WORDS, {"type": "image", "originalContentUrl": URL, "previewImageUrl": URL},
         {"type": "text", "text": f"bill.pdf\n{URL}"}],
    ),
    "a large picture with a preview": (
        out(text="", file=given("image", "image/jpeg", size=5_000_000, preview_url=PREVIEW)),
        [{"type": "image", "originalContentUrl": URL, "previewImageUrl": PREVIEW}],
    ),
    "a large picture without one goes as a link": (
        out(text="", file=given("image", "image/jpeg", "p.jpg", size=5_000_000)),
        [{"type": "text", "text": f"p.jpg\n{URL}"}],
    ),
    "a video": (
        out(text="", file=given("video", "video/mp4", preview_url=PREVIEW)),
        [{"type": "video", "originalContentUrl": URL, "previewImageUrl": PREVIEW, "trackingId": "outbox-42"}],
    ),
    "a video to a group is not tracked": (
        out(text="", file=given("video", "video/mp4", preview_url=PREVIEW), thread=IN_GROUP),
        [{"type": "video", "originalContentUrl": URL, "previewImageUrl": PREVIEW}],
    ),
    "a video without preview goes as a link": (
        out(text="", file=given("video", "video/mp4")), [{"type": "text", "text": f"f\n{URL}"}],
    ),
    "a sound": (
        out(text="", file=given("audio", "audio/mp4", duration_ms=900)),
        [{"type": "audio", "originalContentUrl": URL, "duration": 900}],
    ),
    "a sound of unknown length goes as a link": (
        out(text="", file=given("audio", "audio/mp4")), [{"type": "text", "text": f"f\n{URL}"}],
    ),
    "a place": (
        out(content=Location(35.5, 139.7, "Shop", "1-3 Kioicho")),
        [WORDS, {"type": "location", "title": "Shop", "address": "1-3 Kioicho", "latitude": 35.5, "longitude": 139.7}],
    ),
    "a place without a name": (
        out(text="", content=Location(35.5, 139.7)),
        [{"type": "location", "title": "35.5, 139.7", "address": "35.5, 139.7", "latitude": 35.5, "longitude": 139.7}],
    ),
    "a sticker that quotes": (
        out(text="", content=Sticker("1988", "446"), context=Context(quote_token="q")),
        [{"type": "sticker", "packageId": "446", "stickerId": "1988", "quoteToken": "q"}],
    ),
    "choices stand at the last object": (
        out(content=Interactive(values={"buttons": [{"id": "y", "title": "Yes"}, "No"]}),
            file=given("image", "image/png")),
        [WORDS, {"type": "image", "originalContentUrl": URL, "previewImageUrl": URL,
                 "quickReply": quick(("y", "Yes"), ("No", "No"))}],
    ),
    "rows": (
        out(content=Interactive(values={"rows": [{"id": "r", "title": "Blue"}]})),
        [WORDS | {"quickReply": quick(("r", "Blue"))}],
    ),
    "a link": (
        out(content=Interactive(values={"url": URL, "label": "Track"})),
        [{"type": "template", "altText": "Tomorrow.", "template": {
            "type": "buttons", "text": "Tomorrow.", "actions": [{"type": "uri", "label": "Track", "uri": URL}]}}],
    ),
    "a link below a long text": (
        out(text="x" * 161, content=Interactive(values={"url": URL, "label": "Track"})),
        [{"type": "text", "text": "x" * 161},
         {"type": "template", "altText": "x" * 161, "template": {
             "type": "buttons", "text": "Track", "actions": [{"type": "uri", "label": "Track", "uri": URL}]}}],
    ),
    "buttons with a title": (
        out(content=Interactive(values={"actions": ["Blue", {"url": URL, "title": "Look"}], "title": "Colours"})),
        [{"type": "template", "altText": "Tomorrow.", "template": {
            "type": "buttons", "title": "Colours", "text": "Tomorrow.",
            "actions": [postback("Blue", "Blue"), {"type": "uri", "label": "Look", "uri": URL}]}}],
    ),
    "yes or no": (
        out(content=Interactive(values={"confirm": [{"id": "y", "title": "Yes"}, "No"]})),
        [{"type": "template", "altText": "Tomorrow.", "template": {
            "type": "confirm", "text": "Tomorrow.", "actions": [postback("y", "Yes"), postback("No", "No")]}}],
    ),
    "cards": (
        out(text="", content=Interactive(values={"cards": [
            {"title": "Blue", "text": "24", "image": URL, "actions": [{"id": "b", "title": "Take"}]}]})),
        [{"type": "template", "altText": "Blue", "template": {"type": "carousel", "columns": [
            {"text": "24", "title": "Blue", "thumbnailImageUrl": URL, "actions": [postback("b", "Take")]}]}}],
    ),
    "a text in front of cards": (
        out(content=Interactive(values={"cards": [{"text": "24", "actions": [{"id": "b", "title": "Take"}]}]})),
        [{"type": "text", "text": "Tomorrow."}, {"type": "template", "altText": "Tomorrow.", "template": {
            "type": "carousel", "columns": [{"text": "24", "actions": [postback("b", "Take")]}]}}],
    ),
    "a flex message": (
        out(content=Interactive(values={"flex": {"type": "bubble"}})),
        [{"type": "flex", "altText": "Tomorrow.", "contents": {"type": "bubble"}}],
    ),
    "LINE's own object": (
        out(text="", content=Interactive(values={"object": {
            "type": "flex", "altText": "a", "contents": {"type": "bubble"}}})),
        [{"type": "flex", "altText": "a", "contents": {"type": "bubble"}}],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "wanted"), OBJECTS.values(), ids=OBJECTS)
def test_objects(given: OutboundMessage, wanted: list[dict[str, Any]]) -> None:
    assert objects_for(given) == wanted


def test_whom_it_goes_to() -> None:
    claimed = Address("line", "anonymous", "7", evidence="claimed")
    assert recipient_of(OUT) == USER
    assert recipient_of(out(thread=IN_ROOM)) == ROOM
    assert recipient_of(out(to=(claimed,))) == ""


UNSAYABLE = {
    "nothing": (out(text=""), "empty"),
    "a file without address": (out(file=given("image", "image/png", url="")), "no-media-address"),
    "a file over http": (out(file=given("image", "image/png", url="http://x.example/f")), "media-address"),
    "a preview over http": (
        out(file=given("video", "video/mp4", preview_url="http://x.example/p")), "media-address",
    ),
    "an address too long": (out(file=given("file", "a/b", url=URL + "x" * 2000)), "media-address"),
    "six objects": (out(files=(given("image", "image/png"),) * 5), "objects"),
    "a template": (out(template=Template("t")), "content"),
    "a reaction": (out(reaction="👍"), "content"),
    "an order": (out(content=Order("c")), "content"),
    "choices without text": (out(text="", content=Interactive(values={"buttons": ["a"]})), "interactive"),
    "no choices": (out(content=Interactive()), "interactive"),
    "too many choices": (out(content=Interactive(values={"buttons": ["a"] * 14})), "interactive"),
    "a label of 21 characters": (out(content=Interactive(values={"buttons": ["x" * 21]})), "interactive"),
    "five buttons": (out(content=Interactive(values={"actions": ["a"] * 5})), "interactive"),
    "a long text below a title": (
        out(text="x" * 61, content=Interactive(values={"actions": ["a"], "title": "t"})), "interactive",
    ),
    "cards that differ": (
        out(text="", content=Interactive(values={"cards": [
            {"text": "1", "actions": ["a"]}, {"text": "2", "actions": ["a", "b"]}]})), "interactive",
    ),
    "three answers to yes or no": (out(content=Interactive(values={"confirm": ["a", "b", "c"]})), "interactive"),
    "a picture by http": (
        out(content=Interactive(values={"actions": ["a"], "image": "http://x.test/a"})), "interactive",
    ),
    "half a sticker": (out(content=Sticker(id="1")), "content"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "code"), UNSAYABLE.values(), ids=UNSAYABLE)
def test_what_cannot_be_said_is_refused_for_certain(given: OutboundMessage, code: str) -> None:
    with pytest.raises(SendError) as caught:
        objects_for(given)
    assert (caught.value.code, caught.value.error_class, caught.value.certain) == (code, "permanent", True)


ANSWERS: dict[str, tuple[int, Any, tuple[str, str, bool, str | None, float | None]]] = {
    "used token": (400, "Invalid reply token", ("invalid-reply-token", "window-closed", True, None, None)),
    "nobody": (400, "Failed to send messages", ("failed-to-send", "bad-recipient", True, None, None)),
    "bad body": (400, "The request body has 1 error(s)", ("400", "permanent", True, None, None)),
    "dead token": (
        401, "Authentication failed due to the following reason: x", ("401", "auth", True, "account", None),
    ),
    "not in the plan": (
        403, "Access to this API is not available for your account", ("403", "auth", True, None, None),
    ),
    "not there": (404, "Not found", ("404", "permanent", True, None, None)),
    "a key on another call": (409, "conflict", ("409", "permanent", True, None, None)),
    "gone": (410, "Gone", ("410", "permanent", True, None, None)),
    "too large": (413, "Payload too large", ("413", "permanent", True, None, None)),
    "not JSON": (415, "Unsupported media type", ("415", "permanent", True, None, None)),
    "rate": (
        429, "The API rate limit has been exceeded. Try again later.", ("rate-limit", "throttle", True, "endpoint", 5),
    ),
    "month": (429, "You have reached your monthly limit.", ("monthly-limit", "throttle", True, "endpoint", 3600)),
    "another limit": (429, "too many concurrent requests", ("429", "throttle", True, "endpoint", 30)),
    "broken": (500, "Invalid reply token", ("500", "unknown", False, None, None)),
    "no words": (503, None, ("503", "unknown", False, None, None)),
}  # fmt: skip


@pytest.mark.parametrize(("status", "words", "wanted"), ANSWERS.values(), ids=ANSWERS)
def test_answers(status: int, words: Any, wanted: tuple[str, str, bool, str | None, float | None]) -> None:
    with pytest.raises(SendError) as caught:
        read_answer(HttpAnswer(status, {"x-line-request-id": "r1"}, json.dumps({"message": words}).encode()))
    error = caught.value
    assert (error.code, error.error_class, error.certain, error.pause, error.retry_after_s) == wanted
    assert error.request_id == "r1"


def test_the_places_of_faults_are_told_and_tokens_cut() -> None:
    told = {"message": f"bad {TOKEN}", "details": [{"message": "May not be empty", "property": "messages[0].text"}]}
    with pytest.raises(SendError) as caught:
        read_answer(HttpAnswer(400, {}, json.dumps(told).encode()), (Secret(TOKEN),))
    assert caught.value.detail == "bad ***; messages[0].text: May not be empty"


def test_a_success_nobody_can_read_proves_nothing() -> None:
    with pytest.raises(Ambiguous):
        read_answer(HttpAnswer(200, {}, b"[]"))


def test_the_channel_takes_what_the_documentation_says() -> None:
    limits = CHANNEL.limits
    assert (limits.text_max, limits.text_unit, limits.files_per_message, CHANNEL.key) == (5000, "utf16", 4, "request")
    assert CHANNEL.reply_token_valid is not None
    assert CHANNEL.reply_token_valid.total_seconds() == 50
    assert CHANNEL.window is None
    assert {code for code, rule in ERRORS.items() if rule.pause == "account"} == {"401"}


def _error(status: int) -> bytes:
    words = "The API rate limit has been exceeded. Try again later." if status == 429 else "The property is invalid"
    return json.dumps({"message": words}).encode()


SENT = json.dumps({"sentMessages": [{"id": "700000000000000777", "quoteToken": "q"}]}).encode()
CASE = AdapterCase(
    adapter=LineAdapter,
    settings={
        "channel_secret": [SECRET, OLD_SECRET], "access_token": [TOKEN], "bot_user_id": BOT, "api_base": "{base}",
        "data_base": "{base}",
    },
    message=file("first_message.json"),
    unknown_kind=came("hologram"),
    unknown_event=body(event("surprise")),
    broken_item=file("batch.json"),
    sign=signed,
    outbound=OUT,
    success=SENT,
    external_id="700000000000000777",
    error_body=_error,
)  # fmt: skip
CASE_REPLY = replace(CASE, outbound=out(context=Context(reply_token="demo-reply-token-1")))
