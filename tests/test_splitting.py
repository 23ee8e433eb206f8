"""Long texts in parts: the best place for each cut, and properties of every cut in every unit."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from adapters import Limits
from adapters._channel import TextUnit
from outbox import measure
from outbox.splitting import split

FAMILY = "👨‍👩‍👧‍👦"
LINK = "https://shop.example/orders/1042?from=sms"
UNITS = get_args(TextUnit)

CUTS: dict[str, tuple[str, int, str, tuple[str, ...]]] = {  # name -> (text, most, unit, parts)
    "nothing": ("", 10, "chars", ()),
    "only blanks": (" \n ", 10, "chars", ()),
    "short": (" Hello ", 10, "chars", ("Hello",)),
    "exactly": ("a" * 10, 10, "chars", ("a" * 10,)),
    "a paragraph before a sentence": ("Aaaa bb.\n\nCcc. Ddd eee", 16, "chars", ("Aaaa bb.", "Ccc. Ddd eee")),
    "a line before a sentence": ("Aaaa bb\nCcc. Ddd eee", 14, "chars", ("Aaaa bb", "Ccc. Ddd eee")),
    "lines of Windows": ("Aaaa bb\r\nCcc. Ddd eee", 14, "chars", ("Aaaa bb", "Ccc. Ddd eee")),
    "a sentence before a word": ("Aa bb. Ccc ddd eee", 11, "chars", ("Aa bb.", "Ccc ddd eee")),
    "a sentence and its closing quote": ("“Aa bb.” Ccc ddd eee", 13, "chars", ("“Aa bb.”", "Ccc ddd eee")),
    "a word before a character": ("aaaa bbbb cccc", 10, "chars", ("aaaa bbbb", "cccc")),
    "a blank right after the end": ("one two three", 7, "chars", ("one two", "three")),
    "not so early that little is left": ("a. bbbbbbbbbbbb cc", 15, "chars", ("a. bbbbbbbbbbbb", "cc")),
    "several blanks": ("one  \n two", 5, "chars", ("one", "two")),
    "no blank at all": ("abcdef", 4, "chars", ("abcd", "ef")),
    "Chinese, at a full stop": ("你好吗。再见了朋友", 6, "chars", ("你好吗。", "再见了朋友")),
    "Chinese, its closing quote": ("「你好。」再见了朋友", 6, "chars", ("「你好。」", "再见了朋友")),
    "an address stays whole": (f"Followithere{LINK}", 50, "chars", ("Followithere", LINK)),
    "and what is written to it": (f"Follow it here{LINK}", 50, "chars", ("Follow it", f"here{LINK}")),
    "also when little is left": (f"Go:{LINK} now", 42, "chars", ("Go:", LINK, "now")),
    "an address longer than a message is torn": ("https://a.example/" + "x" * 8, 20, "chars",
                                                 ("https://a.example/xx", "xxxxxx")),
    "an emoji whole in UTF-16": ("👍👍", 3, "utf16", ("👍", "👍")),
    "a letter whole in bytes": ("ééé", 3, "bytes", ("é", "é", "é")),
    "a mark stays with its letter": ("aaax\u0323", 4, "chars", ("aaa", "x\u0323")),
    "a mark stays with its blank": ("aaaa \u0301b", 5, "chars", ("aaaa", " \u0301b")),
    "a family stays together": ("aa" + FAMILY, 12, "gsm", ("aa", FAMILY)),
    "a flag stays together": ("aa🇫🇷🇩🇪", 8, "gsm", ("aa🇫🇷", "🇩🇪")),
    "a skin tone stays": ("aaa👍🏽", 6, "gsm", ("aaa", "👍🏽")),
    "too large to stay together": ("👨‍👩‍👧", 3, "chars", ("👨‍👩", "\u200d👧")),
}  # fmt: skip


@pytest.mark.parametrize(("text", "most", "unit", "parts"), CUTS.values(), ids=CUTS)
def test_cuts(text: str, most: int, unit: Any, parts: tuple[str, ...]) -> None:
    assert split(text, Limits(most, "", text_unit=unit)) == parts


SEGMENTS: dict[str, tuple[str, int, tuple[str, ...]]] = {  # name -> (text, segments, parts)
    "one full segment": ("a" * 160, 1, ("a" * 160,)),
    "one septet more": ("a" * 161, 1, ("a" * 160, "a")),
    "no escape is torn from its character": ("a" * 159 + "€", 1, ("a" * 159, "€")),
    "ten segments": ("a" * 1531, 10, ("a" * 1530, "a")),
    "ten segments of UCS-2": ("ж" * 671, 10, ("ж" * 670, "ж")),
    "the emoji goes alone": ("a" * 800 + "😀", 10, ("a" * 800, "😀")),
    "composed, it is GSM": ("e\u0301" * 160, 1, ("e\u0301" * 160,)),
}


@pytest.mark.parametrize(("text", "segments", "parts"), SEGMENTS.values(), ids=SEGMENTS)
def test_cuts_by_segments(text: str, segments: int, parts: tuple[str, ...]) -> None:
    assert split(text, Limits(1600, "", text_unit="gsm", segment_max=segments)) == parts


def test_parts_may_be_numbered() -> None:
    limits = Limits(20, "")
    assert split("one two three four five", limits, counter=True) == ("(1/2) one two three", "(2/2) four five")
    many = split("word " * 40, limits, counter=True)
    assert (many[0], many[-1]) == ("(1/20) word word", "(20/20) word word")
    assert all(measure.fits(part, limits) for part in many)


ALPHABET = st.sampled_from("aB1. !\n€{[жçx\u0301\u200d😀👍🏽🇫🇷각ᆨ你。") | st.characters(codec="utf-8")
TEXTS = st.lists(ALPHABET | st.sampled_from([" ", "\r\n", FAMILY, f" {LINK} ", LINK, ". "]), max_size=120).map("".join)
ROOMY = len(FAMILY.encode()) + len(LINK)


@given(TEXTS, st.integers(ROOMY, 150), st.sampled_from(UNITS), st.integers(1, 3))
@example("€" * 81, 150, "gsm", 1)
@example("😀" * 36, 150, "gsm", 1)
def test_every_part_fits_and_only_blanks_are_lost(text: str, most: int, unit: Any, segments: int) -> None:
    limits = Limits(most, "", text_unit=unit, segment_max=segments if unit == "gsm" else None)
    bounds = {found.start() for found in regex.finditer(r"\X", text)} | {len(text)}
    links = [found.span() for found in regex.finditer(rf"(?<![^\s]){regex.escape(LINK)}(?![^\s])", text)]
    at, parts = 0, split(text, limits)
    for index, part in enumerate(parts):
        assert part
        assert part == part.rstrip()
        assert measure.fits(part, limits)
        start = text.index(part, at)
        assert text[at:start].strip() == ""
        longest = max((len(whole) for whole in regex.findall(r"\X", text)), default=0)
        if longest < 20:  # else a single character may be larger than a message, and is torn
            assert start in bounds
            assert index == len(parts) - 1 or start + len(part) in bounds | {start + len(part.rstrip())}
            assert not any(first < start < last for first, last in links)
        at = start + len(part)
    assert text[at:].strip() == ""


@given(TEXTS, st.integers(1, 12), st.sampled_from(UNITS))
def test_even_a_tiny_message_loses_nothing(text: str, most: int, unit: Any) -> None:
    parts = split(text, Limits(most, "", text_unit=unit))
    assert "".join("".join(parts).split()) == "".join(text.split())


@given(TEXTS, st.integers(ROOMY + 10, 150), st.sampled_from(UNITS))
def test_numbered_parts_fit_too(text: str, most: int, unit: Any) -> None:
    limits = Limits(most, "", text_unit=unit)
    parts = split(text, limits, counter=True)
    assert all(measure.fits(part, limits) for part in parts)
    bare = [part.removeprefix(f"({number}/{len(parts)}) ") for number, part in enumerate(parts, 1)]
    assert "".join("".join(bare).split()) == "".join(text.split())
