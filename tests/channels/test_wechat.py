"""WeChat official account: callbacks to events, what proves them, messages to request bodies, answers to outcomes."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from wechatpy.crypto import WeChatCrypto
from wechatpy.utils import check_signature as sdk_check

from adapters import Callback, HandshakeRefused, Http, MalformedBody, SendError, VerificationError
from adapters._tokens import InProcessTokens, Token
from adapters._wechat_body import CUSTOM, Request, request_for
from adapters._wechat_crypto import Envelope, Replays, signature
from adapters._wechat_facts import CHANNEL, ERRORS, MEDIA
from adapters.sandbox._wechat_world import to_xml
from adapters.testing import AdapterCase
from adapters.wechat import Settings, WeChatAdapter
from config.secret import Secret
from normalizers._fields import digest
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
    Interactive,
    Link,
    Location,
    OutboundFile,
    OutboundMessage,
    Person,
    PlatformError,
    Received,
    Referral,
    Sticker,
    Template,
    ThreadControl,
    Unreadable,
    Unsupported,
)
from normalizers.wechat import normalize

APP, OPENID, GH = "wx00112233445566aa", "oDemoUser000000000000000001", "gh_demo"
TOKEN, OLD_TOKEN = "gwtoken", "gwtoken-older"
KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFA"
OLD_KEY = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefB"  # its last bits are not zero: consoles make such keys
TIMESTAMP, NONCE = "1760000000", "nonce42"
SIGNATURE = "e42605293f0f13164c7ebf558d365cfabb4a1b74"
MSG_SIGNATURE = "c8742bd4c3d852a241f2d3bb1c81db8822e773f7"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
AT = datetime.fromtimestamp(1760000100, UTC)
PAYLOADS = Path(__file__).parent / "payloads" / "wechat"
MARA = Person((Address("wechat", "openid", OPENID),))
ACCOUNT = Account("wx-main", "wechat")


def file(name: str) -> bytes:
    return (PAYLOADS / name).read_bytes()


def received(body: bytes, **query: str) -> Received:
    return Received(body, {}, query, NOW, ACCOUNT)


def fields(**values: Any) -> dict[str, Any]:
    return {"ToUserName": GH, "FromUserName": OPENID, "CreateTime": 1760000100} | values


def came(kind: str, **values: Any) -> bytes:
    """A message of a kind."""
    return to_xml(fields(MsgType=kind, MsgId=90002, **values)).encode()


def event(name: str, **values: Any) -> bytes:
    return to_xml(fields(MsgType="event", Event=name, **values)).encode()


PLACE: dict[str, Any] = {"at": AT, "routing_key": GH, "channel": "wechat", "path": "$"}


def message(**values: Any) -> InboundMessage:
    return InboundMessage(**PLACE | {"id": "90002", "sender": MARA} | values)


def happened(name: str, key: str = "") -> dict[str, Any]:
    """What an event of ours starts with when the platform's event was `name`."""
    return PLACE | {"id": f"{OPENID}:1760000100:{name}" + (f":{key}" if key else "")}


def engaged(name: str, key: str = "", kind: str = "", **values: Any) -> Engagement:
    context = values.pop("context", None)
    return Engagement(**happened(name, key), person=MARA, kind=kind or name, values=values, context=context)


def update(id: str, **values: Any) -> DeliveryUpdate:
    return DeliveryUpdate(**PLACE | {"id": id, "recipient": MARA.addresses[0]} | values)


LONG = "https://shop.example/" + "x" * 200
SUBSCRIPTION = digest(file("subscription.xml"))

# --- what comes in ----------------------------------------------------------------------------------------------------

INBOUND: dict[str, tuple[bytes, tuple[Event, ...]]] = {  # name of the case -> (body, events)
    "a text": (
        file("text.xml"),
        (
            message(
                id="90001", at=datetime.fromtimestamp(1760000000, UTC), text="你好",
                sender=Person((Address("wechat", "openid", "oDemo1"),)),
            ),
        ),
    ),
    "a text as JSON": (
        json.dumps(fields(MsgType="text", MsgId=90002, Content="Hi")).encode(),
        (message(text="Hi"),),
    ),
    "blanks, marks and what XML cannot hold": (
        came("text", Content="  <a> ]]> & \x08\x1f\n"),
        (message(text="  <a> ]]> & \n"),),
    ),
    "bytes that are not UTF-8": (came("text", Content="a?").replace(b"?", b"\xff"), (message(text="a\ufffd"),)),
    "an answer to a menu": (
        came("text", Content="Yes", bizmsgmenuid="101"),
        (
            message(kind="interactive", text="Yes", content=Interactive("101", "Yes", type="msgmenu"),
                    opens_window=False),
            Engagement(**PLACE, id="90002", person=MARA, kind="msgmenu", values={"id": "101"}),
        ),
    ),
    "a picture": (
        came("image", PicUrl="http://pic.example/1", MediaId="m1"),
        (message(kind="image", attachments=(Attachment(kind="image", ref="m1", url="http://pic.example/1"),)),),
    ),
    "a voice message": (
        came("voice", MediaId="m2", Format="amr"),
        (message(kind="audio", attachments=(Attachment(kind="audio", media_type="audio/amr", ref="m2"),)),),
    ),
    "a voice message the platform understood": (
        came("voice", MediaId="m2", Format="Speex", Recognition="早上好"),
        (message(kind="audio", text="早上好",
                 attachments=(Attachment(kind="audio", media_type="audio/x-speex", ref="m2"),)),),
    ),
    "a film": (
        came("video", MediaId="m3", ThumbMediaId="t3"),
        (message(kind="video", attachments=(Attachment(kind="video", media_type="video/mp4", ref="m3"),)),),
    ),
    "a short film": (
        came("shortvideo", MediaId="m3", ThumbMediaId="t3"),
        (message(kind="video", attachments=(Attachment(kind="video", media_type="video/mp4", ref="m3"),)),),
    ),
    "a place": (
        came("location", Location_X="23.134521", Location_Y=113.358803, Scale=20, Label="Tianhe"),
        (message(kind="location", text="Tianhe", content=Location(23.134521, 113.358803, address="Tianhe")),),
    ),
    "a place without a name": (
        came("location", Location_X=1.5, Location_Y=2, Label=""),
        (message(kind="location", text="1.5, 2.0", content=Location(1.5, 2.0)),),
    ),
    "a link": (
        came("link", Title="Terms", Description="Ours", Url="https://shop.example/t"),
        (message(kind="link", text="Terms\nOurs\nhttps://shop.example/t",
                 content=Link("https://shop.example/t", "Terms", "Ours")),),
    ),
    "a page of a mini program": (
        came("miniprogrampage", Title="Order", AppId="wx9", PagePath="pages/o?id=1", ThumbUrl="https://t.example/1",
             ThumbMediaId="t1"),
        (message(kind="link", text="Order", content=Link("", "Order", image_url="https://t.example/1"),
                 context=Context(metadata={"appid": "wx9", "pagepath": "pages/o?id=1"})),),
    ),
    "a kind nobody knows": (came("hologram"), (message(kind="unsupported", content=Unsupported("hologram")),)),
    "followed by a QR code": (
        file("subscribe.xml"),
        (
            ConsentChange(**happened("subscribe", "qrscene_shop7"), person=MARA, state="unblocked", source="platform"),
            engaged("subscribe", "qrscene_shop7", "follow", EventKey="qrscene_shop7", Ticket="demoTicket",
                    context=Context(referral=Referral("qr", "shop7"))),
        ),
    ),
    "followed": (
        event("subscribe", EventKey=""),
        (
            ConsentChange(**happened("subscribe"), person=MARA, state="unblocked", source="platform"),
            engaged("subscribe", kind="follow", EventKey=""),
        ),
    ),
    "unfollowed": (
        event("unsubscribe", EventKey=""),
        (ConsentChange(**happened("unsubscribe"), person=MARA, state="blocked", source="platform"),),
    ),
    "scanned by a follower": (
        event("SCAN", EventKey="shop7", Ticket="t"),
        (engaged("scan", "shop7", EventKey="shop7", Ticket="t", context=Context(referral=Referral("qr", "shop7"))),),
    ),
    "a menu click": (event("CLICK", EventKey="order"), (engaged("click", "order", EventKey="order"),)),
    "a menu link": (event("VIEW", EventKey=LONG), (engaged("view", digest(LONG.encode()), EventKey=LONG),)),
    "a code scanned from the menu": (
        event("scancode_waitmsg", EventKey="s", ScanCodeInfo={"ScanType": "qrcode", "ScanResult": "2"}),
        (engaged("scancode_waitmsg", "s", EventKey="s", ScanCodeInfo={"ScanType": "qrcode", "ScanResult": "2"}),),
    ),
    "pictures from the menu": (
        event("pic_weixin", EventKey="p", SendPicsInfo={"Count": 2, "PicList": {"item": [{"a": 1}, {"a": 2}]}}),
        (engaged("pic_weixin", "p", EventKey="p",
                 SendPicsInfo={"Count": "2", "PicList": {"item": [{"a": "1"}, {"a": "2"}]}}),),
    ),
    "where a follower is": (
        event("LOCATION", Latitude=23.1, Longitude=113.3, Precision=119.4),
        (engaged("location", Latitude=23.1, Longitude=113.3, Precision=119.4),),
    ),
    "a template arrived": (
        event("TEMPLATESENDJOBFINISH", MsgID=200163836, Status="success"),
        (update("templatesendjobfinish:200163836", status="delivered", target="200163836"),),
    ),
    "a template was refused": (
        event("TEMPLATESENDJOBFINISH", MsgID=7, Status="failed:user block"),
        (update("templatesendjobfinish:7", status="failed", target="7",
                error=PlatformError("user block", "failed:user block")),),
    ),
    "a template failed, in another spelling": (
        event("TEMPLATESENDJOBFINISH", MsgID=7, Status="failed: system failed"),
        (update("templatesendjobfinish:7", status="failed", target="7",
                error=PlatformError("system failed", "failed: system failed")),),
    ),
    "a template's state nobody knows": (
        event("TEMPLATESENDJOBFINISH", MsgID=7, Status="melted"),
        (Ignored(**PLACE, id="templatesendjobfinish:7", reason="template status 'melted'"),),
    ),
    "subscriptions, some of them broken": (
        file("subscription.xml"),
        (
            ConsentChange(
                **happened("subscribe_msg_popup_event", "tpl-1") | {"path": "$.SubscribeMsgPopupEvent.List[0]"},
                person=MARA, state="opted_in", scope="marketing", source="platform", topic="tpl-1",
            ),
            ConsentChange(
                **happened("subscribe_msg_popup_event", "tpl-2") | {"path": "$.SubscribeMsgPopupEvent.List[1]"},
                person=MARA, state="opted_out", scope="marketing", source="platform", topic="tpl-2",
            ),
            Unreadable(
                **PLACE | {"path": "$.SubscribeMsgPopupEvent.List[2].TemplateId"},
                id=f"{SUBSCRIPTION}:.SubscribeMsgPopupEvent.List[2]", problem="missing",
            ),
            Ignored(
                **happened("subscribe_msg_popup_event", "tpl-4") | {"path": "$.SubscribeMsgPopupEvent.List[3]"},
                reason="subscription 'perhaps'",
            ),
            Unreadable(
                **PLACE | {"path": "$.SubscribeMsgPopupEvent.List[4]"},
                id=f"{SUBSCRIPTION}:.SubscribeMsgPopupEvent.List[4]", problem="not an object",
            ),
        ),
    ),
    "a subscription taken back, as JSON": (
        json.dumps(fields(MsgType="event", Event="subscribe_msg_change_event",
                          List={"TemplateId": "tpl-1", "SubscribeStatusString": "reject"})).encode(),
        (
            ConsentChange(
                **happened("subscribe_msg_change_event", "tpl-1") | {"path": "$.List"}, person=MARA,
                state="opted_out", scope="marketing", source="platform", topic="tpl-1",
            ),
        ),
    ),
    "notices sent": (
        event("subscribe_msg_sent_event", SubscribeMsgSentEvent={"List": [
            {"TemplateId": "t", "MsgID": 8, "ErrorCode": 0, "ErrorStatus": "success"},
            {"TemplateId": "t", "MsgID": 9, "ErrorCode": 43101, "ErrorStatus": "refused"}]}),
        (
            update("subscribe_msg_sent_event:8", status="delivered", target="8",
                   path="$.SubscribeMsgSentEvent.List[0]"),
            update("subscribe_msg_sent_event:9", status="failed", target="9",
                   path="$.SubscribeMsgSentEvent.List[1]", error=PlatformError("43101", "refused")),
        ),
    ),
    "no notices sent": (
        json.dumps(fields(MsgType="event", Event="subscribe_msg_sent_event", List=[])).encode(),
        (Ignored(**happened("subscribe_msg_sent_event"), reason="an empty list"),),
    ),
    "an agent in the platform's console took over": (
        event("kf_create_session", KfAccount="anna@gh_demo"),
        (ThreadControl(**happened("kf_create_session"), person=MARA, action="take", app="anna@gh_demo"),),
    ),
    "the agents changed": (
        event("kf_switch_session", FromKfAccount="anna@gh_demo", ToKfAccount="ben@gh_demo"),
        (ThreadControl(**happened("kf_switch_session"), person=MARA, action="take", app="ben@gh_demo"),),
    ),
    "the agent ended": (
        event("kf_close_session", KfAccount="anna@gh_demo"),
        (ThreadControl(**happened("kf_close_session"), person=MARA, action="pass", app="anna@gh_demo"),),
    ),
    "a mass message went out": (
        event("MASSSENDJOBFINISH", MsgID=1, Status="send success"),
        (Ignored(**happened("masssendjobfinish"), reason="event 'masssendjobfinish'"),),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "events"), INBOUND.values(), ids=INBOUND)
def test_inbound(body: bytes, events: tuple[Event, ...]) -> None:
    assert normalize(received(body)) == events


BROKEN: dict[str, tuple[bytes, str, str]] = {  # name of the case -> (body, path, problem)
    "no kind": (to_xml(fields(MsgId=1)).encode(), "$.MsgType", "missing"),
    "no sender": (b"<xml><MsgType>text</MsgType><MsgId>1</MsgId></xml>", "$.FromUserName", "missing"),
    "no id": (to_xml(fields(MsgType="text")).encode(), "$.MsgId", "missing"),
    "no file": (came("image"), "$.MediaId", "missing"),
    "no place": (came("location", Location_X=1, Location_Y="east"), "$.Location_Y", "not a number"),
    "no event": (to_xml(fields(MsgType="event")).encode(), "$.Event", "missing"),
    "no list": (event("subscribe_msg_sent_event"), "$.List", "missing"),
    "still encrypted": (file("encrypted.xml"), "$.Encrypt", "still encrypted"),
    "not XML": (b"hello", "$", "not XML: ParseError"),
    "half": (file("text.xml")[:-9], "$", "not XML: ParseError"),
    "a field twice": (b"<xml><MsgId>1</MsgId><MsgId>2</MsgId></xml>", "$", "XML with a field twice"),
    "a DTD": (b"<!DOCTYPE xml><xml/>", "$", "XML with a DTDForbidden"),
    "an entity": (b'<!DOCTYPE x [<!ENTITY a "b">]><xml>&a;</xml>', "$", "XML with a DTDForbidden"),
    "an entity nobody knows": (b"<xml>&a;</xml>", "$", "not XML: ParseError"),
    "too long": (b"<xml>" + b" " * 65_536 + b"</xml>", "$", "more than 65536 bytes"),
    "JSON that is none": (b'{"a":', "$", "not JSON: JSONDecodeError"),
    "nested beyond sense": (b"<a>" * 9_000 + b"</a>" * 9_000, "$.MsgType", "missing"),
}


@pytest.mark.parametrize(("body", "path", "problem"), BROKEN.values(), ids=BROKEN)
def test_broken(body: bytes, path: str, problem: str) -> None:
    (found,) = normalize(received(body))
    assert isinstance(found, Unreadable)
    assert (found.path, found.problem) == (path, problem)


WORD = (
    st.sampled_from(["event", "text", "image", "location", "subscribe_msg_popup_event", "CLICK", "1", ""]) | st.text()
)
NAME = st.sampled_from(["ToUserName", "FromUserName", "CreateTime", "MsgType", "Event", "MsgId", "MsgID", "EventKey",
                        "MediaId", "List", "Content", "Status"])  # fmt: skip


VALUE = st.recursive(
    WORD | st.integers(),
    lambda value: st.lists(value, max_size=3) | st.dictionaries(NAME, value, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(NAME, VALUE, max_size=8))
def test_property_any_fields_give_events(item: dict[str, Any]) -> None:
    for body in (json.dumps(item).encode(), to_xml(item).encode("utf-8", "replace")):
        events = normalize(received(body))
        assert events == normalize(received(body))
        assert msgspec.json.decode(msgspec.json.encode(events), type=tuple[Event, ...]) == events
        assert events


@given(st.binary())
def test_property_any_bytes_give_events(body: bytes) -> None:
    assert normalize(received(body))
    assert normalize(received(b"<xml>" + body + b"</xml>"))


# --- what proves it ---------------------------------------------------------------------------------------------------

CLOCK = 1760000010.0


def adapter_with(http: Http | None = None, clock: float = CLOCK, **changes: Any) -> WeChatAdapter:
    values: dict[str, Any] = {
        "app_id": APP, "app_secret": (Secret("app-secret-canary"),), "token": (Secret(TOKEN), Secret(OLD_TOKEN)),
        "original_id": GH, "encoding_aes_key": (Secret(KEY), Secret(OLD_KEY)),
    }  # fmt: skip
    return WeChatAdapter(ACCOUNT, Settings(**values | changes), http, clock=lambda: clock)  # type: ignore[arg-type]


def callback(body: bytes = b"", method: str = "POST", **query: str) -> Callback:
    return Callback(method, "https://gw.example/webhooks/wx-main", "/webhooks/wx-main", query, {}, body)


def plain(body: bytes, token: str = TOKEN, timestamp: str = TIMESTAMP, nonce: str = NONCE) -> Callback:
    return callback(body, signature=signature(token, timestamp, nonce), timestamp=timestamp, nonce=nonce)


def sealed(body: bytes, *, key: str = KEY, app: str = APP, token: str = TOKEN, **more: Any) -> Callback:
    """As the platform's own library for Python writes it."""
    envelope = WeChatCrypto(token, key, app).encrypt_message(body.decode(), NONCE, TIMESTAMP)
    content = envelope.partition("<Encrypt><![CDATA[")[2].partition("]]>")[0]
    return enveloped(to_xml({"ToUserName": GH, "Encrypt": content, **more}).encode(), content, token)


def enveloped(body: bytes, content: str, token: str = TOKEN, **query: str) -> Callback:
    signed = {
        "signature": signature(token, TIMESTAMP, NONCE), "timestamp": TIMESTAMP, "nonce": NONCE, "encrypt_type": "aes",
        "msg_signature": signature(token, TIMESTAMP, NONCE, content),
    }  # fmt: skip
    return callback(body, **signed | query)


def changed(original: Callback, body: bytes | None = None, **query: str) -> Callback:
    return replace(original, query={**original.query, **query}, body=original.body if body is None else body)


TEXT = file("text.xml")
VECTOR = callback(
    file("encrypted.xml"), signature=SIGNATURE, timestamp=TIMESTAMP, nonce=NONCE, encrypt_type="aes",
    msg_signature=MSG_SIGNATURE,
)  # fmt: skip
GENUINE = {  # name of the case -> callback
    "plain": plain(TEXT),
    "plain, by its own word": changed(plain(TEXT), encrypt_type="raw"),
    "plain, an older token": plain(TEXT, OLD_TOKEN),
    "plain, some minutes ago": plain(TEXT, timestamp="1759999720"),
    "the vector": VECTOR,
    "encrypted": sealed(TEXT),
    "encrypted, an older key": sealed(TEXT, key=OLD_KEY),
    "encrypted, an older token": sealed(TEXT, token=OLD_TOKEN),
    "both copies": sealed(TEXT, FromUserName="somebody else", MsgType="text", MsgId=1, Content="clear"),
    "encrypted, as JSON": changed(VECTOR, json.dumps(
        {"ToUserName": GH, "Encrypt": file("encrypted.xml").decode().split("CDATA[")[2].split("]")[0]}).encode()),
}  # fmt: skip


@pytest.mark.parametrize("given_callback", GENUINE.values(), ids=GENUINE)
def test_genuine(given_callback: Callback) -> None:
    """Verified, well-formed, acknowledged, and read: of two copies the one that is proved."""
    adapter = adapter_with()
    adapter.verify(given_callback)
    adapter.verify(given_callback)  # the platform's own retry
    adapter.well_formed(given_callback)
    answer = adapter.acknowledge(given_callback)
    assert (answer.status, answer.body, answer.content_type) == (200, b"success", "text/plain")
    (found,) = adapter.normalize(received(given_callback.body, **given_callback.query))
    assert isinstance(found, InboundMessage)
    assert (found.id, found.text) == ("90001", "你好")


def test_the_official_vectors() -> None:
    """And the library agrees on both signatures and on what is inside."""
    assert signature(TOKEN, TIMESTAMP, NONCE) == SIGNATURE
    sdk_check(TOKEN, SIGNATURE, TIMESTAMP, NONCE)
    content = file("encrypted.xml").decode().split("CDATA[")[2].split("]")[0]
    envelope = Envelope(APP, (Secret(KEY),))
    assert envelope.open(content) == TEXT
    assert envelope.seal(TEXT, b"0123456789abcdef") == content
    clear = WeChatCrypto(TOKEN, KEY, APP).decrypt_message({"Encrypt": content}, MSG_SIGNATURE, TIMESTAMP, NONCE)
    assert clear.encode() == TEXT


@given(st.text(max_size=200), st.binary(min_size=16, max_size=16))
def test_property_the_library_opens_what_we_seal(words: str, salt: bytes) -> None:
    message = words.encode("utf-8", "replace")
    content = Envelope(APP, (Secret(KEY),)).seal(message, salt)
    opened = WeChatCrypto(TOKEN, KEY, APP).decrypt_message(
        {"Encrypt": content}, signature(TOKEN, TIMESTAMP, NONCE, content), TIMESTAMP, NONCE
    )
    assert opened.encode() == message
    assert Envelope(APP, (Secret(OLD_KEY), Secret(KEY))).open(content) == message


def resealed(clear: bytes) -> Callback:
    """A correctly signed envelope around any bytes in clear, padded as they are."""
    raw = bytes.fromhex("69b71d79f8218a39259a7a29aabb2dbafc31cb3d35db7e39ebbf3d0010831050")
    cipher = Cipher(algorithms.AES(raw), modes.CBC(raw[:16])).encryptor()
    content = base64.b64encode(cipher.update(clear) + cipher.finalize()).decode()
    return enveloped(to_xml({"Encrypt": content}).encode(), content)


HEAD = b"r" * 16
FORGED = {  # name of the case -> callback
    "another token": plain(TEXT, "guess"),
    "another time": changed(plain(TEXT), timestamp="1760000001"),
    "another nonce": changed(plain(TEXT), nonce="nonce43"),
    "no signature": callback(TEXT, timestamp=TIMESTAMP, nonce=NONCE),
    "no nonce": callback(TEXT, signature=signature(TOKEN, TIMESTAMP, ""), timestamp=TIMESTAMP, nonce=""),
    "nothing": callback(TEXT),
    "capitals": changed(plain(TEXT), signature=SIGNATURE.upper()),
    "a signature that is not ASCII": changed(plain(TEXT), signature="é" * 40),
    "half a surrogate": changed(plain(TEXT), signature="\ud800" * 40, nonce="\ud800"),
    "stale": plain(TEXT, timestamp="1759999700"),
    "from the future": plain(TEXT, timestamp="1760000400"),
    "no time at all": plain(TEXT, timestamp="now"),
    "digits of another script": plain(TEXT, timestamp="١٧٦٠٠٠٠٠٠٠"),
    "encrypted in an unknown way": changed(VECTOR, encrypt_type="rot13"),
    "encrypted, signed as if plain": changed(VECTOR, msg_signature=SIGNATURE),
    "encrypted, without its signature": changed(VECTOR, msg_signature=""),
    "encrypted, other content": changed(VECTOR, file("encrypted.xml").replace(b"3z9AFL", b"3z9AFM")),
    "encrypted, without content": changed(VECTOR, TEXT),
    "encrypted, with two contents": changed(
        VECTOR, file("encrypted.xml").replace(b"</xml>", b"<Encrypt>a</Encrypt></xml>")),
    "encrypted, with a DTD": changed(VECTOR, b"<!DOCTYPE xml>" + file("encrypted.xml")),
    "encrypted, no XML": changed(VECTOR, b"\xff"),
    "encrypted, too long": changed(VECTOR, b"<xml>" + b" " * 65_536 + file("encrypted.xml")[5:]),
    "for another app with our key": sealed(TEXT, app="wx00112233445566bb"),
    "for an app whose name ours begins": sealed(TEXT, app=APP + "b"),
    "another key": sealed(TEXT, key="Z" * 43),
    "no base64": enveloped(b"<xml><Encrypt>abc</Encrypt></xml>", "abc"),
    "not in blocks": enveloped(b"<xml><Encrypt>YWJj</Encrypt></xml>", "YWJj"),
    "a length beyond the end": resealed(HEAD + b"\x7f\xff\xff\xff" + b"a" * 11 + b"\x01"),
    "padded by nothing": resealed(HEAD + b"\0\0\0\0" + APP.encode()[:12] + b"\0" * 32),
    "padded by too much": resealed(HEAD + b"\0\0\0\0" + b"\x2c" * 44),
    "padded unevenly": resealed(HEAD + b"\0\0\0\0" + APP.encode() + b"\1" * 9 + b"\x0a"),
    "shorter than its head": resealed(b"\x10" * 16),
}  # fmt: skip


@pytest.mark.parametrize("given_callback", FORGED.values(), ids=FORGED)
def test_forged(given_callback: Callback) -> None:
    with pytest.raises(VerificationError):
        adapter_with().verify(given_callback)


def test_a_plain_signature_is_good_for_one_body() -> None:
    adapter = adapter_with()
    adapter.verify(plain(TEXT))
    with pytest.raises(VerificationError, match="another body"):
        adapter.verify(plain(TEXT.replace(b"90001", b"90002")))
    adapter.verify(plain(TEXT))


def test_what_was_seen_is_forgotten_in_time_and_by_number() -> None:
    now = [0.0]
    replays = Replays(10, lambda: now[0], most=2)
    for nonce in "abc":
        replays.check("1", nonce, b"x")
    replays.check("1", "a", b"y")
    now[0] = 11.0
    replays.check("1", "c", b"y")
    with pytest.raises(VerificationError):
        replays.check("1", "c", b"x")


def test_secure_accounts_refuse_plain_posts() -> None:
    adapter = adapter_with(security="secure")
    for name in ("the vector", "encrypted", "both copies"):
        adapter.verify(GENUINE[name])
    for refused in (plain(TEXT), changed(VECTOR, encrypt_type=""), changed(VECTOR, TEXT, encrypt_type="raw")):
        with pytest.raises(VerificationError, match="not encrypted"):
            adapter.verify(refused)


def test_without_a_key_nothing_encrypted_is_taken() -> None:
    with pytest.raises(VerificationError, match="no encoding_aes_key"):
        adapter_with(encoding_aes_key=()).verify(VECTOR)


def test_a_key_that_is_gone_leaves_the_delivery_unreadable() -> None:
    (found,) = adapter_with(encoding_aes_key=(Secret(OLD_KEY),)).normalize(received(VECTOR.body, **VECTOR.query))
    assert found == Unreadable(
        id=digest(VECTOR.body), at=NOW, channel="wechat", path="$.Encrypt",
        problem="no key opens the content for this app",
    )  # fmt: skip


MALFORMED = {"not XML": plain(b"hello"), "a DTD": plain(b"<!DOCTYPE xml><xml/>"), "hidden": sealed(b"hello")}


@pytest.mark.parametrize("given_callback", MALFORMED.values(), ids=MALFORMED)
def test_malformed(given_callback: Callback) -> None:
    adapter = adapter_with()
    adapter.verify(given_callback)
    with pytest.raises(MalformedBody):
        adapter.well_formed(given_callback)


@pytest.mark.parametrize("security", ["plain", "secure"])
def test_the_handshake_echoes_in_every_mode(security: str) -> None:
    """However old: nothing comes of it."""
    asked = {"signature": SIGNATURE, "timestamp": TIMESTAMP, "nonce": NONCE, "echostr": "5318241234567890123"}
    adapter = adapter_with(clock=time.time(), security=security)
    answer = adapter.handshake(callback(b"", "GET", **asked))
    assert (answer.status, answer.body, answer.content_type) == (200, b"5318241234567890123", "text/plain")
    for wrong in ({"signature": ""}, {"nonce": "x"}, {"echostr": ""}, {"timestamp": "1"}):
        with pytest.raises(HandshakeRefused):
            adapter.handshake(callback(b"", "GET", **asked | wrong))


# --- settings ---------------------------------------------------------------------------------------------------------

REFUSED_SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "no token": ({"token": ()}, "token: is empty"),
    "no original id": ({"original_id": ""}, "original_id: is empty"),
    "secure without a key": ({"security": "secure", "encoding_aes_key": ()}, "encoding_aes_key: missing"),
    "a short key": ({"encoding_aes_key": (Secret("abc"),)}, "encoding_aes_key: must have 43"),
    "a key that is not ASCII": ({"encoding_aes_key": (Secret("é" * 43),)}, "encoding_aes_key: must have 43"),
}


@pytest.mark.parametrize(("changes", "problem"), REFUSED_SETTINGS.values(), ids=REFUSED_SETTINGS)
def test_refused_settings(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        adapter_with(**changes)


def test_an_account_knows_its_name() -> None:
    adapter = adapter_with()
    assert adapter.routing_keys() == adapter.account.own_addresses == frozenset({GH})
    assert adapter.webhook_max_bytes == 64 * 1024


# --- what goes out ----------------------------------------------------------------------------------------------------

PICTURE = OutboundFile(kind="image", media_type="image/png", filename="a.png", size=10, open_path="/x")
FILM = OutboundFile(kind="video", media_type="video/mp4", filename="a.mp4", size=10, open_path="/x")
VOICE = OutboundFile(kind="audio", media_type="audio/amr", filename="a.amr", size=10, duration_ms=60_000)
OUT = OutboundMessage(
    id="outbox-1", key="0199-aa", account="wx-main", channel="wechat", to=(MARA.addresses[0],), text="您好 🙂"
)


def out(**values: Any) -> OutboundMessage:
    return msgspec.structs.replace(OUT, **values)


def custom(kind: str, **content: Any) -> Request:
    return Request(CUSTOM, {"touser": OPENID, "msgtype": kind, kind: content})


def templated(path: str, **body: Any) -> Request:
    return Request(f"/cgi-bin/message/{path}", {"touser": OPENID, "template_id": "tpl", **body})


def template(**parameters: Any) -> OutboundMessage:
    return out(text="", template=Template("tpl", "zh_CN", parameters))


MEDIA_IDS = {"media_id": "m1"}
LINKS = (
    '<a href="https://a.example/?a=1&amp;b=2">page</a> <A HREF=http://a.example>page</A> '
    '<a href="https://a.example" data-miniprogram-appid="wx9" data-miniprogram-path="pages/a">mini program</a> '
    '<a href="weixin://bizmsgmenu?msgmenucontent=Yes&msgmenuid=1">Yes</a>'
)
OUTBOUND: dict[str, tuple[OutboundMessage, Request]] = {  # name of the case -> (message, call)
    "a text": (OUT, custom("text", content="您好 🙂")),
    "links a customer may open": (
        out(text=LINKS), custom("text", content=LINKS)),
    "words about links": (out(text="href=javascript: opens nothing"),
                          custom("text", content="href=javascript: opens nothing")),
    "an address among others": (
        out(to=(Address("wechat", "unionid", "u"), *OUT.to)),
        custom("text", content="您好 🙂"),
    ),
    "a picture": (out(text="", file=PICTURE), custom("image", media_id="m1")),
    "a voice message": (out(text="", files=(VOICE,)), custom("voice", media_id="m1")),
    "a film": (out(text="", file=FILM), custom("video", media_id="m1", title="a.mp4")),
    "an article": (
        out(text="", content=Link("https://a.example", "A", "B", "https://a.example/p")),
        custom("news", articles=[
            {"title": "A", "description": "B", "url": "https://a.example", "picurl": "https://a.example/p"}]),
    ),
    "a menu": (
        out(content=Interactive(values={"buttons": [{"id": "1", "title": "Yes"}, "No"], "tail": "Thanks"})),
        custom("msgmenu", head_content="您好 🙂", list=[{"id": "1", "content": "Yes"}, {"id": "No", "content": "No"}],
               tail_content="Thanks"),
    ),
    "a link below a text": (
        out(content=Interactive(values={"url": "https://a.example", "label": "Open"})),
        custom("text", content='您好 🙂\n<a href="https://a.example">Open</a>'),
    ),
    "a mini program's card": (
        out(text="", content=Interactive(type="miniprogrampage", values={"title": "T", "appid": "wx9"})),
        custom("miniprogrampage", title="T", appid="wx9"),
    ),
    "a template": (
        template(thing1="Parcel", time2={"value": "12:00", "color": "#f00"}),
        templated("template/send", data={"thing1": {"value": "Parcel"}, "time2": {"value": "12:00", "color": "#f00"}},
                  client_msg_id="0199aa"),
    ),
    "a template without fields": (
        out(text="", template=Template("tpl")), templated("template/send", data={}, client_msg_id="0199aa"),
    ),
    "a template with a link": (
        template(data={"thing1": 7}, url="https://a.example", miniprogram={"appid": "wx9"}),
        templated("template/send", url="https://a.example", miniprogram={"appid": "wx9"},
                  data={"thing1": {"value": "7"}}, client_msg_id="0199aa"),
    ),
    "a subscription notice": (
        template(notice="subscription", page="https://a.example", data={"thing1": "x"}),
        templated("subscribe/bizsend", page="https://a.example", data={"thing1": {"value": "x"}}),
    ),
    "a notice that opens a mini program": (
        template(notice="subscription", page="pages/a?at=12:00", data={}),
        templated("subscribe/bizsend", page="pages/a?at=12:00", data={}),
    ),
    "a notice for once": (
        template(notice="once", scene="1", title="Order", data={"content": {"value": "x"}}),
        templated("template/subscribe", scene="1", title="Order", data={"content": {"value": "x"}}),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("message", "request_"), OUTBOUND.values(), ids=OUTBOUND)
def test_outbound(message: OutboundMessage, request_: Request) -> None:
    assert request_for(message, MEDIA_IDS) == request_


def test_an_agent_may_speak() -> None:
    body = request_for(OUT, agent="anna@gh_demo").body
    assert body["customservice"] == {"kf_account": "anna@gh_demo"}
    assert "customservice" not in request_for(template(a="b"), agent="anna@gh_demo").body


UNSPEAKABLE: dict[str, tuple[OutboundMessage, str]] = {  # name of the case -> (message, code)
    "nobody": (out(to=(Address("wechat", "unionid", "u"),)), "no-openid"),
    "nothing": (out(text=""), "empty"),
    "two files": (out(text="", files=(PICTURE, FILM)), "files"),
    "a text beside a file": (out(file=PICTURE), "caption"),
    "a document": (
        out(text="", file=OutboundFile(kind="file", media_type="application/pdf", filename="a", size=1)), "media-type"),
    "too large a picture": (out(text="", file=msgspec.structs.replace(PICTURE, size=10 * 2**20 + 1)), "media-size"),
    "too long a voice message": (
        out(text="", file=msgspec.structs.replace(VOICE, duration_ms=60_001)), "media-length"),
    "a place": (out(content=Location(1, 2)), "content"),
    "a sticker": (out(content=Sticker("1")), "content"),
    "a reaction": (out(reaction="👍"), "reaction"),
    "a menu without a text": (out(text="", content=Interactive(values={"rows": ["a"]})), "interactive"),
    "an empty menu": (out(content=Interactive()), "interactive"),
    "a template's fields without names": (out(text="", template=Template("tpl", "", ("a",))), "template"),
    "a notice of no kind": (template(notice="pigeon", data={}), "template"),
    **{
        f"a link to {href}": (out(text=f"Look: <a {href}>here</a>"), "link")
        for href in (
            'href="javascript:alert(1)"', "href=javascript:alert(1)", "HREF = ' java\nscript:alert(1)'",
            'href="&#106;avascript:alert(1)"', 'title=">" href="data:text/html,x"', 'href="javascript:alert(1)',
            'href="file:///etc/passwd"', 'href="https://a.example" href="javascript:alert(1)"',
        )
    },
    "a label that is a link": (
        out(content=Interactive(values={"url": "https://a.example", "label": 'x</a><a href="javascript:x">'})), "link"),
    "a menu's tail that is a link": (
        out(content=Interactive(values={"rows": ["a"], "tail": '<a href="javascript:x">y</a>'})), "link"),
    "a link below a text to no page": (out(content=Interactive(values={"url": "javascript:x"})), "interactive"),
    "a picture of an article that is no page": (
        out(text="", content=Link("https://a.example", "A", "B", "javascript:x")), "interactive"),
    "music that is no page": (
        out(text="", content=Interactive(type="music", values={"musicurl": "javascript:x"})), "interactive"),
    "a template's link to no page": (template(url="javascript:x", data={}), "interactive"),
    "a notice's link to no page": (template(notice="subscription", page="javascript:x", data={}), "template"),
    "more than a notice takes": (template(notice="subscription", url="https://a.example", data={}), "template"),
}  # fmt: skip


@pytest.mark.parametrize(("message", "code"), UNSPEAKABLE.values(), ids=UNSPEAKABLE)
def test_unspeakable(message: OutboundMessage, code: str) -> None:
    with pytest.raises(SendError) as caught:
        request_for(message, MEDIA_IDS)
    assert (caught.value.code, caught.value.certain) == (code, True)
    assert caught.value.error_class == ("bad-recipient" if code == "no-openid" else "permanent")


# --- what the platform is ---------------------------------------------------------------------------------------------

CLASSES = {
    "retry": "-1 -1000",
    "auth": "40001 40014 42001 41001 42007 40002 40013 40125 41002 41004 40164 89503 61004 61007",
    "bad-recipient": "40003 43004 50005 48002 43101",
    "window-closed": "45015 45047",
    "throttle": "45009 45011",
    "permanent": "45002 45008 40004 40005 40006 40007 40008 40009 40010 40011 40012 45001 45007 45162 40036 40037 43002"
    " 43003 44002 47001 48001 48004 50002 48008 61452",
}


@pytest.mark.parametrize(("error_class", "codes"), CLASSES.items())
def test_error_classes(error_class: str, codes: str) -> None:
    assert {code: ERRORS[code].error_class for code in codes.split()} == dict.fromkeys(codes.split(), error_class)


def test_what_an_action_allows() -> None:
    window = CHANNEL.window
    assert window is not None
    assert (window.duration, window.max_messages, window.opened_by) == (timedelta(hours=48), 5, frozenset())
    assert {kind: (one.messages, one.duration) for kind, one in window.allowances.items()} == dict.fromkeys(
        ("click", "follow", "msgmenu", "scan", "scancode_push", "scancode_waitmsg"), (3, timedelta(minutes=1))
    )


def test_limits() -> None:
    assert (CHANNEL.limits.text_max, CHANNEL.limits.text_unit, CHANNEL.limits.caption_max) == (2048, "bytes", 0)
    largest: Mapping[str, int] = {rule.kind: rule.max_bytes for rule in MEDIA}
    assert largest == {"image": 10 * 2**20, "audio": 2 * 2**20, "video": 10 * 2**20}


# --- the contract -----------------------------------------------------------------------------------------------------

ACCESS = "access-token-canary-1"


class _Primed(WeChatAdapter):
    """With a token in the cache, so that a send is one call."""

    name: ClassVar[str] = "wechat"

    def __init__(self, account: Account, settings: Settings, http: Http) -> None:
        super().__init__(account, settings, http)
        key = f"wechat:{settings.api_base}:{settings.app_id}"
        self.tokens = InProcessTokens({key: Token(Secret(ACCESS), time.time() + 7000)})


def sign(body: bytes) -> Callback:
    return plain(body, timestamp=str(int(time.time())))


def sign_sealed(body: bytes) -> Callback:
    """The envelope is the body: what is signed stands in it."""
    content = body.decode("utf-8", "replace").partition("<Encrypt><![CDATA[")[2].partition("]]>")[0]
    return enveloped(body, content or "none")


def _error(status: int) -> bytes:
    return json.dumps({"errcode": 45011 if status == 429 else 40003, "errmsg": "no rid: 65-1"}).encode()


CASE = AdapterCase(
    adapter=_Primed,
    settings={
        "app_id": APP, "app_secret": "app-secret-canary-1", "token": [TOKEN, OLD_TOKEN], "original_id": GH,
        "encoding_aes_key": [KEY, OLD_KEY], "api_base": "{base}",
    },
    message=file("text.xml"),
    unknown_kind=came("hologram"),
    unknown_event=event("surprise"),
    sign=sign,
    body_signed=False,
    signature_query=("signature", "timestamp", "nonce"),
    outbound=OUT,
    success=b'{"errcode":0,"errmsg":"ok"}',
    error_body=_error,
    secrets=(ACCESS,),
)  # fmt: skip
CASE_SECURE = replace(
    CASE,
    settings={**CASE.settings, "security": "secure"},
    message=file("encrypted.xml"),
    unknown_kind=sealed(came("hologram")).body,
    unknown_event=sealed(event("surprise")).body,
    sign=sign_sealed,
    signature_query=("msg_signature", "timestamp", "nonce", "encrypt_type"),
)
