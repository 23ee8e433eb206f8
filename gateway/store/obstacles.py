"""What stands in the way of messages: pauses of accounts, and addresses that are not written to. One question."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import Connection, String, bindparam, cast, null, select, union_all

from gateway.store.many import among_bound
from gateway.store.schema import account_states, suppressions
from outbox.facts import Suppressed, folded


class Pause(NamedTuple):
    """Until when (microseconds), why in a sentence, and the class of the error."""

    until: int
    reason: str
    error_class: str


class Obstacles(NamedTuple):
    """Pauses by (account, scope), and what stands on the list by (channel, address)."""

    pauses: Mapping[tuple[str, str], Pause]
    listed: Mapping[tuple[str, str], list[Suppressed]]


_paused, _listed = (
    select(
        account_states.c.account, account_states.c.scope, account_states.c.paused_until,
        account_states.c.reason, account_states.c.error_class, cast(null(), String).label("suppressed"),
    ).where(among_bound(account_states.c.account, "b_accounts"), account_states.c.paused_until > bindparam("b_now")),
    select(
        suppressions.c.channel, suppressions.c.address, suppressions.c.expires_at,
        suppressions.c.reason, suppressions.c.detail, suppressions.c.scope,
    ).where(suppressions.c.active, among_bound(suppressions.c.address, "b_addresses")),
)  # fmt: skip
_OBSTACLES = union_all(_paused, _listed)


def obstacles(
    connection: Connection, accounts: Collection[str], wanted: Iterable[tuple[str, str]], now: int
) -> Obstacles:
    """What concerns these accounts and each (channel, address)."""
    pairs = {(channel, folded(address)) for channel, address in wanted}
    pauses: dict[tuple[str, str], Pause] = {}
    listed: dict[tuple[str, str], list[Suppressed]] = {}
    asked = {"b_accounts": list(accounts), "b_addresses": list({address for _, address in pairs}), "b_now": now}
    for owner, name, until, reason, more, scope in connection.execute(_OBSTACLES, asked).all():
        if scope is None:
            pauses[owner, name] = Pause(until, f"waiting: {reason}" if reason else "", more)
        elif (owner, name) in pairs and (until is None or until > now):
            listed.setdefault((owner, name), []).append(Suppressed(name, scope, reason, more, until))
    return Obstacles(pauses, listed)
