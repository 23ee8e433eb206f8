"""What is used up stays used up: reply tokens, counted windows, private replies, repeats; on both stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from sqlalchemy import Engine, event, insert, update

from adapters import Allowance, Channel, Limits, Pace, PrivateReply, RepeatRule, Sent, Window
from gateway import replies
from gateway.ids import micros, new_id
from gateway.intake.records import Known
from gateway.replies import AuthorRequest, Denied, MessageRequest, ReplyRequest, Submitted
from gateway.store import dialect, schema
from gateway.store.outbox import OutboxStore
from gateway.store.redact import redact
from gateway.tickets import Actor
from normalizers.model import Address, OutboundMessage
from tests.pigeon import OPEN, FindingAdapter, PigeonAdapter, World, index_names, world
from tests.support.postgres import Postgres
from tests.support.world import eventually

AGENT = Actor("agent", "u1", "Bo")
BOT = Actor("bot", "b1", "Robo")
TOKEN = replace(OPEN, name="token", reply_token_valid=timedelta(seconds=50))
COUNTED = replace(
    OPEN,
    name="counted",
    templates=True,
    window=Window(
        timedelta(hours=24), "Counted, Window", max_messages=3, template_outside=True,
        allowances={"ring": Allowance(timedelta(minutes=1), 2)},
    ),
)  # fmt: skip
NEST = replace(OPEN, name="nest", address_kinds=("nest",))
SQUARE = replace(
    OPEN,
    name="square",
    private=False,
    private_reply=PrivateReply(
        timedelta(days=7), Limits(100, "Whispers", split=False), Pace(1000, "Whispers"), "nest", "Whispers"
    ),
    automatic_per_message=1,
    repeats=RepeatRule(2, timedelta(hours=36), "Square, Spam"),
    duplicates="Square, Errors",
)


class SquareAdapter(FindingAdapter):
    """Notes what it was given; a private reply is answered with the nest it reached."""

    channels: ClassVar[tuple[Channel, ...]] = (TOKEN, COUNTED, SQUARE, NEST)
    sent: ClassVar[list[OutboundMessage]] = []

    async def send(self, message: OutboundMessage) -> Sent:
        self.sent.append(message)
        answer = await super().send(message)
        whisper = message.thread.kind == "public" and message.visibility == "private"
        nests = (Address("nest", "nest", f"nest of {message.to[0].value}"),) if whisper else ()
        return Sent(answer.external_id, addresses=nests)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def loft(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    SquareAdapter.sent.clear()
    url = ""
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.empty().render_as_string(hide_password=False)
    async with world(tmp_path, adapters={"loft": SquareAdapter, "tower": PigeonAdapter}, database_url=url) as made:
        yield made


async def heard(loft: World, ticket: str, words: str = "Coo", **columns: Any) -> str:
    """A customer's message on a ticket, received now."""
    (row,) = await loft.rows(schema.tickets, schema.tickets.c.id == ticket)
    message_id, at = new_id(), micros(loft.clock())
    values = {
        "id": message_id, "ticket_id": ticket, "conversation_id": row.conversation_id, "contact_id": row.contact_id,
        "identity_id": row.identity_id, "direction": "inbound", "channel": row.channel, "account": row.account,
        "visibility": "private", "external_id": f"in-{message_id}", "kind": "text", "text": words,
        "status": "received", "sent_at": at, "received_at": at, "created_at": at, **columns,
    }  # fmt: skip
    await loft.execute(insert(schema.messages).values(values))
    return message_id


async def say(loft: World, ticket: str, words: str = "Hello", actor: Actor = AGENT, **more: Any) -> Submitted | Denied:
    return await replies.submit(loft.core, ticket, ReplyRequest(text=words, **more), actor)


async def said(loft: World, ticket: str, words: str = "Hello", actor: Actor = AGENT, **more: Any) -> str:
    answer = await say(loft, ticket, words, actor, **more)
    assert isinstance(answer, Submitted), answer
    return answer.message_id


def rule_of(answer: Submitted | Denied) -> str:
    return answer.verdicts[0].rule if isinstance(answer, Denied) else ""


def tokens() -> list[str]:
    return [message.context.reply_token if message.context else "" for message in SquareAdapter.sent]


# --- reply tokens -----------------------------------------------------------------------------------------------------


async def test_an_answer_takes_the_newest_token_once(loft: World) -> None:
    ticket = await loft.ticket("token")
    for token in ("old", "new"):
        loft.clock.forward(seconds=1)
        await heard(loft, ticket, reply_token=token)
    for _ in range(3):
        await said(loft, ticket)
    await loft.run(loft.dispatcher())
    assert tokens() == ["new", "old", ""]
    rows = await loft.rows(schema.messages, schema.messages.c.direction == "inbound")
    assert [row.reply_token for row in rows] == ["", ""]


async def test_a_token_of_another_conversation_is_not_ours(loft: World) -> None:
    await heard(loft, await loft.ticket("token"), reply_token="theirs")
    await said(loft, await loft.ticket("token"))
    await loft.run(loft.dispatcher())
    assert tokens() == [""]


@pytest.mark.parametrize(("seconds", "token"), [(49.999999, "t"), (50, ""), (50.000001, "")])
async def test_a_token_that_ended_while_the_answer_waited_is_left_out(loft: World, seconds: float, token: str) -> None:
    ticket = await loft.ticket("token")
    await heard(loft, ticket, reply_token="t")
    await said(loft, ticket)
    loft.clock.forward(seconds=seconds)
    await loft.run(loft.dispatcher())
    assert tokens() == [token]


async def test_only_the_first_part_carries_it(loft: World) -> None:
    ticket = await loft.ticket("token")
    await heard(loft, ticket, reply_token="t")
    await said(loft, ticket, "word " * 50)
    await loft.run(loft.dispatcher())
    assert tokens() == ["t", "", ""]


async def test_a_crash_after_the_intent_neither_uses_it_twice_nor_forgets_it(loft: World) -> None:
    ticket = await loft.ticket("token")
    await heard(loft, ticket, reply_token="t")
    message = await said(loft, ticket)
    loft.platform.gate = asyncio.Event()
    first = loft.dispatcher()
    await first.round()
    await eventually(lambda: bool(SquareAdapter.sent))
    await first.abandon()
    (parcel,) = await OutboxStore(loft.core).expired(loft.clock(), everything=True)
    assert parcel.message.context is not None
    assert parcel.message.context.reply_token == "t"
    loft.platform.gate = None
    second = loft.dispatcher()
    await second.recover()
    await loft.run(second)
    assert await loft.status(message) == "unknown"
    await replies.retry(loft.core, message, AGENT)
    await loft.run(second)
    assert tokens() == ["t", ""]


async def test_what_the_customer_unsends_takes_its_token_along(loft: World) -> None:
    ticket = await loft.ticket("token")
    inbound = await heard(loft, ticket, reply_token="t")
    (row,) = await loft.rows(schema.messages)
    known = Known(inbound, ticket, row.conversation_id, row.identity_id, "inbound", [])
    await loft.core.database.write(lambda connection: redact(connection, known, micros(loft.clock())))
    await said(loft, ticket)
    await loft.run(loft.dispatcher())
    assert tokens() == [""]


# --- counted windows --------------------------------------------------------------------------------------------------


async def test_the_last_message_of_a_window_is_the_last(loft: World) -> None:
    ticket = await loft.ticket("counted")
    for number in range(3):
        await said(loft, ticket, f"{number}")
    assert rule_of(await say(loft, ticket, "3")) == "window"  # none has left yet
    await loft.run(loft.dispatcher())
    assert rule_of(await say(loft, ticket, "3")) == "window"
    assert len(loft.platform.sends) == 3


async def test_a_long_text_costs_a_message_for_each_part(loft: World) -> None:
    ticket = await loft.ticket("counted")
    await said(loft, ticket, "1")
    assert rule_of(await say(loft, ticket, "word " * 50)) == "window"  # three parts
    await said(loft, ticket, "word " * 30)  # two
    await loft.run(loft.dispatcher())
    assert (await loft.rows(schema.identities))[0].window_used == 3


async def test_unknown_counts_and_a_refusal_does_not(loft: World) -> None:
    ticket = await loft.ticket("counted", window_used=1)
    loft.platform.fail_next("reset_after_accept")
    unknown = await said(loft, ticket, "1")
    dispatcher = loft.dispatcher()
    await loft.run(dispatcher)
    assert await loft.status(unknown) == "unknown"
    loft.clock.forward(minutes=3)  # it holds the next one no longer
    await dispatcher.keep()
    loft.platform.refuse_next(400, "gone")
    await said(loft, ticket, "2")
    await loft.run(dispatcher)
    assert (await loft.rows(schema.identities))[0].window_used == 2
    await loft.execute(update(schema.identities).values(state="active"))
    await said(loft, ticket, "3")
    await loft.run(dispatcher)
    assert (await loft.rows(schema.identities))[0].window_used == 3


async def test_a_message_perhaps_sent_twice_counts_twice(loft: World) -> None:
    ticket = await loft.ticket("counted")
    loft.platform.fail_next("timeout_after_accept")
    await said(loft, ticket)
    dispatcher = loft.dispatcher(on_unknown="resend_once")
    await loft.run(dispatcher)
    loft.clock.forward(minutes=3)
    await loft.run(dispatcher)
    assert (await loft.rows(schema.identities))[0].window_used == len(loft.platform.sends) == 2


async def test_what_is_proven_unsent_is_given_back(loft: World) -> None:
    ticket = await loft.ticket("counted")
    message = await said(loft, ticket)
    loft.platform.fail_next("reset")
    dispatcher = loft.dispatcher()
    await loft.run(dispatcher)
    (part,) = await loft.rows(schema.outbox, schema.outbox.c.message_id == message)
    SquareAdapter.truth = {part.id: None}
    loft.clock.forward(seconds=10)
    await dispatcher.keep()
    await dispatcher.settled()
    assert (await loft.rows(schema.identities))[0].window_used == 0
    await loft.run(dispatcher)
    assert await loft.status(message) == "sent"
    assert (await loft.rows(schema.identities))[0].window_used == 1


async def test_two_at_once_do_not_share_the_last_slot(loft: World) -> None:
    ticket = await loft.ticket("counted", window_used=2)
    answers = await asyncio.gather(*(say(loft, ticket, word) for word in "ab"))
    await loft.run(loft.dispatcher())
    assert len(loft.platform.sends) == 1
    states = [await loft.status(one.message_id) for one in answers if isinstance(one, Submitted)]
    assert sorted(states) in (["sent"], ["failed", "sent"])


async def test_the_slot_is_asked_for_again_when_the_message_leaves(loft: World) -> None:
    ticket = await loft.ticket("counted")
    message = await said(loft, ticket)
    await loft.execute(update(schema.identities).values(window_used=3))  # another system shares the allowance
    await loft.run(loft.dispatcher())
    row = await loft.message(message)
    assert (row.status, msgspec.json.decode(row.error)["class"]) == ("failed", "window-closed")
    assert loft.platform.calls == 0


# --- one answer to one message ----------------------------------------------------------------------------------------


async def commented(loft: World, **columns: Any) -> tuple[str, str]:
    """A public ticket with a comment: ticket id, message id."""
    ticket = await loft.ticket("square", kind="public", opened=None)
    return ticket, await heard(loft, ticket, visibility="public", **columns)


async def test_a_comment_is_answered_in_private_once(loft: World) -> None:
    ticket, comment = await commented(loft)
    first = await said(loft, ticket, "Psst", visibility="private")
    assert rule_of(await say(loft, ticket, "Psst again", visibility="private")) == "private_reply"
    await loft.run(loft.dispatcher())
    assert rule_of(await say(loft, ticket, "Psst again", visibility="private")) == "private_reply"
    (sent,) = SquareAdapter.sent
    assert (sent.visibility, sent.thread.kind) == ("private", "public")
    assert sent.context is not None
    assert sent.context.reply_to == f"in-{comment}"
    shown = await loft.message(first)
    assert (shown.visibility, shown.ticket_id, shown.in_reply_to) == ("private", ticket, comment)
    await heard(loft, ticket, visibility="public")  # another comment, another private reply
    await said(loft, ticket, "Psst", visibility="private")


async def test_the_private_reply_is_too_late_after_its_time(loft: World) -> None:
    ticket, _ = await commented(loft)
    loft.clock.forward(days=7, microseconds=-1)
    waiting = await said(loft, ticket, "Psst", visibility="private")
    loft.clock.forward(microseconds=1)
    await loft.run(loft.dispatcher())
    row = await loft.message(waiting)
    assert (row.status, msgspec.json.decode(row.error)["code"]) == ("failed", "private_reply")


async def test_a_private_reply_perhaps_sent_is_used_up(loft: World) -> None:
    ticket, _ = await commented(loft)
    loft.platform.fail_next("reset_after_accept")
    message = await said(loft, ticket, "Psst", visibility="private")
    dispatcher = loft.dispatcher(on_unknown="resend_once")
    await loft.run(dispatcher)
    loft.clock.forward(hours=1)
    await dispatcher.keep()
    await loft.run(dispatcher)
    assert await loft.status(message) == "unknown"
    assert len(loft.platform.sends) == 1
    assert rule_of(await replies.retry(loft.core, message, AGENT)) == "private_reply"
    assert rule_of(await say(loft, ticket, "Psst", visibility="private")) == "private_reply"


async def test_a_private_reply_surely_not_sent_leaves_its_right(loft: World) -> None:
    ticket, _ = await commented(loft)
    loft.platform.refuse_next(400, "gone")
    message = await said(loft, ticket, "Psst", visibility="private")
    await loft.run(loft.dispatcher())
    assert await loft.status(message) == "failed"
    await said(loft, ticket, "Psst", visibility="private")
    await loft.run(loft.dispatcher())
    assert len(loft.platform.sends) == 1


async def test_whom_a_private_reply_reached_is_the_commenter(loft: World) -> None:
    ticket, _ = await commented(loft)
    await said(loft, ticket, "Psst", visibility="private")
    await loft.run(loft.dispatcher())
    public, nest = await loft.rows(schema.identities)
    assert (nest.channel, nest.contact_id, nest.private_reply_ticket) == ("nest", public.contact_id, ticket)
    owners = {row.value: row.identity_id for row in await loft.rows(schema.addresses)}
    assert owners == {public.external_id: public.id, f"nest of {public.external_id}": nest.id}
    (merge,) = await loft.rows(schema.merges)
    assert merge.evidence == "attested"


async def test_somebody_known_in_private_becomes_one_contact_with_the_commenter(loft: World) -> None:
    known = await loft.ticket("nest", ring="nest of ann", address_kind="nest")
    ticket = await loft.ticket("square", kind="public", opened=None, ring="ann")
    await heard(loft, ticket, visibility="public")
    await said(loft, ticket, "Psst", visibility="private")
    await loft.run(loft.dispatcher())
    contacts = {row.contact_id for row in await loft.rows(schema.identities)}
    assert len(contacts) == 1
    tickets = {row.id: row.contact_id for row in await loft.rows(schema.tickets)}
    assert tickets == dict.fromkeys((known, ticket), *contacts)


async def test_who_is_somebody_else_already_makes_a_conflict(loft: World) -> None:
    for ring in ("nest of ann", "nest of bob"):
        await loft.ticket("nest", ring=ring, address_kind="nest")
    ticket = await loft.ticket("square", kind="public", opened=None, ring="ann")
    rows = {row.external_id: row for row in await loft.rows(schema.identities)}
    taken = update(schema.identities).where(schema.identities.c.external_id == "ann")
    await loft.execute(taken.values(contact_id=rows["nest of bob"].contact_id))
    await heard(loft, ticket, visibility="public")
    await said(loft, ticket, "Psst", visibility="private")
    await loft.run(loft.dispatcher())
    assert len(await loft.rows(schema.conflicts)) == 1
    assert len({row.contact_id for row in await loft.rows(schema.identities)}) == 2


async def test_machines_answer_a_comment_once(loft: World) -> None:
    ticket, _ = await commented(loft)
    await said(loft, ticket, "One", BOT)
    assert rule_of(await say(loft, ticket, "Two", BOT)) == "automatic_answers"
    robot = AuthorRequest(type="bot")
    assert rule_of(await say(loft, ticket, "Two", author=robot)) == "automatic_answers"
    await said(loft, ticket, "Three")  # a person
    await heard(loft, ticket, visibility="public")
    await said(loft, ticket, "Four", BOT)
    await loft.run(loft.dispatcher())
    assert len(loft.platform.sends) == 3


async def test_a_machines_second_answer_is_stopped_when_it_leaves(loft: World) -> None:
    ticket, _ = await commented(loft)
    first = await said(loft, ticket, "One", BOT)
    second = await said(loft, ticket, "Two")
    await loft.execute(
        update(schema.messages).where(schema.messages.c.id == second).values(author=msgspec.json.encode(BOT).decode())
    )
    await loft.run(loft.dispatcher())
    assert [await loft.status(one) for one in (first, second)] == ["sent", "failed"]


# --- the same words ---------------------------------------------------------------------------------------------------


async def test_the_same_words_go_to_so_many_people(loft: World) -> None:
    words = ["Win a SEED https://a.example/1", "win  a seed", "Win a seed! No."]
    for text in words[:2]:
        ticket, _ = await commented(loft)
        await said(loft, ticket, text)
    third, _ = await commented(loft)
    assert rule_of(await say(loft, third, "WIN A SEED")) == "repeated"
    await said(loft, third, words[2])
    await loft.run(loft.dispatcher())
    assert rule_of(await say(loft, third, "WIN A SEED")) == "repeated"
    loft.clock.forward(hours=36)
    await said(loft, third, "WIN A SEED")


async def test_a_failed_one_reached_nobody(loft: World) -> None:
    for _ in range(2):
        ticket, _comment = await commented(loft)
        loft.platform.refuse_next(400, "gone")
        await said(loft, ticket, "Win a seed")
    await loft.run(loft.dispatcher())
    ticket, _comment = await commented(loft)
    await said(loft, ticket, "Win a seed")


async def test_the_platform_takes_no_answer_twice(loft: World) -> None:
    ticket, _ = await commented(loft)
    await said(loft, ticket, "Yes")
    assert rule_of(await say(loft, ticket, " Yes ")) == "duplicate"
    await said(loft, ticket, "Yes!")
    await heard(loft, ticket, visibility="public")
    await said(loft, ticket, "Yes")  # to another comment


async def test_advertising_is_not_said_twice_in_a_row(loft: World) -> None:
    ticket = await loft.ticket("token", ring="ring-9")

    async def advertise(text: str) -> str:
        request = MessageRequest(channel="token", to="ring-9", text=text, purpose="marketing")
        return rule_of(await replies.proactive(loft.core, request, BOT))

    assert await advertise("Seeds!") == ""
    assert await advertise("Seeds!") == "duplicate"
    assert await advertise("More seeds!") == ""
    loft.clock.forward(minutes=10)
    assert await advertise("More seeds!") == ""
    await heard(loft, ticket)
    assert await advertise("More seeds!") == ""
    await said(loft, ticket, "Hello")
    await said(loft, ticket, "Hello")  # whoever replies may


async def test_two_machines_are_parted(loft: World) -> None:
    ticket = await loft.ticket("token")
    for number in range(3):
        request = ReplyRequest(text=f"Automatic {number}")
        assert isinstance(await replies.submit(loft.core, ticket, request, BOT, automatic="generated"), Submitted)
        await loft.run(loft.dispatcher())
        loft.clock.forward(seconds=30)
        await heard(loft, ticket)
    answer = await replies.submit(loft.core, ticket, ReplyRequest(text="x"), BOT, automatic="generated")
    assert rule_of(answer) == "loop_guard"
    await said(loft, ticket, "A person")


async def test_somebody_who_thinks_before_answering_is_no_machine(loft: World) -> None:
    ticket = await loft.ticket("token")
    for number in range(4):
        request = ReplyRequest(text=f"Automatic {number}")
        assert isinstance(await replies.submit(loft.core, ticket, request, BOT, automatic="generated"), Submitted)
        await loft.run(loft.dispatcher())
        loft.clock.forward(seconds=30, microseconds=1)
        await heard(loft, ticket)


# --- in bulk ----------------------------------------------------------------------------------------------------------


@contextmanager
def statements() -> Iterator[list[str]]:
    """What is asked of any store meanwhile."""
    found: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        found.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.parametrize("channel", ["token", "counted", "square"])
async def test_facts_cost_the_same_number_of_queries_for_any_batch(loft: World, channel: str) -> None:
    kind, visibility = ("public", "public") if channel == "square" else ("private", "private")

    async def asked(count: int) -> int:
        for number in range(count):
            ticket = await loft.ticket(channel, kind=kind)
            await heard(loft, ticket, reply_token=f"{number}", visibility=visibility)
            await said(loft, ticket, f"Hello {new_id()}")
        dispatcher = loft.dispatcher()
        with statements() as found:
            assert await dispatcher.round() == count
        await dispatcher.settled()
        return len(found)

    assert await asked(1) == await asked(20)


async def test_new_queries_walk_indexes(tmp_path: Path) -> None:
    async with world(tmp_path) as loft:
        await loft.core.database.stop()
        engine = dialect.write_engine(loft.core.database.url)
        with engine.connect() as connection:
            for statement, wanted in (
                ("SELECT reply_token FROM messages WHERE messages.reply_token <> '' AND conversation_id IN ('a') "
                 "AND received_at > 1", "ix_messages_reply_token"),
                ("SELECT words FROM messages WHERE messages.words <> '' AND words IN ('a') AND created_at > 1",
                 "ix_messages_words"),
            ):  # fmt: skip
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}").all()
                assert index_names(plan) == {wanted}
            connection.rollback()
        engine.dispose()
