"""An Instagram account: webhook bodies to events, messages to request bodies, answers to outcomes."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters import Callback, Channel, Http, HttpAnswer, SendError, VerificationError
from adapters._http import new_session
from adapters._instagram_facts import COMMENT_ERRORS, COMMENTS, DIRECT, DIRECT_BY_PAGE, INSTAGRAM
from adapters._media import MediaClient
from adapters._meta import read_answer
from adapters._meta_messaging import body_for
from adapters.instagram import InstagramAdapter, Settings
from adapters.testing import AdapterCase
from config.secret import Secret
from normalizers._fields import digest
from normalizers._instagram_comments import completed
from normalizers.instagram import normalize
from normalizers.model import (
    Account,
    Address,
    Attachment,
    Context,
    DeliveryUpdate,
    Echo,
    Engagement,
    Event,
    Ignored,
    InboundMessage,
    Interactive,
    Link,
    MessageDeleted,
    MessageEdited,
    OutboundFile,
    OutboundMessage,
    Person,
    Reaction,
    Received,
    Referral,
    Story,
    Template,
    Thread,
    ThreadControl,
    Unreadable,
    Unsupported,
)

PAYLOADS = Path(__file__).parent / "payloads" / "instagram"
ID, PAGE, APP_SECRET = "17840000001", "110220330", "app-secret-canary"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
AT = datetime.fromtimestamp(1790000000, UTC) + timedelta(milliseconds=700)
ENTRY_AT = datetime.fromtimestamp(1790000000, UTC) + timedelta(milliseconds=900)
SECOND = datetime.fromtimestamp(1790000200, UTC)
IGSID = Address("instagram", "igsid", "62000000007")
MARA = Person((IGSID,))
AUTHOR = Person((IGSID,), handle="mara.lind")
MEDIA, COMMENT, PARENT = "17955550000", "18011112222", "18011110000"
CDN = "https://cdn.example/v/1.jpg?sig=1"


def file(name: str) -> bytes:
    return (PAYLOADS / name).read_bytes()


def wrap(time: int = 1790000000900, **content: Any) -> bytes:
    return json.dumps({"object": "instagram", "entry": [{"id": ID, "time": time, **content}]}).encode()


def item(**event: Any) -> dict[str, Any]:
    people = {"sender": {"id": "62000000007"}, "recipient": {"id": ID}}
    return {**people, "timestamp": 1790000000700, **event}


def did(**event: Any) -> bytes:
    return wrap(messaging=[item(**event)])


def came(**message: Any) -> bytes:
    return did(message={"mid": "aWdf1", **message})


def attached(kind: str, payload: Any = None, **more: Any) -> bytes:
    return came(attachments=[{"type": kind, **({} if payload is None else {"payload": payload}), **more}])


def echoed(**message: Any) -> bytes:
    people = {"sender": {"id": ID}, "recipient": {"id": "62000000007"}}
    return did(**people, message={"mid": "aWdf1", "is_echo": True, **message})


def said(given: Mapping[str, Any] | None = None, /, **value: Any) -> dict[str, Any]:
    """The value of a comment's change; None takes away what it tells."""
    told = {
        "id": COMMENT, "from": {"id": "62000000007", "username": "mara.lind"}, "text": "Price please",
        "media": {"id": MEDIA, "media_product_type": "FEED"}, **(given or {}), **value,
    }  # fmt: skip
    return {key: one for key, one in told.items() if one is not None}


def commented(given: Mapping[str, Any] | None = None, /, field: str = "comments", **value: Any) -> bytes:
    return wrap(1790000200, changes=[{"field": field, "value": said(given, **value)}])


def mentioned(**value: Any) -> bytes:
    return wrap(1790000200, changes=[{"field": "mentions", "value": value}])


def run(payload: bytes, **options: str) -> tuple[Event, ...]:
    return normalize(Received(payload, {}, {}, NOW, Account("ig", "instagram", frozenset({ID, PAGE}), options=options)))


PRIVATE_PLACE: dict[str, Any] = {
    "at": AT, "routing_key": ID, "channel": "instagram", "path": "$.entry[0].messaging[0]",
}  # fmt: skip
PUBLIC_PLACE: dict[str, Any] = {
    "at": SECOND, "routing_key": ID, "channel": "instagram_comment", "path": "$.entry[0].changes[0].value",
}  # fmt: skip


def message(**fields: Any) -> InboundMessage:
    return InboundMessage(**{"id": "aWdf1", **PRIVATE_PLACE, "sender": MARA, **fields})


def comment(**fields: Any) -> InboundMessage:
    base = {
        "id": COMMENT, **PUBLIC_PLACE, "sender": AUTHOR, "text": "Price please", "opens_window": False,
        "thread": Thread(kind="public", key=MEDIA),
        "context": Context(reply_to=MEDIA),
    }  # fmt: skip
    return InboundMessage(**{**base, **fields})


def picture(kind: Any = "image", **more: Any) -> Attachment:
    return Attachment(**{"kind": kind, "url": CDN, "ref": "0:aWdf1", **more})


DIRECT_CASES: dict[str, tuple[bytes, tuple[Event, ...]]] = {
    "an answer to our story": (
        file("story_reply.json"),
        (message(id="aWdfMADEUP1", kind="story", text="Love this one, price?",
                 context=Context(story=Story("18000000055", "https://cdn.example/story"))),),
    ),
    "a batch of several accounts, with broken items": (
        file("batch.json"),
        (
            message(text="one"),
            Unreadable(id=digest({"sender": {"id": "62000000007"}, "recipient": {"id": ID},
                                  "timestamp": 1790000000700, "message": {"text": "no id"}}),
                       at=ENTRY_AT, routing_key=ID, channel="instagram",
                       path="$.entry[0].messaging[1].mid", problem="missing"),
            comment(id="18011113333", routing_key="17840000002", path="$.entry[1].value", text="two",
                    sender=Person((Address("instagram", "igsid", "62000000008"),), handle="ben"),
                    thread=Thread(kind="public", key="17955550009"),
                    context=Context(reply_to="17955550009")),
            Unreadable(id=digest({"field": "comments", "value": {"text": "no id"}}), at=SECOND,
                       routing_key="17840000002", channel="instagram_comment",
                       path="$.entry[2].changes[0].comment_id", problem="missing"),
            Unreadable(id=digest({"field": "comments"}), at=SECOND, routing_key="17840000002",
                       channel="instagram_comment", path="$.entry[2].changes[1].value", problem="missing"),
        ),
    ),
    "a text": (came(text="Hi"), (message(text="Hi"),)),
    "an answer to a message": (
        came(text="this one", reply_to={"mid": "aWdf0"}),
        (message(text="this one", context=Context(reply_to="aWdf0")),),
    ),
    "a story that mentions us": (
        attached("story_mention", {"url": CDN}),
        (message(kind="story", attachments=(Attachment(kind="image", url=CDN, no_store=True),),
                 context=Context(story=Story(url=CDN, mention=True)), flags=("mention",)),),
    ),
    "several pictures": (
        came(attachments=[{"type": "image", "payload": {"url": CDN}}, {"type": "video", "payload": {"url": CDN}}]),
        (message(kind="image", attachments=(picture(), picture("video", ref="1:aWdf1"))),),
    ),
    "a voice note": (attached("audio", {"url": CDN}), (message(kind="audio", attachments=(picture("audio"),)),)),
    "a file": (
        attached("file", {"url": CDN}), (message(kind="file", attachments=(picture("file", filename="1.jpg"),)),),
    ),
    "a heart": (attached("like_heart"), (message(text="❤️"),)),
    "a shared post, told in both ways while they change": (
        came(attachments=[{"type": "share", "payload": {"url": "https://ig.example/p", "ig_post_media_id": "1"}},
                          {"type": "ig_post", "payload": {"url": "https://ig.example/p", "ig_post_media_id": "1"}}]),
        (message(kind="link", text="https://ig.example/p", content=Link("https://ig.example/p")),),
    ),
    "a reel": (
        attached("ig_reel", {"url": "https://ig.example/r", "title": "Dance", "reel_video_id": "1"}),
        (message(kind="link", text="Dance", content=Link("https://ig.example/r", "Dance")),),
    ),
    "what the app alone can show": (
        came(is_unsupported=True),
        (message(kind="unsupported", content=Unsupported("unsupported", "to be seen in the app only")),),
    ),
    "a kind nobody knows": (
        attached("hologram", {"url": CDN}), (message(kind="unsupported", content=Unsupported("hologram")),),
    ),
    "from a product of the shop": (
        came(text="this?", referral={"product": {"id": "9"}}),
        (message(text="this?", context=Context(referral=Referral("product", "9"))),),
    ),
    "from an ad": (
        came(text="this?", referral={"ref": "r", "source": "ADS", "type": "OPEN_THREAD", "ad_id": "5",
                                     "ads_context_data": {"ad_title": "Summer"}}),
        (message(text="this?", context=Context(referral=Referral("ADS", "5", title="Summer", text="r"))),),
    ),
    "a quick reply": (
        came(text="Hours", quick_reply={"payload": "HOURS"}),
        (message(kind="interactive", text="Hours", content=Interactive("HOURS", "Hours", type="quick_reply")),),
    ),
    "an ice breaker": (
        did(postback={"mid": "aWdf2", "title": "Prices?", "payload": "PRICES"}),
        (message(id="aWdf2", kind="interactive", text="Prices?",
                 content=Interactive("PRICES", "Prices?", type="postback")),),
    ),
    "an edit": (
        did(message_edit={"mid": "aWdf1", "text": "better", "num_edit": 1}),
        (MessageEdited(id="aWdf1:1", **PRIVATE_PLACE, target="aWdf1", text="better", sender=MARA),),
    ),
    "a message taken back": (
        came(is_deleted=True), (MessageDeleted(id="aWdf1:deleted", **PRIVATE_PLACE, target="aWdf1", sender=MARA),),
    ),
    "a reaction": (
        did(reaction={"mid": "aWdf0", "action": "react", "reaction": "love", "emoji": "❤"}),
        (Reaction(id="aWdf0:62000000007:react:1790000000700", **PRIVATE_PLACE, target="aWdf0", emoji="❤",
                  sender=MARA),),
    ),
    "read, by id": (
        did(read={"mid": "aWdf9"}),
        (DeliveryUpdate(id="aWdf9:read:62000000007", **PRIVATE_PLACE, status="read", target="aWdf9", up_to=True,
                        recipient=IGSID),),
    ),
    "a link into the conversation": (
        did(referral={"ref": "flyer", "source": "SHORTLINK", "type": "OPEN_THREAD"}),
        (Engagement(id=digest(["referral", {"id": "62000000007"}, 1790000000700,
                               {"ref": "flyer", "source": "SHORTLINK", "type": "OPEN_THREAD"}]),
                    **PRIVATE_PLACE, person=MARA, kind="referral",
                    values={"ref": "flyer", "source": "SHORTLINK", "type": "OPEN_THREAD"},
                    context=Context(referral=Referral("SHORTLINK", text="flyer"))),),
    ),
    "written in the app": (
        echoed(text="Hello"), (Echo(id="aWdf1", **PRIVATE_PLACE, recipient=MARA, text="Hello"),),
    ),
    "written in the inbox of the Business Suite": (
        echoed(text="Hello", app_id=1217981644879628, metadata="theirs"),
        (Echo(id="aWdf1", **PRIVATE_PLACE, recipient=MARA, text="Hello", app="Instagram inbox"),),
    ),
    "our own message coming back": (
        echoed(text="24 EUR", metadata="outbox-42", app_id=555),
        (Echo(id="aWdf1", **PRIVATE_PLACE, recipient=MARA, text="24 EUR", app="555", ours="outbox-42"),
         DeliveryUpdate(id="aWdf1:sent", **PRIVATE_PLACE, status="sent", target="aWdf1", ours="outbox-42",
                        recipient=IGSID)),
    ),
    "taken back by staff": (
        echoed(is_deleted=True),
        (Echo(id="aWdf1:deleted", **PRIVATE_PLACE, recipient=MARA, action="deleted", target="aWdf1"),),
    ),
    "another holds the conversation": (
        wrap(standby=[item(message={"mid": "aWdf1", "text": "Hi"})]),
        (message(text="Hi", flags=("standby",), path="$.entry[0].standby[0]"),
         ThreadControl(id="aWdf1:standby", **PRIVATE_PLACE | {"path": "$.entry[0].standby[0]"}, person=MARA,
                       action="standby")),
    ),
    "passed to the inbox": (
        did(pass_thread_control={"previous_owner_app_id": "5", "new_owner_app_id": "1217981644879628"}),
        (ThreadControl(
            id=digest(["pass", {"id": "62000000007"}, 1790000000700,
                       {"previous_owner_app_id": "5", "new_owner_app_id": "1217981644879628"}]),
            **PRIVATE_PLACE, person=MARA, action="pass", app="Instagram inbox"),),
    ),
    "a message as the dashboard's test button sends it": (
        wrap(time=0, changes=[{"field": "messages", "value": {
            "sender": {"id": "12334"}, "recipient": {"id": "23245"}, "timestamp": "1527459824",
            "message": {"mid": "random_mid", "text": "random_text"}}}]),
        (InboundMessage(id="random_mid", at=datetime.fromtimestamp(1527459824, UTC), routing_key=ID,
                        channel="instagram", path="$.entry[0].changes[0].value", text="random_text",
                        sender=Person((Address("instagram", "igsid", "12334"),))),),
    ),
    "an unknown event": (
        did(telepathy={}),
        (Ignored(id=digest(item(telepathy={})), **PRIVATE_PLACE | {"at": ENTRY_AT}, reason="event 'telepathy'"),),
    ),
}  # fmt: skip

COMMENT_CASES: dict[str, tuple[bytes, tuple[Event, ...]]] = {
    "an answer to a comment": (
        file("comment.json"),
        (comment(thread=Thread(kind="public", key=MEDIA, parent=PARENT),
                 context=Context(reply_to=PARENT, metadata={"parent": PARENT, "username": "mara.lind"})),),
    ),
    "a comment": (commented(), (comment(),)),
    "a comment, as a Page's app gets it": (commented({"id": None, "comment_id": COMMENT}), (comment(),)),
    "a comment on the entry itself, as an app of Instagram Login gets it": (
        wrap(1790000200, field="comments", value=said()), (comment(path="$.entry[0].value"),),
    ),
    "a comment below an ad made of a post": (
        commented(media={"id": "17960000000", "media_product_type": "AD", "ad_id": "23", "ad_title": "Summer",
                         "original_media_id": MEDIA}),
        (comment(context=Context(reply_to="17960000000", referral=Referral("ad", "23", title="Summer"))),),
    ),
    "a comment on a broadcast": (commented(field="live_comments"), (comment(flags=("live",)),)),
    "a comment without words": (
        commented(text=""),
        (comment(kind="unsupported", text="", lookup=f"comment:{COMMENT}",
                 content=Unsupported("comment", "its content has to be looked up")),),
    ),
    "a comment of nobody": (
        commented({"from": None}),
        (comment(sender=Person((Address("instagram", "anonymous", COMMENT, evidence="claimed"),))),),
    ),
    "a comment of which the place is not told": (
        commented(media=None),
        (comment(thread=Thread(kind="public", key=f"comment:{COMMENT}"), context=Context()),),
    ),
    "our own comment": (
        commented({"from": {"id": ID, "username": "the.shop"}}),
        (Echo(id=COMMENT, **PUBLIC_PLACE, text="Price please", thread=Thread(kind="public", key=MEDIA),
              context=Context(reply_to=MEDIA)),),
    ),
    "our own comment, by our scoped id": (
        commented({"from": {"id": "62000000001", "self_ig_scoped_id": "62000000001"}}),
        (Echo(id=COMMENT, **PUBLIC_PLACE, text="Price please", thread=Thread(kind="public", key=MEDIA),
              context=Context(reply_to=MEDIA)),),
    ),
    "mentioned in a comment elsewhere": (
        mentioned(media_id=MEDIA, comment_id=COMMENT),
        (comment(kind="unsupported", text="", lookup=f"mentioned_comment:{COMMENT}", flags=("mention",),
                 sender=Person((Address("instagram", "anonymous", COMMENT, evidence="claimed"),)),
                 content=Unsupported("mention", "its words have to be looked up"),
                 context=Context(metadata={"mention": MEDIA})),),
    ),
    "mentioned in a caption": (
        mentioned(media_id=MEDIA),
        (comment(id=MEDIA, kind="unsupported", text="", lookup=f"mentioned_media:{MEDIA}", flags=("mention",),
                 sender=Person((Address("instagram", "anonymous", MEDIA, evidence="claimed"),)),
                 content=Unsupported("mention", "its words have to be looked up"),
                 context=Context(metadata={"mention": MEDIA})),),
    ),
}  # fmt: skip

INBOUND = DIRECT_CASES | COMMENT_CASES


@pytest.mark.parametrize(("payload", "events"), INBOUND.values(), ids=INBOUND)
def test_inbound(payload: bytes, events: tuple[Event, ...]) -> None:
    assert run(payload) == events


USELESS = {
    "sent by ourselves": did(sender={"id": ID}, message={"mid": "m_1", "text": "x"}),
    "sent by ourselves, called by another of our ids": did(sender={"id": PAGE}, message={"mid": "m_1", "text": "x"}),
    "written to ourselves": echoed(text="x", is_self=True),
    "a reaction of ours": did(sender={"id": ID}, reaction={"mid": "m_1", "action": "react"}),
    "a story's figures": wrap(changes=[{"field": "story_insights", "value": {"media_id": "1"}}]),
    "another object": json.dumps({"object": "page", "entry": [{"id": "1", "messaging": [item()]}]}).encode(),
    "an empty entry": wrap(),
}


@pytest.mark.parametrize("payload", USELESS.values(), ids=USELESS)
def test_what_is_of_no_use_is_kept(payload: bytes) -> None:
    (event,) = run(payload)
    assert isinstance(event, Ignored)
    assert event.id


def test_a_link_into_the_conversation_opens_the_window_and_an_ad_alone_does_not() -> None:
    assert INSTAGRAM.window is not None
    for source, opens in (("SHORTLINK", True), ("ADS", False)):
        (event,) = run(did(referral={"ref": "r", "source": source}))
        assert isinstance(event, Engagement)
        assert (event.kind in INSTAGRAM.window.opened_by) is opens


BROKEN = {
    "no sender": (did(sender={}, message={"mid": "m"}), ".messaging[0].sender.id"),
    "a message that is none": (did(message=7), ".messaging[0].message"),
    "read, but what": (did(read={}), ".messaging[0].watermark"),
    "a list that is none": (wrap(changes={}), ".changes"),
    "a comment without id": (commented({"id": None}), ".changes[0].comment_id"),
    "a mention without place": (mentioned(comment_id="1"), ".changes[0].media_id"),
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
    assert run(b'{"entry": [{"field": "comments", "value": {"id": "1", "text": %s}}]}' % nest)
    assert run(b'{"entry": [{"changes": [{"field": "x", "value": {"a": %s}}]}]}' % nest)


LOOKED_UP: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a comment": (
        {"text": "Price?", "timestamp": "2026-09-21T12:00:00+0000", "username": "mara.lind",
         "from": {"id": "62000000007", "username": "mara.lind"}},
        {"kind": "text", "text": "Price?", "content": None, "sender": AUTHOR,
         "at": datetime(2026, 9, 21, 12, tzinfo=UTC)},
    ),
    "a caption and whose it is": (
        {"caption": "with @the.shop", "username": "ben", "timestamp": "then"},
        {"kind": "text", "text": "with @the.shop", "content": None,
         "sender": Person((Address("instagram", "anonymous", COMMENT, evidence="claimed"),), handle="ben")},
    ),
    "nothing": ({}, {}),
}  # fmt: skip


@pytest.mark.parametrize(("node", "fields"), LOOKED_UP.values(), ids=LOOKED_UP)
def test_a_pointer_is_completed(node: dict[str, Any], fields: dict[str, Any]) -> None:
    nobody = Person((Address("instagram", "anonymous", COMMENT, evidence="claimed"),))
    pointer: dict[str, Any] = {"kind": "unsupported", "text": "", "content": Unsupported("mention"), "sender": nobody}
    assert completed(comment(**pointer, lookup=f"mentioned_comment:{COMMENT}"), node) == comment(**pointer | fields)


# --- sending ----------------------------------------------------------------------------------------------------------

OUT = OutboundMessage(id="outbox-42", key="k", account="ig", channel="instagram", to=(IGSID,), text="24 EUR.")
PDF = OutboundFile(
    kind="file", media_type="application/pdf", filename="bill.pdf", size=3, url="https://x.example/b", open_path="/x"
)
TO_MARA = {"recipient": {"id": "62000000007"}}
UNDER = Thread(kind="public", key=MEDIA)


def out(**fields: Any) -> OutboundMessage:
    values = {name: getattr(OUT, name) for name in OUT.__struct_fields__} | fields
    return OutboundMessage(**values)


BODIES: dict[str, tuple[OutboundMessage, dict[str, Any]]] = {
    "a text": (OUT, TO_MARA | {"message": {"text": "24 EUR."}}),
    "an answer": (
        out(context=Context(reply_to="aWdf1")),
        TO_MARA | {"message": {"text": "24 EUR."}, "reply_to": {"mid": "aWdf1"}},
    ),
    "by a person, after a day": (
        out(tag="HUMAN_AGENT"),
        TO_MARA | {"message": {"text": "24 EUR."}, "messaging_type": "MESSAGE_TAG", "tag": "HUMAN_AGENT"},
    ),
    "a file, from its address": (
        out(text="", file=PDF),
        TO_MARA | {"message": {"attachment": {"type": "file", "payload": {"url": "https://x.example/b"}}}},
    ),
    "a post of ours": (
        out(text="", content=Interactive(values={"attachment": {"type": "MEDIA_SHARE", "payload": {"id": MEDIA}}})),
        TO_MARA | {"message": {"attachment": {"type": "MEDIA_SHARE", "payload": {"id": MEDIA}}}},
    ),
    "choices": (
        out(content=Interactive(values={"buttons": ["Yes"]})),
        TO_MARA | {"message": {"text": "24 EUR.", "quick_replies": [
            {"content_type": "text", "title": "Yes", "payload": "Yes"}]}},
    ),
    "a heart": (
        out(text="", reaction="❤️", context=Context(reply_to="aWdf1")),
        TO_MARA | {"sender_action": "react", "payload": {"message_id": "aWdf1", "reaction": "love"}},
    ),
    "a private reply to a comment": (
        out(channel="instagram_comment", thread=UNDER, context=Context(reply_to=COMMENT)),
        {"recipient": {"comment_id": COMMENT}, "message": {"text": "24 EUR."}},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "wanted"), BODIES.values(), ids=BODIES)
def test_bodies(given: OutboundMessage, wanted: dict[str, Any]) -> None:
    assert body_for(given, DIRECT, tags=True) == wanted


def test_through_a_page_our_id_travels_and_files_are_uploaded() -> None:
    assert body_for(OUT, DIRECT_BY_PAGE, tags=False)["message"] == {"text": "24 EUR.", "metadata": "outbox-42"}
    uploaded = body_for(out(text="", file=PDF), DIRECT_BY_PAGE, tags=False, attachment_id="7")
    assert uploaded["message"]["attachment"] == {"type": "file", "payload": {"attachment_id": "7"}}


UNSAYABLE = {
    "nobody": (out(to=()), "no-address"),
    "a file on our disk only": (out(text="", file=OutboundFile(kind="file", media_type="a/b", filename="a", size=1,
                                                               open_path="/x")), "file"),
    "a template": (out(text="", template=Template("ready", "de")), "template"),
    "a tag that is gone": (out(tag="ACCOUNT_UPDATE"), "tag"),
    "a tag the app may not use": (out(tag="HUMAN_AGENT"), "tag"),
    "a reaction nobody knows": (out(text="", reaction="👍", context=Context(reply_to="m")), "reaction"),
    "a private reply to a caption": (out(thread=UNDER, context=Context(reply_to=MEDIA)), "no-comment"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "code"), UNSAYABLE.values(), ids=UNSAYABLE)
def test_what_cannot_be_said_is_refused_for_certain(given: OutboundMessage, code: str) -> None:
    with pytest.raises(SendError) as caught:
        body_for(given, DIRECT, tags=False)
    assert (caught.value.code, caught.value.certain) == (code, True)


CODES: dict[tuple[int, int, int], tuple[str, str, bool, str | None]] = {
    # status, code, subcode -> code told, class, certain, pause
    (400, 1, 0): ("1", "unknown", False, None),
    (400, 2, 0): ("2", "unknown", False, None),
    (400, 3, 0): ("3", "auth", True, None),
    (400, 4, 0): ("4", "throttle", True, "endpoint"),
    (400, 17, 0): ("17", "throttle", True, "endpoint"),
    (400, 32, 0): ("32", "throttle", True, "endpoint"),
    (403, 10, 0): ("10", "auth", True, None),
    (403, 10, 2534022): ("10/2534022", "window-closed", True, None),
    (400, 10, 2018278): ("10/2018278", "window-closed", True, None),
    (400, 10, 2534122): ("10/2534122", "throttle", True, "endpoint"),
    (400, 10, 2534029): ("10/2534029", "throttle", True, "endpoint"),
    (400, 10, 1893063): ("10/1893063", "throttle", True, "endpoint"),
    (400, 100, 0): ("100", "permanent", True, None),
    (400, 100, 33): ("100/33", "bad-recipient", True, None),
    (400, 100, 2018001): ("100/2018001", "bad-recipient", True, None),
    (400, 100, 2534014): ("100/2534014", "bad-recipient", True, None),
    (400, 100, 2534068): ("100/2534068", "permanent", True, None),
    (400, 10, 2534037): ("10/2534037", "bad-recipient", True, None),
    (401, 190, 463): ("190", "auth", True, "account"),
    (400, 200, 1545041): ("200/1545041", "bad-recipient", True, None),
    (400, 200, 7): ("200", "auth", True, None),
    (400, 230, 0): ("230", "auth", True, None),
    (400, 368, 0): ("368", "policy", True, None),
    (400, 551, 0): ("551", "bad-recipient", True, None),
    (400, 613, 0): ("613", "throttle", True, "endpoint"),
    (400, 25, 1390008): ("25/1390008", "throttle", True, "endpoint"),
    (400, 80002, 0): ("80002", "throttle", True, "endpoint"),
    (400, 80006, 0): ("80006", "throttle", True, "endpoint"),
    (400, 9007, 0): ("9007", "retry", True, None),
    (400, 9010, 0): ("9010", "retry", True, None),
    (429, 4, 0): ("4", "throttle", True, "endpoint"),
    (500, 2, 0): ("2", "unknown", False, None),
    (400, 424242, 0): ("424242", "permanent", True, None),
}


@pytest.mark.parametrize(("given", "wanted"), CODES.items(), ids=str)
def test_codes(given: tuple[int, int, int], wanted: tuple[str, str, bool, str | None]) -> None:
    status, code, subcode = given
    words = {"error": {"message": "m", "type": "IGApiException", "code": code, "error_subcode": subcode}}
    with pytest.raises(SendError) as caught:
        read_answer(HttpAnswer(status, {}, json.dumps(words).encode()), INSTAGRAM.errors)
    error = caught.value
    assert (error.code, error.error_class, error.certain, error.pause) == wanted


def test_a_comment_that_is_gone_is_no_bad_recipient() -> None:
    assert COMMENT_ERRORS["100/33"].error_class == "permanent"


# --- set-up -----------------------------------------------------------------------------------------------------------

SETTINGS = Settings(
    ID, (Secret("token-canary-1"),), (Secret(APP_SECRET), Secret("instagram-app-secret")), (Secret("verify"),)
)


async def made(**settings: Any) -> InstagramAdapter:
    given = replace(SETTINGS, **settings)
    async with new_session() as session:
        return InstagramAdapter(Account("ig", "instagram"), given, Http(session, [given.api_base], MediaClient()))


def channel(adapter: InstagramAdapter, name: str) -> Channel:
    (found,) = (channel for channel in adapter.channels if channel.name == name)
    return found


async def test_the_account_is_known_by_its_id_and_by_its_page() -> None:
    assert (await made()).routing_keys() == {ID}
    adapter = await made(page_id=PAGE, login_type="page")
    assert adapter.routing_keys() == adapter.account.own_addresses == {ID, PAGE}


def test_each_login_has_its_own_host() -> None:
    given: dict[str, Any] = {
        "instagram_id": ID, "access_token": SETTINGS.access_token, "app_secret": SETTINGS.app_secret,
        "verify_token": SETTINGS.verify_token,
    }  # fmt: skip
    by_instagram, by_page = Settings(**given), Settings(**given, login_type="page", page_id=PAGE)
    assert by_instagram.api_base == "https://graph.instagram.com/v23.0"
    assert by_page.api_base == "https://graph.facebook.com/v23.0"
    assert Settings(**given, api_base="http://127.0.0.1:1/v23.0").api_base == "http://127.0.0.1:1/v23.0"


@pytest.mark.parametrize("switch", [True, False])
async def test_an_account_may_use_the_human_agent_tag_only_when_switched_on(switch: bool) -> None:
    window = channel(await made(human_agent=switch), "instagram").window
    assert window is not None
    assert window.tags == ({"HUMAN_AGENT": timedelta(days=7)} if switch else {})


async def test_the_page_sends_faster() -> None:
    assert channel(await made(), "instagram").pace.per_second == 100
    by_page = await made(page_id=PAGE, login_type="page")
    assert channel(by_page, "instagram").pace.per_second == 300
    assert channel(by_page, "instagram_comment") == COMMENTS


@pytest.mark.parametrize("empty", ["instagram_id", "access_token", "app_secret", "verify_token"])
def test_empty_settings_are_refused(empty: str) -> None:
    emptied: dict[str, Any] = {empty: "" if empty == "instagram_id" else ()}
    with pytest.raises(ValueError, match=f"^{empty}: is empty$"):
        replace(SETTINGS, **emptied)


def test_a_page_login_needs_its_page() -> None:
    with pytest.raises(ValueError, match=r"^page_id: missing"):
        replace(SETTINGS, login_type="page")


def test_the_channels_say_what_the_documentation_says() -> None:
    assert (INSTAGRAM.private, INSTAGRAM.messaging) == (True, True)
    assert (INSTAGRAM.limits.text_max, INSTAGRAM.limits.text_unit) == (1000, "bytes")
    assert INSTAGRAM.window is not None
    assert (INSTAGRAM.window.duration, INSTAGRAM.window.template_outside) == (timedelta(hours=24), False)
    assert (COMMENTS.private, COMMENTS.messaging, COMMENTS.window) == (False, False, None)
    private = COMMENTS.private_reply
    assert private is not None
    assert (private.duration, private.per_item, private.answers_on) == (timedelta(days=7), 1, "instagram")
    assert [quota.messages for quota in private.pace.quotas] == [750]


def signed(raw: bytes, secret: str = APP_SECRET) -> Callback:
    mac = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    headers = {"x-hub-signature-256": (f"sha256={mac}",), "content-type": ("application/json",)}
    return Callback("POST", "https://x.example/webhooks/ig", "/webhooks/ig", {}, headers, raw)


async def test_either_apps_secret_verifies() -> None:
    adapter = await made()
    adapter.verify(signed(b"{}"))
    adapter.verify(signed(b"{}", "instagram-app-secret"))
    with pytest.raises(VerificationError):
        adapter.verify(signed(b"{}", "another"))


def _error(http_status: int) -> bytes:
    return json.dumps({"error": {"message": "m", "code": 613 if http_status == 429 else 100}}).encode()


def _case(**fields: Any) -> AdapterCase:
    base: Mapping[str, Any] = {
        "adapter": InstagramAdapter,
        "settings": {
            "instagram_id": ID, "access_token": "token-canary-1", "verify_token": "verify-canary-1",
            "app_secret": [APP_SECRET, "instagram-app-secret"], "api_base": "{base}/v23.0",
        },
        "sign": signed,
        "error_body": _error,
    }  # fmt: skip
    return AdapterCase(**{**base, **fields})


CASE = _case(
    message=file("story_reply.json"),
    unknown_kind=attached("hologram", {"url": CDN}),
    unknown_event=did(telepathy={}),
    broken_item=file("batch.json"),
    echo=echoed(text="24 EUR"),
    outbound=OUT,
    success=b'{"recipient_id": "62000000007", "message_id": "aWdfOUT1"}',
    external_id="aWdfOUT1",
)
CASE_COMMENT = _case(
    message=file("comment.json"),
    unknown_kind=commented(text=""),
    unknown_event=wrap(changes=[{"field": "story_insights", "value": {}}]),
    broken_item=wrap(changes=[{"field": "comments"}, {"field": "comments", "value": said()}]),
    echo=commented({"from": {"id": ID}}),
    outbound=out(channel="instagram_comment", thread=UNDER, context=Context(reply_to=COMMENT), visibility="public"),
    success=b'{"id": "18011119999"}',
    external_id="18011119999",
)
