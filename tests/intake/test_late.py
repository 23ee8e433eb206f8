"""What comes late or in the wrong order: platforms repeat what failed for hours and days, each event by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from gateway.ids import micros
from gateway.intake import IntakeWorker
from gateway.store.people import set_consent
from gateway.store.schema import contacts, deliveries, events, identities, messages
from normalizers.model import ConsentChange, MessageDeleted, MessageEdited, Reaction
from tests.intake.build import T0, Memory, person, phone, wrote
from tests.intake.test_worker import Intake, change
from tests.intake.test_worker import wrote as delivery

ANN = phone("+4915112345601")
NOW = int(datetime.now(UTC).timestamp())


def edit(name: str, text: str, seconds: int = 0, target: str = "m1") -> dict[str, Any]:
    """Ann changes a message, so many seconds after now."""
    body = {"original_message_id": target, "message": {"type": "text", "text": {"body": text}}}
    return change(messages=[_event(name, "edit", body, seconds)])


def revoke(name: str, target: str = "m1") -> dict[str, Any]:
    """Ann takes a message back."""
    return change(messages=[_event(name, "revoke", {"original_message_id": target})])


def _event(name: str, kind: str, content: dict[str, Any], seconds: int = 0) -> dict[str, Any]:
    return {"id": name, "from": ANN.value[1:], "timestamp": str(NOW + seconds), "type": kind, kind: content}


# --- edits and what was taken back ---


async def test_of_edits_in_any_order_the_latest_stands(intake: Intake) -> None:
    await intake.deliver(delivery("m1", "first"))
    for late in (edit("e3", "third", 30), edit("e2", "second", 20)):
        await intake.deliver(late)
        await intake.file()
    await intake.deliver(edit("e4", "fourth", 40), edit("e1", "none of these", 10))
    await intake.file()
    assert await intake.rows(messages.c.text) == [("fourth",)]


async def test_what_was_taken_back_comes_back_by_no_edit(intake: Intake) -> None:
    await intake.deliver(delivery("m1", "my card is 4111"))
    await intake.deliver(edit("e1", "my card ends in 4111"))
    await intake.file()
    await intake.deliver(revoke("r1"))
    await intake.file()
    await intake.deliver(edit("e2", "my card, 4111"))
    await intake.file()
    assert await intake.rows(messages.c.text) == [("",)]
    bodies = [bytes(body) for (body,) in await intake.rows(deliveries.c.body)]
    assert b"4111" not in b"".join(bodies)
    assert all("4111" not in payload for (payload,) in await intake.rows(events.c.payload))


async def test_an_edit_and_its_deletion_in_one_batch_leave_nothing(intake: Intake) -> None:
    await intake.deliver(delivery("m1", "my card is 4111"), edit("e1", "4111"), revoke("r1"), edit("e2", "4111 2"))
    await intake.file()
    assert await intake.rows(messages.c.text) == [("",)]
    assert all(b"4111" not in bytes(body) for (body,) in await intake.rows(deliveries.c.body))
    assert all("4111" not in payload for (payload,) in await intake.rows(events.c.payload))


async def test_what_is_delivered_again_after_it_was_taken_back_is_cut_out_of_that_too(intake: Intake) -> None:
    said, changed = delivery("m1", "my card is 4111"), edit("e1", "my card ends in 4111")
    await intake.deliver(said, changed)
    await intake.deliver(revoke("r1"))
    await intake.file()
    await intake.deliver(delivery("m2", "unrelated"), said, changed)
    await intake.deliver(said)
    await intake.file()
    bodies = [bytes(body) for (body,) in await intake.rows(deliveries.c.body)]
    assert b"4111" not in b"".join(bodies)
    assert b"unrelated" in bodies[2]
    assert await intake.rows(messages.c.text) == [("",), ("unrelated",)]
    await intake.deliver(delivery("m2", "unrelated"))  # it stands, and so do its copies
    await intake.file()
    assert b"unrelated" in (await intake.rows(deliveries.c.body))[-1][0]


async def test_a_message_that_comes_days_after_it_was_taken_back_is_not_shown(intake: Intake) -> None:
    await intake.deliver(revoke("r1"))
    await intake.file()
    intake.worker = IntakeWorker(intake.core)
    intake.clock.ahead = timedelta(days=7)
    await intake.file()
    await intake.deliver(delivery("m1", "my card is 4111"))
    await intake.file()
    assert [(text, at is None) for text, at in await intake.rows(messages.c.text, messages.c.deleted_at)] == [
        ("", False)
    ]
    intake.worker = IntakeWorker(intake.core)
    intake.clock.ahead = timedelta(days=17)
    await intake.deliver(revoke("r9", "never-came"))
    await intake.file()
    intake.worker = IntakeWorker(intake.core)
    intake.clock.ahead = timedelta(days=26)
    await intake.file()
    assert (await intake.rows(events.c.state))[-1] == ("ignored",)


def test_a_late_edit_of_a_batch_is_of_no_use() -> None:
    memory = Memory()
    memory.file(wrote("m1", ANN, "hello"))
    gone = MessageDeleted(id="d1", at=T0, channel="whatsapp", target="m1")
    memory.file(gone, MessageEdited(id="e1", at=T0, channel="whatsapp", target="m1", text="again"))
    assert [outcome for outcome, _ in memory.outcomes] == ["done", "ignored"]


# --- reactions ---


def test_a_late_reaction_replaces_no_newer_one() -> None:
    memory = Memory()
    memory.file(wrote("m1", ANN))
    target = memory.messages[0]["id"]
    react: dict[str, Any] = {"channel": "whatsapp", "target": "m1", "sender": person(ANN)}
    memory.file(Reaction(id="r2", at=T0 + timedelta(seconds=9), emoji="👎", **react))
    memory.file(Reaction(id="r1", at=T0, emoji="👍", **react))
    assert memory.outcomes == [("ignored", "a later reaction came first")]
    assert [reaction["emoji"] for reaction in memory.snapshot.messages[target].reactions] == ["👎"]


# --- consent ---

LATER, LAST = T0 + timedelta(seconds=10), T0 + timedelta(seconds=20)
OUT: dict[str, Any] = {"state": "opted_out", "scope": "marketing"}
IN: dict[str, Any] = {"state": "opted_in", "scope": "marketing"}
ORDERS: dict[str, tuple[list[tuple[dict[str, Any], datetime]], tuple[str, list[str]]]] = {
    "resumed, and a late stop": ([(IN, LATER), (OUT, T0)], ("active", [])),
    "stopped, and a late resume": ([(OUT, LATER), (IN, T0)], ("active", ["marketing"])),
    "stopped in the same second": ([(IN, LATER), (OUT, LATER)], ("active", ["marketing"])),
    "followed, and a late unfollow": ([({"state": "unblocked"}, LATER), ({"state": "blocked"}, T0)], ("active", [])),
    "unfollowed, and a late follow": ([({"state": "blocked"}, LATER), ({"state": "unblocked"}, T0)], ("blocked", [])),
    "in to all, and a late stop of some": ([({"state": "opted_in"}, LATER), (OUT, T0)], ("active", [])),
    "out of some, and late in to all": ([(OUT, LATER), ({"state": "opted_in"}, T0)], ("active", ["marketing"])),
    "matters of their own": ([({"state": "blocked"}, LATER), (OUT, T0)], ("blocked", ["marketing"])),
    "a topic's word is no word on all": ([(OUT | {"topic": "t1"}, LATER), (OUT, T0)], ("active", ["marketing"])),
}


@pytest.mark.parametrize(("told", "expected"), ORDERS.values(), ids=ORDERS)
def test_a_late_word_changes_nothing(
    told: list[tuple[dict[str, Any], datetime]], expected: tuple[str, list[str]]
) -> None:
    memory = Memory(now=LAST)
    for number, (word, at) in enumerate(told):
        memory.file(
            ConsentChange(id=f"c{number}", at=at, channel="whatsapp", person=person(ANN), source="platform", **word)
        )
    identity = memory.identity(ANN.value)
    assert (identity.state, identity.optouts) == expected


def test_who_wrote_since_has_not_blocked_us() -> None:
    memory = Memory(now=LAST)
    memory.file(wrote("m1", ANN, at=LATER))
    blocked = ConsentChange(id="c1", at=T0, channel="whatsapp", person=person(ANN), state="blocked", source="x")
    memory.file(blocked)
    assert memory.identity(ANN.value).state == "active"
    memory.file(msgspec.structs.replace(blocked, id="c2", at=LAST), wrote("m2", ANN, at=LATER))
    assert memory.identity(ANN.value).state == "blocked"


def test_a_late_start_does_not_undo_a_stop() -> None:
    memory = Memory(account="sms", now=LAST)
    memory.file(wrote("m2", ANN, "STOP", "sms", at=LATER))
    memory.file(wrote("m1", ANN, "START", "sms", at=T0))
    assert memory.identity(ANN.value).state == "opted_out"
    assert [msgspec.json.decode(message["flags"]) for message in memory.messages] == [["opt_out"], []]


async def test_the_last_word_is_remembered(intake: Intake) -> None:
    def preference(word: str, seconds: int) -> dict[str, Any]:
        told = {"wa_id": ANN.value[1:], "category": "marketing_messages", "value": word, "timestamp": NOW + seconds}
        return change(user_preferences=[told])

    await intake.deliver(delivery("m1"), preference("stop", -10))
    await intake.file()
    await intake.deliver(preference("resume", -60))
    await intake.file()
    assert await intake.rows(identities.c.optouts) == [('["marketing"]',)]
    ((identity,),) = await intake.rows(identities.c.id)
    now = micros(datetime.now(UTC))
    await intake.core.database.write(lambda c: set_consent(c, identity, "opted_in", "marketing", now))
    await intake.deliver(preference("stop", -5))
    await intake.file()
    assert await intake.rows(identities.c.optouts) == [("[]",)]


# --- clocks that are wrong ---


async def test_nobody_was_seen_in_the_future(intake: Intake) -> None:
    year = 365 * 86_400
    stop = {"wa_id": "4915112345602", "category": "marketing_messages", "value": "stop", "timestamp": NOW + year}
    like = _event("r1", "reaction", {"message_id": "m1", "emoji": "👍"}, year)
    await intake.deliver(delivery("m1"), change(messages=[like]), change(user_preferences=[stop]))
    await intake.file()
    soon = micros(datetime.now(UTC) + timedelta(minutes=2))
    moments = [moment for row in await intake.rows(contacts.c.created_at, contacts.c.last_seen_at) for moment in row]
    assert len(moments) == 4
    assert all(moment < soon for moment in moments)


# --- words ---

WORDS: dict[str, tuple[str, list[str]]] = {
    "between marks of direction": ("\u202aSTOP\u202c", ["opt_out"]),
    "with a character nobody sees": ("ST\u200bOP", ["opt_out"]),
    "in full-width letters": ("ＳＴＯＰ", ["opt_out"]),
    "in quotes": ("“Stop”", ["opt_out"]),
    "with a picture": ("STOP 🛑", ["opt_out"]),
    "with a variant of nothing": ("stop\ufe0f", ["opt_out"]),
    "a question": ("Stop?", []),
    "a sentence": ("Stop it", []),
    "before much space": ("STOP" + " " * 100_000, ["opt_out"]),
    "at the start of a novel": ("STOP " + "x" * 100_000, []),
    "a start in quotes is talked of": ("“start”", []),
}


@pytest.mark.parametrize(("text", "flags"), WORDS.values(), ids=WORDS)
def test_a_word_is_what_a_reader_sees(text: str, flags: list[str]) -> None:
    memory = Memory(account="sms")
    memory.file(wrote("m1", ANN, text, "sms"))
    assert msgspec.json.decode(memory.messages[-1]["flags"]) == flags
    assert memory.messages[-1]["text"] == text
