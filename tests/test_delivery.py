"""Delivery over time and for many: quotas, fairness, alarms, what people are told and decide."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import replies
from gateway.bus import LiveEvent
from gateway.ids import micros
from gateway.replies import MessageRequest, ReplyRequest, RequestError, Submitted
from gateway.store import dead, queue_views, schema, views, waiting
from gateway.store.outbox import OutboxStore, pace_of
from gateway.tickets import Actor
from gateway.web import show, show_queues, types
from gateway.web.health import Health
from outbox import lanes
from tests.pigeon import START, FindingAdapter, World, world

AGENT = Actor("agent", "u1", "Bo")


@pytest.fixture
async def loft(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def say(loft: World, ticket: str, words: str = "Hello") -> str:
    answer = await replies.submit(loft.core, ticket, ReplyRequest(text=words), AGENT)
    assert isinstance(answer, Submitted)
    return answer.message_id


async def parts_of(loft: World, message_id: str) -> list[Any]:
    rows = await loft.rows(schema.outbox, schema.outbox.c.message_id == message_id)
    return sorted(rows, key=lambda row: row.part)


def told(loft: World) -> list[LiveEvent]:
    """The live events so far, but for the changes of messages."""
    return [
        event
        for event in loft.core.bus._recent
        if event.type not in ("message.updated", "message.created", "ticket.updated")
    ]


async def why(loft: World, message_id: str) -> waiting.Wait | None:
    """What a message waits for, as the API shows it."""
    core, now = loft.core, micros(loft.clock())

    def job(connection: Any) -> dict[str, waiting.Wait]:
        rows = connection.execute(schema.outbox.select().where(schema.outbox.c.message_id == message_id)).mappings()
        return waiting.reasons(connection, core.accounts, partial(pace_of, core), rows.all(), now)

    return next(iter((await core.database.read(job)).values()), None)


# --- pace ---


async def expects(loft: World, ticket: str) -> list[tuple[str, int | None]]:
    """What a dry run says a message on a ticket would wait for."""
    found = await replies.dry_run(loft.core, ticket, ReplyRequest(text="Hi"), AGENT)
    assert found.decision == "allow"
    return [(wait.code, wait.until) for wait in found.waits]


async def test_a_dry_run_foresees_a_limit_that_is_used_up(loft: World) -> None:
    ticket = await loft.ticket("tight")
    assert await expects(loft, ticket) == []
    for _ in range(5):
        await say(loft, await loft.ticket("tight"))
    await loft.run(loft.dispatcher())
    [(code, until)] = await expects(loft, ticket)
    quarter = START + timedelta(minutes=15)
    assert (code, micros(quarter) <= (until or 0) <= micros(quarter + timedelta(seconds=9))) == ("pace", True)
    assert await expects(loft, await loft.ticket("open")) == []
    loft.clock.forward(minutes=16)
    assert await expects(loft, ticket) == []


async def test_a_dry_run_foresees_the_pace_to_one_person_and_who_is_before_it(loft: World) -> None:
    ticket = await loft.ticket("slow")
    for word in "ab":
        await say(loft, ticket, word)
    assert await expects(loft, ticket) == []  # they leave at once
    await loft.run(loft.dispatcher())
    assert await expects(loft, ticket) == [("pace", micros(START + timedelta(seconds=6)))]
    await say(loft, ticket, "c")
    await loft.run(loft.dispatcher())
    assert [code for code, _ in await expects(loft, ticket)] == ["order", "pace"]
    loft.clock.forward(seconds=6)
    await loft.run(loft.dispatcher())
    assert [code for code, _ in await expects(loft, ticket)] == ["pace"]
    loft.clock.forward(seconds=12)
    assert await expects(loft, ticket) == []


async def test_a_dry_run_foresees_a_try_that_comes_later_and_an_open_breaker(loft: World) -> None:
    ticket = await loft.ticket("open")
    await say(loft, ticket)
    loft.platform.refuse_next(400, "rain")
    await loft.run(loft.dispatcher())
    [(code, until)] = await expects(loft, ticket)
    assert (code, (until or 0) > micros(loft.clock())) == ("order", True)
    await OutboxStore(loft.core).broken("loft", START + timedelta(seconds=30), "no answer", START)
    other = await loft.ticket("open")
    assert await expects(loft, other) == [("breaker", micros(START + timedelta(seconds=30)))]
    loft.clock.forward(seconds=30)
    assert await expects(loft, other) == []


async def test_a_quota_holds_over_a_restart_and_says_until_when(loft: World) -> None:
    messages = [await say(loft, await loft.ticket("tight")) for _ in range(7)]
    await loft.run(loft.dispatcher())
    assert len(loft.platform.sends) == 5
    heir = loft.dispatcher()
    await loft.run(heir)
    assert len(loft.platform.sends) == 5
    wait = await why(loft, messages[6])
    assert wait is not None
    assert (wait.code, wait.error_class) == ("pace", "throttle")
    quarter = timedelta(minutes=15)
    assert micros(START + quarter) <= (wait.until or 0) <= micros(START + quarter + timedelta(seconds=9))
    loft.clock.forward(minutes=14, seconds=59)
    await loft.run(heir)
    assert len(loft.platform.sends) == 5
    loft.clock.forward(seconds=11)
    await loft.run(heir)
    assert [await loft.status(m) for m in messages] == ["sent"] * 7
    assert await why(loft, messages[6]) is None


async def test_a_day_has_its_own_limit(loft: World) -> None:
    for _ in range(12):
        await say(loft, await loft.ticket("tight"))
    dispatcher, sent = loft.dispatcher(), []
    for _ in range(4):
        await loft.run(dispatcher)
        sent.append(len(loft.platform.sends))
        loft.clock.forward(minutes=16)
    loft.clock.forward(days=1)
    await loft.run(dispatcher)
    assert [*sent, len(loft.platform.sends)] == [5, 8, 8, 8, 12]


async def test_a_channel_that_is_used_up_holds_no_other_channel(loft: World) -> None:
    for _ in range(90):
        await say(loft, await loft.ticket("tight"))
    other = [await say(loft, await loft.ticket("open")) for _ in range(3)]
    await loft.run(loft.dispatcher(concurrency=4))
    assert [await loft.status(m) for m in other] == ["sent"] * 3
    assert len(loft.platform.sends) == 5 + 3


async def test_a_pair_keeps_its_pace_over_a_restart(loft: World) -> None:
    ticket = await loft.ticket("slow")
    for word in "abc":
        await say(loft, ticket, word)
    await loft.run(loft.dispatcher())
    assert len(loft.platform.sends) == 2
    late = await say(loft, await loft.ticket("slow"))
    await loft.run(loft.dispatcher())
    assert len(loft.platform.sends) == 3
    assert await loft.status(late) == "sent"
    held = next(m for m in await loft.rows(schema.messages) if m.status == "held")
    wait = await why(loft, held.id)
    assert wait is not None
    assert (wait.code, wait.error_class, wait.until) == ("pace", "throttle", micros(START + timedelta(seconds=6)))
    assert msgspec.json.decode(held.error)["class"] == "throttle"


async def test_a_rate_is_kept_over_a_minute(tmp_path: Path) -> None:
    """The whole outbox at 6 a second for a minute: within two percent, and no second sees more."""
    async with world(tmp_path, rate=6) as loft:
        tickets = [await loft.ticket() for _ in range(40)]
        for _ in range(10):
            await asyncio.gather(*(say(loft, ticket) for ticket in tickets))
        dispatcher, sent = loft.dispatcher(), []
        end = loft.clock() + timedelta(seconds=60)
        while loft.clock() < end:
            before = len(loft.platform.sends)
            await dispatcher.round()
            await dispatcher.settled()
            sent.append((loft.clock(), len(loft.platform.sends) - before))
            loft.clock.forward(seconds=dispatcher._idle_s())
        assert 353 <= sum(count for _, count in sent) <= 366
        for start, _ in sent:
            assert sum(count for at, count in sent if start <= at < start + timedelta(seconds=1)) <= 6


# --- fairness, by counts ---


async def test_a_customer_with_a_thousand_messages_delays_nobody(loft: World) -> None:
    talker = await loft.ticket()
    for _ in range(10):
        await asyncio.gather(*(say(loft, talker) for _ in range(100)))
    others = [await say(loft, await loft.ticket()) for _ in range(20)]
    dispatcher = loft.dispatcher()
    assert await dispatcher.round() == 21
    await dispatcher.settled()
    assert [await loft.status(m) for m in others] == ["sent"] * 20


async def test_an_account_that_does_not_answer_delays_no_other(loft: World) -> None:
    stuck = [await say(loft, await loft.ticket(account="tower")) for _ in range(40)]
    free = [await say(loft, await loft.ticket()) for _ in range(40)]
    tower = loft.core.accounts.get("tower")
    assert tower is not None
    gate = asyncio.Event()
    real = tower.adapter.send

    async def waits(message: Any) -> Any:
        await gate.wait()
        return await real(message)

    tower.adapter.send = waits  # type: ignore[method-assign]
    dispatcher = loft.dispatcher(concurrency=10)
    async with asyncio.timeout(20):
        while {await loft.status(m) for m in free} != {"sent"}:
            await dispatcher.round()
            await asyncio.sleep(0.01)
    assert Counter([await loft.status(m) for m in stuck]) == {"sending": 10, "queued": 30}
    gate.set()
    await loft.run(dispatcher)
    assert {await loft.status(m) for m in stuck} == {"sent"}


async def test_bulk_yields_to_replies_and_does_not_starve(loft: World) -> None:
    async def bulk(number: int) -> str:
        request = MessageRequest(channel="open", to=f"bulk{number}", text="Sale", purpose="marketing")
        answer = await replies.proactive(loft.core, request, AGENT)
        assert isinstance(answer, Submitted)
        return answer.message_id

    for number in range(30):
        await bulk(number)
    for _ in range(60):
        await say(loft, await loft.ticket(), "answer")
    dispatcher = loft.dispatcher(concurrency=1)
    for _ in range(50):  # as long as replies wait
        await dispatcher.round()
        await dispatcher.settled()
    words = Counter(send.payload["text"] for send in loft.platform.sends)
    assert words == {"answer": 45, "Sale": 5}
    wide = loft.dispatcher(concurrency=20)
    await wide.round()
    await wide.settled()
    words = Counter(send.payload["text"] for send in loft.platform.sends[50:])
    assert words == {"answer": 15, "Sale": 5}


# --- alarms, and what is shown ---


async def test_a_breaker_that_opens_is_an_alarm_and_is_seen_until_it_closes(loft: World) -> None:
    messages = [await say(loft, await loft.ticket("keyed")) for _ in range(12)]
    loft.platform.fail_next("500", 10)
    dispatcher = loft.dispatcher(concurrency=10)
    await loft.run(dispatcher)
    (opened,) = told(loft)
    assert (opened.type, opened.account, opened.data["until"]) == (
        "account.breaker_opened", "loft", "2026-03-02T12:00:30.000Z",
    )  # fmt: skip
    pauses = await loft.core.database.read(lambda c: queue_views.pauses(c, micros(loft.clock())))
    assert [(row["scope"], row["error_class"]) for row in pauses["loft"]] == [("breaker", "retry")]
    untouched = [m for m in messages if not (await parts_of(loft, m))[0].attempts]
    assert len(untouched) == 2
    wait = await why(loft, untouched[0])
    assert wait is not None
    assert (wait.code, wait.error_class, wait.until) == ("breaker", "retry", micros(START + timedelta(seconds=30)))
    health = Health(loft.core)
    await health.refresh_figures()
    assert b'gateway_breaker_open{account="loft"} 1.0' in loft.core.metrics.render()
    loft.clock.forward(seconds=30)
    await loft.run(dispatcher)
    assert [event.type for event in told(loft)] == ["account.breaker_opened", "account.breaker_closed"]
    assert await loft.core.database.read(lambda c: queue_views.pauses(c, micros(loft.clock()))) == {}


async def test_a_dead_token_raises_one_alarm_for_all_its_messages(loft: World) -> None:
    messages = [await say(loft, await loft.ticket()) for _ in range(5)]
    for _ in messages:
        loft.platform.refuse_next(401, "token")
    dispatcher = loft.dispatcher()
    await loft.run(dispatcher)
    (paused,) = told(loft)
    assert (paused.type, paused.data["class"], paused.data["scope"]) == ("account.paused", "auth", "account")
    late = await say(loft, await loft.ticket())
    await loft.run(dispatcher)
    wait = await why(loft, late)
    assert wait is not None
    assert (wait.error_class, wait.until) == ("auth", micros(START + timedelta(minutes=5)))
    await Health(loft.core).refresh_figures()
    assert b'gateway_account_paused{account="loft",class="auth"} 1.0' in loft.core.metrics.render()
    assert b'gateway_outbox_messages{account="loft",state="held"} 6.0' in loft.core.metrics.render()


async def test_a_rate_limit_meanwhile_does_not_hide_a_dead_token(loft: World) -> None:
    for _ in range(2):
        await say(loft, await loft.ticket())
    loft.platform.refuse_next(401, "token")
    loft.platform.refuse_next(429, "busy")
    await loft.run(loft.dispatcher())
    pauses = await loft.core.database.read(lambda c: queue_views.pauses(c, micros(loft.clock())))
    assert [row["error_class"] for row in pauses["loft"]] == ["auth"]


async def test_people_are_told_once_of_what_nobody_could_find_out(loft: World) -> None:
    ticket = await loft.ticket()
    message = await say(loft, ticket)
    loft.platform.fail_next("reset")
    dispatcher = loft.dispatcher()
    await loft.run(dispatcher)
    loft.clock.forward(minutes=9, seconds=59)
    await dispatcher.keep()
    assert "reply.undecided" not in await loft.log(ticket)
    loft.clock.forward(seconds=1)
    for _ in range(3):
        await dispatcher.keep()
    assert (await loft.log(ticket)).count("reply.undecided") == 1
    assert [event.type for event in told(loft)] == ["message.undecided"]
    assert await loft.core.database.read(queue_views.undecided) == 1
    await replies.leave(loft.core, message, AGENT)
    assert await loft.core.database.read(queue_views.undecided) == 0
    before = (await loft.log(ticket)).count("reply.left"), len(loft.core.bus._recent)
    again = await replies.leave(loft.core, message, AGENT)
    assert again.status == "unknown"
    assert ((await loft.log(ticket)).count("reply.left"), len(loft.core.bus._recent)) == before == (1, before[1])


async def test_tries_are_counted_on_over_a_retry_and_a_wait_for_the_rate(loft: World) -> None:
    """What is shown tells every try of a part apart, though patience begins anew."""
    message = await say(loft, await loft.ticket())
    dispatcher = loft.dispatcher()
    for status, code in ((429, "busy"), (400, "gone"), (400, "gone")):
        loft.platform.refuse_next(status, code)
        await loft.run(dispatcher)
        if await loft.status(message) == "failed":
            await replies.retry(loft.core, message, AGENT)
        loft.clock.forward(minutes=5)
    await loft.run(dispatcher)

    def job(connection: Any) -> types.MessageDetail:
        row = views.message(connection, message, None)
        assert row is not None
        return show.message_detail(row, [], views.history(connection, message), None)

    shown = await loft.core.database.read(job)
    assert [(tried.part, tried.number) for tried in shown.attempts] == [(0, 1), (0, 2), (0, 3), (0, 4)]
    letters = await loft.rows(schema.dead_letters)
    assert len(letters) == 2

    def letter(connection: Any) -> types.DeadLetterDetail:
        found = dead.letter(connection, letters[0].id, None)
        assert found is not None
        return show_queues.dead_letter_detail(found, dead.evidence(connection, found))

    assert [tried.number for tried in (await loft.core.database.read(letter)).history] == [1, 2, 3, 4]


async def test_what_a_person_left_does_not_go_again_when_it_is_proven_unsent(tmp_path: Path) -> None:
    async with world(tmp_path, adapters={"loft": FindingAdapter}) as loft:
        message = await say(loft, await loft.ticket())
        loft.platform.fail_next("reset")
        dispatcher = loft.dispatcher()
        await loft.run(dispatcher)
        await replies.leave(loft.core, message, AGENT)
        FindingAdapter.truth = {(await parts_of(loft, message))[0].id: None}
        loft.clock.forward(seconds=5)
        await dispatcher.keep()
        await loft.run(dispatcher)
        assert (await loft.status(message), loft.platform.calls) == ("unknown", 1)


async def test_who_waits_behind_another_says_so(loft: World) -> None:
    ticket = await loft.ticket()
    await say(loft, ticket, "1")
    follower = await say(loft, ticket, "2")
    loft.platform.fail_next("reset")
    await loft.run(loft.dispatcher())
    wait = await why(loft, follower)
    assert wait is not None
    assert (wait.code, wait.error_class, wait.until) == ("order", "", micros(START + timedelta(seconds=120)))


# --- a reply in parts ---

LONG = " ".join(["word"] * 55)  # three parts


async def test_parts_have_their_own_states_and_make_the_message_s(loft: World) -> None:
    message = await say(loft, await loft.ticket(), LONG)
    dispatcher = loft.dispatcher()
    await dispatcher.round()
    await dispatcher.settled()
    assert [part.state for part in await parts_of(loft, message)] == ["sent", "queued", "queued"]
    assert await loft.status(message) == "queued"
    loft.platform.refuse_next(400, "gone")
    await loft.run(dispatcher)
    assert [part.state for part in await parts_of(loft, message)] == ["sent", "failed", "failed"]
    assert await loft.status(message) == "failed"


async def test_a_half_sent_reply_is_cancelled_from_there_on(loft: World) -> None:
    ticket = await loft.ticket()
    message, next_one = await say(loft, ticket, LONG), await say(loft, ticket, "next")
    dispatcher = loft.dispatcher()
    await dispatcher.round()
    await dispatcher.settled()
    await replies.cancel(loft.core, message, AGENT)
    assert [part.state for part in await parts_of(loft, message)] == ["sent", "cancelled", "cancelled"]
    assert await loft.status(message) == "sent"
    assert (await loft.log(ticket))[-1] == "reply.cancelled"
    with pytest.raises(RequestError):
        await replies.cancel(loft.core, message, AGENT)
    await loft.run(dispatcher)
    assert await loft.status(next_one) == "sent"
    assert len(loft.platform.sends) == 2


async def test_while_one_part_leaves_the_others_can_be_cancelled(loft: World) -> None:
    message = await say(loft, await loft.ticket(), LONG)
    loft.platform.gate = asyncio.Event()
    dispatcher = loft.dispatcher()
    await dispatcher.round()
    await replies.cancel(loft.core, message, AGENT)
    loft.platform.gate.set()
    await loft.run(dispatcher)
    assert [part.state for part in await parts_of(loft, message)] == ["sent", "cancelled", "cancelled"]
    assert await loft.status(message) == "sent"


async def test_only_the_parts_that_did_not_arrive_are_sent_again(loft: World) -> None:
    ticket = await loft.ticket()
    message = await say(loft, ticket, LONG)
    dispatcher = loft.dispatcher()
    await dispatcher.round()
    await dispatcher.settled()
    loft.platform.refuse_next(400, "gone")
    await loft.run(dispatcher)
    await replies.retry(loft.core, message, AGENT)
    await loft.run(dispatcher)
    assert [part.state for part in await parts_of(loft, message)] == ["sent"] * 3
    arrived = Counter(send.ours for send in loft.platform.sends)
    assert set(arrived.values()) == {1}
    assert len(arrived) == 3
    line = next(row for row in await loft.rows(schema.ticket_events) if row.kind == "reply.retried")
    assert msgspec.json.decode(line.data)["parts"] == [1, 2]  # and what stayed back of the text


# --- claimed ahead ---


async def test_a_quick_account_is_claimed_ahead_and_what_has_not_begun_is_put_back_when_it_breaks(
    loft: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "QUICK_S", 60.0)  # however busy the machine is
    dispatcher = loft.dispatcher(concurrency=32)
    for _ in range(32):
        await say(loft, await loft.ticket("keyed"))
    await loft.run(dispatcher)
    assert len(loft.platform.sends) == 32
    messages = [await say(loft, await loft.ticket("keyed")) for _ in range(100)]
    loft.platform.fail_next("500", 1000)
    bound = loft.core.accounts.get("loft")
    assert bound is not None
    gate, real = asyncio.Event(), bound.adapter.send

    async def waits(message: Any) -> Any:
        await gate.wait()
        return await real(message)

    bound.adapter.send = waits  # type: ignore[method-assign]
    assert await dispatcher.round() == 96  # 32 at a time, and 64 ahead
    assert Counter([await loft.status(m) for m in messages]) == {"sending": 96, "queued": 4}
    gate.set()
    await dispatcher.settled()
    assert loft.platform.calls - 32 == 32
    parts = [(await parts_of(loft, message))[0] for message in messages]
    assert Counter(part.attempts for part in parts) == {1: 32, 0: 68}
    untried = [part for part in parts if not part.attempts and part.fence]
    assert {(part.state, part.not_before) for part in untried} == {
        ("queued", micros(START + timedelta(seconds=30)))
    }  # until the breaker lets one try
    assert len(untried) == 64
    loft.platform._faults.clear()
    loft.clock.forward(minutes=1)
    for _ in range(5):
        await loft.run(dispatcher)
        loft.clock.forward(minutes=1)
    assert {await loft.status(m) for m in messages} == {"sent"}
    assert len({send.payload["to"] for send in loft.platform.sends}) == len(loft.platform.sends) == 32 + 100


async def test_never_more_than_its_number_are_with_the_platform(loft: World) -> None:
    tower = loft.core.accounts.get("loft")
    assert tower is not None
    real, now, most = tower.adapter.send, 0, 0

    async def counting(message: Any) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            return await real(message)
        finally:
            now -= 1

    tower.adapter.send = counting  # type: ignore[method-assign]
    dispatcher = loft.dispatcher(concurrency=32)
    for _ in range(3):
        for _ in range(70):
            await say(loft, await loft.ticket())
        await loft.run(dispatcher)
    assert most == 32
    assert len(loft.platform.sends) == 210
