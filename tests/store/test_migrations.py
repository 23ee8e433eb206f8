"""The steps lead from nothing to exactly the schema the code is written for, on both stores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, delete, insert, inspect, select, text
from sqlalchemy.engine import URL

from gateway.store import dialect, migrate
from gateway.store.schema import metadata, search_entries
from tests.support.postgres import Postgres


def test_the_steps_make_the_schema(empty: URL) -> None:
    engine = dialect.write_engine(empty)
    try:
        migrate.upgrade(engine)
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection,
                opts={"compare_type": True, "compare_server_default": False, "include_object": _portable},
            )
            assert compare_metadata(context, metadata) == []
            assert context.get_current_revision() == migrate.versions()[-1]
            assert _partial_indexes(connection) == {
                index.name for table in metadata.tables.values() for index in table.indexes
                if index.dialect_options[engine.dialect.name]["where"] is not None
            }  # fmt: skip
    finally:
        engine.dispose()


def _portable(_thing: Any, name: str | None, *_more: Any) -> bool:
    """The index of words is no part of the portable schema: `test_both_ways_lead_to_the_same_index_of_words`."""
    return not (name or "").startswith(dialect.SEARCH_INDEX)


@pytest.mark.parametrize("way", ["steps", "metadata"])
def test_both_ways_lead_to_the_same_index_of_words(empty: URL, way: str) -> None:
    engine = dialect.write_engine(empty)
    try:
        if way == "steps":
            migrate.upgrade(engine)
        else:
            metadata.create_all(engine)
        with engine.begin() as connection:
            row = {"id": 7, "ref": "a" * 32, "account": "", "words": " blue parcel 荷物 物 "}
            connection.execute(insert(search_entries), [row])
            assert _found(connection, "parcel") == [7]
            assert _found(connection, "parc") == []
            assert _found(connection, "荷物") == [7]
            connection.execute(delete(search_entries))
            assert _found(connection, "parcel") == []
    finally:
        engine.dispose()


def _found(connection: Connection, word: str) -> list[int]:
    source, entry_id, condition = dialect.entries_with(connection, [[[(word, False)]]])
    return list(connection.execute(select(entry_id).select_from(source).where(condition)).scalars())


def _partial_indexes(connection: Any) -> set[str]:
    """Indexes with a condition: queues stay small whatever the table's size."""
    found = inspect(connection)
    return {
        str(index["name"])
        for table in metadata.tables
        for index in found.get_indexes(table)
        if index.get("dialect_options", {}).get(f"{connection.dialect.name}_where") is not None
    }


def test_upgrading_again_changes_nothing(empty: URL) -> None:
    engine = dialect.write_engine(empty)
    try:
        migrate.upgrade(engine)
        migrate.upgrade(engine)
        assert migrate.current(engine) == migrate.versions()[-1] != ""
    finally:
        engine.dispose()


def test_a_store_of_a_newer_version_is_left_alone(empty: URL) -> None:
    engine = dialect.write_engine(empty)
    try:
        migrate.upgrade(engine)
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(migrate.StoreTooNew, match="9999"):
            migrate.upgrade(engine)
    finally:
        engine.dispose()


@pytest.mark.postgres
def test_who_starts_while_another_makes_the_schema_waits_for_it(postgres: Postgres) -> None:
    """Web, worker and sender are started together on a new database."""
    first, second = (dialect.write_engine(url) for url in [postgres.empty()] * 2)
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    try:
        with ThreadPoolExecutor(1) as pool:
            with first.begin() as connection:
                dialect.exclusive(connection, migrate._SCHEMA)
                late = pool.submit(migrate.upgrade, second)
                with first.connect() as looking:
                    while not looking.execute(waiting).scalar():
                        assert not late.done(), late.exception()
                metadata.create_all(connection)
                connection.execute(text("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"))
                newest = {"newest": migrate.versions()[-1]}
                connection.execute(text("INSERT INTO alembic_version VALUES (:newest)"), newest)
            late.result()
        assert migrate.current(second) == migrate.versions()[-1]
    finally:
        first.dispose()
        second.dispose()
