"""What may be said in answer to one message of a customer: in public, in private, by a machine, by its reply token."""

from __future__ import annotations

from msgspec.structs import replace

from normalizers.model import Context, OutboundMessage
from outbox.facts import Facts
from outbox.rules.declare import rule as declared
from outbox.rules.settings import AutomaticAnswersSettings
from outbox.verdict import ALLOW, Change, Verdict, change, deny


@declared("deny", source="the adapter's answer rules", kept="the platform refuses other answers")
def answerable(message: OutboundMessage, facts: Facts) -> Verdict:
    """What it answers is there and ours to answer: a public post or comment, or a private conversation."""
    public = message.thread.kind == "public"
    answered = facts.answered if public else facts.last
    if answered is None:
        return ALLOW
    if public and answered.deleted:
        return deny("answerable", "what it answers was deleted", "wait until the person writes again")
    for rule in facts.channel.answer_rules:
        if (rule.automatic_only and facts.human) or (rule.lapses and facts.now - answered.at >= rule.lapses):
            continue
        if (rule.flag in answered.flags) == rule.absent:
            return deny("answerable", rule.reason, rule.remedy, source=rule.source)
    return ALLOW


@declared(
    "deny", source="the adapter's private replies", kept="the platform refuses more of them, and later ones",
    elsewhere=True,
)  # fmt: skip
def private_reply(message: OutboundMessage, facts: Facts) -> Verdict:
    """A private answer to a public post or comment: so many for each, for a time after it was written.

    One that may have been sent counts as sent.
    """
    rule, answered = facts.private_reply, facts.answered
    if rule is None:
        return ALLOW
    if answered is None:
        return deny("private_reply", "there is no post or comment to answer in private", "answer in public")
    until = answered.at + rule.duration
    if facts.now >= until:
        reason = f"it was written more than {rule.duration.total_seconds() / 86_400:g} days ago"
        return deny("private_reply", reason, "answer in public", source=rule.source, until=until)
    if facts.private_used >= rule.per_item:
        times = "once" if rule.per_item == 1 else f"{rule.per_item} times"
        reason = f"the platform lets a post or comment be answered in private {times}, and that was done"
        remedy = "answer in public, or wait for the person's private answer and go on there"
        return deny("private_reply", reason, remedy, source=rule.source)
    return ALLOW


@declared(
    "deny", source="the adapter", kept="the platform takes more for spam; fewer can be set",
    settings=AutomaticAnswersSettings,
)  # fmt: skip
def automatic_answers(message: OutboundMessage, facts: Facts) -> Verdict:
    """So many answers of machines to one message of a customer; a person's are not counted."""
    most = facts.channel.automatic_per_message
    if most is None or facts.human or facts.answered is None or facts.answered_automatic < most:
        return ALLOW
    reason = f"automatic answers this message has had: {facts.answered_automatic}, as many as the platform allows"
    return deny("automatic_answers", reason, "let a person write", source="; ".join(facts.channel.sources))


@declared("change", source="the adapter's reply tokens", kept="a token that is over is refused")
def reply_token(message: OutboundMessage, facts: Facts) -> Verdict | Change:
    """At the last moment a message takes the newest one-time right to answer; one that is over is dropped."""
    if facts.channel.reply_token_valid is None or not facts.queued:
        return ALLOW
    until = facts.reply_token_until
    token = facts.reply_token if until is not None and facts.now < until else ""
    context = message.context or Context()
    if context.reply_token == token:
        return ALLOW
    made = replace(message, context=replace(context, reply_token=token))
    if token:
        return Change(ALLOW, (made,))
    return change("reply_token", "its reply token is used or over: it leaves as an ordinary message", made)
