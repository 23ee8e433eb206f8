"""All rules run, the strongest word wins, and every word that is not "allow" is heard."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from adapters import Limits
from normalizers.model import OutboundMessage
from outbox import measure, splitting
from outbox.facts import NOWHERE, Facts
from outbox.judge import Judgment, judge
from outbox.rules.declare import installed
from outbox.verdict import ALLOW, Change, Verdict, change, defer, deny
from tests.pigeon import START
from tests.test_rules import DAY, FACTS, NOTE, TICK


def always(word: Any) -> Any:
    return lambda message, facts: word


NO, ALSO_NO = deny("no", "no"), deny("also", "no")
SOON, LATER = defer("soon", "wait", START + TICK), defer("later", "wait", START + timedelta(hours=1))
CASES: dict[str, tuple[list[Any], str, list[str]]] = {
    "nothing to say": ([ALLOW], "allow", []),
    "deny beats all": ([SOON, NO, change("c", "cut", NOTE)], "deny", ["no", "soon", "c"]),
    "defer beats change": ([change("c", "cut", NOTE), LATER, SOON], "defer", ["later", "soon", "c"]),
    "both refusals are heard, in their order": ([ALSO_NO, SOON, NO], "deny", ["also", "no", "soon"]),
}


@pytest.mark.parametrize(("words", "decision", "rules"), CASES.values(), ids=CASES)
def test_strength(words: list[Any], decision: str, rules: list[str]) -> None:
    found = judge(NOTE, FACTS, [always(word) for word in words])
    assert (found.decision, [verdict.rule for verdict in found.verdicts]) == (decision, rules)


def test_it_waits_for_the_last_deferral() -> None:
    assert judge(NOTE, FACTS, [always(SOON), always(LATER)]).until == START + timedelta(hours=1)


def test_a_rule_that_breaks_denies(caplog: pytest.LogCaptureFixture) -> None:
    def broken(message: OutboundMessage, facts: Facts) -> Verdict:
        raise KeyError("x")

    (verdict,) = judge(NOTE, FACTS, [broken]).verdicts
    assert (verdict.rule, verdict.decision, verdict.reason) == ("broken", "deny", "the rule failed (KeyError)")


NOBODY_KNOWS = Verdict("bare", "defer", "later")
WRONG: dict[str, tuple[Any, str]] = {  # what a rule answers -> what is wrong with it
    "nothing": (None, "it answered with NoneType"),
    "yes": (True, "it answered with bool"),
    "a word": ("deny", "it answered with str"),
    "a class": (Verdict, "it answered with StructMeta"),
    "no such decision": (Verdict("bare", "explode", "x"), "Invalid enum value 'explode' - at `$.decision`"),  # type: ignore[arg-type]
    "no reason at all": (deny("bare", None), "Expected `str`, got `null` - at `$.reason`"),  # type: ignore[arg-type]
    "a reason nobody can write down": (deny("bare", "\ud800"), "'utf-8' codec can't encode"),
    "a wait without an end": (NOBODY_KNOWS, "it answered with a deferral without an end"),
    "a wait by no clock": (
        defer("bare", "x", START.replace(tzinfo=None)), "Expected `datetime` with a timezone component - at `$.until`",
    ),
    "a wait past the end of time": (
        defer("bare", "x", datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))), "date value out of range",
    ),
    "no parts": (change("bare", "x"), "it answered with a change without parts"),
    "a change that changes nothing": (Verdict("bare", "change"), "it answered with a change without parts"),
    "parts that are none": (change("bare", "x", "please"), "Expected `object`, got `str` - at `$.parts[0]`"),  # type: ignore[arg-type]
    "a part without a text": (
        change("bare", "x", replace(NOTE, text=None)), "Expected `str`, got `null` - at `$.parts[0].text`",
    ),
    "parts that wait without an end": (Change(NOBODY_KNOWS, (NOTE,)), "it answered with a deferral without an end"),
}  # fmt: skip


@pytest.mark.parametrize(("word", "problem"), WRONG.values(), ids=WRONG)
def test_an_answer_that_is_no_verdict_denies(word: Any, problem: str, caplog: pytest.LogCaptureFixture) -> None:
    def bare(message: OutboundMessage, facts: Facts) -> Any:
        return word

    two = change("c", "cut", NOTE, replace(NOTE, text="there"))
    for rules in ([bare], [always(two), bare]):  # of a whole message, and of its parts
        found = judge(NOTE, FACTS, rules)
        verdict = found.verdicts[0]
        assert (found.decision, verdict.rule, verdict.remedy) == ("deny", "bare", "tell the operator")
        assert verdict.reason.startswith(f"the rule failed ({problem}")
    assert {getattr(record, "rule", "") for record in caplog.records} == {"bare"}


def test_a_wait_that_is_over_is_none() -> None:
    over, shorter = defer("bare", "x", START), replace(NOTE, text="Hi")
    assert judge(NOTE, replace(FACTS, now=START - TICK), [always(over)]).decision == "defer"
    assert judge(NOTE, FACTS, [always(over)]) == Judgment("allow", (), (NOTE,))
    assert judge(NOTE, FACTS, [always(Change(over, (shorter,)))]) == Judgment("allow", (), (shorter,))


def test_every_objection_says_what_it_rests_on() -> None:
    cases: list[tuple[Any, dict[str, Any], dict[str, Any], str, str]] = [
        ("opt_out", {}, {"identity_state": "opted_out"}, "deny", "the person's word; the channel's keywords"),
        ("recipient", {"to": ()}, {}, "deny", "the gateway's own rule: without an address nothing can be sent"),
        ("visibility", {"visibility": "public"}, {}, "deny",
         "the gateway's own rule: what is private must not be seen in public"),
        ("closed_ticket", {}, {"ticket_status": "closed"}, "deny",
         "the gateway's own rule: a closed ticket takes nothing but notes"),
        ("empty", {"text": " "}, {}, "deny", "the gateway's own rule: an empty message says nothing"),
        ("paused", {}, {"paused_until": START + DAY}, "defer", "the platform's answers"),
        ("window", {}, {"now": START + DAY}, "deny", "Pigeon, Window"),  # its own word goes before
    ]  # fmt: skip
    for name, message, facts, decision, source in cases:
        (verdict,) = judge(replace(NOTE, **message), replace(FACTS, **facts)).verdicts
        assert (verdict.rule, verdict.decision, verdict.source) == (name, decision, source)
    shorter = always(change("c", "cut", replace(NOTE, text="Hi")))
    (verdict,) = judge(NOTE, FACTS, [installed(shorter, "c", "pigeon-curfew")]).verdicts
    assert (verdict.decision, verdict.source) == ("change", "a rule of pigeon-curfew")
    (verdict,) = judge(NOTE, FACTS, [always(None)]).verdicts
    assert verdict.source == "the gateway"


def test_every_objection_is_told_at_once() -> None:
    facts = replace(FACTS, now=START + DAY, ticket_status="closed", identity_state="blocked")
    found = judge(replace(NOTE, text="x" * 101), facts)
    assert [verdict.rule for verdict in found.verdicts] == ["closed_ticket", "blocked", "window", "text_length"]


def test_an_account_that_is_gone_is_the_only_objection() -> None:
    facts = Facts(now=START, channel=NOWHERE, configured=False, ticket_account="loft")
    assert [verdict.rule for verdict in judge(NOTE, facts).verdicts] == ["account"]


@given(st.text(max_size=400), st.integers(4, 60), st.sampled_from(["chars", "utf16", "bytes", "gsm", "weighted"]))
def test_no_part_is_too_long_and_no_word_is_lost(text: str, most: int, unit: Any) -> None:
    limits = Limits(most, "", text_unit=unit, segment_max=3 if unit == "gsm" else None)
    parts = splitting.split(text, limits)
    assert all(measure.fits(part, limits) for part in parts if len(part) > 1)
    if unit != "gsm":  # there the text is composed first
        assert "".join("".join(parts).split()) == "".join(text.split())


@given(st.text(min_size=1, max_size=500))
def test_what_was_judged_once_passes_again(text: str) -> None:
    """The dispatcher judges each part once more: nothing is cut twice."""
    first = judge(replace(NOTE, text=text), FACTS)
    for part in first.parts:
        again = judge(part, FACTS)
        assert (again.decision, again.parts) == (
            ("allow", (part,)) if measure.visible(part.text) else ("deny", (part,))
        )
