"""Fallback chains: one way out for a refused message, one line that explains it, never two messages."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, insert, select, update

from adapters import Channel
from config.outbox import FallbackSettings, FallbackStep
from gateway import replies
from gateway.fallback import chain_of, take_over
from gateway.ids import micros, new_id
from gateway.intake import IntakeWorker
from gateway.replies import (
    AttachmentRequest,
    Denied,
    FallbackRequest,
    MessageRequest,
    ReplyRequest,
    RequestError,
    Submitted,
    TemplateRequest,
)
from gateway.settling import cancel, replay_dead, retry
from gateway.store import receipts, schema
from gateway.tickets import Actor
from normalizers.model import DeliveryUpdate, OutboundMessage, PlatformError
from outbox import crashpoints
from outbox.detours import Part, nothing_left
from tests.pigeon import FINAL, PIGEON, World, world
from tests.support.postgres import Postgres

AGENT = Actor("agent", "u1", "Bo")
LATE = timedelta(hours=24)
HELLO = FallbackRequest(template=TemplateRequest(name="hello", language="en", parameters=["{text}"]))
TO_OPEN, TO_POST = FallbackRequest(channel="open"), FallbackRequest(channel="post")
CONFIGURED = FallbackSettings((FallbackStep(channel="open"), FallbackStep(channel="post")), channel="pigeon")


@pytest.fixture
async def loft(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """The same on each store."""
    url = ""
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.empty().render_as_string(hide_password=False)
    async with world(tmp_path, database_url=url) as made:
        yield made


async def closed(loft: World, **columns: Any) -> str:
    """A ticket whose window has closed."""
    return await loft.ticket("pigeon", opened=loft.clock() - LATE, **columns)


async def also_on(loft: World, ticket: str, channel: str, ring: str = "second", **more: Any) -> str:
    """Give the ticket's contact an identity on another channel; its id."""
    identity, now = new_id(), micros(loft.clock())
    evidence = more.pop("evidence", "attested")
    account = more.pop("account", "loft")
    kind = "email" if channel == "post" else "ring"

    def job(connection: Connection) -> None:
        contact = connection.execute(select(schema.tickets.c.contact_id).where(schema.tickets.c.id == ticket)).scalar()
        connection.execute(
            insert(schema.identities).values(
                id=identity, contact_id=contact, channel=channel, account=account, external_id=ring, created_at=now,
                **({"opened_at": now} | more),
            )
        )  # fmt: skip
        connection.execute(
            insert(schema.addresses).values(
                id=new_id(), identity_id=identity, channel=channel, account=account, kind=kind, value=ring,
                scope="account", evidence=evidence, attested_at=now,
            )
        )  # fmt: skip

    await loft.core.database.write(job)
    return identity


async def knows(loft: World, ticket: str, attribute: str, value: str, evidence: str = "attested") -> None:
    """Give the ticket's contact a value by which it can be written to."""

    def job(connection: Connection) -> None:
        contact = connection.execute(select(schema.tickets.c.contact_id).where(schema.tickets.c.id == ticket)).scalar()
        connection.execute(
            insert(schema.contact_values).values(
                id=new_id(), contact_id=contact, identity_id="", attribute=attribute, value=value, evidence=evidence,
                at=micros(loft.clock()),
            )
        )  # fmt: skip

    await loft.core.database.write(job)


async def story(loft: World, ticket: str) -> dict[str, Any]:
    """The one line that explains a detour."""
    rows = await loft.rows(
        schema.ticket_events, schema.ticket_events.c.ticket_id == ticket,
        schema.ticket_events.c.kind == "reply.fell_back",
    )  # fmt: skip
    (row,) = rows
    found: dict[str, Any] = msgspec.json.decode(row.data)
    return found


async def counts(loft: World) -> dict[str, int]:
    tables = ("tickets", "conversations", "identities", "contacts", "messages", "outbox", "ticket_events", "counters")
    return {name: len(await loft.rows(schema.metadata.tables[name])) for name in tables}


async def reply(loft: World, ticket: str, *steps: FallbackRequest, **more: Any) -> Submitted | Denied:
    request = ReplyRequest(**({"text": "It is back"} | more), fallback=list(steps) or None)
    return await replies.submit(loft.core, ticket, request, AGENT)


# --- asked for --------------------------------------------------------------------------------------------------------


async def test_a_template_takes_the_place_of_the_text(loft: World) -> None:
    ticket = await closed(loft)
    answer = await reply(loft, ticket, HELLO, TO_OPEN, text="It is\n back")
    assert isinstance(answer, Submitted)
    message = await loft.message(answer.message_id)
    assert (message.ticket_id, message.kind, message.text) == (ticket, "template", "[hello] | It is back")
    assert await loft.log(ticket) == ["reply.queued", "reply.fell_back", "ticket.status_changed"]
    told = await story(loft, ticket)
    assert (told["rule"], told["went_to"]["template"], told["went_to"]["message_id"]) == (
        "window",
        "hello",
        answer.message_id,
    )
    assert len(await loft.rows(schema.messages)) == 1


async def test_places_of_a_template_are_filled_once(loft: World) -> None:
    ticket = await closed(loft)
    step = FallbackRequest(template=TemplateRequest(name="hello", parameters={"body": ["{name}: {text}"]}))
    answer = await reply(loft, ticket, step, text="say {name}")
    assert isinstance(answer, Submitted)
    (part,) = await loft.rows(schema.outbox)
    sent = msgspec.json.decode(part.payload, type=OutboundMessage)
    assert sent.template is not None
    assert sent.template.parameters == {"body": ["Ann: say {name}"]}


async def test_another_channel_of_the_contact_on_a_ticket_of_its_own(either: World) -> None:
    ticket = await closed(either)
    identity = await also_on(either, ticket, "open")
    answer = await reply(either, ticket, TO_OPEN, status="pending")
    assert isinstance(answer, Submitted)
    assert answer.ticket_id != ticket
    there = next(row for row in await either.rows(schema.tickets) if row.id == answer.ticket_id)
    assert (there.channel, there.identity_id, there.status, there.via) == ("open", identity, "pending", "api")
    told = await story(either, ticket)
    assert told["tried"] == [
        {"account": "loft", "channel": "pigeon", "template": "", "rule": "window", "reason": told["reason"]}
    ]
    assert (told["went_to"]["ticket_id"], told["went_to"]["channel"]) == (there.id, "open")
    assert await either.log(there.id) == ["ticket.created", "reply.queued"]
    (line,) = await either.rows(schema.ticket_events, schema.ticket_events.c.kind == "reply.queued")
    assert msgspec.json.decode(line.data)["fallback_from"] == {"ticket_id": ticket, "number": 1001, "rule": "window"}
    assert (await either.rows(schema.tickets, schema.tickets.c.id == ticket))[0].status == "pending"
    await either.run(either.dispatcher())
    assert [sent.to for sent in either.platform.sends] == ["second"]
    again = await reply(either, ticket, TO_OPEN)
    assert isinstance(again, Submitted)
    assert again.ticket_id == there.id  # the conversation's open ticket


async def test_steps_are_tried_in_order_and_each_refusal_is_told(loft: World) -> None:
    ticket = await closed(loft)
    await also_on(loft, ticket, "open", state="opted_out")
    await also_on(loft, ticket, "post", "ann@example.com")
    answer = await reply(loft, ticket, FallbackRequest(channel="keyed"), TO_OPEN, TO_POST)
    assert isinstance(answer, Submitted)
    assert (await loft.message(answer.message_id)).channel == "post"
    tried = (await story(loft, ticket))["tried"]
    assert [(step["channel"], step["rule"]) for step in tried] == [
        ("pigeon", "window"), ("keyed", "address"), ("open", "opt_out"),
    ]  # fmt: skip
    (part,) = await loft.rows(schema.outbox)
    assert msgspec.json.decode(part.payload)["mail"]["subject"] == "Seeds"
    again = await reply(loft, ticket, TO_POST)
    assert isinstance(again, Submitted)
    assert again.ticket_id == answer.ticket_id  # the thread that was begun goes on


async def test_an_attested_address_of_the_contact_is_enough(either: World) -> None:
    ticket = await closed(either)
    await knows(either, ticket, "email", "claimed@example.com", "claimed")
    assert isinstance(await reply(either, ticket, TO_POST), Denied)
    await knows(either, ticket, "email", "ann@example.com")
    answer = await reply(either, ticket, TO_POST)
    assert isinstance(answer, Submitted)
    (identity,) = await either.rows(schema.identities, schema.identities.c.channel == "post")
    (origin,) = await either.rows(schema.tickets, schema.tickets.c.id == ticket)
    assert (identity.external_id, identity.contact_id) == ("ann@example.com", origin.contact_id)


async def test_nobody_elses_address_is_used(loft: World) -> None:
    ticket = await closed(loft)
    await loft.ticket("post", ring="ann@example.com", address_kind="email")
    await knows(loft, ticket, "email", "ann@example.com")
    assert isinstance(await reply(loft, ticket, TO_POST), Denied)


async def test_what_only_a_customer_typed_is_no_address(loft: World) -> None:
    ticket = await closed(loft)
    await also_on(loft, ticket, "open", evidence="claimed")
    answer = await reply(loft, ticket, TO_OPEN)
    assert isinstance(answer, Denied)
    assert answer.alternatives == ()
    (line,) = await loft.rows(schema.ticket_events)
    told = msgspec.json.decode(line.data)
    assert (line.kind, told["rule"], told["tried"][0]["rule"]) == ("reply.refused", "window", "address")


async def test_an_opt_out_is_not_walked_around(loft: World) -> None:
    for columns in ({"state": "opted_out"}, {"state": "blocked"}):
        ticket = await closed(loft, **columns)
        await also_on(loft, ticket, "open", new_id())
        answer = await reply(loft, ticket, TO_OPEN)
        assert isinstance(answer, Denied)
    ticket = await closed(loft, status="closed")
    await also_on(loft, ticket, "open", new_id())
    assert isinstance(await reply(loft, ticket, TO_OPEN), Denied)
    assert await loft.rows(schema.outbox) == []


async def test_what_passes_goes_nowhere_else(loft: World) -> None:
    ticket = await loft.ticket("pigeon")
    await also_on(loft, ticket, "open")
    answer = await reply(loft, ticket, TO_OPEN)
    assert isinstance(answer, Submitted)
    assert answer.ticket_id == ticket
    assert len(await loft.rows(schema.outbox)) == 1


async def test_a_text_beside_a_template_is_said_by_the_chain_only(loft: World) -> None:
    ticket = await closed(loft)
    template = TemplateRequest(name="hello", parameters=["Ann"])
    for steps in ((), (FallbackRequest(template=TemplateRequest(name="other")),)):
        with pytest.raises(RequestError, match="goes without a text") as refused:
            await reply(loft, ticket, *steps, template=template)
        assert refused.value.field == "text"
    answer = await reply(loft, ticket, TO_OPEN, template=template)
    assert isinstance(answer, Submitted)
    message = await loft.message(answer.message_id)
    assert (message.channel, message.kind, message.text) == ("pigeon", "template", "[hello] | Ann")
    planned = await replies.dry_run(
        loft.core, ticket, ReplyRequest(text="It is back", template=template, fallback=[TO_OPEN]), AGENT
    )
    assert [(part.text, part.template) for part in planned.parts] == [("", "hello")]
    first = MessageRequest(channel="pigeon", to="r9", text="It is back", template=template)
    with pytest.raises(RequestError, match="goes without a text"):
        await replies.proactive(loft.core, first, AGENT)


async def test_a_refused_template_goes_as_its_text_where_there_are_no_templates(loft: World) -> None:
    ticket = await closed(loft)
    await also_on(loft, ticket, "post", "ann@example.com")
    template = TemplateRequest(name="paused", parameters=["Ann"])
    row = {"account": "loft", "name": "paused", "language": "", "status": "paused", "parameters": 1, "at": 0}
    await loft.core.database.write(lambda connection: connection.execute(insert(schema.templates).values(row)))
    assert isinstance(await reply(loft, ticket, TO_POST, template=template, text=""), Denied)
    answer = await reply(loft, ticket, TO_POST, template=template)
    assert isinstance(answer, Submitted)
    message = await loft.message(answer.message_id)
    assert (message.channel, message.kind, message.text) == ("post", "text", "It is back")
    assert (await story(loft, ticket))["rule"] == "template"


async def test_a_template_carries_no_files(loft: World) -> None:
    ticket = await closed(loft)
    files = [AttachmentRequest(url="https://files.example/b.pdf")]
    assert isinstance(await reply(loft, ticket, HELLO, attachments=files), Denied)


async def test_steps_nobody_can_take_are_refused(loft: World) -> None:
    ticket = await closed(loft)
    for step, code, field in (
        (FallbackRequest(), "invalid", "fallback[0]"),
        (FallbackRequest(channel="owl"), "unknown_channel", "fallback[0].channel"),
        (FallbackRequest(channel="open", account="owl"), "unknown_account", "fallback[0].account"),
    ):
        with pytest.raises(RequestError) as wrong:
            await reply(loft, ticket, step)
        assert (wrong.value.code, wrong.value.field) == (code, field)


@pytest.mark.parametrize("window", ["open", "closed"])
async def test_a_template_that_can_fit_at_no_time_is_told_at_once(either: World, window: str) -> None:
    ticket = await (closed(either) if window == "closed" else either.ticket("pigeon"))
    same = {"account": "loft", "status": "approved", "at": 0}
    rows = [
        same | {"name": "hello", "language": "en", "parameters": 1},
        same | {"name": "both", "language": "en", "parameters": 0},
        same | {"name": "both", "language": "de", "parameters": 0},
        same | {"name": "paused", "language": "en", "parameters": 0, "status": "paused"},
    ]
    await either.core.database.write(lambda connection: connection.execute(insert(schema.templates), rows))
    for wrong, field, words in (
        (
            TemplateRequest(name="hello", language="fr", parameters=["{text}"]),
            "language",
            "'hello' is not there in 'fr'",
        ),
        (TemplateRequest(name="both"), "language", "name one of these languages"),
        (TemplateRequest(name="hello", parameters=["{name}", "{text}"]), "parameters", "takes 1 parameters, not 2"),
    ):
        with pytest.raises(RequestError, match=words) as refused:
            await reply(either, ticket, TO_OPEN, FallbackRequest(template=wrong))
        error = refused.value
        assert (error.status, error.code, error.field) == (422, "invalid", f"fallback[1].template.{field}")
    assert not await either.rows(schema.messages, schema.messages.c.direction == "outbound")
    for fine in (  # unknown, or known to fit; what its status is may change until it is tried
        TemplateRequest(name="nobody-knows"), TemplateRequest(name="hello", parameters=["{text}"]),
        TemplateRequest(name="paused"),
    ):  # fmt: skip
        await reply(either, ticket, FallbackRequest(template=fine))


async def test_a_limited_key_stays_within_its_accounts(loft: World) -> None:
    ticket = await closed(loft)
    await also_on(loft, ticket, "open", account="tower")
    request = ReplyRequest(text="Hi", fallback=[TO_OPEN])
    answer = await replies.submit(loft.core, ticket, request, AGENT, accounts={"loft"})
    assert isinstance(answer, Denied)
    assert answer.alternatives == ()
    with pytest.raises(RequestError):
        step = FallbackRequest(channel="open", account="tower")
        await replies.submit(loft.core, ticket, ReplyRequest(text="x", fallback=[step]), AGENT, accounts={"loft"})
    assert isinstance(await replies.submit(loft.core, ticket, request, AGENT, accounts={"loft", "tower"}), Submitted)


async def test_the_same_key_goes_the_same_way_once(loft: World) -> None:
    ticket = await closed(loft)
    await also_on(loft, ticket, "open")
    request = ReplyRequest(text="Once", fallback=[TO_OPEN])
    first = await replies.submit(loft.core, ticket, request, AGENT, "k1", "a")
    assert await replies.submit(loft.core, ticket, request, AGENT, "k1", "a") == first
    assert len(await loft.rows(schema.messages)) == 1


async def test_a_crash_in_the_transaction_leaves_nothing(either: World) -> None:
    ticket = await closed(either)
    await knows(either, ticket, "email", "ann@example.com")
    before = await counts(either)

    def job(connection: Connection) -> None:
        row = replies._place(connection, either.core, ticket).ticket
        words = replies._words(either.core, row, ReplyRequest(text="Hi"), AGENT, "")
        chain = chain_of(connection, either.core, "loft", "pigeon", [TO_POST], None)
        answer, _ = replies.file(connection, either.core, row, words, "pending", AGENT, AGENT, chain)
        assert isinstance(answer, Submitted)
        raise RuntimeError("the power goes")

    with pytest.raises(RuntimeError):
        await either.core.database.write(job)
    assert await counts(either) == before


# --- configured -------------------------------------------------------------------------------------------------------


async def test_a_configured_chain_is_followed_unless_the_request_says_otherwise(tmp_path: Path) -> None:
    async with world(tmp_path, fallback=(CONFIGURED,)) as loft:
        ticket = await closed(loft)
        await also_on(loft, ticket, "open")
        answer = await reply(loft, ticket)
        assert isinstance(answer, Submitted)
        assert (await loft.message(answer.message_id)).channel == "open"
        no = await replies.submit(loft.core, ticket, ReplyRequest(text="Hi", fallback=[]), AGENT)
        assert isinstance(no, Denied)
        assert [other.channel for other in no.alternatives] == ["open"]


# --- first messages ---------------------------------------------------------------------------------------------------


async def test_a_first_message_goes_on_too_and_leaves_one_ticket(loft: World) -> None:
    ticket = await closed(loft, status="closed")
    await also_on(loft, ticket, "open")
    contact = (await loft.rows(schema.contacts))[0].id
    request = MessageRequest(channel="pigeon", contact=contact, text="Hi", fallback=[HELLO, TO_OPEN])
    planned = await replies.dry_run_proactive(loft.core, request, AGENT)
    assert planned.detour is not None
    assert (planned.decision, planned.detour.template, planned.detour.ticket_id) == ("allow", "hello", "")
    assert planned.waits == ()  # it does not stand in its own way
    assert len(await loft.rows(schema.tickets)) == 1
    answer = await replies.proactive(loft.core, msgspec.structs.replace(request, fallback=[TO_OPEN]), AGENT)
    assert isinstance(answer, Submitted)
    channels = sorted(row.channel for row in await loft.rows(schema.tickets))
    assert channels == ["open", "pigeon"]
    assert (await story(loft, answer.ticket_id))["went_to"]["channel"] == "open"
    assert await loft.log(ticket) == []


async def test_a_first_message_nobody_can_get_leaves_nothing(either: World) -> None:
    before = await counts(either)
    request = MessageRequest(channel="pigeon", to="ring9", text="Hi", fallback=[TO_OPEN, TO_POST])
    assert isinstance(await replies.proactive(either.core, request, AGENT), Denied)
    assert (await replies.dry_run_proactive(either.core, request, AGENT)).decision == "deny"
    assert await counts(either) == before
    template = msgspec.structs.replace(request, fallback=[HELLO])
    answer = await replies.proactive(either.core, template, AGENT)
    assert isinstance(answer, Submitted)
    assert (await either.message(answer.message_id)).kind == "template"


# --- at the last moment -----------------------------------------------------------------------------------------------


async def queued(loft: World, *steps: FallbackRequest, **more: Any) -> tuple[str, str]:
    """A reply that passed, with a chain, whose window then closes; its ticket and message."""
    ticket = await loft.ticket("pigeon")
    await also_on(loft, ticket, "open")
    answer = await reply(loft, ticket, *(steps or (TO_OPEN,)), **more)
    assert isinstance(answer, Submitted)
    loft.clock.forward(hours=25)
    return ticket, answer.message_id


async def deliver(loft: World) -> None:
    """Until nothing more leaves; a round that only sends messages on begins no send, so one more follows."""
    dispatcher = loft.dispatcher()
    for _ in range(3):
        await loft.run(dispatcher)


async def test_a_window_that_closes_while_it_waits(either: World) -> None:
    ticket, message = await queued(either)
    await deliver(either)
    assert await either.status(message) == "cancelled"
    told = await story(either, ticket)
    assert (told["rule"], told["went_to"]["channel"]) == ("window", "open")
    assert await either.log(ticket) == ["reply.queued", "ticket.status_changed", "reply.fell_back"]
    assert [sent.payload["text"] for sent in either.platform.sends] == ["It is back"]
    assert [sent.to for sent in either.platform.sends] == ["second"]
    assert await either.rows(schema.dead_letters) == []
    for call in (retry, cancel):  # nobody can send it a second time
        with pytest.raises(RequestError):
            await call(either.core, message, AGENT)
    await deliver(either)
    assert len(either.platform.sends) == 1


async def test_two_senders_take_one_detour(either: World) -> None:
    """Both come upon the refusal at the same moment."""
    _, message = await queued(either)
    senders = [either.dispatcher(owner=f"s{number}", alone=False) for number in range(2)]
    for _ in range(4):
        await asyncio.gather(*(sender.round() for sender in senders))
        await asyncio.gather(*(sender.settled() for sender in senders))
    assert await either.status(message) == "cancelled"
    assert [sent.to for sent in either.platform.sends] == ["second"]
    assert len(await either.rows(schema.messages)) == 2


async def test_a_cancel_at_the_same_moment(either: World) -> None:
    """Either it was taken back before, or it has gone on: never both."""
    _, message = await queued(either)
    taken, _ = await asyncio.gather(cancel(either.core, message, AGENT), deliver(either), return_exceptions=True)
    await deliver(either)
    assert await either.status(message) == "cancelled"
    assert len(either.platform.sends) == (1 if isinstance(taken, RequestError) else 0)


async def test_several_parts_go_together(loft: World) -> None:
    _, message = await queued(loft, text="word " * 30)
    assert len(await loft.rows(schema.outbox)) == 2
    await deliver(loft)
    assert {row.state for row in await loft.rows(schema.outbox, schema.outbox.c.message_id == message)} == {"cancelled"}
    assert len(loft.platform.sends) == 2


async def test_not_when_a_part_has_left(loft: World) -> None:
    ticket = await loft.ticket("pigeon")
    await also_on(loft, ticket, "open")
    answer = await reply(loft, ticket, TO_OPEN, text="word " * 30)
    assert isinstance(answer, Submitted)
    dispatcher = loft.dispatcher()
    await dispatcher.round()
    await dispatcher.settled()
    assert len(loft.platform.sends) == 1
    loft.clock.forward(hours=25)
    await loft.run(dispatcher)
    assert await loft.status(answer.message_id) == "failed"
    assert len(loft.platform.sends) == 1


async def test_not_when_nobody_knows_whether_it_left(loft: World) -> None:
    ticket, message = await queued(loft)
    await loft.execute(
        insert(schema.attempts).values(
            id=new_id(), outbox_id="x", message_id=message, number=1, started_at=0, finished_at=1, outcome="unknown"
        )
    )
    await deliver(loft)
    assert await loft.status(message) == "failed"
    assert "reply.fell_back" not in await loft.log(ticket)
    assert loft.platform.sends == []


async def test_not_after_an_opt_out_in_between(loft: World) -> None:
    ticket, message = await queued(loft)
    await loft.execute(
        update(schema.identities).where(schema.identities.c.channel == "pigeon").values(state="opted_out")
    )
    await deliver(loft)
    assert await loft.status(message) == "failed"
    assert "reply.fell_back" not in await loft.log(ticket)


async def test_a_refusal_as_it_leaves_tells_what_was_tried(loft: World) -> None:
    _, message = await queued(loft)
    await loft.execute(update(schema.identities).where(schema.identities.c.channel == "open").values(state="blocked"))
    await deliver(loft)
    assert await loft.status(message) == "failed"
    (line,) = await loft.rows(schema.ticket_events, schema.ticket_events.c.kind == "reply.failed")
    said = msgspec.json.decode(line.data)
    assert (said["rule"], [(step["channel"], step["rule"]) for step in said["tried"]]) == (
        "window", [("open", "blocked")],
    )  # fmt: skip


async def test_a_second_refusal_takes_the_rest_of_the_chain(loft: World) -> None:
    ticket, first = await queued(loft, FallbackRequest(channel="pigeon", account="tower"), TO_OPEN)
    await also_on(loft, ticket, "pigeon", "third", account="tower")
    await loft.dispatcher().round()  # off to the tower, where it waits
    (second,) = await loft.rows(schema.messages, schema.messages.c.account == "tower")
    assert (second.status, await loft.status(first)) == ("queued", "cancelled")
    loft.clock.forward(hours=25)
    await deliver(loft)
    assert await loft.status(second.id) == "cancelled"
    assert (await story(loft, second.ticket_id))["went_to"]["channel"] == "open"
    assert [sent.to for sent in loft.platform.sends] == ["second"]


async def test_a_step_that_breaks_stops_nothing(loft: World) -> None:
    """What a chain needs and is gone (an upload) is a refusal like any other."""
    await loft.execute(
        schema.uploads.insert().values(
            id="up1", filename="a.png", media_type="image/png", size=10, path="aa/x", created_at=0
        )
    )
    ticket, message = await queued(loft, attachments=[AttachmentRequest(upload="up1")])
    await loft.execute(schema.uploads.delete())
    await deliver(loft)
    assert await loft.status(message) == "failed"
    assert "reply.failed" in await loft.log(ticket)


# --- refused by the platform ------------------------------------------------------------------------------------------


async def accepted(
    loft: World, *steps: FallbackRequest, channel: str = "final", ring: str = "second", **more: Any
) -> tuple[str, str]:
    """A reply with a chain that our rules let pass; its ticket and message."""
    ticket = await loft.ticket(channel)
    await also_on(loft, ticket, "open", ring)
    answer = await reply(loft, ticket, *(steps or (TO_OPEN,)), **more)
    assert isinstance(answer, Submitted)
    return ticket, answer.message_id


async def hear(loft: World, message: str, *states: Any, code: str = "late", channel: Channel = FINAL) -> None:
    """What the platform reports of a message's parts, in one batch."""
    parts = await loft.rows(schema.outbox, schema.outbox.c.message_id == message)
    updates = [
        DeliveryUpdate(
            id=new_id(), at=loft.clock(), status=state, target=part.external_id, ours=part.id,
            error=PlatformError(code, detail="too late") if state == "failed" else None,
        )
        for state in states
        for part in parts
    ]  # fmt: skip
    await loft.core.database.write(
        lambda c: receipts.apply(
            c, "loft", channel, updates, micros(loft.clock()), lambda c, refused: take_over(c, loft.core, refused)
        )
    )


def announced(loft: World, kind: str) -> list[dict[str, Any]]:
    return [event.data for event in loft.core.bus._recent if event.type == kind]


async def assert_sent_on(loft: World, ticket: str, message: str, sends: list[str]) -> None:
    """It went one other way, once, and nobody can send it a second time."""
    row = await loft.message(message)
    error = msgspec.json.decode(row.error)
    assert (row.status, row.fallback, error["code"], error["class"]) == ("cancelled", None, "late", "window-closed")
    told = await story(loft, ticket)
    assert (told["rule"], told["reason"].split()[0], told["went_to"]["channel"]) == ("platform", "late", "open")
    assert [(step["channel"], step["rule"]) for step in told["tried"]] == [(row.channel, "platform")]
    log = await loft.log(ticket)
    assert "reply.cancelled" not in log
    letters = await loft.rows(schema.dead_letters)
    assert [letter for letter in letters if letter.replayed_at is None] == []
    for call in (retry, cancel):
        with pytest.raises(RequestError):
            await call(loft.core, message, AGENT)
    for letter in letters:
        await replay_dead(loft.core, letter.id, AGENT)
    await deliver(loft)
    assert [sent.to for sent in loft.platform.sends] == sends
    assert await loft.log(ticket) == log


async def test_what_the_platform_refuses_goes_on(either: World) -> None:
    ticket, message = await accepted(either)
    follower = await reply(either, ticket, text="And this")
    assert isinstance(follower, Submitted)
    either.platform.refuse_next(400, "late")
    await deliver(either)
    (first,) = await either.rows(schema.addresses, schema.addresses.c.channel == "final")
    assert sorted(sent.to for sent in either.platform.sends) == sorted([first.value, "second"])
    await assert_sent_on(either, ticket, message, [sent.to for sent in either.platform.sends])
    assert await either.log(ticket) == [
        "reply.queued", "ticket.status_changed", "reply.queued", "reply.fell_back", "reply.sent",
    ]  # fmt: skip
    assert await either.status(follower.message_id) == "sent"
    assert announced(either, "dead_letter.created") == []
    assert either.core.metrics.dead_letters.labels("outbound")._value.get() == 0
    assert [data["status"] for data in announced(either, "message.updated") if data["message_id"] == message] == [
        "sending", "cancelled",
    ]  # fmt: skip
    assert any(data["ticket_id"] != ticket for data in announced(either, "ticket.created"))


async def test_whatever_may_be_reported_later_a_refusal_at_once_is_one(loft: World) -> None:
    ticket, message = await accepted(loft, channel="pigeon")
    loft.platform.refuse_next(400, "late")
    await deliver(loft)
    assert await loft.log(ticket) == ["reply.queued", "ticket.status_changed", "reply.fell_back"]
    await assert_sent_on(loft, ticket, message, ["second"])


async def test_what_has_no_chain_fails_as_ever(loft: World) -> None:
    ticket = await loft.ticket("final")
    await also_on(loft, ticket, "open")
    answer = await reply(loft, ticket)
    assert isinstance(answer, Submitted)
    loft.platform.refuse_next(400, "late")
    await deliver(loft)
    assert await loft.status(answer.message_id) == "failed"
    assert (await loft.log(ticket))[-1] == "reply.failed"
    assert len(await loft.rows(schema.dead_letters)) == len(announced(loft, "dead_letter.created")) == 1
    assert loft.platform.sends == []


@pytest.mark.parametrize("code", ["stop", "gone", "unheard"])
async def test_other_refusals_start_no_chain(either: World, code: str) -> None:
    """Who wants to hear nothing is not written to another way."""
    ticket, message = await accepted(either)
    either.platform.refuse_next(400, code)
    await deliver(either)
    assert await either.status(message) == "failed"
    assert "reply.fell_back" not in await either.log(ticket)
    _, reported = await accepted(either, ring="third")
    await deliver(either)
    await hear(either, reported, "failed", code=code)
    assert await either.status(reported) == "failed"
    assert len(await either.rows(schema.dead_letters)) == 2
    assert len(either.platform.sends) == 1


async def test_no_step_passes(either: World) -> None:
    ticket, message = await accepted(either, FallbackRequest(channel="keyed"), TO_OPEN)
    await either.execute(update(schema.identities).where(schema.identities.c.channel == "open").values(state="blocked"))
    either.platform.refuse_next(400, "late")
    await deliver(either)
    assert (await either.status(message), await either.log(ticket)) == (
        "failed", ["reply.queued", "ticket.status_changed", "reply.failed"],
    )  # fmt: skip
    (line,) = await either.rows(schema.ticket_events, schema.ticket_events.c.kind == "reply.failed")
    said = msgspec.json.decode(line.data)
    assert (said["error"]["code"], [(step["channel"], step["rule"]) for step in said["tried"]]) == (
        "late", [("keyed", "address"), ("open", "blocked")],
    )  # fmt: skip
    assert len(announced(either, "dead_letter.created")) == 1
    # a person who sends it again once there is a way has its chain with it, and the letter is answered
    await either.execute(update(schema.identities).where(schema.identities.c.channel == "open").values(state="active"))
    await retry(either.core, message, AGENT)
    either.platform.refuse_next(400, "late")
    await deliver(either)
    assert await either.status(message) == "cancelled"
    assert [sent.to for sent in either.platform.sends] == ["second"]
    assert [letter for letter in await either.rows(schema.dead_letters) if letter.replayed_at is None] == []


async def test_a_step_the_platform_refuses_too(either: World) -> None:
    """The rest of the chain is taken from there, each step once."""
    ticket, message = await accepted(either, HELLO, TO_OPEN)
    either.platform.refuse_next(400, "late")
    either.platform.refuse_next(400, "late")
    await deliver(either)
    rows = await either.rows(schema.messages)
    assert [(row.kind, row.channel, row.status) for row in rows] == [
        ("text", "final", "cancelled"), ("template", "final", "cancelled"), ("text", "open", "sent"),
    ]  # fmt: skip
    assert rows[0].id == message
    assert (await either.log(ticket)).count("reply.fell_back") == 2
    assert [(sent.to, sent.payload["text"]) for sent in either.platform.sends] == [("second", "It is back")]


async def test_parts_the_platform_refuses_at_once_go_together(either: World) -> None:
    ticket, message = await accepted(either, text="word " * 30)
    either.platform.refuse_next(400, "late")
    await deliver(either)
    assert {row.state for row in await either.rows(schema.outbox, schema.outbox.c.message_id == message)} == {
        "cancelled"
    }
    await assert_sent_on(either, ticket, message, ["second"] * 2)


async def test_not_when_the_first_part_has_left(either: World) -> None:
    ticket, message = await accepted(either, text="word " * 30)
    dispatcher = either.dispatcher()
    await dispatcher.round()
    await dispatcher.settled()
    either.platform.refuse_next(400, "late")
    await either.run(dispatcher)
    states = [row.state for row in await either.rows(schema.outbox, schema.outbox.c.message_id == message)]
    assert (states, await either.status(message)) == (["sent", "failed"], "failed")
    assert "reply.fell_back" not in await either.log(ticket)
    assert len(await either.rows(schema.dead_letters)) == 1
    # the platform takes back the first part, too: now nothing of it has arrived
    await hear(either, message, "failed")
    await assert_sent_on(either, ticket, message, [either.platform.sends[0].to, "second", "second"])


@pytest.mark.parametrize("arrived", ["delivered", "read"])
async def test_not_when_a_part_has_arrived(either: World, arrived: str) -> None:
    ticket, message = await accepted(either, text="word " * 30)
    await deliver(either)
    first, second = await either.rows(schema.outbox, schema.outbox.c.message_id == message)
    await either.execute(update(schema.outbox).where(schema.outbox.c.id == first.id).values(state=arrived))
    await hear(either, message, "failed")
    states = [row.state for row in await either.rows(schema.outbox, schema.outbox.c.message_id == message)]
    assert (states, second.state) == ([arrived, "failed"], "sent")
    assert "reply.fell_back" not in await either.log(ticket)


# --- refused by a receipt ---------------------------------------------------------------------------------------------


async def test_a_receipt_that_refuses_it_starts_the_chain_once(either: World) -> None:
    ticket, message = await accepted(either)
    await deliver(either)
    (first,) = either.platform.sends
    await hear(either, message, "failed", "failed")
    await hear(either, message, "failed")
    await hear(either, message, "sent")  # late, and true once: it says nothing any more
    await hear(either, message, "failed")
    assert await either.log(ticket) == ["reply.queued", "ticket.status_changed", "reply.sent", "reply.fell_back"]
    await assert_sent_on(either, ticket, message, [first.to, "second"])
    assert len(await either.rows(schema.messages)) == 2
    assert len(await either.rows(schema.dead_letters)) == 0


async def test_one_that_arrives_all_the_same_is_shown(loft: World) -> None:
    _, message = await accepted(loft)
    await deliver(loft)
    await hear(loft, message, "failed")
    await hear(loft, message, "delivered")
    assert await loft.status(message) == "delivered"
    await hear(loft, message, "failed")
    assert (await loft.status(message), len(await loft.rows(schema.messages))) == ("delivered", 2)


async def test_a_closed_window_is_the_last_word_where_other_failures_are_not(either: World) -> None:
    ticket, message = await accepted(either, channel="pigeon")
    await deliver(either)
    (first,) = either.platform.sends
    assert PIGEON.delivered_after_failed
    await hear(either, message, "failed", channel=PIGEON)
    await assert_sent_on(either, ticket, message, [first.to, "second"])


async def test_parts_go_on_when_the_last_of_them_is_refused(either: World) -> None:
    ticket, message = await accepted(either, text="word " * 30)
    await deliver(either)
    first, second = await either.rows(schema.outbox, schema.outbox.c.message_id == message)
    await either.execute(update(schema.outbox).where(schema.outbox.c.id == second.id).values(external_id="other"))
    gone = DeliveryUpdate(
        id=new_id(), at=either.clock(), status="failed", target=first.external_id, ours=first.id,
        error=PlatformError("late"),
    )  # fmt: skip
    await either.core.database.write(
        lambda c: receipts.apply(
            c, "loft", FINAL, [gone], micros(either.clock()), lambda c, refused: take_over(c, either.core, refused)
        )
    )
    assert await either.status(message) == "failed"
    assert "reply.fell_back" not in await either.log(ticket)
    await hear(either, message, "failed")
    assert await either.status(message) == "cancelled"
    assert (await story(either, ticket))["went_to"]["channel"] == "open"
    assert [letter for letter in await either.rows(schema.dead_letters) if letter.replayed_at is None] == []


async def test_a_refusal_takes_what_still_waits_with_it(either: World) -> None:
    """And what stood behind it goes."""
    ticket, message = await accepted(either, text="word " * 30)
    follower = await reply(either, ticket, text="And this")
    assert isinstance(follower, Submitted)
    dispatcher = either.dispatcher()
    await dispatcher.round()
    await dispatcher.settled()
    assert len(either.platform.sends) == 1
    await hear(either, message, "failed")
    await deliver(either)
    parts = await either.rows(schema.outbox, schema.outbox.c.message_id == message)
    assert {part.state for part in parts} == {"cancelled"}
    assert await either.status(follower.message_id) == "sent"
    assert (await story(either, ticket))["went_to"]["channel"] == "open"


CLOSED: tuple[str, str] = ("failed", "window-closed")
STAYED: dict[str, tuple[list[Part], bool]] = {  # parts, nothing left
    "all wait": ([Part("queued"), Part("held", tries=["held", "throttle", "retry"])], True),
    "refused at once": ([Part(*CLOSED, ["retry", "failed"]), Part("queued")], True),
    "refused later": ([Part(*CLOSED, ["sent"])], True),
    "of two tries one was refused": ([Part(*CLOSED, ["sent", "sent"])], False),
    "sent again after a refusal": ([Part(*CLOSED, ["failed", "sent"])], False),
    "waits again after it was taken": ([Part("queued", tries=["sent"])], False),
    "refused otherwise": ([Part("failed", "permanent", ["failed"])], False),
    "a part with another error": ([Part(*CLOSED, ["failed"]), Part("failed", "opted-out", ["failed"])], False),
    "on its way": ([Part(*CLOSED, ["failed"]), Part("sending", tries=[None])], False),
    "a try nobody knows of": ([Part(*CLOSED, [None])], False),
    "a try nobody can know of": ([Part(*CLOSED, ["unknown", "failed"])], False),
    "a part was sent": ([Part(*CLOSED, ["failed"]), Part("sent", tries=["sent"])], False),
    "a part has arrived": ([Part(*CLOSED, ["failed"]), Part("read", tries=["sent"])], False),
    "a part was taken back": ([Part("cancelled"), Part(*CLOSED, ["failed"])], False),
}


@pytest.mark.parametrize(("parts", "stayed"), STAYED.values(), ids=STAYED)
def test_when_nothing_of_a_message_has_left(parts: list[Part], stayed: bool) -> None:
    assert nothing_left(parts) == stayed


async def test_a_report_after_a_person_has_decided_starts_nothing(either: World) -> None:
    """Sent again by a person, a report may be about the try before."""
    ticket, message = await accepted(either)
    await either.execute(update(schema.identities).where(schema.identities.c.channel == "open").values(state="blocked"))
    await deliver(either)
    await hear(either, message, "failed")
    assert await either.status(message) == "failed"
    await either.execute(update(schema.identities).where(schema.identities.c.channel == "open").values(state="active"))
    await retry(either.core, message, AGENT)
    await hear(either, message, "failed")  # while it waits
    assert "reply.fell_back" not in await either.log(ticket)
    await retry(either.core, message, AGENT)
    await deliver(either)
    await hear(either, message, "failed")  # of the first try or of the second: nobody knows
    assert "reply.fell_back" not in await either.log(ticket)
    assert await either.status(message) == "failed"
    assert "second" not in [sent.to for sent in either.platform.sends]


async def test_a_report_that_is_faster_than_the_answer(either: World) -> None:
    """The try's outcome is not known yet: the chain waits for it."""
    ticket, message = await accepted(either)
    dispatcher = either.dispatcher()
    either.platform.gate = asyncio.Event()
    await dispatcher.round()
    assert await either.status(message) == "sending"
    await hear(either, message, "failed")
    assert (await either.status(message), await either.log(ticket)) == (
        "failed", ["reply.queued", "ticket.status_changed", "reply.failed"],
    )  # fmt: skip
    either.platform.gate.set()
    await dispatcher.settled()
    await deliver(either)
    row = await either.message(message)
    assert (row.status, msgspec.json.decode(row.error)["code"]) == ("cancelled", "late")
    assert (await story(either, ticket))["went_to"]["channel"] == "open"
    assert [sent.to for sent in either.platform.sends][1:] == ["second"]
    assert [letter for letter in await either.rows(schema.dead_letters) if letter.replayed_at is None] == []


async def test_receipts_of_intake_start_it(either: World) -> None:
    ticket, message = await accepted(either)
    await deliver(either)
    (part,) = await either.rows(schema.outbox, schema.outbox.c.message_id == message)
    now = micros(either.clock())
    for number in range(2):  # told twice, by two deliveries
        report = DeliveryUpdate(
            id=new_id(), at=either.clock(), channel="final", status="failed", target=part.external_id,
            error=PlatformError("late"),
        )  # fmt: skip
        await either.execute(
            insert(schema.events).values(
                id=new_id(), delivery_id=new_id(), account="loft", kind="delivery", dedupe_key=f"k{number}",
                received_at=now, payload=msgspec.json.encode(report).decode(),
            )
        )  # fmt: skip
    worker = IntakeWorker(either.core, take_over=lambda c, refused: take_over(c, either.core, refused))
    await worker.drain()
    assert await either.status(message) == "cancelled"
    assert [data["status"] for data in announced(either, "message.updated") if data["message_id"] == message][-1] == (
        "cancelled"
    )
    assert len(announced(either, "message.created")) == 2
    await assert_sent_on(either, ticket, message, [either.platform.sends[0].to, "second"])


@pytest.mark.parametrize("point", ["record.written", "receipts.written"])
async def test_a_crash_before_the_commit_leaves_it_undone(either: World, point: str) -> None:
    """The refusal and the way around it are one transaction."""

    def die() -> None:
        died.append(point)
        raise RuntimeError("the power goes")

    died: list[str] = []
    ticket, message = await accepted(either)
    if point == "receipts.written":
        await deliver(either)
        before = await counts(either)
        crashpoints.arm(point, die=die)
        with pytest.raises(RuntimeError):
            await hear(either, message, "failed")
        assert (await counts(either), await either.status(message)) == (before, "sent")
        await hear(either, message, "failed")
    else:
        before = await counts(either)
        either.platform.refuse_next(400, "late")
        dispatcher = either.dispatcher()
        crashpoints.arm(point, die=die)
        await dispatcher.round()
        await dispatcher.settled()
        assert (await counts(either), await either.status(message)) == (before, "sending")
        await dispatcher.keep()  # it is recorded again
    crashpoints.disarm()
    assert died == [point]
    await deliver(either)
    assert (await story(either, ticket))["went_to"]["channel"] == "open"
    assert [sent.to for sent in either.platform.sends].count("second") == 1
    assert len(await either.rows(schema.messages)) == 2


async def test_two_reports_at_the_same_moment(either: World) -> None:
    ticket, message = await accepted(either)
    await deliver(either)
    await asyncio.gather(*(hear(either, message, "failed") for _ in range(4)))
    await assert_sent_on(either, ticket, message, [either.platform.sends[0].to, "second"])


# --- the tickets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["asked for", "as it leaves", "refused"])
async def test_a_ticket_a_detour_answers_counts_as_answered(either: World, moment: str) -> None:
    """The one that was to be answered, and the one that was: each is moved on, once."""
    ticket = await either.ticket("pigeon", opened=either.clock() - (LATE if moment == "asked for" else timedelta(0)))
    other = await also_on(either, ticket, "open")
    there = await ticket_of(either, ticket, other)
    answer = await reply(either, ticket, TO_OPEN)
    assert isinstance(answer, Submitted)
    if moment == "as it leaves":
        either.clock.forward(hours=25)
    elif moment == "refused":
        either.platform.refuse_next(400, "late")
    await deliver(either)
    assert (await story(either, ticket))["went_to"]["ticket_id"] == there
    rows = {row.id: row.status for row in await either.rows(schema.tickets)}
    assert rows == {ticket: "open", there: "open"}
    for one in (ticket, there):
        assert (await either.log(one)).count("ticket.status_changed") == 1
    assert (await either.log(there))[:2] == ["reply.queued", "ticket.status_changed"]
    (line,) = await either.rows(
        schema.ticket_events, schema.ticket_events.c.ticket_id == there,
        schema.ticket_events.c.kind == "ticket.status_changed",
    )  # fmt: skip
    assert msgspec.json.decode(line.data) == {"from": "new", "to": "open"}


async def test_what_a_machine_says_leaves_a_ticket_new(loft: World) -> None:
    ticket = await closed(loft)
    there = await ticket_of(loft, ticket, await also_on(loft, ticket, "open"))
    request = ReplyRequest(text="It is back", fallback=[TO_OPEN])
    answer = await replies.submit(loft.core, ticket, request, Actor("bot", "k1", "Shop"))
    assert isinstance(answer, Submitted)
    assert answer.ticket_id == there
    assert {row.status for row in await loft.rows(schema.tickets)} == {"new"}


async def ticket_of(loft: World, ticket: str, identity: str) -> str:
    """A new ticket of another identity of the ticket's contact."""
    there = await loft.ticket("open", ring=new_id())

    def job(connection: Connection) -> None:
        contact = connection.execute(select(schema.tickets.c.contact_id).where(schema.tickets.c.id == ticket)).scalar()
        connection.execute(
            update(schema.tickets).where(schema.tickets.c.id == there).values(contact_id=contact, identity_id=identity)
        )
        conversation = select(schema.tickets.c.conversation_id).where(schema.tickets.c.id == there).scalar_subquery()
        connection.execute(
            update(schema.conversations)
            .where(schema.conversations.c.id == conversation)
            .values(identity_id=identity, key=identity)
        )

    await loft.core.database.write(job)
    return there


# --- preflight --------------------------------------------------------------------------------------------------------


async def test_a_denial_names_the_other_open_addresses(loft: World) -> None:
    ticket = await closed(loft)
    open_id = await also_on(loft, ticket, "open")
    await also_on(loft, ticket, "keyed", state="blocked")
    tower = await also_on(loft, ticket, "pigeon", "fourth", account="tower")
    asked = await replies.dry_run(loft.core, ticket, ReplyRequest(text="Hi"), AGENT)
    until = loft.clock() + timedelta(hours=24)
    found = {other.identity_id: (other.account, other.channel, other.until) for other in asked.alternatives}
    assert found == {open_id: ("loft", "open", None), tower: ("tower", "pigeon", until)}
    answer = await reply(loft, ticket)
    assert isinstance(answer, Denied)
    assert answer.alternatives == asked.alternatives
    limited = await replies.dry_run(loft.core, ticket, ReplyRequest(text="Hi"), AGENT, accounts={"loft"})
    assert [other.identity_id for other in limited.alternatives] == [open_id]


async def test_a_dry_run_shows_the_parts_and_how_long_it_stays_so(loft: World) -> None:
    ticket = await loft.ticket("pigeon")
    files = [AttachmentRequest(url="https://files.example/b.pdf")]
    asked = await replies.dry_run(loft.core, ticket, ReplyRequest(text="word " * 30, attachments=files), AGENT)
    assert (asked.decision, asked.window.open, asked.window.until) == ("change", True, loft.clock() + LATE)
    assert [(part.length, part.files, part.unit) for part in asked.parts] == [
        (99, (), "chars"), (49, (), "chars"), (0, ("b.pdf",), "chars"),
    ]  # fmt: skip
    assert await loft.rows(schema.messages) == []


async def test_a_dry_run_shows_the_detour_and_takes_none(loft: World) -> None:
    ticket = await closed(loft)
    await also_on(loft, ticket, "open")
    before = await counts(loft)
    request = ReplyRequest(text="Hi", fallback=[FallbackRequest(channel="keyed"), TO_OPEN])
    asked = await replies.dry_run(loft.core, ticket, request, AGENT)
    assert (asked.decision, [part.text for part in asked.parts]) == ("allow", ["Hi"])
    assert asked.detour is not None
    assert (asked.detour.channel, asked.detour.ticket_id) == ("open", "")
    assert [step.rule for step in asked.detour.tried] == ["window", "address"]
    assert await counts(loft) == before


@pytest.mark.parametrize("seed", range(40))
async def test_what_a_dry_run_says_a_submit_does(tmp_path: Path, seed: int) -> None:
    """At the same instant, whatever is asked of whomever: same decision, same verdicts, same parts, same way."""
    dice = random.Random(seed)
    async with world(tmp_path, fallback=dice.choice([(), (CONFIGURED,)])) as loft:
        opened = dice.choice([None, *(loft.clock() - LATE + timedelta(microseconds=n) for n in (-1, 0, 1))])
        state = dice.choice(["active", "active", "active", "opted_out", "blocked"])
        status = dice.choice(["new", "open", "closed"])
        ticket = await loft.ticket(dice.choice(["pigeon", "open"]), opened=opened, state=state, status=status)
        if dice.random() < 0.6:
            await also_on(loft, ticket, "open", "o", state=dice.choice(["active", "opted_out"]))
        if dice.random() < 0.6:
            await knows(loft, ticket, "email", "ann@example.com", dice.choice(["attested", "claimed"]))
        template = dice.choice([None, None, TemplateRequest(name="hello", parameters=["Ann"])])
        request = ReplyRequest(
            text="" if template else dice.choice(["Hi", "x" * 100, "x" * 101, " "]),
            template=template,
            visibility=dice.choice([None, None, None, "private", "public", "note"]),
            fallback=dice.choice([None, [], [HELLO], [TO_OPEN, TO_POST], [FallbackRequest(channel="keyed"), TO_POST]]),
        )
        before = await counts(loft)
        asked = await replies.dry_run(loft.core, ticket, request, AGENT)
        assert await counts(loft) == before
        answer = await replies.submit(loft.core, ticket, request, AGENT)
        assert isinstance(answer, Denied) == (asked.decision == "deny")
        assert answer.verdicts == asked.verdicts
        if isinstance(answer, Denied):
            assert answer.alternatives == asked.alternatives
            return
        rows = await loft.rows(schema.outbox)
        if request.visibility != "note":
            assert [_text(row) for row in rows] == [p.text for p in asked.parts]
        message = await loft.message(answer.message_id)
        place = (asked.detour.account, asked.detour.channel) if asked.detour else None
        assert place in (None, (message.account, message.channel))
        assert len(await loft.rows(schema.messages)) == 1


def _text(row: Any) -> str:
    return msgspec.json.decode(row.payload, type=OutboundMessage).text
