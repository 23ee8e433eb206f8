"""The relay: connections kept and given up, TLS, sizes, addresses beyond ASCII, and what is certain at each stage."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters import SendError, Suppress, rule_of
from adapters._smtp_client import MAILS_MAX, Smtp
from adapters._smtp_results import RULES, Stage, refusal
from adapters.email import EmailAdapter, Settings
from adapters.sandbox._mail_server import MailStage, MailTls
from adapters.sandbox.smtp import MailWorld
from config.secret import Secret
from normalizers.model import Account, Address, MailHeaders, OutboundFile, OutboundMessage
from tests.support.world import eventually

MESSAGE = OutboundMessage(
    id="019a9e00-0000-7000-8000-000000000000",
    key="k1",
    account="mail",
    channel="email",
    to=(Address("email", "email", "ann@customer.test", "everywhere"),),
    text="Hello",
    mail=MailHeaders(subject="Your order", message_id="<t.abc@shop.test>"),
)


def to(*addresses: str, cc: tuple[str, ...] = ()) -> OutboundMessage:
    assert MESSAGE.mail is not None
    return msgspec.structs.replace(
        MESSAGE,
        to=tuple(Address("email", "email", address, "everywhere") for address in addresses),
        mail=msgspec.structs.replace(MESSAGE.mail, cc=cc),
    )


@asynccontextmanager
async def relay(world: MailWorld, **smtp: Any) -> AsyncIterator[EmailAdapter]:
    given = {"security": world.tls, "ca": world.ca} | smtp
    settings = Settings("support@shop.test", smtp=Smtp("127.0.0.1", world.port, **given))
    adapter = EmailAdapter(Account("mail", "email"), settings, None)  # type: ignore[arg-type]
    try:
        yield adapter
    finally:
        await adapter.aclose()


async def refused(adapter: EmailAdapter, message: OutboundMessage = MESSAGE) -> SendError:
    with pytest.raises(SendError) as caught:
        await adapter.send(message)
    assert caught.value.certain
    return caught.value


# --- connections ------------------------------------------------------------------------------------------------------


async def test_one_connection_serves_many_mails_and_is_reset_between() -> None:
    async with MailWorld() as world, relay(world) as adapter:
        for _ in range(3):
            await adapter.send(MESSAGE)
        assert [mail.connection for mail in world.sends] == [1, 1, 1]
        assert world.resets == 2


async def test_a_connection_is_given_up_after_a_hundred_mails() -> None:
    async with MailWorld() as world, relay(world) as adapter:
        for _ in range(MAILS_MAX + 1):
            await adapter.send(MESSAGE)
        assert (world.sends[MAILS_MAX - 1].connection, world.sends[MAILS_MAX].connection) == (1, 2)


async def test_mails_at_the_same_time_share_as_many_connections_as_are_allowed() -> None:
    async with MailWorld() as world, relay(world, connections=3) as adapter:
        await asyncio.gather(*(adapter.send(MESSAGE) for _ in range(12)))
        assert len(world.sends) == 12
        assert world.connections <= 3


async def test_who_waits_too_long_for_a_connection_has_not_tried() -> None:
    async with MailWorld() as world, relay(world, connections=1) as adapter:
        world.fail_next("timeout")
        stuck = asyncio.create_task(adapter.send(MESSAGE))
        await eventually(lambda: world.calls)
        error = await refused(adapter)
        assert (error.error_class, error.code, error.pause) == ("throttle", "busy", None)
        stuck.cancel()
        await asyncio.gather(stuck, return_exceptions=True)


@pytest.mark.parametrize("answer", ["550 5.1.1 no such user", "451 4.3.0 later"])
async def test_after_a_refusal_the_next_mail_gets_a_new_connection(answer: str) -> None:
    async with MailWorld() as world, relay(world) as adapter:
        world.answer_next("rcpt", answer)
        await refused(adapter)
        await adapter.send(MESSAGE)
        assert world.sends[0].connection == 2


async def test_a_connection_the_relay_has_closed_costs_no_mail() -> None:
    async with MailWorld() as world, relay(world) as adapter:
        await adapter.send(MESSAGE)
        world.cut_all()
        await adapter.send(MESSAGE)
        assert [mail.connection for mail in world.sends] == [1, 2]


async def test_an_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters._smtp_client.IDLE_S", 0.05)
    async with MailWorld() as world, relay(world) as adapter:
        await adapter.send(MESSAGE)
        await eventually(lambda: not world.open_connections)
        await adapter.send(MESSAGE)
        assert world.sends[1].connection == 2


# --- TLS and login ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_tls_with_a_certificate_that_is_trusted(tls: MailTls) -> None:
    async with MailWorld(tls=tls) as world, relay(world) as adapter:
        await adapter.send(MESSAGE)
        await adapter.send(MESSAGE)
        assert [(mail.secured, mail.connection) for mail in world.sends] == [(True, 1), (True, 1)]


@pytest.mark.parametrize("tls", ["starttls", "tls"])
@pytest.mark.parametrize("wrong", ["unknown authority", "another name"])
async def test_a_certificate_nobody_vouches_for_pauses_the_account(tls: MailTls, wrong: str) -> None:
    named = "127.0.0.1" if wrong == "unknown authority" else "mail.other.test"
    async with MailWorld(tls=tls, certificate_for=named) as world:
        async with relay(world, **({"ca": ""} if wrong == "unknown authority" else {})) as adapter:
            error = await refused(adapter)
        assert (error.error_class, error.code, error.pause) == ("auth", "certificate", "account")
        assert world.calls == 0


@pytest.mark.parametrize("stage", ["login", "rcpt"])
async def test_a_password_the_relay_quotes_is_not_shown(stage: MailStage) -> None:
    plain = b64encode(b"\0gateway\0the-password-9").decode()
    async with MailWorld(tls="starttls", login=("gateway", "the-password-9")) as world:
        smtp = {"username": "gateway", "password": Secret("the-password-9")}
        async with relay(world, **smtp) as adapter:
            for _ in range(3):  # each way to log in is tried
                world.answer_next(stage, f"535 5.7.8 what is {plain} of the-password-9?")
            error = await refused(adapter)
    assert error.detail == "5.7.8 what is *** of ***?"
    assert "the-password-9" not in f"{error} {error!r}"


LOGIN = ("gateway", "the-password-9")
AT_THE_LIMIT = f"{'x' * 285} the-password-9"  # longer than what is kept of an answer, by a part of the password


def logged_in(world: MailWorld) -> AbstractAsyncContextManager[EmailAdapter]:
    return relay(world, username=LOGIN[0], password=Secret(LOGIN[1]))


@pytest.mark.parametrize("stage", ["connect", "login", "mail", "rcpt"])
async def test_no_part_of_a_password_stays_where_a_long_answer_is_cut(stage: MailStage) -> None:
    async with MailWorld(tls="starttls", login=LOGIN) as world, logged_in(world) as adapter:
        for _ in range(3):
            world.answer_next(stage, f"550 5.7.1 {AT_THE_LIMIT}")
        error = await refused(adapter)
    assert "the-p" not in f"{error} {error!r}"
    assert len(error.detail) <= 300


async def test_what_is_said_of_one_recipient_shows_no_password() -> None:
    async with MailWorld(tls="starttls", login=LOGIN) as world, logged_in(world) as adapter:
        world.refuse("eve@customer.test", f"550 5.7.1 the-password-9 {AT_THE_LIMIT}")
        sent = await adapter.send(to("ann@customer.test", "eve@customer.test"))
    assert sent.refused["eve@customer.test"].startswith("550 5.7.1 *** xxx")
    assert "the-p" not in sent.refused["eve@customer.test"]


async def test_the_login_is_given_where_it_is_asked_for() -> None:
    async with MailWorld(tls="starttls", login=("gateway", "right")) as world:
        async with relay(world, username="gateway", password=Secret("right")) as adapter:
            await adapter.send(MESSAGE)
        async with relay(world, username="gateway", password=Secret("s3cret-canary")) as adapter:
            error = await refused(adapter)
        assert (error.error_class, error.pause) == ("auth", "account")
        assert "s3cret-canary" not in str(error)
        async with relay(world) as adapter:  # 530 at MAIL
            error = await refused(adapter)
        assert (error.error_class, error.pause) == ("auth", "account")


def test_settings_of_the_relay() -> None:
    for key, given in {"ca": {"ca": "nonsense"}, "connections": {"connections": 0}}.items():
        with pytest.raises(ValueError, match=f"{key}: "):
            Smtp("mail.test", **given)  # type: ignore[arg-type]


def test_a_password_in_the_clear_is_warned_of() -> None:
    smtp = Smtp("mail.test", security="none", username="me", password=Secret("x"))
    adapter = EmailAdapter(Account("mail", "email"), Settings("a@shop.test", smtp=smtp), None)  # type: ignore[arg-type]
    assert [key for key, _ in adapter.advice()] == ["smtp.security"]


# --- sizes ------------------------------------------------------------------------------------------------------------


def with_file(tmp_path: Path, size: int, url: str = "") -> OutboundMessage:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"x" * size)
    file = OutboundFile(
        kind="video", media_type="video/mp4", filename="film.mp4", size=size, open_path=str(path), url=url
    )
    return msgspec.structs.replace(MESSAGE, html="<html><body><p>Hello</p></body></html>", files=(file,))


async def test_what_is_larger_than_the_server_takes_goes_as_a_link(tmp_path: Path) -> None:
    async with MailWorld(max_bytes=50_000) as world, relay(world) as adapter:
        sent = await adapter.send(with_file(tmp_path, 100_000, "https://gw.test/media/abc"))
        (mail,) = world.sends
        assert sent.note == "the files went as links"
        assert mail.text.startswith("Hello\n\nfilm.mp4 (97.7 KiB):\nhttps://gw.test/media/abc")
        assert '<a href="https://gw.test/media/abc"' in mail.html
        assert mail.message_id == "t.abc@shop.test"
        assert mail.options == (f"SIZE={len(mail.raw)}",)


async def test_a_file_without_an_address_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    async with MailWorld(max_bytes=50_000) as world, relay(world) as adapter:
        error = await refused(adapter, with_file(tmp_path, 100_000))
        assert (error.error_class, error.code) == ("permanent", "5.3.4")
        assert world.calls == 0


async def test_too_big_at_the_end_is_sent_again_with_links_over_the_same_connection(tmp_path: Path) -> None:
    async with MailWorld() as world, relay(world) as adapter:
        world.fail_next("552")
        sent = await adapter.send(with_file(tmp_path, 1000, "https://gw.test/media/abc"))
        assert sent.note
        (mail,) = world.sends
        assert mail.connection == 1
        assert "https://gw.test/media/abc" in mail.text


# --- recipients -------------------------------------------------------------------------------------------------------


async def test_an_address_beyond_ascii_needs_a_server_that_takes_it() -> None:
    async with MailWorld(smtputf8=True) as world, relay(world) as adapter:
        await adapter.send(to("jörg@bücher.test"))
        (mail,) = world.sends
        assert mail.recipients == ("jörg@xn--bcher-kva.test",)
        assert "SMTPUTF8" in mail.options
        assert "To: jörg@xn--bcher-kva.test".encode() in mail.raw
    async with MailWorld(smtputf8=False) as world, relay(world) as adapter:
        error = await refused(adapter, to("jörg@customer.test"))
        assert (error.error_class, error.code) == ("bad-recipient", "5.6.7")
        await adapter.send(to("ann@bücher.test"))  # a domain alone has an ASCII form
        assert "SMTPUTF8" not in world.sends[0].options


async def test_a_copy_that_cannot_go_keeps_nobody_else_from_the_mail() -> None:
    async with MailWorld(smtputf8=False) as world, relay(world) as adapter:
        world.refuse("gone@customer.test", "550 5.1.1 no such user")
        sent = await adapter.send(to("ann@customer.test", cc=("jörg@customer.test", "gone@customer.test", "nonsense")))
        assert {who: why.split()[0] for who, why in sent.refused.items()} == {
            "jörg@customer.test": "5.6.7", "gone@customer.test": "550", "nonsense": "5.1.3",
        }  # fmt: skip
        assert world.sends[0].recipients == ("ann@customer.test",)


async def test_the_queue_id_is_kept() -> None:
    async with MailWorld() as world, relay(world) as adapter:
        assert (await adapter.send(MESSAGE)).request_id == "2.0.0 queued as 1"


# --- the table of answers ---------------------------------------------------------------------------------------------

ANSWERS: dict[str, tuple[str, str | None]] = {  # at RCPT -> class, what must wait
    # temporary
    "421 4.3.2 shutting down": ("retry", None),
    "450 4.3.1 full disk": ("retry", None),
    "451 4.4.2 connection dropped": ("retry", None),
    "450 try later": ("retry", None),
    "451 try later": ("retry", None),
    "452 try later": ("retry", None),
    "499 4.9.9 whatever": ("retry", None),
    # too fast
    "421 4.7.0 rate": ("throttle", "endpoint"),
    "450 4.7.2 slow down": ("throttle", "endpoint"),
    "421 4.7.28 unusual rate of mail": ("throttle", "endpoint"),
    "451 4.7.32 no alignment": ("throttle", "endpoint"),
    "452 4.5.3 too many recipients": ("throttle", "endpoint"),
    "451 too many messages": ("throttle", "endpoint"),
    "421 you are throttled": ("throttle", "endpoint"),
    # greylisting
    "451 4.7.1 try again": ("retry", None),
    "450 4.2.0 try again": ("retry", None),
    "450 greylisted": ("retry", None),
    # the recipient
    "452 4.2.2 mailbox full": ("retry", None),
    "550 5.1.0 address": ("bad-recipient", None),
    "550 5.1.1 no such user": ("bad-recipient", None),
    "550 5.1.2 no such host": ("bad-recipient", None),
    "550 5.1.3 syntax": ("bad-recipient", None),
    "550 5.1.6 moved": ("bad-recipient", None),
    "550 5.1.10 null MX": ("bad-recipient", None),
    "550 5.2.1 disabled": ("bad-recipient", None),
    "550 user unknown": ("bad-recipient", None),
    "551 not here": ("bad-recipient", None),
    "553 no": ("bad-recipient", None),
    "552 5.2.2 full": ("bad-recipient", None),
    # ours
    "550 5.1.7 bad sender": ("permanent", None),
    "550 5.1.8 sender's host": ("permanent", None),
    "501 syntax": ("permanent", None),
    "503 bad sequence": ("permanent", None),
    "504 parameter": ("permanent", None),
    "555 parameter": ("permanent", None),
    "550 5.5.4 argument": ("permanent", None),
    "550 5.6.1 media": ("permanent", None),
    # too big
    "552 5.2.3 too big": ("permanent", None),
    "552 5.3.4 too big": ("permanent", None),
    "552 too big": ("permanent", None),
    # the lane
    "530 5.7.0 authenticate": ("auth", "account"),
    "534 5.7.9 mechanism": ("auth", "account"),
    "535 5.7.8 credentials": ("auth", "account"),
    "538 5.7.11 encryption": ("auth", "account"),
    "550 5.7.8 credentials": ("auth", "account"),
    "550 5.7.9 mechanism": ("auth", "account"),
    "550 5.7.11 encryption": ("auth", "account"),
    # policy
    "550 5.7.1 relaying denied": ("policy", None),
    "550 5.7.5 crypto": ("policy", None),
    "550 5.7.7 integrity": ("policy", None),
    "550 5.7.20 no DKIM": ("policy", None),
    "550 5.7.26 unauthenticated": ("policy", None),
    "550 5.7.29 arc": ("policy", None),
    "550 5.7.515 access denied": ("policy", None),
    "550 spam": ("policy", None),
    "554 blocked, see RBL": ("policy", None),
    "554 DMARC": ("policy", None),
    # the domain
    "550 5.4.1 no route": ("bad-recipient", None),
    "550 5.4.4 no domain": ("bad-recipient", None),
    "554 5.4.6 loop": ("bad-recipient", None),
    "556 null MX": ("bad-recipient", None),
    "599 5.9.9 whatever": ("permanent", None),
}


@pytest.mark.parametrize(("answer", "expected"), ANSWERS.items(), ids=ANSWERS)
def test_what_an_answer_means(answer: str, expected: tuple[str, str | None]) -> None:
    error = refusal(int(answer[:3]), answer[4:], "rcpt")
    assert (error.error_class, error.pause, error.certain) == (*expected, True)


STAGES: dict[tuple[Stage, str], tuple[str, str | None]] = {  # the same code means another thing elsewhere
    ("connect", "554 5.7.1 blocked, see RBL"): ("throttle", "account"),
    ("connect", "550 5.1.1 whatever"): ("throttle", "account"),
    ("connect", "421 too busy"): ("retry", None),
    ("login", "550 5.1.1 whatever"): ("auth", "account"),
    ("login", "454 4.7.0 later"): ("throttle", "endpoint"),
    ("mail", "550 5.1.1 sender unknown"): ("permanent", None),
    ("mail", "530 5.7.0 authenticate"): ("auth", "account"),
    ("data", "550 5.7.1 spam"): ("policy", None),
    ("data", "550 5.1.1 gone"): ("bad-recipient", None),
}


@pytest.mark.parametrize(("said", "expected"), STAGES.items(), ids=str)
def test_where_it_was_said_matters(said: tuple[Stage, str], expected: tuple[str, str | None]) -> None:
    error = refusal(int(said[1][:3]), said[1][4:], said[0])
    assert (error.error_class, error.pause, error.certain) == (*expected, True)


@pytest.mark.parametrize(
    ("stage", "answer", "error_class"),
    [
        ("connect", "554 5.3.2 no service here", "throttle"),
        ("ehlo", "550 5.7.1 who are you", "throttle"),
        ("mail", "550 5.1.8 no such sender", "permanent"),
        ("mail", "451 4.3.0 later", "retry"),
        ("rcpt", "450 4.2.0 greylisted", "retry"),
    ],
)
async def test_over_a_real_connection(stage: MailStage, answer: str, error_class: str) -> None:
    async with MailWorld() as world, relay(world) as adapter:
        world.answer_next(stage, answer, 2)  # a server that takes no EHLO is asked by HELO too
        error = await refused(adapter)
        assert error.error_class == error_class
        assert world.sends == []


WAITS = {"451 4.7.1 greylisted": 300, "452 4.2.2 full": 3600, "450 4.3.0 later": None}


@pytest.mark.parametrize(("answer", "wait_s"), WAITS.items(), ids=WAITS)
def test_how_long_to_wait_at_least(answer: str, wait_s: float | None) -> None:
    assert refusal(int(answer[:3]), answer[4:], "rcpt").retry_after_s == wait_s


SUPPRESSED = {  # as reported, or as answered -> after how many failures, for how long
    "5.1.1": Suppress(1, None),
    "550 5.1.1 no such user": Suppress(1, None),
    "5.1.10": Suppress(1, None),
    "5.1.2": Suppress(3, timedelta(days=90)),
    "550 5.2.1": Suppress(3, timedelta(days=180)),
    "5.2.2": None,
    "5.7.26": None,
    "5.4.4": None,
    "4.2.2": None,
    "450": None,
    "": None,
    "what": None,
}


@pytest.mark.parametrize(("code", "expected"), SUPPRESSED.items(), ids=SUPPRESSED)
def test_whom_to_leave_alone(code: str, expected: Suppress | None) -> None:
    rule = rule_of(RULES, code)
    assert (rule.suppress if rule is not None else None) == expected


def test_greylisting_is_waited_out_longer_each_time() -> None:
    error = refusal(451, "4.7.1 greylisted", "rcpt")
    assert error.rule is not None
    waits = [error.rule.wait_after(tries) for tries in (1, 2, 3, 4)]
    assert waits == [timedelta(minutes=minutes) for minutes in (5, 10, 20, 20)]
