"""What a contact takes over when another is merged into it, and what goes back when that is undone. Pure.

The rule: where both have something, the winner's stays and the loser's is kept in the journal; what only the loser has,
the winner takes. Tags and values (phones, mail addresses) are joined, a VIP makes a VIP. Undone, the loser has again
what it had; the winner loses what it took, unless somebody has changed it since or another merge brings the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from gateway.identity import SEVERAL

TEXTS = ("name", "language", "organization")


class HandSet(msgspec.Struct, frozen=True, array_like=True):
    """A value set by a person or the API: no identity brought it."""

    attribute: str
    value: str
    evidence: str
    at: int


class Portrait(msgspec.Struct):
    """What belongs to a contact itself, not to one of its identities; or a part of it."""

    name: str = ""
    language: str = ""
    organization: str = ""
    vip: bool = False
    tags: list[str] = []
    attributes: dict[str, Any] = {}
    values: list[HandSet] = []
    origins: dict[str, Any] = {}  # by attribute: who set it, and when

    def __bool__(self) -> bool:
        return self != Portrait()


def carry(winner: Portrait, loser: Portrait) -> tuple[Portrait, Portrait]:
    """The winner after the merge, and what it took over."""
    gained = Portrait(
        **{name: getattr(loser, name) for name in TEXTS if not getattr(winner, name)},
        vip=loser.vip and not winner.vip,
        tags=[tag for tag in loser.tags if tag not in winner.tags],
        attributes={name: value for name, value in loser.attributes.items() if name not in winner.attributes},
        origins={name: origin for name, origin in loser.origins.items() if name not in winner.origins},
    )
    had = {(value.attribute, value.value) for value in winner.values}
    gained.values = [
        value for value in loser.values
        if (value.attribute, value.value) not in had
        and (value.attribute in SEVERAL or value.attribute in gained.attributes)
    ]  # fmt: skip
    return added(winner, gained), gained


def added(to: Portrait, more: Portrait) -> Portrait:
    """A portrait with what it lacks."""
    return Portrait(
        **{name: getattr(to, name) or getattr(more, name) for name in TEXTS},
        vip=to.vip or more.vip,
        tags=[*to.tags, *(tag for tag in more.tags if tag not in to.tags)],
        attributes=more.attributes | to.attributes,
        values=[*to.values, *(value for value in more.values if value not in to.values)],
        origins=more.origins | to.origins,
    )


def give_back(
    holder: Portrait, gained: Portrait, others: Sequence[Portrait]
) -> tuple[Portrait, Portrait, list[Portrait]]:
    """The holder without what it had gained, what it lost by that, and what it now has by each of `others` instead:
    the contacts merged into it that are still part of it, as they were."""
    lost, instead = Portrait(), [Portrait() for _ in others]
    left = msgspec.structs.replace(holder)
    for name in TEXTS:
        value = getattr(gained, name)
        if value and value == getattr(holder, name):
            setattr(lost, name, value)
            setattr(left, name, _heir(others, instead, name))
    if gained.vip and holder.vip:
        lost.vip = True
        left.vip = bool(_heir(others, instead, "vip"))
    lost.tags = [tag for tag in gained.tags if tag in holder.tags]
    left.tags = [tag for tag in holder.tags if tag not in lost.tags]
    for tag in lost.tags:
        place = next((index for index, other in enumerate(others) if tag in other.tags), None)
        if place is not None:
            instead[place].tags = [*instead[place].tags, tag]
            left.tags = [*left.tags, tag]
    _give_back_attributes(holder, gained, others, left, lost, instead)
    _give_back_values(holder, gained, others, left, lost, instead)
    return left, lost, instead


def _heir(others: Sequence[Portrait], instead: Sequence[Portrait], name: str) -> Any:
    for other, now in zip(others, instead, strict=True):
        if value := getattr(other, name):
            setattr(now, name, value)
            return value
    return ""


def _give_back_attributes(
    holder: Portrait, gained: Portrait, others: Sequence[Portrait], left: Portrait, lost: Portrait,
    instead: Sequence[Portrait],
) -> None:  # fmt: skip
    for part in ("attributes", "origins"):
        held, came = getattr(holder, part), getattr(gained, part)
        gone = {name: value for name, value in came.items() if name in held and held[name] == value}
        rest = {name: value for name, value in held.items() if name not in gone}
        for name in gone:
            for other, now in zip(others, instead, strict=True):
                if name in getattr(other, part):
                    rest[name] = getattr(other, part)[name]
                    setattr(now, part, getattr(now, part) | {name: rest[name]})
                    break
        setattr(lost, part, gone)
        setattr(left, part, rest)


def _give_back_values(
    holder: Portrait, gained: Portrait, others: Sequence[Portrait], left: Portrait, lost: Portrait,
    instead: Sequence[Portrait],
) -> None:  # fmt: skip
    """Values of custom attributes follow the attributes; phones and mail addresses stand for themselves."""
    going = _names(value for value in gained.values if value.attribute in SEVERAL or value.attribute in lost.attributes)
    lost.values = [value for value in holder.values if (value.attribute, value.value) in going]
    left.values = [value for value in holder.values if value not in lost.values]
    for other, now in zip(others, instead, strict=True):
        wanted = [
            value for value in other.values
            if (value.attribute in SEVERAL and (value.attribute, value.value) in going)
            or (value.attribute in lost.attributes and value.attribute in now.attributes)
        ]  # fmt: skip
        fresh = [value for value in wanted if (value.attribute, value.value) not in _names(left.values)]
        now.values = fresh
        left.values = [*left.values, *fresh]


def _names(values: Iterable[HandSet]) -> set[tuple[str, str]]:
    return {(value.attribute, value.value) for value in values}


def common(gained: Portrait, lost: Portrait) -> Portrait:
    """What of `gained` was lost where it came from."""
    return Portrait(
        **{name: getattr(gained, name) if getattr(gained, name) == getattr(lost, name) else "" for name in TEXTS},
        vip=gained.vip and lost.vip,
        tags=[tag for tag in gained.tags if tag in lost.tags],
        attributes={k: v for k, v in gained.attributes.items() if k in lost.attributes and lost.attributes[k] == v},
        values=[value for value in gained.values if (value.attribute, value.value) in _names(lost.values)],
        origins={name: found for name, found in gained.origins.items() if lost.origins.get(name) == found},
    )


def without(gained: Portrait, gone: Portrait) -> Portrait:
    """What is left of `gained` once `gone`, a part of it, is taken away."""
    return Portrait(
        **{name: "" if getattr(gone, name) else getattr(gained, name) for name in TEXTS},
        vip=gained.vip and not gone.vip,
        tags=[tag for tag in gained.tags if tag not in gone.tags],
        attributes={k: v for k, v in gained.attributes.items() if k not in gone.attributes},
        values=[value for value in gained.values if value not in gone.values],
        origins={name: found for name, found in gained.origins.items() if name not in gone.origins},
    )
