"""Contacts out of a file into the store: row by row, each whole or not at all, each with its outcome."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, insert, select

from config.settings import Settings
from gateway.core import Core
from gateway.identity import LINKING
from gateway.ids import micros, new_id
from gateway.store import attributes as definitions
from gateway.store import people_views as views
from gateway.store.editing import Editing, edit_contact
from gateway.store.people_errors import PeopleError
from gateway.store.schema import contact_values, contacts
from gateway.tickets import Actor
from gateway.transfer.columns import Column, ColumnError, column_of
from gateway.transfer.exporting import Format
from gateway.transfer.loading import contacts_of
from gateway.transfer.person import Said, differences, field_of, match_keys, of_cells, of_object
from gateway.transfer.reading import BrokenFile, Row, RowProblem, csv_rows, json_rows, opened
from gateway.vip import vip_policy
from gateway.web.types import ImportedRow, ImportReport

Mode = Literal["each", "all"]
ROWS_MAX = 100_000
ALL_MAX = 2_000  # rows of one transaction
BATCH = 50  # rows of one transaction of many


class _Undo(Exception):
    """What was written is to be undone; `outcomes` tells what it was."""

    def __init__(self, outcomes: list[ImportedRow]) -> None:
        super().__init__("undone")
        self.outcomes = outcomes


@dataclass(slots=True)
class _File:
    """A file being imported. `seen`: who stood in which row, so that nobody stands in two."""

    form: Format
    columns: Sequence[Column]
    catalogue: Mapping[str, Mapping[str, Any]]
    names: Sequence[str]  # attributes people are found by
    settings: Settings
    actor: Actor
    now: int
    seen: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def region(self) -> str:
        return self.settings.gateway.region


async def run(core: Core, path: Path, form: Format, *, mode: Mode, dry_run: bool, actor: Actor) -> ImportReport:
    """Import a file. Raises `BrokenFile` when it cannot be used as a whole; then nothing was written.

    Mode "each": every row for itself. Mode "all": nothing at all unless every row can be used. A row whose `id` is
    given is that contact; another is who has its value of a matching or unique attribute; else it is a new contact.
    """
    catalogue = await core.database.read(lambda c: definitions.catalogue(c, core.settings.crm))
    count, columns = await asyncio.to_thread(_inspect, path, form, catalogue)
    if mode == "all" and count > ALL_MAX:
        raise BrokenFile("file", f'{count} rows; mode "all" takes {ALL_MAX} at most, mode "each" more')
    unique = [name for name, entry in catalogue.items() if entry["unique_value"]]
    names = list(dict.fromkeys([*core.settings.gateway.matching_attribute, *unique]))
    file = _File(form, columns, catalogue, names, core.settings, actor, micros(core.clock()))
    if mode == "each":
        outcomes = await _batches(core, path, file, BATCH, dry_run=dry_run)
    else:
        outcomes = await _batches(core, path, file, ALL_MAX, dry_run=True)
        if not dry_run and not any(one.outcome == "refused" for one in outcomes):
            file.seen.clear()
            outcomes = await _batches(core, path, file, ALL_MAX, dry_run=False, whole=True)
    refused = sum(one.outcome == "refused" for one in outcomes)
    count_of = {name: sum(one.outcome == name for one in outcomes) for name in ("created", "updated", "unchanged")}
    applied = not dry_run and not (mode == "all" and refused)
    if not applied:
        for one in outcomes:
            one.contact_id = "" if one.outcome == "created" else one.contact_id
    return ImportReport(
        dry_run=dry_run, mode=mode, applied=applied, rows=len(outcomes), refused=refused, items=outcomes, **count_of
    )


def _rows(path: Path, form: Format) -> Iterator[Row]:
    with opened(path) as file:
        yield from csv_rows(file) if form == "csv" else json_rows(file)


def _inspect(path: Path, form: Format, catalogue: Mapping[str, Any]) -> tuple[int, list[Column]]:
    """How many rows, under which columns. Reads the whole file once, so that a broken one is known before any row."""
    count, columns = 0, list[Column]()
    for row in _rows(path, form):
        if form == "csv" and row.number == 1:
            columns = _columns(row.values[""], catalogue)
            continue
        count += 1
        if count > ROWS_MAX:
            raise BrokenFile("file", f"more than {ROWS_MAX} rows; split it")
    return count, columns


def _columns(header: Sequence[str], catalogue: Mapping[str, Any]) -> list[Column]:
    found: list[Column] = []
    for name in header:
        try:
            column = column_of(name, catalogue)
        except ColumnError as error:
            raise BrokenFile(error.column[:100], f"row 1: {error.reason}") from None
        if any((known.field, known.attribute) == (column.field, column.attribute) for known in found):
            raise BrokenFile(name[:100], "row 1: the column stands twice")
        found.append(column)
    return found


async def _batches(
    core: Core, path: Path, file: _File, size: int, *, dry_run: bool, whole: bool = False
) -> list[ImportedRow]:
    """The outcomes of all rows. A dry run does the same work and undoes it."""
    outcomes: list[ImportedRow] = []
    rows = _rows(path, file.form)
    if file.form == "csv":
        next(rows)
    while batch := await asyncio.to_thread(lambda: list(itertools.islice(rows, size))):

        def job(connection: Connection, batch: Sequence[Row] = batch) -> list[ImportedRow]:
            done = [_outcome(connection, file, row) for row in batch]
            if dry_run or (whole and any(one.outcome == "refused" for one in done)):
                raise _Undo(done)
            return done

        try:
            outcomes += await core.database.bulk(job)
        except _Undo as undone:
            outcomes += undone.outcomes
    return outcomes


def _outcome(connection: Connection, file: _File, row: Row) -> ImportedRow:
    """One row: all of it, or nothing and why."""
    try:
        if row.problem is not None:
            raise row.problem
        with connection.begin_nested():
            outcome, contact_id = _apply(connection, file, row)
    except RowProblem as problem:
        return ImportedRow(
            row=row.number, outcome="refused", field=problem.field, code=problem.code, reason=problem.reason
        )
    except PeopleError as error:
        return ImportedRow(
            row=row.number, outcome="refused", field=field_of(error.field), code=error.code, reason=error.detail
        )
    return ImportedRow(row=row.number, outcome=outcome, contact_id=contact_id)


def _apply(connection: Connection, file: _File, row: Row) -> tuple[Literal["created", "updated", "unchanged"], str]:
    said = of_cells(row.values, file.columns) if file.form == "csv" else of_object(row.values)
    if not said.id and not said.fields and not said.attributes:
        raise RowProblem("broken_row", "", "it says nothing")
    keys = match_keys(said, file.names, file.region)
    known = _known(connection, file, said, keys)
    changes = differences(said, known, file.catalogue, file.region)
    contact_id = known.id if known is not None else ""
    _once(file, row.number, [*keys, *([("id", contact_id)] if contact_id else [])])
    if known is not None and not changes:
        return "unchanged", contact_id
    if known is None:
        contact_id = new_id()
        made = {"id": contact_id, "created_at": file.now, "last_seen_at": file.now}
        connection.execute(insert(contacts), [made])
    edit_contact(
        connection, contact_id, changes, file.actor, file.now, matching=file.settings.gateway.matching_attribute,
        region=file.region, editing=Editing("import", crms=file.settings.crm, vip=vip_policy(file.settings)),
    )  # fmt: skip
    return ("created" if known is None else "updated"), contact_id


def _known(connection: Connection, file: _File, said: Said, keys: Sequence[tuple[str, str]]) -> Any:
    """The contact a row is about, or None. Raises `RowProblem` where that cannot be told."""
    if said.id:
        found = views.contact(connection, said.id, None)
        if found is None:
            raise RowProblem("unknown_contact", "id", "there is no contact with this id")
        return contacts_of(connection, [found], None, file.settings.crm)[0]
    ids: dict[str, str] = {}
    for name, value in keys:
        having = select(contact_values.c.contact_id).where(
            contact_values.c.attribute == name, contact_values.c.value == value, contact_values.c.evidence.in_(LINKING)
        )
        ids |= dict.fromkeys(connection.execute(having).scalars(), name)
    if len(ids) > 1:
        names = ", ".join(dict.fromkeys(ids.values()))
        raise RowProblem("ambiguous", names, f"{len(ids)} contacts have these values")
    row = views.contact(connection, next(iter(ids)), None) if ids else None
    return contacts_of(connection, [row], None, file.settings.crm)[0] if row is not None else None


def _once(file: _File, number: int, keys: Sequence[tuple[str, str]]) -> None:
    """Raise `RowProblem` for a person who stood in the file before."""
    for key in keys:
        if (first := file.seen.get(key)) is not None:
            raise RowProblem("duplicate_row", key[0], f"the same person as in row {first}")
    file.seen.update(dict.fromkeys(keys, number))
