"""Who is who: values made comparable, and which contact an identity belongs to. Pure.

Evidence rules: a value the platform attests or an authenticated party set may link histories; a claim never does. Two
contacts that match but contradict each other in what must be unique stay apart.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

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


def email(value: str) -> str:
    """The mail address with its domain in lower case ASCII and its local part folded, or "" when it is none.

    Local parts are compared without case, as every provider of note does; nothing else is folded.
    """
    local, at, domain = value.strip().rpartition("@")
    if not at or not local or not domain or any(c.isspace() for c in value.strip()) or len(value) > 320:
        return ""
    try:
        domain = domain.encode("idna").decode() if not domain.isascii() else domain
    except UnicodeError:
        return ""
    return f"{local.casefold()}@{domain.lower().rstrip('.')}"


_KINDS = {"phone": phone, "email": email}


def normalise(attribute: str, value: str, region: str = "") -> str:
    """A value of an attribute made comparable; "" when it is not of that kind."""
    if attribute == "phone":
        return phone(value, region) or (value.strip() if value.strip().isalnum() else "")
    if attribute == "email":
        return email(value)
    return value.strip()


def contradicts(ours: Iterable[tuple[str, str, str, str]], theirs: Sequence[Address], account: str) -> bool:
    """Whether an identity's platform ids rule out that it belongs to a contact.

    `ours` are the contact's address keys. Ids are unique within an account: where both sides have some of one kind on
    the same channel and account, one must be common to both. Phone numbers and mail addresses may be several.
    """
    unique: dict[tuple[str, str, str], set[str]] = {}
    for address in theirs:
        if address.kind not in _KINDS and address.evidence == "attested":
            unique.setdefault((address.channel, account, address.kind), set()).add(address.value)
    known: dict[tuple[str, str, str], set[str]] = {}
    for channel, acc, kind, value in ours:
        known.setdefault((channel, acc, kind), set()).add(value)
    return any(key in known and not values & known[key] for key, values in unique.items())


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
