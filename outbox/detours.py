"""Whether a refused message may go another way, purely: by whom it was refused, and that nothing of it has left."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import msgspec

from adapters import ErrorClass
from outbox.judge import Judgment
from outbox.ports import Failure
from outbox.rules import CLASS_OF_RULE, load_rules, specs

PLATFORM = "platform"  # what stands for the rule where the platform itself refused
_ELSEWHERE: frozenset[str] = frozenset({"window-closed"})  # the person may hear from us, only not like this
_NOTHING: frozenset[str | None] = frozenset({"retry", "throttle", "held", "failed"})  # tries that brought nothing


class Refusal(msgspec.Struct, frozen=True):
    """Why a message does not go as it is. `elsewhere`: in another way it may; `failure` is what is shown of it."""

    rule: str
    reason: str
    elsewhere: bool
    failure: Failure


class Part(NamedTuple):
    """A part of a refused message as it stands: its state, the class of its error, the outcomes of its tries."""

    state: str
    error_class: str = ""
    tries: Sequence[str | None] = ()  # None: it is not known yet


def goes_on(judgment: Judgment) -> bool:
    """Whether what the rules refuse may pass in another way: every refusing rule says so."""
    elsewhere = {spec.name for spec in specs(load_rules()) if spec.elsewhere}
    refusing = [verdict.rule for verdict in judgment.verdicts if verdict.decision == "deny"]
    return bool(refusing) and elsewhere.issuperset(refusing)


def by_rules(judgment: Judgment) -> Refusal:
    """The refusal of a message our rules deny."""
    verdict = judgment.verdicts[0]
    error_class: ErrorClass = CLASS_OF_RULE.get(verdict.rule, "policy")
    failure = Failure(verdict.rule, error_class, verdict.reason)
    return Refusal(verdict.rule, verdict.reason, goes_on(judgment), failure)


def by_platform(failure: Failure) -> Refusal:
    """The refusal of a message the platform has refused for good, in its code and words."""
    reason = f"{failure.code} {failure.detail}".strip()
    return Refusal(PLATFORM, reason, failure.error_class in _ELSEWHERE, failure)


def nothing_left(parts: Iterable[Part]) -> bool:
    """Whether nothing of a message has left, and nothing may have: every part waits, or was refused like the message.

    A closed window is the platform's own refusal to carry a message, before any device is concerned: that some device
    gets it all the same, as after other failures (`Channel.delivered_after_failed`), is ruled out. So we assume; the
    platforms' documents do not say it.
    """
    return all(_stayed(part) for part in parts)


def _stayed(part: Part) -> bool:
    brought: Collection[str | None] = [outcome for outcome in part.tries if outcome not in _NOTHING]
    if part.state in ("queued", "held"):
        return not brought
    if part.state != "failed" or part.error_class not in _ELSEWHERE:
        return False
    # Taken, and refused by a report afterwards: of several tries nobody knows which one the report is about.
    reported = list(brought) == ["sent"] and "failed" not in part.tries
    return not brought or reported
