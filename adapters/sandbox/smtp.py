"""The customers' mail servers: takes our replies, refuses by script, and lets customers write to us.

async with MailWorld() as world:
    world.refuse("gone@customer.test", "550 5.1.1 no such user")
    world.fail_next("drop_after_dot")
    world.answer_next("mail", "451 4.3.0 try again later")
    await world.customer_writes(port, "ann@customer.test", "support@shop.test", subject="Hi", text="Hello")
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime
from html import escape
from typing import Self, get_args

import aiosmtplib
from aiosmtpd.smtp import SMTP, Envelope, Session

from adapters.sandbox._certificates import certified
from adapters.sandbox._mail_server import MailFault, MailStage, MailTls, Peer
from normalizers._mime import Headers, Part, parse
from normalizers._mime_body import body_of
from normalizers._mime_text import domain_of, message_ids

ACCEPTING: frozenset[MailFault] = frozenset(
    {"timeout_after_accept", "drop_after_dot", "reset_after_accept", "slow", "garbage"}
)
_ANSWERS: Mapping[str, str] = {
    "421": "421 4.3.2 closing, try again later",
    "451": "451 4.3.0 try again later",
    "greylist": "451 4.7.1 greylisted, try again in 5 minutes",
    "552": "552 5.3.4 message too big",
    "550": "550 5.7.1 refused as spam",
    "554": "554 5.7.1 refused by policy",
}


@dataclass(frozen=True, slots=True)
class Delivered:
    """One mail of ours a customer's server took."""

    message_id: str
    sender: str  # of the envelope
    recipients: tuple[str, ...]
    raw: bytes
    headers: Headers
    text: str
    html: str
    connection: int = 0  # which one it came over, counted from 1
    secured: bool = False  # by TLS
    options: tuple[str, ...] = ()  # of MAIL: SIZE=..., SMTPUTF8


@dataclass(frozen=True, slots=True)
class Written:
    """One mail a customer sent us, and how our side answered."""

    message_id: str
    raw: bytes
    answer: str  # "250 2.0.0 stored"


@dataclass(slots=True)
class _Script:
    refusals: dict[str, str] = field(default_factory=dict)
    faults: deque[MailFault] = field(default_factory=deque)
    answers: dict[MailStage, deque[str]] = field(default_factory=dict)


class MailWorld:
    """A mail server on loopback that stands for all others, and the customers behind it.

    As a relay it may want TLS, with a certificate that only who trusts `ca` accepts, and a login; `max_bytes` is the
    size it announces (RFC 1870), and `smtputf8` whether it takes addresses beyond ASCII (RFC 6531).
    """

    def __init__(
        self, *, port: int = 0, tls: MailTls = "none", login: tuple[str, str] | None = None, max_bytes: int = 0,
        smtputf8: bool = True, certificate_for: str = "127.0.0.1",
    ) -> None:  # fmt: skip
        self.sends: list[Delivered] = []
        self.connections = 0
        self.resets = 0  # RSET commands
        self.tls, self.login, self.max_bytes, self.smtputf8 = tls, login, max_bytes, smtputf8
        self.certified = None if tls == "none" else certified(host=certificate_for)
        self.calls = 0  # transfers begun, whatever became of them
        self.slow_s = 0.05
        self._port = port
        self._script = _Script()
        self._server: asyncio.Server | None = None
        self._stopping = asyncio.Event()
        self._gone = asyncio.Event()
        self._sessions: set[Peer] = set()

    # --- for tests and demos ------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        if self._server is None:
            raise RuntimeError("the mail server is not started")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def refuse(self, address: str, answer: str = "550 5.1.1 no such user") -> None:
        """Refuse this recipient from now on; an empty answer takes it again."""
        self._script.refusals[address.lower()] = answer

    def fail_next(self, kind: MailFault, times: int = 1) -> None:
        """Let the next `times` mails end in this fault; faults queue up in the order they are given."""
        if kind not in get_args(MailFault):
            raise ValueError(f"no fault named {kind!r}")
        self._script.faults.extend([kind] * times)

    def answer_next(self, stage: MailStage, answer: str, times: int = 1) -> None:
        """Answer the next `times` commands of this stage so, a refusal as a rule: "554 5.3.2 no service"."""
        self._script.answers.setdefault(stage, deque()).extend([answer] * times)

    def scripted(self, stage: MailStage) -> str:
        """The answer that is due at this stage, "" for the usual one."""
        waiting = self._script.answers.get(stage)
        return waiting.popleft() if waiting else ""

    @property
    def ca(self) -> str:
        """The certificate to trust (PEM); "" without TLS."""
        return self.certified.ca if self.certified is not None else ""

    @property
    def open_connections(self) -> int:
        """How many connections stand now."""
        return len(self._sessions)

    def cut_all(self) -> None:
        """Reset every connection, as a restart of the server does."""
        for session in list(self._sessions):
            session.cut()

    def sends_of(self, message_id: str) -> list[Delivered]:
        """What arrived under this Message-ID; more than one where a mail was repeated."""
        return [mail for mail in self.sends if mail.message_id == message_id]

    async def start(self) -> None:
        """Listen on loopback. Raises `OSError` when the port is taken."""
        loop = asyncio.get_running_loop()
        self._stopping.clear()
        at_once = self.certified.server if self.certified is not None and self.tls == "tls" else None
        self._server = await loop.create_server(lambda: Peer(self, loop), "127.0.0.1", self._port, ssl=at_once)

    async def stop(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is None:
            return
        self._stopping.set()
        self._server.close()
        self.cut_all()
        with suppress(TimeoutError):  # of a connection under TLS the library may not tell that it is gone
            async with asyncio.timeout(2):
                while self._sessions:
                    self._gone.clear()
                    await self._gone.wait()
        self._sessions.clear()
        self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # --- customers ----------------------------------------------------------------------------------------------------

    async def customer_writes(
        self,
        port: int,
        sender: str,
        to: str | Sequence[str],
        *,
        text: str = "",
        html: str = "",
        subject: str = "",
        name: str = "",
        cc: Sequence[str] = (),
        attachments: Sequence[tuple[str, str, bytes]] = (),
        reply_to: Delivered | None = None,
        headers: Mapping[str, str] | None = None,
        message_id: str = "",
        host: str = "127.0.0.1",
    ) -> Written:
        """A customer's mail to our receiver. `attachments`: (file name, media type, content).

        With `reply_to` it answers one of our mails as mail programs do: to its Reply-To, threaded, quoted below.
        """
        mail = self._mail(sender, name, message_id)
        recipients = [to] if isinstance(to, str) else list(to)
        if reply_to is not None:
            recipients = [reply_to.headers.get("reply-to") or recipient for recipient in recipients[:1]]
            subject = subject or f"Re: {reply_to.headers.get('subject').removeprefix('Re: ')}"
            chain = (*message_ids(reply_to.headers.get("references")), reply_to.message_id)
            mail["In-Reply-To"] = f"<{reply_to.message_id}>"
            mail["References"] = " ".join(f"<{entry}>" for entry in chain)
            text, html = _quoting(reply_to, text, html)
        mail["To"] = ", ".join(recipients)
        if cc:
            mail["Cc"] = ", ".join(cc)
        mail["Subject"] = subject
        for field_name, value in (headers or {}).items():
            mail[field_name] = value
        mail.set_content(text or "\n")
        if html:
            mail.add_alternative(html, subtype="html")
        for filename, media_type, content in attachments:
            main, _, sub = media_type.partition("/")
            mail.add_attachment(content, main, sub, filename=filename)
        return await self.hand_over(port, sender, recipients, mail.as_bytes(), host=host)

    async def out_of_office(self, port: int, sender: str, mail: Delivered, text: str = "I am away.") -> Written:
        """An absence note for one of our mails, as RFC 3834 wants it: to the envelope sender, from nobody."""
        note = self._mail(sender, "", "")
        recipient = mail.sender or mail.headers.get("reply-to") or mail.headers.get("from")
        note["To"] = recipient
        note["Subject"] = f"Automatic reply: {mail.headers.get('subject')}"
        note["In-Reply-To"] = f"<{mail.message_id}>"
        note["Auto-Submitted"] = "auto-replied"
        note.set_content(text)
        return await self.hand_over(port, "", [recipient], note.as_bytes())

    async def bounce(
        self, port: int, mail: Delivered, *, recipient: str = "", status: str = "5.1.1", action: str = "failed",
        detail: str = "550 5.1.1 no such user", to: str = "",
    ) -> Written:  # fmt: skip
        """A delivery report (RFC 3464) for one of our mails, to its envelope sender."""
        back_to = to or mail.sender
        report = self._mail("mailer-daemon@customer.test", "Mail Delivery System", "")
        report["To"] = back_to
        report["Subject"] = "Undelivered Mail Returned to Sender"
        report["Auto-Submitted"] = "auto-replied"
        head = report.as_bytes().split(b"\r\n\r\n")[0]
        lines = [
            "Reporting-MTA: dns; mx.customer.test",
            "",
            f"Final-Recipient: rfc822; {recipient or mail.recipients[0]}",
            f"Action: {action}",
            f"Status: {status}",
            f"Diagnostic-Code: smtp; {detail}",
        ]
        parts = (
            ("text/plain", f"Your mail could not be delivered.\r\n\r\n{detail}".encode()),
            ("message/delivery-status", "\r\n".join(lines).encode() + b"\r\n"),
            ("text/rfc822-headers", mail.raw.split(b"\r\n\r\n")[0] + b"\r\n"),
        )
        body = b"".join(b"--r\r\nContent-Type: %s\r\n\r\n%s\r\n" % (kind.encode(), text) for kind, text in parts)
        kind = b"Content-Type: multipart/report; report-type=delivery-status; boundary=r\r\nMIME-Version: 1.0"
        return await self.hand_over(port, "", [back_to], b"\r\n".join((head, kind, b"", body + b"--r--\r\n")))

    async def hand_over(
        self, port: int, sender: str, recipients: Sequence[str], raw: bytes, *, host: str = "127.0.0.1"
    ) -> Written:
        """Send raw bytes to our receiver. Raises aiosmtplib's errors when it refuses."""
        client = aiosmtplib.SMTP(hostname=host, port=port, start_tls=False, timeout=20, local_hostname="customer.test")
        async with client:
            _, answer = await client.sendmail(sender, list(recipients), raw)
        ids = message_ids(parse(raw).headers.get("message-id"))
        return Written(ids[0] if ids else "", raw, f"250 {answer}")

    def _mail(self, sender: str, name: str, message_id: str) -> EmailMessage:
        mail = EmailMessage(policy=policy.SMTP)
        mail["From"] = f"{name} <{sender}>" if name else sender
        mail["Date"] = format_datetime(datetime.now(UTC))
        mail["Message-ID"] = f"<{message_id or f'{uuid.uuid4().hex}@{domain_of(sender)}'}>"
        return mail

    # --- inside: what the SMTP library calls --------------------------------------------------------------------------

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if refusal := self._script.refusals.get(address.lower()) or self.scripted("rcpt"):
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_MAIL(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if refusal := self.scripted("mail"):
            return refusal
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 ok"

    async def handle_RSET(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:
        self.resets += 1
        return "250 2.0.0 ok"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:
        assert isinstance(server, Peer)
        fault = server.fault
        if fault is None or fault in ACCEPTING:
            self.sends.append(_delivered(envelope, server))
        match fault:
            case None:
                return f"250 2.0.0 queued as {len(self.sends)}"
            case "timeout" | "timeout_after_accept":
                await self._stopping.wait()
            case "drop_after_dot" | "reset_after_accept" | "reset" | "drop_before_dot":
                server.cut()
            case "slow":
                await asyncio.sleep(self.slow_s)
                return f"250 2.0.0 queued as {len(self.sends)}"
            case "garbage":
                return "what?"
            case _:
                return _ANSWERS[fault]
        return _ANSWERS["421"]  # to nobody: the connection is gone

    async def stopped(self) -> None:
        """Wait until the server stops."""
        await self._stopping.wait()

    def joined(self, session: Peer) -> int:
        self._sessions.add(session)
        self.connections += 1
        return self.connections

    def left(self, session: Peer) -> None:
        self._sessions.discard(session)
        self._gone.set()

    def next_fault(self) -> MailFault | None:
        """The fault of the mail that now begins."""
        self.calls += 1
        return self._script.faults.popleft() if self._script.faults else None


def _delivered(envelope: Envelope, peer: Peer) -> Delivered:
    raw = envelope.content if isinstance(envelope.content, bytes) else b""
    root: Part = parse(raw)
    body = body_of(root)
    ids = message_ids(root.headers.get("message-id"))
    return Delivered(
        ids[0] if ids else "",
        (envelope.mail_from or "").removeprefix("<>"),
        tuple(envelope.rcpt_tos),
        raw,
        root.headers,
        body.text,
        body.html,
        peer.number,
        peer.transport is not None and peer.transport.get_extra_info("sslcontext") is not None,
        tuple(envelope.mail_options),
    )


def _quoting(mail: Delivered, text: str, html: str) -> tuple[str, str]:
    """The answer with our mail quoted below it, as a common program does."""
    head = f"On Tue, May 12, 2026 at 10:00 AM {mail.headers.get('from')} wrote:"
    quoted = "\n".join(f"> {line}" for line in mail.text.splitlines())
    if html:
        html += f'<br><div class="gmail_quote"><div>{escape(head)}</div><blockquote>{mail.html}</blockquote></div>'
    return f"{text}\n\n{head}\n\n{quoted}\n", html
