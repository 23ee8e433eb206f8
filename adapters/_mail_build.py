"""An outbound message to the bytes of a mail: the same bytes for the same message, however often it is built.

The library's own policies write long message ids as encoded words, by which clients lose the thread, and pass on what
hides in a decoded subject. So every header is written here, from cleaned values, and the result is read back: what it
says must be what was meant. Sources: RFC 5322, 2045-2047, 2231, 3834 (automatic mail), 5321 4.5.3.1.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import policy
from email.header import Header
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from adapters._errors import SendError
from normalizers._fields import clean
from normalizers._html import to_text
from normalizers._mime import parse
from normalizers._mime_text import canonical, mailboxes, message_ids, one_line, own_form, safe_filename
from normalizers._quotes import bare_subject
from normalizers.model import MailHeaders, OutboundFile, OutboundMessage

TOTAL_MAX = 18 * 2**20  # bytes of all files; about 25 MB encoded, which the large providers take
REFERENCES_MAX = 20  # beside the root
SUBJECT_MAX = 900  # characters
NAME_MAX = 120
_TYPE = re.compile(r"(?!multipart/|message/)[a-z0-9!#$&^_.+-]{1,60}/[a-z0-9!#$&^_.+-]{1,100}")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")


@dataclass(frozen=True, slots=True)
class BuiltMail:
    """What SMTP needs: who sends, who receives, the bytes. `left_out`: copies that cannot go, each with the reason."""

    message_id: str  # without <>
    envelope_sender: str
    recipients: tuple[str, ...]
    raw: bytes
    sender: str = ""  # of the From header
    dated: int = 0  # seconds since 1970, as the Date header says
    smtputf8: bool = False  # an address is not ASCII (RFC 6531)
    left_out: Mapping[str, str] = field(default_factory=dict)


class OutPolicy(policy.EmailPolicy):
    """Headers as they are given: they come encoded, and only need their lines broken at blanks."""

    def header_store_parse(self, name: str, value: Any) -> tuple[str, Any]:
        if name.lower().startswith("content-"):
            return super().header_store_parse(name, value)
        return name, value

    def fold_binary(self, name: str, value: Any) -> bytes:
        if name.lower().startswith("content-"):
            return super().fold_binary(name, value)
        return _folded(name, str(value))


OUT = OutPolicy(linesep="\r\n", max_line_length=76, cte_type="7bit")
"""Bodies are plain ASCII lines whatever they say: no server on the way has to change them, which would break DKIM."""


def _folded(name: str, value: str) -> bytes:
    """One header, lines broken at blanks as near to 76 columns as its words allow."""
    lines = [f"{name}:"]
    for word in value.split():
        if len(lines[-1]) + 1 + len(word) > 76 and lines[-1].strip() != f"{name}:":
            lines.append("")
        lines[-1] += f" {word}"
    return "\r\n".join(lines).encode() + b"\r\n"  # beyond ASCII only in addresses, and only with SMTPUTF8


def build(
    message: OutboundMessage, address: str, name: str, own: frozenset[str], now: datetime, *, utf8: bool = False
) -> BuiltMail:
    """The mail for one message.

    `own` are the addresses we receive on: nothing is ever sent to them. `now` dates the mail only where the message's
    key carries no time of its own. `utf8`: the server takes addresses beyond ASCII (SMTPUTF8); where it does not, a
    copy to such a one is left out. Raises `SendError` (permanent, bad-recipient) for what cannot be written.
    """
    mail = message.mail
    if mail is None or not message_ids(f"<{mail.message_id.strip('<> ')}>"):
        raise SendError("permanent", "no-mail-headers", "the message has no subject and Message-ID")
    message_id = message_ids(f"<{mail.message_id.strip('<> ')}>")[0]
    to = _recipients([entry.value for entry in message.to], own, utf8=utf8)
    copies, left_out = _copies(mail.cc, own, utf8=utf8)
    cc = tuple(entry for entry in copies if entry not in to)
    if not to:
        raise SendError("bad-recipient", "no-recipient", "nobody to send to but ourselves")
    sender = _address(message.own_address or address)
    moment = _moment(message, now)
    headers = _headers(message, mail, message_id, sender, mail.sender_name or message.author_name or name, moment)
    headers["To"] = ", ".join(to)
    if cc:
        headers["Cc"] = ", ".join(cc)
    tree = _tree(message)
    for header, value in headers.items():
        tree[header] = value
    _fix_boundaries(tree, message_id)
    raw = tree.as_bytes(policy=OUT)
    _read_back(raw, headers, (*to, *cc))
    return BuiltMail(
        message_id,
        "" if mail.automatic else _address(mail.envelope_sender or sender),
        (*to, *cc),
        raw,
        sender,
        int(moment.timestamp()),
        not all(map(str.isascii, (*to, *cc))),
        left_out,
    )


def _recipients(addresses: Sequence[str], own: frozenset[str], *, utf8: bool) -> tuple[str, ...]:
    """Each once, in order, without ourselves under any plus tag or alias."""
    found = dict.fromkeys(_address(entry, utf8=utf8) for entry in addresses)
    return tuple(entry for entry in found if not own_form(entry.lower(), own))


def _copies(addresses: Sequence[str], own: frozenset[str], *, utf8: bool) -> tuple[tuple[str, ...], dict[str, str]]:
    """Who gets a copy, and who cannot: what is wrong with one of them does not keep the mail from the others."""
    good: list[str] = []
    left_out: dict[str, str] = {}
    for address in addresses:
        try:
            _address(address, utf8=utf8)
            good.append(address)
        except SendError as error:
            left_out[address] = f"{error.code} {error.detail}"
    return _recipients(good, own, utf8=utf8), left_out


def _address(written: str, *, utf8: bool = False) -> str:
    """The address with an ASCII domain. Raises `SendError` where it is none, or needs SMTPUTF8 (RFC 6531)."""
    found = mailboxes(written)
    if len(found) != 1:
        raise SendError("bad-recipient", "5.1.3", "not a mail address")
    local, _, _ = found[0].written.rpartition("@")
    address = f"{local}@{canonical(found[0].written).rpartition('@')[2]}"
    if not address.isascii() and not utf8:
        raise SendError("bad-recipient", "5.6.7", "an address outside of ASCII, which the server does not take")
    return address


# --- headers ----------------------------------------------------------------------------------------------------------


def _headers(
    message: OutboundMessage, mail: MailHeaders, message_id: str, sender: str, name: str, moment: datetime
) -> dict[str, str]:
    chain = [entry for reference in mail.references for entry in message_ids(f"<{reference.strip('<> ')}>")]
    answered = message_ids(f"<{mail.in_reply_to.strip('<> ')}>")
    chain = list(dict.fromkeys((*chain, *answered)))
    if len(chain) > REFERENCES_MAX + 1:
        chain = [chain[0], *chain[-REFERENCES_MAX:]]
    headers = {
        "From": f"{_phrase(name)} <{sender}>".lstrip(),
        "Subject": _encoded(_subject(mail, answering=bool(answered))),
        "Date": format_datetime(moment),
        "Message-ID": f"<{message_id}>",
        "In-Reply-To": _ids(answered),
        "References": _ids(chain),
        "Reply-To": _address(mail.reply_to) if mail.reply_to else "",
        "X-Gateway-Loop": _token(mail.loop_token),
    }
    if mail.unsubscribe_url:  # RFC 8058: one POST, without asking again
        headers["List-Unsubscribe"] = f"<{_url(mail.unsubscribe_url)}>"
        headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    if mail.automatic:  # RFC 3834; the other two keep absence notes and old list programs quiet
        headers["Auto-Submitted"] = "auto-replied" if answered else "auto-generated"
        headers["X-Auto-Response-Suppress"] = "All"
        headers["Precedence"] = "bulk"
    return {field: value for field, value in headers.items() if value or field == "Subject"}


def _ids(ids: Sequence[str]) -> str:
    return " ".join(f"<{entry}>" for entry in ids if entry.isascii())


def _token(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._~=+/-]", "", text)[:200]


def _url(text: str) -> str:
    """The address as it stands in a header. Raises `SendError` where it could be read as more than one."""
    if not text.isascii() or not text.isprintable() or set(text) & set(" <>,"):
        raise SendError("permanent", "unsubscribe-url", "not an address that fits into a header")
    return text


def _subject(mail: MailHeaders, *, answering: bool) -> str:
    subject = one_line(clean(mail.subject))[:SUBJECT_MAX]
    if not answering or mail.automatic or bare_subject(subject) != subject:
        return subject
    return f"Re: {subject}"


def _encoded(text: str) -> str:
    """As it stands when it is plain, else as encoded words; what looks like one already is encoded too."""
    if text.isascii() and "=?" not in text and max(map(len, text.split()), default=0) < 70:
        return text
    return Header(text, "utf-8", maxlinelen=70).encode(linesep=" ", splitchars="")


def _phrase(name: str) -> str:
    """A display name: bare, quoted, or as encoded words."""
    name = one_line(clean(name))[:NAME_MAX]
    if not name or (_ATOMS.fullmatch(name) and "=?" not in name):
        return name
    if name.isascii() and "=?" not in name:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    words: list[str] = []
    piece = ""
    for char in name:
        if len((piece + char).encode()) > 42:
            words.append(piece)
            piece = ""
        piece += char
    return " ".join(f"=?utf-8?b?{b64encode(word.encode()).decode()}?=" for word in [*words, piece])


def _moment(message: OutboundMessage, now: datetime) -> datetime:
    """When the message was written: its id or key is a time-ordered UUID (RFC 9562), so that a repeat has one date."""
    for text in (message.id, message.key):
        try:
            value = uuid.UUID(text)
        except ValueError:
            continue
        if value.version == 7:
            return datetime.fromtimestamp((value.int >> 80) // 1000, UTC)  # the first 48 bits are milliseconds
    return now.astimezone(UTC).replace(microsecond=0)


# --- body -------------------------------------------------------------------------------------------------------------


def _tree(message: OutboundMessage) -> EmailMessage:
    """mixed{ alternative{ plain, related{ html, images it shows } }, files }, as much of it as there is."""
    tree = EmailMessage(policy=OUT)
    html = clean(message.html)
    text = clean(message.text) or (to_text(html, addresses=True) if html else "")
    tree.set_content(text.replace("\r\n", "\n").replace("\r", "\n"), charset="utf-8")
    files = (*((message.file,) if message.file is not None else ()), *message.files)
    if sum(file.size for file in files) > TOTAL_MAX:
        raise SendError("permanent", "5.3.4", f"the files are larger than {TOTAL_MAX // 2**20} MiB together")
    inline = [file for file in files if file.inline_id and html]
    if html:
        tree.add_alternative(html, subtype="html", charset="utf-8")
        part = tree.get_payload(1)
        assert isinstance(part, EmailMessage)
        for file in inline:
            main, sub = _media_type(file)
            cid = f"<{re.sub(r'[^A-Za-z0-9._~=+@-]', '', file.inline_id)[:200]}>"
            part.add_related(_content(file), main, sub, cid=cid, filename=_filename(file), disposition="inline")
    for file in files:
        if file not in inline:
            main, sub = _media_type(file)
            tree.add_attachment(_content(file), main, sub, filename=_filename(file))
    return tree


def _media_type(file: OutboundFile) -> tuple[str, str]:
    stated = file.media_type.lower()
    main, _, sub = (stated if _TYPE.fullmatch(stated) else "application/octet-stream").partition("/")
    return main, sub


def _filename(file: OutboundFile) -> str:
    return safe_filename(file.filename) or "file"


def _content(file: OutboundFile) -> bytes:
    try:
        return Path(file.open_path).read_bytes()
    except OSError as error:
        raise SendError("permanent", "no-file", f"{file.filename}: {error.strerror}") from None


def _fix_boundaries(tree: EmailMessage, message_id: str) -> None:
    """Boundaries from the Message-ID instead of chance: a repeat has the same bytes."""
    for index, part in enumerate(tree.walk()):
        if part.is_multipart():
            part.set_boundary(f"=_{hashlib.sha256(f'{message_id} {index}'.encode()).hexdigest()[:32]}")


def _read_back(raw: bytes, headers: dict[str, str], recipients: tuple[str, ...]) -> None:
    """Raises `SendError` unless the mail, read as a receiver does, has the intended headers and recipients only."""
    read = parse(raw).headers
    names = sorted(name for name, _ in read.fields if not name.startswith("content-") and name != "mime-version")
    named = tuple(box.written for field in ("to", "cc") for value in read.all(field) for box in mailboxes(value))
    if names != sorted(map(str.lower, headers)) or named != recipients or len(mailboxes(read.get("from"))) != 1:
        raise SendError("permanent", "mail-headers", "the written headers do not say what was meant")
