"""Where a message goes: new ticket, open ticket, reopened, follow-up of a closed one; and what else events change."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from gateway.ids import micros
from gateway.intake.records import Known
from gateway.tickets import Policy
from normalizers.model import (
    Attachment,
    CallEvent,
    ConsentChange,
    Context,
    DeliveryUpdate,
    Echo,
    Engagement,
    Event,
    Ignored,
    MessageDeleted,
    MessageEdited,
    Reaction,
    Thread,
    ThreadControl,
    Unreadable,
)
from tests.intake.build import T0, Memory, bsuid, person, phone, rules, user, wrote

ANN, BOB = phone("+4915112345601"), phone("+4915112345602")


def test_first_message_makes_contact_ticket_and_tags() -> None:
    memory = Memory()
    changes = memory.file(
        wrote("m1", person(ANN, name="Ann", profile={"city": "Kiel"}), "Where is my order?\nIt is late.")
    )
    ticket = memory.ticket
    assert (ticket.subject, ticket.status, ticket.via, ticket.channel, ticket.account) == (
        "Where is my order?", "new", "whatsapp", "whatsapp", "wa",
    )  # fmt: skip
    assert ticket.tags == ["whatsapp", "messaging_support"]
    assert ticket.conversation_state == "started"
    assert ticket.channel_info == {
        "channel": "whatsapp", "channel_title": "WhatsApp", "account": "wa", "address": ANN.value, "name": "Ann",
        "profile": {"city": "Kiel"},
    }  # fmt: skip
    assert [entry.kind for entry in ticket.entries] == ["ticket.created", "message.received"]
    assert [contact.name for contact in changes.contacts] == ["Ann"]
    assert [kind for kind, _, _ in changes.live] == ["ticket.created", "message.received"]


TAGS = {
    "whatsapp": ("wa", ["whatsapp", "messaging_support"]),
    "sms": ("sms", ["sms"]),
    "square": ("square", ["square"]),
}


@pytest.mark.parametrize(("on", "expected"), TAGS.items(), ids=TAGS)
def test_only_private_messaging_channels_get_the_messaging_tag(on: str, expected: tuple[str, list[str]]) -> None:
    account, tags = expected
    memory = Memory(account=account)
    memory.file(wrote("m1", ANN, on=on))
    assert memory.ticket.tags == tags


STATUSES = {  # status before: status after a customer's message, how many tickets there are then
    "new": ("new", 1),
    "open": ("open", 1),
    "pending": ("open", 1),
    "hold": ("open", 1),
    "solved": ("open", 1),
    "closed": ("new", 2),
}


@pytest.mark.parametrize(("before", "expected"), STATUSES.items(), ids=STATUSES)
def test_a_message_follows_up_the_open_ticket_of_its_conversation(before: str, expected: tuple[str, int]) -> None:
    memory = Memory()
    memory.file(wrote("m1", ANN))
    first = memory.ticket
    first.status = before
    first.solved_at = micros(T0) if before == "solved" else None
    memory.file(wrote("m2", ANN, "Again"))
    assert (memory.ticket.status, len(memory.snapshot.tickets_by_number)) == expected
    assert [message["ticket_id"] for message in memory.messages] == [first.id, memory.ticket.id]


def test_a_closed_ticket_is_followed_and_each_links_to_the_other() -> None:
    memory = Memory()
    memory.file(wrote("m1", ANN, "My order"))
    closed = memory.ticket
    closed.status, closed.closed_at = "closed", micros(T0)
    memory.file(wrote("m2", ANN, "Still broken"))
    follower = memory.ticket
    assert (follower.follow_up_of, follower.via, follower.channel, follower.subject) == (
        closed.id, "closed_ticket", "whatsapp", "My order",
    )  # fmt: skip
    assert closed.status == "closed"
    assert [entry.kind for entry in follower.entries] == ["ticket.created", "ticket.follows", "message.received"]
    assert follower.entries[1].data == {"ticket_id": closed.id, "number": closed.number}
    assert [(entry.kind, entry.data) for entry in closed.entries[2:]] == [
        ("ticket.followed", {"ticket_id": follower.id})
    ]


def test_a_second_message_makes_the_conversation_replied() -> None:
    memory = Memory()
    memory.file(wrote("m1", ANN))
    memory.file(wrote("m2", ANN))
    assert memory.ticket.conversation_state == "replied"


EDGE = {"just within": (timedelta(days=14), 1), "just past": (timedelta(days=14, seconds=1), 2)}


@pytest.mark.parametrize(("age", "tickets"), EDGE.values(), ids=EDGE)
def test_a_ticket_solved_for_long_is_not_reopened_where_the_operator_says_so(age: timedelta, tickets: int) -> None:
    memory = Memory(rules(tickets=Policy(timedelta(days=14))))
    memory.file(wrote("m1", ANN))
    memory.ticket.status, memory.ticket.solved_at = "solved", micros(T0)
    memory.now = T0 + age
    memory.file(wrote("m2", ANN))
    assert len(memory.snapshot.tickets_by_number) == tickets
    assert memory.ticket.follow_up_of is None


def test_conversations_are_told_apart_by_account_person_and_post() -> None:
    memory = Memory()
    post = {name: Thread(kind="public", key=name) for name in ("post-1", "post-2")}
    memory.file(wrote("m1", ANN), wrote("m2", BOB), wrote("m3", ANN))
    memory.file(wrote("m1", ANN), account="wa-2")
    memory.file(
        wrote("c1", user("u1"), on="square", thread=post["post-1"]),
        wrote("c2", user("u1"), on="square", thread=post["post-2"]),
        wrote("c3", user("u2"), on="square", thread=post["post-1"]),
        wrote("c4", user("u1"), on="square", thread=post["post-1"]),
        account="square",
    )
    by_ticket: dict[str, list[str]] = {}
    for message in memory.messages:
        by_ticket.setdefault(message["ticket_id"], []).append(f"{message['account']} {message['external_id']}")
    assert list(by_ticket.values()) == [
        ["wa m1", "wa m3"], ["wa m2"], ["wa-2 m1"], ["square c1", "square c4"], ["square c2"], ["square c3"],
    ]  # fmt: skip


def test_group_messages_of_several_people_are_one_conversation() -> None:
    memory = Memory()
    group = Thread(kind="group", key="g1")
    memory.file(wrote("m1", ANN, thread=group), wrote("m2", BOB, thread=group))
    assert {message["ticket_id"] for message in memory.messages} == {memory.ticket.id}


def test_messages_of_one_batch_follow_each_other() -> None:
    """A batch decides each event on what those before it made."""
    memory = Memory()
    memory.file(*(wrote(f"m{number}", ANN) for number in range(5)))
    assert len(memory.messages) == 5
    assert len(memory.ticket.entries) == 6


# --- windows ---


def test_the_window_counts_from_the_platforms_moment_and_never_goes_back() -> None:
    memory = Memory()
    memory.file(wrote("m1", ANN, at=T0))
    memory.file(wrote("m0", ANN, at=T0 - timedelta(hours=2)))
    assert memory.identity(ANN.value).opened_at == micros(T0)
    memory.identity(ANN.value).window_used = 3
    memory.file(wrote("m2", ANN, at=T0 + timedelta(seconds=30)))
    identity = memory.identity(ANN.value)
    assert (identity.opened_at, identity.window_used) == (micros(T0 + timedelta(seconds=30)), 0)


def test_a_platform_clock_that_runs_ahead_opens_no_longer_window() -> None:
    memory = Memory()
    memory.file(wrote("m1", ANN, at=T0 + timedelta(days=2)))
    assert memory.identity(ANN.value).opened_at == micros(T0 + timedelta(minutes=1))


def test_what_the_platform_does_not_count_opens_no_window() -> None:
    memory = Memory()
    memory.file(wrote("m1", ANN, opens_window=False))
    identity = memory.identity(ANN.value)
    assert (identity.opened_at, identity.last_inbound_at) == (None, micros(T0))


@pytest.mark.parametrize(("kind", "opened_at"), [("call", micros(T0)), ("menu", None)])
def test_only_declared_engagements_open_a_window(kind: str, opened_at: int | None) -> None:
    memory = Memory()
    memory.file(Engagement(id="e1", at=T0, channel="whatsapp", person=person(ANN), kind=kind))
    assert memory.identity(ANN.value).opened_at == opened_at
    assert memory.tickets == []


# --- consent ---

WORDS = {  # account, channel, word, state before: (state, opt-outs, flags) after
    "STOP on SMS": ("sms", "sms", "STOP", "active", ("opted_out", [], ["opt_out"])),
    "stop with a dot": ("sms", "sms", " Stop. ", "active", ("opted_out", [], ["opt_out"])),
    "STOP within a sentence": ("sms", "sms", "Please stop the noise", "active", ("active", [], [])),
    "START after STOP": ("sms", "sms", "start", "opted_out", ("active", [], ["opt_in"])),
    "YES after STOP": ("sms", "sms", "Yes", "opted_out", ("active", [], ["opt_in"])),
    "YES without STOP": ("sms", "sms", "Yes", "active", ("active", [], [])),
    "HELP": ("sms", "sms", "help", "active", ("active", [], ["help"])),
    "STOP on WhatsApp": ("wa", "whatsapp", "STOP", "active", ("active", ["marketing"], ["opt_out"])),
}


@pytest.mark.parametrize(("account", "on", "word", "before", "expected"), WORDS.values(), ids=WORDS)
def test_keywords(account: str, on: str, word: str, before: str, expected: tuple[str, list[str], list[str]]) -> None:
    memory = Memory(account=account)
    memory.file(wrote("m0", ANN, on=on))
    memory.identity(ANN.value).state = before
    memory.file(wrote("m1", ANN, word, on))
    identity = memory.identity(ANN.value)
    flags = msgspec.json.decode(memory.messages[-1]["flags"])
    assert (identity.state, identity.optouts, flags) == expected
    assert memory.messages[-1]["text"] == word  # it stays to be seen


CONSENT: dict[str, tuple[dict[str, Any], tuple[str, list[str]]]] = {
    "out of everything": ({"state": "opted_out"}, ("opted_out", [])),
    "out of marketing": ({"state": "opted_out", "scope": "marketing"}, ("active", ["marketing"])),
    "blocked": ({"state": "blocked"}, ("blocked", [])),
    "in again": ({"state": "opted_in"}, ("active", [])),
}


@pytest.mark.parametrize(("change", "expected"), CONSENT.values(), ids=CONSENT)
def test_consent_told_by_the_platform_stands_in_the_log(
    change: dict[str, Any], expected: tuple[str, list[str]]
) -> None:
    memory = Memory()
    memory.file(wrote("m1", ANN))
    memory.file(ConsentChange(id="c1", at=T0, channel="whatsapp", person=person(ANN), source="platform", **change))
    identity = memory.identity(ANN.value)
    assert (identity.state, identity.optouts) == expected
    assert memory.ticket.entries[-1].kind == "consent.changed"


def test_who_writes_has_not_blocked_us() -> None:
    memory = Memory()
    memory.file(wrote("m1", ANN))
    memory.identity(ANN.value).state = "blocked"
    memory.file(wrote("m2", ANN))
    assert memory.identity(ANN.value).state == "active"


# --- reactions, edits, unsent messages, echoes ---


def test_a_reaction_stands_on_its_message_and_is_none_itself() -> None:
    memory = Memory()
    memory.file(wrote("m1", ANN))
    target = memory.messages[0]["id"]
    react: dict[str, Any] = {"at": T0, "channel": "whatsapp", "target": "m1"}
    memory.file(Reaction(id="r1", emoji="👍", sender=person(ANN), **react))
    memory.file(Reaction(id="r2", emoji="❤️", sender=person(ANN), **react))
    changes = memory.file(Reaction(id="r3", emoji="🙏", sender=person(BOB), **react))
    assert [reaction["emoji"] for reaction in changes.reactions[target]] == ["❤️", "🙏"]
    changes = memory.file(Reaction(id="r4", emoji="", sender=person(ANN), **react))
    assert [reaction["emoji"] for reaction in changes.reactions[target]] == ["🙏"]
    assert len(memory.messages) == 1
    assert memory.identity(ANN.value).opened_at == micros(T0)  # by the message, not by the reaction


PARKED: dict[str, Event] = {
    "reaction": Reaction(id="r1", at=T0, channel="whatsapp", target="m9", emoji="👍", sender=person(ANN)),
    "edit": MessageEdited(id="e1", at=T0, channel="whatsapp", target="m9", text="new"),
    "deletion": MessageDeleted(id="d1", at=T0, channel="whatsapp", target="m9"),
    "edited echo": Echo(id="x1", at=T0, channel="whatsapp", action="edited", target="m9", recipient=person(ANN)),
}


@pytest.mark.parametrize("event", PARKED.values(), ids=PARKED)
def test_what_names_an_unknown_message_waits_for_it(event: Event) -> None:
    memory = Memory()
    memory.file(event)
    assert memory.outcomes == [("parked", "m9")]
    memory.file(wrote("m9", ANN), event)
    assert memory.outcomes[1][0] == "done"


def test_an_edit_changes_the_text_and_says_when() -> None:
    memory = Memory()
    memory.file(wrote("m1", ANN, "helo"))
    moment = T0 + timedelta(seconds=20)
    changes = memory.file(
        MessageEdited(id="e1", at=moment, channel="whatsapp", target="m1", text="hello", new_id="m1b")
    )
    message = memory.messages[0]["id"]
    assert changes.edits == [(message, {"text": "hello", "html": "", "edited_at": micros(moment)})]
    assert [(ref["ref"], ref["message_id"]) for ref in changes.refs] == [("m1b", message)]


def test_an_unsent_message_is_redacted_with_its_raw_slice() -> None:
    memory = Memory()
    path = "$.entry[0].changes[0].value.messages[0]"
    memory.file(wrote("m1", ANN, "my card is 4111", path=path))
    moment = T0 + timedelta(seconds=20)
    changes = memory.file(MessageDeleted(id="d1", at=moment, channel="whatsapp", target="m1"))
    message = memory.messages[0]
    assert [(known.id, known.raw_path, known.delivery_id, at) for known, at in changes.deletions] == [
        (message["id"], path, message["delivery_id"], micros(moment))
    ]


def test_an_echo_of_ours_is_ignored_and_one_of_the_native_app_is_shown() -> None:
    memory = Memory()
    memory.file(wrote("m1", ANN))
    to_ann: dict[str, Any] = {"at": T0, "channel": "whatsapp", "recipient": person(ANN)}
    memory.file(Echo(id="e1", ours="part", text="ours", **to_ann), Echo(id="e2", text="from my phone", **to_ann))
    assert [outcome[0] for outcome in memory.outcomes] == ["ignored", "done"]
    echo = memory.messages[-1]
    assert (echo["direction"], echo["status"], echo["text"], echo["ticket_id"]) == (
        "outbound", "sent", "from my phone", memory.ticket.id,
    )  # fmt: skip
    memory.file(Echo(id="e2", text="from my phone", **to_ann))
    assert memory.outcomes == [("ignored", "our own message")]


def test_a_conversation_the_business_began_is_pending() -> None:
    memory = Memory()
    memory.file(Echo(id="e1", at=T0, channel="whatsapp", recipient=person(ANN), text="Your order is ready"))
    assert (memory.ticket.status, memory.ticket.subject) == ("pending", "Your order is ready")
    memory.file(wrote("m1", ANN, "Thanks"))
    assert memory.ticket.status == "open"


def test_an_answer_names_the_message_it_answers() -> None:
    memory = Memory()
    memory.file(wrote("m1", ANN))
    memory.file(wrote("m2", ANN, context=Context(reply_to="m1")), wrote("m3", ANN, context=Context(reply_to="gone")))
    assert [message["in_reply_to"] for message in memory.messages] == [None, memory.messages[0]["id"], None]


def test_files_are_fetched_or_only_linked() -> None:
    memory = Memory()
    files = (Attachment(kind="image", ref="42"), Attachment(kind="video", url="https://x.test/story", no_store=True))
    changes = memory.file(wrote("m1", ANN, "", kind="image", attachments=files))
    assert [(row["position"], row["state"]) for row in changes.attachments] == [(0, "pending"), (1, "linked")]
    assert memory.ticket.subject == "[image]"


# --- the rest ---

OUTCOMES: dict[str, tuple[Event, tuple[str, str]]] = {
    "of no use": (Ignored(id="i", at=T0, reason="a test event"), ("ignored", "a test event")),
    "unreadable": (Unreadable(id="u", at=T0, path="$.a", problem="not a number"), ("dead", "$.a: not a number")),
    "handover": (
        ThreadControl(id="t", at=T0, person=None, action="take"),
        ("ignored", "kept: no ticket follows from it"),
    ),
    "call": (CallEvent(id="c", at=T0, call="1", status="ringing"), ("ignored", "kept: no ticket follows from it")),
    "receipt": (DeliveryUpdate(id="d", at=T0, channel="whatsapp", status="sent", target="x"), ("done", "")),
    "our own mail": (wrote("m", ANN, automatic="own_loop"), ("ignored", "our own mail came back")),
}


@pytest.mark.parametrize(("event", "outcome"), OUTCOMES.values(), ids=OUTCOMES)
def test_outcomes(event: Event, outcome: tuple[str, str]) -> None:
    memory = Memory()
    memory.file(event)
    assert memory.outcomes == [outcome]
    assert memory.tickets == []


def test_what_was_erased_does_not_come_back() -> None:
    memory = Memory()
    memory.snapshot.erased = frozenset({memory.rules.tokens.keyed_hash("wa:m1")})
    memory.file(wrote("m1", ANN), wrote("m2", ANN))
    assert memory.outcomes == [("ignored", "erased"), ("done", "")]


def test_a_person_nobody_may_know_still_gets_a_ticket() -> None:
    memory = Memory()
    memory.file(wrote("m1", person()), wrote("m2", person()))
    assert len(memory.tickets) == 2


def test_a_receipt_that_teaches_an_address_joins_it_to_whom_we_know() -> None:
    memory = Memory()
    memory.file(wrote("m1", ANN))
    learned = (bsuid("DE.1"), ANN)
    memory.file(DeliveryUpdate(id="d", at=T0, channel="whatsapp", status="sent", target="x", learned=learned))
    memory.file(wrote("m2", bsuid("DE.1")))
    assert {message["ticket_id"] for message in memory.messages} == {memory.ticket.id}


def test_known_messages_keep_what_later_events_need() -> None:
    memory = Memory()
    memory.file(wrote("m1", ANN, path="$.a"))
    message = memory.messages[0]
    assert memory.snapshot.messages[message["id"]] == Known(
        message["id"], memory.ticket.id, message["conversation_id"], message["identity_id"], "inbound", [],
        message["delivery_id"], "$.a", "m1", message["created_at"],
    )  # fmt: skip
