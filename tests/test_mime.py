"""Reading raw mail: what real senders get wrong, and what hostile ones try."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizers._html import sanitise, tame, to_text
from normalizers._mime import PARTS_MAX, Part, parse
from normalizers._mime_body import body_of, find_file, unflowed
from normalizers._mime_text import (
    decode_bytes,
    decode_words,
    mail_date,
    mailboxes,
    message_ids,
    own_form,
    parameters,
    references,
    safe_filename,
)


def addresses(value: str) -> list[tuple[str, str]]:
    return [(box.name, box.address) for box in mailboxes(value)]


ADDRESSES = {  # header -> (name, address) of each
    "plain": ("ann@b.test", [("", "ann@b.test")]),
    "quoted comma": ('"Lee, Ann" <ann@b.test>, bob@b.test', [("Lee, Ann", "ann@b.test"), ("", "bob@b.test")]),
    "unquoted comma": ("Foo, Bar <a@b.test>", [("Foo, Bar", "a@b.test")]),
    "brackets in the name": ("[JIRA] <a@b.test>", [("[JIRA]", "a@b.test")]),
    "two at signs": ("a@b@c.test", []),
    "a lone quote": ('"', []),
    "quote never closed": ('"Ann <a@b.test>', [("Ann", "a@b.test")]),
    "an open address literal": ("a@[1.2.3.4", []),
    "an address literal": ("a@[192.0.2.1]", [("", "a@[192.0.2.1]")]),
    "a comment as name": ("a@b.test (Ann (the first))", [("Ann (the first)", "a@b.test")]),
    "a comment alone": ("(c):", []),
    "a group": ("Team: a@b.test, b@b.test;", [("", "a@b.test"), ("", "b@b.test")]),
    "an empty group": ("undisclosed-recipients:;", []),
    "an encoded comma stays in the name": ("=?utf-8?q?Lee=2C_Ann?= <a@b.test>", [("Lee, Ann", "a@b.test")]),
    "an encoded line end": ("=?utf-8?q?a=0D=0ABcc=3A_x?= <a@b.test>", [("a Bcc: x", "a@b.test")]),
    "an encoded address is a name": ("=?utf-8?q?evil=40x.test?= <a@b.test>", [("evil@x.test", "a@b.test")]),
    "an empty pair": ("<>", []),
    "case and IDNA": ("Ann@BÜCHER.test", [("", "ann@xn--bcher-kva.test")]),
    "a quoted local part": ('"a.b"@c.test', [("", '"a.b"@c.test')]),
    "a trailing comma": ("a@b.test, ", [("", "a@b.test")]),
    "semicolons": ("a@b.test; c@d.test", [("", "a@b.test"), ("", "c@d.test")]),
    "mailto": ("<mailto:a@b.test>", [("", "a@b.test")]),
}


@pytest.mark.parametrize(("value", "found"), ADDRESSES.values(), ids=ADDRESSES)
def test_addresses(value: str, found: list[tuple[str, str]]) -> None:
    assert addresses(value) == found


WORDS = {
    "q": ("=?utf-8?q?Gr=C3=BC=C3=9Fe_an?= Ann", "Grüße an Ann"),
    "two words of one charset": ("=?utf-8?b?w6k=?=\t=?utf-8?b?w6k=?=", "éé"),
    "a character cut in two": ("=?utf-8?q?=C3?= =?utf-8?q?=A9?=", "é"),
    "unknown charset": ("=?foo?q?x=41?=", "xA"),
    "a dangerous codec": ("=?unicode_escape?q?=5Cu0041?=", "\\u0041"),
    "gb2312 means gb18030": ("=?gb2312?b?lUU=?=", "旹"),
    "a language": ("=?utf-8*en?q?hi?=", "hi"),
    "a line end inside": ("=?utf-8?q?a=0D=0Ab?=", "a b"),
    "broken base64": ("=?utf-8?b?w6k?=", "é"),
    "not a word": ("=? =?", "=? =?"),
    "overrides": ("a\u202eb", "a b"),
}


@pytest.mark.parametrize(("value", "text"), WORDS.values(), ids=WORDS)
def test_encoded_words(value: str, text: str) -> None:
    assert decode_words(value) == text


CHARSETS = {
    "declared": ("é".encode("cp1252"), "iso-8859-1", "é"),
    "declared wrongly, is UTF-8": ("é".encode(), "us-ascii", "é"),
    "ASCII with high bytes": (b"caf\xe9", "us-ascii", "café"),
    "windows-874": ("ไทย".encode("cp874"), "windows-874", "ไทย"),
    "x-sjis": ("テスト①".encode("cp932"), "x-sjis", "テスト①"),
    "iso-2022-jp undeclared": ("テスト".encode("iso2022_jp"), "", "テスト"),
    "iso-2022-jp called ASCII": ("テスト".encode("iso2022_jp"), "us-ascii", "テスト"),
    "iso-2022-jp of Windows": (b"\x1b$BF|-!-j|b\x1b(B a\r\n\x1b$B|b\x1b(IA1\x1b(B", "iso-2022-jp", "日①㈱髙 a\r\n髙ﾁｱ"),
    "iso-2022-jp of Windows, cut": (b"\x1b$BF|-!-", "iso-2022-jp", "日①\ufffd"),
    "iso-2022-jp of Windows, far below": (b"a" * 5000 + b"\x1b$B-!\x1b(B", "iso-2022-jp", "a" * 5000 + "①"),
    "iso-2022-kr": ("한".encode("iso2022_kr"), "iso-2022-kr", "한"),
    "Latin that is UTF-8": ("Grüße".encode(), "iso-8859-1", "Grüße"),
    "UTF-8 that is Latin": ("Grüße".encode("cp1252"), "utf-8", "Grüße"),
    "UTF-8 with a broken letter": ("Grüße".encode() + b"\xc3", "utf-8", "Grüße\ufffd"),
    "ks_c_5601-1987": ("뷁한".encode("cp949"), "ks_c_5601-1987", "뷁한"),
    "utf-7": (b"+AOk-", "unicode-1-1-utf-7", "é"),
    "no codec of text": (b"AAAA", "base64", "AAAA"),
    "a name with NUL": (b"a", "utf\x008", "a"),
    "nothing fits": (b"\xff\xfe\x81", "utf-8", "\ufffd\ufffd\ufffd"),
}


@pytest.mark.parametrize(("raw", "charset", "text"), CHARSETS.values(), ids=CHARSETS)
def test_charsets(raw: bytes, charset: str, text: str) -> None:
    assert decode_bytes(raw, charset) == text


PARAMETERS = {
    "plain": ("Text/Plain; Charset=UTF-8", ("text/plain", {"charset": "UTF-8"})),
    "quoted": (r'a/b; name="x;\"y"', ("a/b", {"name": 'x;"y'})),
    "sections": ("a/b; n*0*=utf-8''%C3%A9; n*1=x; n*2*=%21", ("a/b", {"n": "éx!"})),
    "a section without number": ("a/b; name*=utf-8''%C3%A9", ("a/b", {"name": "é"})),
    "an encoded word": ('a/b; name="=?utf-8?q?=C3=A9?="', ("a/b", {"name": "é"})),
    "nothing behind the star": ("a/b; name*", ("a/b", {})),
    "a line end": ("a/b; name*=utf-8''a%0D%0Ab", ("a/b", {"name": "a b"})),
}


@pytest.mark.parametrize(("value", "found"), PARAMETERS.values(), ids=PARAMETERS)
def test_parameters(value: str, found: tuple[str, dict[str, str]]) -> None:
    assert parameters(value) == found


GREETING = base64.encodebytes("Grüße von Ann, die längere Zeilen schreibt, als in eine passen.\n".encode()).decode()
SHORT, PADDED = "SGFsbG8g\n", "SGFsbG8=\n"  # Hallo, without padding and with
FOOTERS = {  # body in base64 -> its text
    "none": (GREETING, "Grüße von Ann, die längere Zeilen schreibt, als in eine passen."),
    "below a line": (
        f"{GREETING}\n{'_' * 47}\nchat mailing list -- chat@list.test\nhttps://list.test/größe\n",
        "Grüße von Ann, die längere Zeilen schreibt, als in eine passen.\n\n"
        f"{'_' * 47}\nchat mailing list -- chat@list.test\nhttps://list.test/größe",
    ),
    "at once": (f"{SHORT}--\nTo leave, write to leave@list.test", "Hallo\n\n--\nTo leave, write to leave@list.test"),
    "words alone": (f"{SHORT}\nleave the list\n", "Hallo\n\nleave the list"),
    "behind padding": (f"{PADDED}Footer\nof the list", "Hallo\n\nFooter\nof the list"),
    "a damaged line": (f"SGFs bG8g\n{'SGFsbG8g' * 9}\n", "Hallo " + "Hallo " * 9),
    "two pieces": (f"{PADDED}{PADDED}", "Hallo"),
}


@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(("body", "text"), FOOTERS.values(), ids=FOOTERS)
def test_a_footer_in_plain_below_base64(body: str, text: str, line_end: str) -> None:
    head = "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n"
    assert body_of(parse(f"{head}{body}".replace("\n", line_end).encode())).text == text.strip()


def test_a_footer_in_plain_below_html() -> None:
    page = base64.encodebytes(b"<html><body><p>Hello</p></body></html>").decode()
    head = "Content-Type: text/html\nContent-Transfer-Encoding: base64\n\n"
    body = body_of(parse(f"{head}{page}____\nThe list <https://list.test/>\n".encode()))
    assert "<p>Hello</p>" in body.html
    assert "The list &lt;https://list.test/&gt;" in body.html


FILENAMES = {
    "../../etc/passwd": "passwd",
    "C:\\temp\\a.txt": "a.txt",
    "a\r\nb.txt": "a b.txt",
    "safe\u202efdp.exe": "safe fdp.exe",
    "x" * 300 + ".pdf": "x" * 196 + ".pdf",
    "..": "",
}


@pytest.mark.parametrize(("name", "safe"), FILENAMES.items(), ids=range(len(FILENAMES)))
def test_filenames(name: str, safe: str) -> None:
    assert safe_filename(name) == safe


OWN_FORMS = {  # address -> the one of ours it is
    "support@shop.test": "support@shop.test",
    "support+t12@shop.test": "support@shop.test",
    "other@shop.test": "",
    "any@help.test": "any@help.test",
    "any+t12@help.test": "any@help.test",
    "any@sub.help.test": "",
    "any@a.eu.test": "any@a.eu.test",
    "any@a.b.eu.test": "any@a.b.eu.test",
    "any@eu.test": "",
    "nonsense": "",
}


@pytest.mark.parametrize(("address", "form"), OWN_FORMS.items(), ids=OWN_FORMS)
def test_our_own_addresses(address: str, form: str) -> None:
    assert own_form(address, {"support@shop.test", "*@help.test", "*@*.eu.test"}) == form


IDS = {
    "Exchange's brackets": ("<[x]@y>", ("[x]@y",)),
    "two": ("<a@b> <c@d>", ("a@b", "c@d")),
    "a blank inside": ("<a b@c>", ("ab@c",)),
    "empty": ("<>", ()),
    "half": ("<", ()),
    "bare": ("a@b", ("a@b",)),
}


@pytest.mark.parametrize(("value", "ids"), IDS.values(), ids=IDS)
def test_message_ids(value: str, ids: tuple[str, ...]) -> None:
    assert message_ids(value) == ids


def test_references_are_strongest_first_and_keep_the_root() -> None:
    assert references("<c@x>", "<a@x> <b@x> <c@x>") == ("c@x", "b@x", "a@x")
    many = references("", " ".join(f"<{n}@x>" for n in range(500)))
    assert (len(many), many[0], many[-1]) == (100, "499@x", "0@x")


@pytest.mark.parametrize("value", ["", "garbage", "Tue, 12 May 99999 10:00:00 +0000", "Tue, 12 May 2026 99:00:00"])
def test_no_date(value: str) -> None:
    assert mail_date(value) is None


def texts(raw: bytes) -> str:
    return body_of(parse(raw.replace(b"\n", b"\r\n"))).text


TREES = {  # raw mail -> text
    "a byte order mark": (b"\xef\xbb\xbfSubject: x\n\nHi", "Hi"),
    "a blank before the colon": (b"Content-Type : text/html\n\n<p>Hi</p>", "Hi"),
    "no blank line": (b"Subject: x\nHello there", "Hello there"),
    "a mailbox separator": (b"From a@b Tue\nSubject: x\n\nHi", "Hi"),
    "HTML called an attachment": (b"Content-Type: text/html\nContent-Disposition: attachment\n\n<p>Hi</p>", "Hi"),
    "boundary not stated": (b"Content-Type: multipart/mixed\n\n--x\n\nHi\n--x--\n", "Hi"),
    "never closed": (b"Content-Type: multipart/mixed; boundary=x\n\n--x\n\nHi", "Hi"),
    "text about the boundary": (
        b"Content-Type: multipart/mixed; boundary=x\n\n--x\n\nHi --x\n--xy\n--x--\n",
        "Hi --x\n--xy",
    ),
    "inner boundary begins with the outer": (
        b"Content-Type: multipart/mixed; boundary=x\n\n"
        b"--x\nContent-Type: multipart/mixed; boundary=xx\n\n--xx\n\nA\n--xx--\n"
        b"--x\n\nB\n--x--\n",
        "A\n\nB",
    ),
    "an empty HTML form": (
        b"Content-Type: multipart/alternative; boundary=x\n\n"
        b"--x\n\nHi\n--x\nContent-Type: text/html\n\n<p> </p>\n--x--\n",
        "Hi",
    ),
    "an unknown transfer encoding": (b"Content-Transfer-Encoding: rot13\n\nHi", "Hi"),
    "uuencode": (b'Content-Transfer-Encoding: x-uuencode\n\nbegin 644 a\n"2&D \n`\nend\n', "Hi"),
    "an unknown type": (b"Content-Type: nonsense\n\nHi", "Hi"),
    "a digest": (b"Content-Type: multipart/digest; boundary=x\n\n--x\n\nSubject: inner\n\nHi\n--x--\n", ""),
    "flowed": (b"Content-Type: text/plain; format=flowed\n\nHello \nworld\n", "Hello world"),
}


@pytest.mark.parametrize(("raw", "text"), TREES.values(), ids=TREES)
def test_trees(raw: bytes, text: str) -> None:
    assert texts(raw) == text


def test_a_doubled_header_keeps_both() -> None:
    headers = parse(b"From: a\r\nfrom:\r\n b\r\n c\r\n\r\n").headers
    assert headers.fields == (("from", "a"), ("from", "b c"))


def test_flowed_quotes_and_signatures_stay_apart() -> None:
    assert unflowed("> a \n> b\nc \n-- \nme") == "> a b\nc \n-- \nme"
    assert unflowed("ab \ncd", delsp=True) == "abcd"


def test_parts_are_found_again() -> None:
    root = parse(b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nA\r\n--x\r\n\r\nB\r\n--x--\r\n")
    assert [find_file(root, ref) for ref in ("part:1", "part:2", "part:3", "1")] == [b"A", b"B", None, None]


# --- hostile input: what would take minutes or the stack with ordinary parsers is cut off by a count, not by a clock --


def nested(depth: int, rest: bytes = b"") -> bytes:
    head = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (i, i) for i in range(depth))
    return head + b"\n" + rest


BOMBS = {
    "nested parts": nested(2000, b"x"),
    "nested mails": b"Content-Type: message/rfc822\n\n" * 2000 + b"x",
    "blank lines in open parts": nested(50, b"\n" * 500_000),
    "many parts": b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 50_000,
    "many headers": b"a: b\n" * 200_000,
    "one long header": b"a: " + b"b\n " * 200_000,
    "nearly boundaries": nested(50, b"\n--b" * 200_000),
    "quotes in an address": b"From: " + b'"\\' * 60_000 + b"\n\nx",
    "brackets in an address": b"From: " + b"(" * 60_000 + b"\n\nx",
    "colons in an address": b"From: " + b":" * 60_000 + b"\n\nx",
    "references": b"References: " + b"<" * 60_000 + b"\n\nx",
    "parameters": b"Content-Type: text/plain" + b';a="' * 20_000 + b"\n\nx",
}


@pytest.mark.parametrize("raw", BOMBS.values(), ids=BOMBS)
def test_bombs_are_read(raw: bytes) -> None:
    root = parse(raw)
    parts: list[Part] = list(root.walk())
    assert len(parts) <= 2 * PARTS_MAX
    body_of(root)


HTML_BOMBS = {
    "deep": "<div>" * 100_000,
    "formatting repeated in every block": "".join(f"<font size={i}>" for i in range(1900)) + "<p>x" * 50_000,
    "attributes": "<p " + " ".join(f"a{i}=1" for i in range(50_000)) + ">",
    "ampersands": "&" * 1_000_000,
    "large": "x" * (3 * 2**20),
}


@pytest.mark.parametrize("html", HTML_BOMBS.values(), ids=HTML_BOMBS)
def test_html_bombs_are_not_parsed(html: str) -> None:
    assert not tame(html)
    assert sanitise(html) == ""
    to_text(html)


CLEAN = {
    "scripts": ("<p onclick=x>a<script>b</script></p>", "<p>a</p>"),
    "right to left": ('<div dir="rtl">a</div>', '<div dir="rtl">a</div>'),
    "remote images": ('<img src="https://t.test/x.gif" alt="y">', '<img alt="y">'),
    "own images": ('<img src="cid:a@b">', '<img src="cid:a@b">'),
    "images inside": ('<img src="data:image/png;base64,AAAA">', "<img>"),
    "schemes": ('<a href="javascript:x">a</a><a href="tel:1">b</a>', None),
    "surrogates and NUL": ("a\ud800\0b", "a\ufffdb"),
}


@pytest.mark.parametrize(("html", "safe"), CLEAN.values(), ids=CLEAN)
def test_sanitise(html: str, safe: str | None) -> None:
    result = sanitise(html)
    assert "javascript" not in result
    assert safe is None or result == safe


TEXTS = {
    "blocks": ("<p>a</p><p>b<br>c</p><ul><li>d</li></ul>", "a\n\nb\nc\n\n- d"),
    "hidden": ('<div style="display: none">pre</div>a<style>x</style>', "a"),
    "preformatted": ("<pre>a\n b</pre>", "a\nb"),
    "cells": ("<table><tr><td>a</td><td>b</td></tr></table>", "a b"),
    "entities": ("a&nbsp;&amp;&eacute;", "a &é"),
    "an XML declaration": ('<?xml version="1.0" encoding="utf-16"?><p>é</p>', "é"),
}


@pytest.mark.parametrize(("html", "text"), TEXTS.values(), ids=TEXTS)
def test_html_to_text(html: str, text: str) -> None:
    assert to_text(html) == text


LINKS = {
    "<p>Pay <a href='https://x.test/pay'><b>here</b></a>.</p>": "Pay here (https://x.test/pay).",
    "<a href='https://x.test/'>x.test</a>": "x.test",
    "<a href='https://x.test/a'>x.test</a>": "x.test (https://x.test/a)",
    "<a href='mailto:a@x.test'>Mail us</a>, <a href='tel:+491'>+49 1</a>": "Mail us (a@x.test), +49 1",
    "<a href='https://x.test/i'><img src='cid:1'></a>": "https://x.test/i",
    "<a href='#top'>up</a> <a>no link</a>": "up no link",
    "<a href='https://x.test' style='display:none'>unseen</a>": "",
}


@pytest.mark.parametrize(("html", "text"), LINKS.items(), ids=LINKS)
def test_what_links_lead_to(html: str, text: str) -> None:
    assert to_text(html, addresses=True) == text


@given(st.text(max_size=200))
def test_header_readers_take_anything(value: str) -> None:
    mailboxes(value)
    decode_words(value).encode()
    parameters(value)
    message_ids(value)
    mail_date(value)
    assert "/" not in safe_filename(value)
    sanitise(value).encode()
    to_text(value).encode()
