"""The SMTP receiver over real sockets: 250 only for what is durable, 451 for any fault of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiosmtplib
import pytest

from config.settings import SmtpSettings
from gateway import smtp
from gateway.smtp import SmtpReceiver

ACCOUNTS = {"support@shop.test": "shop", "help@shop.test": "shop", "office@other.test": "other"}
MAIL = b"From: ann@customer.test\r\nSubject: Hi\r\n\r\nHello\r\n"

Kept = list[tuple[str, dict[str, str], bytes]]
KeepMail = Callable[[str, dict[str, str], bytes], Awaitable[None]]


def resolve(address: str) -> str | None:
    local, _, domain = address.lower().rpartition("@")
    return ACCOUNTS.get(f"{local.partition('+')[0]}@{domain}")


@asynccontextmanager
async def receiver(keep: KeepMail | None = None, **settings: int) -> AsyncIterator[tuple[SmtpReceiver, Kept]]:
    kept: Kept = []

    async def remember(account: str, headers: dict[str, str], raw: bytes) -> None:
        kept.append((account, headers, raw))

    server = SmtpReceiver(
        SmtpSettings(listen="127.0.0.1:0", hostname="mx.shop.test", **settings), resolve, keep or remember
    )
    await server.start()
    try:
        yield server, kept
    finally:
        await server.stop(drain_s=0.2)


@asynccontextmanager
async def client(server: SmtpReceiver) -> AsyncIterator[aiosmtplib.SMTP]:
    connection = aiosmtplib.SMTP(hostname="127.0.0.1", port=server.port, start_tls=False, local_hostname="mx.test")
    async with connection:
        yield connection


async def until(fact: Callable[[], bool]) -> None:
    """Let the others run until it is so."""
    while not fact():  # noqa: ASYNC110 - the receiver tells nobody
        await asyncio.sleep(0)


class Raw:
    """A client that speaks byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    @asynccontextmanager
    async def open(cls, server: SmtpReceiver, *, transaction: bool = False) -> AsyncIterator[Raw]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        raw = cls(reader, writer)
        try:
            if transaction:
                await raw.answer()
                for line in ("HELO x", "MAIL FROM:<a@b.test>", "RCPT TO:<support@shop.test>", "DATA"):
                    await raw.say(f"{line}\r\n".encode())
            yield raw
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async def say(self, line: bytes) -> str:
        self.writer.write(line)
        await self.writer.drain()
        return await self.answer()

    async def answer(self) -> str:
        return (await self.reader.readline()).decode().strip()


async def test_a_mail_is_kept_with_its_envelope() -> None:
    async with receiver() as (server, kept), client(server) as connection:
        refused, answer = await connection.sendmail("ann@customer.test", ["Support+tabc@shop.test"], MAIL)
    assert (refused, answer) == ({}, "2.0.0 stored")
    assert kept == [
        (
            "shop",
            {
                "envelope-from": "ann@customer.test",
                "envelope-to": "Support+tabc@shop.test",
                "peer": "127.0.0.1",
                "helo": "mx.test",
            },
            MAIL,
        )
    ]


async def by_lmtp(server: SmtpReceiver, recipients: list[str]) -> list[str]:
    """What is answered to each recipient, and after the mail."""
    async with Raw.open(server) as raw:
        await raw.answer()
        line = await raw.say(b"LHLO mx.test\r\n")
        while line.startswith("250-"):
            line = await raw.answer()
        answers = [await raw.say(b"MAIL FROM:<ann@customer.test>\r\n")]
        answers += [await raw.say(f"RCPT TO:<{address}>\r\n".encode()) for address in recipients]
        answers.append(await raw.say(b"DATA\r\n"))
        accepted = sum(answer.startswith("250 2.1.5") for answer in answers)
        raw.writer.write(MAIL + b".\r\n")
        answers += [await raw.answer() for _ in range(accepted)]
        return [answer.partition(" ")[0] for answer in [*answers, await raw.say(b"NOOP\r\n")]]


async def test_lmtp_answers_for_each_recipient() -> None:
    addresses = ["support@shop.test", "nobody@shop.test", "office@other.test", "support@shop.test"]
    async with receiver() as (server, kept):
        answers = await by_lmtp(server, addresses)
        assert answers == ["250", "250", "550", "250", "250", "354", "250", "250", "250", "250"]
    assert [(account, headers["envelope-to"], raw) for account, headers, raw in kept] == [
        ("shop", "support@shop.test office@other.test", MAIL)
    ]


async def test_by_lmtp_a_fault_of_ours_is_temporary_for_each() -> None:
    async def broken(account: str, headers: dict[str, str], raw: bytes) -> None:
        raise OSError("disk full")

    async with receiver(broken) as (server, _):
        answers = await by_lmtp(server, ["support@shop.test", "office@other.test"])
    assert answers == ["250", "250", "250", "354", "451", "451", "250"]


async def test_one_mail_to_several_of_us_is_kept_once_for_the_first() -> None:
    everybody = ["office@other.test", "nobody@shop.test", "support@shop.test", "office@other.test"]
    async with receiver() as (server, kept), client(server) as connection:
        refused, _ = await connection.sendmail("", everybody, MAIL)
    assert {address: answer.code for address, answer in refused.items()} == {"nobody@shop.test": 550}
    assert [(account, headers["envelope-from"], headers["envelope-to"]) for account, headers, _ in kept] == [
        ("other", "", "office@other.test support@shop.test")
    ]


CONTENTS = {
    "dots": b"From: a@b.test\r\n\r\n.one\r\n..two\r\n\r\n.\r\n.three\r\n",
    "a long line": b"From: a@b.test\r\n\r\n" + b"x" * 3_000_000 + b"\r\n",
    "8 bit and NUL": b"From: \xff\r\n\r\n\x00\x80\r\n",
    "blank lines": b"\r\n\r\n\r\n",
    "sentences": b"From: a@b.test\r\n\r\n" + b"End.\r\n" * 1000,
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
async def test_any_bytes_arrive_as_they_were(content: bytes) -> None:
    async with receiver() as (server, kept), Raw.open(server, transaction=True) as raw:
        stuffed = b"".join(b"." + line if line.startswith(b".") else line for line in content.splitlines(keepends=True))
        assert await raw.say(stuffed + b".\r\n") == "250 2.0.0 stored"
        assert await raw.say(b"NOOP\r\n") == "250 OK"  # nothing of the mail was taken for a command
    assert [raw for _, _, raw in kept] == [content]


async def test_an_empty_mail() -> None:
    async with receiver() as (server, kept), Raw.open(server, transaction=True) as raw:
        assert await raw.say(b".\r\n") == "250 2.0.0 stored"
    assert [raw for _, _, raw in kept] == [b""]


SMUGGLED = (b"\n.\r\n", b"\r\n.\n", b"\n.\n", b"\r.\r", b"\r\n.\r\r\n")


@pytest.mark.parametrize("end", SMUGGLED, ids=repr)
async def test_no_second_mail_is_smuggled_in(end: bytes) -> None:
    second = b"MAIL FROM:<evil@x.test>\r\nRCPT TO:<support@shop.test>\r\nDATA\r\nSubject: forged\r\n"
    async with receiver() as (server, kept), Raw.open(server, transaction=True) as raw:
        assert await raw.say(MAIL + b"x" + end + second + b"\r\n.\r\n") == "250 2.0.0 stored"
    assert len(kept) == 1
    assert kept[0][1]["envelope-from"] == "a@b.test"
    assert b"forged" in kept[0][2]


async def test_pipelined_mails() -> None:
    one = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<support@shop.test>\r\nDATA\r\n" + MAIL + b".\r\n"
    async with receiver() as (server, kept), Raw.open(server) as raw:
        await raw.answer()
        raw.writer.write(b"HELO x\r\n" + one + one + b"QUIT\r\n")
        answers = (await raw.reader.read()).decode().split("\r\n")
    assert [answer for answer in answers if "stored" in answer] == ["250 2.0.0 stored"] * 2
    assert len(kept) == 2


async def test_a_store_that_fails_makes_the_sender_keep_the_mail() -> None:
    errors: list[BaseException] = [OSError("disk full at /var/secret"), TimeoutError(), RuntimeError("x"), ValueError()]

    async def keep(*_: object) -> None:
        if errors:
            raise errors.pop()

    async with receiver(keep) as (server, _), client(server) as connection:
        for _attempt in range(4):
            with pytest.raises(aiosmtplib.SMTPDataError) as caught:
                await connection.sendmail("a@b.test", ["support@shop.test"], MAIL)
            assert (caught.value.code, caught.value.message) == (451, "4.3.0 temporary failure, try again")
        await connection.sendmail("a@b.test", ["support@shop.test"], MAIL)
        assert server.held == 0


async def test_a_store_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "KEEP_TIMEOUT_S", 0.02)

    async def keep(*_: object) -> None:
        await asyncio.Event().wait()

    async with receiver(keep) as (server, _), client(server) as connection:
        with pytest.raises(aiosmtplib.SMTPDataError) as caught:
            await connection.sendmail("a@b.test", ["support@shop.test"], MAIL)
    assert caught.value.code == 451


async def test_250_only_after_the_mail_is_kept() -> None:
    durable = asyncio.Event()

    async def keep(*_: object) -> None:
        await durable.wait()

    async with receiver(keep) as (server, _), client(server) as connection:
        sending = asyncio.create_task(connection.sendmail("a@b.test", ["support@shop.test"], MAIL))
        await until(lambda: server.held > 0)
        assert not sending.done()
        durable.set()
        await sending


async def test_sizes() -> None:
    async with receiver(max_bytes=1000) as (server, kept):
        async with client(server) as connection:
            with pytest.raises(aiosmtplib.SMTPSenderRefused) as declared:  # by SIZE
                await connection.sendmail("a@b.test", ["support@shop.test"], b"x" * 2000)
            assert connection.supports_extension("size")
        async with Raw.open(server, transaction=True) as raw:
            assert await raw.say(b"x" * 1_000_000 + b"\r\n.\r\n") == "552 5.3.4 message too big"
            assert await raw.say(b"NOOP\r\n") == "250 OK"
        assert server.held == 0
    assert declared.value.code == 552
    assert kept == []


async def test_over_budget_the_sender_waits() -> None:
    durable = asyncio.Event()

    async def keep(*_: object) -> None:
        await durable.wait()

    async with receiver(keep, budget_bytes=500) as (server, _):
        async with Raw.open(server, transaction=True) as first, Raw.open(server, transaction=True) as second:
            first.writer.write(b"x" * 400 + b"\r\n.\r\n")
            await until(lambda: server.held >= 400)
            assert await second.say(b"y" * 400 + b"\r\n.\r\n") == "452 4.3.1 busy, try again later"
            durable.set()
            assert await first.answer() == "250 2.0.0 stored"
        assert server.held == 0


async def test_recipients() -> None:
    async with receiver(max_recipients=2) as (server, _), Raw.open(server) as raw:
        await raw.answer()
        await raw.say(b"HELO x\r\n")
        await raw.say(b"MAIL FROM:<>\r\n")
        answers = [
            await raw.say(b"RCPT TO:<" + address + b">\r\n")
            for address in (
                b"a\xff@shop.test",
                b"who@shop.test",
                b"support@shop.test",
                b"support@shop.test",
                b"help@shop.test",
                b"support+1@shop.test",
            )
        ]
        assert [answer[:9] for answer in answers] == [
            "553 5.1.3", "550 5.1.1", "250 2.1.5", "250 2.1.5", "250 2.1.5", "452 4.5.3",
        ]  # fmt: skip


@pytest.mark.parametrize("greeting", ["HELO", "LHLO"])
@pytest.mark.parametrize("written", ["<postmaster>", "<PostMaster>", "postmaster"])
async def test_the_postmaster_needs_no_domain(monkeypatch: pytest.MonkeyPatch, greeting: str, written: str) -> None:
    monkeypatch.setitem(ACCOUNTS, "postmaster@mx.shop.test", "shop")
    async with receiver() as (server, kept), Raw.open(server) as raw:
        await raw.answer()
        line = await raw.say(f"{greeting} x\r\n".encode())
        while line.startswith("250-"):
            line = await raw.answer()
        await raw.say(b"MAIL FROM:<ann@customer.test>\r\n")
        assert await raw.say(f"RCPT TO:{written}\r\n".encode()) == "250 2.1.5 ok"
        await raw.say(b"DATA\r\n")
        assert (await raw.say(MAIL + b".\r\n"))[:3] == "250"
    assert kept[0][1]["envelope-to"].lower() == "postmaster@mx.shop.test"


async def test_an_address_outside_of_ascii() -> None:
    async with receiver() as (server, kept), client(server) as connection:
        await connection.sendmail("jörg@bücher.test", ["support@shop.test"], MAIL, mail_options=["SMTPUTF8"])
    assert kept[0][1]["envelope-from"] == "jörg@bücher.test"


async def test_too_many_connections_are_asked_to_wait() -> None:
    async with receiver(max_connections=2) as (server, _):
        async with Raw.open(server) as one, Raw.open(server) as two, Raw.open(server) as three:
            assert [(await raw.answer())[:3] for raw in (one, two, three)] == ["220", "220", "421"]
        async with client(server) as connection:  # there is room again
            await connection.noop()


async def test_many_at_once() -> None:
    async with receiver() as (server, kept):

        async def send(number: int) -> None:
            async with client(server) as connection:
                await connection.sendmail(f"a{number}@b.test", ["support@shop.test"], MAIL)

        await asyncio.gather(*(send(number) for number in range(100)))
        assert len({headers["envelope-from"] for _, headers, _ in kept}) == 100
        assert server.held == 0


async def test_a_sender_that_leaves_in_the_middle_leaves_nothing() -> None:
    async with receiver() as (server, kept):
        async with Raw.open(server, transaction=True) as raw:
            raw.writer.write(MAIL)
            await raw.writer.drain()
        await until(lambda: not server.sessions)
        assert (kept, server.held) == ([], 0)


async def test_stop_lets_a_mail_finish_and_says_good_bye_to_the_rest() -> None:
    durable = asyncio.Event()
    begun = asyncio.Event()

    async def keep(*_: object) -> None:
        begun.set()
        await durable.wait()

    async with receiver(keep) as (server, _), Raw.open(server) as idle, Raw.open(server, transaction=True) as busy:
        await idle.answer()
        busy.writer.write(MAIL + b".\r\n")
        await begun.wait()
        stopping = asyncio.create_task(server.stop(drain_s=5))
        assert await idle.answer() == "421 4.3.2 shutting down"
        durable.set()
        assert await busy.answer() == "250 2.0.0 stored"
        assert await busy.answer() == "421 4.3.2 shutting down"
        await stopping
        assert not server.sessions


async def test_a_mail_that_never_ends_is_cut_at_the_end_of_the_drain() -> None:
    async with receiver() as (server, kept), Raw.open(server, transaction=True) as raw:
        raw.writer.write(MAIL)
        await server.stop(drain_s=0.02)
        assert await raw.answer() == ""
        assert kept == []
