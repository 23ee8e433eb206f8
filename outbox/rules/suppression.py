"""Addresses that bounced, complained, or were put on the list by hand are left alone, as far as their entry goes."""

from __future__ import annotations

from msgspec.structs import replace

from normalizers.model import OutboundMessage
from outbox.facts import Facts, Suppressed, folded
from outbox.rules.declare import rule
from outbox.rules.permission import is_marketing
from outbox.verdict import ALLOW, Change, Verdict, change, deny

RULE = "suppression"
_WHY = {"bounce": "mail to it came back", "complaint": "its owner complained", "manual": "it was put on the list"}


@rule(
    "deny", "change", source="bounces and complaints the platform reports; the operator's own entries",
    kept="who is on the list is left alone: take the entry off it, or an agent passes over it for one message",
    elsewhere=True,
)  # fmt: skip
def suppression(message: OutboundMessage, facts: Facts) -> Verdict | Change:
    """Nothing goes to an address on the list. A copy to one is left out; a person may decide to write all the same."""
    if not facts.suppressed:
        return ALLOW
    against = {entry.address: entry for entry in facts.suppressed if _concerns(entry, message, facts)}
    if not against or (RULE in message.overrides and not facts.automatic and not is_marketing(message, facts)):
        return ALLOW
    first = against.get(folded(message.to[0].value)) if message.to else None
    if first is not None:
        return deny(RULE, _reason(first), _remedy(message, facts), until=first.until)
    mail = message.mail
    left_out = [copy for copy in mail.cc if folded(copy) in against] if mail is not None else []
    if mail is None or not left_out:
        return ALLOW
    kept = tuple(copy for copy in mail.cc if copy not in left_out)
    words = f"without a copy to {', '.join(left_out)}: on the suppression list"
    return change(RULE, words, replace(message, mail=replace(mail, cc=kept)))


def _concerns(entry: Suppressed, message: OutboundMessage, facts: Facts) -> bool:
    match entry.scope:
        case "all":
            return True
        case "automatic":
            return facts.automatic
        case _:
            return is_marketing(message, facts)


def _reason(entry: Suppressed) -> str:
    more = f" ({entry.detail})" if entry.detail else ""
    return f"{entry.address} is on the suppression list: {_WHY.get(entry.reason, entry.reason)}{more}"


def _remedy(message: OutboundMessage, facts: Facts) -> str:
    lift = "take it off the list"
    if facts.automatic or is_marketing(message, facts):
        return f"{lift}, or let a person write"
    return f'{lift}, or send it all the same with "override": ["suppression"]'
