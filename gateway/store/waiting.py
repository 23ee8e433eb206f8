"""Why a part has not left yet, and until when: what its account, its pace or its conversation makes it wait for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, RowMapping, bindparam, select

from gateway.accounts import Accounts
from gateway.ids import micros
from gateway.store import pacing, states
from gateway.store.pauses import BREAKER
from gateway.store.schema import account_states
from normalizers.model import OutboundMessage
from outbox.pacing import Pacing
from outbox.ports import PaceOf, is_private_reply

_BREAKER = select(account_states.c.error_class, account_states.c.reason, account_states.c.paused_until).where(
    account_states.c.account == bindparam("b_account"), account_states.c.scope == BREAKER,
    account_states.c.paused_until > bindparam("b_now"),
)  # fmt: skip


_LAST = "~"  # behind every id


class Wait(msgspec.Struct, frozen=True):
    """What a part waits for. `error_class` is empty where nothing is wrong; `until` in microseconds, if known."""

    code: str
    error_class: str
    reason: str
    until: int | None = None


def reasons(
    connection: Connection, accounts: Accounts, pace_of: PaceOf, parts: Sequence[RowMapping], now: int
) -> dict[str, Wait]:
    """By id, for those of these rows of the outbox that wait."""
    waiting = [part for part in parts if part["state"] in ("queued", "held")]
    if not waiting:
        return {}
    named = {part["account"] for part in waiting}
    statement = select(account_states).where(account_states.c.account.in_(named), account_states.c.paused_until > now)
    pauses = {(row.account, row.scope): row for row in connection.execute(statement)}
    slots = Pacing(accounts, pace_of, shared=False)
    keys = {
        (part["account"], part["channel"]): [slot.key for slot in slots.slots(part["account"], part["channel"])]
        for part in waiting
        if accounts.channel(part["account"], part["channel"]) is not None
    }
    full = pacing.full_until(connection, {key for found in keys.values() for key in found}, now)
    heads = _heads(connection, [part["conversation_id"] for part in waiting], now)
    found: dict[str, Wait] = {}
    for part in waiting:
        spent = max((full.get(key, 0) for key in keys.get((part["account"], part["channel"]), ())), default=0)
        before = [
            head
            for head in heads.get(part["conversation_id"], ())
            if states.goes_before(head, _Place(part["id"], part["priority"]))
        ]
        if (wait := _wait(part, pauses, spent, before, now)) is not None:
            found[part["id"]] = wait
    return found


def _wait(
    part: RowMapping, pauses: Mapping[tuple[str, str], Any], spent: int, before: Sequence[Any], now: int
) -> Wait | None:  # fmt: skip
    if before:
        head = _first(before)
        until = _holds_until(head)
        which = "an earlier" if head.id < part["id"] else "another"
        return Wait("order", "", f"{which} message of the conversation is {head.state}", until)
    if part["error"]:
        error = msgspec.json.decode(part["error"])
        words = f"{error.get('code', '')}: {error.get('detail', '')}".strip(": ")
        return Wait(error.get("code") or "retry", error.get("class", "retry"), words, part["not_before"])
    for scope in ("", BREAKER, f"channel:{part['channel']}"):
        if (pause := pauses.get((part["account"], scope))) is not None:
            code = "breaker" if scope == BREAKER else "paused"
            return Wait(code, pause.error_class, pause.reason or "the account is paused", pause.paused_until)
    if spent > now:
        return Wait("pace", "throttle", "the platform's limit for this account is used up", spent)
    if part["not_before"] is not None and part["not_before"] > now:
        return Wait("later", "throttle", "it is not its time yet", part["not_before"])
    return None


def foreseen(
    connection: Connection, accounts: Accounts, message: OutboundMessage, conversation_id: str, now: datetime
) -> tuple[Wait, ...]:
    """What a message would wait for if it were accepted now, beside what the rules say of it when they are asked first:
    its turn in the conversation, the breaker of its account, the pace of the account and to the person."""
    at, found = micros(now), []
    account, channel = message.account, message.channel
    if (head := _ahead(connection, conversation_id, message, at)) is not None:
        found.append(head)
    broken = connection.execute(_BREAKER, {"b_account": account, "b_now": at}).first()
    if broken is not None:
        reason = broken.reason or "the platform does not answer"
        found.append(Wait("breaker", broken.error_class, reason, broken.paused_until))
    if accounts.channel(account, channel) is None:
        return tuple(found)
    slots = Pacing(accounts, accounts.pace, shared=False)
    keys = [slot.key for slot in slots.slots(account, channel, private=is_private_reply(message))]
    spent = max(pacing.full_until(connection, keys, at).values(), default=0)
    if spent > at:
        found.append(Wait("pace", "throttle", "the platform's limit for this account is used up", spent))
    if pair := slots.pair_of(account, channel, message):
        slots.load((), (pair,), pacing.kept(connection, pair))
        free_at = slots.pair_free_at(pair, account, channel, now)
        if free_at is not None and free_at > now:
            reason = f"one message per {accounts.pace(account, channel).pair_seconds:g} s to one person"
            found.append(Wait("pace", "throttle", reason, micros(free_at)))
    return tuple(found)


def _ahead(connection: Connection, conversation_id: str, message: OutboundMessage, now: int) -> Wait | None:
    """What holds up a message that joins the conversation now, unless it is about to leave itself."""
    last = _Place(_LAST, int(message.purpose == "marketing"))
    heads = _heads(connection, [conversation_id], now).get(conversation_id, ())
    before = [head for head in heads if head.message_id != message.id and states.goes_before(head, last)]
    if not before:
        return None
    head = _first(before)
    until = _holds_until(head) or head.not_before
    if head.state == "sending" or (until is not None and until <= now):
        return None
    return Wait("order", "", f"an earlier message of the conversation is {head.state}", until)


class _Place(NamedTuple):
    """Where a part stands, as `goes_before` reads it."""

    id: str
    priority: int


def _heads(connection: Connection, conversation_ids: Sequence[str], now: int) -> dict[str, list[Any]]:
    """By conversation what is in flight, and the first of each priority that waits."""
    asked = {"b_ids": list(set(conversation_ids)), "unknown_since": now - states.HOLDS}
    found: dict[str, list[Any]] = {}
    for row in connection.execute(states.HEADS, asked).all():
        found.setdefault(row.conversation_id, []).append(row)
    return found


def _first(heads: Sequence[Any]) -> Any:
    """The one that holds the others up."""
    return min(heads, key=lambda head: (not states.in_flight(head), head.priority, head.id))


def _holds_until(head: Any) -> int | None:
    """When an unknown one lets the others go; None for one that is not unknown."""
    return head.unknown_at + states.HOLDS if head.state == "unknown" and head.unknown_at else None
