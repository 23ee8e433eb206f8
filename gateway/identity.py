"""Who is who: values made comparable, and which contact an identity belongs to. Pure.

Evidence rules: a value the platform attests or an authenticated party set may link histories; a claim never does. Two
contacts that match but contradict each other in what must be unique stay apart.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence

import phonenumbers

from normalizers.model import Address

LINKING = frozenset({"attested", "authenticated"})


@functools.lru_cache(maxsize=65_536)
def phone(value: str, region: str = "") -> str:
    """The number in E.164 ("+4915501234567"), or "" when it is none. `region` reads numbers without +."""
    try:
        number = phonenumbers.parse(value, region or None)
    except phonenumbers.NumberParseException:
        return ""
    if not phonenumbers.is_possible_number(number):
        return ""
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


# RFC 5321, 4.1.2, with RFC 6531 for what is not ASCII. Dots may stand anywhere in a local part: a Japanese carrier gave
# out addresses with two in a row and with one at the end, and they are in use.
_LOCAL = re.compile(r'[^\s<>,;:"()\[\]\\@\x00-\x1f\x7f]+|"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])+"')
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*|\[(?:ipv6:)?[0-9a-f.:]{{2,60}}\]")


def email(value: str) -> str:
    """The mail address with its domain in lower case ASCII and its local part folded, or "" when it is none.

    Local parts are compared without case, as every provider of note does; nothing else is folded.
    """
    local, _, domain = value.strip().rpartition("@")
    if len(value) > 320 or not _LOCAL.fullmatch(local):
        return ""
    try:
        domain = domain.encode("idna").decode() if not domain.isascii() else domain
    except UnicodeError:
        return ""
    domain = domain.lower().removesuffix(".")
    return f"{local.casefold()}@{domain}" if _DOMAIN.fullmatch(domain) else ""


VALUE_MAX = 512  # characters; a longer text identifies nobody and is not compared
SEVERAL = frozenset({"email", "phone"})  # a person may have several of these; everything else attested is unique
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")

Key = tuple[str, str, str, str]
"""(channel, account, kind, value) of an attested platform id, or ("", "", attribute, value) of a unique attribute."""


def normalise(attribute: str, value: str, region: str = "") -> str:
    """A value of an attribute made comparable; "" when it is not of that kind.

    Phone numbers become E.164 (one of a range nobody knows yet stays as it is), mail addresses are folded, all else is
    trimmed and folded: " AB-12 " and "ab-12" are one customer number.
    """
    if attribute == "phone":
        return phone(value, region) or (value.strip() if _E164.fullmatch(value.strip()) else "")
    if attribute == "email":
        return email(value)
    folded = " ".join(value.split()).casefold()
    return folded if len(folded) <= VALUE_MAX else ""


def unique_keys(addresses: Iterable[Address], channel: str, account: str) -> set[Key]:
    """What of these addresses only one person can have: ids the platform attests, but phones and mail addresses."""
    return {
        (address.channel or channel, account, address.kind, address.value)
        for address in addresses
        if address.kind not in SEVERAL and address.evidence == "attested"
    }


def contradiction(ours: Iterable[Key], theirs: Iterable[Key]) -> str:
    """Why two sets of keys cannot be one person's, in words; "" when they can.

    Keys are unique within channel, account and kind: where both sides have some, one must be common to both.
    """
    known: dict[tuple[str, str, str], set[str]] = {}
    for channel, account, kind, value in ours:
        known.setdefault((channel, account, kind), set()).add(value)
    other: dict[tuple[str, str, str], set[str]] = {}
    for channel, account, kind, value in theirs:
        other.setdefault((channel, account, kind), set()).add(value)
    for place in sorted(known.keys() & other.keys()):
        if not known[place] & other[place]:
            channel, account, kind = place
            return f"two values of {kind}" + (f" of {channel} on {account}" if channel else "")
    return ""


def overtaken(heard: Mapping[str, int], change: str, scope: str, at: int) -> bool:
    """Whether a later word on the same matter was heard already: platforms deliver late and in any order.

    `heard`: matter to the moment of the last word on it; a word on everything covers the narrower scopes.
    """
    matter = matter_of(change, scope)
    return at < max(heard.get(matter, at), heard.get("all", at) if matter != "reach" else at)


def matter_of(change: str, scope: str) -> str:
    """What a change of consent is about: whether the person can be reached at all ("reach"), or a scope."""
    return "reach" if change in ("blocked", "unblocked") else scope


def consent(state: str, optouts: Sequence[str], change: str, scope: str) -> tuple[str, list[str]]:
    """An identity's (state, further opt-outs) after a change: opted_in, opted_out, blocked or unblocked.

    The state opted_out only ever means the scope "all"; narrower scopes stand in the opt-outs.
    """
    if change == "blocked":
        return "blocked", list(optouts)
    if change == "unblocked":
        return ("active" if state == "blocked" else state), list(optouts)
    if scope == "all":
        return ("opted_out", list(optouts)) if change == "opted_out" else ("active", [])
    if change == "opted_out":
        return state, sorted({*optouts, scope})
    return state, [entry for entry in optouts if entry != scope]
