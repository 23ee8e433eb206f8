"""Look-ups in both stores: one asks at a time, a lost lease writes nothing, what was deleted is left alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert, select, update

from adapters import Channel, Limits, Pace
from config.secret import Secret
from gateway.ids import micros, new_id
from gateway.intake.context import Rules
from gateway.intake.ensure import ensure_identity
from gateway.store import lookups as store
from gateway.store.engine import Database
from gateway.store.schema import attachments, events, identities, lookups, messages, ticket_events, tickets
from gateway.tokens import Tokens
from normalizers.model import Address, Attachment, InboundMessage, Person, Thread, Unsupported

AT = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
NOW = micros(AT)
SQUARE = Channel("square", "Square", Limits(100, "test"), Pace(1, "test"), private=False, address_kinds=("ring",))
RULES = Rules(channel=lambda account, name: SQUARE, tokens=Tokens((Secret("k" * 32),)))
POINTER = InboundMessage(
    id="c1", at=AT, channel="square", sender=Person((Address("square", "anonymous", "c1", evidence="claimed"),)),
    kind="unsupported", content=Unsupported("comment", "has to be looked up"), lookup="c1",
    thread=Thread(kind="public", key="p1"),
)  # fmt: skip
TOLD = msgspec.structs.replace(
    POINTER, lookup="", kind="image", text="Look!", content=None,
    sender=Person((Address("square", "ring", "r7"),), "Ann"),
    attachments=(Attachment(kind="image", url="https://x.test/a.png"),),
)  # fmt: skip


async def filed(database: Database) -> str:
    """A pointer, filed with its look-up; the message's id."""
    ids = {name: new_id() for name in ("message", "ticket", "event")}

    def job(connection: Any) -> None:
        identity = ensure_identity(connection, RULES, "square", "loft", POINTER.sender, NOW)
        contact = connection.execute(select(identities.c.contact_id).where(identities.c.id == identity)).scalar_one()
        connection.execute(
            insert(tickets).values(
                id=ids["ticket"], number=1, conversation_id=new_id(), contact_id=contact, identity_id=identity,
                subject="[unsupported]", created_at=NOW, updated_at=NOW,
            )
        )  # fmt: skip
        connection.execute(
            insert(messages).values(
                id=ids["message"], ticket_id=ids["ticket"], conversation_id=new_id(), contact_id=contact,
                identity_id=identity, direction="inbound", visibility="public", channel="square", account="loft",
                external_id="c1", kind="unsupported", content=msgspec.json.encode(POINTER.content).decode(),
                received_at=NOW, created_at=NOW,
            )
        )  # fmt: skip
        connection.execute(
            insert(events).values(
                id=ids["event"], delivery_id=new_id(), account="loft", kind="inbound_message", dedupe_key="c1",
                payload=msgspec.json.encode(POINTER).decode(), received_at=NOW, state="done",
            )
        )  # fmt: skip
        connection.execute(
            insert(lookups).values(
                message_id=ids["message"], event_id=ids["event"], account="loft", not_before=NOW, created_at=NOW
            )
        )

    await database.write(job)
    return ids["message"]


async def claimed(database: Database, at: int = NOW) -> list[store.Asked]:
    return await database.write(lambda c: store.claim(c, ["loft"], 8, at))


async def rows(database: Database, table: Any) -> list[Any]:
    return await database.read(lambda c: list(c.execute(select(table)).mappings()))


async def test_one_asks_and_completes(database: Database) -> None:
    message = await filed(database)
    (asked,) = await claimed(database)
    assert (asked.message_id, asked.event) == (message, POINTER)
    assert await claimed(database) == []
    done = await database.write(lambda c: store.complete(c, RULES, asked, TOLD, NOW))
    assert done is not None
    (row,) = await rows(database, messages)
    assert (row["kind"], row["text"], row["content"]) == ("image", "Look!", None)
    assert msgspec.json.decode(row["author"])["name"] == "Ann"
    assert [file["state"] for file in await rows(database, attachments)] == ["pending"]
    assert [ticket["subject"] for ticket in await rows(database, tickets)] == ["Look!"]
    assert [entry["kind"] for entry in await rows(database, ticket_events)] == ["message.completed"]
    assert await rows(database, lookups) == []


async def test_a_lost_lease_writes_nothing(database: Database) -> None:
    await filed(database)
    (first,) = await claimed(database)
    (second,) = await claimed(database, NOW + store.LEASE)
    assert await database.write(lambda c: store.complete(c, RULES, first, TOLD, NOW)) is None
    await database.write(lambda c: store.later(c, first, 0, "late", counts=True))
    assert [row["reason"] for row in await rows(database, lookups)] == [""]
    assert await database.write(lambda c: store.give_up(c, second, "100", "gone", NOW)) is not None
    (row,) = await rows(database, messages)
    assert (row["flags"], "in vain: gone" in row["content"]) == ('["lookup_failed"]', True)


@pytest.mark.parametrize("how", ["deleted", "erased"])
async def test_what_is_gone_is_left_alone(database: Database, how: str) -> None:
    message = await filed(database)
    (asked,) = await claimed(database)

    def job(connection: Any) -> None:
        if how == "erased":
            connection.execute(messages.delete())
        else:
            connection.execute(update(messages).where(messages.c.id == message).values(deleted_at=NOW, content=None))

    await database.write(job)
    assert await database.write(lambda c: store.complete(c, RULES, asked, TOLD, NOW)) is None
    assert [row["text"] for row in await rows(database, messages)] == ([""] if how == "deleted" else [])
    assert await rows(database, lookups) == await rows(database, ticket_events) == []


async def test_what_is_no_longer_kept_cannot_be_asked_for(database: Database) -> None:
    await filed(database)
    await database.write(lambda c: c.execute(update(events).values(payload="{}")))
    (asked,) = await claimed(database)
    assert asked.event is None
