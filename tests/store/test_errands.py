"""Errands on both stores: wanted once, in order within a lane, taken up again, put off, given up, replayed."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select, update

from config.people import CrmSettings
from config.secret import Secret
from gateway.ids import micros
from gateway.store import crm, errands
from gateway.store.engine import Database
from gateway.store.schema import contacts, crm_edits, dead_letters, ticket_events, tickets
from gateway.store.schema import errands as table

NOW = micros(datetime(2026, 5, 12, tzinfo=UTC))
SECOND = 1_000_000
LEASE = NOW + 60 * SECOND


def wanted(key: str, lane: str = "a", target: str = "crm", **more: Any) -> dict[str, Any]:
    return errands.wanted("test", target, lane, key, {"key": key}, NOW, **more)


async def take(database: Database, now: int = NOW, limit: int = 10) -> list[errands.Errand]:
    return await database.write(lambda c: errands.claim(c, "crm", limit, now, now + 60 * SECOND))


def keys(taken: list[errands.Errand]) -> list[str]:
    return [errand.payload["key"] for errand in taken]


async def test_the_same_errand_is_wanted_once(database: Database) -> None:
    first = wanted("k")
    for row in (first, wanted("k"), wanted("k", target="other")):
        await database.write(functools.partial(errands.want, rows=[row]))
    (errand,) = await take(database)
    assert (errand.id, errand.attempts, errand.created_at) == (first["id"], 0, NOW)


async def test_a_lane_has_one_in_flight_and_keeps_its_order(database: Database) -> None:
    rows = [wanted("a1"), wanted("a2"), wanted("b1", "b"), wanted("b2", "b")]
    await database.write(lambda c: errands.want(c, rows))
    taken = await take(database)
    assert keys(taken) == ["a1", "b1"]
    assert await take(database) == []
    later = NOW + 5 * SECOND
    await database.write(lambda c: errands.later(c, taken[0], later, "retry", "x", "y", counted=True))
    await database.write(lambda c: errands.done(c, taken[1], NOW))
    assert keys(await take(database)) == ["b2"]  # a2 waits behind a1, which waits for its time
    (again,) = await take(database, later)
    assert (again.payload["key"], again.attempts, again.id) == ("a1", 1, taken[0].id)


async def test_what_was_taken_and_never_finished_is_taken_again_and_the_old_claim_is_worth_nothing(
    database: Database,
) -> None:
    await database.write(lambda c: errands.want(c, [wanted("k")]))
    (lost,) = await take(database)
    assert await take(database, NOW + 59 * SECOND) == []
    (found,) = await take(database, NOW + 61 * SECOND)
    assert found.id == lost.id
    await database.write(lambda c: errands.done(c, lost, NOW))
    assert await database.write(lambda c: errands.give_up(c, lost, "permanent", "x", "", NOW)) is False
    state = select(table.c.state, table.c.attempts)
    assert (await database.read(lambda c: c.execute(state).one())) == ("running", 0)
    await database.write(lambda c: errands.done(c, found, NOW))
    state = select(table.c.state, table.c.payload)
    assert (await database.read(lambda c: c.execute(state).one())) == ("done", "{}")


async def test_what_is_given_up_is_a_dead_letter_and_frees_its_lane(database: Database) -> None:
    await database.write(lambda c: errands.want(c, [wanted("k"), wanted("l")]))
    (errand,) = await take(database)
    assert await database.write(lambda c: errands.give_up(c, errand, "permanent", "code", "why", NOW))
    letter = await database.read(lambda c: c.execute(select(dead_letters)).mappings().one())
    assert (letter["kind"], letter["ref"], letter["account"], letter["code"], letter["detail"]) == (
        "errand", errand.id, "crm", "code", "why"
    )  # fmt: skip
    assert keys(await take(database)) == ["l"]
    assert await database.write(lambda c: errands.again(c, errand.id, NOW))
    assert await database.write(lambda c: errands.again(c, errand.id, NOW)) is False
    (again,) = await take(database)
    assert (again.id, again.attempts, again.payload) == (errand.id, 0, {"key": "k"})


async def test_what_nobody_waits_for_any_more_is_given_up(database: Database) -> None:
    await database.write(lambda c: errands.want(c, [wanted("k", expires_at=NOW + SECOND), wanted("l", "b")]))
    assert keys(await take(database, NOW + 2 * SECOND)) == ["l"]
    letters = select(dead_letters.c.code)
    assert (await database.read(lambda c: c.execute(letters).scalars().all())) == ["expired"]


async def test_only_what_is_due_of_one_target_is_taken_and_the_rest_counted(database: Database) -> None:
    await database.write(lambda c: errands.want(c, [wanted(str(n), str(n)) for n in range(5)]))
    await database.write(lambda c: errands.want(c, [wanted("x", target="other")]))
    await database.write(lambda c: c.execute(update(table).where(table.c.key == "0").values(not_before=LEASE)).rowcount)
    assert keys(await take(database, limit=3)) == ["1", "2", "3"]
    assert await database.read(errands.waiting) == {"crm": (5, NOW), "other": (1, NOW)}
    for errand in await take(database):
        await database.write(functools.partial(errands.done, errand=errand, now=NOW))
    assert await database.write(lambda c: errands.forget(c, NOW + 1)) == 1


CRM = CrmSettings(
    "crm", "hubspot", token=Secret("t"), attributes={"note": "n", "tier": "t"}, editable=("note",),
    write_back_on=("solved", "closed"),
)  # fmt: skip


async def test_edits_go_with_the_next_change_of_status(database: Database) -> None:
    """Whatever moved the ticket, and though the contact was merged away in between."""

    def person(connection: Connection) -> None:
        for name, into in (("p", None), ("q", "p")):
            row = {"id": name, "created_at": NOW, "last_seen_at": NOW, "merged_into": into}
            connection.execute(contacts.insert().values(row))
        connection.execute(
            tickets.insert().values(
                id="t", number=1, conversation_id="c", contact_id="p", identity_id="i", created_at=NOW, updated_at=NOW
            )
        )
        crm.note(connection, "q", {"note": "tea", "tier": "x"}, (CRM,), "", "Kim", NOW)

    def status(name: str, at: int) -> Any:
        row = {"id": f"{name}{at}", "ticket_id": "t", "sequence": at - NOW, "kind": "ticket.status_changed",
               "data": f'{{"from":"open","to":"{name}"}}', "at": at}  # fmt: skip
        return lambda c: c.execute(ticket_events.insert().values(row)) and None

    async def due() -> list[tuple[str, str, str]]:
        rows = await database.read(lambda c: crm.due(c, CRM))
        return [(row["living"], row["attribute"], row["value"]) for row in rows]

    await database.write(person)
    assert await due() == []
    await database.write(status("solved", NOW - 1))  # before the edit
    await database.write(status("pending", NOW + 1))  # not one that counts
    assert await due() == []
    await database.write(status("solved", NOW + 2))
    assert await due() == [("p", "note", "tea")]  # the attribute nobody may edit is not among them
    (edit,) = await database.read(lambda c: crm.due(c, CRM))
    await database.write(lambda c: crm.note(c, "q", {"note": None}, (CRM,), "", "Kim", NOW + 5))
    await database.write(lambda c: crm.taken_up(c, "crm", edit))
    left = select(crm_edits.c.attribute, crm_edits.c.value)
    assert (await database.read(lambda c: c.execute(left).all())) == [("note", None)]  # the newer one waits
    assert await due() == []
