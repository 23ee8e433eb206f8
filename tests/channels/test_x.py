"""X: both envelopes to events, messages to request bodies, answers to outcomes, how long a post is."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oauthlib.oauth1 import Client
from twitter_text import parse_tweet

from adapters import Callback, HandshakeRefused, Http, HttpAnswer, SendError, VerificationError
from adapters._http import new_session
from adapters._media import MediaClient
from adapters._weighted import weight
from adapters._x_api import Keys, XApi, refusal, wait_s
from adapters._x_body import cashtags, direct_body, direct_path, essence, post_body
from adapters._x_facts import DIRECT, POSTS, SUMMONED
from adapters._x_oauth2 import OAuth2
from adapters.testing import AdapterCase
from adapters.x import Settings, XAdapter
from config.secret import Secret
from config.settings import ConfigError, parse
from normalizers._fields import digest
from normalizers.model import (
    PRIVATE,
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
    Location,
    MessageDeleted,
    MessageEdited,
    OutboundFile,
    OutboundMessage,
    Person,
    Received,
    Thread,
    Unreadable,
    Unsupported,
)
from normalizers.x import normalize

PAYLOADS = Path(__file__).parent / "payloads" / "x"
OWN, OTHER_OWN, ANA, COURIER = "700000000000000001", "700000000000000009", "800000000000000002", "900000000000000003"
SECRET, OLDER = "consumer-canary-1", "older-consumer-canary"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
AT = datetime.fromtimestamp(1790000000, UTC)
POST_AT = datetime(2026, 10, 7, 20, 19, 24, tzinfo=UTC)
REVOKED = f"revoked:{OWN}:{POST_AT.timestamp():.0f}"
ID_AT = datetime.fromtimestamp(((2099000000000000040 >> 22) + 1288834974657) / 1000, UTC)


def user(value: str) -> Address:
    return Address("x", "user_id", value, "platform")


NAMED = Person((user(ANA),), "Ana", "ana_ex")
BARE = Person((user(ANA),))


def ms(count: int) -> datetime:
    return AT + timedelta(milliseconds=count)


def file(name: str) -> bytes:
    return (PAYLOADS / name).read_bytes()


def run(payload: bytes) -> tuple[Event, ...]:
    account = Account("x-main", "x", frozenset({OWN, OTHER_OWN}))
    return normalize(Received(payload, {}, {}, NOW, account))


def activity(kind: str, payload: Any, own: str = OWN, **includes: Any) -> bytes:
    data = {"event_uuid": "-55", "event_type": kind, "filter": {"user_id": own} if own else {}, "payload": payload}
    return json.dumps({"data": data | {"includes": includes}}).encode()


def account(**lists: Any) -> bytes:
    return json.dumps({"for_user_id": OWN, **lists}).encode()


def dm(message: Any, sender: str = ANA, recipient: str = OWN, **more: Any) -> dict[str, Any]:
    create = {"target": {"recipient_id": recipient}, "sender_id": sender, "message_data": message}
    return {"type": "message_create", "id": "1", "created_timestamp": "1790000000000", "message_create": create} | more


def came(message: Any, **more: Any) -> bytes:
    return activity("dm.received", {"direct_message_events": [dm(message, **more)]})


def tweet(author: str = ANA, **more: Any) -> dict[str, Any]:
    return {"id": "2099000000000000040", "text": "words", "author_id": author, "conversation_id": "7"} | more


def place(path: str, **fields: Any) -> dict[str, Any]:
    return {"id": "1", "at": AT, "routing_key": OWN, "channel": "x_dm", "path": path} | fields


IN = "$.data.payload.direct_message_events[0]"
POST: dict[str, Any] = {"id": "2099000000000000040", "at": ID_AT, "routing_key": OWN, "channel": "x",
                        "path": "$.data.payload"}  # fmt: skip
THREAD = Thread(kind="public", key="7")


def direct(sender: Person = BARE, **fields: Any) -> InboundMessage:
    given = place(IN) | {"sender": sender, "context": Context(metadata={"dm_event_id": fields.get("id", "1")})} | fields
    return InboundMessage(**given)


def public(sender: Person = BARE, **fields: Any) -> InboundMessage:
    link = f"https://x.com/{sender.handle or 'i'}/status/2099000000000000040"
    context = Context(permalink=link, metadata=fields.pop("metadata", {"summoned": False}), **fields.pop("context", {}))
    return InboundMessage(**POST | {"sender": sender, "text": "words", "context": context, "thread": THREAD} | fields)


VIDEO = "https://video.example.invalid/high.mp4"
MENTION: dict[str, Any] = {"entities": {"mentions": [{"username": "shop_help", "id": OWN}]}}

EVENTS: dict[str, tuple[bytes, tuple[Event, ...]]] = {
    # --- direct messages
    "two direct messages in one delivery": (
        file("dm_received.json"),
        (
            direct(NAMED, id="2099000000000000010", at=ms(123), text="Where is order 17? https://shop.example/o/17"),
            direct(NAMED, id="2099000000000000011", at=ms(456), text="fish & chips",
                   path="$.data.payload.direct_message_events[1]"),
        ),
    ),
    "the older envelope: a picture, a broken item, our own": (
        file("account_activity.json"),
        (
            direct(NAMED, id="2099000000000000011", at=ms(456), kind="image", text="hi",
                   path="$.direct_message_events[0]",
                   attachments=(Attachment(
                       kind="image", ref="dm:2099000000000000011/31/m.jpg",
                       url="https://ton.example.invalid/1.1/ton/data/dm/2099000000000000011/31/m.jpg"),)),
            Unreadable(**place("$.direct_message_events[1].message_create.sender_id", id="2099000000000000012", at=NOW),
                       problem="missing"),
            Echo(**place("$.direct_message_events[2]", id="2099000000000000013", at=ms(600)), recipient=NAMED,
                 text="On its way.", app="Some App"),
        ),
    ),
    "a link whose address looks escaped": (
        came({"text": "see https://t.co/a &amp;copy;", "entities": {"urls": [
            {"url": "https://t.co/a", "expanded_url": "https://shop.example/?a=1&copy=2&lt;"}]}}),
        (direct(text="see https://shop.example/?a=1&copy=2&lt; &copy;"),),
    ),
    "a quick reply": (
        came({"text": "Blue", "quick_reply_response": {"type": "options", "metadata": "b-1"}}),
        (direct(kind="interactive", text="Blue", content=Interactive("b-1", "Blue", type="quick_reply_response")),),
    ),
    "a place": (
        came({"text": "", "attachment": {"type": "location", "location": {
            "type": "shared_coordinate", "shared_coordinate": {"coordinates": {"coordinates": [13.4, 52.5]}}}}}),
        (direct(kind="location", content=Location(52.5, 13.4)),),
    ),
    "a place without coordinates": (
        came({"text": "", "attachment": {"type": "location", "location": {"type": "shared_place"}}}),
        (direct(kind="unsupported", content=Unsupported("location")),),
    ),
    "an attachment nobody knows": (
        came({"text": "look", "attachment": {"type": "hologram"}}),
        (direct(kind="unsupported", text="look", content=Unsupported("hologram")),),
    ),
    "an event of another kind in the list": (
        came({}, type="participants_join"), (direct(kind="unsupported", content=Unsupported("participants_join")),),
    ),
    "nothing in it": (came({}), (direct(kind="unsupported", content=Unsupported("empty")),)),
    "a file whose address tells only its name": (
        came({"text": "", "attachment": {"type": "media", "media": {
            "id": 31, "type": "animated_gif", "video_info": {"variants": [
                {"content_type": "video/mp4", "url": "https://video.example.invalid/a/b.mp4"}]}}}}),
        (direct(kind="video", attachments=(Attachment(
            kind="video", ref="dm:1/31/b.mp4", url="https://video.example.invalid/a/b.mp4"),)),),
    ),
    "a group": (
        activity("dm.received", {"direct_message_events": [dm({"text": "all"}, dm_conversation_id="4711")]}),
        (direct(text="all", thread=Thread(kind="group", key="4711")),),
    ),
    "a named conversation of two": (
        activity("dm.received", {"direct_message_events": [dm({"text": "us"}, dm_conversation_id=f"{OWN}-{ANA}")]}),
        (direct(text="us", thread=PRIVATE),),
    ),
    "our own direct message": (
        activity("dm.sent", {"direct_message_events": [dm({"text": "yes"}, OWN, ANA)]}),
        (Echo(**place(IN), recipient=BARE, text="yes"),),
    ),
    "from another account of ours": (
        came({"text": "loop"}, sender=OTHER_OWN),
        (Ignored(**place(IN), reason="written by another account of ours"),),
    ),
    "a list that is missing": (
        activity("dm.received", {}),
        (Unreadable(**place("$.data.payload.direct_message_events", at=NOW,
                            id=digest(json.loads(activity("dm.received", {}))["data"])), problem="missing"),),
    ),
    "read up to a message": (
        account(direct_message_mark_read_events=[{"created_timestamp": "1790000000000", "sender_id": ANA,
                                                  "target": {"recipient_id": OWN}, "last_read_event_id": "17"}]),
        (DeliveryUpdate(**place("$.direct_message_mark_read_events[0]", id=f"17:read:{ANA}"), status="read",
                        target="17", up_to=True, recipient=user(ANA)),),
    ),
    "read by ourselves": (
        activity("dm.read", {"direct_message_mark_read_events": [
            {"created_timestamp": "1790000000000", "sender_id": OWN, "last_read_event_id": "17"}]}),
        (Ignored(**place("$.data.payload.direct_message_mark_read_events[0]", id=f"17:read:{OWN}"),
                 reason="read by ourselves"),),
    ),
    "typing": (
        activity("dm.indicate_typing", {}),
        (Ignored(id="-55", at=NOW, routing_key=OWN, channel="x", path="$.data", reason="event 'dm.indicate_typing'"),),
    ),
    "an encrypted message": (
        activity("chat.received", {"id": "u-1", "conversation_id": f"{OWN}:{ANA}", "sender_id": ANA,
                                   "created_at_msec": "1790000000000", "encoded_event": "AA=="}),
        (InboundMessage(**place("$.data.payload", id="u-1"), sender=BARE, kind="unsupported",
                        content=Unsupported("xchat", "an encrypted message, to be read in X itself")),),
    ),
    "our own encrypted message": (
        activity("chat.sent", {"id": "u-2", "conversation_id": f"{OWN}:{ANA}", "sender_id": OWN,
                               "created_at_msec": "1790000000000"}),
        (Echo(**place("$.data.payload", id="u-2"), recipient=BARE, kind="unsupported",
              content=Unsupported("xchat", "an encrypted message, to be read in X itself")),),
    ),
    # --- posts
    "a mention below somebody else's post, with a picture": (
        file("mention.json"),
        (
            InboundMessage(
                id="2099000000000000020", at=POST_AT, routing_key=OWN, channel="x", path="$.data.payload",
                sender=Person((user(ANA),), "Ana", "ana_ex", {"verified": True}),
                kind="image", text="it is broken", full_text="@shop_help @courier it is broken",
                attachments=(Attachment(kind="image", ref="post:2099000000000000020:3_77"),),
                context=Context(reply_to="2099000000000000019", post_text="Delivered!",
                                permalink="https://x.com/ana_ex/status/2099000000000000020",
                                metadata={"summoned": True, "mentioned": [COURIER], "reply_settings": "everyone"}),
                thread=Thread(kind="public", key="2099000000000000018", parent="2099000000000000019"),
                flags=("summoned",),
            ),
        ),
    ),
    "an older post: long, with a video, by somebody who blocks us": (
        file("account_activity_post.json"),
        (
            InboundMessage(
                id="2099000000000000030", at=ms(789), routing_key=OWN, channel="x", path="$.tweet_create_events[0]",
                sender=NAMED, kind="video", text="a very long story <3", full_text="@shop_help a very long story <3",
                attachments=(Attachment(kind="video", url=VIDEO, duration_ms=4200),),
                context=Context(permalink="https://x.com/ana_ex/status/2099000000000000030",
                                metadata={"summoned": True}),
                thread=Thread(kind="public", key="2099000000000000030"), flags=("summoned",),
            ),
            ConsentChange(id="2099000000000000030:blocked", at=ms(789), routing_key=OWN, channel="x",
                          path="$.tweet_create_events[0]", person=NAMED, state="blocked", source="is_blocked_by"),
        ),
    ),
    "a reply that does not mention us": (
        activity("post.reply.create", tweet(in_reply_to_tweet_id="6", in_reply_to_user_id=OWN)),
        (public(context={"reply_to": "6"}, thread=Thread(kind="public", key="7", parent="6")),),
    ),
    "a reply where only some may reply": (
        activity("post.reply.create", tweet(reply_settings="following")),
        (public(metadata={"summoned": False, "reply_settings": "following"}, flags=("replies_restricted",)),),
    ),
    "a mention where only the mentioned may reply": (
        activity("post.mention.create", tweet(reply_settings="mentionedUsers", **MENTION)),
        (public(metadata={"summoned": True, "reply_settings": "mentionedUsers"}, flags=("summoned",)),),
    ),
    "a quote of our post": (
        activity("post.quote.create", tweet(referenced_tweets=[{"type": "quoted", "id": "5"}]),
                 tweets=[{"data": {"id": "5", "author_id": OWN, "text": "New shoes"}}]),
        (public(metadata={"summoned": True}, context={"post_text": "New shoes"}, flags=("summoned",)),),
    ),
    "an edited post": (
        activity("post.mention.create",
                 tweet(id="42", edit_history_tweet_ids=["41", "42"], created_at="2026-10-07T20:19:24Z")),
        (
            InboundMessage(**POST | {"id": "41", "at": POST_AT}, sender=BARE, text="words", thread=THREAD,
                           context=Context(permalink="https://x.com/i/status/42", metadata={"summoned": False})),
            MessageEdited(**POST | {"id": "42", "at": POST_AT}, target="41", new_id="42", text="words", sender=BARE,
                          thread=THREAD),
        ),
    ),
    "a longer post": (
        activity("post.mention.create", tweet(text="cut…", note_tweet={"text": "the whole &gt; story"})),
        (public(text="the whole > story"),),
    ),
    "a file that came along": (
        activity("post.mention.create", tweet(attachments={"media_keys": ["7_1"]}),
                 media=[{"media_key": "7_1", "type": "video", "duration_ms": 900, "variants": [
                     {"content_type": "video/mp4", "bit_rate": 1, "url": VIDEO}]}]),
        (public(kind="video", attachments=(Attachment(kind="video", url=VIDEO, duration_ms=900),)),),
    ),
    "a repost": (
        activity("post.repost.create", tweet(referenced_tweets=[{"type": "retweeted", "id": "5"}])),
        (Ignored(**POST, reason="a repost"),),
    ),
    "our own reply": (
        activity("post.create", tweet(OWN, in_reply_to_tweet_id="6", in_reply_to_user_id=ANA)),
        (Echo(**POST, recipient=BARE, text="words", context=Context(reply_to="6"),
              thread=Thread(kind="public", key="7", parent="6")),),
    ),
    "our own post": (activity("post.create", tweet(OWN)), (Echo(**POST, text="words", thread=THREAD),)),
    "our own post, edited": (
        activity("post.create", tweet(OWN, edit_history_tweet_ids=["9", "2099000000000000040"])),
        (Echo(**POST, text="words", thread=THREAD, action="edited", target="9"),),
    ),
    "a post of another account of ours": (
        activity("post.mention.create", tweet(OTHER_OWN)),
        (Ignored(**POST, reason="written by another account of ours"),),
    ),
    "our own post deleted": (
        activity("post.delete", {"id": "5", "author_id": OWN}),
        (Echo(**POST | {"id": "5:deleted", "at": NOW}, action="deleted", target="5"),),
    ),
    "posts deleted, older envelope": (
        account(tweet_delete_events=[
            {"status": {"id": "5", "user_id": OWN}, "timestamp_ms": "1790000000000"},
            {"status": {"id": "6", "user_id": ANA}, "timestamp_ms": "1790000000000"}]),
        (
            Echo(**POST | {"id": "5:deleted", "at": AT, "path": "$.tweet_delete_events[0]"}, action="deleted",
                 target="5"),
            MessageDeleted(**POST | {"id": "6:deleted", "at": AT, "path": "$.tweet_delete_events[1]"}, target="6",
                           sender=BARE),
        ),
    ),
    "a post without author": (
        activity("post.mention.create", {"id": "3", "text": "x"}),
        (Unreadable(**POST | {"id": "3", "at": NOW, "path": "$.data.payload.id_str"}, problem="missing"),),
    ),
    # --- people and the account
    "a follow and its end": (
        account(follow_events=[
            {"type": "follow", "created_timestamp": "1790000000000", "source": {"id": ANA, "screen_name": "ana_ex"},
             "target": {"id": OWN}},
            {"type": "unfollow", "created_timestamp": "1790000000000", "source": {"id": ANA}, "target": {"id": OWN}},
            {"type": "follow", "created_timestamp": "1790000000000", "source": {"id": OWN}, "target": {"id": ANA}}]),
        (
            Engagement(**POST | {"id": f"follow:{ANA}:{OWN}:1790000000000", "at": AT, "path": "$.follow_events[0]"},
                       person=Person((user(ANA),), "", "ana_ex"), kind="follow"),
            Engagement(**POST | {"id": f"unfollow:{ANA}:{OWN}:1790000000000", "at": AT, "path": "$.follow_events[1]"},
                       person=BARE, kind="unfollow"),
            Ignored(**POST | {"id": f"follow:{OWN}:{ANA}:1790000000000", "at": AT, "path": "$.follow_events[2]"},
                    reason="our own follow"),
        ),
    ),
    "we blocked somebody": (
        activity("block.block", {"source": {"data": {"id": OWN}},
                                 "target": {"data": {"id": ANA, "username": "ana_ex"}}}),
        (ConsentChange(**place("$.data.payload", id="-55", at=NOW), person=Person((user(ANA),), "", "ana_ex"),
                       state="blocked", source="our account"),),
    ),
    "we unblocked somebody": (
        account(block_events=[{"type": "unblock", "created_timestamp": "1790000000000", "source": {"id": OWN},
                               "target": {"id": ANA}}]),
        (ConsentChange(**place("$.block_events[0]", id=f"unblock:{ANA}:1790000000000"), person=BARE,
                       state="unblocked", source="our account"),),
    ),
    "a like": (
        account(favorite_events=[{"id": "f-1", "timestamp_ms": "1790000000000"}]),
        (Ignored(**POST | {"id": "f-1", "at": AT, "path": "$.favorite_events[0]"}, reason="a like"),),
    ),
    "the app's permission taken back": (
        activity("oauth.revoke", {"user_id": OWN, "app_id": "1", "date_time": "2026-10-07T20:19:24Z"}, own=""),
        (AccountEvent(id=REVOKED, at=POST_AT, routing_key=OWN, channel="x", path="$.data.payload", kind="revoked",
                      values={"user_id": OWN, "app_id": "1", "date_time": "2026-10-07T20:19:24Z"}, alarming=True),),
    ),
    "the same, older": (
        json.dumps({"user_event": {"revoke": {"date_time": "2026-10-07T20:19:24+00:00", "source": {"user_id": OWN}}}}
                   ).encode(),
        (AccountEvent(id=REVOKED, at=POST_AT,
                      routing_key=OWN, channel="x", path="$.user_event.revoke", kind="revoked", alarming=True,
                      values={"date_time": "2026-10-07T20:19:24+00:00", "source": {"user_id": OWN}}),),
    ),
    "a replay ended": (
        json.dumps({"replay_job_status": {"job_state": "Complete", "job_id": "1"}}).encode(),
        (Ignored(id=digest({"replay_job_status": {"job_state": "Complete", "job_id": "1"}}), at=NOW, channel="x",
                 path="$.replay_job_status", reason="a replay ended"),),
    ),
    "an event nobody knows": (
        activity("space.start", {"id": "1"}),
        (Ignored(id="-55", at=NOW, routing_key=OWN, channel="x", path="$.data", reason="event 'space.start'"),),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("payload", "expected"), EVENTS.values(), ids=EVENTS)
def test_events(payload: bytes, expected: tuple[Event, ...]) -> None:
    assert run(payload) == expected


def test_one_post_from_two_subscriptions_has_one_id() -> None:
    ids = [run(activity(kind, tweet(**MENTION)))[0].id for kind in ("post.mention.create", "post.reply.create")]
    assert ids[0] == ids[1]


# --- how long a post is -----------------------------------------------------------------------------------------------

WEIGHTS: dict[str, int] = {  # as twitter-text 3 counts them
    "hello": 5, "Привет": 6, "你好": 4, "안녕": 4, "…": 2, "€": 2, "–": 1, "e\u0301": 1, "a\r\nb": 3,
    "👨‍👩‍👧‍👦": 2, "🇩🇪": 2, "👍🏽": 2, "1️⃣": 2, "❤️": 2,
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f": 2,
    "https://example.com/very/long/path?x=1": 23, "see example.com now": 31, "https://t.co/abc": 23,
    "https://example.com.": 24, "(https://example.com/a_(b))": 25, "user@example.com": 16, "@shop_help": 10,
    "v1.2": 4, "中文example.com中文": 31, "x.example.com/a?b=1 c": 25,
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), WEIGHTS.items(), ids=map(ascii, WEIGHTS))
def test_weight(text: str, expected: int) -> None:
    assert weight(text) == expected


def test_an_ending_that_may_be_none_never_makes_a_text_lighter() -> None:
    assert weight("an.instance.of.some.very.long.module.and.its.attribute") == 54
    assert weight("ab.attribute") == 23


# What people write, a blank between the pieces: the reference counts them exactly alike.
PIECES = st.sampled_from(
    (
        "Thanks!", "we've", "sent", "it:", "https://shop.example.com/o/17?x=1#top", "(https://t.co/AbC123)",
        "example.com", "www.example.co.uk/a_(b).", '"http://example.org:8080/x",', "ann@example.com", "@ana_ex",
        "#sale", "$ABC", "v1.2", "3.50€", "–", "…", "“yes”", "你好。", "안녕하세요", "ありがとう、", "Привет", "שלום",
        "e\u0301te\u0301", "👍🏽", "👨\u200d👩\u200d👧", "🇩🇪", "❤️", "1️⃣", "a\nb", "e.g.", "and/or",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    )
)  # fmt: skip


@given(st.lists(PIECES, max_size=12).map(" ".join))
def test_the_reference_weighs_alike(text: str) -> None:
    assert weight(text) == parse_tweet(text).weightedLength


def test_stock_symbols() -> None:
    assert [cashtags(text) for text in ("$ABC", "$abc and $DEF", "5$ and $5", "US$A")] == [1, 2, 0, 0]


# --- what is sent -----------------------------------------------------------------------------------------------------

REPLY = OutboundMessage(
    id="outbox-1", key="k", account="x-main", channel="x", to=(user(ANA),), text="Tomorrow.", visibility="public",
    thread=Thread(kind="public", key="7", parent="40"),
    context=Context(reply_to="40", metadata={"summoned": True, "mentioned": [COURIER]}),
)  # fmt: skip
NOTE = OutboundMessage(
    id="outbox-2", key="k", account="x-main", channel="x_dm", to=(user(ANA),), text="Tomorrow.",
    context=Context(metadata={"dm_event_id": "1"}),
)  # fmt: skip
PICTURE = OutboundFile(kind="image", media_type="image/png", filename="a.png", size=3, url="https://x.example/a.png")
CLIP = OutboundFile(kind="video", media_type="video/mp4", filename="v.mp4", size=1, url="https://x.example/v.mp4")


def but(message: OutboundMessage, **fields: Any) -> OutboundMessage:
    return OutboundMessage(**{name: getattr(message, name) for name in message.__struct_fields__} | fields)


def test_post_body() -> None:
    assert post_body(REPLY, ["5"], 280) == {
        "text": "Tomorrow.",
        "reply": {"in_reply_to_tweet_id": "40", "exclude_reply_user_ids": [COURIER]},
        "media": {"media_ids": ["5"]},
    }


def test_direct_body() -> None:
    assert direct_body(NOTE, ["5"]) == {"text": "Tomorrow.", "attachments": [{"media_id": "5"}]}
    assert direct_path(NOTE) == f"/2/dm_conversations/with/{ANA}/messages"
    group = but(NOTE, to=(), thread=Thread(kind="group", key="4711"))
    assert direct_path(group) == "/2/dm_conversations/4711/messages"


REFUSED: dict[str, tuple[OutboundMessage, str, str]] = {
    "a post too long": (but(REPLY, text="你" * 141), "permanent", "186"),
    "two stock symbols": (but(REPLY, text="$ABC $DEF"), "permanent", "cashtags"),
    "a post that answers nothing": (but(REPLY, context=None), "permanent", "no-post"),
    "a private draft in public": (but(REPLY, thread=PRIVATE), "permanent", "not-public"),
    "a private note in public": (but(REPLY, visibility="private"), "permanent", "not-public"),
    "not summoned": (but(REPLY, context=Context(reply_to="40", metadata={"summoned": False})),
                     "window-closed", "not-summoned"),
    "an empty post": (but(REPLY, text=""), "permanent", "empty"),
    "a video beside a picture": (but(REPLY, files=(PICTURE, CLIP)), "permanent", "files"),
    "five pictures": (but(REPLY, files=(PICTURE,) * 5), "permanent", "files"),
    "a place": (but(NOTE, content=Location(1, 2)), "permanent", "content"),
    "a reaction": (but(NOTE, reaction="👍"), "permanent", "reaction"),
    "two files in a direct message": (but(NOTE, files=(PICTURE,) * 2), "permanent", "files"),
    "a public thread in private": (but(NOTE, thread=Thread(kind="public", key="7")), "permanent", "not-private"),
    "nobody": (but(NOTE, to=()), "bad-recipient", "no-user-id"),
}  # fmt: skip


@pytest.mark.parametrize(("message", "error_class", "code"), REFUSED.values(), ids=REFUSED)
async def test_refused_before_anything_leaves(
    adapter: XAdapter, message: OutboundMessage, error_class: str, code: str
) -> None:
    with pytest.raises(SendError) as caught:
        await adapter.send(message)
    assert (caught.value.error_class, caught.value.code, caught.value.certain) == (error_class, code, True)


def test_the_essence_of_a_text_survives_what_x_does_to_it() -> None:
    assert essence("@ana_ex fish &amp; chips https://t.co/abc") == essence("fish & chips https://shop.example/menu")
    assert essence("fish") != essence("chips")


# --- what X answers ---------------------------------------------------------------------------------------------------


def problem(status: int, **body: Any) -> HttpAnswer:
    return HttpAnswer(status, {}, json.dumps({"title": "T", "status": status} | body).encode())


def numbered(status: int, code: int) -> HttpAnswer:
    return problem(status, errors=[{"code": code, "message": "m"}])


def typed(status: int, slug: str) -> HttpAnswer:
    return problem(status, type=f"https://api.twitter.com/2/problems/{slug}", detail="d")


ANSWERS: dict[str, tuple[HttpAnswer, str, str, bool, str | None]] = {
    "rate": (problem(429), "throttle", "429", True, "endpoint"),
    "rate, by number": (numbered(429, 88), "throttle", "88", True, "endpoint"),
    "posting limit": (numbered(403, 185), "throttle", "185", True, "endpoint"),
    "out of credits": (typed(429, "usage-capped"), "auth", "usage-capped", True, "account"),
    "over capacity": (numbered(503, 130), "unknown", "130", False, None),
    "bare 500": (problem(500), "unknown", "500", False, None),
    "bare 401": (problem(401, type="about:blank"), "auth", "401", True, "account"),
    "bad token": (numbered(401, 89), "auth", "89", True, "account"),
    "suspended": (numbered(403, 64), "auth", "64", True, "account"),
    "wrong kind of credential": (typed(403, "unsupported-authentication"), "auth", "unsupported-authentication",
                                 True, None),
    "no access": (typed(403, "client-forbidden"), "auth", "client-forbidden", True, None),
    "no permission": (problem(403, detail="Your client app is not configured with the appropriate oauth1 app "
                                          "permissions for this endpoint."), "auth", "oauth1-permissions", True, None),
    "automated": (numbered(403, 226), "policy", "226", True, "account"),
    "direct messages closed": (numbered(403, 349), "bad-recipient", "349", True, None),
    "direct messages closed, in words": (problem(403, detail="You do not have permission to DM one or more "
                                                             "participants."), "bad-recipient", "349", True, None),
    "gone": (typed(404, "resource-not-found"), "bad-recipient", "resource-not-found", True, None),
    "post deleted": (numbered(403, 385), "window-closed", "385", True, None),
    "restricted": (numbered(403, 433), "window-closed", "433", True, None),
    "not summoned, in words": (problem(403, detail="Reply to this conversation is not allowed because you have not "
                                                   "been mentioned"), "window-closed", "433", True, None),
    "duplicate": (problem(403, detail="You are not allowed to create a Tweet with duplicate content."), "permanent",
                  "187", True, None),
    "bad request": (typed(400, "invalid-request"), "permanent", "invalid-request", True, None),
    "media expired": (numbered(400, 324), "permanent", "324", True, None),
    "a 403 nobody knows": (problem(403, detail="Something new."), "permanent", "403", True, None),
    "code beside message": (problem(403, code=150, message="m"), "bad-recipient", "150", True, None),
    "no JSON": (HttpAnswer(404, {}, b"<html>"), "bad-recipient", "404", True, None),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "error_class", "code", "certain", "pause"), ANSWERS.values(), ids=ANSWERS)
def test_refusals(answer: HttpAnswer, error_class: str, code: str, certain: bool, pause: str | None) -> None:
    error = refusal(answer)
    assert (error.error_class, error.code, error.certain, error.pause) == (error_class, code, certain, pause)


def test_the_last_exhausted_window_tells_how_long_to_wait() -> None:
    now = int(time.time())
    headers = {
        "x-rate-limit-remaining": "0", "x-rate-limit-reset": str(now + 100),
        "x-user-limit-24hour-remaining": "0", "x-user-limit-24hour-reset": str(now + 5000),
        "x-app-limit-24hour-remaining": "3", "x-app-limit-24hour-reset": str(now + 9000),
    }  # fmt: skip
    assert 4995 < (wait_s(headers) or 0) <= 5000
    assert wait_s({"x-rate-limit-reset": str(now - 5)}) == 1.0
    assert wait_s({"retry-after": "7"}) == 7.0
    assert wait_s({}) is None


# --- who is who -------------------------------------------------------------------------------------------------------


def settings(**more: Any) -> Settings:
    given: dict[str, Any] = {
        "user_id": OWN, "consumer_key": "ck", "consumer_secret": (Secret(SECRET), Secret(OLDER)),
        "access_token": (Secret("at"),), "access_token_secret": (Secret("ats"),),
    }  # fmt: skip
    return Settings(**given | more)


@pytest.fixture
async def adapter() -> AsyncIterator[XAdapter]:
    async with new_session() as session:
        yield XAdapter(Account("x-main", "x"), settings(), Http(session, ["https://api.x.com"], MediaClient()))


def signed(raw: bytes, secret: str = SECRET) -> Callback:
    mac = base64.b64encode(hmac.new(secret.encode(), raw, hashlib.sha256).digest()).decode()
    headers = {"x-twitter-webhooks-signature": (f"sha256={mac}",), "content-type": ("application/json",)}
    return Callback("POST", "https://x.example/webhooks/x", "/webhooks/x", {}, headers, raw)


def crc(query: Mapping[str, str]) -> Callback:
    return Callback("GET", "https://x.example/webhooks/x", "/webhooks/x", query, {}, b"")


async def test_the_check_is_answered_with_the_current_secret(adapter: XAdapter) -> None:
    token = "a+b/ü="
    answer = adapter.handshake(crc({"crc_token": token, "nonce": "n"}))
    mac = base64.b64encode(hmac.new(SECRET.encode(), token.encode(), hashlib.sha256).digest()).decode()
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert json.loads(answer.body) == {"response_token": f"sha256={mac}"}


@pytest.mark.parametrize("query", [{}, {"crc_token": ""}])
async def test_a_check_without_token_is_refused(adapter: XAdapter, query: dict[str, str]) -> None:
    with pytest.raises(HandshakeRefused):
        adapter.handshake(crc(query))


async def test_an_older_secret_still_verifies_and_a_doubled_header_does_not(adapter: XAdapter) -> None:
    callback = signed(b"{}", OLDER)
    adapter.verify(callback)
    name = "x-twitter-webhooks-signature"
    with pytest.raises(VerificationError):
        adapter.verify(replace(callback, headers={name: callback.headers[name] * 2}))


async def test_routing_keys_and_own_addresses(adapter: XAdapter) -> None:
    assert adapter.routing_keys() == adapter.account.own_addresses == frozenset({OWN})


def test_the_documented_signature() -> None:
    """X, OAuth 1.0a, Creating a signature: the page's own example, by the library that signs for us."""
    client = Client(
        "xvz1evFS4wEEPTGEFPHBog", client_secret="kAcSOqF21Fu85e7zjz7ZN2U4ZRhfV3WpwPAoE3Z7kBw",
        resource_owner_key="370773112-GmHxMAgYyLbNEtIKZeRNFsMKPR9EyMZeS9weJAEb",
        resource_owner_secret="LswwdoUaIvS8ltyTt5jkRh4J50vUPVVHtR2YPi5kE",
        nonce="kYjzVBB8Y0ZFabxSWbWovY3uYSQ2pTgmZeNu2VS4cg", timestamp="1318622958",
    )  # fmt: skip
    _, headers, _ = client.sign(
        "https://api.twitter.com/1/statuses/update.json?include_entities=true", "POST",
        body="status=Hello%20Ladies%20%2B%20Gentlemen%2C%20a%20signed%20OAuth%20request%21",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )  # fmt: skip
    assert 'oauth_signature="tnnArxj06cWHq44gCs1OSKk%2FjLY%3D"' in headers["Authorization"]


async def test_what_is_signed(adapter: XAdapter) -> None:
    keys = Keys("ck", Secret("cs"), Secret("at"), Secret("ats"))
    header = XApi(keys, "https://api.x.com/", adapter._http).authorization("POST", "https://api.x.com/2/tweets")
    names = {part.partition("=")[0] for part in header.removeprefix("OAuth ").split(", ")}
    assert names == {"oauth_nonce", "oauth_timestamp", "oauth_version", "oauth_signature_method", "oauth_consumer_key",
                     "oauth_token", "oauth_signature"}  # fmt: skip


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"user_id": ""}, "user_id: is empty"),
        ({"user_id": "@shop"}, "user_id: must be the account's number, not its handle"),
        ({"consumer_secret": ()}, "consumer_secret: is empty"),
        ({"access_token": ()}, "access_token: is empty"),
        ({"subscriptions": ("dm.received",)}, "subscriptions: need the setting oauth2"),
    ],
)
def test_settings_refused(more: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        settings(**more)


BLOCK = {
    "id": "x-main", "adapter": "x", "user_id": OWN, "consumer_key": "ck", "consumer_secret": "cs", "access_token": "at",
    "access_token_secret": "ats",
}  # fmt: skip


def test_settings_from_toml() -> None:
    oauth2 = {"client_id": "ci", "client_secret": "cis", "refresh_token": "rt"}
    tree = {"accounts": [BLOCK | {"oauth2": oauth2, "require_summon": False}]}
    found = parse(tree, {"x": Settings}).accounts[0].options
    assert (found.require_summon, found.api_base) == (False, "https://api.x.com")
    assert found.oauth2 == OAuth2("ci", Secret("cis"), Secret("rt"))
    with pytest.raises(ConfigError, match=r"accounts\[0\]\.oauth2\.refresh_token: missing"):
        parse({"accounts": [BLOCK | {"oauth2": {"client_id": "ci", "client_secret": "cis"}}]}, {"x": Settings})


async def test_the_access_level_shapes_the_channel(adapter: XAdapter) -> None:
    assert SUMMONED in adapter.channels[0].answer_rules
    enterprise = XAdapter(Account("e", "x"), settings(require_summon=False, post_max=25_000), adapter._http)
    assert SUMMONED not in enterprise.channels[0].answer_rules
    assert enterprise.channels[0].limits.text_max == 25_000
    assert (POSTS.limits.text_max, POSTS.limits.split, DIRECT.limits.text_max) == (280, False, 10_000)


def _error(status: int) -> bytes:
    return json.dumps({"title": "T", "detail": "d", "type": "about:blank", "status": status}).encode()


CASE = AdapterCase(
    adapter=XAdapter,
    settings={
        "user_id": OWN, "consumer_key": "consumer-key", "consumer_secret": [SECRET, OLDER],
        "access_token": "token-canary-1", "access_token_secret": "token-secret-canary-1", "api_base": "{base}",
        "oauth2": {"client_id": "client", "client_secret": "client-canary-1", "refresh_token": "refresh-canary-1"},
    },
    message=file("dm_received.json"),
    unknown_kind=came({"text": "look", "attachment": {"type": "hologram"}}),
    unknown_event=activity("space.start", {"id": "1"}),
    broken_item=file("account_activity.json"),
    echo=activity("post.create", tweet(OWN, in_reply_to_tweet_id="6", in_reply_to_user_id=ANA)),
    sign=signed,
    outbound=REPLY,
    success=b'{"data": {"id": "2099000000000000099", "text": "Tomorrow."}}',
    success_status=201,
    external_id="2099000000000000099",
    error_body=_error,
)  # fmt: skip
CASE_DM = replace(
    CASE,
    message=file("mention.json"),
    outbound=NOTE,
    success=b'{"data": {"dm_conversation_id": "1-2", "dm_event_id": "2099000000000000098"}}',
    external_id="2099000000000000098",
)
