"""Who must wait: pauses of accounts, channels and recipients as rows."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from gateway.ids import micros
from gateway.store.many import upsert
from gateway.store.schema import account_states
from outbox.ports import Outcome, Pause, recipient_of

BREAKER = "breaker"  # the scope an open breaker is shown under; no rule asks for it


def of_outcomes(connection: Connection, outcomes: Sequence[Outcome], now: int) -> list[tuple[str, str, Pause]]:
    """The pauses that sends brought with them; those that began."""
    found: list[tuple[str, str, Pause]] = []
    for outcome in outcomes:
        pause, parcel = outcome.pause, outcome.parcel
        assert pause is not None
        scope = {
            "account": "",
            "channel": f"channel:{parcel.channel}",
            "recipient": f"to:{recipient_of(parcel.message)}"[:160],
        }[pause.scope]
        found.append((parcel.account, scope, pause))
    return pause_accounts(connection, found, now)


def pause_accounts(
    connection: Connection, pauses: Sequence[tuple[str, str, Pause]], now: int
) -> list[tuple[str, str, Pause]]:
    """Who must wait: (account, scope, pause). Of several for one the longest counts; a dead token outlasts a rate.

    Those that began, and did not only go on, are returned.
    """
    if not pauses:
        return []
    longest: dict[tuple[str, str], Pause] = {}
    for account, scope, pause in pauses:
        known = longest.get((account, scope))
        if known is None or (pause.error_class == "auth", pause.until) > (known.error_class == "auth", known.until):
            longest[account, scope] = pause
    rows = [
        {"account": account, "scope": scope, "paused_until": micros(pause.until), "error_class": pause.error_class,
         "reason": pause.reason[:500], "at": now}
        for (account, scope), pause in sorted(longest.items())
    ]  # fmt: skip
    accounts = {account for account, _ in longest}
    before = {
        (row.account, row.scope, row.error_class): row.paused_until
        for row in connection.execute(select(account_states).where(account_states.c.account.in_(accounts)))
    }
    lasting = {key for key, until in before.items() if until > now}
    dead = {(account, scope) for account, scope, error_class in lasting if error_class == "auth"}
    rows = [row for row in rows if row["error_class"] == "auth" or (row["account"], row["scope"]) not in dead]
    upsert(connection, account_states, rows, ["account", "scope"], ["paused_until", "error_class", "reason", "at"])
    return [
        (account, scope, pause)
        for (account, scope), pause in longest.items()
        if (account, scope, pause.error_class) not in lasting and (account, scope) not in dead
    ]
