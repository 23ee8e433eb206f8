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

from config.outbox import FallbackSettings, FallbackStep
from gateway import replies
from gateway.fallback import chain_of
from gateway.ids import micros, new_id
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
from gateway.settling import cancel, retry
from gateway.store import schema
from gateway.tickets import Actor
from normalizers.model import OutboundMessage
from tests.pigeon import World, world
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
        row = replies._ticket(connection, ticket)
        words = replies._words(either.core, row, ReplyRequest(text="Hi"), AGENT, "")
        chain = chain_of(either.core, "loft", "pigeon", [TO_POST], None)
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
