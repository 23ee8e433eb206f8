"""Each rule just inside, at and just past its edge."""

from __future__ import annotations

from dataclasses import replace as channel_with
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from adapters import AnswerRule, Limits, Window
from normalizers.model import Address, Context, Location, OutboundFile, OutboundMessage, Template, Thread
from outbox import measure, splitting
from outbox.facts import NOWHERE, Answered, Facts, TemplateFacts
from outbox.judge import judge
from outbox.rules import CLASS_OF_RULE, FORM, PERMISSION, answers, content, permission, windows
from outbox.verdict import Change, Verdict
from tests.pigeon import PIGEON, START

RING = Address("pigeon", "ring", "r1")
NOTE = OutboundMessage(id="m", key="k", account="loft", channel="pigeon", to=(RING,), text="Hello")
FACTS = Facts(now=START, channel=PIGEON, ticket_account="loft", opened_at=START)
TICK = timedelta(microseconds=1)
DAY = timedelta(hours=24)
HELLO = Template("hello", "en", ("Ann",))
KNOWN = TemplateFacts("hello", "en", "APPROVED", "UTILITY", 1)
COUNTED = channel_with(PIGEON, window=Window(DAY, "Pigeon, Window", max_messages=3))

PICTURE = OutboundFile(kind="image", media_type="image/png", filename="a.png", size=10, url="https://x.test/a.png")
HOLD = AnswerRule("standby", "held", "wait", "Pigeon, Holds", absent=True, lapses=DAY)
STANDBY_FOR_MACHINES = channel_with(PIGEON, answer_rules=(channel_with(HOLD, automatic_only=True),))
HELD = {
    "channel": channel_with(PIGEON, answer_rules=(HOLD,)), "last": Answered("m0", START, frozenset({"standby"})),
}  # fmt: skip


def said(rule: Any, message: dict[str, Any], facts: dict[str, Any]) -> str:
    word = rule(replace(NOTE, **message), replace(FACTS, **facts))
    return str((word.verdict if isinstance(word, Change) else word).decision)


CASES: dict[str, tuple[Any, dict[str, Any], dict[str, Any], str]] = {
    "window: just inside": (windows.window, {}, {"now": START + DAY - TICK}, "allow"),
    "window: at its end": (windows.window, {}, {"now": START + DAY}, "deny"),
    "window: just past": (windows.window, {}, {"now": START + DAY + TICK}, "deny"),
    "window: never opened": (windows.window, {}, {"opened_at": None}, "deny"),
    "window: a template passes outside": (windows.window, {"template": HELLO}, {"opened_at": None}, "allow"),
    "window: not where the platform has none": (
        windows.window, {}, {"opened_at": None, "channel": channel_with(PIGEON, window=None)}, "allow",
    ),
    "window: one message left": (windows.window_messages, {}, {"channel": COUNTED, "window_used": 2}, "allow"),
    "window: none left": (windows.window_messages, {}, {"channel": COUNTED, "window_used": 3}, "deny"),
    "window: no template where it helps nothing": (
        windows.window, {"template": HELLO}, {"channel": COUNTED, "opened_at": None}, "deny",
    ),
    "template: known": (permission.template, {"template": HELLO}, {"template": KNOWN}, "allow"),
    "template: in no catalogue": (permission.template, {"template": HELLO}, {}, "allow"),
    "template: paused": (
        permission.template, {"template": HELLO}, {"template": replace(KNOWN, status="PAUSED")}, "deny",
    ),
    "template: one parameter short": (
        permission.template, {"template": HELLO}, {"template": replace(KNOWN, parameters=2)}, "deny",
    ),
    "template: one too many": (
        permission.template, {"template": HELLO}, {"template": replace(KNOWN, parameters=0)}, "deny",
    ),
    "template: number not known": (
        permission.template, {"template": HELLO}, {"template": replace(KNOWN, parameters=None)}, "allow",
    ),
    "template: one text alone": (
        permission.template, {"template": Template("hello", "en", {"body": "a"})}, {"template": KNOWN}, "allow",
    ),
    "template: no body where there is one": (
        permission.template, {"template": Template("hello", "en", {"buttons": ["a"]})}, {"template": KNOWN}, "deny",
    ),
    "template: components only the platform can count": (
        permission.template, {"template": Template("hello", "en", {"components": []})}, {"template": KNOWN}, "allow",
    ),
    "template: not in this language": (
        permission.template, {"template": HELLO}, {"template_languages": ("de",)}, "deny",
    ),
    "template: in several languages, none named": (
        permission.template, {"template": Template("hello")}, {"template_languages": ("de", "en")}, "deny",
    ),
    "template: parameters by component": (
        permission.template, {"template": Template("hello", "en", {"body": ["a", "b"]})}, {"template": KNOWN}, "deny",
    ),
    "template: the channel has none": (
        permission.template, {"template": HELLO}, {"channel": channel_with(PIGEON, templates=False)}, "deny",
    ),
    "opt-out: of all": (permission.opt_out, {}, {"identity_state": "opted_out"}, "deny"),
    "opt-out: of marketing, a reply": (permission.opt_out, {}, {"optouts": frozenset({"marketing"})}, "allow"),
    "opt-out: of marketing, marketing": (
        permission.opt_out, {"purpose": "marketing"}, {"optouts": frozenset({"marketing"})}, "deny",
    ),
    "opt-out: of marketing, a marketing template": (
        permission.opt_out, {"template": HELLO},
        {"optouts": frozenset({"marketing"}), "template": replace(KNOWN, category="MARKETING")}, "deny",
    ),
    "opt-out: of automatic, by hand": (permission.opt_out, {}, {"optouts": frozenset({"automatic"})}, "allow"),
    "opt-out: of automatic, automatic": (
        permission.opt_out, {}, {"optouts": frozenset({"automatic"}), "automatic": True}, "deny",
    ),
    "blocked": (permission.blocked, {}, {"identity_state": "blocked"}, "deny"),
    "blocked: not in a group": (
        permission.blocked, {"thread": Thread(kind="group", key="g1")}, {"identity_state": "blocked"}, "allow",
    ),
    "not blocked": (permission.blocked, {}, {"identity_state": "opted_out"}, "allow"),
    "closed ticket": (permission.closed_ticket, {}, {"ticket_status": "closed"}, "deny"),
    "closed after it was queued": (permission.closed_ticket, {}, {"ticket_status": "closed", "queued": True}, "allow"),
    "solved ticket": (permission.closed_ticket, {}, {"ticket_status": "solved"}, "allow"),
    "account: the ticket's": (permission.account, {}, {}, "allow"),
    "account: another": (permission.account, {}, {"ticket_account": "tower"}, "deny"),
    "account: removed": (permission.account, {}, {"configured": False, "channel": NOWHERE}, "deny"),
    "visibility: private": (permission.visibility, {}, {}, "allow"),
    "visibility: public on a private channel": (permission.visibility, {"visibility": "public"}, {}, "deny"),
    "recipient: none": (permission.recipient, {"to": ()}, {}, "deny"),
    "recipient: a post": (permission.recipient, {"to": (), "thread": Thread(kind="public", key="p")}, {}, "allow"),
    "recipient: never wrote, and must have": (
        permission.recipient, {"purpose": "transactional"},
        {"opened_at": None, "channel": channel_with(PIGEON, proactive=False)}, "deny",
    ),
    "loop: to ourselves": (
        permission.loop_guard, {"to": (Address("m", "email", "Help@X"),)}, {"own_addresses": frozenset({"help@x"})},
        "deny",
    ),
    "loop: an agent is never counted": (
        permission.loop_guard, {}, {"automatic_day": 99, "automatic_hour": 99}, "allow",
    ),
    "loop: the last automatic one of the hour": (
        permission.loop_guard, {}, {"automatic": True, "automatic_hour": 4, "automatic_day": 19}, "allow",
    ),
    "loop: one too many in an hour": (permission.loop_guard, {}, {"automatic": True, "automatic_hour": 5}, "deny"),
    "loop: one too many in a day": (permission.loop_guard, {}, {"automatic": True, "automatic_day": 20}, "deny"),
    "loop: machine to machine": (permission.loop_guard, {}, {"automatic": True, "answers_automatic": True}, "deny"),
    "loop: an agent answers a machine": (permission.loop_guard, {}, {"answers_automatic": True}, "allow"),
    "empty: a word": (content.empty, {"text": "."}, {}, "allow"),
    "empty: blanks": (content.empty, {"text": " \n"}, {}, "deny"),
    "empty: of no width": (content.empty, {"text": "\u200b\u2060\ufeff"}, {}, "deny"),
    "empty: control characters": (content.empty, {"text": "\x01\x02"}, {}, "deny"),
    "empty: what joins emoji, and no emoji": (content.empty, {"text": "\u200d\ufe0f"}, {}, "deny"),
    "empty: fillers": (content.empty, {"text": "\u3164\u2800\u115f"}, {}, "deny"),
    "empty: only the html is of no width": (content.empty, {"text": "", "html": "\u200b"}, {}, "deny"),
    "empty: an emoji of several": (content.empty, {"text": "\u200b👨‍👩‍👧"}, {}, "allow"),
    "empty: a heart in colour": (content.empty, {"text": "❤️"}, {}, "allow"),
    "empty: a letter after nothing": (content.empty, {"text": "\u200b\u200eב"}, {}, "allow"),
    "empty: a character of somebody's own": (content.empty, {"text": "\uf8ff"}, {}, "allow"),
    "empty: of no width beside a file": (content.empty, {"text": "\u200b", "files": (PICTURE,)}, {}, "allow"),
    "parts: a template with its one file": (
        content.parts, {"template": HELLO, "files": (PICTURE,), "text": ""}, {}, "allow",
    ),
    "parts: a template never goes twice": (
        content.parts, {"template": HELLO, "files": (PICTURE, PICTURE), "text": ""}, {}, "deny",
    ),
    "parts: nor once with its text and once with its file": (
        content.parts, {"template": HELLO, "files": (PICTURE,), "text": "Hello"}, {}, "allow",
    ),
    "length: a text beside content is not cut": (
        content.text_length, {"text": "x" * 101, "content": Location(1.0, 2.0)}, {}, "deny",
    ),
    "answers: held by somebody else": (answers.answerable, {}, HELD, "deny"),
    "answers: a person may all the same": (
        answers.answerable, {}, HELD | {"human": True, "channel": STANDBY_FOR_MACHINES}, "allow",
    ),
    "answers: a machine may not": (answers.answerable, {}, HELD | {"channel": STANDBY_FOR_MACHINES}, "deny"),
    "answers: the hold is over": (answers.answerable, {}, HELD | {"now": START + DAY}, "allow"),
    "answers: the hold is not yet over": (answers.answerable, {}, HELD | {"now": START + DAY - TICK}, "deny"),
    "empty: only a template": (content.empty, {"text": "", "template": HELLO}, {}, "allow"),
    "empty: a reaction taken back": (content.empty, {"text": "", "reaction": ""}, {}, "allow"),
    "paused: still": (permission.paused, {}, {"paused_until": START + TICK}, "defer"),
    "paused: no longer": (permission.paused, {}, {"paused_until": START}, "allow"),
    "pace: too soon": (permission.pace, {}, {"pair_until": START + TICK}, "defer"),
    "pace: now": (permission.pace, {}, {"pair_until": START}, "allow"),
    "length: one below": (content.text_length, {"text": "x" * 99}, {}, "allow"),
    "length: exactly": (content.text_length, {"text": "x" * 100}, {}, "allow"),
    "length: one over is split": (content.text_length, {"text": "x" * 101}, {}, "change"),
    "length: one over where nothing is split": (
        content.text_length, {"text": "x" * 101},
        {"channel": channel_with(PIGEON, limits=Limits(100, "Pigeon, Limits", split=False))}, "deny",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("rule", "message", "facts", "decision"), CASES.values(), ids=CASES)
def test_edges(rule: Any, message: dict[str, Any], facts: dict[str, Any], decision: str) -> None:
    assert said(rule, message, facts) == decision


def test_a_refusal_shows_the_way_out() -> None:
    verdict = windows.window(NOTE, replace(FACTS, now=START + DAY, approved_template="hello"))
    assert isinstance(verdict, Verdict)
    assert verdict.until == START + DAY
    assert verdict.remedy == "send an approved template, such as 'hello', or wait until the person writes"
    assert verdict.source == "Pigeon, Window"


def test_a_dead_token_waits_for_somebody() -> None:
    verdict = permission.paused(NOTE, replace(FACTS, paused_until=START + TICK, pause_class="auth"))
    assert (verdict.decision, "renews" in verdict.remedy) == ("defer", True)
    assert permission.paused(NOTE, replace(FACTS, paused_until=START + TICK)).remedy == "it leaves by itself then"


def file(kind: Any, media_type: str, size: int = 10, name: str = "f") -> OutboundFile:
    return OutboundFile(kind=kind, media_type=media_type, filename=name, size=size)


FILES: dict[str, tuple[OutboundFile, str, str]] = {
    "a picture": (file("image", "image/png", 1000), "allow", "image"),
    "a picture too large goes as a file": (file("image", "image/png", 1001), "change", "file"),
    "a picture of another type goes as a file": (file("image", "image/webp"), "change", "file"),
    "the largest file": (file("file", "application/pdf", 5000), "allow", "file"),
    "a file too large": (file("file", "application/pdf", 5001), "deny", "file"),
    "a type nobody takes": (file("video", "video/mp4"), "deny", "video"),
    "a type with parameters": (file("audio", "audio/ogg; codecs=opus"), "allow", "audio"),
}


@pytest.mark.parametrize(("given", "decision", "kind"), FILES.values(), ids=FILES)
def test_media(given: OutboundFile, decision: str, kind: str) -> None:
    word = content.media(replace(NOTE, file=given), FACTS)
    assert (word.verdict if isinstance(word, Change) else word).decision == decision
    if isinstance(word, Change):
        assert [part.file.kind for part in word.parts if part.file] == [kind]


def test_all_files_together_are_weighed() -> None:
    limits = channel_with(PIGEON.limits, media=(), total_bytes=20, files_per_message=9)
    facts = replace(FACTS, channel=channel_with(PIGEON, limits=limits))
    files = (file("file", "x/y"), file("file", "x/y"))
    assert said(content.media, {"files": files}, {"channel": facts.channel}) == "allow"
    assert said(content.media, {"files": (*files, file("file", "x/y", 1))}, {"channel": facts.channel}) == "deny"


PICTURE, SOUND = file("image", "image/png", name="a"), file("audio", "audio/ogg", name="b")
ARRANGED: dict[str, tuple[str, tuple[OutboundFile, ...], list[tuple[str, str]]]] = {
    "a caption at its limit": ("x" * 20, (PICTURE,), [("x" * 20, "a")]),
    "a caption past its limit": ("x" * 21, (PICTURE,), [("x" * 21, ""), ("", "a")]),
    "no caption beside a sound": ("Hi", (SOUND,), [("Hi", ""), ("", "b")]),
    "one file for each message": ("Hi", (PICTURE, SOUND), [("Hi", "a"), ("", "b")]),
    "files alone": ("", (PICTURE, PICTURE), [("", "a"), ("", "a")]),
}


@pytest.mark.parametrize(("text", "files", "parts"), ARRANGED.values(), ids=ARRANGED)
def test_text_and_files_in_parts(text: str, files: tuple[OutboundFile, ...], parts: list[tuple[str, str]]) -> None:
    message = replace(NOTE, text=text, files=files, context=Context(reply_to="x"))
    word = content.parts(message, FACTS)
    assert isinstance(word, Change)
    assert [(part.text, part.file.filename if part.file else "") for part in word.parts] == parts
    assert (word.verdict.rule, word.verdict.decision) == (("parts", "change") if len(parts) > 1 else ("", "allow"))
    assert [bool(part.context and part.context.reply_to) for part in word.parts] == [True] + [False] * (len(parts) - 1)


def test_a_post_stays_in_one_piece() -> None:
    whole = channel_with(PIGEON, limits=channel_with(PIGEON.limits, split=False))
    post = replace(NOTE, thread=Thread(kind="public", key="p1"), files=(PICTURE, SOUND))
    verdict = content.parts(post, replace(FACTS, channel=whole))
    assert isinstance(verdict, Verdict)
    assert (verdict.rule, verdict.decision) == ("parts", "deny")
    assert CLASS_OF_RULE["parts"] == "permanent"


def test_no_part_is_one_nobody_sees() -> None:
    """It would be refused as it leaves, after the others have left."""
    unseen = "\u200b" * 100
    texts = [part.text for part in judge(replace(NOTE, text="x" * 100 + unseen), FACTS).parts]
    assert texts == ["x" * 100]
    texts = [part.text for part in judge(replace(NOTE, text="x" * 100 + unseen + "y"), FACTS).parts]
    assert texts == ["x" * 100, "y"]
    (part,) = judge(replace(NOTE, text=unseen, files=(PICTURE,)), FACTS).parts
    assert part.file == PICTURE
    assert judge(part, FACTS).decision == "allow"


CUTS: dict[str, tuple[str, int, str, tuple[str, ...]]] = {
    "at a paragraph": ("One two.\n\nThree four.", 16, "chars", ("One two.", "Three four.")),
    "at a sentence": ("One two. Three four.", 16, "chars", ("One two.", "Three four.")),
    "at a blank": ("aaaa bbbb cccc", 10, "chars", ("aaaa bbbb", "cccc")),
    "inside a word too long": ("a" * 25, 10, "chars", ("a" * 10, "a" * 10, "a" * 5)),
    "Chinese, at a full stop": ("你好。再见了朋友", 5, "chars", ("你好。", "再见了朋友")),
    "in bytes, never inside a character": ("ééé", 3, "bytes", ("é", "é", "é")),
    "in UTF-16, an emoji whole": ("👍👍", 3, "utf16", ("👍", "👍")),
    "a family stays together": ("x👨‍👩‍👧", 5, "chars", ("x", "👨‍👩‍👧")),
    "flags stay in pairs": ("🇩🇪🇫🇷", 3, "chars", ("🇩🇪", "🇫🇷")),
    "by weight, a link as a whole": (
        "look at this one https://shop.example.com/a/very/long/way/to/it now", 40, "weighted",
        ("look at this one https://shop.example.com/a/very/long/way/to/it", "now"),
    ),
    "by weight, two for Chinese": ("你好。再见了朋友", 10, "weighted", ("你好。", "再见了朋友")),
    "by weight, an emoji is two": ("👨‍👩‍👧👨‍👩‍👧", 3, "weighted", ("👨‍👩‍👧", "👨‍👩‍👧")),
    "an accent stays on its letter": ("abe\u0301", 3, "chars", ("ab", "e\u0301")),
}  # fmt: skip


@pytest.mark.parametrize(("text", "most", "unit", "parts"), CUTS.values(), ids=CUTS)
def test_cuts(text: str, most: int, unit: Any, parts: tuple[str, ...]) -> None:
    assert splitting.split(text, Limits(most, "", text_unit=unit)) == parts


def test_sms_is_cut_by_segments_too() -> None:
    limits = Limits(1600, "", text_unit="gsm", segment_max=2)
    assert measure.fits("x" * 306, limits)
    assert not measure.fits("x" * 307, limits)
    assert [measure.segments(part) for part in splitting.split("word " * 100, limits)] == [2, 2]


def test_forms_come_last() -> None:
    assert not set(PERMISSION) & set(FORM)
