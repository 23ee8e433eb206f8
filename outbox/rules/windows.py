"""How long, and how often, may one write after a person's last word? Windows, tags, allowances, counted messages."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace

from adapters import Window
from normalizers.model import OutboundMessage
from outbox.facts import Facts
from outbox.rules.declare import rule as declared
from outbox.rules.settings import WindowSettings
from outbox.verdict import ALLOW, Change, Verdict, deny

RESERVED_FOR_PEOPLE = 1  # of a counted window: the last message is not an automatic one


@declared(
    "deny", "change", source="the adapter's window", kept="the platform refuses what comes after its window",
    settings=WindowSettings, elsewhere=True,
)  # fmt: skip
def window(message: OutboundMessage, facts: Facts) -> Verdict | Change:
    """Free text only within the platform's window after the person's last word.

    Outside of it an approved template may pass, or a person's message with a tag that lasts longer: the rule then sets
    the tag. Within the window no message carries one.
    """
    rule = facts.channel.window
    if rule is None or message.visibility == "public" or _by_template(message, rule):
        return ALLOW
    until = open_until(rule, facts.opened_at, facts.allowed_until)
    if until is not None and facts.now < until - rule.margin:
        if not message.tag:
            return ALLOW
        verdict = Verdict("human_agent", "change", "within the window it leaves without a tag", rule.source)
        return Change(verdict, (replace(message, tag=""),))
    if until is None:
        return deny("window", "the person has not written yet", _way_in(rule, facts), source=rule.source)
    opened_at = facts.opened_at
    if opened_at is not None and may_be_tagged(message, facts):
        for tag, duration in sorted(rule.tags.items(), key=lambda entry: entry[1]):
            if facts.now < opened_at + duration - rule.margin:
                return _tagged(message, tag, opened_at + duration, rule)
    reason = _too_late(message, facts, rule)
    if facts.now < until:
        reason = f"the window ends within the {rule.margin.total_seconds():g} s kept as a margin"
    return deny("window", reason, _way_in(rule, facts), source=rule.source, until=until)


def open_until(rule: Window, opened_at: datetime | None, allowed_until: datetime | None) -> datetime | None:
    """When the right to write ends or ended: the window's or an allowance's end, the later one; None: never begun."""
    if opened_at is None:
        return allowed_until
    until = opened_at + rule.duration
    return until if allowed_until is None else max(until, allowed_until)


def may_be_tagged(message: OutboundMessage, facts: Facts) -> bool:
    """Tags are for what a person writes, and not for advertising."""
    return facts.human and message.purpose != "marketing"


@declared(
    "deny", source="the adapter's window", kept="the platform refuses more messages than its window allows",
    elsewhere=True,
)  # fmt: skip
def window_messages(message: OutboundMessage, facts: Facts) -> Verdict:
    """Not more messages after the person's last word than the platform allows: every part of a long one counts.

    A message that does not fit in whole is refused in whole. What waits already is counted when a message is accepted;
    when it leaves, only what has left, or may have.
    """
    rule = facts.channel.window
    if rule is None or rule.max_messages is None or message.visibility == "public" or _by_template(message, rule):
        return ALLOW
    until = open_until(rule, facts.opened_at, facts.allowed_until)
    if until is None or facts.now >= until - rule.margin:
        return ALLOW  # the window itself says so
    waiting = 0 if facts.queued else facts.window_waiting
    reserved = RESERVED_FOR_PEOPLE if facts.automatic else 0
    left = max(rule.max_messages - facts.window_used - waiting - reserved, 0)
    needed = 1 if facts.queued else facts.parts
    if needed <= left:
        return ALLOW
    remedy = _way_in(rule, facts)
    if reserved and needed <= left + reserved:
        reason = "the last message the platform allows after the person's last word is kept for a person's answer"
    elif left:
        reason = f"it takes {needed} messages, and the platform allows only {left} more after the person's last word"
        remedy = f"shorten it to {left} message{'s' * (left > 1)} (files count, too), or {remedy}"
    else:
        all_ = f"all {rule.max_messages} messages" if facts.window_used >= 0 else "all messages"
        reason = f"{all_} the platform allows after the person's last word are sent or on their way"
    return deny("window", reason, remedy, source=rule.source, until=until)


def _by_template(message: OutboundMessage, rule: Window) -> bool:
    return message.template is not None and rule.template_outside


def _tagged(message: OutboundMessage, tag: str, until: datetime, rule: Window) -> Verdict | Change:
    if message.tag == tag:
        return ALLOW
    reason = f"the window is closed; a person may still answer, with the tag {tag}"
    return Change(Verdict("human_agent", "change", reason, rule.source, until), (replace(message, tag=tag),))


def _too_late(message: OutboundMessage, facts: Facts, rule: Window) -> str:
    longest = max(rule.tags.values(), default=rule.duration) if may_be_tagged(message, facts) else rule.duration
    if facts.opened_at is None:
        return "what the person's last action allowed is over"
    return f"more than {_span(longest)} have passed since the person's last message"


def _span(duration: timedelta) -> str:
    hours = duration.total_seconds() / 3600
    return f"{hours / 24:g} days" if hours > 72 and hours % 24 == 0 else f"{hours:g} hours"


def _way_in(rule: Window, facts: Facts) -> str:
    ways = []
    if rule.template_outside:
        named = f", such as {facts.approved_template!r}" if facts.approved_template else ""
        ways.append(f"send an approved template{named}")
    tags_end = None if facts.opened_at is None else facts.opened_at + max(rule.tags.values(), default=rule.duration)
    if tags_end is not None and facts.now < tags_end and not facts.human:
        ways.append("let a person write")
    return ", or ".join((*ways, "wait until the person writes"))
