"""Mail going out: what is written, what the relay's answers mean, and what is certain when the line breaks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import Ambiguous, SendError, Sent, Throttled, Unreachable
from adapters._mail_build import BuiltMail, build
from adapters._smtp_client import Smtp
from adapters._smtp_results import refusal, rule_for
from adapters.email import EmailAdapter, Settings
from adapters.sandbox._mail_server import MailFault
from adapters.sandbox.smtp import MailWorld
from config.secret import Secret
from normalizers._fields import clean
from normalizers._mime import parse
from normalizers._mime_text import decode_words, one_line
from normalizers.model import Account, Address, MailHeaders, OutboundFile, OutboundMessage

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
OWN = frozenset({"support@shop.test", "help@shop.test"})
LONG = "<" + "x" * 90 + "@mail.outlook.test>"


def to(*addresses: str) -> tuple[Address, ...]:
    return tuple(Address("email", "email", address, "everywhere") for address in addresses)


MAIL = MailHeaders(subject="Your order", message_id="<t.abc@shop.test>", sender_name="Ann (Shop)")
MESSAGE = OutboundMessage(
    id="m1", key="k1", account="mail", channel="email", to=to("ann@customer.test"), text="Hello", mail=MAIL
)


def built(message: OutboundMessage = MESSAGE, **mail: Any) -> BuiltMail:
    if mail:
        message = msgspec.structs.replace(message, mail=msgspec.structs.replace(MAIL, **mail))
    return build(message, "support@shop.test", "Shop", OWN, NOW)


def headers(mail: BuiltMail) -> dict[str, str]:
    return dict(parse(mail.raw).headers.fields)


def test_a_reply() -> None:
    mail = built(
        in_reply_to=LONG,
        references=("<root@customer.test>", LONG),
        reply_to="support+tabc@shop.test",
        cc=("bob@customer.test", "HELP+x@shop.test"),
        envelope_sender="b+v1@shop.test",
        loop_token="loop-1",
    )
    assert (mail.message_id, mail.envelope_sender, mail.recipients) == (
        "t.abc@shop.test",
        "b+v1@shop.test",
        ("ann@customer.test", "bob@customer.test"),
    )
    assert headers(mail) == {
        "content-type": 'text/plain; charset="utf-8"',
        "content-transfer-encoding": "7bit",
        "mime-version": "1.0",
        "from": '"Ann (Shop)" <support@shop.test>',
        "subject": "Re: Your order",
        "date": "Sun, 22 Nov 2026 12:00:00 +0000",
        "message-id": "<t.abc@shop.test>",
        "in-reply-to": LONG,
        "references": f"<root@customer.test> {LONG}",
        "reply-to": "support+tabc@shop.test",
        "x-gateway-loop": "loop-1",
        "to": "ann@customer.test",
        "cc": "bob@customer.test",
    }


def test_automatic_mail_has_the_manners_of_rfc_3834() -> None:
    answer = built(automatic=True, in_reply_to="<c@customer.test>", envelope_sender="b@shop.test")
    note = built(automatic=True)
    assert answer.envelope_sender == note.envelope_sender == ""
    assert headers(answer)["auto-submitted"] == "auto-replied"
    assert headers(note)["auto-submitted"] == "auto-generated"
    assert headers(note)["x-auto-response-suppress"] == "All"


def test_text_html_images_and_files(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"%PDF")
    path = str(tmp_path / "f")
    image = OutboundFile(
        kind="image", media_type="image/png", filename="i.png", size=4, open_path=path, inline_id="i@x"
    )
    other = OutboundFile(kind="file", media_type="message/rfc822", filename="../é\r\n.pdf", size=4, open_path=path)
    message = msgspec.structs.replace(MESSAGE, text="", html='<p>Hi</p><img src="cid:i@x">', files=(image, other))
    mail = built(message)
    root = parse(mail.raw)
    assert [(part.path, part.media_type, part.disposition, part.filename) for part in root.leaves()] == [
        ("1.1", "text/plain", "", ""),
        ("1.2.1", "text/html", "", ""),
        ("1.2.2", "image/png", "inline", "i.png"),
        ("2", "application/octet-stream", "attachment", "é .pdf"),
    ]
    assert mail.raw == built(message).raw  # a repeat has the same bytes
    read = message_from_bytes(mail.raw, policy=policy.default)
    assert not [part for part in read.walk() if part.defects]


def test_a_time_ordered_key_dates_the_mail() -> None:
    message = msgspec.structs.replace(MESSAGE, key="019a9e00-0000-7000-8000-000000000000")
    later = build(message, "support@shop.test", "", OWN, datetime(2030, 1, 1, tzinfo=UTC))
    assert later.raw == build(message, "support@shop.test", "", OWN, NOW).raw


REFUSED = {  # message -> class, code
    "no headers": (msgspec.structs.replace(MESSAGE, mail=None), "permanent", "no-mail-headers"),
    "only ourselves": (
        msgspec.structs.replace(MESSAGE, to=to("Support+t1@shop.test")),
        "bad-recipient",
        "no-recipient",
    ),
    "no address": (msgspec.structs.replace(MESSAGE, to=to("nobody")), "bad-recipient", "5.1.3"),
    "two addresses in one": (msgspec.structs.replace(MESSAGE, to=to("a@b.test, c@d.test")), "bad-recipient", "5.1.3"),
    "a local part outside of ASCII": (msgspec.structs.replace(MESSAGE, to=to("jörg@b.test")), "bad-recipient", "5.6.7"),
    "too large": (
        msgspec.structs.replace(
            MESSAGE, file=OutboundFile(kind="file", media_type="a/b", filename="f", size=19 * 2**20)
        ),
        "permanent",
        "5.3.4",
    ),
    "a file gone": (
        msgspec.structs.replace(
            MESSAGE, file=OutboundFile(kind="file", media_type="a/b", filename="f", size=1, open_path="/nowhere/f")
        ),
        "permanent",
        "no-file",
    ),
}


@pytest.mark.parametrize(("message", "error_class", "code"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_written(message: OutboundMessage, error_class: str, code: str) -> None:
    with pytest.raises(SendError) as caught:
        built(message)
    assert (caught.value.error_class, caught.value.code, caught.value.certain) == (error_class, code, True)


HOSTILE = (
    "=?utf-8?q?=0D=0ABcc:_x@evil.test?=",
    "a\r\nBcc: x@evil.test",
    "a\u2028Bcc: x@evil.test\u0085\0",
    "x" * 2000,
    '"; <evil@x.test>, b@c.test',
    "Bücher, Kaffee & <mehr> " * 10,
    "\ud800",
)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_becomes_a_header(text: str) -> None:
    mail = built(subject=text, sender_name=text, loop_token=text, message_id="<t.abc@shop.test>")
    assert set(headers(mail)) <= {
        "content-type", "content-transfer-encoding", "mime-version", "from", "to", "subject", "date", "message-id",
        "x-gateway-loop",
    }  # fmt: skip
    assert max(map(len, mail.raw.split(b"\r\n"))) <= 998
    assert mail.recipients == ("ann@customer.test",)


@given(st.text(max_size=300), st.text(max_size=80), st.text(max_size=500))
def test_any_words_can_be_sent(subject: str, name: str, text: str) -> None:
    message = msgspec.structs.replace(MESSAGE, text=text)
    mail = built(
        msgspec.structs.replace(message, mail=msgspec.structs.replace(MAIL, subject=subject, sender_name=name))
    )
    assert "".join(decode_words(headers(mail)["subject"]).split()) == "".join(one_line(clean(subject)).split())
    assert b"\n" not in mail.raw.replace(b"\r\n", b"")


ANSWERS = {  # answer -> class, pause
    "421 4.7.0 too many connections": ("throttle", "endpoint"),
    "450 4.2.0 greylisted": ("retry", None),
    "451 4.7.1 greylisting in action": ("retry", None),
    "450 4.7.28 unusual rate": ("throttle", "endpoint"),
    "451 4.3.0 temporary": ("retry", None),
    "452 4.2.2 mailbox full": ("retry", None),
    "452 4.5.3 too many recipients": ("throttle", "endpoint"),
    "499 what": ("retry", None),
    "530 5.7.0 must issue STARTTLS first": ("auth", "account"),
    "535 5.7.8 bad credentials": ("auth", "account"),
    "550 5.1.1 no such user": ("bad-recipient", None),
    "550 user unknown": ("bad-recipient", None),
    "550 5.2.2 full": ("bad-recipient", None),
    "550 5.4.6 loop": ("bad-recipient", None),
    "552 5.3.4 too big": ("permanent", None),
    "550 5.7.26 unauthenticated": ("policy", None),
    "550 5.7.1 spam": ("policy", None),
    "554 blocked by RBL": ("policy", None),
    "501 5.5.4 syntax": ("permanent", None),
    "550 5.6.7 SMTPUTF8 needed": ("permanent", None),
    "599 what": ("permanent", None),
}


@pytest.mark.parametrize(("answer", "expected"), ANSWERS.items(), ids=ANSWERS)
def test_answers(answer: str, expected: tuple[str, str | None]) -> None:
    error = refusal(int(answer[:3]), answer[4:], "rcpt")
    assert (error.error_class, error.pause, error.certain) == (*expected, True)


def test_a_server_that_turns_the_connection_away_fails_no_message() -> None:
    assert refusal(554, "5.3.2 no service here", "connect").error_class == "throttle"
    assert refusal(550, "disabled", "login").error_class == "auth"
    assert rule_for(550, "5.1.1 x")[0] == "550 5.1.1"


# --- over real sockets ------------------------------------------------------------------------------------------------


@pytest.fixture
async def world() -> AsyncIterator[MailWorld]:
    async with MailWorld() as world:
        yield world


def adapter(port: int, **smtp: Any) -> EmailAdapter:
    settings = Settings("support@shop.test", smtp=Smtp("127.0.0.1", port, **({"security": "none"} | smtp)))
    return EmailAdapter(Account("mail", "email"), settings, None)  # type: ignore[arg-type]


async def test_sent(world: MailWorld) -> None:
    dotted = msgspec.structs.replace(MESSAGE, text=".one\n..two\n\n.\nend")
    sent = await adapter(world.port).send(dotted)
    assert sent == Sent("t.abc@shop.test", request_id="2.0.0 queued as 1")
    (mail,) = world.sends
    assert (mail.message_id, mail.sender, mail.recipients) == (
        "t.abc@shop.test",
        "support@shop.test",
        ("ann@customer.test",),
    )
    assert mail.text == ".one\n..two\n\n.\nend"


async def test_some_recipients_refused(world: MailWorld) -> None:
    world.refuse("gone@customer.test")
    sent = await adapter(world.port).send(
        msgspec.structs.replace(MESSAGE, to=to("ann@customer.test", "gone@customer.test"))
    )
    assert sent.refused == {"gone@customer.test": "550 5.1.1 no such user"}
    assert world.sends[0].recipients == ("ann@customer.test",)


async def test_all_recipients_refused(world: MailWorld) -> None:
    world.refuse("ann@customer.test", "450 4.2.0 greylisted")
    with pytest.raises(SendError) as caught:
        await adapter(world.port).send(MESSAGE)
    assert (caught.value.error_class, caught.value.certain, caught.value.retry_after_s) == ("retry", True, 300)


FAULTS: dict[MailFault, tuple[type[SendError], str, bool, int]] = {  # -> error, class, certain, mails taken
    "451": (SendError, "retry", True, 0),
    "greylist": (SendError, "retry", True, 0),
    "421": (SendError, "retry", True, 0),
    "552": (SendError, "permanent", True, 0),
    "550": (SendError, "policy", True, 0),
    "drop_before_dot": (Unreachable, "retry", True, 0),
    "drop_after_dot": (Ambiguous, "unknown", False, 1),
    "reset": (Ambiguous, "unknown", False, 0),
    "garbage": (Ambiguous, "unknown", False, 1),
}


@pytest.mark.parametrize(("fault", "expected"), FAULTS.items(), ids=FAULTS)
async def test_faults(world: MailWorld, fault: MailFault, expected: tuple[type[SendError], str, bool, int]) -> None:
    world.fail_next(fault)
    lines = 100_000 if fault == "drop_before_dot" else 1  # still on its way when the connection is reset
    with pytest.raises(SendError) as caught:
        await adapter(world.port).send(msgspec.structs.replace(MESSAGE, text="a line of text\n" * lines))
    error = caught.value
    assert (type(error), error.error_class, error.certain, len(world.sends)) == expected
    assert len(world.sends_of("t.abc@shop.test")) == expected[3]


async def test_no_answer_in_time(world: MailWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters._smtp_client.ANSWER_TIMEOUT_S", 0.05)
    world.fail_next("timeout_after_accept")
    with pytest.raises(Ambiguous) as caught:
        await adapter(world.port).send(MESSAGE)
    assert caught.value.code == "timeout"


async def test_nobody_listens(unused_tcp_port: int) -> None:
    with pytest.raises(Unreachable):
        await adapter(unused_tcp_port).send(MESSAGE)


async def test_a_relay_without_tls_is_not_spoken_to_in_the_clear(world: MailWorld) -> None:
    with pytest.raises(SendError) as caught:
        await adapter(world.port, security="starttls").send(MESSAGE)
    assert caught.value.certain
    assert world.calls == 0


async def test_probe(world: MailWorld) -> None:
    await adapter(world.port).probe()
    with pytest.raises(SendError) as caught:
        await adapter(world.port, username="me", password=Secret("s3cret-canary")).probe()
    assert caught.value.error_class == "auth"
    assert "s3cret-canary" not in str(caught.value)


async def test_no_relay() -> None:
    receiving = EmailAdapter(Account("mail", "email"), Settings("support@shop.test"), None)  # type: ignore[arg-type]
    with pytest.raises(SendError) as caught:
        await receiving.send(MESSAGE)
    assert (caught.value.error_class, caught.value.code) == ("permanent", "no-smtp")


def test_settings() -> None:
    with pytest.raises(ValueError, match="port: "):
        replace(Smtp("h"), port=0)
    with pytest.raises(ValueError, match="username: "):
        Smtp("h", username="me")
    assert issubclass(Throttled, SendError)
