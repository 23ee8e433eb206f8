"""Mail is fetched once and for all: whatever is in the mailbox, whatever happens in between."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from sqlalchemy import select, text, update

from gateway.core import Core
from gateway.mailboxes import plan
from gateway.store import mailboxes as rows
from gateway.store.mailboxes import LeaseLost, Position
from gateway.store.schema import deliveries, mailboxes
from tests.mailboxes.conftest import Post, eventually, kept, mail, numbers, until_kept

NOW = 1_800_000_000_000_000

PLANS = {  # what is known, validity, next number, start -> where to read from
    "never seen": (Position(), 7, 5, "all", Position(7, 0)),
    "never seen, only what is new": (Position(), 7, 5, "new", Position(7, 4, NOW)),
    "as before": (Position(7, 4, 3), 7, 9, "all", Position(7, 4, 3)),
    "numbered anew": (Position(7, 4), 8, 9, "all", Position(8, 0, 0, 8)),
    "numbered anew, only what is new": (Position(7, 4, 3), 8, 9, "new", Position(8, 0, 3, 8)),
}


@pytest.mark.parametrize(("known", "validity", "following", "start", "position"), PLANS.values(), ids=PLANS)
def test_where_to_read_from(known: Position, validity: int, following: int, start: str, position: Position) -> None:
    assert plan(known, validity, following, start, NOW).position == position


async def position(core: Core) -> Position:
    return await core.database.read(lambda connection: rows.position(connection, "mail", "INBOX"))


async def test_what_is_there_and_what_is_pushed(post: Post) -> None:
    for number in (1, 2, 3):
        post.box.put(mail(number))
    async with post.core() as core, post.collecting(core):
        assert numbers(await until_kept(core, 3)) == [1, 2, 3]
        post.box.put(mail(4))  # nobody looks by itself for five minutes: the server's push tells
        assert numbers(await until_kept(core, 4)) == [1, 2, 3, 4]
        assert (await until_kept(core, 4))[3] == mail(4)
        assert not any("Seen" in flags for flags in post.box.flags())


@pytest.mark.parametrize("security", ["tls", "starttls"])
async def test_over_tls(post: Post, security: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = post.server.tls_port if security == "tls" else post.server.port
    post.box.put(mail(1))
    async with post.core(security=security, port=port) as core:
        async with post.collecting(core) as collector:
            await eventually(lambda: bool(collector.warnings()))
            assert "certificate" in collector.warnings()[0]  # nobody has signed it
        monkeypatch.setenv("SSL_CERT_FILE", str(post.server.certificate))
        async with post.collecting(core):
            await until_kept(core, 1)
            post.box.put(mail(2))  # pushed
            assert numbers(await until_kept(core, 2)) == [1, 2]


async def test_polling_where_nothing_is_pushed(post: Post) -> None:
    async with post.core(idle=False, poll_s=1.0) as core, post.collecting(core):
        post.box.put(mail(1))
        await until_kept(core, 1)
        post.box.put(mail(2))
        assert numbers(await until_kept(core, 2)) == [1, 2]


async def test_a_restart_doubles_nothing(post: Post) -> None:
    post.box.put(mail(1))
    post.box.put(mail(2))
    async with post.core() as core:
        for _ in range(2):  # the second finds nothing above the highest number, which the server names all the same
            async with post.collecting(core):
                await until_kept(core, 2)
                await eventually(lambda: core.metrics.mailbox_up.labels("mail")._value.get() == 1)
            core.metrics.mailbox_up.labels("mail").set(0)
            assert (await position(core)).last_uid == 2
        post.box.put(mail(3))
        async with post.collecting(core):
            assert numbers(await until_kept(core, 3)) == [1, 2, 3]


async def test_a_mailbox_numbered_anew_is_read_again(post: Post) -> None:
    post.box.make("Support")
    post.box.put(mail(1), "Support")
    post.box.put(mail(2), "Support")
    async with post.core(folder="Support") as core:
        async with post.collecting(core):
            await until_kept(core, 2)
        post.box.make("Support")
        post.box.put(mail(3), "Support")
        post.box.put(mail(1), "Support")
        async with post.collecting(core):
            assert numbers(await until_kept(core, 4)) == [1, 2, 3, 1]  # intake knows the second 1


async def test_only_what_is_new(post: Post) -> None:
    post.box.put(mail(1))
    async with post.core(start="new") as core, post.collecting(core):
        await eventually(lambda: core.metrics.mailbox_up.labels("mail")._value.get() == 1)
        post.box.put(mail(2))
        assert numbers(await until_kept(core, 1)) == [2]


AFTER = {  # setting -> flags in the mailbox, mails in the other folder
    "seen": ({"after": "seen"}, 2, 0),
    "move": ({"after": "move", "move_to": "Done"}, 0, 2),
    "delete": ({"after": "delete"}, 0, 0),
}


@pytest.mark.parametrize(("settings", "left", "moved"), AFTER.values(), ids=AFTER)
async def test_what_is_done_with_a_mail_afterwards(post: Post, settings: dict[str, str], left: int, moved: int) -> None:
    post.box.make("Done")
    post.box.put(mail(1))
    post.box.put(mail(2))
    async with post.core(**settings) as core, post.collecting(core):
        await until_kept(core, 2)
        await eventually(lambda: len(post.box.flags()) == left and len(post.box.flags("Done")) == moved)
        if left:
            await eventually(lambda: all("Seen" in flags for flags in post.box.flags()))


async def test_a_folder_to_move_to_that_is_not_there_loses_nothing(post: Post) -> None:
    post.box.put(mail(1))
    post.box.put(mail(2))
    async with post.core(after="move", move_to="Nowhere") as core, post.collecting(core):
        assert numbers(await until_kept(core, 2)) == [1, 2]
        assert len(post.box.flags()) == 2


async def test_a_lost_connection_is_made_again(post: Post) -> None:
    async with post.core() as core, post.collecting(core):
        post.box.put(mail(1))
        await until_kept(core, 1)
        post.server.kick(post.user)
        other = post.server.open(post.user)
        other.put(mail(2))
        assert numbers(await until_kept(core, 2)) == [1, 2]
        other.close()


async def test_a_mail_that_cannot_be_kept_stops_the_position(post: Post) -> None:
    post.box.put(mail(1))
    async with post.core() as core, post.collecting(core) as collector:
        await until_kept(core, 1)
        await core.database.write(lambda c: c.execute(text("ALTER TABLE deliveries RENAME TO elsewhere")))
        post.box.put(mail(2))
        await eventually(lambda: bool(collector.warnings()))
        assert (await position(core)).last_uid == 1
        await core.database.write(lambda c: c.execute(text("ALTER TABLE elsewhere RENAME TO deliveries")))
        assert numbers(await until_kept(core, 2)) == [1, 2]
        await eventually(lambda: not collector.warnings())


async def test_what_is_no_mail_at_all_blocks_nothing(post: Post) -> None:
    post.box.put(b"\x80\xff\r\n" * 10)
    post.box.put(mail(2))
    async with post.core() as core, post.collecting(core):
        assert len(await until_kept(core, 2)) == 2


async def test_too_large_a_mail_is_kept_in_part_and_left_where_it_is(post: Post) -> None:
    post.box.put(mail(1, "x" * 600_000))
    post.box.put(mail(2))
    head = '[smtp]\nlisten = "127.0.0.1:0"\nmax_bytes = 500000\n'
    async with post.core(head=head, after="delete") as core, post.collecting(core):
        first, second = await until_kept(core, 2)
        assert len(first) == 256 * 1024
        assert second == mail(2)
        await eventually(lambda: len(post.box.flags()) == 1)
        found = await core.database.read(lambda c: c.execute(text("SELECT headers FROM deliveries ORDER BY id")).all())
        assert "too large" in found[0][0]
        assert found[1][0] == "{}"


async def test_a_refused_login_is_seen(post: Post) -> None:
    async with post.core(password="wrong") as core:
        told = []

        async def listen() -> None:
            async for event in core.bus.listen():
                told.append(event)

        listener = asyncio.create_task(listen())
        async with post.collecting(core) as collector:
            await eventually(lambda: bool(collector.warnings()) and bool(told))
            assert "auth" in collector.warnings()[0]
            assert (told[0].type, told[0].data["kind"], told[0].data["alarming"]) == (
                "account.event", "mailbox.trouble", True,
            )  # fmt: skip
            row = await core.database.read(lambda c: c.execute(select(mailboxes)).mappings().one())
            assert row["problem"].startswith("auth")
            assert 'gateway_mailbox_up{account="mail"} 0.0' in core.metrics.render().decode()
        listener.cancel()


async def test_one_process_reads_a_mailbox_and_another_takes_it_over(post: Post) -> None:
    post.box.put(mail(1))
    async with post.core() as core, post.collecting(core, alone=False) as first:
        await until_kept(core, 1)
        async with post.collecting(core, alone=False) as second:
            await asyncio.sleep(0)
            post.box.put(mail(2))
            await until_kept(core, 2)
            owner = await core.database.read(lambda c: c.execute(select(mailboxes.c.owner)).scalar_one())
            assert owner == first.owner
            dead = update(mailboxes).values(owner="a process that died", lease_until=0)
            await core.database.write(lambda c: c.execute(dead))
            post.box.put(mail(3))
            assert numbers(await until_kept(core, 3)) == [1, 2, 3]
            owner = await core.database.read(lambda c: c.execute(select(mailboxes.c.owner)).scalar_one())
            assert owner in (first.owner, second.owner)


async def test_who_lost_the_mailbox_keeps_nothing(post: Post) -> None:
    async with post.core() as core:
        write = core.database.write
        assert await write(lambda c: rows.take(c, "mail", "INBOX", "a", 1000, 2000))
        assert not await write(lambda c: rows.take(c, "mail", "INBOX", "b", 1500, 2500))
        assert await write(lambda c: rows.take(c, "mail", "INBOX", "b", 2001, 3000))
        with pytest.raises(LeaseLost):
            await write(lambda c: rows.keep(c, {"id": "x", "body": b""}, "mail", "INBOX", "a", Position(1, 1)))
        assert await kept(core) == []
        await write(lambda c: rows.leave(c, "b"))
        assert await write(lambda c: rows.take(c, "mail", "INBOX", "a", 1, 2))


NOTHING = {  # what a server that cannot read its own mail says: Exchange does so of some
    b"SEARCH": b"* SEARCH 5\r\n",
    b"RFC822.SIZE": b"* 1 FETCH (UID 5 RFC822.SIZE 300)\r\n",
    b"BODY.PEEK[HEADER]": b"* 1 FETCH (UID 5 BODY[HEADER] {17}\r\nSubject: Mail 5\r\n)\r\n",
    b"BODY.PEEK[]": b"* 1 FETCH (UID 5 BODY[] NIL)\r\n",
    b"EXAMINE": b"* 1 EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\n* OK [UIDNEXT 6] ok\r\n",
    b"CAPABILITY": b"* CAPABILITY IMAP4rev1\r\n",
    b"LOGOUT": b"* BYE\r\n",
}


async def _without_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"* OK ready\r\n")
    with suppress(ConnectionError):
        while line := await reader.readline():
            told = next((answer for words, answer in NOTHING.items() if words in line), b"")
            writer.write(told + line.split()[0] + b" OK done\r\n")
    writer.close()


async def test_a_mail_whose_body_the_server_has_not_is_not_passed_over(post: Post) -> None:
    async with await asyncio.start_server(_without_body, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with post.core(port=port, idle=False) as core, post.collecting(core):
            assert await until_kept(core, 1) == [b"Subject: Mail 5\r\n"]
            statement = select(deliveries.c.headers).where(deliveries.c.source == "imap")
            (told,) = await core.database.read(lambda c: c.execute(statement).scalars().all())
    assert "incomplete" in told
