"""Statements for many rows: each store takes them its own way, and both come to the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import bindparam, literal_column, select, text, update
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError

from gateway.ids import new_id
from gateway.store import dialect
from gateway.store.dialect import StoreUnavailable
from gateway.store.engine import Database
from gateway.store.many import (
    among,
    among_bound,
    insert_ignore,
    insert_many,
    insert_together,
    inserting,
    run_before,
    run_many,
    run_together,
    upserting,
)
from gateway.store.schema import account_states, counters, dead_letters, deliveries, metadata, suppressions

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
AWKWARD = ["", " ", "NULL", "null", '"', "\\", '\\"', "'", "{a,b}", "{}", ",", "é", "😀", "a\nb", "\x7f", "荷物"]


def letter(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"{number:032d}", "direction": "outbound", "kind": "message", "ref": "r", "account": "a", "channel": "c",
        "message_id": None, "error_class": "", "code": "", "detail": "", "attempts": 0, "created_at": number,
    } | more  # fmt: skip


async def test_values_of_every_kind_arrive_as_they_are(database: Database) -> None:
    rows = [letter(n, detail=text, ref=text, attempts=n, created_at=2**53 + n) for n, text in enumerate(AWKWARD)]
    rows.append(letter(99, message_id=new_id(), created_at=-1))
    await database.write(lambda c: insert_many(c, dead_letters, rows))
    found = await database.read(lambda c: c.execute(select(dead_letters).order_by(dead_letters.c.id)).mappings().all())
    assert [{name: row[name] for name in rows[0]} for row in found] == rows
    switches = [
        {"id": new_id(), "channel": "sms", "address": f"+{n}", "scope": "all", "active": bool(n % 2), "created_at": n}
        for n in range(4)
    ]
    await database.write(lambda c: insert_many(c, suppressions, switches))
    order = select(suppressions.c.active).order_by(suppressions.c.address)
    assert await database.read(lambda c: list(c.execute(order).scalars())) == [False, True, False, True]


async def test_bytes_and_a_text_with_a_null_byte(database: Database) -> None:
    """Bytes are no JSON. The embedded store keeps a null byte, PostgreSQL refuses it and undoes the job."""
    row = {
        "id": new_id(), "account": "a", "source": "webhook", "url": "", "headers": "{}", "query": "{}",
        "body": bytes(range(256)), "received_at": 1,
    }  # fmt: skip
    await database.write(lambda c: insert_many(c, deliveries, [row]))
    assert await database.read(lambda c: bytes(c.execute(select(deliveries.c.body)).scalar_one())) == row["body"]

    def null(connection: Any) -> None:
        insert_many(connection, dead_letters, [letter(1), letter(2, detail="a\0b")])

    if database.url.get_backend_name() == "sqlite":
        await database.write(null)
        details = select(dead_letters.c.detail).order_by(dead_letters.c.id)
        assert await database.read(lambda c: list(c.execute(details).scalars())) == ["", "a\0b"]
        return
    with pytest.raises(Exception, match=r"x00|u0000") as refused:
        await database.write(null)
    assert not isinstance(refused.value, StoreUnavailable)
    assert await database.read(lambda c: c.execute(select(dead_letters)).all()) == []


async def test_inserts_and_updates_of_several_tables_at_once(database: Database) -> None:
    detail = update(dead_letters).where(dead_letters.c.id == bindparam("b_id")).values(detail=bindparam("b_detail"))
    value = update(counters).where(counters.c.name == bindparam("b_name")).values(value=bindparam("b_value"))
    switch = {"id": new_id(), "channel": "sms", "address": "+1", "scope": "all", "active": True, "created_at": 1}

    def job(connection: Any) -> None:
        letters = [letter(number) for number in range(3)]
        insert_many(connection, dead_letters, letters)
        insert_many(connection, counters, [{"name": name, "value": 0} for name in ("a", "b", "c")])
        for number, values in enumerate(({"a": 1, "b": 2}, {"b": 3, "c": 4}, {})):
            told = [{"b_id": one["id"], "b_detail": f"{number} '\\\""} for one in letters[:2]]
            run_together(
                connection,
                (("test detail",), lambda: detail, told),
                (("test value",), lambda: value, [{"b_name": key, "b_value": of} for key, of in values.items()]),
                inserting(suppressions, [switch] if number == 0 else []),
            )
        run_together(connection, (("test detail",), lambda: detail, []))

    await database.write(job)
    details = select(dead_letters.c.detail).order_by(dead_letters.c.id)
    assert await database.read(lambda c: list(c.execute(details).scalars())) == ["2 '\\\"", "2 '\\\"", ""]
    values = select(counters.c.value).order_by(counters.c.name)
    assert await database.read(lambda c: list(c.execute(values).scalars())) == [1, 3, 4]
    assert await database.read(lambda c: list(c.execute(select(suppressions.c.address)).scalars())) == ["+1"]


async def test_an_update_after_other_tables_tells_what_it_changed(database: Database) -> None:
    detail = update(dead_letters).where(dead_letters.c.id == bindparam("b_id")).values(detail=bindparam("b_detail"))
    last = (
        update(suppressions)
        .where(among_bound(suppressions.c.address, "b_addresses"), text("suppressions.scope = 'all'"))
        .values(scope=literal_column("'marketing'"))
        .returning(suppressions.c.id, suppressions.c.address)
    )
    letters = [letter(number) for number in range(2)]
    kept = [
        {"id": new_id(), "channel": "sms", "address": address, "scope": "all", "active": True, "created_at": 1}
        for address in ("+1", "+2", 'a"b\\', "+4")
    ]

    def job(connection: Any) -> list[tuple[str, ...]]:
        insert_many(connection, dead_letters, letters)
        insert_many(connection, suppressions, kept)
        found = []
        for asked, told in ((["+1", 'a"b\\', "+9"], letters), (["+1", "+2"], []), ([], letters[:1])):
            works = (
                (("test told",), lambda: detail, [{"b_id": one["id"], "b_detail": f"{len(asked)}"} for one in told]),
                upserting(connection, counters, [{"name": "a", "value": len(asked)}], ["name"], ["value"]),
            )
            found += [tuple(row) for row in run_before(connection, works, "test last", last, {"b_addresses": asked})]
        return found

    told = await database.write(job)
    ids = {one["address"]: one["id"] for one in kept}
    assert sorted(told) == sorted((ids[address], address) for address in ("+1", 'a"b\\', "+2"))
    assert await database.read(lambda c: c.execute(select(counters.c.value)).scalar_one()) == 0
    details = select(dead_letters.c.detail).order_by(dead_letters.c.id)
    assert await database.read(lambda c: list(c.execute(details).scalars())) == ["0", "3"]
    scopes = await database.read(lambda c: list(c.execute(select(suppressions.c.scope)).scalars()))
    assert scopes.count("all") == 1


async def test_rows_of_several_tables_and_how_many_are_new(database: Database) -> None:
    def job(connection: Any) -> list[int]:
        first, second = {"name": "a", "value": 1}, {"name": "b", "value": 2}
        return [
            insert_together(connection, {}),
            insert_together(connection, {dead_letters: [letter(1), letter(2, detail='"')], suppressions: []}),
            insert_together(connection, {dead_letters: [letter(3)]}, {counters: [first]}),
            insert_together(connection, {dead_letters: []}, {counters: [first | {"value": 9}, second]}),
            insert_ignore(connection, counters, [first, second]),
            insert_ignore(connection, counters, []),
        ]

    counts = await database.write(job)
    assert counts == [0, 0, 1, 1, 0, 0]
    ids = select(dead_letters.c.id).order_by(dead_letters.c.id)
    assert await database.read(lambda c: list(c.execute(ids).scalars())) == [letter(n)["id"] for n in (1, 2, 3)]
    values = select(counters.c.value).where(counters.c.name.in_(("a", "b"))).order_by(counters.c.name)
    assert await database.read(lambda c: list(c.execute(values).scalars())) == [1, 2]

    def doubled(connection: Any) -> None:
        insert_together(connection, {suppressions: [], dead_letters: [letter(4), letter(1)]}, {counters: []})

    with pytest.raises(IntegrityError):
        await database.write(doubled)
    assert len(await database.read(lambda c: list(c.execute(ids).scalars()))) == 3


async def test_an_update_counts_up_and_leaves_others_alone(database: Database) -> None:
    statement = (
        update(counters)
        .where(counters.c.name == bindparam("b_name"))
        .values(value=counters.c.value + bindparam("b_count"))
    )
    names = [f"n{number}" for number in range(6)]

    def job(connection: Any) -> None:
        insert_many(connection, counters, [{"name": name, "value": 10} for name in names])
        rows = [{"b_name": name, "b_count": number} for number, name in enumerate(names[:4])]
        run_many(connection, ("test",), lambda: statement, [*rows, {"b_name": "nobody", "b_count": 1}])

    await database.write(job)
    found = select(counters.c.value).where(counters.c.name.in_(names)).order_by(counters.c.name)
    assert await database.read(lambda c: list(c.execute(found).scalars())) == [10, 11, 12, 13, 10, 10]


async def test_what_is_taken_stays_or_changes_as_asked(database: Database) -> None:
    def state(account: str, reason: str, until: int) -> dict[str, Any]:
        return {"account": account, "scope": "", "paused_until": until, "error_class": "", "reason": reason, "at": 1}

    def job(connection: Any) -> None:
        insert_many(connection, account_states, [state("a", "first", 1), state("b", "first", 1)])
        insert_ignore(connection, account_states, [state("a", "ignored", 2), state("c", "new", 2)])
        keys, changed = ["account", "scope"], ["paused_until"]
        rows = [state("b", "kept", 3), state("d", "new", 3)]
        run_many(connection, *upserting(connection, account_states, rows, keys, changed))

    await database.write(job)
    wanted = select(account_states.c.account, account_states.c.reason, account_states.c.paused_until)
    found = await database.read(lambda c: [tuple(row) for row in c.execute(wanted.order_by(account_states.c.account))])
    assert found == [("a", "first", 1), ("b", "first", 3), ("c", "new", 2), ("d", "new", 3)]


async def test_a_statement_that_binds_what_rows_lack_is_our_mistake(database: Database) -> None:
    statement = update(counters).where(counters.c.name == bindparam("b_name")).values(value=bindparam("b_value"))
    with pytest.raises(TypeError, match="b_value"):
        await database.write(lambda c: run_many(c, ("lacking",), lambda: statement, [{"b_name": "x"}]))


@given(st.lists(TEXTS | st.sampled_from(AWKWARD), max_size=8, unique=True), st.lists(TEXTS, max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_column_is_among_exactly_the_values(shared: Any, kept: list[str], others: list[str]) -> None:
    bound = select(dead_letters.c.detail).where(among_bound(dead_letters.c.detail, "b_names"))
    with shared.connect() as connection:
        transaction = connection.begin()
        insert_many(connection, dead_letters, [letter(n, detail=text) for n, text in enumerate(kept)])
        for asked in (kept, kept[::2], others, [*others, *kept[:1]], []):
            found = sorted(connection.execute(bound, {"b_names": asked}).scalars())
            assert found == sorted(set(asked) & set(kept))
            again = select(dead_letters.c.detail).where(among(connection, dead_letters.c.detail, asked))
            assert sorted(connection.execute(again).scalars()) == found
        transaction.rollback()


@pytest.fixture
def shared(url: URL) -> Any:
    """One connection's worth of store for all examples; each undoes what it did."""
    engine = dialect.write_engine(url)
    assert metadata.tables  # made by the steps already
    yield engine
    engine.dispose()
