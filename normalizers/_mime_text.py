"""What stands in mail headers, as clean text: charsets, encoded words, parameters, addresses, ids, dates, file names.

Nothing here raises. Real mail breaks every rule of its format, and the standard library's structured header parser
raises or silently loses addresses on much of it; so values are read by small linear scanners over capped input.
Sources: RFC 2045, 2047, 2231, 5322, 6532; the charset aliases are those mail clients are known to send.
"""

from __future__ import annotations

import binascii
import contextlib
import re
from collections.abc import Container, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from encodings import normalize_encoding
from encodings.aliases import aliases as _python_names
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from charset_normalizer import from_bytes

from normalizers._fields import clean
from normalizers._iso2022 import windows_japanese

HEADER_MAX = 64 * 1024  # characters of one header that are looked at
ADDRESSES_MAX = 500
REFERENCES_MAX = 100
ID_MAX = 998  # characters; the longest line of a mail
SAMPLE = 4096  # bytes shown to the charset detector

# --- charsets ---------------------------------------------------------------------------------------------------------

_WIDER = {  # what senders say -> the superset they mean
    "gb2312": "gb18030", "x_gbk": "gb18030", "gbk": "gb18030", "x_gb2312": "gb18030",
    "ks_c_5601_1987": "cp949", "ks_c_5601": "cp949", "euc_kr": "cp949", "ksc5601": "cp949",
    "shift_jis": "cp932", "x_sjis": "cp932", "sjis": "cp932", "ms_kanji": "cp932", "windows_31j": "cp932",
    "iso_2022_jp": "iso2022_jp_ext", "iso_2022_jp_ms": "iso2022_jp_ext", "x_iso_2022_jp": "iso2022_jp_ext",
    "iso_8859_8_i": "iso8859_8", "iso_8859_8_e": "iso8859_8", "windows_874": "cp874", "tis_620": "cp874",
    "cp_850": "cp850", "x_mac_roman": "mac_roman", "macintosh": "mac_roman", "x_user_defined": "cp1252",
    "unicode_1_1_utf_7": "utf_7", "us_ascii": "cp1252", "ascii": "cp1252", "latin1": "cp1252",
    "iso_8859_1": "cp1252", "8bit": "cp1252", "big5": "big5hkscs", "x_big5": "big5hkscs", "utf8": "utf_8",
    "x_unknown": "utf_8", "unknown_8bit": "utf_8", "default": "utf_8",
}  # fmt: skip
_NO_TEXT = {
    "base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec", "mbcs", "oem",
    "undefined", "idna", "punycode", "unicode_escape", "raw_unicode_escape",
}  # fmt: skip
_KNOWN = (frozenset(_python_names.values()) | {"utf_8", "cp874", "cp949", "cp1252", "mac_roman"}) - _NO_TEXT


def codec(charset: str) -> str:
    """The Python text codec for a mail's charset name, "" when nobody knows it."""
    if len(charset) > 60 or not charset.isascii():
        return ""
    name = normalize_encoding(charset.strip().strip("\"'").lower())
    name = _WIDER.get(name, name)
    name = _python_names.get(name, name)
    return name if name in _KNOWN else ""


def decode_bytes(raw: bytes, charset: str = "", *, guess: bool = True) -> str:
    """The text in `raw`: the declared charset, else UTF-8, else what the bytes look like, else Windows-1252.

    `guess` allows the detector, which is slow: for bodies, not for headers.
    """
    if raw.isascii() and b"\x1b" not in raw and codec(charset) in ("", "utf_8", "cp1252"):
        return clean(raw.decode("ascii"))
    declared = codec(charset)
    if raw.isascii() and (b"\x1b$" in raw[:SAMPLE] or (declared.startswith("iso2022_jp") and b"\x1b$" in raw)):
        text = _strict(raw, "iso2022_jp_ext")  # Japanese, whatever it is called: nothing else writes this escape
        if text is not None or (text := windows_japanese(raw)) is not None:
            return clean(text)
    # Nobody writes Latin letters that happen to be valid UTF-8; programs that name the wrong charset are many.
    for name in ("utf_8", declared) if declared == "cp1252" else (declared, "utf_8"):
        if name and (text := _strict(raw, name)) is not None:
            return clean(text)
    if not declared and guess:
        best = from_bytes(raw[:SAMPLE]).best()
        declared = codec(best.encoding) if best is not None else ""
    text = raw.decode(declared or "cp1252", "replace")
    if declared == "utf_8" and all(char.isascii() or char == "\ufffd" for char in text):  # not one valid letter
        text = _strict(raw, "cp1252") or text
    return clean(text)


def _strict(raw: bytes, name: str) -> str | None:
    try:
        return raw.decode(name)
    except (UnicodeError, ValueError):
        return None


# --- header text ------------------------------------------------------------------------------------------------------

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_WORD = re.compile(r"=\?([^?\s]{1,60})\?([bBqQ])\?([^?]*)\?=")
_BETWEEN = re.compile(r"(\?=)\s+(?==\?[^?\s]{1,60}\?[bBqQ]\?)")


def header_text(raw: bytes) -> str:
    """A raw header value as one line: UTF-8 if it is, else Windows-1252; encoded words are left alone."""
    return decode_bytes(raw[:HEADER_MAX], guess=False).replace("\r", "").replace("\n", "")


def one_line(value: str) -> str:
    """Without control characters, line separators and direction overrides: safe in a header, a log, a list."""
    return " ".join(_CONTROLS.sub(" ", value).split())


def decode_words(value: str) -> str:
    """The header with its encoded words decoded (RFC 2047), on one line.

    Neighbours of one charset are joined before decoding: many clients cut a character in two.
    """
    if "=?" not in value:
        return one_line(value)
    out: list[str] = []
    pending, charset, end = b"", "", 0
    value = _BETWEEN.sub(r"\1", value[:HEADER_MAX])
    for word in _WORD.finditer(value):
        between = value[end : word.start()]
        named = word[1].partition("*")[0].lower()  # RFC 2231 allows a language behind the charset
        if pending and (between or named != charset):
            out.append(decode_bytes(pending, charset, guess=False))
            pending = b""
        out.append(between)
        pending, charset, end = pending + _word_bytes(word[2], word[3]), named, word.end()
    out.append(decode_bytes(pending, charset, guess=False))
    out.append(value[end:])
    return one_line(clean("".join(out)))


def _word_bytes(encoding: str, text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    return base64_bytes(raw) if encoding in "bB" else binascii.a2b_qp(raw.replace(b" ", b"_"), header=True)


_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")


def base64_bytes(raw: bytes) -> bytes:
    """As much as can be decoded; strange characters and wrong padding are passed over."""
    try:
        return binascii.a2b_base64(raw)
    except binascii.Error:
        raw = _NOT_BASE64.sub(b"", raw)
        raw = raw[: len(raw) - 1] if len(raw) % 4 == 1 else raw
        return binascii.a2b_base64(raw + b"=" * (-len(raw) % 4))


# --- parameters -------------------------------------------------------------------------------------------------------

_PARAMETER = re.compile(r';\s*([^\s=;"]{1,80})\s*=\s*("(?:[^"\\]|\\.)*"?|[^;]*)')
_SECTION = re.compile(r"([^*]+)\*(\d{1,3})?(\*)?")


def parameters(value: str) -> tuple[str, dict[str, str]]:
    """The value in lower case and its parameters, RFC 2231 and (against the rules, but common) RFC 2047 decoded."""
    value = value[:4096]
    head, _, _ = value.partition(";")
    found: dict[str, str] = {}
    sections: dict[str, dict[int, tuple[str, bool]]] = {}
    for match in _PARAMETER.finditer(value):
        name, text = match[1].lower(), match[2].strip()
        if text.startswith('"'):
            text = re.sub(r"\\(.)", r"\1", text[1:-1] if text.endswith('"') and len(text) > 1 else text[1:])
        if (section := _SECTION.fullmatch(name)) is not None:
            encoded = section[3] is not None or section[2] is None
            sections.setdefault(section[1], {})[int(section[2] or 0)] = (text, encoded)
        else:
            found.setdefault(name, decode_words(text))
    for name, pieces in sections.items():
        found[name] = _joined(pieces)
    return head.strip().lower(), found


def _joined(pieces: dict[int, tuple[str, bool]]) -> str:
    charset, raw = "", b""
    for index, (text, encoded) in sorted(pieces.items()):
        if encoded and index == min(pieces) and text.count("'") >= 2:
            charset, _, text = text.split("'", 2)
        raw += unquote_to_bytes(text) if encoded else text.encode("utf-8", "replace")
    return one_line(decode_bytes(raw, charset, guess=False))


def safe_filename(name: str) -> str:
    """The last part of a path, without controls and overrides, at most 200 bytes with its extension kept."""
    name = one_line(clean(name[:2000])).replace("\\", "/").rpartition("/")[2].strip(" .")
    raw = name.encode()
    if len(raw) <= 200:
        return name
    stem, dot, extension = name.rpartition(".")
    tail = f".{extension}"[:40] if dot and stem else ""
    return (stem if tail else name).encode()[: 200 - len(tail.encode())].decode(errors="ignore") + tail


# --- addresses --------------------------------------------------------------------------------------------------------

_ATOM = r'[^\s<>,;:"()\[\]\\@]'
_DOMAIN = rf"(?:{_ATOM}{{1,255}}|\[(?:[Ii][Pp][Vv]6:)?[0-9A-Fa-f.:]{{2,60}}\])"
_QUOTED = r'"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e]){1,255}"'
_SPEC = re.compile(rf"(?:{_ATOM}{{1,255}}|{_QUOTED})@{_DOMAIN}")
_LOOSE = re.compile(rf"(?<![^\s<>,;:\"()\[\]\\]){_ATOM}{{1,255}}@{_ATOM}{{1,255}}(?![@])")


class Mailbox(NamedTuple):
    """`address` is lower case with an IDNA domain; `written` as it stood."""

    name: str
    address: str
    written: str


def mailboxes(value: str) -> tuple[Mailbox, ...]:
    """Everybody an address header names, in order; what holds no plausible address is passed over.

    Addresses are found before encoded words are decoded: a decoded comma or bracket must not change them.
    """
    found: list[Mailbox] = []
    stray = ""  # a name cut off by its own unquoted comma: Foo, Bar <a@b.test>
    for name, candidate in _entries(value[:HEADER_MAX]):
        written = _plausible(candidate)
        if not written:
            stray = f"{stray}{name or candidate}, ".lstrip()
            continue
        name = decode_words((stray if not found else "") + name)
        found.append(Mailbox(name[:200], canonical(written), written))
        stray = ""
        if len(found) == ADDRESSES_MAX:
            break
    return tuple(found)


def _entries(value: str) -> Iterator[tuple[str, str]]:
    """(name, candidate) for each entry between top-level commas: one pass, whatever is left open."""
    text: list[str] = []  # outside of brackets and comments
    comment: list[str] = []
    angle: str | None = None
    index, size = 0, len(value)
    special = '"('  # what is once left open is an ordinary character from there on: no second search for its end
    while index < size:
        char = value[index]
        if char in special:
            end = _quoted_end(value, index) if char == '"' else _comment_end(value, index)
            if end < 0:
                special = special.replace(char, "")
            elif char == '"':
                text.append(_unquoted(value[index:end], local_part=value[end : end + 1] == "@"))
            else:
                comment.append(value[index + 1 : end - 1])
            index = end if end > 0 else index + 1
            continue
        if char == "<":
            end = value.find(">", index)
            end = size if end < 0 else end
            angle, index = value[index + 1 : end], end + 1
            continue
        if char == ":" and angle is None and "@" not in "".join(text[-300:]):
            text.clear()  # a group's name
        elif char in ",;":
            yield _entry(text, comment, angle)
            text, comment, angle = [], [], None
        else:
            text.append(char)
        index += 1
    yield _entry(text, comment, angle)


def _entry(text: list[str], comment: list[str], angle: str | None) -> tuple[str, str]:
    outside = "".join(text).strip()
    if angle is not None:
        return outside or "".join(comment).strip(), angle.strip()
    return "".join(comment).strip(), outside


def _quoted_end(value: str, start: int) -> int:
    """Where the quoted string ends, -1 when it never does."""
    end = start + 1
    while end < len(value) and value[end] != '"':
        end += 2 if value[end] == "\\" else 1
    return end + 1 if end < len(value) else -1


def _unquoted(quoted: str, *, local_part: bool) -> str:
    return quoted if local_part else re.sub(r"\\(.)", r"\1", quoted[1:-1])


def _comment_end(value: str, start: int) -> int:
    """Where the comment ends, nested ones included; -1 when it never does."""
    depth, index = 0, start
    while index < len(value):
        char = value[index]
        index += 2 if char == "\\" else 1
        depth += (char == "(") - (char == ")")
        if not depth:
            return index
    return -1


def _plausible(candidate: str) -> str:
    candidate = candidate.strip(" '\t")
    if candidate.lower().startswith("mailto:"):
        candidate = candidate[7:]
    if len(candidate) <= 320 and _SPEC.fullmatch(candidate):
        return candidate
    if candidate.count("@") != 1:
        loose = _LOOSE.findall(candidate[:2000]) if " " in candidate.strip() else []
        return loose[-1] if loose and len(loose[-1]) <= 320 else ""
    match = _LOOSE.search(candidate[:2000])
    return match[0] if match is not None and len(match[0]) <= 320 else ""


def canonical(address: str) -> str:
    """The form addresses are compared in: lower case, the domain in IDNA's ASCII form where it has one."""
    local, _, domain = address.strip().rpartition("@")
    domain = domain.rstrip(".").lower()
    if not domain.isascii():
        with contextlib.suppress(UnicodeError):
            domain = domain.encode("idna").decode("ascii")
    return f"{clean(local).lower()}@{clean(domain)}"


def untagged(address: str) -> tuple[str, str]:
    """The address without its plus tag, and the tag: ("support@a.test", "t123")."""
    local, _, domain = address.rpartition("@")
    base, _, tag = local.partition("+")
    return (f"{base}@{domain}", tag) if base and tag else (address, "")


def address_forms(address: str) -> Iterator[str]:
    """What may stand for an address in a list of our own, the closest first: itself, without its plus tag, its whole
    domain (`*@shop.test`), the domains above it (`*@*.test`)."""
    yield address
    base, tag = untagged(address)
    if tag:
        yield base
    labels = domain_of(address).split(".")
    yield f"*@{'.'.join(labels)}"
    for start in range(1, min(len(labels), 20)):
        yield f"*@*.{'.'.join(labels[start:])}"


def own_form(address: str, own: Container[str]) -> str:
    """The address as one of `own` (addresses and domains, see `address_forms`), without its plus tag, or ""."""
    if "@" not in address:  # a phone number or a user id has no other form
        return address if address in own else ""
    for form in address_forms(address):
        if form in own:
            return untagged(address)[0] if form.startswith("*@") else form
    return ""


def domain_of(address: str) -> str:
    """What stands behind the last @."""
    return address.rpartition("@")[2]


# --- ids and dates ----------------------------------------------------------------------------------------------------

_BRACKETED = re.compile(r"<([^<>]{1,2000})>")


def message_ids(value: str) -> tuple[str, ...]:
    """The message ids in order, without <> and inner blanks; bare words with an @ when nothing is bracketed."""
    value = value[:HEADER_MAX]
    found = _BRACKETED.findall(value) or [word for word in value.split() if "@" in word]
    ids = ("".join(one_line(entry).split()).strip("<>")[:ID_MAX] for entry in found)
    return tuple(entry for entry in ids if entry)


def references(in_reply_to: str, chain: str) -> tuple[str, ...]:
    """What a mail answers, the strongest first: In-Reply-To, then References from the right; the root is kept."""
    thread = message_ids(chain)[::-1]
    ids = tuple(dict.fromkeys((*message_ids(in_reply_to)[:10], *thread)))
    return ids if len(ids) <= REFERENCES_MAX else (*ids[: REFERENCES_MAX - 1], ids[-1])


def mail_date(value: str) -> datetime | None:
    """The Date header in UTC; None when it is no date or before mail was."""
    try:
        moment = parsedate_to_datetime(one_line(value[:100]))
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError, AttributeError):
        return None
    return moment if moment.year >= 1980 else None
