"""Parts that hide others, opened: winmail.dat, opaque S/MIME signatures, uuencoded files written into a text, pictures
written into HTML.

What is opened becomes a multipart whose children are found by their paths like any others; what cannot be opened stays.
"""

from __future__ import annotations

import re

from normalizers._cms import signed_content
from normalizers._mime import Headers, Part, parse, uudecoded
from normalizers._mime_text import base64_bytes, safe_filename
from normalizers._tnef import unwrap

OPENED_MAX = 20  # parts of one mail
UU_FILES_MAX = 50
PICTURES_MAX = 50  # of one HTML
_TNEF = {"application/ms-tnef", "application/vnd.ms-tnef"}
_CMS = {"application/pkcs7-mime", "application/x-pkcs7-mime"}
_UU_BEGIN = re.compile(rb"begin [0-7]{3,4} (\S[^\r\n]{0,200})\r?\Z")
_UU_LINE = re.compile(rb"[ -`]{1,90}\r?\Z")
_PICTURE = re.compile(
    rb"""\bsrc\s{0,9}=\s{0,9}(["'])data:(image/[a-z]{2,10})(?:;[a-z-]{1,20}=[^;,"'<>]{0,200}){0,3};base64,"""
    rb"""([A-Za-z0-9+/=\s]+)\1""",
    re.IGNORECASE,
)
_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,60}/[a-z0-9!#$&^_.+-]{1,100}")


def read_mail(raw: bytes) -> Part:
    """The mail as a tree, with what its parts hide."""
    root = parse(raw)
    speaks = any(part.is_text and part.body.strip() for part in root.leaves())
    opened = 0
    for part in list(root.leaves()):
        if opened < OPENED_MAX and _open(part, speaks=speaks):
            opened += 1
    return root


def _open(part: Part, *, speaks: bool) -> bool:
    if part.media_type in _TNEF or part.filename.lower() == "winmail.dat":
        return _open_tnef(part, speaks=speaks)
    if part.media_type in _CMS:
        return _open_signed(part)
    if part.media_type == "text/plain" and b"begin " in part.body and b"end" in part.body:
        return _open_uuencoded(part)
    if part.media_type == "text/html" and part.disposition != "attachment" and not part.filename:
        return _open_pictures(part)
    return False


def _open_signed(part: Part) -> bool:
    content = signed_content(part.decoded())
    if content is None:
        return False
    inner = parse(content)
    for below in inner.walk():
        below.path = f"{part.path}.1" if below is inner else f"{part.path}.1.{below.path}"
    _become(part, "multipart/signed", [inner])
    return True


def _open_tnef(part: Part, *, speaks: bool) -> bool:
    found = unwrap(part.decoded())
    if found is None or not (found.files or found.text or found.html):
        return False
    children: list[Part] = []
    if not speaks and found.html:
        children.append(Part("", Headers(), found.html, "text/html", {}))
    elif not speaks and found.text:
        children.append(Part("", Headers(), found.text.encode(), "text/plain", {"charset": "utf-8"}))
    for file in found.files:
        media_type = file.media_type if _TYPE.fullmatch(file.media_type) else "application/octet-stream"
        name = safe_filename(file.name) or "file"
        children.append(Part("", Headers(), file.content, media_type, {}, "attachment", name))
    _number(part, children)
    _become(part, "multipart/mixed", children)
    return True


def _open_uuencoded(part: Part) -> bool:
    """Line by line: what begins and never ends stays text, as does what is no uuencoding."""
    rest: list[bytes] = []
    files: list[Part] = []
    block: list[bytes] = []
    name = ""
    for line in part.decoded().split(b"\n"):
        begin = _UU_BEGIN.match(line) if not block and len(files) < UU_FILES_MAX else None
        if begin is not None:
            block, name = [line], begin[1].decode("utf-8", "replace")
        elif block and line.rstrip(b"\r") == b"end":
            content = uudecoded(b"\n".join([*block, line]))
            if content:
                filename = safe_filename(name) or "file"
                files.append(Part("", Headers(), content, "application/octet-stream", {}, "attachment", filename))
            else:
                rest += [*block, line]
            block = []
        elif block and _UU_LINE.match(line):
            block.append(line)
        else:
            rest += [*block, line]
            block = []
    if not files:
        return False
    text = Part("", Headers(), b"\n".join([*rest, *block]), "text/plain", part.params)
    _number(part, [text, *files])
    _become(part, "multipart/mixed", [text, *files])
    return True


def _open_pictures(part: Part) -> bool:
    """What was pasted into the text (`<img src="data:...">`): files which the HTML shows by their ids."""
    html = part.decoded()
    if b"base64," not in html:
        return False
    pictures: list[Part] = []

    def named(match: re.Match[bytes]) -> bytes:
        content = base64_bytes(match[3])
        if not content or len(pictures) >= PICTURES_MAX:
            return match[0]
        number, media_type = len(pictures) + 1, match[2].decode("ascii").lower()
        content_id = f"picture-{number}.{part.path}@mail.invalid"
        name = f"picture-{number}.{media_type.partition('/')[2].replace('jpeg', 'jpg')}"
        headers = Headers((("content-id", f"<{content_id}>"),))
        pictures.append(Part("", headers, content, media_type, {}, "inline", name))
        return b'src="cid:%s"' % content_id.encode()

    html = _PICTURE.sub(named, html)
    if not pictures:
        return False
    children = [Part("", Headers(), html, "text/html", part.params), *pictures]
    _number(part, children)
    _become(part, "multipart/related", children)
    return True


def _number(part: Part, children: list[Part]) -> None:
    for number, child in enumerate(children, 1):
        child.path = f"{part.path}.{number}"


def _become(part: Part, media_type: str, children: list[Part]) -> None:
    part.media_type, part.children, part.filename, part.disposition = media_type, children, "", ""
