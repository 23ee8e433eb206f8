"""What the stores promise, the same on each: grouped commits, jobs apart, insert-or-ignore, numbers, claims."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select, text, update

from gateway.ids import micros, new_id
from gateway.store import merging, people_views, queue_views, tickets, views
from gateway.store.dialect import StoreUnavailable, unavailable
from gateway.store.engine import Database
from gateway.store.many import insert_ignore, upsert
from gateway.store.schema import account_states, addresses, contacts, counters, deliveries, identities, message_refs
from gateway.tickets import Actor

NOW = micros(datetime(2026, 5, 12, tzinfo=UTC))
KIM = Actor("agent", "7", "Kim")


def delivery(body: bytes = b"{}") -> dict[str, Any]:
    """A row as the accept path keeps it."""
    return {
        "id": new_id(), "account": "wa", "source": "webhook", "url": "", "headers": "{}", "query": "{}", "body": body,
        "received_at": NOW,
    }  # fmt: skip


def count(connection: Connection, table: Any = deliveries) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


# --- the one door ---


async def test_what_waits_shares_a_commit_and_all_of_it_is_there(database: Database) -> None:
    bodies = [bytes([number % 256]) * 10 for number in range(300)]
    await asyncio.gather(*(database.keep(delivery(body)) for body in bodies))
    found = await database.read(lambda c: c.execute(select(deliveries.c.body)).scalars().all())
    assert sorted(map(bytes, found)) == sorted(bodies)


async def test_who_loses_a_deadlock_is_tried_again(database: Database) -> None:
    """Two take the same rows in opposite order; the store undoes one of them, and nobody hears of it."""
    await database.write(lambda c: c.execute(insert(counters), [{"name": name, "value": 0} for name in "ab"]))
    both = threading.Barrier(2) if database.url.get_backend_name() == "postgresql" else None

    def taking(first: str, second: str) -> Any:
        def job(connection: Connection) -> None:
            for name in (first, second):
                row = update(counters).where(counters.c.name == name)
                connection.execute(row.values(value=counters.c.value + 1))
                if both is not None and name == first and not both.broken:
                    with contextlib.suppress(threading.BrokenBarrierError):
                        both.wait(5)
                        both.abort()  # they meet once; the one that is tried again goes on alone

        return job

    await asyncio.gather(database.bulk(taking("a", "b")), database.bulk(taking("b", "a")))
    assert await database.read(lambda c: c.execute(select(counters.c.value)).scalars().all()) == [2, 2]


async def test_any_bytes_are_kept_as_they_are(database: Database) -> None:
    raw = bytes(range(256)) + "\0\ud800".encode("utf-8", "surrogatepass")
    await database.keep(delivery(raw))
    assert bytes(await database.read(lambda c: c.execute(select(deliveries.c.body)).scalar_one())) == raw


async def test_a_job_that_fails_takes_nobody_with_it(database: Database) -> None:
    gate = threading.Event()

    def hold(connection: Connection) -> None:
        gate.wait(5)  # so that the others wait together, and share a transaction

    def good(number: int) -> Any:
        return lambda c: c.execute(insert(counters).values(name=f"n{number}", value=number)).rowcount

    def bad(connection: Connection) -> None:
        connection.execute(insert(counters).values(name="bad", value=1))
        connection.execute(insert(counters).values(name="bad", value=2))

    def worse(connection: Connection) -> None:
        connection.execute(insert(counters).values(name="worse", value=1))
        raise LookupError("of the job's own")

    jobs = [database.write(job) for job in (hold, good(1), bad, good(2), worse, good(3))]
    tasks = [asyncio.ensure_future(job) for job in jobs]
    await asyncio.sleep(0.05)
    gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result).__name__ for result in results] == [
        "NoneType", "int", "IntegrityError", "int", "LookupError", "int",
    ]  # fmt: skip
    names = await database.read(lambda c: c.execute(select(counters.c.name).order_by(counters.c.name)).scalars().all())
    assert names == ["n1", "n2", "n3"]


async def test_reads_see_what_was_answered_and_nothing_half(database: Database) -> None:
    def write(number: int) -> Any:
        return lambda c: c.execute(insert(counters).values(name=f"n{number}", value=number)).rowcount

    for number in range(20):
        await database.write(write(number))
        assert await database.read(lambda c: count(c, counters)) == number + 1


async def test_a_full_queue_and_a_stopped_store_say_so(url: Any) -> None:
    database = Database(url, queue_max=2)  # not started: nothing leaves the queue
    waiting = [database.keep(delivery()) for _ in range(2)]
    with pytest.raises(StoreUnavailable):
        await database.keep(delivery())
    database.start()
    await asyncio.gather(*waiting)
    await database.stop()
    with pytest.raises(StoreUnavailable):
        await database.keep(delivery())


async def test_the_embedded_store_syncs_before_it_answers(database: Database) -> None:
    if database.url.get_backend_name() != "sqlite":
        assert await database.read(lambda c: c.execute(text("SHOW synchronous_commit")).scalar()) == "on"
        return
    pragmas = ("journal_mode", "synchronous", "foreign_keys")
    found = await database.write(lambda c: [c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas])
    assert found == ["wal", 2, 1]
    with pytest.raises(StoreUnavailable):  # readers cannot write
        await database.read(lambda c: c.execute(insert(counters).values(name="n", value=1)))


def test_a_job_of_ours_that_is_wrong_is_no_trouble_of_the_store() -> None:
    assert not unavailable(ValueError("x"))
    assert not unavailable(KeyError("x"))
    assert unavailable(OSError("disk full"))


# --- insert-or-ignore, upsert, numbers ---


async def test_insert_ignore_keeps_the_first(database: Database) -> None:
    rows = [{"account": "wa", "ref": "m1", "message_id": name, "outbox_id": None} for name in ("first", "second")]
    await database.write(lambda c: insert_ignore(c, message_refs, rows))
    await database.write(lambda c: insert_ignore(c, message_refs, [rows[1]]))
    await database.write(lambda c: insert_ignore(c, message_refs, []))
    assert await database.read(lambda c: views.message_named(c, "wa", "m1")) == "first"


async def test_upsert_changes_what_it_is_told_to(database: Database) -> None:
    def pause(until: int, reason: str) -> Any:
        row = {"account": "wa", "scope": "", "paused_until": until, "error_class": "auth", "reason": reason, "at": NOW}
        return lambda c: upsert(c, account_states, [row], ["account", "scope"], ["paused_until"])

    await database.write(pause(NOW + 1, "first"))
    await database.write(pause(NOW + 9, "second"))
    (found,) = (await database.read(lambda c: queue_views.pauses(c, NOW)))["wa"]
    assert (found["paused_until"], found["reason"]) == (NOW + 9, "first")


async def test_ticket_numbers_have_no_gap_and_no_twin(database: Database) -> None:
    firsts = await asyncio.gather(*(database.write(lambda c: tickets.next_numbers(c, 3)) for _ in range(20)))
    assert sorted(firsts) == list(range(1, 61, 3))


# --- people: merged and taken apart ---


def somebody(connection: Connection, name: str, number: str, **more: Any) -> tuple[str, str]:
    """A contact with one identity; their ids."""
    contact, identity = new_id(), new_id()
    connection.execute(insert(contacts).values(id=contact, name=name, created_at=NOW, last_seen_at=NOW, **more))
    connection.execute(
        insert(identities).values(
            id=identity, contact_id=contact, channel="sms", account="sms", external_id=number, created_at=NOW
        )
    )
    connection.execute(
        insert(addresses).values(
            id=new_id(), identity_id=identity, channel="sms", account="sms", kind="phone", value=number,
            scope="everywhere", evidence="attested", attested_at=NOW,
        )
    )  # fmt: skip
    return contact, identity


async def test_a_merge_moves_everything_and_can_be_undone(database: Database) -> None:
    def make(c: Connection) -> Any:
        return somebody(c, "", "+15550100001", vip=True, tags='["a"]'), somebody(c, "Bo", "+15550100002", tags='["b"]')

    (one, first), (other, second) = await database.write(make)
    await database.write(lambda c: merging.merge(c, other, one, KIM, "", NOW))
    row = await database.read(lambda c: merging.load(c, one))
    assert (row["name"], row["vip"], row["tags"]) == ("Bo", True, '["a","b"]')
    merged = await database.read(lambda c: people_views.contact(c, other, None))
    assert merged is not None
    assert merged["id"] == one
    owned = await database.read(lambda c: people_views.identities_of(c, [one], None))
    assert [identity["id"] for identity in owned[one]] == [first, second]
    assert await database.write(lambda c: merging.unmerge(c, one, second, KIM, NOW)) == other
    back = await database.read(lambda c: people_views.identities_of(c, [one, other], None))
    assert {contact: [row["pinned"] for row in rows] for contact, rows in back.items()} == {one: [False], other: [True]}


MERGE_FAULTS = {"into itself": ("a", "a", "merge_into_itself"), "nobody": ("a", "x", "not_found")}


@pytest.mark.parametrize(("who", "into", "code"), MERGE_FAULTS.values(), ids=MERGE_FAULTS)
async def test_merges_that_cannot_be(database: Database, who: str, into: str, code: str) -> None:
    contact, _ = await database.write(lambda c: somebody(c, "Ann", "+15550100001"))
    names = {"a": contact, "x": new_id()}
    with pytest.raises(merging.PeopleError) as caught:
        await database.write(lambda c: merging.merge(c, names[who], names[into], KIM, "", NOW))
    assert caught.value.code == code


async def test_the_only_identity_cannot_be_taken_out(database: Database) -> None:
    contact, identity = await database.write(lambda c: somebody(c, "Ann", "+15550100001"))
    with pytest.raises(merging.PeopleError) as caught:
        await database.write(lambda c: merging.unmerge(c, contact, identity, KIM, NOW))
    assert caught.value.code == "last_identity"
