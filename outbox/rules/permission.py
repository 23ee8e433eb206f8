"""May this be said to this person at all? Consent, template, ticket, account, loops."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from adapters import Channel
from normalizers._mime_text import own_form
from normalizers.model import OutboundMessage, Template
from outbox.facts import Facts, TemplateFacts
from outbox.rules.declare import rule
from outbox.rules.settings import LoopGuardSettings, OptOutSettings, PaceSettings
from outbox.verdict import ALLOW, Change, Verdict, defer, deny

_RENEW = "the operator renews the account's credentials and restarts the gateway: then it leaves by itself"
_NOT_FOR_MARKETING = frozenset({"utility", "authentication"})


@rule("deny", kept="a reply leaves from the account its ticket shows")
def account(message: OutboundMessage, facts: Facts) -> Verdict:
    """A reply leaves only from the account its ticket shows, and only while that account is configured (S2)."""
    if not facts.configured:
        return deny("account", f"the account {message.account!r} is not configured any more", "configure it again")
    if facts.ticket_account and facts.ticket_account != message.account:
        return deny(
            "account", f"the ticket belongs to the account {facts.ticket_account!r}", "answer from that account"
        )
    return ALLOW


@rule("deny", kept="a closed ticket takes nothing but notes")
def closed_ticket(message: OutboundMessage, facts: Facts) -> Verdict:
    """Nothing is said on a closed ticket. What was accepted while it was open still leaves."""
    if facts.ticket_status != "closed" or facts.queued:
        return ALLOW
    return deny("closed_ticket", "the ticket is closed", "write in a new ticket")


@rule("deny", kept="what is private must not be seen in public")
def visibility(message: OutboundMessage, facts: Facts) -> Verdict:
    """A reply is seen as its channel shows it: a private one is not heard in public, nor the other way round."""
    if not facts.configured or message.visibility == ("private" if facts.channel.private else "public"):
        return ALLOW
    wanted, is_ = message.visibility, "private" if facts.channel.private else "public"
    return deny(
        "visibility", f"{facts.channel.title} is {is_}, not {wanted}", f'leave "visibility" out, or set "{is_}"'
    )


@rule("deny", kept="without an address nothing can be sent", elsewhere=True)
def recipient(message: OutboundMessage, facts: Facts) -> Verdict:
    """There is an address to send to; only who wrote once can be written to where the channel starts nothing."""
    if not facts.configured or message.thread.kind in ("public", "group", "session"):
        return ALLOW
    if not message.to:
        return deny("recipient", "the person has no address on this channel", "use another channel of the contact")
    if not facts.channel.proactive and facts.opened_at is None and message.purpose != "reply":
        return deny("recipient", "the person never wrote on this channel", "wait until the person writes")
    return ALLOW


@rule("deny", kept="who has blocked an account is left alone")
def blocked(message: OutboundMessage, facts: Facts) -> Verdict:
    """Who has blocked the account hears nothing from it; a group is not only theirs who wrote in it first."""
    if facts.identity_state != "blocked" or message.thread.kind == "group":
        return ALLOW
    return deny("blocked", "the person has blocked this account", "use another channel of the contact")


def is_marketing(message: OutboundMessage, facts: Facts) -> bool:
    """Whether the message, or the template it is made from, is meant to sell."""
    return sells(message.purpose, facts)


def sells(purpose: str, facts: Facts) -> bool:
    """The same of a purpose, before there is a message."""
    template = facts.template
    return purpose == "marketing" or (template is not None and template.category.lower() == "marketing")


@rule(
    "deny", source="the person's word; the channel's keywords", kept="who opted out is left alone: it is the law",
    settings=OptOutSettings,
)  # fmt: skip
def opt_out(message: OutboundMessage, facts: Facts) -> Verdict:
    """Who opted out is left alone, as far as the opt-out goes: everything, marketing, or automatic messages."""
    if facts.identity_state == "opted_out":
        return deny("opt_out", "the person opted out of all messages", "wait until the person opts in again")
    if "marketing" in facts.optouts and is_marketing(message, facts):
        return deny("opt_out", "the person opted out of marketing", "send it as a reply, if it is one")
    if facts.automatic and "automatic" in facts.optouts:
        return deny("opt_out", "the person opted out of automatic messages", "let a person write")
    return ALLOW


@rule("deny", "change", source="the platform's catalogue; `[[accounts.templates]]`", elsewhere=True)
def template(message: OutboundMessage, facts: Facts) -> Verdict | Change:
    """A template the catalogue knows must be approved, in a language it has, and every place filled. Others pass."""
    wanted, known = message.template, facts.template
    if wanted is None or not facts.configured:
        return ALLOW
    if not facts.channel.templates:
        return deny("template", f"{facts.channel.title} has no templates", "send a text")
    if known is None:
        return _no_language(wanted, facts.template_languages) if facts.template_languages else ALLOW
    if not known.approved:
        return deny("template", f"the template {known.name!r} is {known.status.lower()}", "use an approved template")
    if message.purpose == "marketing" and known.category.lower() in _NOT_FOR_MARKETING:
        reason = f"the template {known.name!r} is of the category {known.category.lower()}, which is not for marketing"
        return deny("template", reason, "use a template of the category marketing")
    if facts.channel.template_parameters and (word := _wrong_count(wanted, known)) is not None:
        return word
    if not wanted.language and known.language:  # the only one there is: nothing an agent must be told
        return Change(ALLOW, (replace(message, template=replace(wanted, language=known.language)),))
    return ALLOW


def _no_language(wanted: Template, languages: Sequence[str]) -> Verdict:
    listed = ", ".join(languages)
    if not wanted.language:
        return deny("template", f"the template {wanted.name!r} is there in {listed}", "name one of these languages")
    reason = f"the template {wanted.name!r} is not there in {wanted.language!r}"
    return deny("template", reason, f"use a language it is there in: {listed}")


def _wrong_count(wanted: Template, known: TemplateFacts) -> Verdict | None:
    given = _body_parameters(wanted.parameters)
    if None in (known.parameters, given) or known.parameters == given:
        return None
    reason = f"the template {known.name!r} takes {known.parameters} parameters, not {given}"
    return deny("template", reason, "give one text for each place")


def misshapen(
    wanted: Template, channel: Channel, known: TemplateFacts | None, languages: Sequence[str]
) -> tuple[str, Verdict] | None:
    """What of a template can fit at no time, by its field, and the rule's word on it; None when it fits as far as is
    known. `known` and `languages` are the catalogue's."""
    if not channel.templates:
        return None
    if known is None:
        return ("language", _no_language(wanted, languages)) if languages else None
    word = _wrong_count(wanted, known) if channel.template_parameters else None
    return ("parameters", word) if word is not None else None


def _body_parameters(parameters: object) -> int | None:
    """How many texts the body gets; None where only the platform could tell."""
    if isinstance(parameters, tuple | list):
        return len(parameters)
    if not isinstance(parameters, dict):
        return None
    if "components" in parameters:  # as the platform words them
        return None
    texts = next((parameters[name] for name in ("body", "variables") if name in parameters), ())
    if isinstance(texts, dict):
        return 1 if "type" in texts else len(texts)
    return len(texts) if isinstance(texts, tuple | list) else 1


@rule(
    "deny", source="RFC 3834, which asks for a limit and names none", settings=LoopGuardSettings,
    kept="machines that answer each other never end; its counts can be set",
)  # fmt: skip
def loop_guard(message: OutboundMessage, facts: Facts) -> Verdict:
    """Nobody writes to himself; what the gateway says by itself does not go on without end. It alone is counted."""
    own = facts.own_addresses
    if own and any(own_form(address.value.lower(), own) for address in message.to):
        return deny("loop_guard", "the recipient is an address of this gateway", "write to somebody else")
    if not facts.automatic:
        return ALLOW
    if facts.answers_automatic:
        return deny("loop_guard", "an automatic message would answer an automatic message", "let a person write")
    most = facts.policy.of(LoopGuardSettings)
    if facts.automatic_hour >= most.per_hour or facts.automatic_day >= most.per_day:
        reason = f"{facts.automatic_day} automatic messages to this person within a day"
        return deny("loop_guard", reason, "let a person write")
    if facts.ping_pong >= most.ping_pong:
        reason = f"{facts.ping_pong} automatic messages in a row were answered within seconds, as by another machine"
        return deny("loop_guard", reason, "let a person write")
    return ALLOW


@rule("defer", source="the platform's answers", kept="a platform that said 'wait' refuses what does not")
def paused(message: OutboundMessage, facts: Facts) -> Verdict:
    """While the platform makes an account or a recipient wait, messages wait too."""
    if facts.paused_until is None or facts.paused_until <= facts.now:
        return ALLOW
    reason = facts.pause_reason or "the account is paused"
    if facts.pause_class == "auth":  # `until` is only when the platform is asked again
        return defer("paused", reason, facts.paused_until, remedy=_RENEW)
    return defer("paused", reason, facts.paused_until)


@rule(
    "defer", source="the adapter's pace", kept="the platform refuses what comes faster; its values can be set",
    settings=PaceSettings,
)  # fmt: skip
def pace(message: OutboundMessage, facts: Facts) -> Verdict:
    """Not faster to one person than the platform takes it."""
    if facts.pair_until is None or facts.pair_until <= facts.now:
        return ALLOW
    reason = f"one message per {facts.channel.pace.pair_seconds:g} s to one person"
    return defer("pace", reason, facts.pair_until, source=facts.channel.pace.source)
