"""Replies, notes and first messages: one transaction, the same answer twice, refusals on the ticket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import update

from gateway import replies
from gateway.replies import (
    AttachmentRequest,
    AuthorRequest,
    Denied,
    MessageRequest,
    ReplyRequest,
    RequestError,
    Submitted,
    TemplateRequest,
)
from gateway.store import schema
from gateway.tickets import Actor
from normalizers.model import OutboundMessage
from tests.pigeon import PIGEON, START, World, world

AGENT = Actor("agent", "u1", "Bo")


@pytest.fixture
async def loft(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def test_a_reply_is_queued_and_opens_the_ticket(loft: World) -> None:
    ticket = await loft.ticket("pigeon")
    answer = await replies.submit(loft.core, ticket, ReplyRequest(text="Hello"), AGENT)
    assert isinstance(answer, Submitted)
    message = await loft.message(answer.message_id)
    assert (message.status, message.text, message.visibility, message.kind) == ("queued", "Hello", "private", "text")
    assert msgspec.json.decode(message.author) == {"type": "agent", "id": "u1", "name": "Bo"}
    (part,) = await loft.rows(schema.outbox)
    sent = msgspec.json.decode(part.payload, type=OutboundMessage)
    assert sent.id == part.id
    assert sent.callback_url == f"https://gw.example/webhooks/loft?mid={part.id}"
    assert (await loft.rows(schema.tickets))[0].status == "open"
    assert await loft.log(ticket) == ["reply.queued", "ticket.status_changed"]


async def test_a_status_is_set_and_a_bot_opens_nothing(loft: World) -> None:
    ticket = await loft.ticket()
    bot = AuthorRequest(type="bot", name="Robo")
    await replies.submit(loft.core, ticket, ReplyRequest(text="Hello", author=bot), AGENT)
    assert (await loft.rows(schema.tickets))[0].status == "new"
    await replies.submit(loft.core, ticket, ReplyRequest(text="Done", status="solved"), AGENT)
    assert (await loft.rows(schema.tickets))[0].status == "solved"


async def test_a_note_stays_here(loft: World) -> None:
    ticket = await loft.ticket(status="closed")
    answer = await replies.submit(loft.core, ticket, ReplyRequest(text="Psst", visibility="note"), AGENT)
    assert isinstance(answer, Submitted)
    assert await loft.status(answer.message_id) == "sent"
    assert await loft.rows(schema.outbox) == []
    assert await loft.log(ticket) == ["note.added"]
    empty = await replies.submit(loft.core, ticket, ReplyRequest(visibility="note"), AGENT)
    assert isinstance(empty, Denied)


async def test_a_closed_ticket_takes_no_reply(loft: World) -> None:
    ticket = await loft.ticket(status="closed")
    answer = await replies.submit(loft.core, ticket, ReplyRequest(text="Hello"), AGENT)
    assert isinstance(answer, Denied)
    assert [(v.rule, v.remedy) for v in answer.verdicts] == [("closed_ticket", "write in a new ticket")]
    assert await loft.log(ticket) == ["reply.refused"]
    assert await loft.rows(schema.messages) == []


async def test_a_refusal_says_the_rule_on_the_ticket_and_a_dry_run_says_it_to_nobody(loft: World) -> None:
    ticket = await loft.ticket("pigeon", opened=START - timedelta(hours=24))
    request = ReplyRequest(text="Too late")
    judged = await replies.dry_run(loft.core, ticket, request, AGENT)
    assert (judged.decision, judged.verdicts[0].rule) == ("deny", "window")
    assert judged.verdicts[0].until == START
    assert await loft.log(ticket) == []
    assert isinstance(await replies.submit(loft.core, ticket, request, AGENT), Denied)
    (line,) = await loft.rows(schema.ticket_events)
    assert line.kind == "reply.refused"
    assert msgspec.json.decode(line.data)["rule"] == "window"
    template = ReplyRequest(template=TemplateRequest(name="hello", parameters=["Ann"]))
    assert isinstance(await replies.submit(loft.core, ticket, template, AGENT), Submitted)


async def test_the_same_key_gives_the_same_answer(loft: World) -> None:
    ticket = await loft.ticket()
    request = ReplyRequest(text="Once")
    first = await replies.submit(loft.core, ticket, request, AGENT, "k1", "a")
    assert await replies.submit(loft.core, ticket, request, AGENT, "k1", "a") == first
    assert len(await loft.rows(schema.messages)) == 1
    with pytest.raises(RequestError) as conflict:
        await replies.submit(loft.core, ticket, ReplyRequest(text="Other"), AGENT, "k1", "a")
    assert (conflict.value.status, conflict.value.code) == (409, "idempotency_conflict")
    other = await replies.submit(loft.core, ticket, request, AGENT, "k2", "a")
    assert other != first


async def test_a_long_text_and_files_go_in_parts(loft: World) -> None:
    ticket = await loft.ticket()
    await loft.execute(
        schema.uploads.insert().values(
            id="up1", filename="a.png", media_type="image/png", size=10, path="aa/x", created_at=0
        )
    )
    files = [AttachmentRequest(upload="up1"), AttachmentRequest(url="https://files.example/b.pdf")]
    request = ReplyRequest(text="word " * 30, attachments=files)
    answer = await replies.submit(loft.core, ticket, request, AGENT)
    assert isinstance(answer, Submitted)
    parts = [msgspec.json.decode(row.payload, type=OutboundMessage) for row in await loft.rows(schema.outbox)]
    assert [(bool(part.text), part.file.filename if part.file else "") for part in parts] == [
        (True, ""), (True, ""), (False, "a.png"), (False, "b.pdf"),
    ]  # fmt: skip
    picture, document = parts[2].file, parts[3].file
    assert picture is not None
    assert picture.open_path.endswith("media/aa/x")
    assert picture.url.startswith("https://gw.example/media/")
    assert document is not None
    assert document.url == "https://files.example/b.pdf"
    assert [row.state for row in await loft.rows(schema.attachments)] == ["stored", "linked"]
    assert {v.decision for v in answer.verdicts} == {"change"}


async def test_what_cannot_be_named_is_refused(loft: World) -> None:
    ticket = await loft.ticket()
    for request, field in (
        (ReplyRequest(attachments=[AttachmentRequest(upload="no")]), "attachments[0].upload"),
        (ReplyRequest(attachments=[AttachmentRequest()]), "attachments[0]"),
        (ReplyRequest(attachments=[AttachmentRequest(url="ftp://x")]), "attachments[0].url"),
    ):
        with pytest.raises(RequestError) as wrong:
            await replies.submit(loft.core, ticket, request, AGENT)
        assert (wrong.value.status, wrong.value.field) == (422, field)
    with pytest.raises(RequestError):
        await replies.submit(loft.core, "none", ReplyRequest(text="x"), AGENT)


async def test_writing_first_makes_one_pending_ticket(loft: World) -> None:
    request = MessageRequest(channel="open", to="ring77", text="Your order is here")
    first = await replies.proactive(loft.core, request, AGENT)
    assert isinstance(first, Submitted)
    (ticket,) = await loft.rows(schema.tickets)
    assert (ticket.status, ticket.via, ticket.account, ticket.number) == ("pending", "api", "loft", 1)
    again = await replies.proactive(loft.core, msgspec.structs.replace(request, text="Still here"), AGENT)
    assert isinstance(again, Submitted)
    assert again.ticket_id == first.ticket_id
    contact = (await loft.rows(schema.contacts))[0].id
    third = await replies.proactive(loft.core, MessageRequest(channel="open", contact=contact, text="Hi"), AGENT)
    assert isinstance(third, Submitted)
    assert third.ticket_id == first.ticket_id
    assert await loft.log(first.ticket_id) == ["ticket.created", "reply.queued", "reply.queued", "reply.queued"]


async def test_a_refused_first_message_leaves_nothing_behind(loft: World) -> None:
    request = MessageRequest(channel="pigeon", to="ring9", text="Hello stranger")
    assert isinstance(await replies.proactive(loft.core, request, AGENT), Denied)
    assert (await replies.dry_run_proactive(loft.core, request, AGENT)).decision == "deny"
    for table in (schema.tickets, schema.identities, schema.contacts, schema.messages):
        assert await loft.rows(table) == []


async def test_writing_first_to_whom_and_from_where(loft: World) -> None:
    wrong = {
        "unknown_channel": MessageRequest(channel="owl", to="x", text="x"),
        "unknown_account": MessageRequest(account="owl", to="x", text="x"),
        "unknown_contact": MessageRequest(channel="open", contact="x", text="x"),
        "invalid": MessageRequest(channel="open", text="x"),
    }
    for code, request in wrong.items():
        with pytest.raises(RequestError) as error:
            await replies.proactive(loft.core, request, AGENT)
        assert error.value.code == code


async def test_cancel_leave_and_retry_only_where_they_make_sense(loft: World) -> None:
    ticket = await loft.ticket()
    answer = await replies.submit(loft.core, ticket, ReplyRequest(text="Hello"), AGENT)
    assert isinstance(answer, Submitted)
    for call in (replies.retry, replies.leave):
        with pytest.raises(RequestError) as early:
            await call(loft.core, answer.message_id, AGENT)
        assert early.value.status == 409
    assert (await replies.cancel(loft.core, answer.message_id, AGENT)).status == "cancelled"
    with pytest.raises(RequestError):
        await replies.cancel(loft.core, answer.message_id, AGENT)
    assert (await loft.log(ticket))[-1] == "reply.cancelled"


async def test_a_retry_passes_the_rules_again(loft: World) -> None:
    ticket = await loft.ticket("pigeon")
    answer = await replies.submit(loft.core, ticket, ReplyRequest(text="Hello"), AGENT)
    assert isinstance(answer, Submitted)
    loft.platform.refuse_next(400, "gone")
    await loft.run(loft.dispatcher())
    assert await loft.status(answer.message_id) == "failed"
    (letter,) = await loft.rows(schema.dead_letters)
    assert (letter.message_id, letter.error_class, letter.direction) == (answer.message_id, "bad-recipient", "outbound")
    loft.clock.forward(hours=25)
    assert isinstance(await replies.replay_dead(loft.core, letter.id, AGENT), Denied)
    await loft.execute(update(schema.identities).values(opened_at=None, state="active"))
    loft.clock.now = START
    await loft.execute(update(schema.identities).values(opened_at=int(START.timestamp() * 1_000_000)))
    for _ in range(2):  # the second replay changes nothing
        assert isinstance(await replies.replay_dead(loft.core, letter.id, AGENT), Submitted)
        await loft.run(loft.dispatcher())
    assert await loft.status(answer.message_id) == "sent"
    assert len(loft.platform.sends) == 1


def test_the_window_of_a_person() -> None:
    identity = {"opened_at": int(START.timestamp() * 1_000_000), "window_used": 0, "allowed_until": None}
    until = START + timedelta(hours=24)
    open_ = replies.window(PIGEON, identity, until - timedelta(microseconds=1))
    assert (open_.open, open_.until) == (True, until)
    assert not replies.window(PIGEON, identity, until).open
    assert not replies.window(PIGEON, identity | {"opened_at": None}, START).open


async def test_a_link_keeps_its_address_where_no_html_goes(loft: World) -> None:
    ticket = await loft.ticket("pigeon")
    answer = await replies.dry_run(loft.core, ticket, ReplyRequest(html="<a href='https://x.test'>link</a>"), AGENT)
    assert [part.text for part in answer.parts] == ["link (https://x.test)"]
