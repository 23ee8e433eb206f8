"""A thousand people on five channels, in any order and by several workers at a time, against a model that is obviously
right: who shares an attested number or address is one person, through as many hands as it takes."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field

import pytest
from sqlalchemy import Connection, select
from sqlalchemy.engine import URL

from adapters import Channel, Limits, Pace
from adapters.api import CHANNEL as API
from gateway import identities as rule
from gateway.ids import micros, new_id
from gateway.intake.context import Rules
from gateway.intake.decide import decide
from gateway.intake.load import load
from gateway.intake.records import Changes, EventRow
from gateway.intake.save import save
from gateway.store import conflicts, merging
from gateway.store.engine import Database
from gateway.store.schema import addresses, contact_values, contacts, identities, messages
from gateway.store.schema import merges as journal
from normalizers.model import Address, Event, InboundMessage, Person
from tests.intake.build import T0, TOKENS, channel
from tests.store.conftest import url as url  # each store in turn

PEOPLE = 1000
BATCH = 40
SQUARE = Channel(
    "square", "Public square", Limits(280, "of the tests"), Pace(10, "of the tests"), private=False,
    attribute_of={"phone": "phone", "email": "email"},
)  # fmt: skip
SURFACES = (("wa", "whatsapp"), ("sms", "sms"), ("mail", "email"), ("square", "square"), ("api", "api"))


def declared(account: str, name: str) -> Channel | None:
    """What the five accounts declare."""
    return {"square": SQUARE, "api": API}.get(account) or channel(account, name)


RULES = Rules(declared, TOKENS, ("phone", "email"))


@dataclass
class Crowd:
    """What everybody writes, and who the model says they are."""

    seed: int
    contradicting: bool = False
    wrote: list[tuple[str, InboundMessage]] = field(default_factory=list)  # account, event

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)
        for one in range(PEOPLE):
            for _ in range(chance.randint(1, 3)):
                account, surface = chance.choice(SURFACES)
                self.wrote.append((account, self._message(chance, one, account, surface)))
        chance.shuffle(self.wrote)

    def _message(self, chance: random.Random, one: int, account: str, surface: str) -> InboundMessage:
        def near() -> int:
            return (one + chance.choice([0, 0, 0, 0, 1])) % PEOPLE  # now and then a neighbour's

        number = Address(surface, "phone", f"+4915100{near():06}", "everywhere")
        mail = Address(surface, "email", f"p{near()}@x.test", "everywhere")
        ids = f"DE.{one}" if not self.contradicting else f"DE.{one}.{chance.randint(1, 2)}"
        found: dict[str, Sequence[Address]] = {
            "wa": (Address(surface, "bsuid", ids), number) if self.contradicting else (number,),
            "sms": (number,),
            "mail": (mail,),
            # two people with one number on one account would be the platform's own word that they are one
            "square": (
                Address(surface, "handle", f"h{one}", evidence="claimed"),
                Address(surface, "phone", f"+4915100{one:06}", "everywhere"),
                Address(surface, "email", f"p{one}@x.test", "everywhere"),
            ),
            "api": tuple(Address(surface, a.kind, a.value, a.scope, "claimed") for a in (number, mail)),
        }
        return InboundMessage(id=new_id(), at=T0, channel=surface, sender=Person(tuple(found[account])), text="Hello")


class Model:
    """Identities are nodes; an attested value in common joins them. Nothing else does."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}

    def find(self, node: str) -> str:
        while self.parent.setdefault(node, node) != node:
            node = self.parent[node]
        return node

    def join(self, one: str, other: str) -> None:
        self.parent[self.find(one)] = self.find(other)


async def file(database: Database, batch: Sequence[tuple[str, Event]], rules: Rules) -> Changes:
    """One batch, as a worker files it."""
    rows = [EventRow(new_id(), new_id(), account, micros(T0), 0, event) for account, event in batch]

    def job(connection: Connection) -> Changes:
        merging.alone(connection)
        snapshot = load(connection, rows, rules)
        changes = decide(rows, snapshot, rules, micros(T0), new_id)
        save(connection, rows, snapshot, changes, rules, micros(T0), settled=True)
        return changes

    return await database.bulk(job)


@pytest.fixture
async def database(url: URL) -> AsyncIterator[Database]:
    found = Database(url)
    found.start()
    yield found
    await found.stop()


async def everybody_writes(database: Database, crowd: Crowd, rules: Rules = RULES, workers: int = 4) -> None:
    """Several workers file batches side by side."""
    parts = [crowd.wrote[start : start + BATCH] for start in range(0, len(crowd.wrote), BATCH)]

    async def worker(number: int) -> None:
        for part in parts[number::workers]:
            await file(database, part, rules)

    await asyncio.gather(*(worker(number) for number in range(workers)))


def partition(pairs: Iterable[tuple[str, str]]) -> set[frozenset[str]]:
    """Sets of identities that belong together."""
    found: dict[str, set[str]] = {}
    for identity, group in pairs:
        found.setdefault(group, set()).add(identity)
    return {frozenset(group) for group in found.values()}


def model_of(connection: Connection, crowd: Crowd) -> Model:
    """The model, told who wrote what with which attested values."""
    model = Model()
    wrote = {event.id: event for _, event in crowd.wrote}
    for identity, name in connection.execute(select(messages.c.identity_id, messages.c.external_id)):
        model.find(identity)
        for address in wrote[name].sender.addresses:
            if address.kind in ("phone", "email") and address.evidence == "attested":
                model.join(identity, f"{address.kind} {address.value}")
    return model


def whole(connection: Connection) -> None:
    """No contact without an identity, no identity of a contact that is gone, every message with its own identity."""
    alive = set(connection.execute(select(contacts.c.id).where(contacts.c.merged_into.is_(None))).scalars())
    where = {row.id: row.contact_id for row in connection.execute(select(identities.c.id, identities.c.contact_id))}
    assert set(where.values()) == alive
    for identity, contact in connection.execute(select(messages.c.identity_id, messages.c.contact_id)):
        assert where[identity] == contact
    for identity, contact in connection.execute(select(contact_values.c.identity_id, contact_values.c.contact_id)):
        assert where[identity] == contact
    for winner in connection.execute(select(journal.c.winner)).scalars():
        assert connection.execute(select(contacts.c.id).where(contacts.c.id == winner)).first() is not None


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_thousand_people_are_who_the_model_says(database: Database, seed: int) -> None:
    crowd = Crowd(seed)
    await everybody_writes(database, crowd)

    def compare(connection: Connection) -> None:
        model = model_of(connection, crowd)
        found = connection.execute(select(identities.c.id, identities.c.contact_id)).all()
        assert len(found) > PEOPLE / 2
        assert partition((row.id, row.contact_id) for row in found) == partition(
            (row.id, model.find(row.id)) for row in found
        )
        assert len(connection.execute(select(messages.c.id)).all()) == len(crowd.wrote)
        whole(connection)
        assert conflicts.count_open(connection) == 0

    await database.read(compare)


async def test_nothing_is_merged_that_contradicts(database: Database) -> None:
    """With user ids that contradict, who goes where depends on who came first: never two ids in one contact, never
    more than the model joins, and where two are kept apart a person is asked."""
    crowd = Crowd(3, contradicting=True)
    await everybody_writes(database, crowd)

    def compare(connection: Connection) -> None:
        model = model_of(connection, crowd)
        found = {row.id: row.contact_id for row in connection.execute(select(identities.c.id, identities.c.contact_id))}
        for group in partition(found.items()):
            assert len({model.find(identity) for identity in group}) == 1
        ids: dict[str, set[str]] = {}
        for row in connection.execute(select(addresses).where(addresses.c.kind == "bsuid")).mappings():
            ids.setdefault(found[row["identity_id"]], set()).add(row["value"])
        assert {len(values) for values in ids.values()} == {1}
        assert conflicts.count_open(connection) > 0
        whole(connection)

    await database.read(compare)


async def test_a_rule_applied_later_makes_what_it_had_made_from_the_start(database: Database) -> None:
    """The preview says it, the application does it, and doing it again does nothing."""
    crowd = Crowd(4)
    await everybody_writes(database, crowd, Rules(declared, TOKENS, ()))

    def count(connection: Connection) -> tuple[int, int]:
        alive = select(contacts.c.id).where(contacts.c.merged_into.is_(None))
        return len(connection.execute(alive).all()), len(connection.execute(select(journal.c.id)).all())

    before = await database.read(count)
    names = ("phone", "email")
    said = await database.read(lambda c: rule._preview(c, names, 10))
    assert await database.read(count) == before
    done = 0
    for attribute in ("", *names):
        after: tuple[str, ...] | None = ()
        while after is not None:
            place = after
            step = functools.partial(rule._apply, attribute=attribute, after=place, who="Kim", now=5)
            after, merged, _ = await database.bulk(step)
            done += len(merged)
    assert done == said.merges > PEOPLE / 4
    assert len(said.contacts) == 10

    def compare(connection: Connection) -> None:
        model = model_of(connection, crowd)
        found = connection.execute(select(identities.c.id, identities.c.contact_id)).all()
        assert partition((row.id, row.contact_id) for row in found) == partition(
            (row.id, model.find(row.id)) for row in found
        )
        assert count(connection)[0] == before[0] - done
        whole(connection)
        assert rule._preview(connection, names, 10).merges == 0

    await database.read(compare)
