"""Only we can make an address that opens a file, and it does not stay open."""

from __future__ import annotations

from datetime import timedelta

import pytest

from config.secret import Secret
from gateway import signed_urls
from gateway.tokens import Tokens
from tests.pigeon import START

TOKENS = Tokens([Secret("key")])
GOOD = signed_urls.make(TOKENS, "ab12", START)
VALID = signed_urls.VALID


def test_it_opens_until_its_end() -> None:
    assert signed_urls.check(TOKENS, GOOD, START) == "ab12"
    assert signed_urls.check(TOKENS, GOOD, START + VALID - timedelta(seconds=1)) == "ab12"
    assert signed_urls.check(TOKENS, GOOD, START + VALID) is None


@pytest.mark.parametrize(
    "token", ["", "a", "a.b.c", "..", GOOD[:-1], GOOD + "0", GOOD.replace("ab12", "ab13"), "é" + GOOD, "x" * 999]
)
def test_nothing_else_opens_anything(token: str) -> None:
    assert signed_urls.check(TOKENS, token, START) is None


def test_another_key_opens_nothing() -> None:
    assert signed_urls.check(Tokens([Secret("other")]), GOOD, START) is None
