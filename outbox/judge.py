"""All rules run, the strongest word wins: deny, defer, change, allow."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace

from normalizers.model import OutboundMessage
from outbox.facts import Facts
from outbox.rules import BACKLOG, RULES, Rule, spec_of
from outbox.rules.declare import Declared
from outbox.verdict import ALLOW, GATEWAY, STRENGTH, Change, Decision, Verdict, deny

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode
_read_verdict, _read_change = msgspec.json.Decoder(Verdict).decode, msgspec.json.Decoder(Change).decode


class NoVerdict(Exception):
    """What a rule answered is no verdict."""


class Judgment(msgspec.Struct, frozen=True):
    """The decision on a message: every verdict that is not "allow", the strongest first, and the parts that leave."""

    decision: Decision
    verdicts: tuple[Verdict, ...]
    parts: tuple[OutboundMessage, ...]

    @property
    def until(self) -> datetime | None:
        """The moment when the last deferral ends."""
        return max((v.until for v in self.verdicts if v.decision == "defer" and v.until is not None), default=None)

    @property
    def decisive(self) -> Verdict:
        """The verdict that is told first, if any: of deferrals the one that ends last, else the strongest."""
        until = self.until if self.decision == "defer" else None
        return next((v for v in self.verdicts if until is not None and v.until == until), self.verdicts[0])

    @property
    def due(self) -> datetime | None:
        """Until when rules hold it on purpose, None when none does: from then on it is late."""
        held = [v for v in self.verdicts if v.decision == "defer" and v.rule not in BACKLOG]
        return max((v.until for v in held if v.until is not None), default=None)


def judge(message: OutboundMessage, facts: Facts, rules: Sequence[Rule] = RULES) -> Judgment:
    """Judge a message. A rule that fails itself denies: what nobody could judge does not leave.

    An answer that is no verdict is a failure like an exception. A deferral that is over allows: nothing waits any more.
    """
    off = facts.policy.off
    found: list[Verdict] = []
    parts: tuple[OutboundMessage, ...] = (message,)
    whole = True  # it leaves in one part, which is `message`
    for rule in rules:
        if off and spec_of(rule).name in off:
            continue
        check = rule.check if type(rule) is Declared else rule
        if whole:
            try:
                first = check(message, facts)
                if first is ALLOW:
                    continue  # by far the most common word
                first = _heard(first, facts)
            except Exception as error:
                first = _failed(rule, error)
        made: list[OutboundMessage] = []
        for part in parts:
            word = first if whole else _ask(rule, part, facts)
            verdict = word.verdict if isinstance(word, Change) else word
            if verdict.decision != "allow" and (told := _with_source(verdict, rule)) not in found:
                found.append(told)
            made.extend(word.parts if isinstance(word, Change) else (part,))
        if len(made) != len(parts):
            facts = replace(facts, parts=len(made))
        parts, whole = tuple(made), len(made) == 1
        if whole:
            message = made[0]
    if not found:
        return Judgment("allow", (), parts)
    found.sort(key=lambda verdict: -STRENGTH[verdict.decision])
    return Judgment(found[0].decision, tuple(found), parts)


def _ask(rule: Rule, message: OutboundMessage, facts: Facts) -> Verdict | Change:
    try:
        return _heard(rule(message, facts), facts)
    except Exception as error:
        return _failed(rule, error)


def _with_source(verdict: Verdict, rule: Rule) -> Verdict:
    """A verdict that does not say what it rests on rests on what its rule does."""
    return verdict if verdict.source else replace(verdict, source=spec_of(rule).grounds)


def _heard(word: Verdict | Change, facts: Facts) -> Verdict | Change:
    """A rule's word, if it can be acted on: all of it is written down, and read again. Raises `NoVerdict`."""
    if word is ALLOW:
        return word
    if isinstance(word, Change):
        verdict = word.verdict
        if not word.parts:
            raise NoVerdict("it answered with a change without parts")
    elif isinstance(word, Verdict):
        verdict = word
        if verdict.decision == "change":
            raise NoVerdict("it answered with a change without parts")
    else:
        raise NoVerdict(f"it answered with {type(word).__name__}")
    try:
        (_read_change if word is not verdict else _read_verdict)(_encode(word))
        until = verdict.until if verdict.until is None else verdict.until.astimezone(UTC)
    except (TypeError, ValueError, OverflowError) as error:
        raise NoVerdict(str(error)) from error
    if verdict.decision == "defer":
        if until is None:
            raise NoVerdict("it answered with a deferral without an end")
        if until <= facts.now:
            return ALLOW if word is verdict else replace(word, verdict=ALLOW)
    return word


def _failed(rule: Rule, error: Exception) -> Verdict:
    name = spec_of(rule).name
    problem = str(error) if isinstance(error, NoVerdict) else type(error).__name__
    log.error("rule.failed", extra={"rule": name, "problem": problem}, exc_info=error)
    return deny(name, f"the rule failed ({problem})", "tell the operator", source=GATEWAY)
