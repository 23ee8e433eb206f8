"""Delivery against a real platform on loopback and a real store: at most once, in order, honest about the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert, text, update

from adapters import Sent
from gateway import replies
from gateway.ids import micros, new_id
from gateway.replies import MessageRequest, ReplyRequest, Submitted
from gateway.store import dialect, heads, schema, states
from gateway.store import outbox as outbox_store
from gateway.tickets import Actor
from normalizers.model import MailHeaders, OutboundMessage
from outbox.dispatcher import Dispatcher
from outbox.pacing import Pacing
from outbox.ports import Parcel
from outbox.rules import RULES
from outbox.verdict import ALLOW
from tests.pigeon import FindingAdapter, World, index_names, world

AGENT = Actor("agent", "u1", "Bo")


@pytest.fixture
async def loft(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def say(loft: World, ticket: str, words: str = "Hello") -> str:
    answer = await replies.submit(loft.core, ticket, ReplyRequest(text=words), AGENT)
    assert isinstance(answer, Submitted)
    return answer.message_id


async def part_of(loft: World, message_id: str) -> Any:
    return (await loft.rows(schema.outbox, schema.outbox.c.message_id == message_id))[0]


async def outcomes_of(loft: World, message_id: str) -> list[str]:
    return [row.outcome for row in await loft.rows(schema.attempts, schema.attempts.c.message_id == message_id)]


async def test_a_ticket_is_not_updated_by_a_reply_that_leaves_and_is_by_one_that_fails(loft: World) -> None:
    ticket = await loft.ticket()

    async def seen() -> tuple[int, int]:
        (row,) = await loft.rows(schema.tickets, schema.tickets.c.id == ticket)
        return row.sequence, row.updated_at

    await say(loft, ticket)
    sequence, updated = await seen()
    loft.clock.forward(seconds=5)
    await loft.run(loft.dispatcher())
    assert await seen() == (sequence + 1, updated)
    assert (await loft.log(ticket))[-1] == "reply.sent"
    await say(loft, ticket, "again")
    loft.platform.refuse_next(400, "gone")
    loft.clock.forward(seconds=5)
    await loft.run(loft.dispatcher())
    assert (await loft.log(ticket))[-1] == "reply.failed"
    assert (await seen())[1] == micros(loft.clock())


async def test_one_message_nobody_can_decide_on_does_not_keep_the_others(
    loft: World, caplog: pytest.LogCaptureFixture
) -> None:
    def bare(message: OutboundMessage, facts: Any) -> Any:
        return None if facts.queued and message.text == "poison" else ALLOW

    bad, good = await say(loft, await loft.ticket(), "poison"), await say(loft, await loft.ticket(account="tower"))
    await loft.run(loft.dispatcher(rules=(*RULES, bare)))
    assert [await loft.status(bad), await loft.status(good)] == ["failed", "sent"]
    error = msgspec.json.decode((await loft.message(bad)).error)
    assert (error["code"], error["detail"]) == ("bare", "the rule failed (it answered with NoneType)")

    class Broken(Pacing):
        """Whose numbers fail one message."""

        def take(self, parcel: Parcel, now: datetime) -> bool:
            if parcel.message.text == "poison":
                raise OverflowError("too large to convert to C int")
            return super().take(parcel, now)

    bad, good = await say(loft, await loft.ticket(ring="r2"), "poison"), await say(loft, await loft.ticket(ring="r3"))
    dispatcher = loft.dispatcher()
    dispatcher._pacing = Broken(loft.core.accounts, outbox_store.OutboxStore(loft.core).pace, shared=False)
    await loft.run(dispatcher)
    assert [await loft.status(bad), await loft.status(good)] == ["held", "sent"]
    error = msgspec.json.decode((await loft.message(bad)).error)
    assert error["detail"] == "the gateway could not decide on it (OverflowError); its log says more"
    assert "outbox.undecidable" in caplog.messages
    loft.clock.forward(minutes=5)
    await loft.run(loft.dispatcher())
    assert await loft.status(bad) == "sent"


async def test_a_message_is_sent_and_known_by_its_id(loft: World) -> None:
    ticket = await loft.ticket()
    message = await say(loft, ticket)
    await loft.run(loft.dispatcher())
    row, part = await loft.message(message), await part_of(loft, message)
    assert (row.status, row.external_id, row.error, part.state) == ("sent", "p1", None, "sent")
    (ref,) = await loft.rows(schema.message_refs)
    assert (ref.account, ref.ref, ref.message_id, ref.outbox_id) == ("loft", "p1", message, part.id)
    assert await outcomes_of(loft, message) == ["sent"]
    assert (await loft.log(ticket))[-1] == "reply.sent"
    assert (await loft.rows(schema.identities))[0].window_used == 0  # no channel of the account limits how many


AMBIGUOUS = (
    "timeout_after_accept",
    "timeout",
    "reset_after_accept",
    "reset",
    "500_after_accept",
    "500",
    "garbage",
    "half",
)


@pytest.mark.parametrize("fault", AMBIGUOUS)
async def test_without_a_key_a_lost_answer_is_unknown_and_never_sent_again(loft: World, fault: Any) -> None:
    message = await say(loft, await loft.ticket())
    loft.platform.fail_next(fault)
    dispatcher = loft.dispatcher()
    await loft.run(dispatcher)
    assert await loft.status(message) == "unknown"
    for _ in range(5):
        loft.clock.forward(hours=1)
        await dispatcher.keep()
        await loft.run(dispatcher)
    assert await loft.status(message) == "unknown"
    assert loft.platform.calls == 1
    assert await outcomes_of(loft, message) == ["unknown"]


@pytest.mark.parametrize("fault", ["timeout_after_accept", "reset", "500_after_accept"])
async def test_with_a_key_a_lost_answer_is_asked_again_under_the_same_key(loft: World, fault: Any) -> None:
    message = await say(loft, await loft.ticket("keyed"))
    loft.platform.fail_next(fault)
    dispatcher = loft.dispatcher()
    await loft.run(dispatcher)
    assert await loft.status(message) == "queued"
    assert msgspec.json.decode((await loft.message(message)).error)["class"] == "unknown"
    loft.clock.forward(seconds=5)
    await loft.run(dispatcher)
    assert await loft.status(message) == "sent"
    assert len(loft.platform.sends) == 1
    assert (await loft.message(message)).error is None


async def test_a_key_the_platform_has_forgotten_is_not_used_again(loft: World) -> None:
    message = await say(loft, await loft.ticket("keyed"))
    loft.platform.fail_next("500", 60)
    dispatcher = loft.dispatcher()
    for _ in range(60):
        await loft.run(dispatcher)
        loft.clock.forward(hours=1)
    assert await loft.status(message) == "unknown"


async def test_a_mail_is_repeated_twice_at_most_after_ten_minutes(loft: World) -> None:
    ticket = await loft.ticket("post", kind="mail", ring="ann@example.org", address_kind="email")
    message = await say(loft, ticket)
    loft.platform.fail_next("reset_after_accept", 5)
    dispatcher = loft.dispatcher()
    calls = []
    for minutes in (9, 1, 60, 600):
        await loft.run(dispatcher)
        calls.append(loft.platform.calls)
        loft.clock.forward(minutes=minutes)
    assert calls == [1, 1, 2, 3]
    await loft.run(dispatcher)
    assert loft.platform.calls == 3
    assert await loft.status(message) == "unknown"
    assert len({send.payload["key"] for send in loft.platform.sends}) == 1


async def test_what_was_surely_not_sent_is_tried_by_schedule(loft: World) -> None:
    message = await say(loft, await loft.ticket())
    dispatcher = loft.dispatcher()
    delays = []
    for _ in range(5):
        loft.platform.refuse_next(400, "rain")
        await loft.run(dispatcher)
        part = await part_of(loft, message)
        assert part.state == "queued"
        delays.append((part.not_before - micros(loft.clock())) / 1_000_000)
        loft.clock.forward(seconds=delays[-1] - 0.001)
        await loft.run(dispatcher)
        loft.clock.forward(seconds=0.001)
    assert delays == [5, 30, 120, 600, 1800]
    await loft.run(dispatcher)
    assert await loft.status(message) == "sent"
    assert len(loft.platform.sends) == 1


async def test_patience_ends_after_a_day(loft: World) -> None:
    message = await say(loft, await loft.ticket())
    dispatcher = loft.dispatcher()
    for _ in range(40):
        loft.platform.refuse_next(400, "rain")
        await loft.run(dispatcher)
        loft.clock.forward(hours=1)
    assert await loft.status(message) == "failed"
    assert loft.clock() - timedelta(hours=40) < loft.clock()
    assert len(await loft.rows(schema.dead_letters)) == 1


async def test_nobody_listening_is_not_sent(loft: World) -> None:
    message = await say(loft, await loft.ticket())
    await loft.platform.stop()
    await loft.run(loft.dispatcher())
    assert await loft.status(message) == "queued"
    assert await outcomes_of(loft, message) == ["retry"]


async def test_too_fast_waits_as_long_as_told_and_counts_no_try(loft: World) -> None:
    first = await say(loft, await loft.ticket())
    loft.platform.refuse_next(429, "busy")
    dispatcher = loft.dispatcher()
    await loft.run(dispatcher)
    second, other = await say(loft, await loft.ticket()), await say(loft, await loft.ticket(account="tower"))
    await loft.run(dispatcher)
    assert [await loft.status(m) for m in (first, second, other)] == ["queued", "held", "sent"]
    assert (await part_of(loft, first)).attempts == 0
    loft.clock.forward(seconds=7)
    await loft.run(dispatcher)
    assert [await loft.status(m) for m in (first, second)] == ["sent", "sent"]


async def test_a_dead_token_holds_the_account_until_it_works_again(loft: World) -> None:
    loft.platform.good_token = False
    messages = [await say(loft, await loft.ticket()) for _ in range(3)]
    for _ in messages:
        loft.platform.refuse_next(401, "token")
    dispatcher = loft.dispatcher()
    await loft.run(dispatcher)
    late = await say(loft, await loft.ticket())
    await loft.run(dispatcher)
    assert {await loft.status(m) for m in (*messages, late)} == {"held"}
    assert msgspec.json.decode((await loft.message(messages[0])).error)["class"] == "auth"
    for works in (False, True):
        loft.platform.good_token, loft.platform.refusals = works, []
        loft.clock.forward(minutes=4, seconds=55)  # the probe comes just before the pause would end
        await dispatcher.keep()
        await dispatcher.settled()
        await loft.run(dispatcher)
        assert {await loft.status(m) for m in (*messages, late)} == {"sent" if works else "held"}
        loft.clock.forward(seconds=6)
        await loft.run(dispatcher)
    assert len(loft.platform.sends) == 4


@pytest.mark.parametrize(
    ("code", "error_class"), [("gone", "bad-recipient"), ("stop", "opted-out"), ("??", "permanent")]
)
async def test_a_documented_refusal_fails_with_its_class(loft: World, code: str, error_class: str) -> None:
    ticket = await loft.ticket()
    message = await say(loft, ticket)
    loft.platform.refuse_next(400, code)
    await loft.run(loft.dispatcher())
    error = msgspec.json.decode((await loft.message(message)).error)
    assert (await loft.status(message), error["class"], error["code"]) == ("failed", error_class, code)
    assert [row.ref for row in await loft.rows(schema.dead_letters)] == [(await part_of(loft, message)).id]
    assert (await loft.log(ticket))[-1] == "reply.failed"
    optouts = (await loft.rows(schema.identities))[0].optouts
    assert optouts == ('["marketing"]' if code == "stop" else "[]")


async def test_one_conversation_keeps_its_order_whatever_fails(loft: World) -> None:
    ticket = await loft.ticket()
    messages = [await say(loft, ticket, f"{n}") for n in range(6)]
    dispatcher = loft.dispatcher()
    for code in ("rain", "busy", "rain", "rain"):
        loft.platform.refuse_next(429 if code == "busy" else 400, code)
        await loft.run(dispatcher)
        loft.clock.forward(minutes=10)
    await loft.run(dispatcher)
    assert [send.payload["text"] for send in loft.platform.sends] == [f"{n}" for n in range(6)]
    assert {await loft.status(message) for message in messages} == {"sent"}


async def test_an_unknown_head_holds_its_followers_for_two_minutes(loft: World) -> None:
    ticket = await loft.ticket()
    head, follower = await say(loft, ticket, "1"), await say(loft, ticket, "2")
    loft.platform.fail_next("reset")
    dispatcher = loft.dispatcher()
    await loft.run(dispatcher)
    loft.clock.forward(seconds=119)
    await dispatcher.keep()
    await loft.run(dispatcher)
    assert [await loft.status(m) for m in (head, follower)] == ["unknown", "queued"]
    loft.clock.forward(seconds=1)
    await dispatcher.keep()
    await loft.run(dispatcher)
    assert [await loft.status(m) for m in (head, follower)] == ["unknown", "sent"]


async def test_leaving_an_unknown_one_frees_its_followers_at_once(loft: World) -> None:
    ticket = await loft.ticket()
    head, follower = await say(loft, ticket, "1"), await say(loft, ticket, "2")
    loft.platform.fail_next("reset")
    dispatcher = loft.dispatcher()
    await loft.run(dispatcher)
    await replies.leave(loft.core, head, AGENT)
    await loft.run(dispatcher)
    assert [await loft.status(m) for m in (head, follower)] == ["unknown", "sent"]


async def test_resend_once_sends_once_more(tmp_path: Path) -> None:
    async with world(tmp_path) as loft:
        message = await say(loft, await loft.ticket())
        loft.platform.fail_next("reset", 2)
        dispatcher = loft.dispatcher(on_unknown="resend_once")
        await loft.run(dispatcher)
        loft.clock.forward(minutes=2)
        await loft.run(dispatcher)
        loft.clock.forward(hours=2)
        await loft.run(dispatcher)
        assert (await loft.status(message), loft.platform.calls) == ("unknown", 2)


# --- crashes ----------------------------------------------------------------------------------------------------------


async def crash_in_send(loft: World, dispatcher: Dispatcher) -> None:
    """Die with `sending` committed and the platform not yet answering."""
    loft.platform.gate = asyncio.Event()
    assert await dispatcher.round() > 0
    await asyncio.sleep(0.05)
    await dispatcher.abandon()
    loft.platform.gate.set()
    loft.platform.gate = None


async def test_a_sender_that_died_leaves_an_unknown_message(loft: World) -> None:
    message = await say(loft, await loft.ticket())
    await crash_in_send(loft, loft.dispatcher())
    assert await loft.status(message) == "sending"
    heir = loft.dispatcher()
    await heir.recover()
    await loft.run(heir)
    assert await loft.status(message) == "unknown"
    assert msgspec.json.decode((await loft.message(message)).error)["code"] == "sender-lost"
    assert len(loft.platform.sends) <= 1
    assert await outcomes_of(loft, message) == ["unknown"]


async def test_with_a_key_the_heir_finishes_the_work(loft: World) -> None:
    message = await say(loft, await loft.ticket("keyed"))
    await crash_in_send(loft, loft.dispatcher())
    heir = loft.dispatcher()
    await heir.recover()
    loft.clock.forward(seconds=5)
    await loft.run(heir)
    assert await loft.status(message) == "sent"
    assert len(loft.platform.sends) == 1


async def test_beside_living_senders_only_ended_leases_are_taken(loft: World) -> None:
    message = await say(loft, await loft.ticket())
    await crash_in_send(loft, loft.dispatcher())
    heir = loft.dispatcher(alone=False)
    await heir.recover()
    assert await loft.status(message) == "sending"
    loft.clock.forward(seconds=44.9)
    await heir.keep()
    assert await loft.status(message) == "sending"
    loft.clock.forward(seconds=0.1)
    await heir.keep()
    assert await loft.status(message) == "unknown"


async def test_a_late_answer_still_tells_the_truth(loft: World) -> None:
    """The lease ended under a slow sender: it may no longer decide, but what it proves is kept."""
    message = await say(loft, await loft.ticket())
    slow, heir = loft.dispatcher(), loft.dispatcher(alone=False)
    loft.platform.gate = asyncio.Event()
    await slow.round()
    await asyncio.sleep(0.05)
    loft.clock.forward(minutes=1)
    await heir.keep()
    assert await loft.status(message) == "unknown"
    loft.platform.gate.set()
    await slow.settled()
    row = await loft.message(message)
    assert (row.status, row.external_id) == ("sent", "p1")


async def test_a_sender_held_up_before_it_began_sends_nothing(loft: World) -> None:
    message = await say(loft, await loft.ticket())
    dispatcher = loft.dispatcher()
    store = dispatcher._store

    class Late(outbox_store.OutboxStore):
        async def claim(self, *arguments: Any, **more: Any) -> Any:
            parcels = await super().claim(*arguments, **more)
            loft.clock.forward(seconds=20)
            return parcels

    dispatcher._store = Late(loft.core)
    await dispatcher.round()
    await dispatcher.settled()
    dispatcher._store = store
    assert (await loft.status(message), loft.platform.calls) == ("queued", 0)


@pytest.mark.parametrize(("truth", "status"), [(Sent("p9"), "sent"), (None, "failed"), ("unsaid", "unknown")])
async def test_the_platform_is_asked_what_became_of_it(tmp_path: Path, truth: Any, status: str) -> None:
    async with world(tmp_path, adapters={"loft": FindingAdapter}) as loft:
        ticket = await loft.ticket()
        head, follower = await say(loft, ticket, "1"), await say(loft, ticket, "2")
        loft.platform.fail_next("reset")
        dispatcher = loft.dispatcher()
        await loft.run(dispatcher)
        loft.clock.forward(seconds=120)
        await dispatcher._store.sweep(loft.clock())
        await loft.run(dispatcher)
        FindingAdapter.truth = {} if truth == "unsaid" else {(await part_of(loft, head)).id: truth}
        await dispatcher.keep()
        await dispatcher.settled()
        assert [await loft.status(m) for m in (head, follower)] == [status, "sent"]


async def test_proven_unsent_with_nothing_behind_it_goes_again(tmp_path: Path) -> None:
    async with world(tmp_path, adapters={"loft": FindingAdapter}) as loft:
        ticket = await loft.ticket()
        head = await say(loft, ticket, "1")
        loft.platform.fail_next("reset")
        dispatcher = loft.dispatcher()
        await loft.run(dispatcher)
        follower = await say(loft, ticket, "2")
        FindingAdapter.truth = {(await part_of(loft, head)).id: None}
        loft.clock.forward(seconds=5)
        await dispatcher.keep()
        await dispatcher.settled()
        await loft.run(dispatcher)
        assert [await loft.status(m) for m in (head, follower)] == ["sent", "sent"]
        assert [send.payload["text"] for send in loft.platform.sends] == ["1", "2"]


async def test_a_fault_of_ours_costs_one_message_and_no_turn(loft: World, caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    def observe(_account: str, outcome: str) -> None:
        told.append(outcome)
        if len(told) == 1:
            raise RuntimeError("cannot count")

    dispatcher = loft.dispatcher(concurrency=1, observe=observe)
    messages = [await say(loft, await loft.ticket()) for _ in range(3)]
    await loft.run(dispatcher)
    assert sorted([await loft.status(message) for message in messages]) == ["sending", "sent", "sent"]
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == ["outbox.send_failed"]
    heir = loft.dispatcher()
    await heir.recover()
    assert sorted([await loft.status(message) for message in messages]) == ["sent", "sent", "unknown"]
    assert len(loft.platform.sends) == 3


# --- rules at the last moment, pace, breaker --------------------------------------------------------------------------


async def test_the_rules_run_again_when_it_leaves(loft: World) -> None:
    ticket = await loft.ticket("pigeon")
    message = await say(loft, ticket)
    loft.clock.forward(hours=24)
    await loft.run(loft.dispatcher())
    error = msgspec.json.decode((await loft.message(message)).error)
    assert (await loft.status(message), error["class"], error["code"]) == ("failed", "window-closed", "window")
    assert loft.platform.calls == 0
    (line,) = [row for row in await loft.rows(schema.ticket_events) if row.kind == "reply.failed"]
    assert msgspec.json.decode(line.data)["remedy"].startswith("send an approved template")


async def test_a_ticket_closed_meanwhile_does_not_stop_what_was_accepted(loft: World) -> None:
    ticket = await loft.ticket()
    answer = await replies.submit(loft.core, ticket, ReplyRequest(text="Bye", status="closed"), AGENT)
    assert isinstance(answer, Submitted)
    await loft.run(loft.dispatcher())
    assert await loft.status(answer.message_id) == "sent"


async def test_an_account_that_is_gone_refuses(loft: World) -> None:
    message = await say(loft, await loft.ticket())
    await loft.execute(update(schema.outbox).values(account="cellar"))
    await loft.run(loft.dispatcher())
    assert msgspec.json.decode((await loft.message(message)).error)["code"] == "account"


async def test_the_rate_is_never_exceeded(tmp_path: Path) -> None:
    async with world(tmp_path, rate=5) as loft:
        for _ in range(12):
            await say(loft, await loft.ticket())
        dispatcher, sent = loft.dispatcher(), []
        for _ in range(3):
            await loft.run(dispatcher)
            sent.append(len(loft.platform.sends))
            loft.clock.forward(seconds=0.999)
            await loft.run(dispatcher)
            sent.append(len(loft.platform.sends))
            loft.clock.forward(seconds=0.001)
        assert sent == [5, 5, 10, 10, 12, 12]


async def test_one_person_is_not_flooded(loft: World) -> None:
    ticket = await loft.ticket("slow")
    for word in "abcd":
        await say(loft, ticket, word)
    dispatcher, sent = loft.dispatcher(), []
    for _ in range(3):
        await loft.run(dispatcher)
        sent.append(len(loft.platform.sends))
        loft.clock.forward(seconds=6)
    assert sent == [2, 3, 4]


async def test_a_platform_that_is_down_is_left_alone(loft: World) -> None:
    messages = [await say(loft, await loft.ticket("keyed")) for _ in range(30)]
    loft.platform.fail_next("500", 1000)
    dispatcher = loft.dispatcher(concurrency=10)
    await loft.run(dispatcher)
    broken = loft.platform.calls
    assert broken <= 20
    assert len([m for m in messages if (await part_of(loft, m)).attempts == 0]) == 30 - broken
    loft.platform._faults.clear()
    loft.clock.forward(seconds=30)
    await dispatcher.round()
    await dispatcher.settled()
    assert loft.platform.calls == broken + 1
    await loft.run(dispatcher)
    loft.clock.forward(minutes=1)
    await loft.run(dispatcher)
    assert {await loft.status(m) for m in messages} == {"sent"}
    assert len(loft.platform.sends) == 30


async def test_bulk_waits_behind_replies(loft: World) -> None:
    for number in range(2):
        request = MessageRequest(channel="open", to=f"bulk{number}", text="Sale", purpose="marketing")
        assert isinstance(await replies.proactive(loft.core, request, AGENT), Submitted)
    await say(loft, await loft.ticket(), "answer")
    dispatcher = loft.dispatcher(concurrency=1)
    await loft.run(dispatcher)
    assert [send.payload["text"] for send in loft.platform.sends] == ["answer", "Sale", "Sale"]


async def test_it_runs_and_stops_by_itself(loft: World) -> None:
    dispatcher = loft.dispatcher()
    running = asyncio.create_task(dispatcher.run())
    listener = loft.core.bus.listen()
    heard = asyncio.ensure_future(anext(listener))
    await asyncio.sleep(0)  # it listens now
    messages = [await say(loft, await loft.ticket()) for _ in range(5)]
    assert (await heard).type == "message.created"
    async with asyncio.timeout(5):
        async for event in listener:
            if event.data.get("status") == "sent" and {await loft.status(m) for m in messages} == {"sent"}:
                break
        await dispatcher.stop()
        await running
    await listener.aclose()  # type: ignore[attr-defined]


# --- mail -------------------------------------------------------------------------------------------------------------


async def test_a_mail_names_its_thread(loft: World) -> None:
    ticket = await loft.ticket(
        "post",
        kind="mail",
        ring="ann@example.org",
        address_kind="email",
        channel_info='{"own_address":"help@loft.example"}',
    )
    (row,) = await loft.rows(schema.tickets)
    context = {"metadata": {"message_id": "m1@x", "reply_to": "", "cc": ["cy@example.org", "loft@loft.example"]}}
    await loft.execute(
        insert(schema.messages).values(
            id=new_id(), ticket_id=ticket, conversation_id=row.conversation_id, contact_id=row.contact_id,
            identity_id=row.identity_id, direction="inbound", visibility="private", channel="post", account="loft",
            external_id="m1@x", context=msgspec.json.encode(context).decode(), author="{}", status="received",
            created_at=1,
        )
    )  # fmt: skip
    message = await say(loft, ticket)
    part = await part_of(loft, message)
    sent = msgspec.json.decode(part.payload, type=OutboundMessage)
    token, own = loft.core.tokens.reply_token(row.number), loft.core.tokens.mail_id(message, "loft.example")
    assert sent.mail == MailHeaders(
        subject="Re: Seeds", message_id=own, in_reply_to="m1@x", references=("m1@x",),
        reply_to=f"help+t{token}@loft.example", cc=("cy@example.org",),
    )  # fmt: skip
    assert [(ref.ref, ref.outbox_id) for ref in await loft.rows(schema.message_refs)] == [(own, part.id)]
    await loft.execute(update(schema.tickets).values(subject="RE: AW: Re[2]: Seeds"))
    again = msgspec.json.decode((await part_of(loft, await say(loft, ticket))).payload, type=OutboundMessage)
    assert again.mail is not None
    assert again.mail.subject == "Re: Seeds"
    assert again.mail.references == ("m1@x", own)


# --- the claim --------------------------------------------------------------------------------------------------------


async def test_the_claim_walks_indexes_only(loft: World) -> None:
    """The due rows of an account come from its own index in order; nothing is sorted, no table is scanned."""
    engine = dialect.write_engine(loft.core.database.url)
    compiled = heads._due.compile(engine, compile_kwargs={"literal_binds": False, "render_postcompile": True})
    queues = heads._QUEUES.compile(engine)
    await loft.core.database.stop()
    with engine.connect() as connection:
        arguments = dict.fromkeys(compiled.params, 1)
        plan = connection.execute(text(f"EXPLAIN QUERY PLAN {compiled}".replace("?", "1")), arguments).all()
        assert index_names(plan) == {"ix_outbox_due", "ix_outbox_open"}
        assert not any(word in row[-1] for row in plan for word in ("SCAN", "TEMP B-TREE"))
        plan = connection.execute(text(f"EXPLAIN QUERY PLAN {queues}"), queues.params | {"b_now": 1}).all()
        assert index_names(plan) == {"ix_outbox_due"}
        assert not any(f"SCAN {table}" in row[-1] for row in plan for table in ("outbox", "account_states"))
        connection.rollback()
    engine.dispose()


async def test_who_waits_for_another_leaves_the_due_rows(loft: World) -> None:
    ticket = await loft.ticket()
    for word in "abcde":
        await say(loft, ticket, word)
    dispatcher = loft.dispatcher()
    loft.platform.refuse_next(400, "rain")
    await loft.run(dispatcher)
    due = await loft.rows(schema.outbox, schema.outbox.c.not_before.is_not(None))
    assert len(due) == 1
    loft.clock.forward(seconds=5)
    await loft.run(dispatcher)
    assert [send.payload["text"] for send in loft.platform.sends] == list("abcde")


async def test_a_lost_turn_is_found_again(loft: World) -> None:
    message = await say(loft, await loft.ticket())
    await loft.execute(update(schema.outbox).values(not_before=None))
    dispatcher = loft.dispatcher()
    await loft.run(dispatcher)
    assert await loft.status(message) == "queued"
    await dispatcher.keep()
    await loft.run(dispatcher)
    assert await loft.status(message) == "sent"


async def test_the_store_remembers_what_a_failed_commit_could_not_take(loft: World) -> None:
    message = await say(loft, await loft.ticket())
    dispatcher = loft.dispatcher()
    record, failures = dispatcher._store.record, iter([True, True])

    async def flaky(*arguments: Any) -> None:
        if next(failures, False):
            raise dialect.StoreUnavailable("gone for a moment")
        await record(*arguments)

    dispatcher._store.record = flaky  # type: ignore[method-assign, assignment]
    await dispatcher.round()
    await dispatcher.settled()
    assert await loft.status(message) == "sending"
    for _ in range(2):
        await dispatcher.keep()
    assert await loft.status(message) == "sent"
    assert states.HOLDS == 120_000_000
