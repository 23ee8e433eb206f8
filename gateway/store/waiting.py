"""Why a part has not left yet, and until when: what its account, its pace or its conversation makes it wait for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, select

from gateway.accounts import Accounts
from gateway.store import pacing, states
from gateway.store.schema import account_states
from outbox.pacing import Pacing
from outbox.ports import PaceOf


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
        before = [head for head in heads.get(part["conversation_id"], ()) if states.goes_before(head, _Row(part))]
        if (wait := _wait(part, pauses, spent, before, now)) is not None:
            found[part["id"]] = wait
    return found


def _wait(
    part: RowMapping, pauses: Mapping[tuple[str, str], Any], spent: int, before: Sequence[Any], now: int
) -> Wait | None:  # fmt: skip
    if before:
        head = min(before, key=lambda head: (not states.in_flight(head), head.priority))
        until = head.unknown_at + states.HOLDS if head.state == "unknown" and head.unknown_at else None
        which = "an earlier" if head.id < part["id"] else "another"
        return Wait("order", "", f"{which} message of the conversation is {head.state}", until)
    if part["error"]:
        error = msgspec.json.decode(part["error"])
        words = f"{error.get('code', '')}: {error.get('detail', '')}".strip(": ")
        return Wait(error.get("code") or "retry", error.get("class", "retry"), words, part["not_before"])
    for scope in ("", "breaker", f"channel:{part['channel']}"):
        if (pause := pauses.get((part["account"], scope))) is not None:
            code = "breaker" if scope == "breaker" else "paused"
            return Wait(code, pause.error_class, pause.reason or "the account is paused", pause.paused_until)
    if spent > now:
        return Wait("pace", "throttle", "the platform's limit for this account is used up", spent)
    if part["not_before"] is not None and part["not_before"] > now:
        return Wait("later", "throttle", "it is not its time yet", part["not_before"])
    return None


class _Row:
    """A part as `goes_before` reads it."""

    def __init__(self, part: RowMapping) -> None:
        self.id, self.priority = part["id"], part["priority"]


def _heads(connection: Connection, conversation_ids: Sequence[str], now: int) -> dict[str, list[Any]]:
    """By conversation what is in flight, and the first of each priority that waits."""
    asked = {"b_ids": list(set(conversation_ids)), "unknown_since": now - states.HOLDS}
    found: dict[str, list[Any]] = {}
    for row in connection.execute(states.HEADS, asked).all():
        found.setdefault(row.conversation_id, []).append(row)
    return found
