"""Connections to PostgreSQL that die while nobody looks: noticed before they are used, or told as the store's fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, select, text
from sqlalchemy.engine import URL

from gateway.store import dialect
from gateway.store.dialect import StoreUnavailable
from gateway.store.engine import Database
from tests.support.postgres import Postgres

pytestmark = pytest.mark.postgres


@pytest.fixture
def url(postgres: Postgres) -> URL:
    return postgres.empty()


@pytest.fixture
async def database(url: URL) -> AsyncIterator[Database]:
    database = Database(url)
    database.start()
    await database.write(lambda c: c.execute(text("CREATE TABLE words (word TEXT)")))
    yield database
    await database.stop()


def cut_all(url: URL) -> int:
    """End every connection to this database but the one that asks; how many those were."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            cut = (
                "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return int(connection.execute(text(cut)).scalar_one())
    finally:
        engine.dispose()


def backend(connection: Connection) -> int:
    return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


async def words(database: Database) -> list[str]:
    return await database.read(lambda c: list(c.execute(text("SELECT word FROM words ORDER BY word")).scalars()))


def write(database: Database, word: str, *, alone: bool) -> asyncio.Future[None]:
    def job(connection: Connection) -> None:
        connection.execute(text("INSERT INTO words VALUES (:word)"), {"word": word})

    return asyncio.ensure_future(database.write(job, alone=alone))


@pytest.mark.parametrize("alone", [False, True])
async def test_what_died_while_idle_is_noticed_before_it_is_used(
    database: Database, url: URL, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    monkeypatch.setattr(dialect, "FRESH_S", 0.0)
    await write(database, "before", alone=alone)
    assert await words(database) == ["before"]
    assert await asyncio.to_thread(cut_all, url) >= 2
    await write(database, "after", alone=alone)
    assert await words(database) == ["after", "before"]


async def test_a_read_over_a_connection_that_has_just_died_is_made_again(
    database: Database, url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialect, "FRESH_S", 60.0)
    assert await words(database) == []
    assert await asyncio.to_thread(cut_all, url) >= 1
    assert await words(database) == []


@pytest.mark.parametrize("alone", [False, True])
async def test_a_write_over_a_connection_that_has_just_died_is_the_stores_trouble_once(
    database: Database, url: URL, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    monkeypatch.setattr(dialect, "FRESH_S", 60.0)
    await write(database, "before", alone=alone)
    assert await asyncio.to_thread(cut_all, url) >= 1
    with pytest.raises(StoreUnavailable):
        await write(database, "lost", alone=alone)
    await write(database, "after", alone=alone)
    assert await words(database) == ["after", "before"]


async def test_a_connection_used_a_moment_ago_is_not_asked(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialect, "FRESH_S", 60.0)
    asked: list[object] = []
    ping = type(database._reads.dialect).do_ping

    def told(self: Any, connection: Any) -> bool:
        asked.append(connection)
        return ping(self, connection)

    monkeypatch.setattr(type(database._reads.dialect), "do_ping", told)
    await words(database)
    await words(database)
    assert not asked
    monkeypatch.setattr(dialect, "FRESH_S", 0.0)
    await words(database)
    assert len(asked) == 1


async def test_who_stops_waiting_does_not_stop_a_write_in_the_loop(database: Database) -> None:
    begun = asyncio.Event()

    def job(connection: Connection) -> None:
        begun.set()
        connection.execute(text("SELECT pg_sleep(0.1)"))
        connection.execute(text("INSERT INTO words VALUES ('kept')"))

    waiting = asyncio.ensure_future(database.write(job, alone=True))
    await begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await database.stop()  # waits for it
    engine = create_engine(database.url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT word FROM words")).scalars().all() == ["kept"]
    engine.dispose()


async def test_writes_in_the_loop_run_side_by_side(database: Database) -> None:
    """Each waits for the other to have begun: none would end if they had their turns."""
    begun: list[int] = []

    def job(connection: Connection) -> int:
        begun.append(backend(connection))
        for _ in range(500):
            if len(begun) == 2:
                return len(set(begun))
            connection.execute(select(text("pg_sleep(0.01)")))
        return 0

    assert await asyncio.gather(*(database.write(job, alone=True) for _ in range(2))) == [2, 2]


async def test_a_job_in_the_loop_that_raises_changes_nothing(database: Database) -> None:
    def job(connection: Connection) -> None:
        connection.execute(text("INSERT INTO words VALUES ('never')"))
        raise LookupError("no")

    with pytest.raises(LookupError):
        await database.write(job, alone=True)
    assert await words(database) == []


async def test_two_that_lock_each_other_out_both_end(database: Database) -> None:
    for word in ("a", "b"):
        await write(database, word, alone=True)
    tries: list[str] = []

    def lock(*order: str) -> Callable[[Connection], None]:
        def job(connection: Connection) -> None:
            tries.append(order[0])
            for word in order:
                connection.execute(text("UPDATE words SET word = word WHERE word = :word"), {"word": word})
                connection.execute(select(text("pg_sleep(0.05)")))

        return job

    await asyncio.gather(database.write(lock("a", "b"), alone=True), database.write(lock("b", "a"), alone=True))
    assert len(tries) > 2  # one was undone, and tried again
