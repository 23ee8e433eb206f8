"""Fetching the files of messages: one that trickles, or an adapter that fails, holds up no other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from sqlalchemy import Connection, insert, update

from adapters import MediaError
from adapters._media import MediaClient
from gateway.ids import micros, new_id
from gateway.intake.records import Known
from gateway.media import AT_ONCE, MediaWorker
from gateway.store.redact import redact
from gateway.store.schema import attachments, messages, tickets, uploads
from normalizers.model import Attachment
from tests import pigeon
from tests.pigeon import PigeonAdapter, World
from tests.support.world import eventually


class FetchingAdapter(PigeonAdapter):
    """Fetches what its `ref` says: "slow" never ends, "broken" is the adapter's own fault."""

    name: ClassVar[str] = "fetching"
    begun: ClassVar[list[str]] = []

    async def fetch(self, attachment: Attachment, raw: bytes) -> AsyncIterator[bytes]:
        self.begun.append(attachment.ref)
        if attachment.ref == "broken":
            raise KeyError("an answer of another shape")
        if attachment.ref == "gone":
            raise MediaError("status 410", retryable=False)
        yield b"the begin"
        if attachment.ref == "slow":
            await asyncio.sleep(3600)
        yield b"ning and the end"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    FetchingAdapter.begun.clear()
    async with pigeon.world(tmp_path, adapters={"loft": FetchingAdapter}) as made:
        yield made


async def _message(world: World, *refs: str) -> None:
    """A customer's message with these files."""
    ticket_id = await world.ticket()
    (ticket,) = [row for row in await world.rows(tickets) if row.id == ticket_id]
    message, now = new_id(), micros(world.clock())
    row = {
        "id": message, "ticket_id": ticket.id, "conversation_id": ticket.conversation_id,
        "contact_id": ticket.contact_id, "identity_id": ticket.identity_id, "direction": "inbound", "channel": "open",
        "account": "loft", "sent_at": now, "received_at": now, "created_at": now, "status": "received",
    }  # fmt: skip
    files = [
        {"id": new_id(), "message_id": message, "position": place, "kind": "file", "state": "pending", "ref": ref}
        for place, ref in enumerate(refs)
    ]
    await world.core.database.write(
        lambda c: (c.execute(insert(messages).values(**row)), c.execute(insert(attachments), files))
    )


@contextlib.contextmanager
def _working(world: World) -> Iterator[asyncio.Task[None]]:
    task = asyncio.create_task(MediaWorker(world.core, MediaClient()).run())
    try:
        yield task
    finally:
        task.cancel()


async def _states(world: World) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in await world.rows(attachments):
        found.setdefault(row.ref, []).append(row.state)
    return found


async def test_a_file_that_trickles_holds_up_no_other(world: World) -> None:
    await _message(world, *["slow"] * (AT_ONCE - 1), *["quick"] * 20)
    with _working(world) as task:
        async with asyncio.timeout(20):
            while (await _states(world))["quick"] != ["stored"] * 20:  # noqa: ASYNC110 - of another task
                await asyncio.sleep(0.02)
        assert FetchingAdapter.begun.count("slow") == AT_ONCE - 1  # each once, and still under way
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (await _states(world))["slow"] == ["pending"] * (AT_ONCE - 1)
    assert list((world.core.settings.data_dir / "media").rglob("*.part")) == []


async def test_the_file_of_a_message_that_was_taken_back_is_removed(world: World) -> None:
    await _message(world, "quick", "quick", "quick")
    blobs = world.core.blobs
    with _working(world):
        async with asyncio.timeout(20):
            while (await _states(world)).get("quick") != ["stored"] * 3:  # noqa: ASYNC110 - of another task
                await asyncio.sleep(0.02)
        first, second, third = await world.rows(attachments)
        await _message(world, "quick")  # shows the second file, too
        (other,) = [row for row in await world.rows(attachments) if row.id not in (first.id, second.id, third.id)]
        shown = update(attachments).where(attachments.c.id == other.id).values(state="stored", path=second.path)
        kept = {"id": new_id(), "path": third.path, "size": 1, "created_at": 0}  # and the third is an upload
        known = Known(first.message_id, "t", "c", "i", "inbound", [])

        def job(connection: Connection) -> None:
            connection.execute(shown)
            connection.execute(insert(uploads).values(**kept))
            redact(connection, known, 1)

        await world.core.database.write(job)
        world.core.bus.wake("media")
        await eventually(lambda: not blobs.locate(first.path).exists())
        async with asyncio.timeout(20):
            while [row.path for row in await world.rows(attachments)] != ["", "", "", second.path]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    assert blobs.locate(second.path).exists()
    assert blobs.locate(third.path).exists()


async def test_an_adapters_own_fault_is_its_files_trouble(world: World) -> None:
    await _message(world, *["broken"] * (AT_ONCE + 1), "gone", "quick")
    with _working(world):
        await eventually(lambda: FetchingAdapter.begun.count("quick") == 1)
        async with asyncio.timeout(20):
            while (await _states(world))["quick"] != ["stored"]:  # noqa: ASYNC110 - of another task
                await asyncio.sleep(0.02)
    rows = await world.rows(attachments)
    assert {(row.state, row.reason, row.attempts) for row in rows if row.ref == "broken"} == {
        ("pending", "the adapter failed: KeyError", 1)
    }
    assert [(row.state, row.reason) for row in rows if row.ref == "gone"] == [("failed", "status 410")]
