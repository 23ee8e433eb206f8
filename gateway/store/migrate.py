"""Bringing a store to the newest schema, step by step.

The migration library is loaded only when there is a step to take: a start on a current store does without it.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, column, inspect, select, table
from sqlalchemy.exc import DBAPIError

from gateway.store import dialect

_SCRIPTS = Path(__file__).parent / "migrations"
_SCHEMA = 0x736368656D61  # the name of the lock on the schema
_VERSION = table("alembic_version", column("version_num"))


class StoreTooNew(Exception):
    """The store was made by a newer version of the gateway."""


def versions() -> list[str]:
    """All schema versions there are steps for, the newest last: each file is named by its own."""
    return sorted(path.stem.partition("_")[0] for path in (_SCRIPTS / "versions").glob("[0-9]*.py"))


def current(engine: Engine) -> str:
    """The schema version of the store; "" for an empty one."""
    with engine.connect() as connection:
        return _version(connection)


def _version(connection: Connection) -> str:
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.execute(select(_VERSION.c.version_num)).scalar() or "")


def trouble(error: BaseException) -> str:
    """Why a store cannot be opened, in one line: the driver's own words, which quote no password."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(str(cause).split())[:500] or type(error).__name__


def upgrade(engine: Engine) -> None:
    """Bring the store to the newest version. One newer than this program is left alone. Raises `StoreTooNew`."""
    found, known = current(engine), versions()
    if found == known[-1]:
        return
    if found and found not in known:
        raise StoreTooNew(f"the store has schema {found}, which this version does not know")
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    with engine.begin() as connection:
        dialect.exclusive(connection, _SCHEMA)  # processes that start together on one database go one after the other
        if _version(connection) == found:  # else another process has done it meanwhile
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
