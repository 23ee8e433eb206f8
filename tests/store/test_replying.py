"""What a reply asks of the store, and what becomes of it when somebody else was there in between; on each store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, event, update

from gateway.ids import micros, new_id
from gateway.replies import MessageRequest, ReplyRequest, RequestError, Submitted, proactive, submit
from gateway.store import schema, search_index
from gateway.store import tickets as store
from gateway.store.engine import Database
from gateway.store.many import insert_many
from gateway.store.places import Place, place_of
from gateway.tickets import Actor, Entry, TicketClosed
from outbox.policy import Policy
from outbox.rules.settings import QuietHoursSettings
from tests.pigeon import World, world
from tests.store.conftest import STORES
from tests.support.postgres import Postgres

AGENT = Actor("agent", "u1", "Bo")
QUEUED = Entry("reply.queued", AGENT, {})
STATEMENTS = {"sqlite": 8, "postgresql": 4}  # begin counts, the commit does not


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest) -> str:
    if request.param != "postgresql":
        return ""
    server: Postgres = request.getfixturevalue("postgres")
    return server.empty().render_as_string(hide_password=False)


@pytest.fixture
async def loft(url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, database_url=url) as made:
        yield made


async def test_what_is_held_on_purpose_is_queued_from_when_it_is_due(url: str, tmp_path: Path) -> None:
    """Both what is held from the start and what is held when it is about to leave, with all of its parts."""
    nine = QuietHoursSettings(hours="09:00-18:00", default_zone="UTC")
    async with world(tmp_path, database_url=url, policy=Policy(settings={QuietHoursSettings: nine})) as loft:
        loft.clock.now = datetime(2026, 3, 2, 17, 59, tzinfo=UTC)
        for ring in ("ring77", "ring78"):
            sale = MessageRequest(channel="open", to=ring, text="Sale! " * 300, purpose="marketing")
            assert isinstance(await proactive(loft.core, sale, AGENT), Submitted)
            loft.clock.now = datetime(2026, 3, 2, 18, tzinfo=UTC)
        await loft.run(loft.dispatcher())
        rows = await loft.rows(schema.outbox)
        morning = micros(datetime(2026, 3, 3, 9, tzinfo=UTC))
        assert {(row.queued_at, row.fence) for row in rows} == {(morning, 0)}
        assert {row.state for row in rows if row.part == 0} == {"held"}
        assert all('"quiet_hours"' in row.error for row in rows if row.part == 0)
        loft.clock.now = datetime(2026, 3, 3, 9, tzinfo=UTC)
        await loft.run(loft.dispatcher())
        assert {row.state for row in await loft.rows(schema.outbox)} == {"sent"}


async def place(loft: World, ticket: str) -> Place:
    found = await loft.core.database.read(lambda c: place_of(c, ticket, loft.core.accounts))
    assert found is not None
    return found


async def test_a_reply_takes_few_statements(loft: World) -> None:
    """Each costs about as much as all that is thought about the reply: what adds one should be worth it."""
    ticket = await loft.ticket()
    statements: list[str] = []
    engine = loft.core.database._writes
    event.listen(engine, "before_cursor_execute", lambda *told: statements.append(told[2]))
    most = STATEMENTS[engine.dialect.name]
    for request in (ReplyRequest(text="Hello"), ReplyRequest(text="And then"), ReplyRequest(text="?", status="hold")):
        statements.clear()
        assert isinstance(await submit(loft.core, ticket, request, AGENT), Submitted)
        assert len(statements) <= most, "\n".join(statements)
    assert await loft.log(ticket) == ["reply.queued", "ticket.status_changed"] + ["reply.queued"] * 2 + [
        "ticket.status_changed"
    ]


async def test_a_place_has_the_last_word_of_the_customer_and_every_address(loft: World) -> None:
    ticket = await loft.ticket()
    before = await place(loft, ticket)
    assert before.last is None
    row = {
        "ticket_id": ticket, "conversation_id": before.conversation["id"], "contact_id": before.ticket["contact_id"],
        "identity_id": before.identity["id"], "created_at": 0,
    }  # fmt: skip
    said = [
        row | {"id": new_id(), "direction": direction, "visibility": visibility}
        for direction, visibility in (
            ("inbound", "private"),
            ("inbound", "public"),
            ("inbound", "note"),
            ("outbound", ""),
        )
    ]
    more = {
        "id": new_id(), "identity_id": before.identity["id"], "channel": "pigeon", "account": "loft", "kind": "ring",
        "value": "newest", "scope": "account", "evidence": "attested", "attested_at": 2**60,
    }  # fmt: skip
    hidden = more | {"id": new_id(), "kind": "anonymous", "value": "nobody"}

    def job(connection: Connection) -> None:
        insert_many(connection, schema.messages, said)
        insert_many(connection, schema.addresses, [more, hidden])

    await loft.core.database.write(job)
    after = await place(loft, ticket)
    assert after.last is not None
    assert after.last["id"] == said[1]["id"]
    assert [address.value for address in after.addresses] == ["newest", before.addresses[0].value]


async def lines(loft: World, row: Any, status: Any) -> list[tuple[str, Any]]:
    """A line and a status, by somebody who read the ticket as `row`."""

    def job(connection: Connection) -> list[dict[str, Any]]:
        found = store.lines_and_status(connection, row, [QUEUED], status, AGENT, 7)
        insert_many(connection, schema.ticket_events, found)
        return found

    found = await loft.core.database.write(job)
    return [(line["kind"], line["sequence"]) for line in found]


async def test_a_status_is_set_on_the_ticket_as_it_is_by_then(loft: World) -> None:
    ticket = await loft.ticket()
    read = (await place(loft, ticket)).ticket
    assert await lines(loft, read, "solved") == [("reply.queued", 1), ("ticket.status_changed", 2)]
    now = (await loft.rows(schema.tickets))[0]
    assert (now.status, now.sequence, now.solved_at, now.updated_at) == ("solved", 2, 7, 7)
    # it was "new" when it was read; the store knows better
    assert await lines(loft, read, "open") == [("reply.queued", 3)]
    now = (await loft.rows(schema.tickets))[0]
    assert (now.status, now.sequence, now.solved_at) == ("open", 4, None)
    assert await loft.log(ticket) == ["reply.queued", "ticket.status_changed"] * 2
    change = (await loft.rows(schema.ticket_events, schema.ticket_events.c.sequence == 4))[0]
    assert change.data == '{"from":"solved","to":"open"}'
    assert await lines(loft, read, "new") == [("reply.queued", 5)]  # as it was read, and is no more
    assert (await loft.rows(schema.tickets))[0].status == "new"


async def test_a_ticket_closed_or_gone_meanwhile_takes_nothing(loft: World) -> None:
    ticket = await loft.ticket()
    found = await place(loft, ticket)
    await loft.execute(update(schema.tickets).values(status="closed"))
    with pytest.raises(TicketClosed):
        await lines(loft, found.ticket, "open")
    assert await loft.log(ticket) == []
    await loft.execute(delete(schema.tickets))
    assert await lines(loft, found.ticket, "open") == []
    with pytest.raises(RequestError, match="no such ticket"):
        await submit(loft.core, ticket, ReplyRequest(text="Hello"), AGENT)


async def test_a_message_is_found_whose_place_in_the_search_is_taken(loft: World) -> None:
    ticket = await loft.ticket()
    first = ((await place(loft, ticket)).ticket["number"] << search_index.BITS) + search_index.OWN + 1
    other = {"id": first, "ref": new_id(), "account": "loft", "words": " other "}
    await loft.core.database.write(lambda c: insert_many(c, schema.search_entries, [other]))
    answer = await submit(loft.core, ticket, ReplyRequest(text="Hello"), AGENT)
    assert isinstance(answer, Submitted)
    found = {row.ref: (row.id, row.words) for row in await loft.rows(schema.search_entries)}
    assert found[other["ref"]] == (first, " other ")
    assert found[answer.message_id] == (first + 1, " hello ")


@pytest.mark.postgres
@pytest.mark.parametrize("loft", ["postgresql"], indirect=True)
async def test_replies_of_two_processes_on_one_ticket_are_all_taken_and_found(loft: World) -> None:
    ticket = await loft.ticket()
    other = Database(loft.core.database.url)
    other.start()
    cores = [loft.core, replace(loft.core, database=other)]
    try:
        answers = await asyncio.gather(
            *(submit(cores[n % 2], ticket, ReplyRequest(text=f"Reply {n}"), AGENT) for n in range(60))
        )
    finally:
        await other.stop()
    assert {type(answer) for answer in answers} == {Submitted}
    assert sorted(row.sequence for row in await loft.rows(schema.ticket_events)) == list(range(1, 62))
    assert len(await loft.rows(schema.outbox)) == 60
    found = {row.ref for row in await loft.rows(schema.search_entries)}
    assert found >= {row.id for row in await loft.rows(schema.messages)}
    changes = await loft.rows(schema.ticket_events, schema.ticket_events.c.kind == "ticket.status_changed")
    assert len(changes) == 1
