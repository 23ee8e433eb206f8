"""The rules that read what a platform declares: each just inside, at and just past its edge, and on real channels."""

from __future__ import annotations

from dataclasses import replace as channel_with
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from adapters import Allowance, AnswerRule, Channel, Limits, MediaRule, Pace, PrivateReply, RepeatRule, Window
from adapters._facebook_facts import FACEBOOK, MESSENGER
from adapters._line_facts import CHANNEL as LINE
from adapters._meta_facts import HUMAN_AGENT, without_tags
from adapters._wechat_facts import CHANNEL as WECHAT
from adapters._x_facts import DIRECT as X_DIRECT
from adapters._x_facts import POSTS as X
from adapters.sms import CHANNEL as SMS
from gateway import replies
from gateway.ids import micros
from normalizers.model import Address, Context, OutboundFile, OutboundMessage, Template, Thread
from outbox.facts import Answered, Facts, TemplateFacts, private_side
from outbox.judge import judge
from outbox.rules import CLASS_OF_RULE, answers, content, permission, repeats, windows
from outbox.verdict import Change, Verdict
from tests.pigeon import PIGEON, START

TICK = timedelta(microseconds=1)
HOUR, DAY, MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)
RING = Address("pigeon", "ring", "r1")
NOTE = OutboundMessage(id="m", key="k", account="loft", channel="pigeon", to=(RING,), text="Hello")
POSTED = replace(NOTE, thread=Thread(kind="public", key="p", parent="c"), visibility="public")
WHISPER = replace(POSTED, visibility="private")
FACTS = Facts(now=START, channel=PIGEON, ticket_account="loft", opened_at=START)

TAGGED = channel_with(
    PIGEON, window=Window(DAY, "Pigeon, Window", tags={"LATER": 7 * DAY, "SOON": 2 * DAY}), templates=False
)
COUNTED = channel_with(
    PIGEON,
    window=Window(
        DAY, "Pigeon, Window", max_messages=3, allowances={"ring": Allowance(MINUTE, 2)}, template_outside=True
    ),
)
WHISPERED = PrivateReply(
    7 * DAY, Limits(50, "Pigeon, Whispers", split=False), Pace(1, ""), "pigeon", "Pigeon, Whispers"
)
SQUARE = channel_with(
    PIGEON,
    name="square",
    private=False,
    window=None,
    private_reply=WHISPERED,
    answer_rules=(
        AnswerRule("called", "nobody called us", "wait to be called", "Square, Answers"),
        AnswerRule("hushed", "they want no answers", "whisper", "Square, Answers", absent=True),
    ),
    automatic_per_message=1,
    repeats=RepeatRule(5, 36 * HOUR, "Square, Spam"),
    sources=("Square, Manners",),
)
TOKENS = channel_with(PIGEON, window=None, reply_token_valid=timedelta(seconds=50))
ASKED = Answered("c", START, frozenset({"called"}))
PRIVATE = {"private_reply": WHISPERED, "channel": private_side(SQUARE, WHISPERED), "answered": ASKED}
HELLO = Template("hello", "en")


def ask(rule: Any, message: dict[str, Any] | OutboundMessage, facts: dict[str, Any]) -> tuple[Verdict, Any]:
    """A rule's verdict, and the message as it leaves (None where it is not changed)."""
    said = message if isinstance(message, OutboundMessage) else replace(NOTE, **message)
    word = rule(said, replace(FACTS, **facts))
    return (word.verdict, word.parts[0]) if isinstance(word, Change) else (word, None)


Case = tuple[Any, dict[str, Any] | OutboundMessage, dict[str, Any], str]
PEOPLE = {"channel": TAGGED, "human": True}
CASES: dict[str, Case] = {
    # the human-agent tag
    "tag: within the window there is none": (windows.window, {}, PEOPLE | {"now": START + DAY - TICK}, "allow"),
    "tag: at the window's end": (windows.window, {}, PEOPLE | {"now": START + DAY}, "change"),
    "tag: just inside its time": (windows.window, {}, PEOPLE | {"now": START + 7 * DAY - TICK}, "change"),
    "tag: at the end of its time": (windows.window, {}, PEOPLE | {"now": START + 7 * DAY}, "deny"),
    "tag: just past its time": (windows.window, {}, PEOPLE | {"now": START + 7 * DAY + TICK}, "deny"),
    "tag: never for a bot": (windows.window, {}, {"channel": TAGGED, "now": START + DAY}, "deny"),
    "tag: never for advertising": (
        windows.window, {"purpose": "marketing"}, PEOPLE | {"now": START + DAY}, "deny",
    ),
    "tag: not where nobody wrote": (windows.window, {}, PEOPLE | {"opened_at": None}, "deny"),
    "tag: not of an account that may not": (
        windows.window, {}, {"channel": without_tags((TAGGED,))[0], "human": True, "now": START + DAY}, "deny",
    ),
    "tag: taken off when the window opens again": (windows.window, {"tag": "LATER"}, PEOPLE, "change"),
    "tag: set once": (windows.window, {"tag": "SOON"}, PEOPLE | {"now": START + DAY}, "allow"),
    # counted windows and allowances
    "count: the last one": (windows.window_messages, {}, {"channel": COUNTED, "window_used": 2}, "allow"),
    "count: one too many": (windows.window_messages, {}, {"channel": COUNTED, "window_used": 3}, "deny"),
    "count: what waits counts": (
        windows.window_messages, {}, {"channel": COUNTED, "window_used": 1, "window_waiting": 2}, "deny",
    ),
    "count: what waits has a place of its own": (
        windows.window_messages, {}, {"channel": COUNTED, "window_used": 1, "window_waiting": 1}, "allow",
    ),
    "count: behind it waits nobody's business": (
        windows.window_messages, {}, {"channel": COUNTED, "window_used": 2, "window_waiting": 9, "queued": True},
        "allow",
    ),
    "count: all parts fit": (windows.window_messages, {}, {"channel": COUNTED, "parts": 3}, "allow"),
    "count: one part too many": (windows.window_messages, {}, {"channel": COUNTED, "parts": 4}, "deny"),
    "count: a part at a time when it leaves": (
        windows.window_messages, {}, {"channel": COUNTED, "parts": 4, "queued": True}, "allow",
    ),
    "count: templates are not counted": (
        windows.window_messages, {"template": HELLO}, {"channel": COUNTED, "window_used": 9}, "allow",
    ),
    "count: a machine leaves the last one": (
        windows.window_messages, {}, {"channel": COUNTED, "window_used": 2, "automatic": True}, "deny",
    ),
    "count: a machine may have the last but one": (
        windows.window_messages, {}, {"channel": COUNTED, "window_used": 1, "automatic": True}, "allow",
    ),
    "allowance: just inside": (
        windows.window, {}, {"channel": COUNTED, "opened_at": None, "allowed_until": START + TICK}, "allow",
    ),
    "allowance: at its end": (
        windows.window, {}, {"channel": COUNTED, "opened_at": None, "allowed_until": START}, "deny",
    ),
    "allowance: the window is longer": (
        windows.window, {}, {"channel": COUNTED, "opened_at": START, "allowed_until": START - HOUR}, "allow",
    ),
    "allowance: outlasts the window": (
        windows.window, {}, {"channel": COUNTED, "opened_at": START - DAY, "allowed_until": START + TICK}, "allow",
    ),
    # answers
    "answer: as asked": (answers.answerable, POSTED, {"channel": SQUARE, "answered": ASKED}, "allow"),
    "answer: not called": (
        answers.answerable, POSTED, {"channel": SQUARE, "answered": Answered("c", START)}, "deny",
    ),
    "answer: hushed": (
        answers.answerable, POSTED,
        {"channel": SQUARE, "answered": Answered("c", START, frozenset({"called", "hushed"}))}, "deny",
    ),
    "answer: judged again when it leaves": (
        answers.answerable, POSTED, {"channel": SQUARE, "answered": Answered("c", START), "queued": True}, "deny",
    ),
    "answer: to what was deleted": (
        answers.answerable, POSTED, {"channel": SQUARE, "answered": replace(ASKED, deleted=True)}, "deny",
    ),
    "answer: in private no such rule holds": (
        answers.answerable, NOTE, {"channel": SQUARE, "answered": Answered("c", START)}, "allow",
    ),
    "machine: the first answer": (
        answers.automatic_answers, POSTED, {"channel": SQUARE, "answered": ASKED}, "allow",
    ),
    "machine: the second answer": (
        answers.automatic_answers, POSTED, {"channel": SQUARE, "answered": ASKED, "answered_automatic": 1}, "deny",
    ),
    "machine: a person is not counted": (
        answers.automatic_answers, POSTED,
        {"channel": SQUARE, "answered": ASKED, "answered_automatic": 1, "human": True}, "allow",
    ),
    # private replies
    "private: just inside": (answers.private_reply, WHISPER, PRIVATE | {"now": START + 7 * DAY - TICK}, "allow"),
    "private: at its end": (answers.private_reply, WHISPER, PRIVATE | {"now": START + 7 * DAY}, "deny"),
    "private: just past": (answers.private_reply, WHISPER, PRIVATE | {"now": START + 7 * DAY + TICK}, "deny"),
    "private: used": (answers.private_reply, WHISPER, PRIVATE | {"private_used": 1}, "deny"),
    "private: nothing to answer": (answers.private_reply, WHISPER, PRIVATE | {"answered": None}, "deny"),
    "private: allowed by its channel": (permission.visibility, WHISPER, PRIVATE, "allow"),
    "private: not where there is none": (
        permission.visibility, WHISPER, {"channel": channel_with(SQUARE, private_reply=None)}, "deny",
    ),
    "private: of its own length": (content.text_length, replace(WHISPER, text="x" * 50), PRIVATE, "allow"),
    "private: longer is not split": (content.text_length, replace(WHISPER, text="x" * 51), PRIVATE, "deny"),
    # reply tokens
    "token: just inside": (
        answers.reply_token, {},
        {"channel": TOKENS, "queued": True, "reply_token": "t", "reply_token_until": START + TICK}, "set t",
    ),
    "token: at its end": (
        answers.reply_token, {}, {"channel": TOKENS, "queued": True, "reply_token": "t", "reply_token_until": START},
        "allow",
    ),
    "token: one it carries is over": (
        answers.reply_token, {"context": Context(reply_token="t")},
        {"channel": TOKENS, "queued": True, "reply_token": "t", "reply_token_until": START}, "change",
    ),
    "token: one it carries was used": (
        answers.reply_token, {"context": Context(reply_token="t")}, {"channel": TOKENS, "queued": True}, "change",
    ),
    "token: not before it leaves": (
        answers.reply_token, {}, {"channel": TOKENS, "reply_token": "t", "reply_token_until": START + MINUTE}, "allow",
    ),
    "token: not where there are none": (
        answers.reply_token, {}, {"queued": True, "reply_token": "t", "reply_token_until": START + MINUTE}, "allow",
    ),
    # the same words
    "repeats: the last one": (repeats.repeated, {}, {"channel": SQUARE, "repeated_to": 4}, "allow"),
    "repeats: one too many": (repeats.repeated, {}, {"channel": SQUARE, "repeated_to": 5}, "deny"),
    "repeats: not where nobody minds": (repeats.repeated, {}, {"repeated_to": 99}, "allow"),
    "duplicate: refused by the platform": (
        repeats.duplicate, POSTED, {"channel": channel_with(SQUARE, duplicates="Square"), "said_again": True}, "deny",
    ),
    "duplicate: an agent who insists": (repeats.duplicate, {}, {"said_again": True, "human": True}, "allow"),
    "duplicate: an API client that replies": (repeats.duplicate, {}, {"said_again": True}, "allow"),
    "duplicate: automatic": (repeats.duplicate, {}, {"said_again": True, "automatic": True}, "deny"),
    "duplicate: advertising": (repeats.duplicate, {"purpose": "marketing"}, {"said_again": True}, "deny"),
    "duplicate: other words": (repeats.duplicate, {"purpose": "marketing"}, {}, "allow"),
    # machines that talk to machines
    "ping-pong: the last one": (permission.loop_guard, {}, {"automatic": True, "ping_pong": 2}, "allow"),
    "ping-pong: one too many": (permission.loop_guard, {}, {"automatic": True, "ping_pong": 3}, "deny"),
    "ping-pong: an agent is never counted": (permission.loop_guard, {}, {"ping_pong": 99}, "allow"),
    # templates
    "template: flagged for its quality still goes": (
        permission.template, {"template": HELLO}, {"template": TemplateFacts("hello", status="FLAGGED")}, "allow",
    ),
    "template: disabled": (
        permission.template, {"template": HELLO}, {"template": TemplateFacts("hello", status="DISABLED")}, "deny",
    ),
    "template: utility is not for marketing": (
        permission.template, {"template": HELLO, "purpose": "marketing"},
        {"template": TemplateFacts("hello", category="UTILITY")}, "deny",
    ),
    "template: marketing is": (
        permission.template, {"template": HELLO, "purpose": "marketing"},
        {"template": TemplateFacts("hello", category="MARKETING")}, "allow",
    ),
    # accounts and closed tickets
    "closed: when it is accepted": (permission.closed_ticket, {}, {"ticket_status": "closed"}, "deny"),
    "closed: not when it leaves": (
        permission.closed_ticket, {}, {"ticket_status": "closed", "queued": True}, "allow",
    ),
    "account: another, also when it leaves": (
        permission.account, {}, {"ticket_account": "tower", "queued": True}, "deny",
    ),
    "proactive: who wrote once": (
        permission.recipient, {"purpose": "transactional"}, {"channel": channel_with(PIGEON, proactive=False)}, "allow",
    ),
    "proactive: who never wrote": (
        permission.recipient, {"purpose": "transactional"},
        {"channel": channel_with(PIGEON, proactive=False), "opened_at": None}, "deny",
    ),
    "one-way sender: nobody to write to": (permission.recipient, {"to": ()}, {"channel": SMS}, "deny"),
}  # fmt: skip


@pytest.mark.parametrize(("rule", "message", "facts", "expected"), CASES.values(), ids=CASES)
def test_edges(rule: Any, message: Any, facts: dict[str, Any], expected: str) -> None:
    verdict, changed = ask(rule, message, facts)
    if expected.startswith("set "):
        assert (verdict.decision, changed.context.reply_token) == ("allow", expected[4:])
        return
    assert verdict.decision == expected
    if expected == "deny":
        assert verdict.reason
        assert verdict.remedy


def test_the_shortest_tag_that_lasts_is_taken_and_told() -> None:
    for age, tag in ((DAY, "SOON"), (2 * DAY - TICK, "SOON"), (2 * DAY, "LATER")):
        verdict, sent = ask(windows.window, {}, PEOPLE | {"now": START + age})
        assert (verdict.rule, sent.tag, verdict.until) == ("human_agent", tag, START + TAGGED.window.tags[tag])  # type: ignore[union-attr]
        assert tag in verdict.reason
    off, sent = ask(windows.window, {"tag": "LATER"}, PEOPLE)
    assert (off.rule, sent.tag) == ("human_agent", "")


def test_a_bot_is_told_that_a_person_may_still_write() -> None:
    soon, late = (ask(windows.window, {}, {"channel": TAGGED, "now": START + age})[0] for age in (DAY, 7 * DAY))
    assert soon.remedy == "let a person write, or wait until the person writes"
    assert late.remedy == "wait until the person writes"


def test_a_long_text_is_refused_whole_when_its_parts_do_not_fit() -> None:
    text = "x" * 301  # four parts of 100
    facts = replace(FACTS, channel=COUNTED)
    found = judge(replace(NOTE, text=text), facts)
    (verdict, *_) = found.verdicts
    assert (found.decision, verdict.rule) == ("deny", "window")
    assert verdict.reason == "it takes 4 messages, and the platform allows only 3 more after the person's last word"
    ways = "send an approved template, or let a person write, or wait until the person writes"
    assert verdict.remedy == "shorten it to 3 messages (files count, too), or " + ways
    (verdict, *_) = judge(replace(NOTE, text=text), replace(facts, window_used=2)).verdicts
    assert verdict.remedy == "shorten it to 1 message (files count, too), or " + ways
    assert len([one for one in found.verdicts if one.rule == "window"]) == 1
    assert judge(replace(NOTE, text="x" * 300), facts).decision == "change"


def test_a_dropped_token_is_told_and_nothing_else_is_lost() -> None:
    context = Context(reply_token="t", quote_token="q", metadata={"a": 1})
    verdict, sent = ask(answers.reply_token, {"context": context}, {"channel": TOKENS, "queued": True})
    assert (verdict.rule, verdict.decision) == ("reply_token", "change")
    assert sent.context == Context(quote_token="q", metadata={"a": 1})


SAME = {
    "case": ("Hello THERE", "hello there"),
    "blanks": ("  Hello\n\tthere ", "Hello there"),
    "links": ("Hello there https://a.example/1", "Hello there http://b.example/2?x"),
    "widths": ("Ｈｅｌｌｏ there", "Hello there"),
    "accents": ("Caf\u00e9", "Cafe\u0301"),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_words_that_count_as_the_same(one: str, other: str) -> None:
    assert repeats.words_key("x", one) == repeats.words_key("x", other) != ""
    assert repeats.words_key("x", one) != repeats.words_key("x_dm", one)


def test_words_that_do_not() -> None:
    assert repeats.words_key("x", "Order 1") != repeats.words_key("x", "Order 2")
    assert repeats.words_key("x", " https://a.example/1 ") == ""


LINKED = channel_with(PIGEON, limits=Limits(100, "Pigeon, Limits", link_max_bytes=30))


@pytest.mark.parametrize(("length", "decision"), [(29, "allow"), (30, "allow"), (31, "deny")])
def test_an_address_in_bytes(length: int, decision: str) -> None:
    address = ("https://a.example/é").ljust(length - 1, "x")
    assert len(address.encode()) == length
    file = OutboundFile(kind="image", media_type="image/png", filename="a", size=1, url=address)
    assert ask(content.links, {"file": file}, {"channel": LINKED})[0].decision == decision


FETCHED = {
    "no address": ("http", "", "deny", "has none"),
    "plain": ("http", "http://a.example/1", "allow", ""),
    "https where plain does": ("http", "https://a.example/1", "allow", ""),
    "plain where https is asked for": ("https", "http://a.example/1", "deny", "fetches files by https"),
    "https": ("https", "https://a.example/1", "allow", ""),
    "bytes are sent": ("", "", "allow", ""),
}


@pytest.mark.parametrize(("fetches", "address", "decision", "words"), FETCHED.values(), ids=FETCHED)
def test_a_file_the_platform_is_to_fetch(fetches: Any, address: str, decision: str, words: str) -> None:
    channel = channel_with(PIGEON, limits=Limits(100, "Pigeon, Limits", fetches=fetches))
    file = OutboundFile(kind="image", media_type="image/png", filename="a.png", size=1, url=address)
    verdict = ask(content.links, {"file": file}, {"channel": channel})[0]
    assert verdict.decision == decision
    assert words in verdict.reason


BYTES = channel_with(PIGEON, limits=Limits(1000, "Instagram, Send API: 1000 bytes", text_unit="bytes"))
SIZED = {
    "ASCII, exactly": ("x" * 1000, 1), "ASCII, one over": ("x" * 1001, 2),
    "umlauts cost 2": ("ü" * 500, 1), "an umlaut over": ("ü" * 500 + "x", 2),
    "an emoji costs 4": ("👍" * 250, 1), "an emoji over": ("👍" * 251, 2),
}  # fmt: skip


@pytest.mark.parametrize(("text", "parts"), SIZED.values(), ids=SIZED)
def test_a_limit_in_bytes(text: str, parts: int) -> None:
    found = judge(replace(NOTE, text=text), replace(FACTS, channel=BYTES))
    assert len(found.parts) == parts
    assert "".join(part.text for part in found.parts) == text
    assert all(len(part.text.encode()) <= 1000 for part in found.parts)


@pytest.mark.parametrize(("files", "parts"), [(1, 1), (2, 2), (3, 3)])
def test_one_file_in_a_message(files: int, parts: int) -> None:
    limits = Limits(
        100, "Pigeon, Limits", caption_max=100, media=(MediaRule("image", ("image/png",), 1000, caption=True),)
    )
    given = tuple(OutboundFile(kind="image", media_type="image/png", filename=f"{n}", size=9) for n in range(files))
    found = judge(replace(NOTE, files=given), replace(FACTS, channel=channel_with(PIGEON, limits=limits)))
    assert [part.text for part in found.parts] == ["Hello"] + [""] * (parts - 1)
    assert [part.file.filename for part in found.parts if part.file] == [str(n) for n in range(parts)]


# --- what the platforms themselves say --------------------------------------------------------------------------------


def on(channel: Channel, **more: Any) -> Facts:
    return replace(FACTS, channel=channel, **more)


def test_messenger_keeps_the_human_agent_seven_days() -> None:
    late = {"opened_at": START - 7 * DAY + TICK, "channel": MESSENGER}
    verdict, sent = ask(windows.window, {}, late | {"human": True})
    assert (verdict.decision, sent.tag) == ("change", HUMAN_AGENT)
    assert ask(windows.window, {}, late)[0].decision == "deny"
    (switched_off,) = without_tags((MESSENGER,))
    assert ask(windows.window, {}, late | {"human": True, "channel": switched_off})[0].decision == "deny"


def test_a_comment_on_facebook_is_answered_in_private_once_within_seven_days() -> None:
    reply = FACEBOOK.private_reply
    assert reply is not None
    facts = {"private_reply": reply, "channel": private_side(FACEBOOK, reply)}
    for age, used, decision in (
        (7 * DAY - TICK, 0, "allow"), (7 * DAY, 0, "deny"), (HOUR, 1, "deny"),
    ):  # fmt: skip
        given = facts | {"answered": Answered("c", START - age), "private_used": used}
        assert ask(answers.private_reply, WHISPER, given)[0].decision == decision
    long = judge(replace(WHISPER, text="x" * 2000), replace(FACTS, answered=ASKED, **facts))
    assert "text_length" in {one.rule for one in long.verdicts}


def test_line_takes_a_token_for_fifty_seconds() -> None:
    assert LINE.reply_token_valid == timedelta(seconds=50)
    taken = {"channel": LINE, "queued": True, "reply_token": "t"}
    for left, token in ((TICK, "t"), (timedelta(), "")):
        changed = ask(answers.reply_token, {}, taken | {"reply_token_until": START + left})[1]
        assert (changed.context.reply_token if changed else "") == token


def test_wechat_allows_five_messages_for_two_days() -> None:
    for age, used, decision in (
        (48 * HOUR - TICK, 4, "allow"), (48 * HOUR - TICK, 5, "deny"), (48 * HOUR, 0, "deny"),
    ):  # fmt: skip
        found = judge(NOTE, on(WECHAT, opened_at=START - age, window_used=used))
        assert found.decision == decision, (age, used)
    assert judge(replace(NOTE, text="好" * 700), on(WECHAT, opened_at=START, window_used=4)).decision == "deny"


def test_x_answers_who_called_and_takes_no_word_twice() -> None:
    posted = replace(POSTED, text="Sure")
    called = Answered("c", START, frozenset({"summoned"}))
    assert judge(posted, on(X, answered=called, human=True)).decision == "allow"
    (verdict, *_) = judge(posted, on(X, answered=Answered("c", START), human=True)).verdicts
    assert (verdict.rule, CLASS_OF_RULE[verdict.rule]) == ("answerable", "window-closed")
    assert verdict.source == X.answer_rules[0].source
    hushed = replace(called, flags=frozenset({"summoned", "replies_restricted"}))
    assert judge(posted, on(X, answered=hushed, human=True)).decision == "deny"
    assert judge(posted, on(X, answered=called, answered_automatic=1)).decision == "deny"
    assert judge(posted, on(X, answered=called, human=True, said_again=True)).decision == "deny"
    for channel, message in ((X, posted), (X_DIRECT, NOTE)):
        assert judge(message, on(channel, answered=called, human=True, repeated_to=5)).decision == "deny"
        assert judge(message, on(channel, answered=called, human=True, repeated_to=4)).decision == "allow"


# --- what the API shows of a window -----------------------------------------------------------------------------------


def seen(
    channel: Channel, now: datetime, *, opened: datetime | None = START, used: int = 0, allowed: datetime | None = None
) -> replies.WindowState:
    row: Any = {
        "opened_at": None if opened is None else micros(opened), "window_used": used,
        "allowed_until": None if allowed is None else micros(allowed),
    }  # fmt: skip
    return replies.window(channel, row, now)


def test_the_window_shows_what_is_left_and_how_long_a_tag_lasts() -> None:
    found = seen(COUNTED, START + DAY - TICK, used=1)
    assert (found.open, found.remaining, found.tag_until) == (True, 2, None)
    assert seen(COUNTED, START, used=3).open is False
    closed = seen(COUNTED, START + DAY, used=1)
    assert (closed.open, closed.remaining) == (False, 0)
    click = seen(COUNTED, START, opened=None, used=1, allowed=START + MINUTE)
    assert (click.open, click.remaining, click.until) == (True, 2, START + MINUTE)
    assert seen(TAGGED, START + DAY).tag_until == START + 7 * DAY
    never = seen(TAGGED, START, opened=None)
    assert (never.open, never.until, never.tag_until) == (False, None, None)
