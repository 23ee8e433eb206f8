"""What was taken of the accounts' pace, in the store: read and written by the claim that takes it.

Where several send, the rows are locked for as long as the claim lasts: their claims on one account follow each other,
and together they keep within the platform's limits. One transaction is all that is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, select

from gateway.ids import micros
from gateway.store.many import Work, among_bound, insert_ignore, upserting
from gateway.store.schema import paces
from outbox.limiter import Slot
from outbox.ports import Ledger, Parcel

_KEPT = (
    select(paces.c.key, paces.c.taken)
    .where(among_bound(paces.c.key, "b_keys"))
    .order_by(paces.c.key)
    .with_for_update()  # says nothing where one connection writes
)
_ALL = select(paces.c.key, paces.c.taken).where(paces.c.until > bindparam("b_now"))
_FULL = select(paces.c.key, paces.c.full_until).where(
    among_bound(paces.c.key, "b_keys"), paces.c.full_until > bindparam("b_now")
)
_LOOK = select(paces.c.key, paces.c.taken).where(paces.c.key == bindparam("b_key"))


def load_slots(connection: Connection, ledger: Ledger, accounts: Iterable[str], now: datetime) -> None:
    """What was taken of the accounts' slots. A sender that is alone needs to be told once, of everything."""
    slots: list[Slot] = [slot for account in accounts for slot in ledger.all_of(account)]
    if ledger.shared:
        ledger.load(slots, (), _locked(connection, [slot.key for slot in slots]))
    elif not ledger.loaded:
        kept = {row.key: row.taken for row in connection.execute(_ALL, {"b_now": micros(now)})}
        named = {slot.key for slot in slots}
        ledger.load(slots, kept.keys() - named, kept)
        ledger.loaded = True


def load_pairs(connection: Connection, ledger: Ledger, parcels: Sequence[Parcel]) -> None:
    """When the recipients of these parcels were last written to; only who is not alone needs to ask."""
    if ledger.shared and (pairs := sorted({pair for parcel in parcels if (pair := ledger.pair(parcel))})):
        ledger.load((), pairs, _locked(connection, pairs))


def _locked(connection: Connection, keys: Sequence[str]) -> Mapping[str, str]:
    """The rows, locked. What is not there cannot be locked: such rows are made first."""
    if not keys:
        return {}
    found = {row.key: row.taken for row in connection.execute(_KEPT, {"b_keys": list(keys)})}
    if missing := sorted(set(keys) - found.keys()):
        insert_ignore(connection, paces, [{"key": key} for key in missing])
        found |= {row.key: row.taken for row in connection.execute(_KEPT, {"b_keys": missing})}
    return found


def spending(connection: Connection, ledger: Ledger, now: datetime) -> Work:
    """What this claim took, to be written down with it."""
    rows = [
        {"key": spent.key, "taken": spent.taken, "full_until": spent.full_until, "until": spent.until}
        for spent in ledger.spent(now)
    ]
    return upserting(connection, paces, rows, ["key"], ["taken", "full_until", "until"])


def full_until(connection: Connection, keys: Iterable[str], now: int) -> dict[str, int]:
    """Of these keys those of which nothing is free, and until when."""
    rows = connection.execute(_FULL, {"b_keys": list(keys), "b_now": now})
    return {row.key: row.full_until for row in rows}


def kept(connection: Connection, key: str) -> dict[str, str]:
    """What was taken by one key, for whoever only looks."""
    return {row.key: row.taken for row in connection.execute(_LOOK, {"b_key": key})}


def forget(connection: Connection, now: int) -> None:
    """Rows of which all has been free again for a while."""
    connection.execute(delete(paces).where(paces.c.until < now - 3_600_000_000))
