"""What would become of a message, as the API shows it."""

from __future__ import annotations

from datetime import datetime

from gateway.ids import micros, rfc3339
from gateway.requests import Alternative, Judged, WindowState
from gateway.web import show, types


def window(state: WindowState) -> types.WindowView:
    """How long one may write freely."""
    return types.WindowView(
        open=state.open, until=_at(state.until), remaining=state.remaining, tag_until=_at(state.tag_until)
    )


def _at(moment_: datetime | None) -> str | None:
    return None if moment_ is None else rfc3339(micros(moment_))


def alternative(other: Alternative) -> types.AlternativeView:
    """Another address of the contact."""
    return types.AlternativeView(
        account=other.account, channel=other.channel, identity_id=other.identity_id, until=_at(other.until),
        remaining=other.remaining,
    )  # fmt: skip


def dry_run(found: Judged) -> types.DryRun:
    """What would become of a message."""
    detour = found.detour
    return types.DryRun(
        decision=found.decision,
        verdicts=[show.verdict(given) for given in found.verdicts],
        parts=[
            types.PlannedPart(
                text=part.text, template=part.template or None, tag=part.tag or None, files=list(part.files),
                length=part.length, unit=part.unit, segments=part.segments,
            )
            for part in found.parts
        ],
        window=window(found.window),
        alternatives=[alternative(other) for other in found.alternatives],
        waits=[show.wait(one) for one in found.waits],
        detour=None
        if detour is None
        else types.DetourView(
            account=detour.account, channel=detour.channel, template=detour.template or None,
            ticket_id=detour.ticket_id or None,
            tried=[
                types.TriedStep(
                    account=step.account, channel=step.channel, template=step.template or None, rule=step.rule,
                    reason=step.reason,
                )
                for step in detour.tried
            ],
        ),
    )  # fmt: skip
