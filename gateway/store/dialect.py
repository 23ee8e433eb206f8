"""All that the stores differ in, but for many rows at once (`many.py`): how to connect, how rows are claimed, words.

Everything else is portable SQLAlchemy Core. Nothing above `gateway/store/` asks which store it is.
"""

from __future__ import annotations

import socket
import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    FromClause,
    Select,
    Text,
    cast,
    column,
    create_engine,
    event,
    func,
    literal_column,
    select,
    table,
    text,
)
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

SQLITE_FIXED = ((3, 51, 3), (3, 50, 7), (3, 44, 6))  # without the WAL-reset fault (SQLite, "WAL-reset bug", 2026)


class StoreUnavailable(Exception):
    """The store cannot answer now: full disk, lost connection, locked file. Nothing was changed; try again later."""


def url_of(database: str, sqlite_path: str) -> URL:
    """The address to connect to: the embedded store's file when `database` is empty. Raises `ValueError`."""
    if not database:
        return URL.create("sqlite", database=sqlite_path)
    url = make_url(database.replace("postgres://", "postgresql://", 1))
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def writer_count(url: URL) -> int:
    """How many threads may write at a time: one for the embedded store, which has one writing connection."""
    return 1 if url.get_backend_name() == "sqlite" else 4


def write_engine(url: URL) -> Engine:
    """The engine that writes. On SQLite its one connection is the only one that ever writes or checkpoints."""
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, pool_size=1, max_overflow=0, poolclass=QueuePool, paramstyle="named")
        event.listen(engine, "connect", _prepare_sqlite_writer)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        return engine
    return _over_network(create_engine(url, pool_size=writer_count(url), max_overflow=2))


def waits_in_loop(url: URL) -> bool:
    """Whether a driver waits for the store in the event loop. The embedded store's work is done by ourselves."""
    return url.get_backend_name() != "sqlite"


def loop_engine(url: URL) -> AsyncEngine:
    """The engine of writes in the event loop (`waits_in_loop`)."""
    engine = create_async_engine(url, pool_size=writer_count(url), max_overflow=2)
    _over_network(engine.sync_engine)
    return engine


def read_engine(url: URL, size: int = 4) -> Engine:
    """The engine that reads: on SQLite read-only connections, which neither block the writer nor are blocked."""
    if url.get_backend_name() == "sqlite":
        target = f"file:{url.database}?mode=ro"
        engine = create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(target, uri=True, check_same_thread=False),
            poolclass=QueuePool,
            pool_size=size,
            max_overflow=0,
            paramstyle="named",
        )
        event.listen(engine, "connect", _prepare_sqlite_reader)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        return engine
    return _over_network(create_engine(url, pool_size=size, max_overflow=2, isolation_level="REPEATABLE READ"))


FRESH_S = 1.0


def _over_network(engine: Engine) -> Engine:
    """A connection that was used a moment ago is taken to live; any other is asked first, and all are made anew when it
    is dead. Asking each time is a wait for the server in every transaction."""

    def given_back(_connection: object, record: ConnectionPoolEntry) -> None:
        record.info["used_at"] = time.monotonic()

    def taken(connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
        used_at = record.info.get("used_at")
        if used_at is None or time.monotonic() - used_at < FRESH_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error

    event.listen(engine, "connect", _prepare_postgres)
    event.listen(engine, "checkin", given_back)
    event.listen(engine, "checkout", taken)
    return engine


def _prepare_postgres(connection: Any, _record: object) -> None:
    """Nearly everything is looked up by key: on today's disks that costs hardly more than reading in order does, and
    compiling a statement to machine code costs more than it saves. What a machine that died held is free after 9 s,
    what a process that hangs in a transaction holds after a minute."""
    cursor = connection.cursor()
    for setting in (
        "random_page_cost = 1.1", "jit = off", "tcp_keepalives_idle = 5", "tcp_keepalives_interval = 2",
        "tcp_keepalives_count = 2", "idle_in_transaction_session_timeout = '60s'",
    ):  # fmt: skip
        cursor.execute(f"SET {setting}")
    cursor.close()
    connection.commit()


def _prepare_sqlite_writer(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where we say so
    for pragma, wanted in (
        ("journal_mode = WAL", ("journal_mode", "wal")),
        ("synchronous = FULL", ("synchronous", 2)),
        ("busy_timeout = 5000", ("busy_timeout", 5000)),
        ("foreign_keys = ON", ("foreign_keys", 1)),
        ("temp_store = MEMORY", ("temp_store", 2)),
        ("secure_delete = ON", ("secure_delete", 1)),  # what is removed is overwritten, not only forgotten
        ("cache_size = -65536", ("cache_size", -65536)),  # KiB
        ("wal_autocheckpoint = 4000", ("wal_autocheckpoint", 4000)),  # pages
    ):
        connection.execute(f"PRAGMA {pragma}")
        name, value = wanted
        found = connection.execute(f"PRAGMA {name}").fetchone()[0]
        if found != value:
            raise StoreUnavailable(f"SQLite does not take {pragma}: {name} is {found}")


def _prepare_sqlite_reader(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA busy_timeout = 5000")
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA cache_size = -16384")


def wal_reset_fault() -> str:
    """A sentence when the SQLite in use has the WAL-reset fault, else "". One writing connection keeps clear of it."""
    version = sqlite3.sqlite_version_info
    if version < (3, 7, 0) or version >= SQLITE_FIXED[0]:
        return ""
    if any(version[:2] == fixed[:2] and version >= fixed for fixed in SQLITE_FIXED[1:]):
        return ""
    return f"SQLite {sqlite3.sqlite_version} has the WAL-reset fault; one writing connection keeps clear of it"


def describe(engine: Engine) -> str:
    """The kind and version of the store, for logs and `gateway check`."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            return f"embedded (SQLite {sqlite3.sqlite_version})"
        version = ".".join(map(str, engine.dialect.server_version_info or ()))
        connection.rollback()
        return f"{engine.dialect.name} {version}"


# --- words ---

SEARCH_INDEX = "search_words"
"""What makes words be found quickly: on SQLite an FTS5 table kept by triggers, on PostgreSQL an index."""

_VECTOR = "array_to_tsvector(string_to_array(btrim({}words), ' '))"
_CREATE_SEARCH: dict[str, tuple[str, ...]] = {
    # Words come folded and between spaces: the tokeniser "ascii" takes everything beyond ASCII as a letter. Beginnings
    # of these lengths have lists of their own: the newest entries are read without gathering all.
    "sqlite": (
        "CREATE VIRTUAL TABLE search_words USING fts5(words, content = 'search_entries', content_rowid = 'id', "
        "tokenize = 'ascii', detail = 'none', columnsize = 0, prefix = '2 3 4 5 6')",
        "CREATE TRIGGER search_words_in AFTER INSERT ON search_entries BEGIN "
        "INSERT INTO search_words (rowid, words) VALUES (new.id, new.words); END",
        "CREATE TRIGGER search_words_out AFTER DELETE ON search_entries BEGIN "
        "INSERT INTO search_words (search_words, rowid, words) VALUES ('delete', old.id, old.words); END",
    ),
    "postgresql": (f"CREATE INDEX search_words ON search_entries USING gin ({_VECTOR.format('')})",),
}


PREFIX_MAX = 6  # letters of a beginning the embedded store's index has lists for


def too_long(connection: Connection, word: str) -> bool:
    """Whether `entries_with` looks for a shorter beginning than this one: the caller must hold the words against it."""
    return connection.dialect.name == "sqlite" and word != _beginning(word)


def _beginning(word: str) -> str:
    """What the embedded store looks for in place of a long beginning. Long numbers are rare enough as they are."""
    return word if word.isdigit() else word[:PREFIX_MAX]


def by_row(connection: Connection, column: ColumnElement[str]) -> ColumnElement[str]:
    """The column, to be looked at row by row: the embedded store, which knows no frequencies, would read by its index
    everything that has one of several common values."""
    return column.concat("") if connection.dialect.name == "sqlite" else column


def create_search(connection: Connection) -> None:
    """Make what finds the words of `search_entries`, which must be there."""
    for statement in _CREATE_SEARCH[connection.dialect.name]:
        connection.exec_driver_sql(statement)


def rebuild_search(connection: Connection) -> None:
    """Make the index of words anew from `search_entries`. What was erased leaves no trace in it."""
    again = {
        "sqlite": "INSERT INTO search_words (search_words) VALUES ('rebuild')",
        "postgresql": "REINDEX INDEX search_words",
    }
    connection.exec_driver_sql(again[connection.dialect.name])


MERGED = 1000  # pages of the index of words that are worked over in one go


def settle_words(connection: Connection, *, first: bool) -> bool:
    """Work the words that are gone out of the index, a little at a time; whether there is more to do.

    FTS5 only marks what is deleted until its parts are merged ("The 'merge' Command" of its documentation: once with a
    negative number, then on until less than two rows change). PostgreSQL does it by itself (autovacuum).
    """
    if connection.dialect.name != "sqlite":
        return False
    driver: Any = connection.connection.driver_connection
    before = driver.total_changes
    pages = -MERGED if first else MERGED
    connection.exec_driver_sql("INSERT INTO search_words (search_words, rank) VALUES ('merge', ?)", (pages,))
    return bool(driver.total_changes - before >= 2)


def entries_with(
    connection: Connection, groups: Sequence[Sequence[Sequence[tuple[str, bool]]]]
) -> tuple[FromClause, ColumnElement[int], ColumnElement[bool]]:
    """Entries that have of every group one alternative, of an alternative every word; (word, whether it may go on).

    What to select from, the entry's id in it, and the condition. Words are ours (`gateway.words`).
    """
    if connection.dialect.name == "sqlite":
        index = table(SEARCH_INDEX, column("rowid", BigInteger), column(SEARCH_INDEX, Text))
        short = [[[(_beginning(word) if more else word, more) for word, more in terms] for terms in g] for g in groups]
        asked = _query(short, '"{}"', "*", " AND ", " OR ")
        return index, index.c.rowid, index.c.search_words.match(asked)
    entries = table("search_entries", column("id", BigInteger)).alias("found")
    asked = _query(groups, "'{}'", ":*", " & ", " | ")
    return (
        entries,
        entries.c.id,
        literal_column(_VECTOR.format("found.")).op("@@", is_comparison=True)(cast(asked, TSQUERY)),
    )


def _query(groups: Sequence[Sequence[Sequence[tuple[str, bool]]]], word: str, more: str, both: str, either: str) -> str:
    def one(terms: Sequence[tuple[str, bool]]) -> str:
        return "(" + both.join(word.format(text) + (more if prefix else "") for text, prefix in terms) + ")"

    return both.join("(" + either.join(one(terms) for terms in group) + ")" for group in groups)


def for_claim(connection: Connection, statement: Select[Any]) -> Select[Any]:
    """The statement, passing over rows another process is claiming. With one writer there is nobody to pass over."""
    return statement.with_for_update(skip_locked=True) if connection.dialect.name == "postgresql" else statement


def contended(error: BaseException) -> bool:
    """Whether the store undid a transaction for another one's sake (deadlock): it may be tried again."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in ("40P01", "40001")


def scrub(engine: Engine) -> None:
    """Bring the embedded store's log into its file and empty it: with secure_delete nothing removed is left in either.

    A reader at work may put it off to the next time. PostgreSQL does it by itself, in its own time (autovacuum).
    """
    if engine.dialect.name != "sqlite":
        return
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.close()


PEOPLE = 0x6964656E74697479  # the name of the lock on who is whose, as PostgreSQL wants names: a number


def exclusive(connection: Connection, lock: int) -> None:
    """Nobody else goes on past here with the same lock before the transaction ends. With one writer that is so anyway.

    Take it first in a transaction: who holds rows already and then waits here may be waited for in turn.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(lock)))


def identity(connection: Connection) -> str:
    """Which store this is, wherever and as whomever it is reached: the name of what is shared beside it."""
    if connection.dialect.name != "postgresql":
        file = connection.exec_driver_sql("PRAGMA database_list").one()[2]
        return f"{socket.gethostname()}:{file}"
    cluster = ""
    if connection.execute(text("SELECT has_function_privilege('pg_control_system()', 'execute')")).scalar():
        cluster = str(connection.execute(text("SELECT system_identifier FROM pg_control_system()")).scalar())
    database = connection.execute(text("SELECT current_database() || '.' || current_schema()")).scalar()
    return f"{cluster}:{database}"


def cause(error: BaseException) -> str:
    """What the store says is wrong, without its words, which may hold an address: "OperationalError SQLITE_FULL"."""
    told = getattr(error, "orig", None)
    code = getattr(told, "sqlite_errorname", None) or getattr(told, "sqlstate", None) or ""
    return f"{type(error).__name__} {code}".strip()


def unavailable(error: BaseException) -> bool:
    """Whether the error is the store's own trouble and no fault of the statement."""
    if isinstance(error, OperationalError) and (getattr(error.orig, "sqlstate", None) or "").startswith("54"):
        return False  # a limit of the program's is exceeded: it will be the next time, too
    if isinstance(error, OperationalError | InterfaceError | StoreUnavailable | OSError):
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated
