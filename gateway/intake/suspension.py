"""Why a message is put aside instead of filed: judged before anything is made of it, so that junk leaves no contacts.

Pure. What is put aside is kept with its causes, listed, and released or dropped by a person; released, it is filed as
if it had just come in, and only the causes it was held for are passed over. The causes follow what help desks are known
to suspend for (Zendesk, "Causes for ticket suspension", read 2026-11; numbers in brackets).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from normalizers.model import InboundMessage

CAUSES: dict[str, str] = {  # strongest first
    "blocklisted": "the sender is on the blocklist [13]",
    "loop": "it seems to come from ourselves [4]",
    "spam": "the mail server in front says it is spam [0]",
    "no_sender": "nobody can be found who wrote it [10]",
    "report": "a report of a machine on a message that is not ours [14]",
    "system_sender": "a mail system wrote it, not a person [9]",
    "absence": "an absence note that answers nothing of ours [8]",
    "automatic": "a machine wrote it [3]",
    "bulk": "sent to many: a list or a newsletter",
    "unauthenticated": "the sender's domain does not vouch for it",
    "unknown_sender": "somebody unknown writes on another person's ticket [5]",
    "incomplete": "it could not be taken whole",
    "flood": "its sender has begun more tickets within the hour than the account allows",
    "blank": "it says nothing [11]",
    "not_allowed": "only senders on the allowlist may write here [1]",
}
_WAIVED_BY_ALLOWLIST = {"spam", "system_sender", "automatic", "bulk", "flood", "blank", "not_allowed"}
_SAID_BY_SETTINGS = {"blocklisted", "not_allowed", "flood"}
_AT_ANY_PLACE = {"blocklisted", "loop", "spam", "no_sender", "incomplete", "unauthenticated", "unknown_sender"}


@dataclass(frozen=True, slots=True)
class Screen:
    """An account's rules. `suspends`: the causes that count; the lists hold patterns of senders."""

    suspends: frozenset[str] = frozenset()
    blocklist: frozenset[str] = frozenset()
    allowlist: frozenset[str] = frozenset()
    allowlist_only: bool = False
    tickets_per_hour: int = 0  # that one sender may begin; 0: any number

    @property
    def is_open(self) -> bool:
        """Whether it lets everything through."""
        return not (self.suspends or self.blocklist or self.allowlist_only or self.tickets_per_hour)


OPEN = Screen()


def problem_of(pattern: str) -> str:
    """What is wrong with a pattern of a list: an address, `@example.com`, or `@*.example.com`; "" when nothing is."""
    if not pattern or any(char.isspace() for char in pattern):
        return f"{pattern!r} is not an address"
    if "*" in pattern and not (pattern.startswith("@*.") and "*" not in pattern[2:] and len(pattern) > 3):
        return f"{pattern!r}: a wildcard only stands for subdomains: @*.example.com"
    return ""


def listed(address: str, patterns: frozenset[str]) -> bool:
    """Whether an address is named by one of the patterns: itself, its domain, or a domain above it."""
    return not patterns.isdisjoint(_forms(address.casefold()))


def _forms(address: str) -> Iterator[str]:
    yield address
    _, at, domain = address.rpartition("@")
    if at:
        yield f"@{domain}"
        labels = domain.split(".")
        for start in range(1, min(len(labels), 20)):
            yield f"@*.{'.'.join(labels[start:])}"


def causes(
    event: InboundMessage, screen: Screen, *, threaded: bool, admitted: bool, begun: int = 0, waived: Iterable[str] = ()
) -> tuple[str, ...]:
    """Why the message is put aside, the strongest cause first; empty when it is filed.

    `threaded`: it belongs to a conversation there is. `admitted`: its sender may write there. `begun`: tickets the
    sender has begun within the hour. `waived`: causes for which a person has let it pass before.
    """
    found = set(_found(event, screen, admitted=admitted))
    if screen.tickets_per_hour and begun >= screen.tickets_per_hour:
        found.add("flood")
    if threaded:
        found &= _AT_ANY_PLACE
    addresses = [address.value for address in event.sender.addresses]
    if screen.allowlist and any(listed(address, screen.allowlist) for address in addresses):
        found -= _WAIVED_BY_ALLOWLIST
    found &= screen.suspends | _SAID_BY_SETTINGS
    found -= set(waived)
    return tuple(cause for cause in CAUSES if cause in found)


def _found(event: InboundMessage, screen: Screen, *, admitted: bool) -> Iterator[str]:
    if screen.blocklist and any(listed(address.value, screen.blocklist) for address in event.sender.addresses):
        yield "blocklisted"
    if screen.allowlist_only:
        yield "not_allowed"
    for flag, cause in _FLAGS.items():
        if flag in event.flags:
            yield cause
    yield from filter(None, (_AUTOMATIC.get(event.automatic),))
    if not admitted:
        yield "unknown_sender"
    if not (event.text or event.subject or event.html or event.attachments or event.content):
        yield "blank"


_FLAGS = {
    "spam": "spam",
    "no_sender": "no_sender",
    "report": "report",
    "null_sender": "report",
    "system_sender": "system_sender",
    "unaligned": "unauthenticated",
    "incomplete": "incomplete",
}
_AUTOMATIC = {"own_loop": "loop", "ooo": "absence", "generated": "automatic", "bulk": "bulk"}
