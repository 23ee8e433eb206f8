"""The SMTP receiver: mail from the edge server is answered 250 only once it is durable.

Every fault of ours is 451, so that the sender keeps the mail and tries again: a 5xx would bounce it. Runs on the
gateway's own loop. Who greets with LHLO speaks LMTP, on the same port: each recipient gets an answer of its own after
the mail. Sources: RFC 5321, 1870 (SIZE), 2033 (LMTP), 6531 (SMTPUTF8), 3463 (codes); aiosmtpd 1.4.6.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

from aiosmtpd.smtp import SMTP, Envelope, Session

from config.settings import SmtpSettings

Resolve = Callable[[str], str | None]
"""From a recipient's address (plus tag included) to the id of the account it belongs to."""

Keep = Callable[[str, dict[str, str], bytes], Awaitable[None]]
"""Store one mail: account id, envelope, raw bytes. Returns only once it is durable, raises when it cannot."""

IDLE_TIMEOUT_S = 120.0
KEEP_TIMEOUT_S = 60.0
DRAIN_TIMEOUT_S = 20.0
READ_AHEAD = 256 * 1024  # bytes read at once; no limit of a line
COMMANDS_MAX = {"*": 100_000, "NOOP": 200, "VRFY": 20, "HELP": 20, "EHLO": 50, "HELO": 50, "LHLO": 50, "STARTTLS": 5}
_END = b".\r\n"

log = logging.getLogger(__name__)


class SmtpReceiver:
    """Listens, resolves recipients, keeps mails. One mail to several of our addresses is kept once, for the first."""

    def __init__(self, settings: SmtpSettings, resolve: Resolve, keep: Keep) -> None:
        self.settings, self.resolve, self.keep = settings, resolve, keep
        self.held = 0  # bytes of mails being received or kept
        self.stopping = False
        self.sessions: set[_Session] = set()
        self._server: asyncio.Server | None = None
        self._idle = asyncio.Event()
        logging.getLogger("mail.log").setLevel(logging.ERROR)  # the library logs addresses

    @property
    def port(self) -> int:
        """The port bound; port 0 in the settings picks a free one."""
        if self._server is None:
            raise RuntimeError("the receiver is not started")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen. Raises `OSError` when the port is taken."""
        host, _, port = self.settings.listen.rpartition(":")
        loop = asyncio.get_running_loop()
        self.stopping = False
        self._server = await loop.create_server(self._connection, host.strip("[]"), int(port), backlog=512)

    async def stop(self, drain_s: float = DRAIN_TIMEOUT_S) -> None:
        """Take no more mail; those being received may finish within `drain_s` seconds, then connections are cut."""
        if self._server is None:
            return
        self.stopping = True
        self._server.close()
        for session in list(self.sessions):
            session.dismiss()
        with suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                while self.sessions:
                    self._idle.clear()
                    await self._idle.wait()
        for session in list(self.sessions):
            session.abort()
        await asyncio.gather(*(session.ended() for session in list(self.sessions)), return_exceptions=True)
        self._server = None

    def left(self, session: _Session) -> None:
        """A connection is gone."""
        self.sessions.discard(session)
        self._idle.set()

    def _connection(self) -> asyncio.BaseProtocol:
        if self.stopping or len(self.sessions) >= self.settings.max_connections:
            return _Busy()
        session = _Session(self)
        self.sessions.add(session)
        return session

    # --- what the SMTP library calls ----------------------------------------------------------------------------------

    async def handle_RCPT(
        self, server: _Session, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Whether an address is one of ours. All go into the envelope: the first decides the account."""
        if not _printable(address):
            return "553 5.1.3 bad address syntax"
        if address.lower() == "postmaster":  # the one address that needs no domain (RFC 5321, 4.5.1): our own
            address = f"{address}@{self.settings.hostname}"
        if self.resolve(address) is None:
            return "550 5.1.1 no such mailbox"
        if address in envelope.rcpt_tos and not server.lmtp:  # by LMTP each one accepted is answered once more
            return "250 2.1.5 ok"
        if len(envelope.rcpt_tos) >= self.settings.max_recipients:
            return "452 4.5.3 too many recipients"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:
        """250 once the mail is durable, 451 for anything else."""
        account = self.resolve(envelope.rcpt_tos[0])
        if account is None:  # unknown since a moment: the next try will hear it
            return "451 4.3.0 temporary failure, try again"
        headers = {
            "envelope-from": _clean((envelope.mail_from or "").removeprefix("<>")),  # empty for bounces
            "envelope-to": " ".join(dict.fromkeys(envelope.rcpt_tos)),
            "peer": str(session.peer[0]) if session.peer else "",
            "helo": _clean(session.host_name or "")[:255],
        }
        assert isinstance(envelope.content, bytes)
        async with asyncio.timeout(KEEP_TIMEOUT_S):
            await self.keep(account, headers, envelope.content)
        return "250 2.0.0 stored"

    async def handle_exception(self, error: Exception) -> str:
        """A fault of ours is temporary for the sender, and none of its words leave the house."""
        log.error("smtp_failed", extra={"error": type(error).__name__})
        return "451 4.3.0 temporary failure, try again"


def _printable(address: str) -> bool:
    """No blanks and controls (the envelope separates by blanks), and no bytes that were not UTF-8."""
    return address.isprintable() and " " not in address


def _clean(text: str) -> str:
    return "".join(char for char in text if char.isprintable())


class _Busy(asyncio.Protocol):
    """Turns a connection away: try again later."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's transports do not derive from it
        transport.write(b"421 4.3.2 too many connections, try again later\r\n")
        transport.close()


class _Session(SMTP):
    """One connection. Reads a mail in large pieces, of lines of any length, within the budget of all mails."""

    line_length_limit = READ_AHEAD  # of the stream's buffer; a longer line is read in pieces

    def __init__(self, receiver: SmtpReceiver) -> None:
        self._receiver = receiver
        self.lmtp = False
        self._busy = False
        self._held = 0  # bytes of the mail being received or kept
        settings = receiver.settings
        super().__init__(
            receiver,
            data_size_limit=settings.max_bytes,
            enable_SMTPUTF8=True,
            hostname=settings.hostname,
            ident="ESMTP",
            timeout=IDLE_TIMEOUT_S,
            command_call_limit=COMMANDS_MAX,
            auth_exclude_mechanism=("LOGIN", "PLAIN"),
            loop=asyncio.get_running_loop(),
        )
        self.command_size_limits = defaultdict(lambda: 4096)  # bytes; long addresses with options

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._receiver.left(self)

    def dismiss(self) -> None:
        """Say good-bye at once, or after the mail being received."""
        if not self._busy and self.transport is not None:
            transport = cast("asyncio.Transport", self.transport)
            transport.write(b"421 4.3.2 shutting down\r\n")
            transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            cast("asyncio.Transport", self.transport).abort()

    async def ended(self) -> None:
        task: asyncio.Task[Any] | None = self._handler_coroutine
        if task is not None:
            await asyncio.wait([task], timeout=1.0)

    async def smtp_LHLO(self, arg: str) -> None:
        """The greeting of LMTP; the library's own server for it sends one answer for all recipients."""
        self.lmtp = bool(arg) or self.lmtp
        await self.smtp_EHLO(arg)

    async def smtp_DATA(self, arg: str) -> None:
        """The library's own DATA keeps a list of lines and refuses long ones for good; this one does neither."""
        if await self.check_helo_needed():
            return
        session, envelope = self.session, self.envelope
        assert session is not None
        assert envelope is not None
        if not envelope.rcpt_tos:
            await self.push("503 5.5.1 need RCPT first")
            return
        if arg:
            await self.push("501 5.5.4 DATA takes no argument")
            return
        if self._receiver.held >= self._receiver.settings.budget_bytes:
            await self.push("452 4.3.1 busy, try again later")
            return
        await self.push("354 end with a dot on a line of its own")
        self._busy = True
        try:
            status = await self._read_mail(envelope)
            if not status:
                status = await self._receiver.handle_DATA(self, session, envelope)
        except Exception as error:
            status = await self._receiver.handle_exception(error)
        finally:
            self._release()
            self._busy = False
            envelope.content = envelope.original_content = None
        answers = len(envelope.rcpt_tos) if self.lmtp else 1
        self._set_post_data_state()  # type: ignore[no-untyped-call]
        for _ in range(answers):
            await self.push(status)
        if self._receiver.stopping:
            self.dismiss()

    async def _read_mail(self, envelope: Envelope) -> str:
        """Read up to the final dot, which only stands between two full line ends (anything else smuggles mails in).

        Too much is read to its end and thrown away. Returns the refusal, or "" with the mail in the envelope.
        """
        content = bytearray()
        receiver, refusal = self._receiver, ""
        while True:
            try:
                piece = await self._reader.readuntil(_END)
            except asyncio.LimitOverrunError as overrun:
                piece = await self._reader.read(overrun.consumed)
            self._reset_timeout()
            content += piece
            if not refusal:
                self._held += len(piece)
                receiver.held += len(piece)
                if self._held > receiver.settings.max_bytes + len(_END):
                    refusal = "552 5.3.4 message too big"
                elif receiver.held > receiver.settings.budget_bytes:
                    refusal = "452 4.3.1 busy, try again later"
            if content.endswith(b"\r\n.\r\n") or content == _END:
                break
            if refusal:
                self._release()
                del content[:-5]
        if not refusal:
            del content[-len(_END) :]
            if content.startswith(b"."):
                del content[:1]
            envelope.content = bytes(content).replace(b"\r\n.", b"\r\n")  # a line's first dot is the sender's
        return refusal

    def _release(self) -> None:
        self._receiver.held -= self._held
        self._held = 0
