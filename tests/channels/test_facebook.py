"""A Facebook Page: webhook bodies to events, messages to request bodies, answers to outcomes."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters import Callback, HandshakeRefused, Http, HttpAnswer, SendError, VerificationError
from adapters._errors import platform_error
from adapters._facebook_facts import FACEBOOK, FEED_ERRORS, MESSENGER
from adapters._http import new_session
from adapters._media import MediaClient
from adapters._meta import read_answer
from adapters._meta_facts import MESSAGING_ERRORS
from adapters._meta_graph import proof_of
from adapters._meta_messaging import MESSENGER as SURFACE
from adapters._meta_messaging import body_for
from adapters.facebook import FacebookAdapter, Settings
from adapters.testing import AdapterCase
from config.secret import Secret
from normalizers._facebook_feed import completed
from normalizers._fields import digest
from normalizers.facebook import normalize
from normalizers.model import (
    Account,
    AccountEvent,
    Address,
    Attachment,
    ConsentChange,
    Context,
    DeliveryUpdate,
    Echo,
    Engagement,
    Event,
    Ignored,
    InboundMessage,
    Interactive,
    Link,
    Location,
    MessageDeleted,
    MessageEdited,
    Order,
    OutboundFile,
    OutboundMessage,
    Person,
    Reaction,
    Received,
    Referral,
    Sticker,
    Template,
    Thread,
    ThreadControl,
    Unreadable,
    Unsupported,
)

PAYLOADS = Path(__file__).parent / "payloads" / "facebook"
PAGE, APP_SECRET = "110220330", "app-secret-canary"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
AT = datetime.fromtimestamp(1790000000, UTC) + timedelta(milliseconds=123)
SECOND = datetime.fromtimestamp(1790000098, UTC)
PSID = Address("messenger", "psid", "9988776655")
JO = Person((PSID,))
COMMENTER = Person((Address("facebook", "commenter", "4455667788"),), "Jo Example")
POST, COMMENT = f"{PAGE}_5001", "5001_7001"
UNDER = Thread(kind="public", key=POST)
CDN = "https://cdn.example/v/bill.pdf?sig=1"


def file(name: str) -> bytes:
    return (PAYLOADS / name).read_bytes()


def wrap(**lists: Any) -> bytes:
    return json.dumps({"object": "page", "entry": [{"id": PAGE, "time": 1790000000456, **lists}]}).encode()


def item(**event: Any) -> dict[str, Any]:
    people = {"sender": {"id": "9988776655"}, "recipient": {"id": PAGE}}
    return {**people, "timestamp": 1790000000123, **event}


def did(**event: Any) -> bytes:
    return wrap(messaging=[item(**event)])


def came(**message: Any) -> bytes:
    return did(message={"mid": "m_1", **message})


def attached(kind: str, payload: Any = None, **more: Any) -> bytes:
    return came(attachments=[{"type": kind, "payload": payload, **more}])


def echoed(**message: Any) -> bytes:
    people = {"sender": {"id": PAGE}, "recipient": {"id": "9988776655"}}
    return did(**people, message={"mid": "m_1", "is_echo": True, **message})


BY_US = {"from": {"id": PAGE, "name": "The Shop"}}


def fed(given: Mapping[str, Any] | None = None, /, field: str = "feed", **value: Any) -> bytes:
    """A change of the feed; `given` and the rest join or replace what it tells, None takes it away."""
    told = {
        "item": "comment", "verb": "add", "post_id": POST, "comment_id": COMMENT, "parent_id": POST,
        "from": {"id": "4455667788", "name": "Jo Example"}, "created_time": 1790000098, **(given or {}), **value,
    }  # fmt: skip
    return wrap(changes=[{"field": field, "value": {key: one for key, one in told.items() if one is not None}}])


def run(payload: bytes, **options: str) -> tuple[Event, ...]:
    return normalize(Received(payload, {}, {}, NOW, Account("fb", "facebook", options=options)))


PRIVATE_PLACE: dict[str, Any] = {
    "at": AT, "routing_key": PAGE, "channel": "messenger", "path": "$.entry[0].messaging[0]",
}  # fmt: skip
PUBLIC_PLACE: dict[str, Any] = {
    "at": SECOND, "routing_key": PAGE, "channel": "facebook", "path": "$.entry[0].changes[0].value",
}  # fmt: skip


def message(**fields: Any) -> InboundMessage:
    return InboundMessage(**{"id": "m_1", **PRIVATE_PLACE, "sender": JO, **fields})


def comment(**fields: Any) -> InboundMessage:
    base = {"id": COMMENT, **PUBLIC_PLACE, "sender": COMMENTER, "thread": UNDER, "opens_window": False}
    return InboundMessage(**{**base, "context": Context(reply_to=POST), **fields})


def picture(kind: Any = "image", url: str = CDN, **more: Any) -> Attachment:
    return Attachment(**{"kind": kind, "url": url, "ref": "0:m_1", **more})


MESSENGER_CASES: dict[str, tuple[bytes, tuple[Event, ...]]] = {
    "a quick reply that answers and came by an ad": (
        file("first_message.json"),
        (message(id="m_MADEUP_1", kind="interactive", text="Is the shop open?",
                 content=Interactive("HOURS", "Is the shop open?", type="quick_reply"),
                 context=Context(reply_to="m_MADEUP_0",
                                 referral=Referral("ADS", "6045246247433", title="Summer shoes", text="summer"))),),
    ),
    "a text": (came(text="Hi"), (message(text="Hi"),)),
    "a batch of several Pages, with broken items": (
        file("batch.json"),
        (
            message(id="m_1", text="one"),
            Unreadable(id=digest({"sender": {"id": "9988776655"}, "recipient": {"id": PAGE},
                                  "timestamp": 1790000000123, "message": {"text": "no id"}}),
                       at=datetime.fromtimestamp(1790000000.456, UTC), routing_key=PAGE, channel="messenger",
                       path="$.entry[0].messaging[1].mid", problem="missing"),
            Unreadable(id=digest("no object"), at=datetime.fromtimestamp(1790000000.456, UTC), routing_key=PAGE,
                       channel="messenger", path="$.entry[0].messaging[2]", problem="not an object"),
            Unreadable(id=digest({"recipient": {"id": PAGE}, "timestamp": 1790000000123,
                                  "message": {"mid": "m_4", "text": "no sender"}}),
                       at=datetime.fromtimestamp(1790000000.456, UTC), routing_key=PAGE, channel="messenger",
                       path="$.entry[0].messaging[3].sender.id", problem="missing"),
            InboundMessage(id="m_5", at=datetime.fromtimestamp(1790000000, UTC), routing_key="110220331",
                           channel="messenger", path="$.entry[1].messaging[0]", text="of another Page, in seconds",
                           sender=Person((Address("messenger", "psid", "1122334455"),))),
            Unreadable(id=digest({"field": "feed", "value": {"item": "comment", "verb": "add",
                                                             "post_id": "110220331_1"}}),
                       at=datetime.fromtimestamp(1790000100, UTC), routing_key="110220331", channel="facebook",
                       path="$.entry[1].changes[0].comment_id", problem="missing"),
            Unreadable(id=digest({"field": "feed"}), at=datetime.fromtimestamp(1790000100, UTC),
                       routing_key="110220331", channel="facebook", path="$.entry[1].changes[1].value",
                       problem="missing"),
        ),
    ),
    "several pictures and a text": (
        came(text="look", attachments=[{"type": "image", "payload": {"url": CDN}},
                                       {"type": "image", "payload": {"url": CDN + "2"}}]),
        (message(kind="image", text="look", attachments=(picture(), picture(url=CDN + "2", ref="1:m_1"))),),
    ),
    "a file": (attached("file", {"url": CDN}),
               (message(kind="file", attachments=(picture("file", filename="bill.pdf"),)),)),
    "a voice note": (attached("audio", {"url": CDN}), (message(kind="audio", attachments=(picture("audio"),)),)),
    "a sticker": (
        attached("sticker", {"sticker_id": 12, "url": CDN}),
        (message(kind="sticker", content=Sticker("12"), attachments=(picture("sticker"),)),),
    ),
    "a thumb, as stickers came before": (
        attached("image", {"sticker_id": 369239263222822, "url": CDN}),
        (message(kind="sticker", text="👍", content=Sticker("369239263222822"), attachments=(picture("sticker"),)),),
    ),
    "a place": (
        attached("location", {"coordinates": {"lat": 48.2, "long": 16.4}}, title="Shop"),
        (message(kind="location", text="Shop", content=Location(48.2, 16.4, "Shop")),),
    ),
    "a place without coordinates": (
        attached("location", {}), (message(kind="unsupported", content=Unsupported("location")),),
    ),
    "a link": (
        attached("fallback", None, title="News", url="https://news.example/1"),
        (message(kind="link", text="News", content=Link("https://news.example/1", "News")),),
    ),
    "a text with its link's preview": (
        came(text="https://news.example/1",
             attachments=[{"type": "fallback", "payload": None, "title": "News", "url": "https://news.example/1"}]),
        (message(text="https://news.example/1", content=Link("https://news.example/1", "News")),),
    ),
    "a fallback of nothing": (
        attached("fallback", None), (message(kind="unsupported", content=Unsupported("fallback")),),
    ),
    "a reel with a relative address": (
        attached("ig_reel", {"url": "/reel/1", "title": "Dance"}),
        (message(kind="link", text="Dance", content=Link("", "Dance")),),
    ),
    "a post shared twice in one message": (
        came(attachments=[{"type": "share", "payload": {"url": "https://ig.example/p"}},
                          {"type": "ig_post", "payload": {"url": "https://ig.example/p", "title": "P"}}]),
        (message(kind="link", text="https://ig.example/p", content=Link("https://ig.example/p")),),
    ),
    "a product": (
        attached("template", {"template_type": "product", "elements": [{"title": "Shoe", "id": "9"}]}),
        (message(kind="template", text="Shoe",
                 content=Template("product", parameters={"elements": [{"title": "Shoe", "id": "9"}]})),),
    ),
    "an appointment": (
        attached("appointment_booking", {"status": "confirmed", "start": 1}),
        (message(kind="interactive", text="confirmed",
                 content=Interactive(type="appointment_booking", values={"status": "confirmed", "start": 1})),),
    ),
    "a kind nobody knows": (
        attached("hologram", {"url": CDN}), (message(kind="unsupported", content=Unsupported("hologram")),),
    ),
    "nothing at all": (
        came(), (message(kind="unsupported", content=Unsupported("empty", "neither text nor a file")),),
    ),
    "a postback": (
        did(postback={"mid": "m_2", "title": "Start", "payload": "START",
                      "referral": {"ref": "qr", "source": "SHORTLINK"}}),
        (message(id="m_2", kind="interactive", text="Start", content=Interactive("START", "Start", type="postback"),
                 context=Context(referral=Referral("SHORTLINK", text="qr"))),),
    ),
    "an edit": (
        did(message_edit={"mid": "m_1", "text": "better", "num_edit": 2}),
        (MessageEdited(id="m_1:2", **PRIVATE_PLACE, target="m_1", text="better", sender=JO),),
    ),
    "a message taken back": (
        came(is_deleted=True), (MessageDeleted(id="m_1:deleted", **PRIVATE_PLACE, target="m_1", sender=JO),),
    ),
    "a reaction": (
        did(reaction={"mid": "m_0", "action": "react", "reaction": "love", "emoji": "❤"}),
        (Reaction(id="m_0:9988776655:react:1790000000123", **PRIVATE_PLACE, target="m_0", emoji="❤", sender=JO),),
    ),
    "a reaction told by its word": (
        did(reaction={"mid": "m_0", "action": "react", "reaction": "sad"}),
        (Reaction(id="m_0:9988776655:react:1790000000123", **PRIVATE_PLACE, target="m_0", emoji="😢", sender=JO),),
    ),
    "a reaction taken back": (
        did(reaction={"mid": "m_0", "action": "unreact"}),
        (Reaction(id="m_0:9988776655:unreact:1790000000123", **PRIVATE_PLACE, target="m_0", emoji="", sender=JO),),
    ),
    "delivered, by id and by watermark": (
        did(delivery={"mids": ["m_8", "m_9"], "watermark": 1790000000123}),
        (DeliveryUpdate(id="m_8:delivered:9988776655", **PRIVATE_PLACE, status="delivered", target="m_8",
                        recipient=PSID),
         DeliveryUpdate(id="m_9:delivered:9988776655", **PRIVATE_PLACE, status="delivered", target="m_9",
                        recipient=PSID),
         DeliveryUpdate(id="9988776655:delivered:1790000000123", **PRIVATE_PLACE, status="delivered", watermark=AT,
                        recipient=PSID)),
    ),
    "read up to a moment": (
        did(read={"watermark": 1790000000123}),
        (DeliveryUpdate(id="9988776655:read:1790000000123", **PRIVATE_PLACE, status="read", watermark=AT,
                        recipient=PSID),),
    ),
    "our own message coming back": (
        echoed(text="Open.", metadata="outbox-42", app_id=555444333),
        (Echo(id="m_1", **PRIVATE_PLACE, recipient=JO, text="Open.", app="555444333", ours="outbox-42"),
         DeliveryUpdate(id="m_1:sent", **PRIVATE_PLACE, status="sent", target="m_1", ours="outbox-42",
                        recipient=PSID)),
    ),
    "written by staff in the Page's inbox": (
        echoed(text="Hello", metadata="theirs", app_id=263902037430900),
        (Echo(id="m_1", **PRIVATE_PLACE, recipient=JO, text="Hello", app="Page inbox"),),
    ),
    "another holds the conversation": (
        wrap(standby=[item(message={"mid": "m_1", "text": "Hi"})]),
        (message(text="Hi", flags=("standby",), path="$.entry[0].standby[0]"),
         ThreadControl(id="m_1:standby", **PRIVATE_PLACE | {"path": "$.entry[0].standby[0]"}, person=JO,
                       action="standby")),
    ),
    "a conversation taken by the inbox": (
        did(take_thread_control={"new_owner_app_id": "263902037430900", "metadata": "x"}),
        (ThreadControl(
            id=digest(["take", {"id": "9988776655"}, 1790000000123,
                       {"new_owner_app_id": "263902037430900", "metadata": "x"}]),
            **PRIVATE_PLACE, person=JO, action="take", app="Page inbox"),),
    ),
    "an unknown event": (
        did(telepathy={}),
        (Ignored(id=digest(item(telepathy={})), **PRIVATE_PLACE | {"at": datetime.fromtimestamp(1790000000.456, UTC)},
                 reason="event 'telepathy'"),),
    ),
}  # fmt: skip

FEED_CASES: dict[str, tuple[bytes, tuple[Event, ...]]] = {
    "a comment": (
        file("comment.json"),
        (comment(text="Do you ship to Austria?",
                 context=Context(reply_to=POST, permalink="https://facebook.example/p/5001")),),
    ),
    "a comment below a comment": (
        fed(message="me too", parent_id="5001_6000"),
        (comment(text="me too", thread=Thread(kind="public", key=POST, parent="5001_6000"),
                 context=Context(reply_to="5001_6000")),),
    ),
    "a comment of nobody": (
        fed({"from": None}, message="Hi"),
        (comment(text="Hi", sender=Person((Address("facebook", "anonymous", COMMENT, evidence="claimed"),))),),
    ),
    "a picture below a post": (
        fed(photo=CDN),
        (comment(kind="image", attachments=(picture(ref=f"comment:{COMMENT}"),)),),
    ),
    "a film with a text": (
        fed(video=CDN, message="see"),
        (comment(kind="video", text="see", attachments=(picture("video", ref=f"comment:{COMMENT}"),)),),
    ),
    "a comment that must be looked up": (
        fed(message=""),
        (comment(kind="unsupported", lookup=COMMENT,
                 content=Unsupported("comment", "a sticker or a file that has to be looked up")),),
    ),
    "our own comment": (
        fed(BY_US, message="Yes."),
        (Echo(id=COMMENT, **PUBLIC_PLACE, text="Yes.", thread=UNDER, context=Context(reply_to=POST)),),
    ),
    "a comment edited": (
        fed(verb="edited", message="Do you?"),
        (MessageEdited(id=f"{COMMENT}:edited:1790000098:{digest('Do you?')[:8]}", **PUBLIC_PLACE, target=COMMENT,
                       text="Do you?", sender=COMMENTER, thread=UNDER),),
    ),
    "a comment removed": (
        fed(verb="remove"),
        (MessageDeleted(id=f"{COMMENT}:remove:1790000098:{digest('')[:8]}", **PUBLIC_PLACE, target=COMMENT,
                        sender=COMMENTER, thread=UNDER),),
    ),
    "our own comment removed": (
        fed(BY_US, verb="remove"),
        (Echo(id=f"{COMMENT}:remove:1790000098:{digest('')[:8]}", **PUBLIC_PLACE, thread=UNDER, action="deleted",
              target=COMMENT),),
    ),
    "a comment hidden": (
        fed(verb="hide", message="bad"),
        (Engagement(id=f"{COMMENT}:hide:1790000098:{digest('bad')[:8]}", **PUBLIC_PLACE, person=COMMENTER,
                    kind="hidden", values={"message": COMMENT}, thread=UNDER),),
    ),
    "a visitor's post": (
        fed(item="post", message="Broken shoes", comment_id=None, parent_id=None),
        (comment(id=POST, text="Broken shoes", context=Context()),),
    ),
    "a visitor's picture": (
        fed(item="photo", link=CDN, comment_id=None, parent_id=None),
        (comment(id=POST, kind="image", context=Context(), attachments=(picture(ref=f"post:{POST}"),)),),
    ),
    "a visitor's link": (
        fed(item="share", link="https://news.example/1", comment_id=None, parent_id=None),
        (comment(id=POST, kind="link", context=Context(), content=Link("https://news.example/1")),),
    ),
    "the Page's own post": (
        fed(BY_US, item="status", message="Sale!", comment_id=None, parent_id=None),
        (Echo(id=POST, **PUBLIC_PLACE, text="Sale!", thread=UNDER, context=Context()),),
    ),
    "a reaction to a comment": (
        fed(item="reaction", reaction_type="love"),
        (Reaction(id=f"{COMMENT}:4455667788:add:love:1790000098", **PUBLIC_PLACE, target=COMMENT, emoji="❤",
                  sender=COMMENTER, thread=UNDER),),
    ),
    "a reaction taken back in public": (
        fed(item="reaction", reaction_type="haha", verb="remove"),
        (Reaction(id=f"{COMMENT}:4455667788:remove:haha:1790000098", **PUBLIC_PLACE, target=COMMENT, emoji="",
                  sender=COMMENTER, thread=UNDER),),
    ),
    "the Page is mentioned": (
        fed({"from": None}, field="mention", sender_id="4455667788", sender_name="Jo Example", message="@Shop?"),
        (comment(text="@Shop?", flags=("mention",)),),
    ),
}  # fmt: skip

INBOUND = MESSENGER_CASES | FEED_CASES


@pytest.mark.parametrize(("payload", "events"), INBOUND.values(), ids=INBOUND)
def test_inbound(payload: bytes, events: tuple[Event, ...]) -> None:
    assert run(payload) == events


USELESS = {
    "a reaction to a post": fed(item="reaction", reaction_type="like", comment_id=None),
    "our own reaction": fed(BY_US, item="reaction", reaction_type="like"),
    "a like of the Page": fed(item="like"),
    "a film unblocked": fed(item="video", verb="unblock"),
    "a field nobody knows": fed(field="surprise"),
    "sent by ourselves": did(sender={"id": PAGE}, message={"mid": "m_1", "text": "x"}),
    "a reaction of ours": did(sender={"id": PAGE}, reaction={"mid": "m_1", "action": "react"}),
    "account linking": did(account_linking={"status": "linked"}),
    "another object": json.dumps({"object": "instagram", "entry": [{"id": "1", "messaging": [item()]}]}).encode(),
    "an empty entry": wrap(),
}


@pytest.mark.parametrize("payload", USELESS.values(), ids=USELESS)
def test_what_is_of_no_use_is_kept(payload: bytes) -> None:
    (event,) = run(payload)
    assert isinstance(event, Ignored)
    assert event.id


def test_a_referral_opens_the_window_and_an_ad_alone_does_not() -> None:
    assert MESSENGER.window is not None
    for source, opens in (("SHORTLINK", True), ("ADS", False)):
        (event,) = run(did(referral={"ref": "r", "source": source, "type": "OPEN_THREAD"}))
        assert isinstance(event, Engagement)
        assert event.context == Context(referral=Referral(source, text="r"))
        assert (event.kind in MESSENGER.window.opened_by) is opens


def test_topics_of_marketing_are_consent() -> None:
    optin = {"type": "notification_messages", "notification_messages_token": "t", "title": "Offers"}
    change, engagement = run(did(optin=optin))
    assert isinstance(change, ConsentChange)
    assert isinstance(engagement, Engagement)
    assert (change.state, change.scope, change.topic, change.person) == ("opted_in", "marketing", "Offers", JO)
    assert engagement.values == optin
    stopped, _ = run(did(optin=optin | {"notification_messages_status": "STOP_NOTIFICATIONS"}))
    assert isinstance(stopped, ConsentChange)
    assert stopped.state == "opted_out"


def test_a_visitor_of_a_plugin_is_known_by_its_reference() -> None:
    (event,) = run(did(sender={"user_ref": "u-1"}, optin={"ref": "box"}))
    assert isinstance(event, Engagement)
    assert event.person == Person((Address("messenger", "user_ref", "u-1"),))


@pytest.mark.parametrize(("action", "alarming"), [("block", True), ("unblock", False)])
def test_a_policy_block_calls_for_a_person(action: str, alarming: bool) -> None:
    told = {"recipient": {"id": PAGE}, "timestamp": 1790000000123, "policy-enforcement": {"action": action}}
    (event,) = run(wrap(messaging=[told]))
    assert isinstance(event, AccountEvent)
    assert (event.kind, event.alarming, event.values) == ("policy", alarming, {"action": action})


def test_with_our_app_known_only_its_echoes_are_ours() -> None:
    ours, _ = run(echoed(text="x", metadata="outbox-42", app_id=555), app_id="555")
    (theirs,) = run(echoed(text="x", metadata="outbox-42", app_id=777), app_id="555")
    assert isinstance(ours, Echo)
    assert isinstance(theirs, Echo)
    assert (ours.ours, ours.own_app) == ("outbox-42", True)
    assert (theirs.ours, theirs.own_app, theirs.app) == ("", False, "777")


def test_another_page_of_ours_is_no_customer() -> None:
    account = Account("fb", "facebook", own_addresses=frozenset({PAGE, "4455667788"}))
    (event,) = normalize(Received(file("comment.json"), {}, {}, NOW, account))
    assert isinstance(event, Echo)


BROKEN = {
    "no sender": (did(sender={}, message={"mid": "m"}), ".messaging[0].sender.id"),
    "a message that is none": (did(message=7), ".messaging[0].message"),
    "a receipt of nothing": (did(read={}), ".messaging[0].watermark"),
    "a reaction to nothing": (did(reaction={}), ".messaging[0].mid"),
    "a list that is none": (wrap(messaging={}), ".messaging"),
    "a comment without id": (fed(comment_id=None), ".changes[0].comment_id"),
    "a post without id": (fed(item="post", post_id=None), ".changes[0].post_id"),
}


@pytest.mark.parametrize(("payload", "path"), BROKEN.values(), ids=BROKEN)
def test_broken_items_are_named_by_path(payload: bytes, path: str) -> None:
    (found,) = run(payload)
    assert isinstance(found, Unreadable)
    assert found.path == "$.entry[0]" + path


@pytest.mark.parametrize("depth", [500, 950, 1010, 100_000])
def test_nesting_of_any_depth_gives_events(depth: int) -> None:
    nest = b"[" * depth + b"]" * depth
    assert run(b'{"entry": [{"messaging": [%s]}]}' % nest)
    assert run(b'{"entry": [{"messaging": [{"sender": {"id": "1"}, "optin": {"a": %s}}]}]}' % nest)
    assert run(b'{"entry": [{"changes": [{"field": "x", "value": {"a": %s}}]}]}' % nest)


LOOKED_UP: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a sticker": (
        {"attachment": {"type": "sticker", "media": {"image": {"src": CDN}}}},
        {"kind": "sticker", "content": Sticker(),
         "attachments": (picture("sticker", ref=f"comment:{COMMENT}"),)},
    ),
    "a moving picture": (
        {"message": "ha", "attachment": {"type": "animated_image_share", "media": {"source": CDN}}},
        {"kind": "video", "text": "ha", "attachments": (picture("video", ref=f"comment:{COMMENT}"),)},
    ),
    "a link and an author": (
        {"attachment": {"type": "share", "url": "https://n.example", "title": "N"},
         "from": {"id": "4455667788", "name": "Jo Example"}},
        {"kind": "link", "content": Link("https://n.example", "N"), "sender": COMMENTER},
    ),
    "a text": ({"message": "Hi"}, {"kind": "text", "text": "Hi"}),
    "nothing": ({}, {"kind": "unsupported", "content": Unsupported("comment")}),
}  # fmt: skip


@pytest.mark.parametrize(("node", "fields"), LOOKED_UP.values(), ids=LOOKED_UP)
def test_a_comment_is_completed(node: dict[str, Any], fields: dict[str, Any]) -> None:
    pointer = comment(kind="unsupported", lookup=COMMENT, content=Unsupported("comment"))
    assert completed(pointer, node) == comment(**fields)


# --- sending ----------------------------------------------------------------------------------------------------------

OUT = OutboundMessage(id="outbox-42", key="k", account="fb", channel="messenger", to=(PSID,), text="Tomorrow.")
PDF = OutboundFile(kind="file", media_type="application/pdf", filename="bill.pdf", size=3, url="https://x.example/b")
RESPONSE = {"recipient": {"id": "9988776655"}, "messaging_type": "RESPONSE"}


def out(**fields: Any) -> OutboundMessage:
    values = {name: getattr(OUT, name) for name in OUT.__struct_fields__} | fields
    return OutboundMessage(**values)


def said(**content: Any) -> dict[str, Any]:
    return RESPONSE | {"message": {**content, "metadata": "outbox-42"}}


BODIES: dict[str, tuple[OutboundMessage, dict[str, Any]]] = {
    "a text": (OUT, said(text="Tomorrow.")),
    "an answer": (out(context=Context(reply_to="m_1")), said(text="Tomorrow.") | {"reply_to": {"mid": "m_1"}}),
    "not a reply": (out(purpose="transactional"), said(text="Tomorrow.") | {"messaging_type": "UPDATE"}),
    "by a person, after a day": (
        out(tag="HUMAN_AGENT"), said(text="Tomorrow.") | {"messaging_type": "MESSAGE_TAG", "tag": "HUMAN_AGENT"},
    ),
    "a file at an address": (
        out(text="", file=PDF),
        said(attachment={"type": "file", "payload": {"url": "https://x.example/b", "is_reusable": False}}),
    ),
    "a template": (
        out(text="", template=Template("ready", "de", ("Mara", "12"))),
        said(template={"name": "ready", "language": {"code": "de"}, "components": [
            {"type": "body", "parameters": [{"type": "text", "text": "Mara"}, {"type": "text", "text": "12"}]}]})
        | {"messaging_type": "UTILITY"},
    ),
    "a template with named places": (
        out(text="", template=Template("ready", "de", {"body": {"name": "Mara"}})),
        said(template={"name": "ready", "language": {"code": "de"}, "components": [
            {"type": "body", "parameters": [{"type": "text", "parameter_name": "name", "text": "Mara"}]}]})
        | {"messaging_type": "UTILITY"},
    ),
    "choices": (
        out(content=Interactive(values={"buttons": [{"id": "y", "title": "Yes"}, "No"]})),
        said(text="Tomorrow.", quick_replies=[{"content_type": "text", "title": "Yes", "payload": "y"},
                                              {"content_type": "text", "title": "No", "payload": "No"}]),
    ),
    "a link": (
        out(content=Interactive(values={"url": "https://x.example", "label": "Track"})),
        said(attachment={"type": "template", "payload": {
            "template_type": "button", "text": "Tomorrow.",
            "buttons": [{"type": "web_url", "url": "https://x.example", "title": "Track"}]}}),
    ),
    "buttons": (
        out(content=Interactive(values={"actions": [{"id": "b", "title": "Blue"}]})),
        said(attachment={"type": "template", "payload": {
            "template_type": "button", "text": "Tomorrow.",
            "buttons": [{"type": "postback", "title": "Blue", "payload": "b"}]}}),
    ),
    "cards": (
        out(text="", content=Interactive(values={"cards": [
            {"title": "Blue", "text": "24", "image": "https://x.example/b.png", "actions": ["Take"]}]})),
        said(attachment={"type": "template", "payload": {"template_type": "generic", "elements": [
            {"title": "Blue", "subtitle": "24", "image_url": "https://x.example/b.png",
             "buttons": [{"type": "postback", "title": "Take", "payload": "Take"}]}]}}),
    ),
    "a reaction": (
        out(text="", reaction="❤️", context=Context(reply_to="m_1")),
        {"recipient": {"id": "9988776655"}, "sender_action": "react",
         "payload": {"message_id": "m_1", "reaction": "love"}},
    ),
    "a reaction taken back": (
        out(text="", reaction="", context=Context(reply_to="m_1")),
        {"recipient": {"id": "9988776655"}, "sender_action": "unreact", "payload": {"message_id": "m_1"}},
    ),
    "a private reply to a comment": (
        out(channel="facebook", thread=UNDER, context=Context(reply_to=COMMENT)),
        said(text="Tomorrow.") | {"recipient": {"comment_id": COMMENT}},
    ),
    "a private reply to a visitor's post": (
        out(channel="facebook", thread=UNDER, context=Context(reply_to=POST)),
        said(text="Tomorrow.") | {"recipient": {"post_id": POST}},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "wanted"), BODIES.values(), ids=BODIES)
def test_bodies(given: OutboundMessage, wanted: dict[str, Any]) -> None:
    assert body_for(given, SURFACE, tags=True) == wanted


UNSAYABLE = {
    "nobody": (out(to=()), "no-address"),
    "somebody known in public only": (out(to=COMMENTER.addresses), "no-address"),
    "nothing": (out(text=""), "empty"),
    "a text beside a file": (out(file=PDF), "caption"),
    "two files": (out(text="", files=(PDF, PDF)), "files"),
    "a file that is nowhere": (
        out(text="", file=OutboundFile(kind="file", media_type="a/b", filename="a", size=1)), "file",
    ),
    "a tag that is gone": (out(tag="ACCOUNT_UPDATE"), "tag"),
    "a tag the app may not use": (out(tag="HUMAN_AGENT"), "tag"),
    "an order": (out(content=Order("c")), "content"),
    "a place without a text": (out(template=Template("t", "de", {"body": [None]})), "template"),
    "a component nobody knows": (out(template=Template("t", "de", {"foot": "x"})), "template"),
    "choices without a text": (out(text="", content=Interactive(values={"buttons": ["a"]})), "interactive"),
    "too many choices": (out(content=Interactive(values={"rows": ["a"] * 14})), "interactive"),
    "a form": (out(content=Interactive(values={"form": 1})), "interactive"),
    "four buttons": (out(content=Interactive(values={"actions": ["a"] * 4})), "interactive"),
    "a text of 641 above buttons": (out(text="x" * 641, content=Interactive(values={"actions": ["a"]})), "interactive"),
    "a card that is a title only": (
        out(text="", content=Interactive(values={"cards": [{"title": "a"}]})), "interactive",
    ),
    "a text beside cards": (
        out(content=Interactive(values={"cards": [{"title": "a", "text": "b"}]})), "interactive",
    ),
    "a reaction nobody knows": (out(text="", reaction="🦑", context=Context(reply_to="m")), "reaction"),
    "a reaction to nothing": (out(text="", reaction="❤"), "reaction"),
    "a private reply to nothing": (out(thread=Thread(kind="public")), "no-comment"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "code"), UNSAYABLE.values(), ids=UNSAYABLE)
def test_what_cannot_be_said_is_refused_for_certain(given: OutboundMessage, code: str) -> None:
    with pytest.raises(SendError) as caught:
        body_for(given, SURFACE, tags=False)
    assert (caught.value.code, caught.value.certain) == (code, True)


CODES: dict[tuple[int, int, int], tuple[str, str, bool, str | None]] = {
    # status, code, subcode -> code told, class, certain, pause
    (401, 190, 463): ("190", "auth", True, "account"),
    (400, 190, 2069032): ("190/2069032", "auth", True, "account"),
    (403, 10, 0): ("10", "auth", True, None),
    (403, 10, 2018278): ("10/2018278", "window-closed", True, None),
    (403, 10, 1893063): ("10/1893063", "throttle", True, "endpoint"),
    (400, 100, 0): ("100", "permanent", True, None),
    (400, 100, 2018001): ("100/2018001", "bad-recipient", True, None),
    (400, 100, 33): ("100/33", "bad-recipient", True, None),
    (400, 100, 2018047): ("100/2018047", "retry", True, None),
    (400, 200, 1545041): ("200/1545041", "bad-recipient", True, None),
    (400, 200, 7): ("200", "auth", True, None),
    (400, 551, 1545041): ("551", "bad-recipient", True, None),
    (400, 368, 0): ("368", "policy", True, None),
    (400, 506, 0): ("506", "permanent", True, None),
    (400, 613, 0): ("613", "throttle", True, "endpoint"),
    (400, 32, 0): ("32", "throttle", True, "endpoint"),
    (400, 4, 2018354): ("4/2018354", "throttle", True, "recipient"),
    (400, 1, 1357046): ("1/1357046", "unknown", False, None),
    (400, 2, 0): ("2", "unknown", False, None),
    (500, 2, 0): ("2", "unknown", False, None),
    (400, 2, 2018344): ("2/2018344", "permanent", True, None),
    (400, 1200, 0): ("1200", "retry", True, None),
    (400, 424242, 0): ("424242", "permanent", True, None),
}


def answer(status: int, code: int, subcode: int = 0, headers: Mapping[str, str] | None = None) -> HttpAnswer:
    words = {"error": {"message": "m", "code": code, "error_subcode": subcode, "fbtrace_id": "A1"}}
    return HttpAnswer(status, headers or {}, json.dumps(words).encode())


@pytest.mark.parametrize(("given", "wanted"), CODES.items(), ids=str)
def test_codes(given: tuple[int, int, int], wanted: tuple[str, str, bool, str | None]) -> None:
    with pytest.raises(SendError) as caught:
        read_answer(answer(*given), MESSAGING_ERRORS)
    error = caught.value
    assert (error.code, error.error_class, error.certain, error.pause) == wanted


def test_a_comment_that_is_gone_is_no_bad_recipient() -> None:
    assert platform_error(FEED_ERRORS, 400, "100/33").error_class == "permanent"


@pytest.mark.parametrize(
    ("usage", "wait"),
    [
        ('{"1": [{"type": "messenger", "estimated_time_to_regain_access": 3}]}', 180.0),
        ('{"1": [{"type": "pages", "estimated_time_to_regain_access": 0}]}', 60.0),
        ('{"1": {}}', 60.0),
        ("[1]", 60.0),
        ("{", 60.0),
    ],
)
def test_how_long_to_wait_stands_in_the_usage_header(usage: str, wait: float) -> None:
    with pytest.raises(SendError) as caught:
        read_answer(answer(400, 613, headers={"x-business-use-case-usage": usage}), MESSAGING_ERRORS)
    assert caught.value.retry_after_s == wait


def test_only_a_dead_token_pauses_the_account() -> None:
    pausing = {code for code, rule in MESSAGING_ERRORS.items() if rule.pause == "account"}
    assert pausing == {"0", "102", "190", "190/2069032"}


# --- handshake and set-up ---------------------------------------------------------------------------------------------

SETTINGS = Settings(
    PAGE, (Secret("token-canary-1"),), (Secret(APP_SECRET), Secret("older-app-secret")),
    (Secret("new-verify"), Secret("old-verify")),
)  # fmt: skip


@pytest.fixture
async def adapter() -> AsyncIterator[FacebookAdapter]:
    async with new_session() as session:
        yield FacebookAdapter(Account("fb", "facebook"), SETTINGS, Http(session, [SETTINGS.api_base], MediaClient()))


def hub(**query: str) -> Callback:
    return Callback("GET", "https://x.example/", "/", {f"hub.{key}": value for key, value in query.items()}, {}, b"")


async def test_the_handshake(adapter: FacebookAdapter) -> None:
    found = adapter.handshake(hub(mode="subscribe", verify_token="old-verify", challenge="1158201444"))
    assert (found.status, found.body, found.content_type) == (200, b"1158201444", "text/plain")
    with pytest.raises(HandshakeRefused):
        adapter.handshake(hub(mode="subscribe", verify_token="wrong", challenge="1"))


def signed(raw: bytes, secret: str = APP_SECRET) -> Callback:
    mac = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    headers = {"x-hub-signature-256": (f"sha256={mac}",), "content-type": ("application/json",)}
    return Callback("POST", "https://x.example/webhooks/fb", "/webhooks/fb", {}, headers, raw)


async def test_an_older_secret_still_verifies_and_a_doubled_header_does_not(adapter: FacebookAdapter) -> None:
    callback = signed(b"{}", "older-app-secret")
    adapter.verify(callback)
    doubled = {"x-hub-signature-256": callback.headers["x-hub-signature-256"] * 2}
    with pytest.raises(VerificationError):
        adapter.verify(replace(callback, headers=doubled))


def test_signature_and_proof_are_those_of_openssl() -> None:
    """Made by `printf %s ... | openssl dgst -sha256 -hmac key`."""
    header = signed(b'{"object":"page","text":"\\u00fc"}', "key").header("x-hub-signature-256")
    assert header == "sha256=362be122a17d7ffc673b28a1576adb6b4af1e08e289666fbb235a53e74fb1c81"
    proof = proof_of(Secret("token"), Secret("key"))
    assert proof == "646b8eac0c4ae4178299c9bd924e2bf073dfb07e024901a8c864f65b9462bf0d"


async def test_set_up(adapter: FacebookAdapter) -> None:
    assert adapter.routing_keys() == {PAGE}
    assert adapter.account.own_addresses == {PAGE}


@pytest.mark.parametrize("switch", [True, False])
async def test_an_account_may_use_the_human_agent_tag_only_when_switched_on(switch: bool) -> None:
    async with new_session() as session:
        http = Http(session, [SETTINGS.api_base], MediaClient())
        found = FacebookAdapter(Account("fb", "facebook"), replace(SETTINGS, human_agent=switch), http)
    windows = {channel.name: channel.window for channel in found.channels}
    assert windows["messenger"] is not None
    assert windows["messenger"].tags == ({"HUMAN_AGENT": timedelta(days=7)} if switch else {})
    assert windows["facebook"] is None


@pytest.mark.parametrize("empty", ["access_token", "app_secret", "verify_token"])
def test_empty_secrets_are_refused(empty: str) -> None:
    emptied: dict[str, Any] = {empty: ()}
    with pytest.raises(ValueError, match=f"^{empty}: is empty$"):
        replace(SETTINGS, **emptied)


def test_the_channels_say_what_the_documentation_says() -> None:
    assert (MESSENGER.private, MESSENGER.messaging, MESSENGER.limits.text_max) == (True, True, 1999)
    assert MESSENGER.window is not None
    assert MESSENGER.window.duration == timedelta(hours=24)
    assert (FACEBOOK.private, FACEBOOK.messaging, FACEBOOK.window) == (False, False, None)
    assert FACEBOOK.private_reply is not None
    assert (FACEBOOK.private_reply.duration, FACEBOOK.private_reply.per_item) == (timedelta(days=7), 1)


def _error(http_status: int) -> bytes:
    return json.dumps({"error": {"message": "m", "code": 613 if http_status == 429 else 100}}).encode()


def _case(**fields: Any) -> AdapterCase:
    base: Mapping[str, Any] = {
        "adapter": FacebookAdapter,
        "settings": {
            "page_id": PAGE, "access_token": "token-canary-1", "verify_token": "verify-canary-1",
            "app_secret": [APP_SECRET, "older-app-secret"], "api_base": "{base}/v23.0",
        },
        "sign": signed,
        "error_body": _error,
    }  # fmt: skip
    return AdapterCase(**{**base, **fields})


CASE = _case(
    message=file("first_message.json"),
    unknown_kind=attached("hologram", {"url": CDN}),
    unknown_event=did(telepathy={}),
    broken_item=file("batch.json"),
    echo=echoed(text="Open.", metadata="outbox-42"),
    outbound=OUT,
    success=b'{"recipient_id": "9988776655", "message_id": "m_OUT1"}',
    external_id="m_OUT1",
)
CASE_FEED = _case(
    message=file("comment.json"),
    unknown_kind=fed(message=""),
    unknown_event=fed(item="event"),
    broken_item=wrap(
        changes=[{"field": "feed"}, json.loads(fed(message="Hi"))["entry"][0]["changes"][0]],
    ),
    echo=fed(BY_US, message="Yes."),
    outbound=out(channel="facebook", thread=UNDER, context=Context(reply_to=COMMENT), visibility="public"),
    success=b'{"id": "5001_7002"}',
    external_id="5001_7002",
)
