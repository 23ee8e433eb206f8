"""All rules run, the strongest word wins: deny, defer, change, allow."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec.structs import replace

from normalizers.model import OutboundMessage
from outbox.facts import Facts
from outbox.rules import BACKLOG, RULES, Rule, spec_of
from outbox.rules.declare import Declared
from outbox.verdict import ALLOW, STRENGTH, Change, Decision, Verdict, deny

log = logging.getLogger(__name__)


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
    """Judge a message. A rule that fails itself denies: what nobody could judge does not leave."""
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
            except Exception as error:
                first = _failed(rule, error)
            if first is ALLOW:
                continue  # by far the most common word
        made: list[OutboundMessage] = []
        for part in parts:
            word = first if whole else _ask(rule, part, facts)
            verdict = word.verdict if isinstance(word, Change) else word
            if verdict.decision != "allow" and verdict not in found:
                found.append(verdict)
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
        return rule(message, facts)
    except Exception as error:
        return _failed(rule, error)


def _failed(rule: Rule, error: Exception) -> Verdict:
    name = spec_of(rule).name
    log.error("rule.failed", extra={"rule": name}, exc_info=error)
    return deny(name, f"the rule failed ({type(error).__name__})", "tell the operator")
