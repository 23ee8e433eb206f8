"""What becomes of a message after a try, purely: the law of delivery in one place.

Surely not sent: tried again by schedule. Refused for its rate: waits, and the try does not count. A dead token: the
account waits, its messages are held. Perhaps sent: the same key again where the platform has one, else `unknown`, never
a second send by itself. Anything else: failed, with its class and the platform's words.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from adapters import Channel, ErrorClass, SendError, Sent, Suppress, rule_of
from outbox.ports import Failure, Outcome, Parcel, Pause, PauseKind, is_private_reply
from outbox.schedule import (
    AUTH_PAUSE,
    MAIL_REPEATS,
    POLICY_PAUSE,
    RESEND_ONCE,
    SCHEDULES,
    THROTTLE_WAIT,
)

OnUnknown = Literal["ask", "resend_once"]
_SCOPES: dict[str, PauseKind] = {"account": "account", "endpoint": "channel", "recipient": "recipient"}


def sent(parcel: Parcel, answer: Sent, channel: Channel, now: datetime) -> Outcome:
    """The platform took it, if perhaps not for everybody."""
    alone: tuple[tuple[str, Suppress, str], ...] = ()
    if answer.refused:
        told = ((address, rule_of(channel.errors, words), words) for address, words in answer.refused.items())
        alone = tuple((address, rule.suppress, words) for address, rule, words in told if rule and rule.suppress)
    return Outcome(
        parcel=parcel, state="sent", word="sent", at=now, sent=answer, request_id=answer.request_id, left_alone=alone
    )


def failed_send(
    parcel: Parcel, error: SendError, channel: Channel, now: datetime, chance: float, on_unknown: OnUnknown
) -> Outcome:
    """The adapter raised `error`. `chance` in [0, 1) spreads retries."""
    failure = Failure(error.code, error.error_class, error.detail)
    if not error.certain:
        return perhaps_sent(parcel, failure, channel, now, chance, on_unknown, error.request_id)
    if error.error_class == "throttle":
        wait = THROTTLE_WAIT if error.retry_after_s is None else timedelta(seconds=max(error.retry_after_s, 0.1))
        if now + wait - parcel.queued_at > SCHEDULES[channel.retry].give_up:
            return _stopped(parcel, failure, now, error.request_id)
        return Outcome(
            parcel=parcel, state="queued", word="throttle", at=now, counted=False, not_before=now + wait, error=failure,
            request_id=error.request_id, pause=_pause(error, now + wait),
        )  # fmt: skip
    if error.error_class == "auth" and error.pause == "account":
        until = now + AUTH_PAUSE
        return Outcome(
            parcel=parcel, state="held", word="held", at=now, counted=False, not_before=until, error=failure,
            request_id=error.request_id,
            pause=Pause("account", until, "auth", f"{error.code} {error.detail}".strip()),
        )  # fmt: skip
    rule = error.rule
    if rule is not None and rule.patience is not None and now - parcel.queued_at >= rule.patience:
        return _stopped(parcel, Failure(error.code, rule.then, error.detail), now, error.request_id)
    if error.error_class in ("retry", "unknown"):
        least = None if rule is None else rule.wait_after(parcel.attempt)
        wait_s = error.retry_after_s if least is None else least.total_seconds()
        return not_sent(parcel, failure, channel, now, chance, error.request_id, wait_s)
    wait = POLICY_PAUSE if error.retry_after_s is None else timedelta(seconds=error.retry_after_s)
    return Outcome(
        parcel=parcel, state="failed", word="failed", at=now, error=failure, request_id=error.request_id,
        pause=_pause(error, now + wait),
        opted_out=optout_scope(channel, error.code) if error.error_class == "opted-out" else "",
        template=template_status(channel, error.code),
        suppress=rule.suppress if rule is not None else None,
    )  # fmt: skip


def not_sent(
    parcel: Parcel, failure: Failure, channel: Channel, now: datetime, chance: float, request_id: str = "",
    wait_s: float | None = None,
) -> Outcome:  # fmt: skip
    """Surely not sent: another try by schedule, until patience ends. What an earlier try may have sent is `unknown`."""
    at = SCHEDULES[channel.retry].next(parcel.attempt, parcel.queued_at, now, chance, automatic=parcel.automatic)
    if at is None:
        return _stopped(parcel, failure, now, request_id)
    if wait_s is not None:
        at = max(at, now + timedelta(seconds=wait_s))
    patience = SCHEDULES[channel.retry].delay_told
    return Outcome(
        parcel=parcel, state="queued", word="retry", at=now, not_before=at, error=failure, request_id=request_id,
        delayed=patience is not None and now - parcel.queued_at >= patience,
    )  # fmt: skip


def put_back(parcel: Parcel, failure: Failure, now: datetime, until: datetime) -> Outcome:
    """It never began: the try does not count."""
    return Outcome(
        parcel=parcel, state="queued", word="retry", at=now, counted=False, not_before=until, error=failure
    )  # fmt: skip


def _stopped(parcel: Parcel, failure: Failure, now: datetime, request_id: str) -> Outcome:
    state: Literal["failed", "unknown"] = "unknown" if parcel.unknowns else "failed"
    return Outcome(parcel=parcel, state=state, word=state, at=now, error=failure, request_id=request_id)


def perhaps_sent(
    parcel: Parcel, failure: Failure, channel: Channel, now: datetime, chance: float, on_unknown: OnUnknown,
    request_id: str = "",
) -> Outcome:  # fmt: skip
    """Written, then no answer. Only what the platform recognises may be repeated without asking."""
    again: datetime | None = None
    since = parcel.first_attempt_at or now
    if channel.key == "request" and not _by_token(parcel) and now - since < channel.key_valid:
        again = SCHEDULES[channel.retry].next(parcel.attempt, parcel.queued_at, now, chance, automatic=parcel.automatic)
        if again is not None and again - since >= channel.key_valid:
            again = None
    elif channel.key == "message_id" and parcel.unknowns < len(MAIL_REPEATS):
        again = now + MAIL_REPEATS[parcel.unknowns]
    elif channel.key == "none" and on_unknown == "resend_once" and not parcel.unknowns:
        again = None if is_private_reply(parcel.message) else now + RESEND_ONCE  # the one there may be is used up
    return Outcome(
        parcel=parcel, state="unknown" if again is None else "queued", word="unknown", at=now, not_before=again,
        error=Failure(failure.code, "unknown", failure.detail), request_id=request_id,
    )  # fmt: skip


def _by_token(parcel: Parcel) -> bool:
    """Whether the message was sent by a one-time right to answer, which no key covers (`Channel.reply_token_valid`)."""
    return parcel.message.context is not None and bool(parcel.message.context.reply_token)


def optout_scope(channel: Channel, code: str) -> str:
    """What an opt-out the platform reports covers: as its code says, else what the channel's own STOP word covers."""
    rule = channel.errors.get(code)
    return (rule.scope if rule is not None else None) or channel.keywords.scope


def template_status(channel: Channel, code: str) -> str:
    """What a refusal tells of the template that was sent, "" for nothing."""
    rule = channel.errors.get(code)
    return rule.template if rule is not None else ""


def connection_ok(outcome: Outcome) -> bool:
    """Whether the platform answered at all, for the breaker: what it refuses it has at least read."""
    unreached = outcome.word == "unknown" or (outcome.word in ("retry", "failed") and _code(outcome) == "unreachable")
    return not unreached


def _code(outcome: Outcome) -> str:
    return outcome.error.code if outcome.error is not None else ""


def _pause(error: SendError, until: datetime) -> Pause | None:
    if error.pause is None:
        return None
    words = f"{error.code} {error.detail}".strip()
    error_class: ErrorClass = error.error_class
    return Pause(_SCOPES[error.pause], until, error_class, words)
