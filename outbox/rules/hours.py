"""Quiet hours: marketing arrives while people are awake."""

from __future__ import annotations

from normalizers.model import OutboundMessage
from outbox import quiet
from outbox.facts import Facts
from outbox.rules.declare import rule
from outbox.rules.permission import is_marketing
from outbox.rules.settings import QuietHoursSettings
from outbox.verdict import ALLOW, Verdict, defer, deny


@rule(
    "defer", "deny", source="for the USA 47 CFR 64.1200(c)(1) and its states; all else: the configuration",
    settings=QuietHoursSettings,
)  # fmt: skip
def quiet_hours(message: OutboundMessage, facts: Facts) -> Verdict:
    """Marketing waits for the hours of the recipient's own time zone; replies and notices do not."""
    if not is_marketing(message, facts):
        return ALLOW
    data = facts.policy.of(QuietHoursSettings)
    hours = data.of(facts.where)
    if not hours:
        return ALLOW
    weeks = [quiet.week(text) for text, _ in hours]
    names = facts.where.zones or (data.default_zone,)
    places = [place for name in names if (place := quiet.zone(name)) is not None]
    until = quiet.next_allowed(facts.now, places, weeks)
    if until == facts.now:
        return ALLOW
    text, source = next(
        (entry for entry, week in zip(hours, weeks, strict=True)
         if not all(quiet.allowed(facts.now, place, week) for place in places)), hours[0],
    )  # fmt: skip
    local = facts.now.astimezone(places[0])
    reason = f"it is {local:%a %H:%M} in {names[0]}; marketing may arrive {text}"
    if len(names) > 1:
        reason += f", in each of {len(names)} time zones the number may be in"
    if until is None:
        remedy = "set the contact's time zone"
        return deny("quiet_hours", f"{reason}: there is no such hour", remedy, source=source)
    return defer("quiet_hours", reason, until, source=source)
