"""Erasing a person: something of theirs is planted wherever the store can hold it, and found nowhere afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, LargeBinary, Table, Text, and_, insert, or_, select, update

from gateway.ids import new_id
from gateway.store import schema
from gateway.store.schema import metadata
from tests.store.conftest import STORES
from tests.support.postgres import Postgres
from tests.support.world import World, eventually

CANARY = "zqcanary"
NUMBER = "4915112345601"
NAME = "Annabel Leigh"
OTHER = "4915112345602"


@pytest.fixture(params=STORES)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A world on one store or the other."""
    more = 'matching_attribute = "phone"\nsecret_key = "a key of the tests only"\n'
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        address = server.database().set(drivername="postgresql").render_as_string(hide_password=False)
        more += f'database = "{address}"\n'
    async with World.open(tmp_path, more=more) as found:
        yield found


# Tables that hold nothing of a person who writes, and why.
NOBODYS = {
    "api_keys": "who calls", "users": "who works here", "roles": "what they may", "groups": "who works here",
    "group_members": "who works here", "sessions": "who works here", "counters": "numbers", "attributes": "names",
    "templates": "what the platform approved", "platform_tokens": "ours, sealed", "erased": "keyed hashes",
    "deletions": "that it was done", "mailboxes": "how far they are read",
    "paces": "hashed keys and numbers", "dead_jobs": "orders of those who work here",
    "account_states": "planted by hand below", "platform_attributes": "names",
    "ticket_fields": "names", "views": "what those who work here look at",
}  # fmt: skip
KEPT = {  # cells a canary in which would change who or what a row is, or how it is read
    "addresses": {"channel", "account", "kind", "scope", "evidence", "value"},
    "events": {"account", "kind", "dedupe_key", "waits_for", "state"},
    "deliveries": {"url"},  # our own path
    "message_refs": {"account", "ref"},
    "idempotency": {"response", "key"},
    "suspended": {"sender"},
    "suppressions": {"address"},
}
NAMES_OF_OURS = frozenset(
    {"id", "channel", "account", "kind", "state", "status", "priority", "via", "updated_via", "conversation_state",
     "direction", "visibility", "purpose", "automatic", "decision", "evidence", "attribute", "error_class", "outcome",
     "source", "path", "key", "owner", "sha256", "fingerprint", "words", "deleted_by", "actor", "undone_by",
     "decided_by", "created_by", "assignee", "group_name", "scope"}
)  # fmt: skip


def places(contact: str) -> Mapping[str, Any]:
    """By table, which rows are the person's."""
    everybody = or_(schema.contacts.c.id == contact, schema.contacts.c.merged_into == contact)
    mine = select(schema.identities.c.id).where(schema.identities.c.contact_id == contact)
    tickets = select(schema.tickets.c.id).where(schema.tickets.c.contact_id == contact)
    said = select(schema.messages.c.id).where(schema.messages.c.contact_id == contact)
    came = select(schema.messages.c.delivery_id).where(schema.messages.c.contact_id == contact)
    files = select(schema.attachments.c.path).where(schema.attachments.c.message_id.in_(said))
    found: dict[str, Any] = {
        "contacts": everybody,
        "deliveries": schema.deliveries.c.body.is_not(None),
        "events": schema.events.c.delivery_id.in_(came),
        "merges": schema.merges.c.winner == contact,
        "conflicts": or_(schema.conflicts.c.identity_id.in_(mine), schema.conflicts.c.other_identity_id.in_(mine)),
        "idempotency": schema.idempotency.c.response != "",
        "suspended": schema.suspended.c.sender == f"annabel@{CANARY}.test",
        "suppressions": schema.suppressions.c.address == f"annabel@{CANARY}.test",
        "uploads": schema.uploads.c.path.in_(files),
    }
    for table, column, owned in (
        ("identities", "id", mine), ("addresses", "identity_id", mine), ("conversations", "identity_id", mine),
        ("tickets", "id", tickets), ("ticket_tags", "ticket_id", tickets), ("ticket_events", "ticket_id", tickets),
        ("messages", "id", said), ("message_refs", "message_id", said), ("attachments", "message_id", said),
        ("outbox", "message_id", said), ("attempts", "message_id", said), ("receipts", "message_id", said),
        ("dead_letters", "message_id", said), ("lookups", "message_id", said),
    ):  # fmt: skip
        found[table] = metadata.tables[table].c[column].in_(owned)
    for name in ("contact_values", "crm_edits", "crm_links"):
        found[name] = metadata.tables[name].c.contact_id == contact
    entries = schema.search_entries.c.ref
    found["search_entries"] = or_(entries == contact, entries.in_(said), entries.in_(tickets))
    found["ticket_field_values"] = schema.ticket_field_values.c.ticket_id.in_(tickets)
    found["errands"] = schema.errands.c.subject == contact
    return found


def plant(connection: Connection, contact: str) -> list[str]:
    """Write the canary into every cell of the person's rows that holds words; the tables it stands in."""
    planted = []
    for name, condition in places(contact).items():
        table = metadata.tables[name]
        words = [
            column for column in table.columns
            if isinstance(column.type, Text) and not column.primary_key and column.name not in NAMES_OF_OURS
            and column.name not in KEPT.get(name, ())
        ]  # fmt: skip
        for row in connection.execute(select(table).where(condition)).mappings().all():
            values = {column.name: _with_canary(row[column.name]) for column in words}
            key = and_(*(column == row[column.name] for column in table.primary_key))
            if values:
                connection.execute(update(table).where(key).values(**values))
            planted.append(name)
    return planted


def _with_canary(cell: str | None) -> str:
    text = cell or ""
    try:
        tree = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return f"{text} {CANARY}"
    if isinstance(tree, dict):
        return json.dumps(tree | {"canary": CANARY})
    return json.dumps([*tree, CANARY]) if isinstance(tree, list) else f"{text} {CANARY}"


def findings(connection: Connection, *words: str) -> list[str]:
    """Every cell of the store in which one of the words stands."""
    found = []
    for table in metadata.sorted_tables:
        for row in connection.execute(select(table)).mappings():
            for column in table.columns:
                cell = row[column.name]
                text = bytes(cell).decode("utf-8", "replace") if isinstance(cell, bytes | memoryview) else str(cell)
                found += [f"{table.name}.{column.name}: {word}" for word in words if word in text]
    return found


def test_every_table_is_either_somebodys_or_known_to_be_nobodys() -> None:
    """A new table belongs into `places`, and into the erasure, or with its reason into `NOBODYS`."""
    assert set(metadata.tables) == set(places("")) | set(NOBODYS)


async def lived(world: World) -> str:
    """A person with a history on two channels, replies with files, a merge by hand, a conflict and a dead letter."""
    ann = world.customer(NAME, wa_id=NUMBER)
    await world.twilio.customer_writes(f"{CANARY} by SMS", sender=f"+{NUMBER}")
    await world.api.items("tickets", 1)
    await world.whatsapp.customer_writes(ann, f"{CANARY} by WhatsApp")
    ticket, _ = await world.api.items("tickets", 2)
    contact = str(ticket["contact_id"])
    upload = await world.api.upload(f"{CANARY} in a file".encode(), f"{CANARY}.txt", "text/plain")
    body = {"text": f"{CANARY} for you", "attachments": [{"upload": upload}]}
    sent = (
        await world.api.call("POST", f"tickets/{ticket['id']}/replies", json=body, headers={"Idempotency-Key": "k1"})
    ).json
    await world.api.until(f"messages/{sent['id']}", lambda message: message["status"] in ("sent", "delivered", "read"))
    await world.api.post("attributes", {"name": "plan"})
    await world.api.patch(
        f"contacts/{contact}",
        organization=CANARY,
        tags=[CANARY],
        attributes={"plan": CANARY, "email": "ann@zqcanary.test"},
    )
    await world.mailed("Annabel Leigh <annabel@zqcanary.test>", subject=CANARY, text=CANARY)
    mail = next(entry for entry in await world.api.items("contacts", 2) if entry["id"] != contact)
    await world.api.post(f"contacts/{mail['id']}/merge", {"into": contact, "reason": CANARY})
    return contact


def add_rare(connection: Connection, contact: str) -> None:
    """What no simulated platform brings about here: a conflict, a dead letter, somebody who must wait."""
    identity, message = (
        connection.execute(select(table.c.id).where(table.c.contact_id == contact)).scalars().first()
        for table in (schema.identities, schema.messages)
    )
    somebody = {"identity_id": identity, "other_identity_id": new_id(), "attribute": "phone", "value": f"+{NUMBER}"}
    connection.execute(insert(schema.conflicts).values(id=new_id(), at=1, **somebody))
    letter = {"kind": "message", "ref": message, "message_id": message, "detail": CANARY, "created_at": 1}
    connection.execute(
        insert(schema.dead_letters).values(id=new_id(), direction="outbound", account="sms-us", **letter)
    )
    held = {"delivery_id": new_id(), "sender": f"annabel@{CANARY}.test", "subject": CANARY, "account": "mail"}
    moments = {"received_at": 1, "created_at": 1, "expires_at": 1}
    connection.execute(insert(schema.suspended).values(id=new_id(), **held, **moments))
    silent = {"channel": "email", "address": f"annabel@{CANARY}.test", "scope": "all", "detail": CANARY}
    connection.execute(insert(schema.suppressions).values(id=new_id(), created_at=1, **silent))
    pending = {"message_id": message, "event_id": new_id(), "account": "sms-us", "reason": CANARY, "created_at": 1}
    connection.execute(insert(schema.lookups).values(not_before=2**62, **pending))
    ticket = connection.execute(select(schema.tickets.c.id).where(schema.tickets.c.contact_id == contact)).scalar()
    connection.execute(insert(schema.ticket_field_values).values(ticket_id=ticket, name="plan", value=CANARY))
    told = {"contact_id": contact, "crm": "main", "at": 1}
    connection.execute(insert(schema.crm_links).values(remote_id=CANARY, **told))
    connection.execute(insert(schema.crm_edits).values(attribute="tier", value=CANARY, **told))
    errand = {"subject": contact, "kind": "crm", "target": "main", "not_before": 2**62, "created_at": 1}
    connection.execute(insert(schema.errands).values(id=new_id(), **errand))
    waits = {"scope": f"to:+{NUMBER}", "reason": CANARY, "paused_until": 1, "at": 1}
    connection.execute(insert(schema.account_states).values(account="sms-us", **waits))


async def test_nothing_of_an_erased_person_is_left_anywhere(world: World) -> None:
    contact = await lived(world)
    database = world.gateway.core.database
    await eventually(lambda: not list((world.directory / "var" / "media").rglob("*.part")))
    await database.write(lambda c: add_rare(c, contact))
    planted = await database.write(lambda c: plant(c, contact))
    held = set(planted) | {"account_states"}
    assert held >= set(places(contact)), "a table in which this test plants nothing proves nothing"
    words = (CANARY, NUMBER, NAME, "Annabel", "annabel@")
    assert len(await database.read(lambda c: findings(c, *words))) > 50
    answer = await world.api.call("DELETE", f"contacts/{contact}")
    assert answer.status == 204
    assert await database.read(lambda c: findings(c, *words)) == []
    receipt = await world.api.get(f"deletions/{contact}")
    assert receipt["channels"] == ["email", "sms", "whatsapp"]
    kinds = "messages tickets identities events payloads attachments blobs outbox conflicts dead_letters merges"
    for kind in (kinds + " idempotency account_states contact_values uploads suspended suppressions").split():
        assert receipt["removed"][kind] > 0, kind
    for file in (world.directory / "var").rglob("*"):
        if file.is_file() and file.suffix != ".sock":
            content = file.read_bytes()
            assert not [word for word in (CANARY, NUMBER, NAME) if word.encode() in content], file
    await world.api.items("contacts", 0)


async def test_of_a_shared_payload_the_other_persons_part_stays(world: World) -> None:
    ann, bo = world.customer(NAME, wa_id=NUMBER), world.customer("Bo", wa_id=OTHER)
    changes = [
        world.whatsapp.inbound(who, f"wamid.shared{index}", {"type": "text", "text": {"body": f"words of {index}"}})
        for index, who in enumerate((ann, bo))
    ]
    assert await world.whatsapp.post(changes) == 200
    tickets = await world.api.items("tickets", 2)
    found = [await world.api.get(f"contacts/{ticket['contact_id']}") for ticket in tickets]
    contact = next(entry["id"] for entry in found if entry["name"] == NAME)
    await world.api.call("DELETE", f"contacts/{contact}")
    database = world.gateway.core.database
    assert await database.read(lambda c: findings(c, NUMBER, NAME, "words of 0")) == []
    (body,) = await database.read(lambda c: c.execute(select(schema.deliveries.c.body)).scalars().all())
    assert b"words of 1" in bytes(body)
    assert OTHER.encode() in bytes(body)
    assert (await world.api.get(f"deletions/{contact}"))["removed"]["payload_slices"] == 1


async def test_a_late_redelivery_brings_nothing_back_and_is_not_kept(world: World) -> None:
    ann = world.customer(NAME, wa_id=NUMBER)
    wamid = await world.whatsapp.customer_writes(ann, CANARY)
    ticket = await world.api.ticket()
    await world.api.call("DELETE", f"contacts/{ticket['contact_id']}")
    late = world.whatsapp.inbound(ann, wamid, {"type": "text", "text": {"body": CANARY}})
    assert await world.whatsapp.post([late]) == 200
    database = world.gateway.core.database

    async def filed() -> bool:
        states = await database.read(lambda c: c.execute(select(schema.deliveries.c.state)).scalars().all())
        return set(states) == {"done"} and len(states) == 2

    for _ in range(200):
        if await filed():
            break
        await asyncio.sleep(0.05)
    assert await filed()
    assert await database.read(lambda c: findings(c, NUMBER, CANARY, NAME)) == []
    await world.api.items("contacts", 0)


async def test_who_writes_while_being_erased_is_afterwards_somebody_new_and_whole(world: World) -> None:
    """Whichever comes first: no message hangs on a contact that is gone, and nobody is half there."""
    ann = world.customer(NAME, wa_id=NUMBER)
    await world.whatsapp.customer_writes(ann, "first")
    contact = (await world.api.ticket())["contact_id"]
    writing = [asyncio.create_task(world.whatsapp.customer_writes(ann, f"meanwhile {n}")) for n in range(20)]
    answer = await world.api.call("DELETE", f"contacts/{contact}")
    assert answer.status == 204
    await asyncio.gather(*writing)
    await world.whatsapp.customer_writes(ann, "the last")

    def whole(connection: Connection) -> tuple[set[str], set[str], set[str]]:
        def ids(column: Any, *conditions: Any) -> set[str]:
            return set(connection.execute(select(column).where(*conditions)).scalars())

        alive = ids(schema.contacts.c.id, schema.contacts.c.deleted_at.is_(None))
        return alive, ids(schema.messages.c.contact_id), ids(schema.identities.c.contact_id)

    async def settled() -> bool:
        ticket = await world.api.get("tickets")
        texts = [
            message["text"] for entry in ticket["items"]
            for message in (await world.api.get(f"tickets/{entry['id']}/messages"))["items"]
        ]  # fmt: skip
        return "the last" in texts

    for _ in range(400):
        if await settled():
            break
        await asyncio.sleep(0.05)
    alive, of_messages, of_identities = await world.gateway.core.database.read(whole)
    assert alive == of_messages == of_identities
    assert contact not in alive
    assert len(alive) == 1


def test_the_canary_reaches_words_of_every_form() -> None:
    assert [_with_canary(cell) for cell in ("a", None, "{}", "[1]")] == [
        f"a {CANARY}", f" {CANARY}", f'{{"canary": "{CANARY}"}}', f'[1, "{CANARY}"]',
    ]  # fmt: skip
    assert isinstance(schema.deliveries.c.body.type, LargeBinary)
    assert isinstance(schema.messages, Table)
