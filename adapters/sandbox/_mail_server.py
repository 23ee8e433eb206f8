"""One connection to the simulated mail server: what it says at each stage, TLS, logins, and how it breaks off."""

from __future__ import annotations

import asyncio
import socket
import struct
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

if TYPE_CHECKING:
    from adapters.sandbox.smtp import MailWorld

MailFault = Literal[
    "421", "451", "greylist", "552", "550", "554",  # this answer at DATA
    "timeout", "timeout_after_accept",  # no answer ever comes to the final dot
    "drop_before_dot",  # the connection is reset while the mail is on its way
    "drop_after_dot", "reset_after_accept",  # taken, and reset instead of an answer
    "reset",  # read to the end and not taken; reset instead of an answer
    "slow",  # taken; the answer comes after `slow_s`
    "garbage",  # taken; an answer nobody can read
]  # fmt: skip
"""What goes wrong with a mail. Without `_after_accept`, `drop_after_dot`, slow and garbage it was not taken."""

MailStage = Literal["connect", "ehlo", "login", "mail", "rcpt"]
"""Where a server may refuse before DATA."""
MailTls = Literal["none", "starttls", "tls"]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, zero seconds: closing sends RST


class Peer(SMTP):
    """One connection to the simulated server."""

    line_length_limit = 64 * 1024

    def __init__(self, world: MailWorld, loop: asyncio.AbstractEventLoop) -> None:
        starting = world.certified is not None and world.tls == "starttls"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of logins without TLS: here they go over loopback
            super().__init__(
                world,
                hostname="mx.customer.test",
                enable_SMTPUTF8=world.smtputf8,
                data_size_limit=world.max_bytes or 2**30,
                tls_context=world.certified.server if starting and world.certified is not None else None,
                require_starttls=starting,
                authenticator=self._knows,
                auth_required=world.login is not None,
                auth_require_tls=world.login is None,
                loop=loop,
            )
        self.world = world
        self.fault: MailFault | None = None
        self.number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        first = self.number == 0  # STARTTLS makes the same connection once more
        if first:
            self.number = self.world.joined(self)
        super().connection_made(transport)

    async def _handle_client(self) -> None:
        if answer := self.world.scripted("connect"):
            await self.push(answer)
            if self.transport is not None:
                self.transport.close()
            return
        await super()._handle_client()

    def _knows(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: object
    ) -> AuthResult:
        given = (data.login.decode(), data.password.decode()) if isinstance(data, LoginPassword) else None
        return AuthResult(success=given is not None and given == self.world.login, handled=False)

    async def smtp_AUTH(self, arg: str) -> None:
        if answer := self.world.scripted("login"):
            await self.push(answer)
            return
        await super().smtp_AUTH(arg)

    async def smtp_EHLO(self, hostname: str) -> None:
        if answer := self.world.scripted("ehlo"):
            await self.push(answer)
            return
        await super().smtp_EHLO(hostname)

    async def smtp_HELO(self, hostname: str) -> None:
        if answer := self.world.scripted("ehlo"):
            await self.push(answer)
            return
        await super().smtp_HELO(hostname)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.world.left(self)

    async def smtp_DATA(self, arg: str) -> None:
        self.fault = self.world.next_fault()
        if self.fault == "drop_before_dot":
            await self.push("354 go on")
            with suppress(asyncio.IncompleteReadError):
                await self._reader.readexactly(1)
            self.cut()
            await self.world.stopped()  # the loss of the connection ends this
            return
        await super().smtp_DATA(arg)

    def cut(self) -> None:
        """Reset the connection."""
        transport = self._original_transport or self.transport  # what lies below STARTTLS
        if transport is None:
            return
        connection: socket.socket | None = None
        with suppress(AttributeError):  # of a TLS transport that has lost its connection
            connection = transport.get_extra_info("socket")
        if connection is not None and connection.fileno() >= 0:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        cast("asyncio.Transport", transport).abort()  # uvloop's transports do not derive from it
