"""Mailbox leases and positions, and what is put aside, on both stores."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from sqlalchemy import insert, select

from gateway.ids import new_id
from gateway.store import mailboxes, suspended
from gateway.store.engine import Database
from gateway.store.mailboxes import LeaseLost, Position
from gateway.store.schema import deliveries, events
from gateway.store.schema import mailboxes as rows
from gateway.store.schema import suspended as table

BOX = ("mail", "INBOX")


def delivery() -> dict[str, Any]:
    return {"id": new_id(), "account": "mail", "source": "imap", "url": "", "headers": "{}", "query": "{}",
            "body": b"x", "received_at": 1}  # fmt: skip


async def test_one_reads_a_mailbox_and_the_position_goes_with_the_mail(database: Database) -> None:
    write = database.write
    assert await write(lambda c: mailboxes.take(c, *BOX, "a", 1000, 2000))
    assert not await write(lambda c: mailboxes.take(c, *BOX, "b", 1500, 2500))
    first, second = Position(7, 1, 5, 3), Position(7, 2, 5, 3)
    await write(lambda c: mailboxes.keep(c, delivery(), *BOX, "a", first))
    assert await database.read(lambda c: mailboxes.position(c, *BOX)) == first
    await write(lambda c: mailboxes.renew(c, "a", 3000))
    assert not await write(lambda c: mailboxes.take(c, *BOX, "b", 2500, 3500))
    assert await write(lambda c: mailboxes.take(c, *BOX, "b", 3001, 4000))
    with pytest.raises(LeaseLost):
        await write(lambda c: mailboxes.keep(c, delivery(), *BOX, "a", second))
    assert await database.read(lambda c: mailboxes.position(c, *BOX)) == first
    assert len(await database.read(lambda c: c.execute(select(deliveries.c.id)).all())) == 1
    await write(lambda c: mailboxes.leave(c, "b"))
    assert await write(lambda c: mailboxes.take(c, *BOX, "a", 1, 2))


async def test_trouble_is_dated_from_its_beginning(database: Database) -> None:
    write = database.write
    await write(lambda c: mailboxes.take(c, *BOX, "a", 1, 2))
    for now in (10, 20):
        await write(lambda c, now=now: mailboxes.troubled(c, *BOX, "network: down", now))  # type: ignore[misc]
    row = await database.read(lambda c: c.execute(select(rows)).mappings().one())
    assert (row["problem"], row["problem_at"]) == ("network: down", 10)
    await write(lambda c: mailboxes.looked(c, *BOX, 30))
    row = await database.read(lambda c: c.execute(select(rows)).mappings().one())
    assert (row["problem"], row["problem_at"], row["read_at"]) == ("", None, 30)


async def held(database: Database, cause: str = "spam", account: str = "mail", expires: int = 100) -> str:
    event_id = new_id()
    event = {"id": event_id, "delivery_id": event_id, "account": account, "kind": "message", "dedupe_key": event_id,
             "payload": "{}", "received_at": 1, "state": "suspended"}  # fmt: skip
    row = {"id": event_id, "delivery_id": event_id, "account": account, "channel": "email", "cause": cause,
           "causes": msgspec.json.encode([cause]).decode(), "sender": "a@b.test", "name": "", "subject": "",
           "own_address": "", "ticket_id": None, "received_at": 1, "created_at": 1, "expires_at": expires,
           "state": "open", "settled_at": None, "settled_by": ""}  # fmt: skip

    def job(connection: Any) -> None:
        connection.execute(insert(events), [event])
        suspended.put_aside(connection, [row])

    await database.write(job)
    return event_id


async def state(database: Database, event_id: str) -> tuple[str, str]:
    statement = select(events.c.state, events.c.released).where(events.c.id == event_id)
    row = await database.read(lambda c: c.execute(statement).one())
    return row[0], row[1]


async def test_a_decision_is_made_once(database: Database) -> None:
    first, second = await held(database), await held(database, "loop", "other")
    found = await database.read(lambda c: suspended.page(c, "", "", "", None, 10, None))
    assert [row["id"] for row in found] == [second, first]
    narrowed = await database.read(lambda c: suspended.page(c, "mail", "spam", "a@b.test", {"mail"}, 10, None))
    assert [row["id"] for row in narrowed] == [first]
    assert await database.read(lambda c: suspended.one(c, second, {"mail"})) is None
    assert await database.write(lambda c: suspended.release(c, [first, second, "nothing"], "mia", 5)) == [first, second]
    assert await database.write(lambda c: suspended.release(c, [first], "mia", 6)) == []
    assert await database.write(lambda c: suspended.drop(c, [second], "mia", 6)) == []
    assert await state(database, first) == ("retry", "spam")


async def test_what_is_held_again_is_open_again_and_every_cause_stays_waived(database: Database) -> None:
    event_id = await held(database)
    await database.write(lambda c: suspended.release(c, [event_id], "mia", 5))
    row = dict(await database.read(lambda c: c.execute(select(table)).mappings().one()))
    again = row | {"cause": "blank", "causes": '["blank"]', "state": "open", "settled_at": None, "settled_by": ""}
    await database.write(lambda c: suspended.put_aside(c, [again]))
    assert await database.write(lambda c: suspended.release(c, [event_id], "mia", 9)) == [event_id]
    assert await state(database, event_id) == ("retry", "blank,spam")


async def test_time_decides_in_the_end(database: Database) -> None:
    old, new = await held(database, expires=100), await held(database, expires=300)
    due = await database.read(lambda c: suspended.open_ids(c, 10, expired_at=200))
    assert due == [old]
    await database.write(lambda c: suspended.drop(c, due, "retention", 200))
    assert await state(database, old) == ("ignored", "")
    await database.write(lambda c: suspended.forget_settled(c, 201))
    left = await database.read(lambda c: c.execute(select(table.c.id)).scalars().all())
    assert list(left) == [new]
