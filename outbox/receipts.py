"""How far a message came, purely: what a receipt may move, and what a message's parts make of it.

    queued -> sending -> sent -> delivered -> read        held, unknown, failed, cancelled beside it

Receipts move forward only. Two exceptions are facts of platforms: a failure may follow "sent", and some platforms
report a delivery after they reported a failure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

State = Literal["queued", "held", "sending", "sent", "delivered", "read", "failed", "unknown", "cancelled"]
Receipt = Literal["queued", "sent", "delivered", "read", "failed"]

_PROOF: dict[Receipt, State] = {"sent": "sent", "delivered": "delivered", "read": "read", "failed": "failed"}
_ARRIVED: dict[Receipt, State] = {"delivered": "delivered", "read": "read"}

TRANSITIONS: dict[State, dict[Receipt, State]] = {
    "sending": _PROOF,
    "unknown": _PROOF,
    # waiting for a repeat whose forerunner had no answer: the receipt is that answer
    "queued": _PROOF,
    "held": _PROOF,
    "cancelled": {"sent": "sent", **_ARRIVED},
    "sent": {"failed": "failed", **_ARRIVED},
    "delivered": {"read": "read"},
    "read": {},
    "failed": {},
}
_NEVER_TRIED: frozenset[State] = frozenset({"queued", "held", "cancelled"})


def advance(
    state: State, receipt: Receipt, *, tried: bool, delivered_after_failed: bool, taken_back: bool = False
) -> State | None:
    """The state after a receipt, or None where it changes nothing. `tried`: the message left us at least once.
    `taken_back`: it was refused, and another one goes in its place."""
    if state in _NEVER_TRIED and not tried:
        return None
    if state == "cancelled" and taken_back:
        return _ARRIVED.get(receipt)  # "sent" is late word of what was refused since
    if state == "failed" and delivered_after_failed:
        return _ARRIVED.get(receipt)
    return TRANSITIONS[state].get(receipt)


_URGENT: tuple[State, ...] = ("failed", "unknown", "sending", "held", "queued")
_FORWARD: tuple[State, ...] = ("sent", "delivered", "read")


def combined(states: Iterable[State]) -> State:
    """The state of a message by those of its parts: what needs a person first, then what still waits, then the
    part that came least far. Of which some were cancelled is `sent` at most: it never arrived as it was written."""
    found = set(states)
    for state in _URGENT:
        if state in found:
            return state
    came = [state for state in _FORWARD if state in found]
    if not came:
        return "cancelled"
    return "sent" if "cancelled" in found else came[0]
