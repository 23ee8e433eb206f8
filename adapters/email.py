"""Mail: received by SMTP (the gateway's own receiver hands the raw mail over) or read from a mailbox by IMAP; sent
through a relay by SMTP.

Sources: RFC 5321 (transfer), 3207 (STARTTLS), 4954 (login), 6409 (submission).
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

import msgspec
from aiosmtplib import SMTP

from adapters._base import Adapter, Answer, Callback, Sent
from adapters._channel import Channel, Limits, MediaRule, Pace
from adapters._dkim import Dkim, sign
from adapters._errors import MailboxTrouble, MediaError, SendError, Unreachable, VerificationError
from adapters._http import Http
from adapters._imap import Imap, ImapMailbox
from adapters._links import too_large, with_links
from adapters._mail_build import TOTAL_MAX, BuiltMail, build
from adapters._mail_oauth2 import MailTokens
from adapters._mail_template import Dress, MailTemplate
from adapters._smtp_client import CHUNK, Relay, Smtp, size_limit, transfer
from adapters._smtp_results import RULES, too_big
from adapters._tokens import InProcessTokens, TokenCache
from normalizers import email as normalizer
from normalizers._mime_body import find_file
from normalizers._mime_text import canonical, domain_of, mailboxes
from normalizers._mime_unpack import read_mail
from normalizers.model import Account, Attachment, Event, OutboundFile, OutboundMessage, Received

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
        links=True,
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
    dkim: tuple[Dkim, ...] = ()
    template: MailTemplate | None = None
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
        for signer in self.dkim:
            if not any(map(signer.aligned, self.domains)):
                raise ValueError(
                    f"dkim.domain: {signer.domain!r} is not the domain of the address or of an alias: its signature "
                    "would prove nothing"
                )

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains we write from, in their ASCII form; for all domains below one that one."""
        found = (domain_of(canonical(entry)).removeprefix("*.") for entry in (self.address, *self.aliases))
        return tuple(dict.fromkeys(found))


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
            "domain": settings.domains[0],
        }
        if settings.template is not None and settings.template.delimiter:
            options["delimiter"] = settings.template.delimiter
        self._settings, self._http = settings, http
        self.tokens: TokenCache = InProcessTokens()
        self._relay = None if settings.smtp is None else Relay(settings.smtp, options["domain"])
        self._dress = Dress(settings.template or MailTemplate(), settings.name, settings.address)
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

    def dress(self, message: OutboundMessage, fields: Mapping[str, Mapping[str, str]]) -> OutboundMessage:
        """The message within the account's template."""
        return self._dress.on(message, fields)

    async def send(self, message: OutboundMessage) -> Sent:
        """Hand the mail to the relay, once. The Message-ID is the key: a repeat has the same bytes.

        Recipients the relay refuses while it takes others stand in `Sent.refused`. What is too big for the relay leaves
        with links in the place of its files, where they have addresses. Raises `SendError`.
        """
        async with self._open_relay().connection() as client:
            mail = await self._written(message, client)
            limit = size_limit(client)
            if limit is None or len(mail.raw) <= limit:
                try:
                    return await self._handed_over(client, mail)
                except SendError as error:
                    if not too_big(error) or not client.is_connected or not _linkable(message):
                        raise
                    await client.rset()
            elif not _linkable(message):
                raise SendError("permanent", "5.3.4", f"{len(mail.raw)} bytes; the server takes {limit}")
            mail = await self._written(with_links(message, _linkable(message)), client)
            return dataclasses.replace(await self._handed_over(client, mail), note="the files went as links")

    async def _handed_over(self, client: SMTP, mail: BuiltMail) -> Sent:
        smtp = self._settings.smtp
        return await transfer(client, mail, smtp.secrets if smtp is not None else ())

    async def _written(self, message: OutboundMessage, client: SMTP) -> BuiltMail:
        """The mail as it leaves, signed last of all."""
        settings, own, now = self._settings, self.account.own_addresses, datetime.now(UTC)
        utf8 = client.supports_extension("smtputf8")

        def write() -> BuiltMail:
            mail = build(message, settings.address, settings.name, own, now, utf8=utf8)
            signed = sign(mail.raw, settings.dkim, domain_of(mail.sender), mail.dated)
            return dataclasses.replace(mail, raw=signed)

        return await asyncio.to_thread(write)

    def _open_relay(self) -> Relay:
        if self._relay is None:
            raise SendError("permanent", "no-smtp", "the account has no smtp settings: it receives only")
        return self._relay

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
            async with self._open_relay().connection():
                pass
        if (mailbox := self.mailbox()) is not None:
            await _probe_mailbox(mailbox)

    async def aclose(self) -> None:
        """Close the connections to the relay."""
        if self._relay is not None:
            await self._relay.aclose()

    def advice(self) -> Sequence[tuple[str, str]]:
        """What is probably not meant: mail of one of our domains that leaves unsigned, a password in the clear."""
        settings = self._settings
        unsigned = [domain for domain in settings.domains if not any(key.aligned(domain) for key in settings.dkim)]
        found: list[tuple[str, str]] = []
        if settings.dkim and unsigned:
            found.append(("dkim", f"no key for {', '.join(unsigned)}: mail from there leaves without our signature"))
        smtp = settings.smtp
        if smtp is not None and smtp.username and smtp.security == "none":
            found.append(("smtp.security", '"none": the password goes to the relay in the clear'))
        return found

    async def fetch(self, attachment: Attachment, raw: bytes) -> AsyncIterator[bytes]:
        """The part of the kept mail that `ref` names. Raises `MediaError`."""
        content = await asyncio.to_thread(lambda: find_file(read_mail(raw), attachment.ref))
        if content is None:
            raise MediaError(f"the mail has no {attachment.ref}", retryable=False)
        for start in range(0, len(content), CHUNK):
            yield content[start : start + CHUNK]


def _linkable(message: OutboundMessage) -> tuple[OutboundFile, ...]:
    """The files that can go as links instead."""
    return too_large((*((message.file,) if message.file is not None else ()), *message.files), 0)


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


_: type[Adapter] = EmailAdapter
