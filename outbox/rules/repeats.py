"""The same words again: to many people, or to one person twice."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from normalizers.model import OutboundMessage
from outbox.facts import Facts
from outbox.rules.declare import rule as declared
from outbox.rules.settings import RepeatedSettings
from outbox.verdict import ALLOW, Verdict, deny

_LINK = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)


def essence(text: str) -> str:
    """What makes two texts "the same words": no case, no blanks, no links, one form of each letter."""
    return " ".join(_LINK.sub(" ", unicodedata.normalize("NFKC", text)).casefold().split())


def words_key(channel: str, text: str) -> str:
    """A hash of the words as they count on a channel, 32 hex digits; "" for none."""
    if not (words := essence(text)):
        return ""
    return hashlib.blake2b(f"{channel}\0{words}".encode("utf-8", "replace"), digest_size=16).hexdigest()


@declared(
    "deny", source="the adapter's rule of repeats", kept="the platform takes it for spam; its values can be set",
    settings=RepeatedSettings,
)  # fmt: skip
def repeated(message: OutboundMessage, facts: Facts) -> Verdict:
    """The same words go to so many people and then to no more, where the platform takes that for spam."""
    rule = facts.channel.repeats
    if rule is None or facts.repeated_to < rule.recipients:
        return ALLOW
    hours = f"{rule.duration.total_seconds() / 3600:g}"
    reason = f"the same words went to {facts.repeated_to} people within {hours} hours"
    return deny("repeated", reason, "say it in other words", source=rule.source)


@declared("deny", source="the adapter; otherwise ours, for automatic messages and marketing")
def duplicate(message: OutboundMessage, facts: Facts) -> Verdict:
    """Nobody is told the same twice where the platform refuses it, or where no person means to.

    An agent who repeats a private answer may; so may an API client that replies. Only automatic messages and
    advertising are stopped there.
    """
    if not facts.said_again:
        return ALLOW
    if facts.channel.duplicates:
        reason = f"{facts.channel.title} refuses the same words again in answer to the same message"
        return deny("duplicate", reason, "say it in other words", source=facts.channel.duplicates)
    if facts.automatic or message.purpose == "marketing":
        return deny("duplicate", "the same words went to this person just before", "let a person write")
    return ALLOW
