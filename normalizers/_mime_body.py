"""From a tree of parts to what a person sees: one text, one HTML, the files.

alternative: the plain and the HTML form of the same words. related: HTML with the images it shows. Everything else:
one after the other, text parts around an image included (Apple Mail writes so). Source: RFC 2046, 2387, 3676.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from urllib.parse import unquote

from normalizers import _calendar, _html
from normalizers._mime import Part, read_headers
from normalizers._mime_text import decode_words, safe_filename
from normalizers.model import Attachment, MediaKind

TEXT_MAX = 2**20  # characters kept for display
HTML_MAX = 2 * 2**20
TEXT_PARTS_MAX = 20  # shown as text; further ones are files
_HIDDEN = {
    "application/pgp-encrypted",
    "application/pgp-signature",
    "application/pkcs7-signature",
    "application/x-pkcs7-signature",
}
_SEALED = {"application/pkcs7-mime", "application/x-pkcs7-mime", "application/pgp-encrypted"}
_KINDS: dict[str, MediaKind] = {"image": "image", "audio": "audio", "video": "video"}
_EXTENSIONS = {
    "message/rfc822": ".eml", "text/calendar": ".ics", "text/html": ".html", "text/plain": ".txt", "text/csv": ".csv",
    "text/vcard": ".vcf", "text/x-vcard": ".vcf", "application/pdf": ".pdf", "application/zip": ".zip",
    "application/msword": ".doc", "application/vnd.ms-excel": ".xls", "application/json": ".json",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/webp": ".webp", "image/heic": ".heic",
    "image/tiff": ".tif", "image/bmp": ".bmp", "audio/mpeg": ".mp3", "audio/wav": ".wav", "audio/x-wav": ".wav",
    "audio/amr": ".amr", "audio/mp4": ".m4a", "audio/ogg": ".ogg", "video/mp4": ".mp4", "video/quicktime": ".mov",
    "video/3gpp": ".3gp",
}  # fmt: skip
_CID = re.compile(r"""cid:([^"'\s>)]{1,998})""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Body:
    """`text` and `html` for people; `raw_html` unsanitised, for looking at its structure only."""

    text: str
    html: str
    raw_html: str
    attachments: tuple[Attachment, ...]
    digests: tuple[bytes, ...]  # of every decoded part, in order
    flags: tuple[str, ...]


@dataclass(slots=True)
class _Passage:
    """The same words in one or two forms."""

    plain: str = ""
    html: str = ""


def body_of(root: Part) -> Body:
    """What the mail says and brings."""
    reader = _Reader()
    reader.read(root)
    if not reader.passages:
        reader.promote()
    marked = any(passage.html for passage in reader.passages)
    raw_html = "\n".join(p.html or _html.from_text(p.plain) for p in reader.passages)[:HTML_MAX] if marked else ""
    text = "\n\n".join(_texts(reader.passages)).strip()[:TEXT_MAX]
    html = _html.sanitise(raw_html) if raw_html else ""
    if not _html.has_content(html) and (html or _html.tame(raw_html)):
        html = raw_html = ""  # only the frame of a page
    if not text and not raw_html:
        text = next((told for part in reader.files if (told := _invitation(part))), "")
    shown = {unquote(unescape(match)).lower() for match in _CID.findall(html)}
    files = [_attachment(part, shown) for part in reader.files if part.media_type not in _HIDDEN]
    flags: tuple[str, ...] = ("html_too_large",) if raw_html and not html else ()
    if any(p.media_type in _SEALED or p.media_type == "multipart/encrypted" for p in root.walk()):
        flags += ("encrypted",)
    hashed = {attachment.ref: bytes.fromhex(attachment.sha256) for attachment in files}
    digests = tuple(_digest(part, hashed.get(f"part:{part.path}")) for part in root.leaves())
    return Body(text, html, raw_html if html else "", tuple(files), digests, flags)


def _invitation(part: Part) -> str:
    return _calendar.summary(part.text(HTML_MAX)) if part.media_type == "text/calendar" else ""


def _texts(passages: list[_Passage]) -> Iterator[str]:
    """The text of each passage; `HTML_MAX` of HTML in all is parsed for it, what is more only stripped of its tags."""
    left = HTML_MAX
    for passage in passages:
        if passage.plain:
            yield passage.plain
        else:
            left -= len(passage.html)
            yield _html.to_text(passage.html) if left >= 0 else _html.crude_text(passage.html)


class _Reader:
    """Collects passages and files in the order of the mail."""

    def __init__(self) -> None:
        self.passages: list[_Passage] = []
        self.files: list[Part] = []

    def read(self, part: Part) -> None:
        match part.media_type:
            case "multipart/alternative" if part.children:
                self._alternative(part)
            case "multipart/related" if part.children:
                self._related(part)
            case "multipart/signed" if part.children:
                self.read(part.children[0])
                self.files.extend(child for sibling in part.children[1:] for child in sibling.leaves())
            case _ if part.children:
                for child in part.children:
                    self.read(child)
            case _:
                self._leaf(part)

    def _leaf(self, part: Part) -> None:
        broken = part.media_type.startswith("multipart/")  # no boundary was found: show what there is
        if not (part.is_text or broken) or part.disposition == "attachment" or part.filename:
            self.files.append(part)
        elif len(self.passages) < TEXT_PARTS_MAX:
            passage = _passage(part)
            if passage.plain or passage.html:
                self.passages.append(passage)
        else:
            self.files.append(part)

    def _alternative(self, part: Part) -> None:
        """The last HTML and the first plain form; a form that is neither (an invitation) is a file."""
        inner = _Reader()
        forms = []
        for child in part.children:
            reader = _Reader()
            reader.read(child)
            forms.append(reader.passages)
            inner.files.extend(reader.files)
        html = next((form for form in reversed(forms) if any(p.html for p in form)), [])
        plain = next((form for form in forms if form and not any(p.html for p in form)), [])
        if len(html) == 1 and plain:
            html[0].plain = "\n\n".join(p.plain for p in plain)
        self.passages.extend(html or plain)
        self.files.extend(inner.files)

    def _related(self, part: Part) -> None:
        start = part.params.get("start", "").strip("<>").lower()
        first = next((c for c in part.children if start and c.content_id.lower() == start), part.children[0])
        self.read(first)
        for child in part.children:
            if child is not first:
                self.files.extend(child.leaves())

    def promote(self) -> None:
        """A mail whose only text is called an attachment still says something."""
        for part in self.files:
            if part.is_text:
                passage = _passage(part)
                if passage.plain or passage.html:
                    self.passages.append(passage)
                    self.files.remove(part)
                return


def _passage(part: Part) -> _Passage:
    text = part.text(4 * HTML_MAX)
    if part.media_type == "text/html" or (part.media_type != "text/plain" and "<html" in text[:1000].lower()):
        return _Passage(html=_html.without_data_urls(text)) if text.strip() else _Passage()
    if part.params.get("format", "").lower() == "flowed":
        text = unflowed(text[:TEXT_MAX], delsp=part.params.get("delsp", "").lower() == "yes")
    return _Passage(plain=text[:TEXT_MAX].strip("\n\t "))


def unflowed(text: str, *, delsp: bool = False) -> str:
    """format=flowed (RFC 3676): lines ending in a blank go on; quote depths must agree; "-- " stays alone."""
    out: list[str] = []
    run: list[str] = []
    depth_before = 0
    for line in text.split("\n"):
        bare = line.lstrip(">")
        depth = len(line) - len(bare)
        bare = bare.removeprefix(" ")
        if run and (depth != depth_before or bare == "-- "):
            out.append("".join(run))
            run = []
        if not run and depth:
            run.append(">" * depth + " ")
        flows = bare.endswith(" ") and bare != "-- "
        run.append(bare[:-1] if flows and delsp else bare)
        depth_before = depth
        if not flows:
            out.append("".join(run))
            run = []
    if run:
        out.append("".join(run))
    return "\n".join(out)


def _attachment(part: Part, shown: set[str]) -> Attachment:
    raw = part.decoded()
    content_id = part.content_id
    return Attachment(
        kind=_KINDS.get(part.media_type.partition("/")[0], "file"),
        media_type=part.media_type,
        filename=part.filename or _made_filename(part),
        size=len(raw),
        sha256=hashlib.sha256(raw).hexdigest(),
        ref=f"part:{part.path}",
        content_id=content_id if unquote(content_id).lower() in shown else "",
    )


def find_file(root: Part, ref: str) -> bytes | None:
    """The file an attachment's `ref` names, None when the mail has no such part."""
    path = ref.removeprefix("part:")
    part = next((part for part in root.leaves() if part.path == path), None)
    return None if part is None or path == ref else part.decoded()


def _made_filename(part: Part) -> str:
    """A name for a file that came without: the subject of an attached mail, else the part's number."""
    extension = _EXTENSIONS.get(part.media_type, "")
    if part.media_type == "message/rfc822":
        headers, _ = read_headers(part.decoded()[: 64 * 1024].lstrip(b"\r\n"), 100)
        if subject := decode_words(headers.get("subject")).replace("/", "-"):
            return safe_filename(subject[:80] + extension)
    return f"part-{part.path}{extension}"


def _digest(part: Part, hashed: bytes | None) -> bytes:
    """Text is hashed with plain line ends and without blanks at the end, which relays are free to change."""
    if part.media_type.startswith("text/"):
        return hashlib.sha256(part.decoded().replace(b"\r\n", b"\n").rstrip()).digest()
    return hashed if hashed is not None else hashlib.sha256(part.decoded()).digest()
