"""Hostile mail costs what its size costs, and no more: counted in calls and in bytes, never by the clock.

Twice the mail must not be more than about twice the calls (a quadratic reader makes four times as many), and what is
held in memory stays a small multiple of what came.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import pytest

from normalizers.email import normalize
from normalizers.model import Account, Received, Unreadable

HEAD = b"From: a@b.test\r\nSubject: x\r\n"
ACCOUNT = Account("mail", "email", frozenset({"support@shop.test", "*@help.test"}))

FAMILIES: dict[str, Callable[[int], bytes]] = {  # what is known to bring readers of mail down, by its size
    "recipients": lambda n: HEAD + b"To: " + b"a@b.test, " * n + b"\r\n\r\nHi",
    "open quotes": lambda n: HEAD + b"To: " + b'"' * n + b"\r\n\r\nHi",
    "nested comments": lambda n: HEAD + b"To: " + b"(" * n + b"\r\n\r\nHi",
    "references": lambda n: HEAD + b"References: " + b"<a@b> " * n + b"\r\n\r\nHi",
    "encoded words": lambda n: HEAD.replace(b"x", b"=?utf-8?q?a?= " * n) + b"\r\nHi",
    "headers": lambda n: b"X-A: b\r\n" * n + HEAD + b"\r\nHi",
    "parts": lambda n: HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * n,
    "no boundaries": lambda n: (
        HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + b"--bx\r\n" * n
    ),
    "nested mails": lambda n: HEAD + b"Content-Type: message/rfc822\r\n\r\n" * n + b"x",
    "blank lines": lambda n: HEAD + b"\r\n" + b"\r\n" * n,
    "attributions": lambda n: HEAD + b"\r\n" + b"On " * n,
    "header blocks": lambda n: HEAD + b"\r\n" + b"From: a\r\n" * n,
    "quoted lines": lambda n: HEAD + b"\r\n" + b"> a\r\nb\r\n" * n,
    "uuencoded beginnings": lambda n: HEAD + b"\r\n" + b"begin 644 x\r\n#86)C\r\n" * n + b"end\r\n",
    "open elements": lambda n: HEAD + b"Content-Type: text/html\r\n\r\n" + b"<div>" * n,
    "status blocks": lambda n: HEAD + b"Content-Type: message/delivery-status\r\n\r\n" + b"Action: failed\r\n\r\n" * n,
    "winmail objects": lambda n: HEAD + b"Content-Type: application/ms-tnef\r\n\r\n\x78\x9f\x3e\x22\0\0"
    + (b"\2\2\x90\0\0\0\0\0\0\0\0") * n,
    "nested signatures": lambda n: HEAD + b"Content-Type: application/pkcs7-mime\r\n\r\n" + b"\x30\x80" * n,
    "calendar lines": lambda n: HEAD + b"Content-Type: text/calendar\r\n\r\nBEGIN:VEVENT\r\n" + b"SUMMARY:x\r\n" * n,
}  # fmt: skip


def read(raw: bytes) -> Any:
    (event, *_) = normalize(Received(raw, {}, {}, datetime(2026, 5, 12, tzinfo=UTC), ACCOUNT))
    assert not isinstance(event, Unreadable), event.problem
    return event


def calls(raw: bytes) -> int:
    """How many functions are called to read a mail, those written in C too."""
    count = 0

    def counting(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counting)
    try:
        read(raw)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("name", FAMILIES)
def test_twice_the_mail_is_twice_the_work(name: str) -> None:
    make = FAMILIES[name]
    read(make(10))  # what is set up once
    small, large = calls(make(1500)), calls(make(3000))
    assert large < 2.3 * small + 2000


@pytest.mark.parametrize("name", FAMILIES)
def test_memory_stays_a_multiple_of_the_mail(name: str) -> None:
    make = FAMILIES[name]
    raw = make(max(1, 500_000 // max(len(make(2)) - len(make(1)), 1)))
    tracemalloc.start()
    try:
        read(raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * len(raw) + 20_000_000
