"""Receipts move a message forward only, whatever order they come in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from itertools import permutations
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import replies
from gateway.ids import micros, new_id
from gateway.replies import AttachmentRequest, ReplyRequest, Submitted
from gateway.store import receipts, schema
from gateway.store.receipts import ReceiptResult
from gateway.tickets import Actor
from normalizers.model import Address, DeliveryUpdate, PlatformError
from outbox.receipts import Receipt, State, advance, combined
from tests.pigeon import OPEN, START, World, world

AGENT = Actor("agent", "u1", "Bo")
RANK = {"sent": 0, "delivered": 1, "read": 2}

TABLE: dict[str, tuple[State, Receipt, bool, bool, State | None]] = {
    "delivered after sent": ("sent", "delivered", True, False, "delivered"),
    "read without delivered": ("sent", "read", True, False, "read"),
    "sent after delivered": ("delivered", "sent", True, False, None),
    "delivered after read": ("read", "delivered", True, False, None),
    "failed after sent": ("sent", "failed", True, False, "failed"),
    "failed after delivered": ("delivered", "failed", True, False, None),
    "delivered after failed": ("failed", "delivered", True, True, "delivered"),
    "delivered after failed, elsewhere": ("failed", "delivered", True, False, None),
    "sent after failed": ("failed", "sent", True, True, None),
    "proof of an unknown one": ("unknown", "delivered", True, False, "delivered"),
    "faster than the answer": ("sending", "delivered", True, False, "delivered"),
    "proof while a repeat waits": ("queued", "sent", True, False, "sent"),
    "of one that never left": ("queued", "sent", False, False, None),
    "queued says nothing": ("sent", "queued", True, False, None),
}


@pytest.mark.parametrize(("state", "receipt", "tried", "revives", "after"), TABLE.values(), ids=TABLE)
def test_the_table(state: State, receipt: Receipt, tried: bool, revives: bool, after: State | None) -> None:
    assert advance(state, receipt, tried=tried, delivered_after_failed=revives) == after


@pytest.mark.parametrize(("receipt", "after"), {"sent": None, "failed": None, "delivered": "delivered"}.items())
def test_what_was_sent_another_way_moves_only_by_its_arrival(receipt: Receipt, after: State | None) -> None:
    assert advance("cancelled", receipt, tried=True, delivered_after_failed=False, taken_back=True) == after


@given(st.sampled_from(get_args(State)), st.lists(st.sampled_from(get_args(Receipt))), st.booleans())
def test_receipts_never_go_back(state: State, reports: list[Receipt], revives: bool) -> None:
    now = state
    for report in reports:
        before, now = now, advance(now, report, tried=True, delivered_after_failed=revives) or now
        if before in RANK and now in RANK:
            assert RANK[now] >= RANK[before]
    assert now not in ("queued", "held", "sending", "unknown") or now == state


COMBINED: dict[str, tuple[list[State], State]] = {
    "all sent": (["sent", "sent"], "sent"),
    "the least far": (["read", "delivered"], "delivered"),
    "one failed": (["sent", "failed", "queued"], "failed"),
    "one unknown": (["sent", "unknown"], "unknown"),
    "one on its way": (["sent", "sending", "queued"], "sending"),
    "one waits": (["sent", "queued"], "queued"),
    "the rest was cancelled": (["sent", "cancelled"], "sent"),
    "what arrived is not all of it": (["delivered", "read", "cancelled"], "sent"),
    "one waits, one was cancelled": (["read", "queued", "cancelled"], "queued"),
    "one arrived, one failed": (["read", "failed", "cancelled"], "failed"),
    "all cancelled": (["cancelled"], "cancelled"),
}


@pytest.mark.parametrize(("states", "whole"), COMBINED.values(), ids=COMBINED)
def test_a_message_by_its_parts(states: list[State], whole: State) -> None:
    assert combined(states) == whole


# --- in the store -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def loft(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


def report(status: Any, target: str = "", **more: Any) -> DeliveryUpdate:
    return DeliveryUpdate(id=new_id(), at=START, status=status, target=target, **more)


async def take(loft: World, *updates: DeliveryUpdate) -> ReceiptResult:
    now = micros(loft.clock())
    return await loft.core.database.write(lambda c: receipts.apply(c, "loft", OPEN, updates, now))


async def sent_message(loft: World, ticket: str = "", words: str = "Hello") -> tuple[str, str]:
    """A message that left, and its external id."""
    ticket = ticket or await loft.ticket()
    answer = await replies.submit(loft.core, ticket, ReplyRequest(text=words), AGENT)
    assert isinstance(answer, Submitted)
    await loft.run(loft.dispatcher())
    return answer.message_id, (await loft.message(answer.message_id)).external_id


async def part_id(loft: World, message: str) -> str:
    return str((await loft.rows(schema.outbox, schema.outbox.c.message_id == message))[0].id)


@pytest.mark.parametrize("order", list(permutations(["sent", "delivered", "read"])))
async def test_any_order_ends_at_read(loft: World, order: Sequence[str]) -> None:
    message, external_id = await sent_message(loft)
    result = await take(loft, *(report(status, external_id) for status in order), report("read", external_id))
    assert await loft.status(message) == "read"
    assert result.applied == [message]
    kept = await loft.rows(schema.receipts)
    assert [row.status for row in kept] == [*order, "read"]
    assert sum(row.applied for row in kept) == sum(
        RANK[status] > max([0, *(RANK[earlier] for earlier in order[:index])]) for index, status in enumerate(order)
    )


async def test_a_receipt_for_nobody_waits(loft: World) -> None:
    early = report("delivered", "p99")
    assert (await take(loft, early)).missing == [early]


async def test_a_parked_receipt_is_woken_by_the_answer_to_the_send(loft: World) -> None:
    await loft.execute(
        schema.events.insert().values(
            id=new_id(), delivery_id="d", account="loft", kind="k", dedupe_key="x", received_at=1, state="parked",
            waits_for="p1", not_before=99,
        )
    )  # fmt: skip
    await sent_message(loft)
    (event,) = await loft.rows(schema.events)
    assert (event.state, event.not_before) == ("new", None)


@pytest.mark.parametrize("status", ["sent", "delivered", "read"])
async def test_our_own_id_proves_an_unknown_message(loft: World, status: str) -> None:
    loft.platform.fail_next("reset_after_accept")
    ticket = await loft.ticket()
    message, _ = await sent_message(loft, ticket)
    follower = await replies.submit(loft.core, ticket, ReplyRequest(text="2"), AGENT)
    assert isinstance(follower, Submitted)
    assert await loft.status(message) == "unknown"
    await take(loft, report(status, "p1", ours=await part_id(loft, message)))
    row = await loft.message(message)
    assert (row.status, row.external_id, row.error) == (status, "p1", None)
    await take(loft, report("read", "p1"))
    assert await loft.status(message) == "read"
    await loft.run(loft.dispatcher())
    assert await loft.status(follower.message_id) == "sent"


async def test_a_receipt_overtakes_the_answer(loft: World) -> None:
    answer = await replies.submit(loft.core, await loft.ticket(), ReplyRequest(text="Hi"), AGENT)
    assert isinstance(answer, Submitted)
    loft.platform.gate = asyncio.Event()
    dispatcher = loft.dispatcher()
    await dispatcher.round()
    await take(loft, report("delivered", "p1", ours=await part_id(loft, answer.message_id)))
    loft.platform.gate.set()
    await dispatcher.settled()
    assert await loft.status(answer.message_id) == "delivered"


LATE = {  # code -> (class, state, consent, dead letters)
    "gone": ("bad-recipient", "failed", "[]", 1),
    "stop": ("opted-out", "failed", '["marketing"]', 1),
    "never heard of": ("permanent", "failed", "[]", 1),
    "rain": ("retry", "queued", "[]", 0),
}


@pytest.mark.parametrize("code", LATE)
async def test_a_failure_that_comes_later(loft: World, code: str) -> None:
    error_class, state, consent, letters = LATE[code]
    message, external_id = await sent_message(loft)
    await take(loft, report("failed", external_id, error=PlatformError(code, detail="words")))
    row = await loft.message(message)
    error = msgspec.json.decode(row.error)
    assert (row.status, error) == (state, {"code": code, "class": error_class, "detail": "words"})
    assert (await loft.rows(schema.identities))[0].optouts == consent
    assert len(await loft.rows(schema.dead_letters)) == letters
    if state == "queued":
        loft.clock.forward(seconds=5)
        await loft.run(loft.dispatcher())
        assert (await loft.status(message), len(loft.platform.sends)) == ("sent", 2)
    else:
        await take(loft, report("delivered", external_id))
        assert await loft.status(message) == "delivered"


async def test_read_up_to_a_moment_or_a_message(loft: World) -> None:
    ticket = await loft.ticket(ring="r1")
    found = [await sent_message(loft, ticket, word) for word in "abc"]
    await take(loft, report("read", found[1][1], up_to=True))
    assert [await loft.status(message) for message, _ in found] == ["read", "read", "sent"]
    somebody = Address("open", "ring", "r1")
    await take(loft, report("delivered", watermark=START - timedelta(seconds=1), recipient=somebody))
    assert [await loft.status(message) for message, _ in found] == ["read", "read", "sent"]
    result = await take(loft, report("delivered", watermark=START, recipient=somebody))
    assert [await loft.status(message) for message, _ in found] == ["read", "read", "delivered"]
    assert result.missing == []
    assert result.live == [
        ("message.updated", {"ticket_id": ticket, "message_id": found[2][0], "status": "delivered"}, "loft")
    ]


async def test_a_message_in_parts_is_as_far_as_its_last_part(loft: World) -> None:
    files = [AttachmentRequest(url="https://f.example/a.pdf")]
    request = ReplyRequest(text="a text too long beside a file", attachments=files)
    answer = await replies.submit(loft.core, await loft.ticket(), request, AGENT)
    assert isinstance(answer, Submitted)
    await loft.run(loft.dispatcher())
    assert await loft.status(answer.message_id) == "sent"
    await take(loft, report("read", "p1"))
    assert await loft.status(answer.message_id) == "sent"
    await take(loft, report("delivered", "p2"))
    assert await loft.status(answer.message_id) == "delivered"


async def test_another_account_s_ids_move_nothing(loft: World) -> None:
    message, _ = await sent_message(loft, await loft.ticket(account="tower"))
    stranger = report("read", "p1", ours=await part_id(loft, message))
    assert (await take(loft, stranger)).missing == [stranger]
    assert await loft.status(message) == "sent"
