"""Connections to a relay, kept for the next mails, and the transfer of one mail over one of them.

Sources: RFC 5321 (transfer, SIZE in 1870), 3207 (STARTTLS), 4954 (login), 6409 (submission), 6531 (SMTPUTF8).
"""

from __future__ import annotations

import asyncio
import ssl
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal, cast

from aiosmtplib import SMTP, SMTPException, SMTPHeloError, SMTPResponseException
from aiosmtplib.protocol import SMTPProtocol

from adapters._base import Sent
from adapters._errors import Ambiguous, SendError, Throttled, Unreachable
from adapters._mail_build import BuiltMail
from adapters._smtp_results import Stage, refusal, shortened
from config.secret import Secret

ROOM_TIMEOUT_S = 5.0  # until one of the connections is free
CONNECT_TIMEOUT_S = 10.0  # greeting, TLS and login included
TRANSFER_TIMEOUT_S = 30.0  # from MAIL FROM until the last byte before the final dot
ANSWER_TIMEOUT_S = 30.0  # for the answer to the final dot; later it is an unknown outcome
RESET_TIMEOUT_S = 3.0
MAILS_MAX = 100  # over one connection
IDLE_S = 60.0  # a connection nobody used for so long is closed
CHUNK = 64 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Smtp:
    """The relay that takes our mail."""

    host: str
    port: int = 587
    security: Literal["none", "starttls", "tls"] = "starttls"
    username: str = ""
    password: Secret | None = None
    ca: str = ""  # certificates (PEM) trusted instead of the machine's
    connections: int = 5  # at a time

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise ValueError("port: must be between 1 and 65535")
        if bool(self.username) != bool(self.password):
            raise ValueError("username: goes with a password" if self.username else "password: goes with a username")
        if not 0 < self.connections <= 100:
            raise ValueError("connections: must be between 1 and 100")
        try:
            self.tls()
        except (ssl.SSLError, TypeError, UnicodeError):  # or not even ASCII
            raise ValueError("ca: no certificates in PEM form") from None

    @property
    def secrets(self) -> tuple[str, ...]:
        """The password, as it is and as AUTH sends it: a server may quote it."""
        if self.password is None:
            return ()
        word = self.password.reveal()
        return (word, *(b64encode(text.encode()).decode() for text in (word, f"\0{self.username}\0{word}")))

    def tls(self) -> ssl.SSLContext | None:
        """What verifies the relay's certificate and name; None where nothing is encrypted."""
        return None if self.security == "none" else ssl.create_default_context(cadata=self.ca or None)


@dataclass(slots=True)
class _Kept:
    client: SMTP
    mails: int
    since: float  # monotonic


class Relay:
    """The connections of one account to its relay: few at a time, each serving many mails, none kept after an error."""

    def __init__(self, smtp: Smtp, hello: str) -> None:
        self._smtp, self._hello = smtp, hello
        self._room = asyncio.Semaphore(smtp.connections)
        self._idle: list[_Kept] = []
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[SMTP]:
        """A connection, greeted, secured and logged in, for the one who asks alone. Raises `SendError`."""
        try:
            async with asyncio.timeout(ROOM_TIMEOUT_S):
                await self._room.acquire()
        except TimeoutError:
            raise Throttled("busy", "every connection to the relay is in use", retry_after_s=5, pause=None) from None
        try:
            kept = await self._reused() or _Kept(await self._opened(), 0, 0.0)
            try:
                yield kept.client
            except BaseException:
                kept.client.close()
                raise
            kept.mails += 1
            self._keep(kept)
        finally:
            self._room.release()

    async def aclose(self) -> None:
        """Say goodbye to the relay."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._idle:
            client = self._idle.pop().client
            with suppress(SMTPException, OSError):
                await client.quit(timeout=1.0)
            client.close()

    async def _reused(self) -> _Kept | None:
        """The connection used last, if it still answers."""
        while self._idle:
            kept = self._idle.pop()
            if time.monotonic() - kept.since < IDLE_S and kept.client.is_connected:
                with suppress(SMTPException, OSError, TimeoutError):
                    await kept.client.rset(timeout=RESET_TIMEOUT_S)
                    return kept
            kept.client.close()
        return None

    def _keep(self, kept: _Kept) -> None:
        if kept.mails >= MAILS_MAX or not kept.client.is_connected:
            _leave(kept.client)
            return
        kept.since = time.monotonic()
        self._idle.append(kept)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(IDLE_S, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = time.monotonic()
        for kept in [kept for kept in self._idle if now - kept.since >= IDLE_S - 1]:
            self._idle.remove(kept)
            _leave(kept.client)
        if self._idle:
            next_at = min(kept.since for kept in self._idle) + IDLE_S
            self._timer = asyncio.get_running_loop().call_later(max(next_at - now, 1.0), self._expire)

    async def _opened(self) -> SMTP:
        smtp = self._smtp
        stage: Stage = "connect"
        client = SMTP(
            hostname=smtp.host,
            port=smtp.port,
            use_tls=smtp.security == "tls",
            start_tls=smtp.security == "starttls",
            tls_context=smtp.tls(),
            local_hostname=self._hello,
            timeout=CONNECT_TIMEOUT_S,
        )
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await client.connect()
                await _greet(client)
                if smtp.username and smtp.password is not None:
                    stage = "login"
                    await client.login(smtp.username, smtp.password.reveal())
        except BaseException as error:
            client.close()
            raise _problem(error, stage, smtp.secrets) from None
        return client


async def _greet(client: SMTP) -> None:
    """EHLO, so that we know what the server takes; HELO to one too old for it."""
    if client.is_ehlo_or_helo_needed:
        try:
            await client.ehlo()
        except SMTPHeloError:
            if not client.is_connected:
                raise
            await client.helo()


def _problem(error: BaseException, stage: Stage, secrets: Iterable[str]) -> BaseException:
    """What trouble before MAIL means: nothing was sent, and the whole lane is concerned."""
    if isinstance(error, SMTPResponseException):
        return refusal(error.code, error.message, stage, secrets)
    if (certificate := _certificate(error)) is not None:
        return SendError("auth", "certificate", certificate.verify_message, pause="account")
    if isinstance(error, SMTPException | OSError | TimeoutError | UnicodeError):
        if stage == "login" and not isinstance(error, OSError):
            return SendError("auth", "login", _words(error, secrets), pause="account")
        return Unreachable(_words(error, secrets))
    return error


def _certificate(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """The fault of the relay's certificate that lies behind an error; the library may wrap it."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__
    return error


def _leave(client: SMTP) -> None:
    """Close a connection without waiting for the goodbye."""
    if client.is_connected and client.transport is not None:
        cast("asyncio.WriteTransport", client.transport).write(b"QUIT\r\n")
    client.close()


# --- one mail ---------------------------------------------------------------------------------------------------------


def size_limit(client: SMTP) -> int | None:
    """The largest mail the server says it takes, in bytes (RFC 1870), None when it sets no limit."""
    stated = client.esmtp_extensions.get("size", "").strip()
    return int(stated) if stated.isdigit() and int(stated) > 0 else None


async def transfer(client: SMTP, mail: BuiltMail, secrets: Iterable[str] = ()) -> Sent:
    """MAIL, RCPT, DATA. Until the final dot is written nothing can have been taken; after it only an answer tells.

    `secrets` are cut from the server's words. Raises `SendError`.
    """
    secrets = tuple(secrets)
    stage: Stage = "mail"
    refused: dict[str, tuple[int, str]] = {}
    encoding = "utf-8" if mail.smtputf8 else "ascii"
    try:
        async with asyncio.timeout(TRANSFER_TIMEOUT_S):
            options = [f"SIZE={len(mail.raw)}"] if client.supports_extension("size") else []
            if mail.smtputf8:
                options += ["BODY=8BITMIME", "SMTPUTF8"]
            await client.mail(mail.envelope_sender, options=options, encoding=encoding)
            stage = "rcpt"
            for recipient in mail.recipients:
                try:
                    await client.rcpt(recipient, encoding=encoding)
                except SMTPResponseException as error:
                    refused[recipient] = (error.code, error.message)
                    if error.code == 421:
                        raise
            if len(refused) == len(mail.recipients):
                raise refusal(*_worst(list(refused.values())), stage, secrets)
            stage = "data"
            protocol = await _write_body(client, mail.raw)
    except SMTPResponseException as error:
        raise refusal(error.code, error.message, stage, secrets) from None
    except (SMTPException, OSError, TimeoutError) as error:
        raise Unreachable(f"before the end of the mail: {_words(error, secrets)}") from None
    try:
        answer = await protocol.read_response(timeout=ANSWER_TIMEOUT_S)
    except SMTPResponseException as error:
        raise Ambiguous("unreadable", _words(error, secrets)) from None
    except (SMTPException, OSError, TimeoutError) as error:
        code = "timeout" if isinstance(error, TimeoutError) else "connection-lost"
        raise Ambiguous(code, f"after the end of the mail: {_words(error, secrets)}") from None
    if answer.code != 250:
        raise refusal(answer.code, answer.message, "data", secrets)
    text = shortened(answer.message, secrets, 200)
    told = {recipient: f"{code} {shortened(words, secrets)}" for recipient, (code, words) in refused.items()}
    return Sent(
        external_id=mail.message_id,
        aliases=_relay_ids(client.hostname or "", text),
        request_id=text,
        refused=dict(mail.left_out) | told,
    )


async def _write_body(client: SMTP, raw: bytes) -> SMTPProtocol:
    """DATA and the mail, lines dot-stuffed (RFC 5321 4.5.2), the final dot only once all before it has left.

    The library's own call writes body and dot in one, so that a loss before the dot looks like one after it. Its
    protocol object is used below its public calls here.
    """
    answer = await client.execute_command(b"DATA")
    protocol = client.protocol
    if answer.code != 354 or protocol is None:
        raise SMTPResponseException(answer.code, answer.message)
    stuffed = raw.replace(b"\r\n.", b"\r\n..")
    if protocol.transport is None:
        raise SMTPException("Connection lost")
    transport = cast("asyncio.WriteTransport", protocol.transport)  # uvloop's transports do not derive from it
    transport.set_write_buffer_limits(high=0)
    protocol._response_pending = True  # an answer that comes before the dot is a refusal to be read
    for start in range(0, len(stuffed), CHUNK):
        protocol.write(stuffed[start : start + CHUNK])
        await protocol._drain_helper()
        await asyncio.sleep(0)  # let a reset that has already arrived be seen
    protocol.write(b".\r\n")  # raises, and writes nothing, when the connection is already lost
    return protocol


def _worst(answers: list[tuple[int, str]]) -> tuple[int, str]:
    """The answer to go by when nobody was taken: a temporary one, so that nobody is given up too early."""
    return next((answer for answer in answers if answer[0] < 500), answers[0])


def _relay_ids(host: str, answer: str) -> tuple[str, ...]:
    """Amazon SES replaces the Message-ID and tells its own in the answer: `250 Ok {id}` (the host part is assumed)."""
    words = answer.split()
    if not host.endswith(".amazonaws.com") or len(words) < 2:
        return ()
    region = host.split(".")[-3] if len(host.split(".")) > 3 else "us-east-1"
    return (f"{words[-1]}@{region}.amazonses.com", f"{words[-1]}@email.amazonses.com")


def _words(error: BaseException, secrets: Iterable[str]) -> str:
    return shortened(f"{type(error).__name__}: {error}", secrets)
