"""Which process reads a mailbox, how far it has come, and what troubles it. One row for each account and folder.

The position moves in the transaction that keeps the mail, and only while the row is still the caller's: a process that
lost its lease without noticing keeps nothing and moves nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, insert, or_, select, update

from gateway.store.many import insert_ignore
from gateway.store.schema import deliveries, mailboxes


class LeaseLost(Exception):
    """Another process reads this mailbox now."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a mailbox has been read: every mail up to `last_uid` is kept.

    `since`: the moment (microseconds) from which on mail is ours, 0 for all. It is asked of the mails up to
    `known_until`, those that were there when the mailbox was numbered anew: later ones are new, whatever their date.
    """

    uidvalidity: int = 0
    last_uid: int = 0
    since: int = 0
    known_until: int = 0


def _this(account: str, folder: str) -> Any:
    return (mailboxes.c.account == account) & (mailboxes.c.folder == folder)


def take(connection: Connection, account: str, folder: str, owner: str, now: int, until: int) -> bool:
    """Become the one who reads the mailbox, or stay it; False while the lease of another runs."""
    insert_ignore(connection, mailboxes, [{"account": account, "folder": folder}])
    free = or_(mailboxes.c.owner.in_(("", owner)), mailboxes.c.lease_until.is_(None), mailboxes.c.lease_until < now)
    statement = update(mailboxes).where(_this(account, folder), free).values(owner=owner, lease_until=until)
    return connection.execute(statement).rowcount > 0


def renew(connection: Connection, owner: str, until: int) -> None:
    """Keep all the mailboxes one reads."""
    connection.execute(update(mailboxes).where(mailboxes.c.owner == owner).values(lease_until=until))


def leave(connection: Connection, owner: str) -> None:
    """Others need not wait for the leases to run out."""
    connection.execute(update(mailboxes).where(mailboxes.c.owner == owner).values(owner="", lease_until=None))


def position(connection: Connection, account: str, folder: str) -> Position:
    """How far it has been read; the beginning when it never was."""
    columns = (mailboxes.c.uidvalidity, mailboxes.c.last_uid, mailboxes.c.since, mailboxes.c.known_until)
    row = connection.execute(select(*columns).where(_this(account, folder))).first()
    return Position(row[0], row[1], row[2], row[3]) if row is not None else Position()


def move(connection: Connection, account: str, folder: str, owner: str, to: Position) -> None:
    """Write the position down. Raises `LeaseLost`."""
    statement = update(mailboxes).where(_this(account, folder), mailboxes.c.owner == owner)
    if not connection.execute(statement.values(asdict(to))).rowcount:
        raise LeaseLost(f"{account}: another process reads {folder} now")


def keep(connection: Connection, delivery: dict[str, Any], account: str, folder: str, owner: str, to: Position) -> None:
    """One mail and the position behind it, together. Raises `LeaseLost`, and then nothing is written."""
    move(connection, account, folder, owner, to)
    connection.execute(insert(deliveries), [delivery])


def looked(connection: Connection, account: str, folder: str, now: int) -> None:
    """The mailbox was read to its end: nothing troubles it."""
    values = {"read_at": now, "problem": "", "problem_at": None}
    connection.execute(update(mailboxes).where(_this(account, folder)).values(values))


def troubled(connection: Connection, account: str, folder: str, problem: str, now: int) -> None:
    """What keeps it from being read, since when."""
    row = connection.execute(select(mailboxes.c.problem, mailboxes.c.problem_at).where(_this(account, folder))).first()
    since = row[1] if row is not None and row[0] else now
    statement = update(mailboxes).where(_this(account, folder))
    connection.execute(statement.values(problem=problem[:500], problem_at=since))
