"""Parts that hide others: winmail.dat, opaque signatures, uuencoded files, invitations. All bytes are made here."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime, timedelta
from struct import pack

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7Options, PKCS7SignatureBuilder
from cryptography.x509.oid import NameOID

from normalizers._calendar import summary
from normalizers._cms import signed_content
from normalizers._mime import parse
from normalizers._mime_body import Body, body_of, find_file
from normalizers._mime_unpack import read_mail
from normalizers._tnef import unwrap

# --- winmail.dat ------------------------------------------------------------------------------------------------------


def obj(level: int, name: int, content: bytes) -> bytes:
    return pack("<BHHI", level, name, 6, len(content)) + content + pack("<H", sum(content) & 0xFFFF)


def prop(kind: int, name: int, value: bytes) -> bytes:
    return pack("<HHII", kind, name, 1, len(value)) + value + b"\0" * (-len(value) % 4)


def named_prop() -> bytes:
    """One whose name is a text: its value comes behind it."""
    return pack("<HH", 0x03, 0x8001) + b"g" * 16 + pack("<II", 1, 5) + b"a\0b\0\0" + b"\0" * 3 + pack("<I", 7)


def winmail(*objects: bytes) -> bytes:
    return b"\x78\x9f\x3e\x22" + pack("<H", 1) + b"".join(objects)


LONG = (
    named_prop() + prop(0x1F, 0x3707, "Übersicht.pdf\0".encode("utf-16-le")) + prop(0x1E, 0x370E, b"application/pdf\0")
)
ENVELOPE = winmail(
    obj(1, 0x9006, pack("<I", 0x10000)),
    obj(1, 0x9003, pack("<I", 1) + prop(0x102, 0x1013, b"<p>Hello <b>there</b></p>")),
    obj(2, 0x9002, b"\0" * 14), obj(2, 0x8010, b"UEBER~1.PDF\0"), obj(2, 0x800F, b"%PDF-"),
    obj(2, 0x9005, pack("<I", 3) + LONG),
    obj(2, 0x9002, b"\0" * 14), obj(2, 0x9005, pack("<I", 1) + prop(0x102, 0x3701, b"in a property")),
)  # fmt: skip


def with_part(media_type: str, content: bytes, text: str = "Hello") -> bytes:
    encoded = binascii.b2a_base64(content, newline=False)
    return (
        b"From: a@b.test\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n" + text.encode()
        + b"\r\n--x\r\nContent-Type: " + media_type.encode()
        + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded + b"\r\n--x--\r\n"
    )  # fmt: skip


def files(body: Body) -> list[tuple[str, str, str]]:
    return [(file.filename, file.media_type, file.ref) for file in body.attachments]


def test_winmail_is_opened() -> None:
    root = read_mail(with_part('application/ms-tnef; name="winmail.dat"', ENVELOPE))
    body = body_of(root)
    assert body.text == "Hello"
    assert files(body) == [
        ("Übersicht.pdf", "application/pdf", "part:2.1"), ("file", "application/octet-stream", "part:2.2"),
    ]  # fmt: skip
    assert find_file(root, "part:2.1") == b"%PDF-"
    assert find_file(root, "part:2.2") == b"in a property"


def test_its_text_stands_where_the_mail_has_none() -> None:
    raw = b"Content-Type: application/ms-tnef\r\nContent-Transfer-Encoding: base64\r\n\r\n" + binascii.b2a_base64(
        ENVELOPE
    )
    body = body_of(read_mail(raw))
    assert (body.text, body.html) == ("Hello there", "<p>Hello <b>there</b></p>")


BROKEN_TNEF = {
    "another file": b"PK\x03\x04",
    "nothing behind the signature": winmail(),
    "an object longer than the file": winmail(pack("<BHHI", 2, 0x8010, 6, 2**32 - 1)),
    "a count of billions": winmail(
        obj(2, 0x9002, b""), obj(2, 0x9005, pack("<I", 1) + pack("<HHI", 0x101E, 0x3707, 2**32 - 1))
    ),
    "a name of billions": winmail(
        obj(2, 0x9002, b""),
        obj(2, 0x9005, pack("<I", 1) + pack("<HH", 0x03, 0x8001) + b"g" * 16 + pack("<II", 1, 2**32 - 1)),
    ),
    "many empty objects": winmail(*(obj(2, 0x9002, b"") for _ in range(20_000))),
}


@pytest.mark.parametrize("raw", BROKEN_TNEF.values(), ids=BROKEN_TNEF)
def test_a_broken_winmail_stays_a_file(raw: bytes) -> None:
    body = body_of(read_mail(with_part('application/ms-tnef; name="winmail.dat"', raw)))
    assert files(body) == [("winmail.dat", "application/ms-tnef", "part:2")]


def test_every_beginning_of_a_winmail_is_read() -> None:
    for size in range(len(ENVELOPE)):
        unwrap(ENVELOPE[:size])


# --- signatures -------------------------------------------------------------------------------------------------------


def signed(content: bytes, *options: PKCS7Options) -> bytes:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ann")])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now).not_valid_after(now + timedelta(days=9)).sign(key, hashes.SHA256())
    )  # fmt: skip
    builder = PKCS7SignatureBuilder().set_data(content).add_signer(certificate, key, hashes.SHA256())
    return builder.sign(Encoding.DER, [PKCS7Options.Binary, *options])


INNER = (
    b"Content-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\nSigned words\r\n"
    b"--y\r\nContent-Type: image/png\r\n\r\nPNG\r\n--y--\r\n"
)


@pytest.fixture(scope="module")
def opaque() -> bytes:
    return signed(INNER)


def opaque_mail(content: bytes) -> bytes:
    head = b"From: a@b.test\r\nContent-Type: application/pkcs7-mime; smime-type=signed-data; name=smime.p7m\r\n"
    return head + b"Content-Transfer-Encoding: base64\r\n\r\n" + binascii.b2a_base64(content)


def test_an_opaque_signature_is_opened(opaque: bytes) -> None:
    root = read_mail(opaque_mail(opaque))
    body = body_of(root)
    assert (body.text, body.flags) == ("Signed words", ())
    assert find_file(root, body.attachments[0].ref) == b"PNG"


def streamed(content: bytes) -> bytes:
    """The same as mail programs write that do not know the length beforehand (X.690, 8.1.3.6)."""
    cut = [content[start : start + 2] for start in range(0, len(content), 2)]
    pieces = b"".join(bytes((0x04, len(piece))) + piece for piece in cut)
    octets = b"\x24\x80" + pieces + b"\0\0"
    inner = b"\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01\xa0\x80" + octets + b"\0\0\0\0"
    data = b"\x30\x80\x02\x01\x01\x31\x00" + inner + b"\x31\x00\0\0"
    return b"\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0\x80" + data + b"\0\0\0\0"


def test_a_streamed_one_too() -> None:
    content = b"Content-Type: text/plain\r\n\r\nHi" + b" "
    assert signed_content(streamed(content)) == content


def test_what_is_signed_apart_encrypted_or_broken_stays(opaque: bytes) -> None:
    apart = signed(INNER, PKCS7Options.DetachedSignature)
    encrypted = opaque.replace(bytes.fromhex("2a864886f70d010702"), bytes.fromhex("2a864886f70d010703"))
    deep = b"\x30\x80" * 5000
    for content in (apart, encrypted, deep, b"", b"\x30", b"\x30\x84\xff\xff\xff\xff"):
        assert signed_content(content) is None
    assert "encrypted" in body_of(read_mail(opaque_mail(encrypted))).flags
    for size in range(0, len(opaque), 7):
        signed_content(opaque[:size])


# --- uuencode ---------------------------------------------------------------------------------------------------------


def uu(content: bytes, name: str = "a b.txt") -> bytes:
    lines = [binascii.b2a_uu(content[start : start + 45]) for start in range(0, len(content), 45)]
    return f"begin 644 {name}\n".encode() + b"".join(lines) + b"`\nend\n"


def test_files_written_into_a_text_are_files() -> None:
    content = bytes(range(200))
    raw = b"From: a@b.test\n\nHello\n" + uu(content) + b"and\n" + uu(b"x", "../y.bin") + b"Bye\n"
    root = read_mail(raw.replace(b"\n", b"\r\n"))
    body = body_of(root)
    assert body.text.replace("\r", "") == "Hello\nand\nBye"
    assert [file.filename for file in body.attachments] == ["a b.txt", "y.bin"]
    assert [find_file(root, file.ref) for file in body.attachments] == [content, b"x"]


@pytest.mark.parametrize(
    "text",
    [
        "begin 644 me\nthis is no file\nend",
        "We begin 644 things\nend",
        "begin 644 x\n#86)C\nnever ended",
        "begin 644 x\nbegin 644 y\nend\nend",
    ],
)
def test_words_that_only_look_so_stay(text: str) -> None:
    body = body_of(read_mail(f"From: a@b.test\n\n{text}\n".encode()))
    assert (body.text, body.attachments) == (text, ())


# --- invitations ------------------------------------------------------------------------------------------------------

ICS = (
    "BEGIN:VCALENDAR\r\nMETHOD:{method}\r\nBEGIN:VTIMEZONE\r\nDTSTART:19700101T000000\r\nEND:VTIMEZONE\r\nBEGIN:VEVENT\r\n"
    "SUMMARY:Visit\\, long\r\n  name\r\nDTSTART;TZID=Europe/Berlin:20260512T100000\r\nDTEND:20260512T090000Z\r\n"
    "LOCATION:Room 1\\nHouse\r\nATTENDEE;PARTSTAT=ACCEPTED:mailto:a@b.test\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)
WHEN = "When: 2026-05-12 10:00 (Europe/Berlin) to 2026-05-12 09:00 UTC\nWhere: Room 1 House"
SUMMARIES = {
    "REQUEST": f"Invitation: Visit, long name\n{WHEN}",
    "CANCEL": f"Cancelled: Visit, long name\n{WHEN}",
    "REPLY": f"Answer to an invitation: Visit, long name\n{WHEN}\nAnswer: accepted",
    "": f"Event: Visit, long name\n{WHEN}",
}


@pytest.mark.parametrize(("method", "text"), SUMMARIES.items(), ids=SUMMARIES)
def test_what_an_invitation_says(method: str, text: str) -> None:
    assert summary(ICS.format(method=method)) == text


def test_an_invitation_alone_is_read_out_and_stays_a_file() -> None:
    raw = f"Content-Type: text/calendar; method=REQUEST\r\n\r\n{ICS.format(method='REQUEST')}"
    body = body_of(read_mail(raw.encode()))
    assert body.text == SUMMARIES["REQUEST"]
    assert [file.media_type for file in body.attachments] == ["text/calendar"]
    assert body_of(read_mail(with_part("text/calendar", ICS.encode()))).text == "Hello"
    assert summary("nothing of the kind") == ""


def test_an_answer_to_an_invitation_in_an_empty_page_is_read_out() -> None:
    page = "Content-Type: text/html\r\n\r\n<html><body><br></body></html>"
    raw = f"Content-Type: multipart/alternative; boundary=x\r\n\r\n--x\r\n{page}\r\n--x\r\nContent-Type: text/calendar"
    body = body_of(read_mail(f"{raw}\r\n\r\n{ICS.format(method='REPLY')}\r\n--x--\r\n".encode()))
    assert (body.text, body.html, body.flags) == (SUMMARIES["REPLY"], "", ())


PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


def test_pictures_pasted_into_a_page_are_files_it_shows() -> None:
    page = f"""<p>Gr\xfc\xdfe: <IMG alt=a src='data:image/png;base64,{PICTURE[:8]}\r\n{PICTURE[8:]}'> and
        <img src = "data:image/jpeg;name=b.jpg;base64,{PICTURE}"></p><img src="data:image/svg+xml;base64,{PICTURE}">
        <div style="background:url('data:image/png;base64,{PICTURE}')">data:image/png;base64,{PICTURE}</div>"""
    root = read_mail(b"Content-Type: text/html; charset=iso-8859-1\r\n\r\n" + page.encode("latin-1"))
    body = body_of(root)
    assert [(file.filename, file.media_type, file.kind, file.content_id) for file in body.attachments] == [
        ("picture-1.png", "image/png", "image", "picture-1.1@mail.invalid"),
        ("picture-2.jpg", "image/jpeg", "image", "picture-2.1@mail.invalid"),
    ]
    assert body.text == "Grüße: and"
    assert body.html.count('src="cid:picture-') == 2
    assert "Grüße" in body.html
    assert find_file(root, body.attachments[1].ref) == base64.b64decode(PICTURE)


def test_pictures_of_a_page_beside_its_plain_form() -> None:
    page = f'Content-Type: text/html\r\n\r\n<p>Look</p><img src="data:image/png;base64,{PICTURE}">'
    raw = f"Content-Type: multipart/alternative; boundary=x\r\n\r\n--x\r\n\r\nLook\r\n--x\r\n{page}\r\n--x--\r\n"
    body = body_of(read_mail(raw.encode()))
    assert (body.text, body.html) == ("Look", '<p>Look</p><img src="cid:picture-1.2@mail.invalid">')
    assert files(body) == [("picture-1.png", "image/png", "part:2.2")]


def test_a_file_without_a_name_gets_one_that_opens() -> None:
    assert files(body_of(read_mail(with_part("application/pdf", b"%PDF-")))) == [
        ("part-2.pdf", "application/pdf", "part:2")
    ]


def test_mail_that_hides_nothing_is_the_same_tree() -> None:
    raw = with_part("image/png", b"PNG")
    assert [part.path for part in read_mail(raw).walk()] == [part.path for part in parse(raw).walk()]
