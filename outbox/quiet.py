"""Quiet hours: where a person is, when marketing may arrive there, and the next moment at which it may.

Hours are wall-clock times of the recipient's own zone. A number may belong to several zones, or to a country whose
states have hours of their own: then a moment must be allowed in all of them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import msgspec
import phonenumbers
from phonenumbers import timezone

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = 24 * 60  # minutes
_AHEAD_DAYS = 15  # every weekday twice: the first may fall into the gap of DST
_ENTRY = re.compile(
    r"(?:(?P<first>mon|tue|wed|thu|fri|sat|sun)(?:-(?P<last>mon|tue|wed|thu|fri|sat|sun))?\s+)?"
    r"(?P<from_h>\d\d):(?P<from_m>\d\d)-(?P<to_h>\d\d):(?P<to_m>\d\d)"
)
_SECOND = timedelta(seconds=1)
# States of the USA whose hours differ, as the names libphonenumber gives to area codes.
_STATES = {
    "Connecticut": "CT", "Florida": "FL", "Maryland": "MD", "Mississippi": "MS", "New Jersey": "NJ", "Oklahoma": "OK",
    "Rhode Island": "RI", "Texas": "TX",
}  # fmt: skip

_REGION = re.compile(r"(?P<country>[A-Z]{2})(?:-(?P<part>[A-Z0-9]{1,3}))?")
_PARTS = {  # by ISO 3166-2, where the built-in hours differ between them: a code that is none must not pass for one
    "US": frozenset({
        "AK", "AL", "AR", "AS", "AZ", "CA", "CO", "CT", "DC", "DE", "FL", "GA", "GU", "HI", "IA", "ID", "IL", "IN",
        "KS", "KY", "LA", "MA", "MD", "ME", "MI", "MN", "MO", "MP", "MS", "MT", "NC", "ND", "NE", "NH", "NJ", "NM",
        "NV", "NY", "OH", "OK", "OR", "PA", "PR", "RI", "SC", "SD", "TN", "TX", "UM", "UT", "VA", "VI", "VT", "WA",
        "WI", "WV", "WY",
    })
}  # fmt: skip

Week = tuple[tuple[tuple[int, int], ...], ...]
"""By weekday from Monday: spans in minutes of the day, the end not included."""


class Whereabouts(msgspec.Struct, frozen=True):
    """Where a recipient is. `zones`: IANA names, all that are possible. `region`: ISO 3166-1 or 3166-2, "" unknown.

    `phone`: the message goes to a phone number, which is what telemarketing laws are about.
    """

    zones: tuple[str, ...] = ()
    region: str = ""
    phone: bool = False


NOWHERE_KNOWN = Whereabouts()


# --- where ------------------------------------------------------------------------------------------------------------


@functools.lru_cache(4096)
def of_number(number: str) -> Whereabouts:
    """What a number in E.164 tells: its zones and its region, by prefix. Anything else tells nothing."""
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return NOWHERE_KNOWN
    zones = tuple(name for name in timezone.time_zones_for_number(parsed) if zone(name) is not None)
    region = phonenumbers.region_code_for_number(parsed) or ""
    if region == "US" and (place := _place(parsed)):
        state = place.rpartition(", ")[2]
        region = f"US-{_STATES.get(state, state)}"
    return Whereabouts(zones, region, phone=True)


def _place(number: phonenumbers.PhoneNumber) -> str:
    """The name libphonenumber gives to an area. Its tables are read when first asked for: that takes longer than all
    else a command needs."""
    from phonenumbers import geocoder

    return str(geocoder.description_for_number(number, "en"))


@functools.lru_cache(1024)
def zone(name: str) -> ZoneInfo | None:
    """The zone of an IANA name, None for what is none."""
    try:
        return ZoneInfo(name) if name and name != "Etc/Unknown" else None
    except (OSError, ValueError):  # ZoneInfoNotFoundError is a KeyError
        return None
    except KeyError:
        return None


@functools.lru_cache(1024)
def region(text: str) -> str:
    """The ISO 3166 code of a country that has phone numbers, or of a part of one, as it is written: US, us-tx; "" for
    what is none."""
    code = text.strip().upper()
    found = _REGION.fullmatch(code)
    if found is None or found["country"] not in phonenumbers.SUPPORTED_REGIONS:
        return ""
    parts = _PARTS.get(found["country"])
    return "" if found["part"] and parts is not None and found["part"] not in parts else code


# --- when -------------------------------------------------------------------------------------------------------------


@functools.lru_cache(256)
def week(text: str) -> Week:
    """Hours as an operator writes them: "08:00-21:00", or by weekday "mon-sat 09:00-21:00, sun 12:00-21:00".

    A day that is not named has no hours; a span may pass midnight. Raises `ValueError`.
    """
    days: list[list[tuple[int, int]]] = [[] for _ in _DAYS]
    for entry in text.split(","):
        found = _ENTRY.fullmatch(entry.strip().lower())
        if found is None:
            raise ValueError(f"{entry.strip()!r} is not like 08:00-21:00 or mon-fri 09:00-18:00")
        begin, end = _minutes(found["from_h"], found["from_m"]), _minutes(found["to_h"], found["to_m"])
        if begin in (end, _DAY):
            raise ValueError(f"{entry.strip()!r} is empty")
        for day in _named(found["first"], found["last"]):
            if begin < end:
                days[day].append((begin, end))
            else:  # past midnight: the rest belongs to the day after
                days[day].append((begin, _DAY))
                if end:
                    days[(day + 1) % 7].append((0, end))
    return tuple(tuple(sorted(spans)) for spans in days)


def _minutes(hours: str, minutes: str) -> int:
    found = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or found > _DAY:
        raise ValueError(f"{hours}:{minutes} is no time of day")
    return found


def _named(first: str | None, last: str | None) -> Iterable[int]:
    if first is None:
        return range(7)
    begin = _DAYS.index(first)
    length = (_DAYS.index(last) - begin) % 7 + 1 if last else 1
    return [(begin + step) % 7 for step in range(length)]


def allowed(at: datetime, place: tzinfo, hours: Week) -> bool:
    """Whether the clock on the wall there is within the hours."""
    local = at.astimezone(place)
    minute = local.hour * 60 + local.minute
    return any(begin <= minute < end for begin, end in hours[local.weekday()])


def next_allowed(now: datetime, places: Sequence[tzinfo], weeks: Sequence[Week]) -> datetime | None:
    """The first moment from `now` on that is allowed in every place by all hours; None: not within two weeks."""
    at, last = now, now + timedelta(days=_AHEAD_DAYS)
    while at <= last:
        later = at
        for place in places:
            for hours in weeks:
                found = _next(later, place, hours)
                if found is None:
                    return None
                later = found
        if later == at:
            return at
        at = later
    return None


def _next(at: datetime, place: tzinfo, hours: Week) -> datetime | None:
    if allowed(at, place, hours):
        return at
    today = at.astimezone(place).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    for ahead in range(_AHEAD_DAYS):
        day = today + timedelta(days=ahead)
        walls = (day + timedelta(minutes=begin) for begin, _ in hours[day.weekday()])
        for begin in sorted(begin for wall in walls for begin in _moments(wall, place) if begin > at):
            if allowed(begin, place, hours):
                return begin
    return None


def _moments(wall: datetime, place: tzinfo) -> tuple[datetime, ...]:
    """The moments at which the clock on the wall comes to `wall`: two when it is set back; the end of the gap when
    that time is left out."""
    first = wall.replace(tzinfo=place, fold=0).astimezone(UTC)
    second = wall.replace(tzinfo=place, fold=1).astimezone(UTC)
    if first <= second:
        return (first,) if first == second else (first, second)
    before, after = second, first  # the offsets on both sides of a gap, each used on the wrong side of it
    offset = after.astimezone(place).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) / 2
        if middle.astimezone(place).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return (after.replace(microsecond=0),)
