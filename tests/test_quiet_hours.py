"""Quiet hours at their edges: minutes, midnight, the days of DST, several zones, states that are not known."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import insert, update

from gateway import replies
from gateway.ids import micros
from gateway.replies import MessageRequest, Submitted
from gateway.store import queue_views, schema, whereabouts
from gateway.store.waiting import Wait
from gateway.tickets import Actor
from gateway.web.health import Health
from outbox import quiet
from outbox.facts import Facts, TemplateFacts
from outbox.policy import Policy
from outbox.quiet import Whereabouts
from outbox.rules.hours import quiet_hours
from outbox.rules.settings import HOURS, QuietHoursSettings
from tests.pigeon import World, world
from tests.test_delivery import why
from tests.test_rules import FACTS, NOTE

AGENT = Actor("agent", "u1", "Bo")
DAY = quiet.week("08:00-21:00")
NEW_YORK, BERLIN = "America/New_York", "Europe/Berlin"


def at(text: str, zone: str = "UTC", fold: int = 0) -> datetime:
    """A wall-clock time of a zone, in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)


# --- hours ------------------------------------------------------------------------------------------------------------

EVERY_DAY = ((480, 1260),)
HOURS_READ: dict[str, tuple[str, quiet.Week]] = {
    "every day": ("08:00-21:00", (EVERY_DAY,) * 7),
    "to the end of the day": ("08:00-24:00", (((480, 1440),),) * 7),
    "by weekday": ("mon-sat 08:00-21:00, sun 12:00-18:00", (EVERY_DAY,) * 6 + (((720, 1080),),)),
    "a day without": ("mon-fri 08:00-21:00", (EVERY_DAY,) * 5 + ((), ())),
    "a week that wraps": ("sat-mon 08:00-21:00", (EVERY_DAY, (), (), (), (), EVERY_DAY, EVERY_DAY)),
    "past midnight": ("fri 20:00-02:00", ((), (), (), (), ((1200, 1440),), ((0, 120),), ())),
    "to midnight": ("fri 20:00-00:00", ((), (), (), (), ((1200, 1440),), (), ())),
}


@pytest.mark.parametrize(("text", "week"), HOURS_READ.values(), ids=HOURS_READ)
def test_hours_as_operators_write_them(text: str, week: quiet.Week) -> None:
    assert quiet.week(text) == week


@pytest.mark.parametrize("text", ["", "8-21", "08:00", "08:00-08:00", "25:00-26:00", "08:60-09:00", "mo 08:00-09:00"])
def test_hours_nobody_can_read(text: str) -> None:
    with pytest.raises(ValueError, match="is"):
        quiet.week(text)


def test_the_built_in_hours_can_be_read_and_have_a_source() -> None:
    assert all(quiet.week(text) and source for text, source in HOURS.values())


# --- moments ----------------------------------------------------------------------------------------------------------

MOMENTS: dict[str, tuple[datetime, list[str], str, datetime | None]] = {  # now, zones, hours -> next allowed
    "a second before they begin": (
        at("2026-03-02T07:59:59", NEW_YORK), [NEW_YORK], "08:00-21:00", at("2026-03-02T08:00", NEW_YORK),
    ),
    "as they begin": (at("2026-03-02T08:00", NEW_YORK), [NEW_YORK], "08:00-21:00", at("2026-03-02T08:00", NEW_YORK)),
    "their last moment": (
        at("2026-03-02T20:59:59", NEW_YORK), [NEW_YORK], "08:00-21:00", at("2026-03-02T20:59:59", NEW_YORK),
    ),
    "as they end": (at("2026-03-02T21:00", NEW_YORK), [NEW_YORK], "08:00-21:00", at("2026-03-03T08:00", NEW_YORK)),
    "just before midnight": (
        at("2026-03-02T23:59:59", NEW_YORK), [NEW_YORK], "08:00-21:00", at("2026-03-03T08:00", NEW_YORK),
    ),
    "at midnight": (at("2026-03-03T00:00", NEW_YORK), [NEW_YORK], "08:00-21:00", at("2026-03-03T08:00", NEW_YORK)),
    "another day there than here": (
        at("2026-03-03T03:00"), [NEW_YORK], "mon 08:00-23:00", at("2026-03-03T03:00"),  # Monday 22:00 there
    ),
    "over a weekend": (at("2026-03-06T18:00", BERLIN), [BERLIN], "mon-fri 09:00-18:00", at("2026-03-09T09:00", BERLIN)),
    "only on the same day of next week": (
        at("2026-03-02T09:00", BERLIN), [BERLIN], "mon 08:00-09:00", at("2026-03-09T08:00", BERLIN),
    ),
    "open past midnight": (at("2026-03-07T01:59", BERLIN), [BERLIN], "fri 20:00-02:00", at("2026-03-07T01:59", BERLIN)),
    "and closed after it": (
        at("2026-03-07T02:00", BERLIN), [BERLIN], "fri 20:00-02:00", at("2026-03-13T20:00", BERLIN),
    ),
    "over the night of DST's start": (
        at("2026-03-28T22:00", BERLIN), [BERLIN], "08:00-21:00", at("2026-03-29T08:00", BERLIN),
    ),
    "a beginning in the gap: its end": (
        at("2026-03-29T01:00", BERLIN), [BERLIN], "02:30-05:00", at("2026-03-29T03:00", BERLIN),
    ),
    "over the night of DST's end": (
        at("2026-10-24T22:00", BERLIN), [BERLIN], "08:00-21:00", at("2026-10-25T08:00", BERLIN),
    ),
    "a beginning that comes twice: the first": (
        at("2026-10-25T01:00", BERLIN), [BERLIN], "02:30-05:00", at("2026-10-25T02:30", BERLIN),
    ),
    "the clock goes back out of the hours": (
        at("2026-10-25T02:10", BERLIN, fold=1), [BERLIN], "02:30-05:00", at("2026-10-25T02:30", BERLIN, fold=1),
    ),
    "the later of two zones": (
        at("2026-03-02T07:00", NEW_YORK), [NEW_YORK, "America/Los_Angeles"], "08:00-21:00",
        at("2026-03-02T08:00", "America/Los_Angeles"),
    ),
    "until the earlier one closes": (
        at("2026-03-02T21:00", NEW_YORK), [NEW_YORK, "America/Los_Angeles"], "08:00-21:00",
        at("2026-03-03T08:00", "America/Los_Angeles"),
    ),
    "zones that are never awake together": (
        at("2026-03-02T07:00", NEW_YORK), [NEW_YORK, "Asia/Tokyo"], "09:00-17:00", None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("now", "zones", "hours", "until"), MOMENTS.values(), ids=MOMENTS)
def test_the_next_allowed_moment(now: datetime, zones: list[str], hours: str, until: datetime | None) -> None:
    assert quiet.next_allowed(now, [ZoneInfo(name) for name in zones], [quiet.week(hours)]) == until


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    st.sampled_from([NEW_YORK, BERLIN, "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns"]),
    st.sampled_from(["08:00-21:00", "02:15-02:45", "mon-fri 09:00-18:00", "22:00-03:00", "sun 12:00-12:01"]),
)
def test_it_is_the_first_one(now: datetime, name: str, hours: str) -> None:
    """Held against a walk minute by minute."""
    place, week = ZoneInfo(name), quiet.week(hours)
    until = quiet.next_allowed(now, [place], [week])
    if until is None:  # a day of DST may swallow a short span: then it is another week
        return
    assert quiet.allowed(until, place, week)
    walk = now
    while walk < until:
        assert not quiet.allowed(walk, place, week)
        walk += timedelta(minutes=1)


# --- where ------------------------------------------------------------------------------------------------------------

NUMBERS: dict[str, tuple[str, Whereabouts]] = {
    "an area code": ("+12025550142", Whereabouts((NEW_YORK,), "US-Washington D.C.", True)),
    "a state with hours of its own": ("+13055550100", Whereabouts((NEW_YORK,), "US-FL", True)),
    "a city of a state": ("+13125550100", Whereabouts(("America/Chicago",), "US-IL", True)),
    "a country of one zone": ("+4915112345601", Whereabouts((BERLIN,), "DE", True)),
    "no number": ("ann@example.com", Whereabouts()),
}


@pytest.mark.parametrize(("number", "where"), NUMBERS.values(), ids=NUMBERS)
def test_what_a_number_tells(number: str, where: Whereabouts) -> None:
    assert quiet.of_number(number) == where


REGIONS = {"US": "US", " us-tx": "US-TX", "DE": "DE", "DE-BY": "DE-BY", "FR-75C": "FR-75C"} | dict.fromkeys(
    ("Texas", "USA", "EMEA", "US-TEXAS", "US-ZZ", "US-", "-TX", "TX", "UK", "XX", "EU", "", "US-TX, US-OK"), ""
)


@pytest.mark.parametrize(("text", "code"), REGIONS.items(), ids=REGIONS)
def test_what_is_a_code_of_a_region(text: str, code: str) -> None:
    assert quiet.region(text) == code


TEXAN = "+17135550100"
PLACES: dict[str, tuple[dict[str, str], dict[str, str], str, str]] = {  # attributes, profile -> zone, region
    "nothing is told": ({}, {}, "America/Chicago", "US-TX"),
    "a code": ({"region": "us-ok"}, {}, "America/Chicago", "US-OK"),
    "a code that contradicts the number": ({"region": "DE"}, {}, "America/Chicago", "DE"),
    "a name": ({"region": "Texas"}, {}, "America/Chicago", "US-TX"),
    "three letters": ({"region": "USA"}, {}, "America/Chicago", "US-TX"),
    "half of the world": ({"region": "EMEA"}, {}, "America/Chicago", "US-TX"),
    "a name, and a code in the profile": ({"region": "Florida"}, {"region": "US-FL"}, "America/Chicago", "US-FL"),
    "neither can be read": ({"region": "?", "timezone": "CT"}, {}, "America/Chicago", "US-TX"),
}


@pytest.mark.parametrize(("attributes", "profile", "zone", "region"), PLACES.values(), ids=PLACES)
def test_what_cannot_be_read_counts_as_not_told(
    attributes: dict[str, str], profile: dict[str, str], zone: str, region: str
) -> None:
    where = whereabouts._place(QuietHoursSettings(), [attributes, profile], TEXAN, "")
    assert where == Whereabouts((zone,), region, True)
    night = at("2026-03-02T23:00", "America/Chicago")
    asked = quiet_hours(replace(NOTE, purpose="marketing"), facts(night, where, {}))
    assert asked.decision == ("allow" if region == "DE" else "defer")


def test_a_toll_free_number_may_be_anywhere() -> None:
    where = quiet.of_number("+18005550199")
    assert {NEW_YORK, "Pacific/Honolulu"} <= set(where.zones)
    assert where.region == "US"


# --- the rule ---------------------------------------------------------------------------------------------------------

FLORIDA = Whereabouts((NEW_YORK,), "US-FL", True)
OHIO = Whereabouts((NEW_YORK,), "US-OH", True)
SOMEWHERE = Whereabouts((NEW_YORK,), "US", True)  # no state is known
GERMANY = Whereabouts((BERLIN,), "DE", True)
SELLS = TemplateFacts("sale", category="MARKETING")
NINE_TO_FIVE = QuietHoursSettings(
    hours="09:00-17:00", default_zone=BERLIN, countries={"US": "10:00-11:00", "US-FL": ""}
)

VERDICTS: dict[str, tuple[str, Whereabouts, dict[str, Any], str]] = {  # New York time, where, more -> decision
    "Florida, 20:00 sharp": ("2026-03-02T20:00", FLORIDA, {}, "defer"),
    "Florida, just before": ("2026-03-02T19:59:59", FLORIDA, {}, "allow"),
    "Ohio, 20:59": ("2026-03-02T20:59", OHIO, {}, "allow"),
    "Ohio, 21:00": ("2026-03-02T21:00", OHIO, {}, "defer"),
    "an unknown state: the strictest, 17:59": ("2026-03-02T17:59", SOMEWHERE, {}, "allow"),
    "an unknown state: the strictest, 18:00": ("2026-03-02T18:00", SOMEWHERE, {}, "defer"),
    "a country without hours": ("2026-03-02T20:00", GERMANY, {}, "allow"),
    "no phone number": ("2026-03-02T23:00", Whereabouts((NEW_YORK,), "US-FL"), {}, "allow"),
    "a reply": ("2026-03-02T23:00", FLORIDA, {"purpose": "reply"}, "allow"),
    "a notice": ("2026-03-02T23:00", FLORIDA, {"purpose": "transactional"}, "allow"),
    "a marketing template in a reply": ("2026-03-02T23:00", FLORIDA, {"purpose": "reply", "template": SELLS}, "defer"),
    "the operator's hours elsewhere": ("2026-03-02T12:00", GERMANY, {"settings": NINE_TO_FIVE}, "defer"),
    "the operator's zone for nobody knows where": (
        "2026-03-02T10:59", Whereabouts(), {"settings": NINE_TO_FIVE}, "allow",  # 16:59 in Berlin
    ),
    "the operator's hours of a country": ("2026-03-02T12:00", OHIO, {"settings": NINE_TO_FIVE}, "defer"),
    "the operator takes a state out": ("2026-03-02T10:30", FLORIDA, {"settings": NINE_TO_FIVE}, "allow"),
}  # fmt: skip


def facts(now: datetime, where: Whereabouts, more: dict[str, Any]) -> Facts:
    given_ = more.get("settings")
    policy = Policy(settings={QuietHoursSettings: given_} if given_ else {})
    return replace(FACTS, now=now, where=where, policy=policy, template=more.get("template"))


@pytest.mark.parametrize(("wall", "where", "more", "decision"), VERDICTS.values(), ids=VERDICTS)
def test_verdicts(wall: str, where: Whereabouts, more: dict[str, Any], decision: str) -> None:
    message = replace(NOTE, purpose=more.get("purpose", "marketing"))
    assert quiet_hours(message, facts(at(wall, NEW_YORK), where, more)).decision == decision


def test_it_says_when_where_and_by_which_law() -> None:
    verdict = quiet_hours(replace(NOTE, purpose="marketing"), facts(at("2026-03-02T22:14", NEW_YORK), OHIO, {}))
    assert verdict.reason == "it is Mon 22:14 in America/New_York; marketing may arrive 08:00-21:00"
    assert verdict.until == at("2026-03-03T08:00", NEW_YORK)
    assert verdict.source.startswith("47 CFR 64.1200(c)(1)")


def test_a_number_that_may_be_anywhere_waits_for_everywhere() -> None:
    message = replace(NOTE, purpose="marketing")
    verdict = quiet_hours(message, facts(at("2026-03-02T12:00", NEW_YORK), quiet.of_number("+18005550199"), {}))
    assert (verdict.decision, verdict.remedy) == ("deny", "set the contact's time zone")


# --- with a store -----------------------------------------------------------------------------------------------------


async def _sell(loft: World, text: str = "Sale!") -> str:
    request = MessageRequest(channel="open", to="ring77", text=text, purpose="marketing")
    answer = await replies.proactive(loft.core, request, AGENT)
    assert isinstance(answer, Submitted)
    return answer.message_id


async def test_marketing_is_held_until_the_morning_of_the_contact(tmp_path: Path) -> None:
    rules = Policy(settings={QuietHoursSettings: QuietHoursSettings(hours="09:00-18:00")})
    async with world(tmp_path, policy=rules) as loft:
        loft.clock.now = at("2026-03-02T19:00", BERLIN)  # 18:00 UTC
        first = await _sell(loft)
        assert await loft.status(first) == "held"
        (part,) = await loft.rows(schema.outbox)
        assert part.not_before == int(at("2026-03-03T09:00").timestamp() * 1_000_000)
        await loft.execute(update(schema.contacts).values(attributes=json.dumps({"timezone": "America/Los_Angeles"})))
        second = await _sell(loft, "Another sale!")
        assert await loft.status(second) == "queued"  # 10:00 there
        await loft.execute(update(schema.contacts).values(attributes="{}"))
        await loft.execute(update(schema.identities).values(profile=json.dumps({"timezone": "Asia/Tokyo"})))
        loft.clock.now = at("2026-03-03T09:00")
        await loft.run(loft.dispatcher())  # 18:00 in Tokyo: judged again before it leaves
        assert await loft.status(first) == "held"
        loft.clock.now = at("2026-03-04T09:00", "Asia/Tokyo")
        await loft.run(loft.dispatcher())
        assert [await loft.status(first), await loft.status(second)] == ["sent", "sent"]


WHY = "it is Mon 19:00 in Europe/Berlin; marketing may arrive 09:00-18:00"


async def test_what_is_held_says_by_which_rule_why_and_until_when(tmp_path: Path) -> None:
    """From the start, as what is held when it was about to leave."""
    rules = Policy(settings={QuietHoursSettings: QuietHoursSettings(hours="09:00-18:00", default_zone=BERLIN)})
    async with world(tmp_path, policy=rules) as loft:
        loft.clock.now = at("2026-03-02T19:00", BERLIN)
        held = await _sell(loft)
        morning = micros(at("2026-03-03T09:00", BERLIN))
        expected = Wait("quiet_hours", "throttle", f"quiet_hours: {WHY}", morning)
        error = {"code": "quiet_hours", "class": "throttle", "detail": WHY}
        assert await why(loft, held) == expected
        (part,) = await loft.rows(schema.outbox)
        assert json.loads(part.error) == json.loads((await loft.message(held)).error) == error
        await loft.execute(update(schema.outbox).values(not_before=0))  # as if it were due: held once more
        await loft.run(loft.dispatcher())
        assert await why(loft, held) == expected
        loft.clock.now = at("2026-03-03T09:00", BERLIN)
        await loft.run(loft.dispatcher())
        message = await loft.message(held)
        assert (message.status, message.error) == ("sent", None)


async def _ages(loft: World) -> list[float]:
    """What an alarm looks at: the age over all, of the account, and in the API's summary."""
    health = Health(loft.core)
    await health.refresh_figures()  # a new one: it asks the store every few seconds only
    figures = loft.core.metrics.registry.get_sample_value
    depths = await loft.core.database.read(lambda c: queue_views.depths(c, micros(loft.clock())))
    oldest = depths.get("loft", queue_views.Depth()).oldest
    return [
        figures("gateway_oldest_outbound_seconds") or 0.0,
        figures("gateway_outbox_oldest_seconds", {"account": "loft"}) or 0.0,
        -1.0 if oldest is None else (micros(loft.clock()) - oldest) / 1e6,
    ]


async def test_what_is_held_on_purpose_is_late_only_from_when_it_is_due(tmp_path: Path) -> None:
    rules = Policy(settings={QuietHoursSettings: QuietHoursSettings(hours="09:00-18:00", default_zone=BERLIN)})
    async with world(tmp_path, policy=rules) as loft:
        loft.clock.now = at("2026-03-02T17:59", BERLIN)
        await _sell(loft, "queued while it may, held when it is about to leave")
        assert await _ages(loft) == [0, 0, 0]
        loft.clock.now = at("2026-03-02T19:00", BERLIN)
        assert await _ages(loft) == [3660, 3660, 3660]  # sending is behind: nobody has looked at it yet
        await loft.run(loft.dispatcher())
        assert await _ages(loft) == [0, 0, -1]
        await _sell(loft, "held from the start")
        assert await _ages(loft) == [0, 0, -1]
        loft.clock.now = at("2026-03-03T08:59", BERLIN)
        assert await _ages(loft) == [0, 0, -1]
        loft.clock.now = at("2026-03-03T09:02", BERLIN)
        assert await _ages(loft) == [120, 120, 120]
        await loft.run(loft.dispatcher())
        assert [row.state for row in await loft.rows(schema.outbox)] == ["sent", "sent"]
        assert await _ages(loft) == [0, 0, -1]


async def test_what_waits_for_its_account_is_late_from_the_start(tmp_path: Path) -> None:
    async with world(tmp_path) as loft:
        pause = {"account": "loft", "scope": "", "paused_until": micros(loft.clock() + timedelta(hours=1)),
                 "reason": "dead token", "error_class": "auth", "at": 0}  # fmt: skip
        await loft.execute(insert(schema.account_states).values(pause))
        held = await _sell(loft)
        assert await loft.status(held) == "held"
        wait = await why(loft, held)
        assert wait is not None
        assert (wait.code, wait.error_class, wait.reason) == ("paused", "auth", "dead token")
        loft.clock.forward(minutes=30)
        assert await _ages(loft) == [1800, 1800, 1800]


async def test_an_account_may_switch_them_off(tmp_path: Path) -> None:
    settings = {QuietHoursSettings: QuietHoursSettings(hours="09:00-09:01")}
    async with world(tmp_path, policy=Policy(frozenset({"quiet_hours"}), settings)) as loft:
        assert await loft.status(await _sell(loft)) == "queued"
