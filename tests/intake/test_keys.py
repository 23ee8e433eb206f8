"""Ids of any length, and deliveries whose events no store takes: none of them stops the others."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from gateway.intake import keys
from gateway.store.dialect import unavailable
from gateway.store.schema import deliveries, events, messages
from normalizers.email import normalize as read_mail
from normalizers.model import Account, Event, InboundMessage, MessageEdited, Received
from tests.intake.build import T0, person, phone
from tests.intake.test_worker import Intake, change, open_letters
from tests.intake.test_worker import wrote as delivery

LONG = secrets.token_hex(3000)


def _said(**more: Any) -> dict[str, Any]:
    now = str(int(datetime.now(UTC).timestamp()))
    said = {"id": "m1", "from": "4915112345601", "timestamp": now, "type": "text", "text": {"body": "Hi"}}
    return change(messages=[said | more])


CASES: dict[str, dict[str, Any]] = {
    "a message's id": _said(id=LONG),
    "its author's": _said(from_user_id=f"DE.{LONG}"),
    "its group's": _said(group_id=LONG),
    "the id of what is edited": _said(
        type="edit", edit={"original_message_id": LONG, "message": {"type": "text", "text": {"body": "x"}}}
    ),
    "a receipt's": change(statuses=[{"id": LONG, "status": "sent", "biz_opaque_callback_data": LONG}]),
    "nobody's number": change(LONG, messages=[{"id": LONG, "from": "4915112345601", "type": "text"}]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_an_id_of_any_length_is_filed_and_stops_nothing(intake: Intake, case: dict[str, Any]) -> None:
    await intake.deliver(case)
    await intake.deliver(delivery("other", sender="4915112345602"))
    await intake.file()
    assert ("other",) in await intake.rows(messages.c.external_id)
    assert {state for (state,) in await intake.rows(deliveries.c.state)} == {"done"}
    assert await open_letters(intake) == []


async def test_it_is_known_again_by_its_long_id(intake: Intake) -> None:
    await intake.deliver(_said(id=LONG))
    await intake.file()
    await intake.deliver(_said(id=LONG), _said(id="m2", context={"id": LONG}))
    await intake.file()
    ((first, kept, _), (_, _, answered)) = await intake.rows(
        messages.c.id, messages.c.external_id, messages.c.in_reply_to
    )
    assert (kept, answered) == (keys.short(LONG), first)


def test_a_message_id_of_any_letters_fits_an_index() -> None:
    name = "漢" * 900 + "@shop.test"
    mail = f"From: ann@customer.test\r\nTo: help@shop.test\r\nMessage-ID: <{name}>\r\n\r\nHi\r\n".encode()
    (event,) = read_mail(Received(mail, {}, {}, T0, Account("mail", "email")))
    assert isinstance(event, InboundMessage)
    assert len(event.id.encode()) > 2704  # what PostgreSQL takes
    fits = keys.within(event)
    assert isinstance(fits, InboundMessage)
    assert len(fits.id.encode()) < keys.KEY_BYTES
    assert fits.context is not None
    assert fits.context.metadata["message_id"] == keys.short(name)
    assert keys.within(fits) is fits


@pytest.mark.parametrize(
    "event",
    [
        InboundMessage(id="1" * keys.KEY_BYTES, at=T0, sender=person(phone("+491")), text=LONG),
        MessageEdited(id="e1", at=T0, target="m1", text=LONG),
    ],
)
def test_what_fits_stays_as_it_is(event: Event) -> None:
    assert keys.within(event) is event


async def test_a_delivery_no_store_takes_is_set_aside_alone(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an adapter of somebody else's might make one: here an id the index does not take, or one that is no text."""
    monkeypatch.setattr(keys, "within", lambda event: event)
    await intake.deliver(delivery("m1"))
    await intake.deliver(_said(id=LONG))
    await intake.deliver(delivery("m2"))
    await intake.file()
    assert {("m1",), ("m2",)} <= set(await intake.rows(messages.c.external_id))
    if len(await intake.rows(events.c.id)) == 2:  # PostgreSQL; the embedded store takes it
        (letter,) = await open_letters(intake)
        assert (letter["kind"], letter["detail"]) == ("delivery", "its events cannot be kept: OperationalError")


async def test_an_event_that_cannot_be_written_is_set_aside_alone(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = intake.core.accounts.get("wa-1")
    assert account is not None
    good = type(account.adapter).normalize

    def odd(received: Received) -> tuple[Event, ...]:
        (event,) = good(received)
        assert isinstance(event, InboundMessage)
        return (InboundMessage(id=event.id, at=event.at, sender=event.sender, text="\ud800"),)

    await intake.deliver(delivery("m1"))
    await intake.file()
    monkeypatch.setattr(type(account.adapter), "normalize", staticmethod(odd))
    await intake.deliver(delivery("m2"))
    await intake.file()
    monkeypatch.undo()
    await intake.deliver(delivery("m3"))
    await intake.file()
    assert await intake.rows(messages.c.external_id) == [("m1",), ("m3",)]
    (letter,) = await open_letters(intake)
    assert letter["detail"] == "the normaliser failed: UnicodeEncodeError"


def test_a_limit_of_the_store_is_no_trouble_of_the_store() -> None:
    class Refused(Exception):
        def __init__(self, sqlstate: str) -> None:
            self.sqlstate = sqlstate

    assert not unavailable(OperationalError("INSERT", {}, Refused("54000")))
    assert unavailable(OperationalError("INSERT", {}, Refused("53100")))  # the disk is full
    assert unavailable(OperationalError("INSERT", {}, Exception("database is locked")))
