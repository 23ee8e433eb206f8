"""One store after the other: the embedded one, and PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from gateway.store import dialect, migrate
from gateway.store.engine import Database
from tests.support.postgres import Postgres

STORES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(params=STORES)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """The address of a store without tables."""
    if request.param == "sqlite":
        return dialect.url_of("", str(tmp_path / "gateway.db"))
    server: Postgres = request.getfixturevalue("postgres")
    return server.empty()


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """The address of a store with the newest schema."""
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        return server.database()
    found = dialect.url_of("", str(tmp_path / "gateway.db"))
    engine = dialect.write_engine(found)
    migrate.upgrade(engine)
    engine.dispose()
    return found


@pytest.fixture
async def database(url: URL) -> AsyncIterator[Database]:
    """A started store."""
    found = Database(url)
    found.start()
    yield found
    await found.stop()
