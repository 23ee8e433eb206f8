"""Why a message is put aside; that nothing comes of it until it is released; and what comes of it then."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from adapters.email import CHANNEL as EMAIL
from gateway.ids import micros
from gateway.intake.decide import decide
from gateway.intake.records import EventRow
from gateway.intake.suspension import CAUSES, OPEN, Screen, causes, listed, problem_of
from normalizers.model import Attachment, InboundMessage
from tests.intake.build import TOKENS, Memory, mailbox, mailed, rules

ANN, EVE = mailbox("ann@x.test"), mailbox("eve@y.test")
MAIL = Screen(EMAIL.suspends)
ALL = Screen(frozenset(CAUSES))

JUDGED: dict[str, tuple[dict[str, Any], Screen, dict[str, Any], tuple[str, ...]]] = {
    "an ordinary mail": ({}, MAIL, {}, ()),
    "spam": ({"flags": ("spam",)}, MAIL, {}, ("spam",)),
    "spam on a ticket": ({"flags": ("spam",)}, MAIL, {"threaded": True}, ("spam",)),
    "nobody": ({"flags": ("no_sender",)}, MAIL, {}, ("no_sender",)),
    "an absence note that answers nothing": ({"automatic": "ooo"}, MAIL, {}, ("absence",)),
    "an absence note on a ticket": ({"automatic": "ooo"}, MAIL, {"threaded": True}, ()),
    "an alarm": ({"automatic": "generated"}, MAIL, {}, ()),
    "an alarm, where machines are held": ({"automatic": "generated"}, ALL, {}, ("automatic",)),
    "a newsletter, where lists are held": ({"automatic": "bulk"}, ALL, {}, ("bulk",)),
    "our own": ({"automatic": "own_loop"}, MAIL, {"threaded": True}, ("loop",)),
    "a bounce of nothing": ({"flags": ("null_sender", "system_sender")}, MAIL, {}, ("report", "system_sender")),
    "a bounce on a ticket": ({"flags": ("null_sender",)}, MAIL, {"threaded": True}, ()),
    "empty": ({"text": ""}, MAIL, {}, ("blank",)),
    "empty with a file": ({"text": "", "attachments": (Attachment(kind="file"),)}, MAIL, {}, ()),
    "empty on a ticket": ({"text": ""}, MAIL, {"threaded": True}, ()),
    "a stranger on a ticket": ({}, MAIL, {"threaded": True, "admitted": False}, ()),
    "a stranger, where they are held": ({}, ALL, {"threaded": True, "admitted": False}, ("unknown_sender",)),
    "not aligned, where that is held": ({"flags": ("unaligned",)}, ALL, {"threaded": True}, ("unauthenticated",)),
    "cut off": ({"flags": ("incomplete",)}, MAIL, {}, ("incomplete",)),
    "blocked": ({}, Screen(blocklist=frozenset({"ann@x.test"})), {"threaded": True}, ("blocklisted",)),
    "another is blocked": ({}, Screen(blocklist=frozenset({"bob@x.test"})), {}, ()),
    "a blocked domain": ({}, Screen(blocklist=frozenset({"@x.test"})), {}, ("blocklisted",)),
    "not on the list": ({}, Screen(allowlist=frozenset({"@z.test"}), allowlist_only=True), {}, ("not_allowed",)),
    "on the list": ({}, Screen(allowlist=frozenset({"@x.test"}), allowlist_only=True), {}, ()),
    "not on the list, on a ticket": ({}, Screen(allowlist_only=True), {"threaded": True}, ()),
    "allowed in spite of spam": (
        {"flags": ("spam",)}, Screen(EMAIL.suspends, allowlist=frozenset({"@x.test"})), {}, (),
    ),
    "allowed, yet blocked": (
        {}, Screen(allowlist=frozenset({"@x.test"}), blocklist=frozenset({"ann@x.test"})), {}, ("blocklisted",),
    ),
    "released": ({"flags": ("spam",)}, MAIL, {"waived": ("spam",)}, ()),
    "released for another cause": ({"flags": ("spam",), "text": ""}, MAIL, {"waived": ("blank",)}, ("spam",)),
    "the strongest first": ({"flags": ("incomplete", "spam")}, MAIL, {}, ("spam", "incomplete")),
    "the last ticket of the hour": ({}, Screen(tickets_per_hour=3), {"begun": 2}, ()),
    "one too many": ({}, Screen(tickets_per_hour=3), {"begun": 3}, ("flood",)),
    "one too many, on a ticket": ({}, Screen(tickets_per_hour=3), {"begun": 3, "threaded": True}, ()),
    "where nothing is held": ({"flags": ("spam",)}, OPEN, {}, ()),
}  # fmt: skip


@pytest.mark.parametrize(("mail", "screen", "place", "expected"), JUDGED.values(), ids=JUDGED)
def test_causes(mail: dict[str, Any], screen: Screen, place: dict[str, Any], expected: tuple[str, ...]) -> None:
    event = mailed("a@x", ANN, **({"text": "Hello"} | mail))
    assert causes(event, screen, **({"threaded": False, "admitted": True} | place)) == expected


PATTERNS = {  # pattern -> (addresses it names, addresses it does not)
    "ann@x.test": (("ann@x.test", "Ann@X.test"), ("bob@x.test", "ann@y.x.test")),
    "@x.test": (("ann@x.test",), ("ann@y.x.test", "x.test")),
    "@*.x.test": (("ann@y.x.test", "ann@z.y.x.test"), ("ann@x.test", "ann@yx.test")),
    "+491511": (("+491511",), ("+4915112",)),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns(pattern: str) -> None:
    named, others = PATTERNS[pattern]
    assert [listed(address, frozenset({pattern})) for address in (*named, *others)] == [
        *(True for _ in named), *(False for _ in others),
    ]  # fmt: skip
    assert problem_of(pattern) == ""


@pytest.mark.parametrize("pattern", ["", "a b", "*", "*@x.test", "@*.", "@*.x*.test", "@x.*"])
def test_wrong_patterns(pattern: str) -> None:
    assert problem_of(pattern)


# --- what comes of it -------------------------------------------------------------------------------------------------


def memory(**screen: Any) -> Memory:
    held = Screen(EMAIL.suspends, **screen)
    return Memory(
        rules(own_addresses=frozenset({"support@shop.test"}), screen=lambda account, channel: held), account="mail"
    )


def released(at: Memory, event: InboundMessage, *waived: str) -> Any:
    """File what was put aside, as intake does with a released event."""
    row = EventRow("event-r", "delivery-r", "mail", micros(at.now), 0, event, waived)
    changes = decide([row], at.snapshot, at.rules, micros(at.now), lambda: at._id("row"))
    at._keep(changes)
    return changes


def test_nothing_comes_of_what_is_put_aside() -> None:
    at = memory()
    changes = at.file(mailed("a@x", EVE, "Buy", subject="Cheap", flags=("spam",)))
    assert at.outcomes == [("suspended", "spam")]
    assert (at.tickets, at.messages, changes.contacts, changes.identities) == ([], [], [], [])
    (row,) = changes.suspended
    assert (row["cause"], row["sender"], row["subject"], row["ticket_id"]) == ("spam", "eve@y.test", "Cheap", None)
    assert row["expires_at"] - row["created_at"] == 14 * 86_400_000_000
    assert changes.live == [("message.suspended", {"suspended_id": row["id"], "cause": "spam"}, "mail")]


def test_released_it_is_filed() -> None:
    at = memory()
    event = mailed("a@x", EVE, "Really", flags=("spam",))
    at.file(event)
    changes = released(at, event, "spam")
    assert changes.outcomes == {"event-r": ("done", "")}
    assert at.messages[0]["text"] == "Really"
    assert msgspec.json.decode(at.messages[0]["flags"]) == ["spam", "released"]


def test_released_it_finds_the_ticket_its_answer_has_begun() -> None:
    at = memory()
    first = mailed("a@x", ANN, "First", flags=("spam",))
    at.file(first)
    at.file(mailed("b@x", ANN, "Second", references=["a@x"]))
    released(at, first, "spam")
    assert [message["ticket_id"] for message in at.messages] == [at.ticket.id] * 2


def test_two_mails_under_one_message_id_are_two_tickets() -> None:
    at = memory()
    at.file(mailed("a@x", ANN, "One"))
    at.file(msgspec.structs.replace(mailed("a@x", ANN, "Two"), id="<a@x> other"))
    assert len(at.tickets) == 2


def test_it_names_the_ticket_it_would_have_gone_to() -> None:
    at = memory()
    at.file(mailed("a@x", ANN))
    changes = at.file(mailed("b@x", ANN, references=["a@x"], flags=("spam",)))
    assert changes.suspended[0]["ticket_id"] == at.ticket.id


def test_a_stranger_who_is_let_in_belongs_to_the_thread() -> None:
    at = memory()
    at.rules = rules(screen=lambda account, channel: Screen(frozenset({"unknown_sender"})))
    at.file(mailed("a@x", ANN))
    event = mailed("b@x", EVE, "I am her husband", tokens=[TOKENS.reply_token(1)])
    at.file(event)
    assert at.outcomes == [("suspended", "unknown_sender")]
    released(at, event, "unknown_sender")
    assert at.messages[1]["visibility"] == "private"
    at.file(mailed("c@x", EVE, "Me again", references=["b@x"]))
    assert at.messages[2]["visibility"] == "private"


def test_an_absence_note_that_is_released_is_a_message_like_others() -> None:
    at = memory()
    event = mailed("a@x", ANN, "I am away", automatic="ooo")
    at.file(event)
    released(at, event, "absence")
    assert (at.ticket.status, at.messages[0]["visibility"]) == ("new", "private")


def test_a_flood_is_dammed_within_a_batch_too() -> None:
    at = memory(tickets_per_hour=2)
    at.file(*(mailed(f"{n}@x", ANN) for n in range(4)), mailed("e@x", EVE))
    assert [outcome[1] for outcome in at.outcomes] == ["", "", "flood", "flood", ""]


def test_our_own_mail_is_dropped_what_only_looks_so_is_put_aside() -> None:
    at = memory()
    own = TOKENS.mail_id("0197" + "0" * 28, "shop.test")
    at.file(mailed(own, ANN, automatic="own_loop"), mailed("b@x", ANN, automatic="own_loop"))
    assert at.outcomes == [("ignored", "our own mail came back"), ("suspended", "loop")]
