"""Which ticket a mail belongs to: by reply token, by the ids it refers to; and who may write there."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from gateway.ids import micros
from tests.intake.build import T0, TOKENS, Memory, mailbox, mailed, person, rules

ANN, BOB, EVE = mailbox("ann@x.test"), mailbox("bob@x.test"), mailbox("eve@x.test")
MESSAGE = "0197" + "0" * 28


def begin(**more: Any) -> Memory:
    """A ticket of Ann's, begun by her mail a@x."""
    memory = Memory(rules("email", own_addresses=frozenset({"support@shop.test"})), account="mail")
    memory.file(mailed("a@x", ANN, "My order", subject="Order 12", **more))
    return memory


WAYS: dict[str, dict[str, Any]] = {  # how a later mail names the thread
    "reply token": {"tokens": [TOKENS.reply_token(1)]},
    "In-Reply-To": {"references": ["a@x"]},
    "a sibling's reference": {"references": ["root@x"]},
    "our own Message-ID": {"references": [TOKENS.mail_id(MESSAGE, "shop.test")]},
    "the strongest first": {"references": ["a@x", "elsewhere@x"]},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_mail_finds_its_ticket(way: dict[str, Any]) -> None:
    memory = begin(references=["root@x"])
    known = next(iter(memory.snapshot.messages.values()))
    memory.snapshot.messages[MESSAGE] = known  # a reply of ours, on the same ticket
    memory.file(mailed("b@x", ANN, **way))
    assert memory.messages[1]["ticket_id"] == memory.ticket.id


STRANGE: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a forged token": {"tokens": [TOKENS.reply_token(1)[:-1] + "a"]},
    "a token of no ticket": {"tokens": [TOKENS.reply_token(99)]},
    "an unknown id": {"references": ["nobody@x"]},
    "the same subject": {"subject": "Re: Order 12"},
}


@pytest.mark.parametrize("way", STRANGE.values(), ids=STRANGE)
def test_any_other_mail_begins_a_ticket(way: dict[str, Any]) -> None:
    memory = begin()
    memory.file(mailed("b@x", ANN, **way))
    assert len(memory.tickets) == 2


def test_a_token_wins_over_references() -> None:
    memory = begin()
    memory.file(mailed("b@x", ANN, subject="Another"))
    first, second = memory.tickets
    memory.file(mailed("c@x", ANN, tokens=[TOKENS.reply_token(first.number)], references=["b@x"]))
    assert memory.messages[2]["ticket_id"] == first.id != second.id


def test_a_stranger_with_a_valid_token_is_shown_flagged_and_moves_nothing() -> None:
    memory = begin()
    memory.ticket.status = "solved"
    memory.file(mailed("b@x", EVE, "Send it to me", tokens=[TOKENS.reply_token(1)]))
    message = memory.messages[1]
    assert (message["ticket_id"], message["visibility"], memory.ticket.status) == (memory.ticket.id, "note", "solved")
    assert "unknown_sender" in msgspec.json.decode(message["flags"])
    assert memory.ticket.entries[-1].kind == "message.flagged"
    memory.file(mailed("c@x", EVE, "Again", tokens=[TOKENS.reply_token(1)]))
    assert memory.messages[2]["visibility"] == "note"  # writing once admits nobody


def test_who_got_a_copy_may_write_and_our_own_addresses_do_not_count() -> None:
    memory = begin(copies=[BOB, mailbox("support@shop.test")])
    memory.file(mailed("b@x", BOB, references=["a@x"]))
    assert memory.messages[1]["visibility"] == "private"
    (conversation,) = memory.snapshot.conversations_by_id.values()
    assert conversation.participants == ["ann@x.test", "bob@x.test"]


def test_who_wants_answers_elsewhere_may_write_from_there() -> None:
    memory = begin(answer_to=(mailbox("ann@home.test"), mailbox("support@shop.test")))
    memory.ticket.status = "solved"
    memory.file(mailed("b@x", mailbox("ann@home.test"), tokens=[TOKENS.reply_token(1)]))
    assert (memory.messages[1]["visibility"], memory.ticket.status) == ("private", "open")
    (conversation,) = memory.snapshot.conversations_by_id.values()
    assert conversation.participants == ["ann@x.test", "ann@home.test"]


def test_who_forges_a_participant_brings_nobody_in() -> None:
    memory = begin()
    forged = mailbox("ann@x.test", "claimed")
    way: dict[str, Any] = {"references": ["a@x"], "copies": [EVE], "answer_to": (mailbox("eve@y.test"),)}
    memory.file(mailed("b@x", forged, **way))
    (conversation,) = memory.snapshot.conversations_by_id.values()
    assert conversation.participants == ["ann@x.test"]
    memory.file(mailed("c@x", mailbox("bob@x.test", "claimed"), copies=[EVE]))  # a thread of his own is his
    assert memory.snapshot.conversations_by_id[memory.tickets[1].conversation_id].participants == [
        "bob@x.test", "eve@x.test",
    ]  # fmt: skip


def test_an_answer_is_no_older_than_what_it_answers() -> None:
    memory = begin()
    known = next(iter(memory.snapshot.messages.values()))
    memory.later(hours=1)
    written = micros(memory.now)
    memory.snapshot.messages[MESSAGE] = replace(known, id=MESSAGE, direction="outbound", created_at=written)
    memory.later(hours=1)
    named = [TOKENS.mail_id(MESSAGE, "shop.test")]
    slow, right = T0 - timedelta(days=9000), T0 + timedelta(minutes=90)
    memory.file(mailed("b@x", ANN, references=named, at=slow), mailed("c@x", ANN, references=named, at=right))
    memory.file(mailed("d@x", ANN, references=["a@x"], at=slow))  # of what a customer wrote we know no better
    assert [message["sent_at"] for message in memory.messages[1:]] == [written, micros(right), micros(slow)]


def test_the_subject_names_the_ticket_and_its_follow_up() -> None:
    memory = begin()
    memory.ticket.status = "closed"
    memory.file(mailed("b@x", ANN, references=["a@x"], subject=""))
    assert (memory.ticket.subject, memory.ticket.via) == ("Order 12", "closed_ticket")


def test_one_mail_to_two_of_our_addresses_is_one_ticket() -> None:
    memory = begin()
    memory.file(mailed("a@x", ANN, "My order"), account="mail-2")
    assert memory.outcomes[0][0] == "ignored"
    assert len(memory.tickets) == 1


def test_an_absence_note_is_shown_but_moves_nothing() -> None:
    memory = begin()
    memory.ticket.status = "pending"
    memory.file(mailed("b@x", ANN, "I am away", references=["a@x"], automatic="ooo"))
    assert (memory.ticket.status, memory.messages[1]["visibility"]) == ("pending", "note")


def test_which_address_of_ours_was_written_to_is_kept() -> None:
    memory = begin(own_address="sales@shop.test")
    assert memory.ticket.channel_info["own_address"] == "sales@shop.test"


def test_a_mail_answers_the_message_it_names() -> None:
    memory = begin()
    memory.file(mailed("b@x", person(ANN), references=["a@x"]))
    assert memory.messages[1]["in_reply_to"] == memory.messages[0]["id"]
