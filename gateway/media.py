"""Fetching the files of inbound messages once these are filed: pending, then stored, or failed with the reason."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import filetype
from sqlalchemy import Connection, RowMapping, or_, select, text, update

from adapters import MediaError, MediaFetcher
from adapters._media import MediaClient
from gateway.blobs import Stored, TooLarge
from gateway.bus import LiveEvent
from gateway.core import Core
from gateway.ids import micros
from gateway.store.dialect import StoreUnavailable
from gateway.store.schema import attachments, deliveries, messages, uploads
from normalizers.model import Attachment

log = logging.getLogger(__name__)

TOPIC = "media"
AT_ONCE = 8
GONE_AT_ONCE = 100
RETRY_S = (5, 60, 600, 3600)
UPLOAD = "upload:"


class MediaWorker:
    """Fetches pending files through the account's adapter or the guarded client. `run` until cancelled.

    Some at a time, each by itself: one that trickles or fails holds up no other.
    """

    def __init__(self, core: Core, client: MediaClient) -> None:
        self._core, self._client = core, client
        self._running: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                try:
                    await self._start_due()
                    await self._remove_gone()
                except StoreUnavailable:
                    await asyncio.sleep(2.0)
                    continue
                except Exception:
                    log.exception("media.failed")
                    await asyncio.sleep(2.0)
                    continue
                await self._core.bus.wait(TOPIC, 5.0)
        finally:
            left = list(self._running.values())
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _start_due(self) -> None:
        """Begin to fetch what is due, where there is room."""
        self._end_done()
        room, busy = AT_ONCE - len(self._running), list(self._running)
        if room <= 0:
            return
        now = micros(self._core.clock())
        for row in await self._core.database.read(lambda connection: _due(connection, now, room, busy)):
            self._running[row["id"]] = asyncio.create_task(self._work(row))

    async def _remove_gone(self) -> None:
        """Remove the files of messages that were taken back, but one that something else shows, too."""
        for attachment_id, path, shared in await self._core.database.read(_gone):
            if not shared:
                await asyncio.to_thread(self._core.blobs.remove, path)
            done = update(attachments).where(attachments.c.id == attachment_id).values(path="")
            await self._core.database.write(partial(Connection.execute, statement=done))

    async def _work(self, row: RowMapping) -> None:
        try:
            await self._fetch(row)
        finally:
            self._core.bus.wake(TOPIC)

    def _end_done(self) -> None:
        """Make room for others. Raises what kept the outcome of a fetch from being written: it is pending still."""
        for attachment_id in [key for key, task in self._running.items() if task.done()]:
            self._running.pop(attachment_id).result()

    async def _fetch(self, row: RowMapping) -> None:
        try:
            values = await self._store(row)
        except StoreUnavailable:
            raise
        except MediaError as error:
            values = self._later(row, error.reason, retryable=error.retryable)
        except TooLarge as error:
            values = {"state": "failed", "reason": str(error)}
        except OSError as error:
            values = self._later(row, f"cannot be stored: {error.strerror}", retryable=True)
        except Exception as error:  # an adapter's own fault: this file's trouble, and no other's
            log.exception("media.adapter_failed", extra={"account": row["account"], "attachment": row["id"]})
            values = self._later(row, f"the adapter failed: {type(error).__name__}", retryable=True)
        changed = update(attachments).where(attachments.c.id == row["id"], attachments.c.state == "pending")
        kept = await self._core.database.write(lambda connection: connection.execute(changed.values(**values)).rowcount)
        if not kept:  # erased or unsent while it was fetched
            if values.get("path") and not row["ref"].startswith(UPLOAD):
                self._core.blobs.remove(values["path"])
            return
        if values["state"] != "pending":
            data = {"ticket_id": row["ticket_id"], "message_id": row["message_id"]}
            self._core.bus.publish([LiveEvent("message.updated", data, row["account"])])

    async def _store(self, row: RowMapping) -> dict[str, Any]:
        if row["ref"].startswith(UPLOAD):
            return await self._adopt(row)
        stored = await self._core.blobs.write(await self._stream(row), self._core.settings.media.max_bytes)
        if row["sha256"] and row["sha256"] != stored.sha256:
            self._core.blobs.remove(stored.path)
            raise MediaError("the file is not the one announced: its SHA-256 differs", retryable=True)
        return {
            "state": "stored",
            "reason": "",
            "path": stored.path,
            "size": stored.size,
            "sha256": stored.sha256,
            "media_type": media_type_of(stored, row["media_type"]),
        }

    async def _stream(self, row: RowMapping) -> AsyncIterator[bytes]:
        account = self._core.accounts.get(row["account"])
        adapter: object = account.adapter if account is not None else None
        if isinstance(adapter, MediaFetcher) and (row["ref"] or row["url"]):
            raw = await self._core.database.read(lambda connection: _raw(connection, row["delivery_id"]))
            described = Attachment(
                kind=row["kind"], media_type=row["media_type"], filename=row["filename"], size=row["size"],
                sha256=row["sha256"], ref=row["ref"], url=row["url"], content_id=row["content_id"],
            )  # fmt: skip
            return adapter.fetch(described, raw)
        if row["url"]:
            return self._client.download(row["url"])
        raise MediaError("nobody can fetch it: no address and no adapter for it", retryable=False)

    async def _adopt(self, row: RowMapping) -> dict[str, Any]:
        """A file that was uploaded to us before: it is there already."""
        statement = select(uploads).where(uploads.c.id == row["ref"].removeprefix(UPLOAD))
        found = await self._core.database.read(lambda connection: connection.execute(statement).mappings().first())
        if found is None:
            raise MediaError("there is no such upload", retryable=False)
        return {
            "state": "stored",
            "path": found["path"],
            "size": found["size"],
            "media_type": found["media_type"],
            "filename": row["filename"] or found["filename"],
        }

    def _later(self, row: RowMapping, reason: str, *, retryable: bool) -> dict[str, Any]:
        attempts = row["attempts"]
        if not retryable or attempts >= len(RETRY_S):
            return {"state": "failed", "reason": reason[:500], "attempts": attempts + 1}
        due = micros(self._core.clock()) + RETRY_S[attempts] * 1_000_000
        return {"state": "pending", "reason": reason[:500], "attempts": attempts + 1, "not_before": due}


def media_type_of(stored: Stored, declared: str) -> str:
    """The type by the file's first bytes; what it claims to be only where they do not tell."""
    found = filetype.guess(stored.head)
    return str(found.mime) if found is not None else declared or "application/octet-stream"


def _due(connection: Connection, now: int, room: int, busy: Sequence[str]) -> list[RowMapping]:
    statement = (
        select(attachments, messages.c.account, messages.c.delivery_id, messages.c.ticket_id)
        .join(messages, messages.c.id == attachments.c.message_id)
        .where(
            text("attachments.state = 'pending'"),  # word for word the condition of its index
            or_(attachments.c.not_before.is_(None), attachments.c.not_before <= now),
            attachments.c.id.not_in(busy),
        )
        .order_by(attachments.c.id)
        .limit(room)
    )
    return list(connection.execute(statement).mappings())


def _gone(connection: Connection) -> list[tuple[str, str, bool]]:
    """Files of deleted attachments: whose, where, and whether something that stands shows them, too."""
    statement = (
        select(attachments.c.id, attachments.c.path)
        .where(text("attachments.state = 'deleted' AND attachments.path <> ''"))  # word for word, as above
        .limit(GONE_AT_ONCE)
    )
    return [(row.id, row.path, _shared(connection, row.id, row.path)) for row in connection.execute(statement).all()]


def _shared(connection: Connection, attachment_id: str, path: str) -> bool:
    """Whether an upload, or a message that stands, has the file: one may be in several replies."""
    upload = select(uploads.c.id).where(uploads.c.path == path)
    other = select(attachments.c.id).where(
        attachments.c.path == path, attachments.c.id != attachment_id, attachments.c.state != "deleted"
    )
    return any(connection.execute(statement.limit(1)).first() is not None for statement in (upload, other))


def _raw(connection: Connection, delivery_id: str | None) -> bytes:
    body = connection.execute(select(deliveries.c.body).where(deliveries.c.id == delivery_id)).scalar()
    return bytes(body or b"")
