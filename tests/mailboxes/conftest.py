"""A mailbox on a real server, and a gateway at rest whose collector reads it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.core import Core
from gateway.mailboxes import MailCollector
from gateway.runtime import Gateway
from gateway.store.schema import deliveries
from tests.support.dovecot import PASSWORD, Box, Dovecot
from tests.support.world import TestClock, eventually, read

_users = itertools.count(1)


def mail(number: int, text: str = "Hello", sender: str = "ann@customer.test") -> bytes:
    """An ordinary mail."""
    return (
        f"From: Ann <{sender}>\r\nTo: support@shop.test\r\nSubject: Mail {number}\r\n"
        f"Message-ID: <m{number}@customer.test>\r\nDate: Tue, 12 May 2026 10:00:00 +0000\r\n\r\n{text} {number}\r\n"
    ).encode()


@dataclass(slots=True)
class Post:
    """One user's mailbox, and gateways that read it."""

    server: Dovecot
    user: str
    directory: Path
    box: Box
    clock: TestClock = field(default_factory=TestClock)

    def configure(self, password: str = PASSWORD, head: str = "", **imap: str | float | bool) -> Path:
        """A `gateway.toml` with this mailbox; `imap` are more of its settings."""
        settings: dict[str, str | float | bool] = {"poll_s": 300.0, "security": "none", "host": "127.0.0.1"}
        settings.update({"port": self.server.port, "username": self.user, "password": password}, **imap)
        written = ", ".join(f"{name} = {_toml(value)}" for name, value in settings.items())
        file = self.directory / "gateway.toml"
        file.write_text(
            f'[gateway]\nlisten = "127.0.0.1:0"\n{head}\n[[accounts]]\nid = "mail"\nadapter = "email"\n'
            f'address = "support@shop.test"\nimap = {{ {written} }}\n',
            "utf-8",
        )
        return file

    @asynccontextmanager
    async def core(self, password: str = PASSWORD, head: str = "", **imap: str | float | bool) -> AsyncIterator[Core]:
        """A gateway at rest: only its store works."""
        async with Gateway(read(self.configure(password, head, **imap)), clock=self.clock).resting() as core:
            yield core

    @asynccontextmanager
    async def collecting(self, core: Core, *, alone: bool = True) -> AsyncIterator[MailCollector]:
        """A collector at work."""
        collector = MailCollector(core, alone=alone, first_wait_s=0.05)
        task = asyncio.create_task(collector.run())
        try:
            yield collector
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def _toml(value: str | float | bool) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


async def kept(core: Core) -> list[bytes]:
    """The mails kept so far, in order."""
    statement = select(deliveries.c.body).where(deliveries.c.source == "imap").order_by(deliveries.c.id)
    return [bytes(body) for body in await core.database.read(lambda c: c.execute(statement).scalars().all())]


async def until_kept(core: Core, count: int) -> list[bytes]:
    """Wait for so many mails."""
    found: list[bytes] = []
    async with asyncio.timeout(20.0):
        while len(found) < count:
            await asyncio.sleep(0.02)
            found = await kept(core)
    return found


def numbers(mails: list[bytes]) -> list[int]:
    """Which of the mails of `mail` these are."""
    return [int(raw.split(b"Subject: Mail ")[1].split(b"\r")[0]) for raw in mails]


@pytest.fixture
def post(dovecot: Dovecot, tmp_path: Path) -> Iterator[Post]:
    """A mailbox of the test's own."""
    user = f"user{next(_users)}"
    box = dovecot.open(user)
    yield Post(dovecot, user, tmp_path, box)
    box.close()


__all__ = ["Post", "eventually", "kept", "mail", "numbers", "until_kept"]
