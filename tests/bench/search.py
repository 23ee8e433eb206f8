"""Search and views with many people and messages in the embedded store: how long the slowest one in twenty takes.

The store is filled by bulk statements with what the gateway would have written: contacts with a name, a phone number
and a city, one ticket each, five messages on it in four languages. Most tickets are done, one in ten has somebody.
Beside each figure stands what the processor was busy for: the machine may have other work.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from gateway import words
from gateway.conditions import Condition, Conditions, Vocabulary, built_in, check
from gateway.ids import micros, system_clock
from gateway.store import dialect, view_query
from gateway.store.engine import Database
from gateway.store.people_views import ContactFilter, contacts_found
from gateway.store.schema import metadata
from gateway.store.search_index import BITS, OWN, PEOPLE
from gateway.store.views import TicketFilter, tickets_found
from tests.bench.figures import Plan, Report, Row
from tests.bench.world import STORE

MESSAGES_EACH = 5
TARGET_MS = 50.0
PAGE = 50
CITIES = ("Köln", "Paris", "東京", "Lisboa", "Wien", "Oslo", "Praha")
NAMES = ("Ann", "Bob", "Carla", "Deniz", "Emil", "Fatima", "花子", "Hugo", "Ines", "Jan")
SAID = (
    "Where is my parcel? It was due on Monday.",
    "Hello, the invoice {n} is wrong, please look at it.",
    "荷物はまだ届いていません。番号は{n}です。",
    "Können Sie mir bitte sagen, wann es kommt?",
    "Thank you, that helps. I will wait until tomorrow.",
    "我想退货，订单号是{n}。",
    "The blue one is broken, may I send it back?",
)
RARE = "hippopotamus"  # in one message of ten thousand


def _phone(number: int) -> str:
    return f"49151{number:08d}"


def _id(kind: str, number: int) -> str:
    return f"{number:012x}7{kind}000000000000000000"[:32].ljust(32, "0")


def _text(number: int, place: int) -> str:
    said = SAID[(number * 3 + place) % len(SAID)].format(n=number * 7 + place)
    return f"{said} {RARE}" if (number * MESSAGES_EACH + place) % 10_000 == 77 else said


_STATUS = ("new", "open", "pending", "solved", "closed", "solved", "closed", "closed", "open", "solved")


def fill(directory: Path, contacts: int, now: int) -> None:
    """Make the store."""
    engine = dialect.write_engine(dialect.url_of("", str(directory / STORE)))
    metadata.create_all(engine)
    engine.dispose()
    connection = sqlite3.connect(directory / STORE, isolation_level=None)
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -1048576"):
        connection.execute(f"PRAGMA {pragma}")
    for trigger in ("search_words_in", "search_words_out"):
        connection.execute(f"DROP TRIGGER {trigger}")
    connection.execute("BEGIN")
    numbers = range(1, contacts + 1)
    first = now - contacts * 60_000_000
    _add(connection, "contacts", "id, name, created_at, last_seen_at", (
        (_id("1", n), f"{NAMES[n % 10]} {n}", first + n, first + n) for n in numbers))  # fmt: skip
    _add(connection, "identities", "id, contact_id, channel, account, external_id, name, created_at", (
        (_id("2", n), _id("1", n), "whatsapp", "wa", _phone(n), f"{NAMES[n % 10]} {n}", first + n)
        for n in numbers
    ))  # fmt: skip
    _add(
        connection, "tickets",
        "id, number, conversation_id, contact_id, identity_id, channel, account, subject, status, priority, via, "
        "assignee, tags, created_at, updated_at",
        (
            (_id("3", n), n, _id("4", n), _id("1", n), _id("2", n), "whatsapp", "wa", _text(n, 0)[:80], _STATUS[n % 10],
             "normal", "whatsapp", "mia" if n % 10 == 1 else "", '["whatsapp","messaging_support"]',
             first + n * 60_000_000, first + n * 60_000_000)
            for n in numbers
        ),
    )  # fmt: skip
    _add(connection, "ticket_tags", "ticket_id, tag", (
        (_id("3", n), tag) for n in numbers for tag in ("messaging_support", "whatsapp")))  # fmt: skip
    _add(
        connection, "messages",
        "id, ticket_id, conversation_id, contact_id, identity_id, direction, channel, account, kind, text, created_at",
        (
            (_id(str(5 + place), n), _id("3", n), _id("4", n), _id("1", n), _id("2", n), "inbound", "whatsapp", "wa",
             "text", _text(n, place), first + n * 60_000_000)
            for n in numbers for place in range(MESSAGES_EACH)
        ),
    )  # fmt: skip
    _add(connection, "search_entries", "id, ref, account, words", _entries(contacts))
    connection.execute("INSERT INTO search_words (search_words) VALUES ('rebuild')")
    connection.execute("COMMIT")
    connection.close()


def _entries(contacts: int) -> Iterator[tuple[int, str, str, str]]:
    for n in range(1, contacts + 1):
        person = (f"{NAMES[n % 10]} {n}", _phone(n), CITIES[n % 7])
        said = words.indexed((_text(n, 0)[:80], *person, "whatsapp", "messaging_support"))
        yield n << BITS, _id("3", n), "wa", f" {words.NUMBER_MARK}{n} {n}{said}"
        for place in range(MESSAGES_EACH):
            yield (n << BITS) + OWN + place, _id(str(5 + place), n), "wa", _indexed(_text(n, place))
    for n in range(1, contacts + 1):
        yield PEOPLE + (n << BITS), _id("1", n), "", words.indexed((f"{NAMES[n % 10]} {n}",))
        yield PEOPLE + (n << BITS) + 1, _id("1", n), "wa", words.indexed((_phone(n), CITIES[n % 7]))


@functools.lru_cache
def _indexed(text: str) -> str:
    return words.indexed((text,))


def _add(connection: sqlite3.Connection, table: str, columns: str, rows: Iterator[tuple[Any, ...]]) -> None:
    places = ",".join("?" * len(columns.split(",")))
    connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({places})", rows)  # names of ours


def questions(contacts: int, now: int) -> dict[str, Callable[[Connection], int]]:
    """What is asked; each answers how much it found."""
    known = Vocabulary(accounts=("wa",), channels=("whatsapp",))
    viewer = view_query.Viewer("mia", (), None, frozenset({"whatsapp"}), now)

    def tickets(text: str, before: int | None = None, **more: Any) -> Callable[[Connection], int]:
        wanted = TicketFilter(text=text, **more)
        return lambda connection: len(tickets_found(connection, wanted, None, PAGE, before))

    def people(text: str) -> Callable[[Connection], int]:
        return lambda connection: len(contacts_found(connection, ContactFilter(text=text), None, PAGE, None))

    def page(conditions: Conditions, sort: str = "updated_at", deep: bool = False) -> Callable[[Connection], int]:
        tests = check(conditions, known)
        after = (now - contacts * 30_000_000, _id("3", 1)) if deep else None

        def ask(connection: Connection) -> int:
            where = view_query.where(connection, tests, viewer)
            return len(view_query.page(connection, where, sort, True, PAGE, after))

        return ask

    def counts(connection: Connection) -> int:
        total = 0
        for _, conditions in built_in().values():
            total += view_query.count(connection, view_query.where(connection, check(conditions, known), viewer))
        return total

    tagged = Conditions([Condition("tags", "has", "whatsapp"), Condition("created_at", "within_days", 30)])
    views = built_in()
    return {
        "tickets: a common word": tickets("parcel"),
        "tickets: a common beginning": tickets("th"),
        "tickets: a rare word": tickets(RARE),
        "tickets: two common words": tickets("parcel monday"),
        "tickets: words that never meet": tickets("parcel invoice"),
        "tickets: a phone number": tickets(f"0151 {contacts // 2:08d}"),
        "tickets: a number": tickets(f"#{contacts // 3}"),
        "tickets: Japanese": tickets("荷物"),
        "tickets: Chinese": tickets("订单号"),
        "tickets: a common word, deep": tickets("parcel", before=contacts // 2),
        "tickets: a common word, new ones": tickets("parcel", statuses=("new",)),
        "tickets: a common word, of one person": tickets("parcel", contact=_id("1", contacts // 2)),
        "people: a common name": people("ann"),
        "people: a phone number": people(f"+49 151 {contacts // 2:08d}"),
        "people: a common word they wrote": people("parcel"),
        "people: a rare word they wrote": people(RARE),
        "view: unassigned": page(views["unassigned"][1]),
        "view: unassigned messaging": page(views["messaging-unassigned"][1]),
        "view: mine": page(views["mine"][1]),
        "view: all open, by priority": page(views["open"][1], "priority"),
        "view: all open, deep": page(views["open"][1], deep=True),
        "view: tag and date": page(tagged),
        "views: all counts": counts,
    }


async def run(plan: Plan, directory: Path) -> Report:
    """Every question many times, in random order."""
    contacts = 10_000 if plan.quick else 100_000
    now = micros(system_clock())
    started = time.monotonic()
    await asyncio.to_thread(fill, directory, contacts, now)
    filled = time.monotonic() - started
    database = Database(dialect.url_of("", str(directory / STORE)))
    asked = questions(contacts, now)
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in asked}
    found: dict[str, int] = {}
    order = [name for name in asked for _ in range(20)]
    plan.order.shuffle(order)

    def timed(ask: Callable[[Connection], int]) -> Callable[[Connection], tuple[int, float]]:
        def job(connection: Connection) -> tuple[int, float]:
            busy = time.thread_time()
            return ask(connection), (time.thread_time() - busy) * 1000

        return job

    for name in [*asked, *order]:  # the first round warms up
        begun = time.perf_counter()
        found[name], busy = await database.read(timed(asked[name]))
        took[name].append(((time.perf_counter() - begun) * 1000, busy))
    await database.stop()
    report = Report(f"search and views at {contacts:,} contacts and {contacts * MESSAGES_EACH:,} messages, p95 in ms")
    p95 = {name: sorted(times[1:])[-2][0] for name, times in took.items()}
    busy_of = {name: sorted(busy for _, busy in times[1:])[-2] for name, times in took.items()}
    report.rows = [
        Row(name, f"busy {busy_of[name]:.0f} ms", [p95[name]], f"<= {TARGET_MS:.0f}", unit=" ms") for name in asked
    ]
    nothing = [name for name, count in found.items() if not count and "never meet" not in name]
    slow = [name for name, value in p95.items() if value > TARGET_MS]
    report.notes = [
        f"filling took {filled:.0f} s",
        f"FOUND NOTHING: {', '.join(nothing)}" if nothing else "every question found what it should",
        f"slower than wanted: {', '.join(slow)}" if slow else "every question is fast enough",
    ]
    return report
