"""A mailbox read by IMAP: the verbs. What is read when, and how nothing is lost, is decided in `gateway/mailboxes.py`.

Every method blocks and belongs into the mailbox's own thread, except `prepare` and `abort`. Sources: RFC 3501 (2.3.1.1
UID and UIDVALIDITY, 6.4.8 UID SEARCH), 2177 (IDLE), 6851 (MOVE), 7628 and the providers' XOAUTH2; imap-tools 1.16.
"""

from __future__ import annotations

import imaplib
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from imap_tools import BaseMailBox, MailBox, MailBoxStartTls, MailBoxUnencrypted
from imap_tools.errors import (
    ImapToolsError,
    MailboxFolderSelectError,
    MailboxLoginError,
    MailboxStarttlsError,
    UnexpectedCommandStatusError,
)
from imap_tools.utils import encode_folder

from adapters._errors import MailboxTrouble, hide
from adapters._mail_oauth2 import OAuth2
from adapters._mailbox import Mailbox, Opened, Waiting
from config.secret import Secret

TIMEOUT_S = 30.0  # for one answer of the server, or one piece of it
SLICE_S = 0.5  # how soon a wait notices that it is to end
PARTIAL = 256 * 1024  # bytes read of a mail that is too large to be taken whole
_PORTS = {"tls": 993, "starttls": 143, "none": 143}
_SIZE = re.compile(rb"UID (\d+)[^)]*?RFC822\.SIZE (\d+)|RFC822\.SIZE (\d+)[^)]*?UID (\d+)")
_NO_BODY = re.compile(rb"BODY\[[^\]]*\](?:<\d+>)? NIL", re.IGNORECASE)  # of a mail that is there
_BUSY = ("[UNAVAILABLE]", "[INUSE]", "[LIMIT]", "[SERVERBUG]")  # RFC 5530: no fault of the credentials


@dataclass(frozen=True, slots=True)
class Imap:
    """The mailbox an account reads. `start` says what a mailbox seen for the first time brings: `all` that is in it, or
    only what is `new` from then on. `after` is done with a mail once it is stored, for people only: it is no cursor.
    """

    host: str
    username: str
    port: int = 0  # 993 with tls, else 143
    security: Literal["none", "starttls", "tls"] = "tls"
    password: Secret | None = None
    oauth2: OAuth2 | None = None
    folder: str = "INBOX"
    start: Literal["all", "new"] = "all"
    after: Literal["keep", "seen", "move", "delete"] = "keep"
    move_to: str = ""
    idle: bool = True
    poll_s: float = 300.0  # seconds between two looks, whatever the server pushes

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ValueError("port: must be between 1 and 65535")
        if (self.password is None) == (self.oauth2 is None):
            raise ValueError("password: give either a password or oauth2")
        if (self.after == "move") != bool(self.move_to):
            raise ValueError("move_to: goes with after = 'move'")
        if not 1 <= self.poll_s <= 1500:  # an IDLE must end before 29 minutes (RFC 2177)
            raise ValueError("poll_s: must be between 1 and 1500 seconds")


class ImapMailbox:
    """One folder on one server. Raises `MailboxTrouble`; after that only `open` helps."""

    def __init__(self, settings: Imap, token: Callable[[], Awaitable[str]] | None = None) -> None:
        self.settings = settings
        self.folder, self.start, self.poll_s = settings.folder, settings.start, settings.poll_s
        self._token = token
        self._access = ""
        self._able: frozenset[str] = frozenset()
        self._box: BaseMailBox | None = None

    async def prepare(self) -> None:
        """Get what `open` needs from elsewhere: a fresh access token. Raises `SendError`."""
        if self._token is not None:
            self._access = await self._token()

    def open(self) -> Opened:
        """Connect, log in, select the folder."""
        self.close()
        with _troubles():
            box = self._connect()
            self._box = box
            self._login(box)
            _, told = (
                box.client.capability()
            )  # after the login: servers say little before it, and the library asks then
            self._able = frozenset(b" ".join(told).decode("ascii", "replace").upper().split())
            box.folder.set(self.settings.folder, readonly=self.settings.after == "keep")
            validity, following = (_number(box, name) for name in ("UIDVALIDITY", "UIDNEXT"))
            if not validity or not following:
                status = box.folder.status(self.settings.folder, ("UIDVALIDITY", "UIDNEXT"))
                validity, following = status["UIDVALIDITY"], status["UIDNEXT"]
        return Opened(validity, following)

    def _connect(self) -> BaseMailBox:
        settings = self.settings
        port = settings.port or _PORTS[settings.security]
        context = ssl.create_default_context()
        if settings.security == "tls":
            return MailBox(settings.host, port, timeout=TIMEOUT_S, ssl_context=context)
        if settings.security == "starttls":
            return MailBoxStartTls(settings.host, port, timeout=TIMEOUT_S, ssl_context=context)
        return MailBoxUnencrypted(settings.host, port, timeout=TIMEOUT_S)

    def _login(self, box: BaseMailBox) -> None:
        name, password = self.settings.username, self.settings.password
        try:
            if password is None:
                _xoauth2(box, name, self._access)
            elif (name + password.reveal()).isascii():
                box.login(name, password.reveal(), initial_folder=None)
            else:
                box.login_utf8(name, password.reveal(), initial_folder=None)
        except imaplib.IMAP4.abort:
            raise
        except (MailboxLoginError, imaplib.IMAP4.error) as error:
            busy = any(code in str(error) for code in _BUSY)
            raise MailboxTrouble("network" if busy else "auth", _words(error, (password, self._access))) from None

    def after(self, last: int) -> list[int]:
        """The UIDs above `last`, rising. `n:*` always names the highest mail, were it below n: that one is left out."""
        with _troubles():
            found = self._client().uids(f"UID {last + 1}:*", charset=None)
        return sorted(uid for uid in map(int, found) if uid > last)

    def sizes(self, uids: Sequence[int]) -> dict[int, int]:
        """Bytes of each mail; what is gone by now is missing."""
        found: dict[int, int] = {}
        for item in self._fetch(",".join(map(str, uids)), "(UID RFC822.SIZE)"):
            if isinstance(item, bytes) and (match := _SIZE.search(item)) is not None:
                found[int(match[1] or match[4])] = int(match[2] or match[3])
        return found

    def received_at(self, uid: int) -> datetime | None:
        """When the server took the mail."""
        for item in self._fetch(str(uid), "(UID INTERNALDATE)"):
            if isinstance(item, bytes) and (parsed := imaplib.Internaldate2tuple(item)) is not None:
                return datetime.fromtimestamp(time.mktime(parsed), UTC)
        return None

    def fetch(self, uid: int) -> bytes | None:
        """The mail, not marked as read by it; None when it is gone. A refusal is `MailboxTrouble("mail")`."""
        return self._body(uid, "BODY.PEEK[]")

    def fetch_part(self, uid: int) -> bytes | None:
        """The beginning of a mail that cannot be had whole: some of its body, or its header block, or nothing."""
        for wanted in (f"BODY.PEEK[]<0.{PARTIAL}>", "BODY.PEEK[HEADER]"):
            with suppress(MailboxTrouble):
                if (raw := self._body(uid, wanted)) is not None:
                    return raw[:PARTIAL]
        return b""

    def _body(self, uid: int, wanted: str) -> bytes | None:
        for item in self._fetch(str(uid), f"(UID {wanted})"):
            if isinstance(item, tuple) and b"BODY[" in item[0]:
                return bytes(item[1])
            if isinstance(item, bytes) and _NO_BODY.search(item) is not None:
                raise MailboxTrouble("mail", "the server has no body of it")
        return None

    def _fetch(self, uids: str, wanted: str) -> list[Any]:
        with _troubles():
            status, items = self._client().client.uid("FETCH", uids, wanted)
        if status != "OK":
            raise MailboxTrouble("mail", f"FETCH is answered {status}")
        return list(items)

    def settle(self, uid: int) -> None:
        """What is to be done with a mail once it is stored."""
        with _troubles():
            match self.settings.after:
                case "seen":
                    self._client().client.uid("STORE", str(uid), "+FLAGS.SILENT", r"(\Seen)")
                case "move":
                    self._move(uid)
                case "delete":
                    self._delete(uid)
                case "keep":
                    pass

    def _move(self, uid: int) -> None:
        client = self._client().client
        target = encode_folder(self.settings.move_to).decode()
        if "MOVE" in self._able:
            status, answer = client.uid("MOVE", str(uid), target)
        else:
            status, answer = client.uid("COPY", str(uid), target)
            if status == "OK":
                self._delete(uid)
        if status != "OK":
            raise MailboxTrouble("folder", f"cannot be moved to {self.settings.move_to!r}: {answer!r}"[:300])

    def _delete(self, uid: int) -> None:
        """Only this mail goes where the server can do that (RFC 4315); what others marked stays theirs."""
        client = self._client().client
        client.uid("STORE", str(uid), "+FLAGS.SILENT", r"(\Deleted)")
        if "UIDPLUS" in self._able:
            client.uid("EXPUNGE", str(uid))

    def wait(self, seconds: float, stop: threading.Event) -> Waiting:
        """Until the server tells of something, the time is over, or `stop` is set."""
        deadline = time.monotonic() + seconds
        idles = self.settings.idle and "IDLE" in self._able
        if not idles:
            return "stopped" if stop.wait(seconds) else "time"
        with _troubles():
            box = self._client()
            box.idle.start()  # type: ignore[no-untyped-call]
            try:
                return _watch(box.client, deadline, stop)
            finally:
                box.idle.stop()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Say good-bye, as far as the server still listens."""
        box, self._box = self._box, None
        if box is not None:
            with suppress(ImapToolsError, imaplib.IMAP4.error, OSError, ValueError):
                box.logout()
            with suppress(OSError):
                box.client.shutdown()

    def abort(self) -> None:
        """Cut the connection, from any thread: whoever waits for the server hears at once that it is over."""
        box = self._box
        if box is not None:
            with suppress(OSError, AttributeError):
                box.client.sock.shutdown(socket.SHUT_RDWR)

    def _client(self) -> BaseMailBox:
        if self._box is None:
            raise MailboxTrouble("network", "not connected")
        return self._box


def _xoauth2(box: BaseMailBox, name: str, token: str) -> None:
    """A refusal comes as a challenge with the reason, which wants an empty answer before the server says no."""
    said: list[bytes] = []

    def answer(challenge: bytes) -> bytes:
        said.append(challenge)
        return b"" if len(said) > 1 else f"user={name}\1auth=Bearer {token}\1\1".encode()

    status, data = box.client.authenticate("XOAUTH2", answer)
    if status != "OK":
        raise MailboxLoginError((status, data), "OK")
    box.client.state = "AUTH"


def _watch(client: imaplib.IMAP4, deadline: float, stop: threading.Event) -> Waiting:
    """What has been read ahead counts, too: the first push often comes in one packet with the server's go-ahead."""
    poller = select.poll()
    poller.register(client.sock.fileno(), select.POLLIN | select.POLLHUP)
    while time.monotonic() < deadline:
        if stop.is_set():
            return "stopped"
        if _read_ahead(client) or poller.poll(SLICE_S * 1000):
            return "pushed"
    return "time"


def _read_ahead(client: imaplib.IMAP4) -> bool:
    sock, file = client.sock, getattr(client, "file", None)
    if isinstance(sock, ssl.SSLSocket) and sock.pending():
        return True
    before = sock.gettimeout()
    sock.settimeout(0)
    try:
        return file is not None and bool(file.peek(1))
    except OSError:
        return False
    finally:
        sock.settimeout(before)


def _number(box: BaseMailBox, name: str) -> int:
    _, values = box.client.response(name)
    newest = values[-1] if values else None
    return int(newest) if newest else 0


@contextmanager
def _troubles() -> Iterator[None]:
    """Every way a server or the way to it fails, as `MailboxTrouble`."""
    try:
        yield
    except MailboxTrouble:
        raise
    except ssl.SSLCertVerificationError as error:
        raise MailboxTrouble("certificate", error.verify_message) from None
    except MailboxFolderSelectError as error:
        raise MailboxTrouble("folder", _words(error)) from None
    except MailboxStarttlsError as error:
        raise MailboxTrouble("network", _words(error)) from None
    except (imaplib.IMAP4.abort, OSError, EOFError) as error:
        raise MailboxTrouble("network", _words(error)) from None
    except (ImapToolsError, imaplib.IMAP4.error, ValueError, IndexError, KeyError, AttributeError) as error:
        raise MailboxTrouble("protocol", _words(error)) from None


def _words(error: BaseException, secrets: Iterable[Secret | str | None] = ()) -> str:
    """What went wrong, without the credentials where the server quotes them."""
    words = f"{type(error).__name__}: {error}"
    if isinstance(error, UnexpectedCommandStatusError):
        words = f"the server answers {error.command_result!r}"
    return hide(words, secrets)[:300]


_: type[Mailbox] = ImapMailbox
