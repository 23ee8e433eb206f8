"""A whole gateway with a mailbox: tickets, threads, what operators see of trouble, and kill -9 in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
from collections import Counter
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import Engine, create_engine, text

from tests.mailboxes.conftest import Post, mail, post
from tests.support.dovecot import PASSWORD
from tests.support.postgres import Postgres
from tests.support.process import Served, run, serving
from tests.support.world import World

__all__ = ["post"]
COUNT = 60


def account(post: Post, password: str = PASSWORD) -> str:
    return (
        f'\n[[accounts]]\nid = "mailbox"\nadapter = "email"\naddress = "box@shop.test"\n'
        f'imap = {{ host = "127.0.0.1", port = {post.server.port}, security = "none", '
        f'username = "{post.user}", password = "{password}" }}\n'
    )


async def test_there_and_back(post: Post, tmp_path: Path) -> None:
    async with World.platforms(tmp_path) as world:
        relay = f'smtp = {{ host = "127.0.0.1", port = {world.mail.port}, security = "none" }}\n'
        world.file.write_text(world.file.read_text("utf-8") + account(post) + relay, "utf-8")
        post.box.put(mail(1))
        await world.start()
        try:
            ticket = await world.api.ticket()
            assert (ticket["account"], ticket["subject"]) == ("mailbox", "Mail 1")
            message = await world.api.replied(ticket, "Good day")
            await world.api.settled(message, "sent")
            (sent,) = world.mail.sends
            assert "box@shop.test" in sent.headers.get("from")
            line = f"In-Reply-To: <{sent.message_id.strip('<>')}>\r\nSubject".encode()
            post.box.put(mail(2).replace(b"Subject", line))
            thread = await world.api.messages(ticket, 3)
            assert {entry["text"] for entry in thread} == {"Hello 1", "Good day", "Hello 2"}
        finally:
            await world.stop()


async def test_trouble_is_seen(post: Post) -> None:
    config = post.configure("wrong")
    checked = await run("check", "--config", config)
    assert (checked.code, checked.err) == (2, "accounts[0]: the platform refuses the credentials: imap-auth\n")
    async with serving(config) as served, aiohttp.ClientSession() as session:
        async with asyncio.timeout(30):
            while True:
                async with session.get(f"{served.address}/readyz") as answer:
                    body = await answer.json()
                if body["warnings"] and "mailbox of mail: auth" in body["warnings"][-1]:
                    break
                await asyncio.sleep(0.1)
        assert body["status"] == "ready"
        async with session.get(f"{served.address}/metrics") as answer:
            assert 'gateway_mailbox_errors_total{account="mail",reason="auth"}' in await answer.text()
    post.configure(folder="Nowhere")
    assert "imap-folder" in (await run("check", "--config", config)).err
    post.configure()
    assert (await run("check", "--config", config)).code == 0


@pytest.mark.slow
async def test_killed_while_reading(post: Post) -> None:
    """Whatever had been kept stays, what had not is read again: each mail is there once, as one message."""
    config = post.configure()
    for number in range(COUNT // 2):
        post.box.put(mail(number))

    def fill() -> None:
        for number in range(COUNT // 2, COUNT):
            post.box.put(mail(number))

    filler = asyncio.create_task(asyncio.to_thread(fill))
    for round_ in range(3):
        served = await Served.start(config)
        await asyncio.sleep(0.05 + 0.15 * round_)
        await served.stop(signal.SIGKILL)
    await filler
    async with serving(config):
        found: Counter[str] = Counter()
        async with asyncio.timeout(60):
            while len(found) < COUNT:
                await asyncio.sleep(0.2)
                found = Counter(_subjects(config.parent / "var" / "gateway.db"))
    assert found == Counter(f"Mail {number}" for number in range(COUNT))


@pytest.mark.slow
@pytest.mark.postgres
async def test_another_process_takes_over(post: Post, postgres: Postgres) -> None:
    """Two workers: one reads the mailbox. It dies; the other goes on, and nothing is doubled."""
    url = postgres.database()
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    head = f'database = "{address}"\nsecret_key = "a key of the tests only"'
    config = post.configure(head=head)
    post.box.put(mail(0))
    engine = create_engine(url)
    arguments = ("--roles", "worker")
    async with serving(config, *arguments) as first, serving(config, *arguments) as second:
        await _kept(engine, 1)
        owner = _owner(engine)
        dying, living = (first, second) if owner.startswith(f"{first.process.pid}-") else (second, first)
        assert owner.startswith(f"{dying.process.pid}-")
        await dying.stop(signal.SIGKILL)
        post.box.put(mail(1))
        await _kept(engine, 2)
        assert _owner(engine).startswith(f"{living.process.pid}-")
    engine.dispose()


async def _kept(engine: Engine, count: int) -> None:
    async with asyncio.timeout(40):
        while True:
            with engine.connect() as connection:
                found = connection.execute(text("SELECT count(*) FROM deliveries")).scalar_one()
            if found == count:
                return
            assert found < count
            await asyncio.sleep(0.1)


def _owner(engine: Engine) -> str:
    with engine.connect() as connection:
        return str(connection.execute(text("SELECT owner FROM mailboxes")).scalar_one())


def _subjects(file: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return [row[0] for row in connection.execute("SELECT subject FROM messages")]
