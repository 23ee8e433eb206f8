"""Mail: received by SMTP (the gateway's own receiver hands the raw mail over) or read from a mailbox by IMAP; sent
through a relay by SMTP.

Sources: RFC 5321 (transfer), 3207 (STARTTLS), 4954 (login), 6409 (submission).
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, Literal, cast

import msgspec
from aiosmtplib import SMTP, SMTPException, SMTPResponseException
from aiosmtplib.protocol import SMTPProtocol

from adapters._base import Adapter, Answer, Callback, Sent
from adapters._channel import Channel, Limits, MediaRule, Pace
from adapters._errors import (
    Ambiguous,
    MailboxTrouble,
    MediaError,
    SendError,
    Unreachable,
    VerificationError,
)
from adapters._http import Http
from adapters._imap import Imap, ImapMailbox
from adapters._mail_build import TOTAL_MAX, BuiltMail, build
from adapters._mail_oauth2 import MailTokens
from adapters._smtp_results import RULES, Stage, refusal
from adapters._tokens import InProcessTokens, TokenCache
from config.secret import Secret
from normalizers import email as normalizer
from normalizers._mime_body import find_file
from normalizers._mime_text import canonical, domain_of, mailboxes
from normalizers._mime_unpack import read_mail
from normalizers.model import Account, Attachment, Event, OutboundMessage, Received

CONNECT_TIMEOUT_S = 10.0  # greeting, TLS and login included
TRANSFER_TIMEOUT_S = 30.0  # from MAIL FROM until the last byte before the final dot
ANSWER_TIMEOUT_S = 30.0  # for the answer to the final dot; later it is an unknown outcome
CHUNK = 64 * 1024  # bytes
_WILDCARD = re.compile(r"\*@(?:\*\.)?[^\s*@.,<>]+(?:\.[^\s*@.,<>]+)*")

CHANNEL = Channel(
    name="email",
    title="Email",
    limits=Limits(
        text_max=1_000_000,
        source="none in the format; a bound of ours",
        split=False,
        caption_max=1_000_000,
        files_per_message=50,
        media=(MediaRule("file", ("*/*",), TOTAL_MAX),),
        total_bytes=TOTAL_MAX,
        html=True,
    ),
    pace=Pace(per_second=10, source="a default of ours; the relay's own limit is set with `rate`"),
    messaging=False,
    key="message_id",
    errors=RULES,
    retry="mail",
    receipts=("delivered", "read"),
    delivered_after_failed=True,  # one server may report a delay or failure before another delivers
    address_kinds=("email",),
    attribute_of={"email": "email"},
    suspends=frozenset({"loop", "spam", "no_sender", "report", "system_sender", "absence", "incomplete", "blank"}),
    sources=("RFC 5321", "RFC 3463", "RFC 3464"),
)


@dataclass(frozen=True, slots=True)
class Smtp:
    """The relay that takes our mail."""

    host: str
    port: int = 587
    security: Literal["none", "starttls", "tls"] = "starttls"
    username: str = ""
    password: Secret | None = None

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise ValueError("port: must be between 1 and 65535")
        if bool(self.username) != bool(self.password):
            raise ValueError("username: goes with a password" if self.username else "password: goes with a username")


@dataclass(frozen=True, slots=True)
class Settings:
    """`[[accounts]]` of adapter "email". Without `smtp` the account receives only.

    An alias is an address, a whole domain (`*@help.example.com`), or all domains below one (`*@*.example.com`). Plus
    tags belong to none.
    """

    address: str
    aliases: tuple[str, ...] = ()
    name: str = ""
    smtp: Smtp | None = None
    imap: Imap | None = None
    authserv_id: tuple[str, ...] = ()  # whose Authentication-Results count; none: the edge is trusted
    api_base: str = ""  # no use for mail

    @property
    def data_base(self) -> str:
        """The one host beside `api_base` that HTTP requests may go to: where the mailbox's access tokens come from."""
        oauth2 = self.imap.oauth2 if self.imap is not None else None
        return oauth2.token_url if oauth2 is not None else ""

    def __post_init__(self) -> None:
        for key, addresses in (("address", (self.address,)), ("aliases", self.aliases)):
            for address in addresses:
                if key == "aliases" and _WILDCARD.fullmatch(address):
                    continue
                if len(found := mailboxes(address)) != 1 or found[0].written != address:
                    raise ValueError(f"{key}: {address!r} is not a mail address")


class EmailAdapter:
    """One support address and its aliases."""

    name: ClassVar[str] = "email"
    channels: ClassVar[tuple[Channel, ...]] = (CHANNEL,)
    settings_type: ClassVar[type[Settings]] = Settings
    signature_headers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, account: Account, settings: Settings, http: Http) -> None:
        own = {canonical(address) for address in (settings.address, *settings.aliases)}
        options = {
            "authserv_id": " ".join(settings.authserv_id),
            "addresses": " ".join(sorted(own)),
            "domain": domain_of(canonical(settings.address)),
        }
        self._settings, self._http = settings, http
        self.tokens: TokenCache = InProcessTokens()
        self.account = msgspec.structs.replace(
            account, own_addresses=account.own_addresses | own, options={**options, **account.options}
        )

    def routing_keys(self) -> frozenset[str]:
        """Addresses and domains: the receiver chooses the account by the envelope recipient; events carry no key."""
        return frozenset(map(canonical, (self._settings.address, *self._settings.aliases)))

    def verify(self, callback: Callback) -> None:
        raise VerificationError("mail does not come by webhook")

    def well_formed(self, callback: Callback) -> None:
        """Any bytes are a mail."""

    def acknowledge(self, callback: Callback) -> Answer:
        return Answer()

    @staticmethod
    def normalize(received: Received) -> tuple[Event, ...]:
        return normalizer.normalize(received)

    async def send(self, message: OutboundMessage) -> Sent:
        """Hand the mail to the relay, once. The Message-ID is the key: a repeat has the same bytes.

        Recipients the relay refuses while it takes others stand in `Sent.refused`. Raises `SendError`.
        """
        own = self.account.own_addresses
        mail = await asyncio.to_thread(
            build, message, self._settings.address, self._settings.name, own, datetime.now(UTC)
        )
        async with self._connection() as client:
            return await _transfer(client, mail)

    def mailbox(self) -> ImapMailbox | None:
        """The mailbox to be read, None when mail comes by SMTP only."""
        imap = self._settings.imap
        if imap is None:
            return None
        oauth2 = imap.oauth2
        if oauth2 is None:
            return ImapMailbox(imap)
        return ImapMailbox(imap, MailTokens(self.account.id, oauth2, self._http, self.tokens).current)

    async def probe(self) -> None:
        """Connect and log in: to the relay, and to the mailbox. Raises `SendError`."""
        if self._settings.smtp is not None or self._settings.imap is None:
            async with self._connection():
                pass
        if (mailbox := self.mailbox()) is not None:
            await _probe_mailbox(mailbox)

    async def fetch(self, attachment: Attachment, raw: bytes) -> AsyncIterator[bytes]:
        """The part of the kept mail that `ref` names. Raises `MediaError`."""
        content = await asyncio.to_thread(lambda: find_file(read_mail(raw), attachment.ref))
        if content is None:
            raise MediaError(f"the mail has no {attachment.ref}", retryable=False)
        for start in range(0, len(content), CHUNK):
            yield content[start : start + CHUNK]

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[SMTP]:
        """A connection, greeted, secured and logged in; it serves one mail."""
        smtp = self._settings.smtp
        if smtp is None:
            raise SendError("permanent", "no-smtp", "the account has no smtp settings: it receives only")
        client = SMTP(
            hostname=smtp.host,
            port=smtp.port,
            use_tls=smtp.security == "tls",
            start_tls=smtp.security == "starttls",
            local_hostname=domain_of(canonical(self._settings.address)),
            timeout=CONNECT_TIMEOUT_S,
        )
        try:
            await _open(client, smtp)
            yield client
            with suppress(SMTPException, OSError):
                await client.quit(timeout=1.0)
        finally:
            client.close()


async def _probe_mailbox(mailbox: ImapMailbox) -> None:
    try:
        await mailbox.prepare()
        await asyncio.to_thread(mailbox.open)
    except MailboxTrouble as trouble:
        if trouble.kind in ("network", "protocol"):
            raise Unreachable(f"imap: {trouble}") from None
        raise SendError("auth", f"imap-{trouble.kind}", trouble.detail) from None
    finally:
        await asyncio.to_thread(mailbox.close)


async def _open(client: SMTP, smtp: Smtp) -> None:
    stage: Stage = "connect"
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await client.connect()
            if smtp.username and smtp.password is not None:
                stage = "login"
                await client.login(smtp.username, smtp.password.reveal())
    except SMTPResponseException as error:
        raise refusal(error.code, error.message, stage) from None
    except ssl.SSLCertVerificationError as error:
        raise SendError("auth", "certificate", error.verify_message, pause="account") from None
    except (SMTPException, OSError, TimeoutError, UnicodeError) as error:
        if stage == "login" and not isinstance(error, OSError):
            raise SendError("auth", "login", _words(error), pause="account") from None
        raise Unreachable(_words(error)) from None


async def _transfer(client: SMTP, mail: BuiltMail) -> Sent:
    """MAIL, RCPT, DATA. Until the final dot is written nothing can have been taken; after it only an answer tells."""
    stage: Stage = "mail"
    refused: dict[str, tuple[int, str]] = {}
    try:
        async with asyncio.timeout(TRANSFER_TIMEOUT_S):
            options = [f"SIZE={len(mail.raw)}"] if client.supports_extension("size") else []
            await client.mail(mail.envelope_sender, options=options)
            stage = "rcpt"
            for recipient in mail.recipients:
                try:
                    await client.rcpt(recipient)
                except SMTPResponseException as error:
                    refused[recipient] = (error.code, error.message)
                    if error.code == 421:
                        raise
            if len(refused) == len(mail.recipients):
                raise refusal(*_worst(list(refused.values())), stage)
            stage = "data"
            protocol = await _write_body(client, mail.raw)
    except SMTPResponseException as error:
        raise refusal(error.code, error.message, stage) from None
    except (SMTPException, OSError, TimeoutError) as error:
        raise Unreachable(f"before the end of the mail: {_words(error)}") from None
    try:
        answer = await protocol.read_response(timeout=ANSWER_TIMEOUT_S)
    except SMTPResponseException as error:
        raise Ambiguous("unreadable", _words(error)) from None
    except (SMTPException, OSError, TimeoutError) as error:
        code = "timeout" if isinstance(error, TimeoutError) else "connection-lost"
        raise Ambiguous(code, f"after the end of the mail: {_words(error)}") from None
    if answer.code != 250:
        raise refusal(answer.code, answer.message, "data")
    text = " ".join(answer.message.split())[:200]
    return Sent(
        external_id=mail.message_id,
        aliases=_relay_ids(client.hostname or "", text),
        request_id=text,
        refused={recipient: f"{code} {' '.join(words.split())[:300]}" for recipient, (code, words) in refused.items()},
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


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]


_: type[Adapter] = EmailAdapter
