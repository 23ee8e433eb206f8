"""Filing kept deliveries: normalise, dedupe, identity, ticket, message. With few and with many contacts in the store.

The raw side inserts the rows the gateway had added by sqlite3's executemany into a copy of the same store, with the
same indexes, one commit for as many messages: what the disk and the engine cost without any thinking.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from gateway.core import Core
from gateway.intake import IntakeWorker
from gateway.intake.worker import BATCH
from gateway.store.schema import metadata
from gateway.store.search_index import BITS
from tests.bench.figures import Plan, Report, Row, Side, play, ratios
from tests.bench.world import STORE, count, keep_all, make_core, message_body

SEEDS = 1000  # contacts that are filed for real; more are copied from them
NEW_IN_A_HUNDRED = 9  # messages from people who never wrote before
TABLES = [table.name for table in metadata.sorted_tables]
_NAMES = {"value", "external_id", "dedupe_key", "ref", "key"}  # columns that hold a platform's name or one of our ids
_COLUMNS = {
    table.name: [
        (column.name, column.name in _NAMES or getattr(column.type, "length", None) == 32) for column in table.columns
    ]
    for table in metadata.sorted_tables
}


@dataclass(slots=True)
class Size:
    """A store with this many contacts, and a copy of it for the raw side."""

    name: str
    contacts: int
    directory: Path
    messages: int
    matching: tuple[str, ...] = ("phone",)
    core: Core = field(init=False)
    worker: IntakeWorker = field(init=False)
    number: int = 0  # of the last message
    newest: int = 0  # of the contacts
    raw_per_second: list[float] = field(default_factory=list)
    per_cpu: list[float] = field(default_factory=list)  # messages filed in a second of one core
    checked: bool = True

    async def fill(self) -> None:
        """File `SEEDS` customers, copy them until there are `contacts`, and make the raw side's copy."""
        self.directory.mkdir(parents=True)
        self.core = make_core(self.directory, matching=self.matching)
        await keep_all(self.core, [message_body(number, number) for number in range(SEEDS)])
        await IntakeWorker(self.core).drain()
        await self.core.database.stop()
        await asyncio.to_thread(self._multiply)
        self.number = self.newest = self.contacts
        self.core = make_core(self.directory, matching=self.matching)
        self.worker = IntakeWorker(self.core)

    def _multiply(self) -> None:
        connection = sqlite3.connect(self.directory / STORE, isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -1048576"):  # nothing is lost but time
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        last = {name: _last(connection, name) for name in TABLES}
        for copy in range(1, self.contacts // SEEDS):
            for name in TABLES:
                connection.execute(_copying(name), {"copy": copy, "last": last[name], "shift": copy * SEEDS})
        connection.execute("UPDATE counters SET value = ? WHERE name IN ('ticket', 'contact')", (self.contacts,))
        connection.execute("COMMIT")
        connection.close()
        shutil.copyfile(self.directory / STORE, self.directory / "raw.db")

    async def measure(self) -> float:
        """Messages filed per second; the same rows are then inserted raw."""
        bodies = []
        for place in range(self.messages):
            self.number += 1
            if place % 100 < NEW_IN_A_HUNDRED:
                self.newest += 1
            known = self.number * 7919 % self.contacts
            bodies.append(message_body(self.newest if place % 100 < NEW_IN_A_HUNDRED else known, self.number))
        before = {name: self._ask(_last, name) for name in TABLES}
        await keep_all(self.core, bodies)
        started, spent = time.perf_counter(), time.process_time()
        await self.worker.drain()
        rate = self.messages / (time.perf_counter() - started)
        self.per_cpu.append(self.messages / (time.process_time() - spent))
        added = count(self.directory, f"messages WHERE rowid > {before['messages']}")
        self.checked = self.checked and added == self.messages
        self.raw_per_second.append(await asyncio.to_thread(self._raw, before))
        return rate

    def _raw(self, before: dict[str, int]) -> float:
        source = sqlite3.connect(f"file:{self.directory / STORE}?mode=ro", uri=True)
        rows = {
            name: source.execute(f"SELECT * FROM {name} WHERE rowid > ?", (before[name],)).fetchall()
            for name in TABLES
            if name != "deliveries"  # kept before the clock started
        }
        source.close()
        target = sqlite3.connect(self.directory / "raw.db", isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -65536", "wal_autocheckpoint = 4000"):
            target.execute(f"PRAGMA {pragma}")
        batches = max(1, self.messages // BATCH)
        started = time.perf_counter()
        for batch in range(batches):
            target.execute("BEGIN IMMEDIATE")
            for name, found in rows.items():
                part = found[len(found) * batch // batches : len(found) * (batch + 1) // batches]
                if part:
                    places = ",".join("?" * len(part[0]))
                    target.executemany(f"INSERT OR REPLACE INTO {name} VALUES ({places})", part)  # words are made anew
            target.execute("COMMIT")
        rate = self.messages / (time.perf_counter() - started)
        target.close()
        return rate

    def _ask(self, question: object, name: str) -> int:
        connection = sqlite3.connect(f"file:{self.directory / STORE}?mode=ro", uri=True)
        try:
            return _last(connection, name)
        finally:
            connection.close()


def _last(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT coalesce(max(rowid), 0) FROM {table}").fetchone()[0])


def _copying(table: str) -> str:
    """Copy the seed rows once more: ids, phone numbers, user ids, message ids and ticket numbers of their own."""
    columns = [(name, _copied(name) if renamed else f'"{name}"') for name, renamed in _COLUMNS[table]]
    names, values = ", ".join(f'"{name}"' for name, _ in columns), ", ".join(value for _, value in columns)
    if table == "tickets":
        values = values.replace(', "number",', ', "number" + :shift,')
    if table == "search_entries":
        values = values.replace('"id",', f'"id" + (:shift << {BITS}),', 1)
    skip = "0" if table in ("counters", "attributes", "deliveries") else "1"
    return f"INSERT INTO {table} ({names}) SELECT {values} FROM {table} WHERE {skip} AND rowid <= :last"


def _copied(column: str) -> str:
    name = f'"{column}"'
    an_id = f"length({name}) = 32 AND {name} NOT GLOB '*[^0-9a-f]*'"
    other_id = f"substr({name}, 1, 16) || printf('f%03x', :copy) || substr({name}, 21)"  # no id of ours has an f there
    other_text = name
    for mark in ("49155", "DE.00000", "wamid.00"):
        other_text = f"replace({other_text}, '{mark}0000', printf('{mark}%04d', :copy))"
    return f"CASE WHEN {an_id} THEN {other_id} ELSE {other_text} END"


async def run(plan: Plan, directory: Path) -> Report:
    """Two stores side by side; each round files a few batches in both."""
    logging.getLogger("gateway").setLevel(logging.CRITICAL)
    many = 10_000 if plan.quick else 100_000
    messages = 1000 if plan.quick else 2000
    few, much = Size("few", SEEDS, directory / "few", messages), Size("many", many, directory / "many", messages)
    unmatched = Size("unmatched", SEEDS, directory / "unmatched", messages, matching=())
    sizes = (few, much, unmatched)
    started = time.monotonic()
    for size in sizes:
        await size.fill()
    filled = time.monotonic() - started
    sides: dict[str, Side] = {size.name: size.measure for size in sizes}
    try:
        found = await play(Plan(min(plan.rounds, 4), plan.quick, plan.order), sides)
    finally:
        for size in sizes:
            await size.core.database.stop()
    report = Report(f"intake: kept deliveries to tickets, {messages} messages a round, {NEW_IN_A_HUNDRED} % new people")
    report.rows = [
        Row(f"filed at {SEEDS:,} contacts", "a second of one core", few.per_cpu, ">= 3,000", unit="/CPU s"),
        Row(f"filed at {many:,} contacts", "a second of one core", much.per_cpu, unit="/CPU s"),
        Row(f"filed at {many:,}, by CPU", f"filed at {SEEDS:,}", ratios(much.per_cpu, few.per_cpu), ">= 0.6"),
        Row(f"filed at {SEEDS:,} contacts", "the clock", found["few"], unit="/s"),
        Row(f"filed at {many:,} contacts", "the clock", found["many"], unit="/s"),
        Row("matching on", "matching off", ratios(found["few"], found["unmatched"]), ">= 0.8"),
        Row("matching on, by CPU", "matching off", ratios(few.per_cpu, unmatched.per_cpu), ">= 0.8"),
        Row(f"filed at {SEEDS:,}", "raw inserts of its rows", ratios(found["few"], few.raw_per_second)),
        Row(f"filed at {many:,}", "raw inserts of its rows", ratios(found["many"], much.raw_per_second)),
        Row(f"raw at {many:,}", f"raw at {SEEDS:,}", ratios(much.raw_per_second, few.raw_per_second)),
    ]
    checked = "every message stood in its ticket" if all(size.checked for size in sizes) else "MESSAGES ARE MISSING"
    report.notes = [f"{checked}; {median(few.raw_per_second):,.0f} messages a second raw; filling took {filled:.0f} s"]
    return report
