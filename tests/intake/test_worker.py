"""The intake worker over a real store: once per event, the poisonous one alone, what waits, and who may have what."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from adapters._load import find
from config import settings as configuration
from gateway.core import Core
from gateway.deadletters import DeadLetterError, drop, replay
from gateway.ids import micros, new_id
from gateway.intake import IntakeWorker, decide, worker
from gateway.intake import messages as rows
from gateway.loading import settings_types
from gateway.runtime import Gateway
from gateway.store import dead
from gateway.store.schema import (
    deliveries,
    events,
    identities,
    message_refs,
    messages,
    receipts,
    tickets,
)
from gateway.tickets import Actor
from tests.support.postgres import Postgres
from tests.support.world import TestClock

KIM = Actor("agent", "7", "Kim")
NUMBERS = {"wa-1": ("100", "secret one"), "wa-2": ("200", "secret two"), "wa-3": ("300", "secret one")}
ACCOUNT = """
[[accounts]]
id = "{id}"
adapter = "whatsapp"
phone_number_id = "{number}"
access_token = "t"
app_secret = "{secret}"
verify_token = "v"
"""


PAGES = {"page-1": ("110", "secret one"), "page-2": ("220", "secret two")}
PAGE = """
[[accounts]]
id = "{id}"
adapter = "facebook"
page_id = "{number}"
access_token = "t"
app_secret = "{secret}"
verify_token = "v"
"""


@dataclass
class Intake:
    """A core at rest with three WhatsApp numbers and two Pages, and its worker."""

    core: Core
    clock: TestClock
    worker: IntakeWorker = field(init=False)

    def __post_init__(self) -> None:
        self.worker = IntakeWorker(self.core)

    async def deliver(self, *changes: dict[str, Any], to: str = "wa-1", signed_by: str = "") -> None:
        """Keep a delivery as the accept path does; nothing is filed yet."""
        entry = {"id": "1", "changes": changes}
        await self.keep({"object": "whatsapp_business_account", "entry": [entry]}, to, signed_by)

    async def keep(self, tree: dict[str, Any], to: str, signed_by: str = "") -> None:
        """The same with whatever one of Meta's webhooks posts."""
        body = json.dumps(tree).encode()
        secret = (NUMBERS | PAGES)[signed_by or to][1]
        signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        await self.core.database.keep(
            {
                "id": new_id(), "account": to, "source": "webhook", "url": "", "query": "{}", "body": body,
                "headers": json.dumps({"x-hub-signature-256": [signature], "content-type": ["application/json"]}),
                "received_at": micros(self.clock()),
            }
        )  # fmt: skip

    async def file(self) -> None:
        await self.worker.drain()

    async def rows(self, *columns: Any) -> list[tuple[Any, ...]]:
        """These columns of all rows of a table, in the order of their ids."""
        statement = select(*columns).order_by(columns[0].table.c.id)
        return [tuple(row) for row in await self.core.database.read(lambda c: c.execute(statement).all())]


@pytest.fixture
async def intake(tmp_path: Path) -> AsyncIterator[Intake]:
    async with at_rest(tmp_path) as made:
        yield made


@pytest.fixture
async def shared(tmp_path: Path, postgres: Postgres) -> AsyncIterator[Intake]:
    """The same on a database that several processes work on."""
    url = postgres.database().set(drivername="postgresql").render_as_string(hide_password=False)
    async with at_rest(tmp_path, f'[gateway]\ndatabase = "{url}"\nsecret_key = "of these tests only"\n') as made:
        yield made


@asynccontextmanager
async def at_rest(tmp_path: Path, gateway: str = "") -> AsyncIterator[Intake]:
    file = tmp_path / "gateway.toml"
    accounts = [
        block.format(id=name, number=number, secret=secret)
        for block, named in ((ACCOUNT, NUMBERS), (PAGE, PAGES))
        for name, (number, secret) in named.items()
    ]
    file.write_text("".join([gateway, *accounts]), "utf-8")
    clock = TestClock()
    settings = configuration.load(file, settings_types(find()))
    async with Gateway(settings, clock=clock).resting() as core:
        yield Intake(core, clock)


async def open_letters(intake: Intake) -> Sequence[Any]:
    return await intake.core.database.read(lambda connection: dead.oldest(connection, dead.Filter(), 100))


def change(number: str = "100", **value: Any) -> dict[str, Any]:
    metadata = {"display_phone_number": "4930111222", "phone_number_id": number}
    return {"field": "messages", "value": {"messaging_product": "whatsapp", "metadata": metadata, **value}}


def wrote(wamid: str, text: str = "Hello", sender: str = "4915112345601", number: str = "100") -> dict[str, Any]:
    message = {"id": wamid, "from": sender, "timestamp": _now(), "type": "text", "text": {"body": text}}
    return change(number, contacts=[{"wa_id": sender, "profile": {"name": "Ann"}}], messages=[message])


def receipt(target: str, status: str = "delivered") -> dict[str, Any]:
    return change(statuses=[{"id": target, "status": status, "timestamp": _now(), "recipient_id": "4915112345601"}])


def _now() -> str:
    return str(int(datetime.now(UTC).timestamp()))


# --- once ---


async def test_the_same_event_in_several_deliveries_is_filed_once(intake: Intake) -> None:
    for _ in range(3):
        await intake.deliver(wrote("m1"), wrote("m2"))
    await intake.file()
    await intake.deliver(wrote("m2"), wrote("m3"))
    await intake.file()
    assert await intake.rows(messages.c.external_id) == [("m1",), ("m2",), ("m3",)]
    assert set(await intake.rows(deliveries.c.state)) == {("done",)}
    assert len(await intake.rows(tickets.c.number)) == 1


async def test_a_redelivery_after_the_raw_payload_is_gone_is_still_known(intake: Intake) -> None:
    await intake.deliver(wrote("m1"))
    await intake.file()
    await intake.core.database.write(lambda c: c.execute(deliveries.delete()))
    await intake.deliver(wrote("m1"))
    await intake.file()
    assert len(await intake.rows(messages.c.id)) == 1


# --- the poisonous one ---


def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours in filing messages with a certain text."""
    good = rows.inbound_row

    def faulty(ctx: Any, row: Any, event: Any, *more: Any) -> Any:
        if event.text == "poison":
            raise ZeroDivisionError("of our own making")
        return good(ctx, row, event, *more)

    monkeypatch.setattr(decide, "inbound_row", faulty)


async def test_a_poisonous_event_goes_alone_to_the_dead_letters(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours in filing one kind of message: the others pass, it is tried five times, and can be replayed."""
    poison(monkeypatch)
    await intake.deliver(*(wrote(f"m{n}", "poison" if n == 4 else f"text {n}", f"49151123456{n:02}") for n in range(9)))
    for _ in range(6):
        await intake.file()
        intake.clock.ahead += timedelta(minutes=3)
    assert len(await intake.rows(messages.c.id)) == 8
    (letter,) = await open_letters(intake)
    assert (letter["kind"], letter["attempts"], letter["account"]) == ("event", 5, "wa-1")
    monkeypatch.undo()
    await replay(intake.core, letter["id"], KIM)
    await intake.file()
    assert sorted(await intake.rows(messages.c.external_id)) == [(f"m{n}",) for n in range(9)]
    with pytest.raises(DeadLetterError):
        await replay(intake.core, letter["id"], KIM)
    await intake.file()
    assert len(await intake.rows(messages.c.id)) == 9


async def test_an_item_that_breaks_the_format_is_dead_and_the_others_go_on(intake: Intake) -> None:
    await intake.deliver(change(messages=["no message"]), wrote("m1"))
    await intake.file()
    assert await intake.rows(messages.c.external_id) == [("m1",)]
    (letter,) = await open_letters(intake)
    await replay(intake.core, letter["id"], KIM)
    await intake.file()
    (again,) = await open_letters(intake)
    assert again["id"] != letter["id"]
    await drop(intake.core, again["id"], KIM)
    assert await open_letters(intake) == []
    assert len(await intake.rows(messages.c.id)) == 1


async def test_a_delivery_whose_normaliser_fails_is_set_aside(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    account = intake.core.accounts.get("wa-1")
    assert account is not None

    def broken(received: Any) -> Any:
        raise RuntimeError("a fault of the normaliser")

    monkeypatch.setattr(type(account.adapter), "normalize", staticmethod(broken))
    await intake.deliver(wrote("m1"))
    await intake.file()
    (letter,) = await open_letters(intake)
    assert (letter["kind"], letter["detail"]) == ("delivery", "the normaliser failed: RuntimeError")
    monkeypatch.undo()
    await replay(intake.core, letter["id"], KIM)
    await intake.file()
    assert await intake.rows(messages.c.external_id) == [("m1",)]


# --- several workers ---


@pytest.mark.postgres
async def test_several_workers_file_everything_once_and_in_order(
    shared: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes the oldest that is open; what another has filed meanwhile is left alone, the poisonous too."""
    poison(monkeypatch)
    people = [f"49151123456{number:02}" for number in range(4)]
    workers = [IntakeWorker(shared.core) for _ in range(3)]
    for turn in range(6):
        for number, sender in enumerate(people):
            await shared.deliver(wrote(f"m{number}.{turn}", f"{turn}", sender))
            await shared.deliver(wrote(f"m{number}.{turn}", f"{turn}", sender))  # the platform says it twice
        await shared.deliver(change(messages=["no message"]), wrote(f"p.{turn}", "poison", "4915112345699"))
        await asyncio.gather(*(worker.drain() for worker in workers))
        shared.clock.ahead += timedelta(seconds=90)
    for _ in range(6):
        await asyncio.gather(*(worker.drain() for worker in workers))
        shared.clock.ahead += timedelta(minutes=3)
    found = await shared.rows(messages.c.external_id)
    assert sorted(found) == sorted((f"m{number}.{turn}",) for number in range(4) for turn in range(6))
    for number in range(4):
        own = [name for (name,) in found if name.startswith(f"m{number}.")]
        assert own == [f"m{number}.{turn}" for turn in range(6)]
    letters = await open_letters(shared)
    assert len({letter["ref"] for letter in letters}) == len(letters) == 7  # the item that is no message is said once
    assert Counter(letter["attempts"] for letter in letters)[5] == 6


@pytest.mark.postgres
async def test_what_was_filed_since_it_was_read_is_not_filed_again(shared: Intake) -> None:
    """Two workers have read the same open events, as after a failed batch; the second files none of them."""
    await shared.deliver(wrote("m1"), wrote("m2"))
    read: list[Any] = []

    async def fails(_result: Any, _now: int) -> bool:
        return False  # so that the events are kept by themselves

    one, other = IntakeWorker(shared.core), IntakeWorker(shared.core)
    one._take_in = fails  # type: ignore[method-assign, assignment]
    await one._normalise()
    now = micros(shared.clock())
    read = await shared.core.database.read(lambda c: worker._take_events(c, now))
    assert len(read) == 2
    for turn in (one, other):
        await turn._file_batch(read)
        assert await shared.rows(messages.c.external_id) == [("m1",), ("m2",)]
    assert await shared.rows(events.c.state) == [("done",), ("done",)]


# --- what waits ---


async def test_a_receipt_waits_for_its_message_and_gives_up_after_ten_minutes(intake: Intake) -> None:
    await intake.deliver(receipt("out-1"))
    await intake.file()
    assert await intake.rows(events.c.state, events.c.waits_for) == [("parked", "out-1")]
    intake.worker = IntakeWorker(intake.core)
    intake.clock.ahead = timedelta(minutes=9)
    await intake.file()
    assert await intake.rows(events.c.state) == [("parked",)]
    intake.worker = IntakeWorker(intake.core)
    intake.clock.ahead = timedelta(minutes=11)
    await intake.file()
    assert await intake.rows(events.c.state) == [("ignored",)]
    assert await intake.rows(receipts.c.id) == []


async def test_an_edit_that_came_first_is_applied_when_its_message_comes(intake: Intake) -> None:
    better = {"original_message_id": "m1", "message": {"type": "text", "text": {"body": "better"}}}
    edited = {"id": "e1", "from": "4915112345601", "timestamp": _now(), "type": "edit", "edit": better}
    await intake.deliver(change(messages=[edited]))
    await intake.file()
    await intake.deliver(wrote("m1", "worse"))
    await intake.file()
    assert await intake.rows(messages.c.text) == [("better",)]


async def test_an_unsent_message_leaves_no_trace_in_the_raw_payload(intake: Intake) -> None:
    await intake.deliver(wrote("m1", "my card is 4111"), wrote("m2", "hello", "4915112345602"))
    await intake.file()
    revoked = {"id": "r1", "from": "4915112345601", "timestamp": _now(), "type": "revoke",
               "revoke": {"original_message_id": "m1"}}  # fmt: skip
    await intake.deliver(change(messages=[revoked]))
    await intake.file()
    found = await intake.rows(messages.c.text, messages.c.deleted_at)
    assert [(text, at is None) for text, at in found] == [("", False), ("hello", True)]
    bodies = [bytes(body) for (body,) in await intake.rows(deliveries.c.body)]
    assert b"4111" not in b"".join(bodies)
    assert b"hello" in bodies[0]
    assert all("4111" not in payload for (payload,) in await intake.rows(events.c.payload))


# --- who may have what ---

ROUTES: dict[str, tuple[str, str, list[tuple[str, str]]]] = {  # number, account it came in at, (account, state)
    "its own": ("100", "wa-1", [("wa-1", "done")]),
    "another's, under a common secret": ("300", "wa-1", [("wa-3", "done")]),
    "another's, whose secret does not fit": ("200", "wa-1", [("wa-1", "unroutable")]),
    "nobody's": ("999", "wa-1", [("wa-1", "unroutable")]),
}


@pytest.mark.parametrize(("number", "to", "expected"), ROUTES.values(), ids=ROUTES)
async def test_an_event_goes_to_the_account_its_key_names(
    intake: Intake, number: str, to: str, expected: Sequence[tuple[str, str]]
) -> None:
    await intake.deliver(wrote("m1", number=number), to=to)
    await intake.file()
    assert await intake.rows(events.c.account, events.c.state) == expected
    filed = [(account,) for account, state in expected if state == "done"]
    assert await intake.rows(messages.c.account) == filed


@pytest.mark.parametrize(
    ("page", "to", "expected"),
    [
        ("110", "wa-1", ("page-1", "done")),
        ("220", "wa-1", ("wa-1", "unroutable")),
        ("999", "wa-1", ("wa-1", "unroutable")),
        ("110", "wa-2", ("wa-2", "unroutable")),
    ],
    ids=["under a common secret", "whose secret does not fit", "nobody's", "under a secret of somebody else"],
)
async def test_an_app_may_have_one_address_for_all_of_metas_platforms(
    intake: Intake, page: str, to: str, expected: tuple[str, str]
) -> None:
    message = {"sender": {"id": "9"}, "recipient": {"id": page}, "timestamp": 1, "message": {"mid": "m1", "text": "Hi"}}
    await intake.keep({"object": "page", "entry": [{"id": page, "time": 1, "messaging": [message]}]}, to)
    await intake.file()
    assert await intake.rows(events.c.account, events.c.state) == [expected]
    filed = [expected[:1]] if expected[1] == "done" else []
    assert await intake.rows(messages.c.account) == filed


async def test_an_unroutable_event_does_not_shadow_one_that_is_ours(intake: Intake) -> None:
    await intake.deliver(wrote("m1", number="999"), wrote("m1"))
    await intake.file()
    assert sorted(await intake.rows(events.c.state)) == [("done",), ("unroutable",)]


# --- a lot at once ---


async def test_a_batch_gives_what_its_events_give_one_by_one(intake: Intake) -> None:
    people = [f"49151123456{n:02}" for n in range(5)]
    changes = [wrote(f"m{n}", f"text {n}", people[n % 5]) for n in range(40)]
    await intake.deliver(*changes)
    await intake.file()
    for entry in changes[::-1]:
        await intake.deliver(entry)
    await intake.file()
    assert len(await intake.rows(identities.c.id)) == 5
    assert [number for (number,) in await intake.rows(tickets.c.number)] == [1, 2, 3, 4, 5]
    refs = select(message_refs.c.ref)
    assert len(await intake.core.database.read(lambda c: c.execute(refs).all())) == 40
    assert len(await intake.rows(messages.c.id)) == 40


async def test_work_left_by_a_dead_process_is_taken_up(intake: Intake) -> None:
    """Between the two stages, and before the first, nothing but the store remembers."""
    await intake.deliver(wrote("m1"))
    await intake.worker.step()
    await intake.core.database.write(lambda c: c.execute(update(events).values(state="new")))
    await intake.core.database.write(lambda c: c.execute(messages.delete()))
    await intake.core.database.write(lambda c: c.execute(message_refs.delete()))
    await IntakeWorker(intake.core).drain()
    assert await intake.rows(messages.c.external_id) == [("m1",)]
