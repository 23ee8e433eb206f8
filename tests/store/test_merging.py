"""Merges and their undoing: whatever the order, every message stays with its own identity, and what a contact had comes
back to it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, insert, select, update
from sqlalchemy.engine import URL

from gateway.ids import new_id
from gateway.store import dialect, merging, migrate
from gateway.store.editing import edit_contact
from gateway.store.schema import contact_values, contacts, identities, merges, messages, tickets
from gateway.tickets import Actor

KIM = Actor("agent", "7", "Kim")
PEOPLE = 5
_numbers = itertools.count(1)


@dataclass
class World:
    """Contacts with an identity each, and a model that is obviously right: where every identity is, and its home."""

    connection: Connection
    now: int = 1
    where: dict[str, str] = field(default_factory=dict)  # identity -> contact
    home: dict[str, str] = field(default_factory=dict)  # identity -> contact, once it was merged
    wrote: dict[str, str] = field(default_factory=dict)  # message -> identity
    gone: set[str] = field(default_factory=set)

    def arrive(self, name: str = "", **more: Any) -> str:
        """Somebody new; the contact's id."""
        contact, identity = new_id(), new_id()
        number = f"+4915100{next(_numbers):06}"
        self.run(insert(contacts).values(id=contact, name=name, created_at=1, last_seen_at=1, **more))
        self.run(
            insert(identities).values(
                id=identity, contact_id=contact, channel="sms", account="sms", external_id=number, created_at=1
            )
        )
        self.run(
            insert(contact_values).values(
                id=new_id(), contact_id=contact, identity_id=identity, attribute="phone", value=number,
                evidence="attested", at=1,
            )
        )  # fmt: skip
        self.where[identity] = contact
        self.write(identity)
        return contact

    def write(self, identity: str) -> None:
        """The identity opens a ticket with a message."""
        ticket, message, contact = new_id(), new_id(), self.where[identity]
        mine = {"contact_id": contact, "identity_id": identity, "conversation_id": new_id(), "created_at": 1}
        self.run(insert(tickets).values(id=ticket, number=next(_numbers), updated_at=1, **mine))
        self.run(insert(messages).values(id=message, ticket_id=ticket, direction="inbound", **mine))
        self.wrote[message] = identity

    def merge(self, loser: str, winner: str) -> None:
        self.now += 1
        merging.merge(self.connection, loser, winner, KIM, "", self.now)
        for identity, contact in self.where.items():
            if contact == loser:
                self.home.setdefault(identity, loser)
                self.where[identity] = winner

    def unmerge(self, identity: str) -> None:
        self.now += 1
        contact, home = self.where[identity], self.home.get(identity)
        target = merging.unmerge(self.connection, contact, identity, KIM, self.now)
        if home is not None and home != contact:
            assert target == home
        else:
            assert target not in self.where.values()
        self.where[identity] = self.home[identity] = target

    def companions(self, identity: str) -> int:
        """How many identities the contact of this one has."""
        return list(self.where.values()).count(self.where[identity])

    def run(self, statement: Any) -> Any:
        return self.connection.execute(statement)

    def contact(self, contact_id: str) -> Any:
        return self.run(select(contacts).where(contacts.c.id == contact_id)).mappings().one()

    def check(self) -> None:
        """The store says what the model says, and is whole."""
        found = {row.id: row for row in self.run(select(contacts))}
        alive = {contact for contact, row in found.items() if not row.merged_into}
        assert dict(self.run(select(identities.c.id, identities.c.contact_id)).all()) == self.where
        assert set(self.where.values()) == alive, "a contact without an identity, or an identity of a merged contact"
        for table in (messages, tickets, contact_values):
            for identity, contact in self.run(select(table.c.identity_id, table.c.contact_id)):
                assert contact == self.where[identity] if identity else contact in alive
        assert dict(self.run(select(messages.c.id, messages.c.identity_id)).all()) == self.wrote
        standing = self.run(select(merges.c.loser).where(merges.c.kind == "merge", merges.c.undone_at.is_(None)))
        assert sorted(standing.scalars()) == sorted(set(found) - alive)
        assert all(found[row.merged_into].id in alive for row in found.values() if row.merged_into)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    url = dialect.url_of("", str(tmp_path_factory.mktemp("merging") / "gateway.db"))
    made = dialect.write_engine(url)
    migrate.upgrade(made)
    yield made
    made.dispose()


STEPS = st.lists(
    st.tuples(st.sampled_from(["merge", "unmerge", "write"]), st.integers(0, 99), st.integers(0, 99)), max_size=20
)


def play(world: World, steps: list[tuple[str, int, int]]) -> None:
    """What people do in an order nobody thought of; impossible steps are refused and change nothing."""
    for _ in range(PEOPLE):
        world.arrive()
    for what, first, second in steps:
        people_now = sorted(set(world.where.values()))
        identity = sorted(world.where)[first % len(world.where)]
        if what == "write":
            world.write(identity)
        elif what == "merge":
            loser, winner = people_now[first % len(people_now)], people_now[second % len(people_now)]
            if loser == winner:
                with pytest.raises(merging.PeopleError):
                    merging.merge(world.connection, loser, winner, KIM, "", world.now)
            else:
                world.merge(loser, winner)
        elif world.companions(identity) > 1:
            world.unmerge(identity)
        else:
            with pytest.raises(merging.PeopleError):
                merging.unmerge(world.connection, world.where[identity], identity, KIM, world.now)
        world.check()


@given(steps=STEPS)
def test_any_order_of_merges_and_undoings_keeps_everything_where_it_belongs(
    engine: Engine, steps: list[tuple[str, int, int]]
) -> None:
    with engine.connect() as connection:
        play(World(connection), steps)
        connection.rollback()


def test_the_same_on_every_store(url: URL) -> None:
    steps = [("merge", 0, 1), ("merge", 1, 2), ("write", 0, 0), ("unmerge", 0, 0), ("merge", 0, 3), ("unmerge", 2, 0)]
    made = dialect.write_engine(url)
    try:
        with made.connect() as connection:
            play(World(connection), steps * 4)
            connection.rollback()
    finally:
        made.dispose()


@pytest.fixture
def world(engine: Engine) -> Iterator[World]:
    with engine.connect() as connection:
        yield World(connection)
        connection.rollback()


OWN = ("name", "language", "organization", "vip", "tags", "attributes")


def own(world: World, contact: str) -> dict[str, Any]:
    row = world.contact(contact)
    return {name: row[name] for name in OWN}


@given(
    having=st.lists(
        st.fixed_dictionaries(
            {
                "name": st.sampled_from(["", "Ann", "Bo"]),
                "organization": st.sampled_from(["", "ACME"]),
                "vip": st.booleans(),
                "tags": st.sampled_from(["[]", '["a"]', '["b","a"]']),
                "attributes": st.sampled_from(["{}", '{"plan":"x"}', '{"plan":"y","size":"1"}']),
            }
        ),
        min_size=4,
        max_size=4,
    ),
    order=st.permutations(range(1, 4)),
    chain=st.booleans(),
)
def test_what_a_contact_had_comes_back_to_it_and_leaves_the_other(
    engine: Engine, having: list[dict[str, Any]], order: list[int], chain: bool
) -> None:
    """Merged into one, or one into the next, and taken out in any order: all have what they had."""
    with engine.connect() as connection:
        world = World(connection)
        made = [world.arrive(**more) for more in having]
        before = [own(world, contact) for contact in made]
        whose = {contact: identity for identity, contact in world.where.items()}
        for index in (1, 2, 3):
            world.merge(made[3 - index + 1] if chain else made[index], made[3 - index] if chain else made[0])
        for index in order:
            world.unmerge(whose[made[index]])
            world.check()
        after = [own(world, contact) for contact in made]
        for one in (*before, *after):
            one["tags"] = sorted(msgspec.json.decode(one["tags"]))
            one["attributes"] = msgspec.json.decode(one["attributes"])
        assert after == before
        connection.rollback()


def test_clashes_the_winner_keeps_and_the_journal_remembers(world: World) -> None:
    one = world.arrive("Ann", attributes='{"plan":"gold"}', tags='["a"]')
    other = world.arrive("Bo", attributes='{"plan":"basic","size":"40"}', tags='["b"]', vip=True, organization="ACME")
    world.merge(other, one)
    row = world.contact(one)
    assert (row["name"], row["organization"], bool(row["vip"])) == ("Ann", "ACME", True)
    assert msgspec.json.decode(row["attributes"]) == {"plan": "gold", "size": "40"}
    entry = world.run(select(merges)).mappings().one()
    assert msgspec.json.decode(entry["loser_before"])["attributes"] == {"plan": "basic", "size": "40"}
    assert (entry["actor"], entry["evidence"], entry["reason"]) == ("Kim", "authenticated", "by hand")


def test_what_somebody_changed_since_stays(world: World) -> None:
    one, other = world.arrive("Ann"), world.arrive("Bo", organization="ACME", attributes='{"size":"40"}')
    taken_out = next(identity for identity, contact in world.where.items() if contact == other)
    world.merge(other, one)
    changed = {"organization": "Globex", "attributes": '{"size":"41"}'}
    world.run(update(contacts).where(contacts.c.id == one).values(**changed))
    world.unmerge(taken_out)
    assert own(world, one)["organization"] == "Globex"
    assert msgspec.json.decode(own(world, one)["attributes"]) == {"size": "41"}
    assert own(world, other)["organization"] == "ACME"


def test_values_set_by_hand_go_and_come_back(world: World) -> None:
    one, other = world.arrive("Ann"), world.arrive("Bo")
    taken_out = next(identity for identity, contact in world.where.items() if contact == other)
    for contact, mail in ((one, "ann@x.test"), (other, "bo@x.test")):
        edit_contact(world.connection, contact, {"attributes": {"email": [mail, "both@x.test"]}}, KIM, 5)

    def mails(contact: str) -> set[str]:
        mine = contact_values.c.contact_id == contact, contact_values.c.attribute == "email"
        return set(world.run(select(contact_values.c.value).where(*mine)).scalars())

    world.merge(other, one)
    assert (mails(one), mails(other)) == ({"ann@x.test", "bo@x.test", "both@x.test"}, set())
    world.unmerge(taken_out)
    assert mails(one) == {"ann@x.test", "both@x.test"}
    assert mails(other) == {"bo@x.test", "both@x.test"}


def test_who_was_linked_when_new_gets_a_contact_of_its_own(world: World) -> None:
    contact = world.arrive("Ann")
    identity = new_id()
    world.run(
        insert(identities).values(
            id=identity, contact_id=contact, channel="email", account="mail", external_id="ann@x.test", name="A. Nn",
            created_at=1,
        )
    )  # fmt: skip
    world.where[identity] = contact
    world.write(identity)
    world.unmerge(identity)
    world.check()
    assert world.contact(world.where[identity])["name"] == "A. Nn"
    kinds = list(world.run(select(merges.c.kind, merges.c.actor)).all())
    assert kinds == [("unmerge", "Kim")]


FAULTS = {
    "into itself": (lambda one, other, gone: (one, one), "merge_into_itself", "into"),
    "what was merged away": (lambda one, other, gone: (gone, one), "already_merged", "id"),
    "into what was merged away": (lambda one, other, gone: (other, gone), "already_merged", "into"),
    "in a ring": (lambda one, other, gone: (one, gone), "already_merged", "into"),
    "nobody": (lambda one, other, gone: (new_id(), one), "not_found", "id"),
    "into nobody": (lambda one, other, gone: (one, new_id()), "not_found", "into"),
}


@pytest.mark.parametrize(("choose", "code", "field"), FAULTS.values(), ids=FAULTS)
def test_merges_that_cannot_be_change_nothing(world: World, choose: Any, code: str, field: str) -> None:
    one, other, gone = world.arrive(), world.arrive(), world.arrive()
    world.merge(gone, one)
    loser, winner = choose(one, other, gone)
    with pytest.raises(merging.PeopleError) as caught:
        merging.merge(world.connection, loser, winner, KIM, "", 9)
    assert (caught.value.code, caught.value.field) == (code, field)
    world.check()


def test_a_deleted_contact_takes_part_in_nothing(world: World) -> None:
    one, deleted = world.arrive(), world.arrive()
    world.run(update(contacts).where(contacts.c.id == deleted).values(deleted_at=5))
    for pair, named in (((one, deleted), "into"), ((deleted, one), "id")):
        with pytest.raises(merging.PeopleError) as caught:
            merging.merge(world.connection, pair[0], pair[1], KIM, "", 9)
        assert (caught.value.code, caught.value.field) == ("not_found", named)
