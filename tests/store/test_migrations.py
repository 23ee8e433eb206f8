"""The steps lead from nothing to exactly the schema the code is written for, on both stores."""

from __future__ import annotations

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.engine import URL

from gateway.store import dialect, migrate
from gateway.store.schema import metadata


def test_the_steps_make_the_schema(empty: URL) -> None:
    engine = dialect.write_engine(empty)
    try:
        migrate.upgrade(engine)
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": False}
            )
            assert compare_metadata(context, metadata) == []
            assert context.get_current_revision() == migrate.versions()[-1]
            assert _partial_indexes(connection) == {
                index.name for table in metadata.tables.values() for index in table.indexes
                if index.dialect_options[engine.dialect.name]["where"] is not None
            }  # fmt: skip
    finally:
        engine.dispose()


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
