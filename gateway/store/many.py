"""Statements for many rows at once: insert, insert-or-ignore, upsert, update; and columns held against many values.

Each is written out once and then handed to the driver as it is, in the way the store at hand takes many rows best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    ARRAY,
    BindParameter,
    Boolean,
    ColumnElement,
    Connection,
    CursorResult,
    Dialect,
    LargeBinary,
    Row,
    Table,
    Text,
    TypeDecorator,
    any_,
    bindparam,
    cast,
    column,
    func,
    literal,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import replacement_traverse

_Rows = Sequence[dict[str, Any]]
Work = tuple[tuple[str, ...], Callable[[], Any], _Rows]
"""A statement's name, how to make it, and its rows: what `run_many` takes."""

_INSERTS: dict[str, Callable[[Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def insert_many(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows, all with the same columns."""
    if rows:
        run_many(connection, *inserting(table, rows))


def inserting(table: Table, rows: Sequence[dict[str, Any]]) -> Work:
    """Rows to insert, all with the same columns."""
    return ("insert", table.name, *(rows[0] if rows else ())), lambda: table.insert(), rows


def insert_ignore(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> int:
    """Insert rows, and leave those whose unique key is taken as they are; how many were inserted. All rows must have
    the same columns."""
    return run_many(connection, *ignoring(connection, table, rows)) if rows else 0


def ignoring(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> Work:
    """Rows to insert where their unique key is free, all with the same columns."""
    insert = _INSERTS[connection.dialect.name]
    return ("ignore", table.name, *(rows[0] if rows else ())), lambda: insert(table).on_conflict_do_nothing(), rows


def insert_together(
    connection: Connection, rows: Mapping[Table, _Rows], ignoring: Mapping[Table, _Rows] | None = None
) -> int:
    """Insert `rows`, by table, and of `ignoring` those whose unique key is free; how many of its last table those are.

    No table stands in both. PostgreSQL gets all of it in one go.
    """
    plain = {table: found for table, found in rows.items() if found}
    loose = {table: found for table, found in (ignoring or {}).items() if found}
    if connection.dialect.name != "postgresql":
        for table, found in plain.items():
            insert_many(connection, table, found)
        return [0, *(insert_ignore(connection, table, found) for table, found in loose.items())][-1]
    if not (every := plain | loose):
        return 0
    key = (str(len(plain)), *(name for table, found in every.items() for name in ("", table.name, *found[0])))
    sql = _together.get(key)
    if sql is None:
        inserts = {table: _from_json(table, list(found[0])) for table, found in every.items()}
        sql = _together[key] = _in_one(
            connection.dialect,
            [insert.on_conflict_do_nothing() if table in loose else insert for table, insert in inserts.items()],
        )
    given = {table.name: msgspec.json.encode(found).decode() for table, found in every.items()}
    inserted = connection.exec_driver_sql(sql, given).rowcount
    return inserted if loose else 0


_together: dict[tuple[str, ...], str] = {}


def _from_json(table: Table, names: list[str]) -> postgresql.Insert:
    given = _given(table.name, (column(name, table.c[name].type) for name in names))
    return postgresql.insert(table).from_select(names, select(*given.c))


def _in_one(dialect: Dialect, statements: Sequence[Any]) -> str:
    """One statement: the last insert or update, with the others before it."""
    *others, last = statements
    return str(last.add_cte(*(one.cte(f"in_{one.table.name}") for one in others)).compile(dialect=dialect))


def _given(bind: str, columns: Iterable[Any]) -> Any:
    """Rows that come as one JSON value, as a table."""
    given = func.json_to_recordset(cast(bindparam(bind, type_=Text), postgresql.JSON)).table_valued(*columns)
    return given.render_derived(name="given", with_types=True)


_compiled: dict[tuple[str, ...], tuple[str, bool]] = {}


def run_many(
    connection: Connection, name: tuple[str, ...], make: Callable[[], Any], rows: Sequence[dict[str, Any]]
) -> int:
    """Run one insert or update for many rows, written out once under `name` and then handed to the driver as it is;
    how many rows are there now or have changed.

    PostgreSQL gets all rows as one value and runs the statement once: a third of the work on both ends. Where two rows
    are for the same one, name it once. The embedded store's driver runs it row by row. Values must be what a driver
    takes (texts, numbers, bytes, None).
    """
    key = (connection.dialect.name, *name)
    found = _compiled.get(key)
    if found is None:
        found = _compiled[key] = _written_out(connection.dialect, make(), list(rows[0]))
    sql, whole = found
    given = {"rows": msgspec.json.encode(rows).decode()} if whole else list(rows)
    return connection.exec_driver_sql(sql, given).rowcount


def run_together(connection: Connection, *works: Work) -> None:
    """Run several inserts and updates, each of another table and none in need of what another writes. Those without
    rows are left out. PostgreSQL gets all of them in one go, and no values that are bytes."""
    works = tuple(work for work in works if work[2])
    if connection.dialect.name != "postgresql" or len(works) < 2:
        for work in works:
            run_many(connection, *work)
        return
    _run_in_one(connection, works, (), None, {})


def run_before(
    connection: Connection, works: Sequence[Work], name: str, last: Any, values: Mapping[str, Sequence[str]]
) -> Sequence[Row[Any]]:
    """As `run_together`, and after them the update `last`, made once, with lists of texts bound as `among_bound` wants
    them; the rows it returns."""
    if connection.dialect.name != "postgresql":
        run_together(connection, *works)
        return connection.execute(last, values).all()
    works = tuple(work for work in works if work[2])
    given = {bind: _array(names) for bind, names in values.items()}
    return _run_in_one(connection, works, (name,), last, given).all()


def _run_in_one(
    connection: Connection, works: Sequence[Work], name: tuple[str, ...], last: Any, given: Mapping[str, str]
) -> CursorResult[Any]:
    key = (*name, *(word for work_name, _, _ in works for word in ("", *work_name)))
    sql = _together.get(key)
    if sql is None:
        wholes = [
            _whole(make(), connection.dialect, list(rows[0]), f"rows_{n}") for n, (_, make, rows) in enumerate(works)
        ]
        sql = _together[key] = _in_one(connection.dialect, [*wholes, last] if last is not None else wholes)
    rows_of = {f"rows_{n}": msgspec.json.encode(rows).decode() for n, (_, _, rows) in enumerate(works)}
    return connection.exec_driver_sql(sql, {**rows_of, **given})


def _written_out(dialect: Dialect, statement: Any, names: list[str]) -> tuple[str, bool]:
    """The statement's text for these names, and whether it takes all rows as one JSON value."""
    types = _types(statement, dialect, names)
    if dialect.name != "postgresql" or any(isinstance(type_, LargeBinary) for type_ in types.values()):
        return str(statement.compile(dialect=dialect, column_keys=names)), False
    return str(_whole(statement, dialect, names, "rows").compile(dialect=dialect)), True


def _types(statement: Any, dialect: Dialect, names: list[str]) -> dict[str, Any]:
    compiled = statement.compile(dialect=dialect, column_keys=names)
    types = {bind: compiled.binds[bind].type for bind in compiled.params}
    if unset := types.keys() - names:
        raise TypeError(f"the statement binds {', '.join(sorted(unset))}, which the rows do not have")
    return types


def _whole(statement: Any, dialect: Dialect, names: list[str], bind: str) -> Any:
    """The statement for all rows at once, which come as the JSON value `bind`."""
    types = _types(statement, dialect, names)
    given = _given(bind, (column(name, type_) for name, type_ in types.items()))
    if statement.is_insert:
        return statement.from_select(list(types), select(*given.c))

    def of_row(element: Any, **_: Any) -> Any:
        return given.c[element.key] if isinstance(element, BindParameter) else None

    return replacement_traverse(statement, {}, of_row)


def upsert(
    connection: Connection, table: Table, rows: Sequence[dict[str, Any]], keys: Sequence[str], changed: Sequence[str]
) -> None:
    """Insert rows; where `keys` are taken, set the columns `changed` to the new values."""
    if rows:
        statement = _INSERTS[connection.dialect.name](table)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[table.c[key] for key in keys],
                set_={name: statement.excluded[name] for name in changed},
            ),
            rows,
        )


def upserting(
    connection: Connection, table: Table, rows: Sequence[dict[str, Any]], keys: Sequence[str], changed: Sequence[str]
) -> Work:
    """Rows to insert; where `keys` are taken, the columns `changed` get the new values."""

    def make() -> Any:
        statement = _INSERTS[connection.dialect.name](table)
        return statement.on_conflict_do_update(
            index_elements=[table.c[key] for key in keys], set_={name: statement.excluded[name] for name in changed}
        )

    return ("upsert", table.name, *keys, "", *changed), make, rows


def among(connection: Connection, column: ColumnElement[str], values: Iterable[str]) -> ColumnElement[bool]:
    """Whether a text column has one of the values. They travel as one parameter, however many they are: the statement
    stays the same, is compiled once, and no limit on parameters is met."""
    names = list(values)
    if connection.dialect.name == "sqlite":
        return column.in_(select(func.json_each(msgspec.json.encode(names).decode()).table_valued("value").c.value))
    return column == any_(literal(names, ARRAY(Text)))


class _Names(TypeDecorator[Sequence[str]]):
    """Many texts as one value: an array in PostgreSQL's own notation, elsewhere a JSON list."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        names = list(value)
        return _array(names) if dialect.name == "postgresql" else msgspec.json.encode(names).decode()


def _array(names: Sequence[str]) -> str:
    joined = '","'.join(names)
    if "\\" in joined or joined.count('"') != 2 * max(len(names) - 1, 0):
        joined = '","'.join(name.replace("\\", "\\\\").replace('"', '\\"') for name in names)
    return f'{{"{joined}"}}' if names else "{}"


class _Among(FunctionElement[bool]):
    """See `among_bound`."""

    type = Boolean()
    inherit_cache = True

    def self_group(self, against: Any = None) -> _Among:
        """As it is: with `= 1` behind it, as a function's result gets, no index would be used."""
        return self


@compiles(_Among)
def _among_in_json(element: _Among, compiler: Any, **more: Any) -> str:
    column, names = (compiler.process(clause, **more) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({names}))"  # noqa: S608 - both are compiled expressions


@compiles(_Among, "postgresql")
def _among_in_array(element: _Among, compiler: Any, **more: Any) -> str:
    column, names = (compiler.process(clause, **more) for clause in element.clauses)
    return f"{column} = ANY (CAST({names} AS TEXT[]))"


def among_bound(column: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """As `among`, for a statement that is made once: its values are bound under `name` when it runs."""
    return _Among(column, bindparam(name, type_=_Names()))
