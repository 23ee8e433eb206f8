"""What is to become of a message that was claimed: judged again, and its slots taken when it goes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta

from msgspec.structs import replace

from outbox.judge import Judgment, judge
from outbox.pacing import Pacing
from outbox.ports import STAY, Candidate, Go, Later, Ruling, Stop
from outbox.rules import Rule
from outbox.schedule import LEASE_MARGIN_S, SEND_TIMEOUT_S
from outbox.verdict import GATEWAY, defer, deny

log = logging.getLogger(__name__)

_TROUBLE = timedelta(minutes=5)  # of ours, not of the message: it goes once that is mended
_SOON = timedelta(seconds=2)  # a slot that is free so soon is waited for in place


def decide(candidate: Candidate, pacing: Pacing, rules: Sequence[Rule]) -> Ruling:
    """Whether a head goes now, with what it takes of the pace; or why it does not, and until when.

    Never raises: what cannot be decided is held and looked at again, and the messages of the others leave.
    """
    try:
        return _decided(candidate, pacing, rules)
    except Exception as error:
        parcel = candidate.parcel
        log.error("outbox.undecidable", extra={"account": parcel.account, "outbox_id": parcel.id}, exc_info=error)
        until = candidate.facts.now + _TROUBLE
        reason = f"the gateway could not decide on it ({type(error).__name__}); its log says more"
        words = defer("gateway", reason, until, source=GATEWAY)
        return Stop(Judgment("defer", (words,), (parcel.message,)), until)


def _decided(candidate: Candidate, pacing: Pacing, rules: Sequence[Rule]) -> Ruling:
    parcel, facts = candidate.parcel, candidate.facts
    if (until := pacing.person_free_at(parcel, facts.now)) is not None:
        facts = replace(facts, pair_until=until)
    judgment = judge(parcel.message, facts, rules)
    if judgment.decision == "deny":
        return Stop(judgment)
    if judgment.decision == "defer":
        return Stop(judgment, judgment.until, facts.pause_class if judgment.decisive.rule == "paused" else None)
    if len(judgment.parts) != 1:
        words = deny("form", "it no longer fits in one message as it was accepted", "send it again", source=GATEWAY)
        return Stop(Judgment("deny", (words, *judgment.verdicts), judgment.parts))
    if not pacing.take(parcel, facts.now):
        until = pacing.slots_free_at(parcel, facts.now)
        return Later(until) if until - facts.now > _SOON else STAY
    lease_s = SEND_TIMEOUT_S[facts.channel.retry] + LEASE_MARGIN_S
    return Go(judgment.parts[0], facts.now + timedelta(seconds=lease_s))
