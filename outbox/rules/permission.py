"""May this be said to this person at all? Consent, window, template, ticket, account, loops."""

from __future__ import annotations

from adapters import Window
from normalizers._mime_text import own_form
from normalizers.model import OutboundMessage
from outbox.facts import Facts
from outbox.verdict import ALLOW, Verdict, defer, deny

AUTOMATIC_PER_HOUR = 5  # to one person; RFC 3834 asks for a limit and names none
AUTOMATIC_PER_DAY = 20
_APPROVED = frozenset({"", "approved", "active", "active - quality pending"})


def account(message: OutboundMessage, facts: Facts) -> Verdict:
    """A reply leaves only from the account its ticket shows, and only while that account is configured (S2)."""
    if not facts.configured:
        return deny("account", f"the account {message.account!r} is not configured any more", "configure it again")
    if facts.ticket_account and facts.ticket_account != message.account:
        return deny(
            "account", f"the ticket belongs to the account {facts.ticket_account!r}", "answer from that account"
        )
    return ALLOW


def closed_ticket(message: OutboundMessage, facts: Facts) -> Verdict:
    """Nothing is said on a closed ticket. What was accepted while it was open still leaves."""
    if facts.ticket_status != "closed" or facts.queued:
        return ALLOW
    return deny("closed_ticket", "the ticket is closed", "write in a new ticket")


def visibility(message: OutboundMessage, facts: Facts) -> Verdict:
    """A reply is seen as its channel shows it: a private one is not heard in public, nor the other way round."""
    if not facts.configured or message.visibility == ("private" if facts.channel.private else "public"):
        return ALLOW
    wanted, is_ = message.visibility, "private" if facts.channel.private else "public"
    return deny(
        "visibility", f"{facts.channel.title} is {is_}, not {wanted}", f'leave "visibility" out, or set "{is_}"'
    )


def recipient(message: OutboundMessage, facts: Facts) -> Verdict:
    """There is an address to send to; only who wrote once can be written to where the channel starts nothing."""
    if not facts.configured or message.thread.kind in ("public", "group", "session"):
        return ALLOW
    if not message.to:
        return deny("recipient", "the person has no address on this channel", "use another channel of the contact")
    if not facts.channel.proactive and facts.opened_at is None and message.purpose != "reply":
        return deny("recipient", "the person never wrote on this channel", "wait until the person writes")
    return ALLOW


def blocked(message: OutboundMessage, facts: Facts) -> Verdict:
    """Who has blocked the account hears nothing from it."""
    if facts.identity_state != "blocked":
        return ALLOW
    return deny("blocked", "the person has blocked this account", "use another channel of the contact")


def opt_out(message: OutboundMessage, facts: Facts) -> Verdict:
    """Who opted out is left alone, as far as the opt-out goes: everything, marketing, or automatic messages."""
    if facts.identity_state == "opted_out":
        return deny("opt_out", "the person opted out of all messages", "wait until the person opts in again")
    template = facts.template
    marketing = message.purpose == "marketing" or (template is not None and template.category.lower() == "marketing")
    if marketing and "marketing" in facts.optouts:
        return deny("opt_out", "the person opted out of marketing", "send it as a reply, if it is one")
    if facts.automatic and "automatic" in facts.optouts:
        return deny("opt_out", "the person opted out of automatic messages", "let a person write")
    return ALLOW


def window(message: OutboundMessage, facts: Facts) -> Verdict:
    """Free text only within the platform's window after the person's last word; an approved template may pass."""
    rule = facts.channel.window
    if rule is None or message.visibility == "public" or (message.template is not None and rule.template_outside):
        return ALLOW
    if facts.opened_at is None:
        return deny("window", "the person has not written yet", _way_in(rule, facts), source=rule.source)
    until = facts.opened_at + rule.duration
    if facts.now >= until:
        hours = f"{rule.duration.total_seconds() / 3600:g}"
        reason = f"more than {hours} hours have passed since the person's last message"
        return deny("window", reason, _way_in(rule, facts), source=rule.source, until=until)
    if rule.max_messages is not None and facts.window_used >= rule.max_messages:
        reason = (
            f"{rule.max_messages} messages were sent since the person's last word, which is all the platform allows"
        )
        return deny("window", reason, _way_in(rule, facts), source=rule.source, until=until)
    return ALLOW


def _way_in(rule: Window, facts: Facts) -> str:
    if not rule.template_outside:
        return "wait until the person writes"
    named = f", such as {facts.approved_template!r}" if facts.approved_template else ""
    return f"send an approved template{named}, or wait until the person writes"


def template(message: OutboundMessage, facts: Facts) -> Verdict:
    """A template the catalogue knows must be approved and get as many texts as it has places. Unknown names pass."""
    wanted, known = message.template, facts.template
    if wanted is None or not facts.configured:
        return ALLOW
    if not facts.channel.templates:
        return deny("template", f"{facts.channel.title} has no templates", "send a text")
    if known is None:
        return ALLOW
    if known.status.lower() not in _APPROVED:
        return deny("template", f"the template {known.name!r} is {known.status.lower()}", "use an approved template")
    given = _body_parameters(wanted.parameters)
    if facts.channel.template_parameters and None not in (known.parameters, given) and known.parameters != given:
        reason = f"the template {known.name!r} takes {known.parameters} parameters, not {given}"
        return deny("template", reason, "give one text for each place")
    return ALLOW


def _body_parameters(parameters: object) -> int | None:
    if isinstance(parameters, tuple | list):
        return len(parameters)
    body = parameters.get("body") if isinstance(parameters, dict) else None
    return len(body) if isinstance(body, tuple | list) else None


def loop_guard(message: OutboundMessage, facts: Facts) -> Verdict:
    """Nobody writes to himself, and machines do not talk to machines. An agent's message is never counted."""
    if any(own_form(address.value.lower(), facts.own_addresses) for address in message.to):
        return deny("loop_guard", "the recipient is an address of this gateway", "write to somebody else")
    if not facts.automatic:
        return ALLOW
    if facts.answers_automatic:
        return deny("loop_guard", "an automatic message would answer an automatic message", "let a person write")
    if facts.automatic_hour >= AUTOMATIC_PER_HOUR or facts.automatic_day >= AUTOMATIC_PER_DAY:
        reason = f"{facts.automatic_day} automatic messages to this person within a day"
        return deny("loop_guard", reason, "let a person write")
    return ALLOW


def paused(message: OutboundMessage, facts: Facts) -> Verdict:
    """While the platform makes an account or a recipient wait, messages wait too."""
    if facts.paused_until is None or facts.paused_until <= facts.now:
        return ALLOW
    return defer("paused", facts.pause_reason or "the account is paused", facts.paused_until)


def pace(message: OutboundMessage, facts: Facts) -> Verdict:
    """Not faster to one person than the platform takes it."""
    if facts.pair_until is None or facts.pair_until <= facts.now:
        return ALLOW
    reason = f"one message per {facts.channel.pace.pair_seconds:g} s to one person"
    return defer("pace", reason, facts.pair_until, source=facts.channel.pace.source)
