"""The data of the built-in rules that an operator may set: `[rules.NAME]`, for one channel or account too.

What is not set stays as the adapter declares it. Units stand in the names. A wrong value is a `ValueError` of the form
"key: problem", which the configuration shows at its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from adapters import Channel
from config.values import MANY, TEN_YEARS_S, TERABYTE, check_numbers
from outbox import quiet

TCPA = "47 CFR 64.1200(c)(1), as described by fedsoc.org and natlawreview.com"
STATES = "state laws of the USA, by a marketing vendor's help page (secondary, unverified)"
HOURS: Mapping[str, tuple[str, str]] = {  # region: hours, source
    "US": ("08:00-21:00", TCPA),
    "US-CT": ("09:00-20:00", STATES),
    "US-FL": ("08:00-20:00", STATES),
    "US-MD": ("08:00-20:00", STATES),
    "US-MS": ("08:00-20:00", STATES),
    "US-NJ": ("08:00-20:00", STATES),
    "US-OK": ("08:00-20:00", STATES),
    "US-RI": ("mon-fri 09:00-18:00, sat-sun 10:00-17:00", STATES),
    "US-TX": ("mon-sat 09:00-21:00, sun 12:00-21:00", STATES),
}
_OPERATOR = "the configuration"


def _given(settings: object, *names: str) -> dict[str, Any]:
    """The values that are set."""
    return {name: value for name in names if (value := getattr(settings, name)) is not None}


_COUNT, _BYTES = (1, MANY), (1, TERABYTE)  # least, most


@dataclass(frozen=True, slots=True)
class WindowSettings:
    margin_s: float = 0.0  # before its end the platform's window counts as closed

    def __post_init__(self) -> None:
        check_numbers(self, margin_s=(0, TEN_YEARS_S))

    def on(self, channel: Channel) -> Channel:
        if channel.window is None:
            return channel
        return replace(channel, window=replace(channel.window, margin=timedelta(seconds=self.margin_s)))


@dataclass(frozen=True, slots=True)
class OptOutSettings:
    """Words beside the channel's own: nobody's STOP is taken away."""

    stop: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    help: tuple[str, ...] = ()

    def on(self, channel: Channel) -> Channel:
        words = channel.keywords
        stop, start, more = (frozenset(word.strip().casefold() for word in said if word.strip())
                             for said in (self.stop, self.start, self.help))  # fmt: skip
        return replace(
            channel,
            keywords=replace(words, stop=words.stop | stop, start=words.start | start, help=words.help | more),
        )


@dataclass(frozen=True, slots=True)
class LoopGuardSettings:
    per_hour: int = 5  # automatic messages to one person; RFC 3834 asks for a limit and names none
    per_day: int = 20
    ping_pong: int = 3  # of them answered within seconds in a row: the next one is not sent

    def __post_init__(self) -> None:
        check_numbers(self, per_hour=_COUNT, per_day=_COUNT, ping_pong=_COUNT)


@dataclass(frozen=True, slots=True)
class AutomaticAnswersSettings:
    per_message: int | None = None  # automatic answers to one message of a customer

    def __post_init__(self) -> None:
        check_numbers(self, per_message=(0, MANY))

    def on(self, channel: Channel) -> Channel:
        if self.per_message is None or channel.private:
            return channel
        return replace(channel, automatic_per_message=self.per_message)


@dataclass(frozen=True, slots=True)
class RepeatedSettings:
    recipients: int | None = None  # people who may get the same words
    within_s: float | None = None

    def __post_init__(self) -> None:
        check_numbers(self, recipients=_COUNT, within_s=(1, TEN_YEARS_S))

    def on(self, channel: Channel) -> Channel:
        given = _given(self, "recipients")
        if self.within_s is not None:
            given["duration"] = timedelta(seconds=self.within_s)
        return channel if channel.repeats is None else replace(channel, repeats=replace(channel.repeats, **given))


@dataclass(frozen=True, slots=True)
class PaceSettings:
    per_second: float | None = None  # messages or segments of an account; its `rate` goes before it
    pair_seconds: float | None = None  # least time between two messages to one person
    pair_burst: int | None = None
    daily: int | None = None  # messages of an account

    def __post_init__(self) -> None:
        check_numbers(
            self, per_second=(0.001, 1_000_000), pair_seconds=(0, TEN_YEARS_S), pair_burst=(1, 1000), daily=_COUNT
        )

    def on(self, channel: Channel) -> Channel:
        given = _given(self, "per_second", "pair_seconds", "pair_burst", "daily")
        return replace(channel, pace=replace(channel.pace, **given))


@dataclass(frozen=True, slots=True)
class MediaSettings:
    max_bytes: int | None = None  # of one file, of whatever kind
    total_bytes: int | None = None  # of all files of one message

    def __post_init__(self) -> None:
        check_numbers(self, max_bytes=_BYTES, total_bytes=_BYTES)

    def on(self, channel: Channel) -> Channel:
        limits, most = channel.limits, self.max_bytes
        media = limits.media
        if most is not None:
            media = tuple(replace(rule, max_bytes=min(rule.max_bytes, most)) for rule in media)
        return replace(channel, limits=replace(limits, media=media, **_given(self, "total_bytes")))


@dataclass(frozen=True, slots=True)
class PartsSettings:
    files_per_message: int | None = None
    caption_max: int | None = None  # text beside a file; 0: none

    def __post_init__(self) -> None:
        check_numbers(self, files_per_message=_COUNT, caption_max=(0, MANY))

    def on(self, channel: Channel) -> Channel:
        return replace(channel, limits=replace(channel.limits, **_given(self, "files_per_message", "caption_max")))


@dataclass(frozen=True, slots=True)
class TextLengthSettings:
    text_max: int | None = None  # of one message, in the channel's unit
    segment_max: int | None = None  # SMS segments of one message
    split: bool | None = None  # whether a longer text goes in several messages
    counter: bool = False  # "(1/3) " before each of them

    def __post_init__(self) -> None:
        check_numbers(self, text_max=(20, MANY), segment_max=_COUNT)

    def on(self, channel: Channel) -> Channel:
        given = _given(self, "text_max", "split")
        if channel.limits.text_unit == "gsm":
            given |= _given(self, "segment_max")
        return replace(channel, limits=replace(channel.limits, **given))


@dataclass(frozen=True, slots=True)
class QuietHoursSettings:
    """When marketing may arrive. `countries` are added to the built-in table, key by key; "" takes an entry out."""

    hours: str = ""  # where no country's are known; "": any time
    default_zone: str = "UTC"  # IANA name, for a person of whom nothing is known
    zone_attribute: str = "timezone"  # a contact attribute or profile field with an IANA name
    region_attribute: str = "region"  # one with an ISO 3166 code: US, US-TX
    countries: Mapping[str, str] = field(default_factory=dict)  # by region: "08:00-21:00"

    def __post_init__(self) -> None:
        if not isinstance(self.countries, Mapping):
            raise ValueError('countries: must be a table: { US = "08:00-21:00" }')
        for region in self.countries:
            if not quiet.region(region):
                raise ValueError(f"countries.{region}: not an ISO 3166 code of a country or state, such as US or US-TX")
        countries = {f"countries.{region}": text for region, text in self.countries.items()}
        for name, text in ({"hours": self.hours} | countries).items():
            if not isinstance(text, str):
                raise ValueError(f"{name}: must be a text")
            try:
                quiet.week(text) if text else None
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        if quiet.zone(self.default_zone) is None:
            raise ValueError(f"default_zone: no time zone is named {self.default_zone!r}")

    def of(self, where: quiet.Whereabouts) -> list[tuple[str, str]]:
        """The (hours, source) a moment must satisfy, all of them. A state that is not known may be any of a country."""
        own = {region.upper(): (text, _OPERATOR) for region, text in self.countries.items()}
        table = {region: entry for region, entry in (dict(HOURS) | own).items() if entry[0]}
        country, _, state = where.region.partition("-")
        if where.phone and country in table:
            states = [entry for region, entry in table.items() if region.startswith(f"{country}-")]
            if not state and states:
                return [table[country], *states]
            return [table.get(where.region, table[country])]
        return [(self.hours, _OPERATOR)] if self.hours else []
