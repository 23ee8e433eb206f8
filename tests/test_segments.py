"""Segments of an SMS: the platform's figures, and properties of every count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters._segments import Segments, count

COUNTS = {  # name of the case -> (text, segments)
    "nothing": ("", Segments("gsm", 0, 0)),
    "a word": ("Hello", Segments("gsm", 5, 1)),
    "one full segment": ("a" * 160, Segments("gsm", 160, 1)),
    "one septet more": ("a" * 161, Segments("gsm", 161, 2)),
    "two full segments": ("a" * 306, Segments("gsm", 306, 2)),
    "three": ("a" * 307, Segments("gsm", 307, 3)),
    "the whole extension": ("^{}\\[~]|€\f", Segments("gsm", 20, 1)),
    "the euro counts twice": ("€" * 80, Segments("gsm", 160, 1)),
    "an escape pair moves as one": ("a" * 152 + "€" + "a" * 152, Segments("gsm", 306, 3)),
    "an escape pair that just fits": ("a" * 151 + "€" + "a" * 153, Segments("gsm", 306, 2)),
    "the basic set's odd ones": ("@£$¥èéùìòÇØøÅåΔΦΓΛΩΠΨΣΘΞÆæßÉ¤¡ÄÖÑÜ§¿äöñüà", Segments("gsm", 41, 1)),
    "a backtick is no GSM": ("`", Segments("ucs2", 1, 1)),
    "nor is a small c cedilla": ("ç", Segments("ucs2", 1, 1)),
    "nor are a tab, quotes, a dash": ("\t“”–…\xa0", Segments("ucs2", 6, 1)),
    "one full segment of UCS-2": ("ж" * 70, Segments("ucs2", 70, 1)),
    "one unit more": ("ж" * 71, Segments("ucs2", 71, 2)),
    "one strange character makes all of it UCS-2": ("a" * 159 + "ж", Segments("ucs2", 160, 3)),
    "an emoji counts twice": ("😀" * 35, Segments("ucs2", 70, 1)),
    "a surrogate pair moves as one": ("ж" * 66 + "😀" + "ж" * 66, Segments("ucs2", 134, 3)),
    "a surrogate pair that just fits": ("ж" * 65 + "😀" + "ж" * 67, Segments("ucs2", 134, 2)),
}


@pytest.mark.parametrize(("text", "segments"), COUNTS.values(), ids=COUNTS)
def test_counts(text: str, segments: Segments) -> None:
    assert count(text) == segments


TEXTS = st.text(st.sampled_from("aB1 \n€{[жçx\u0301\u200d😀👍🏽🇫🇷각ᆨ") | st.characters(codec="utf-8"), max_size=300)


@given(TEXTS)
def test_property_segments_never_shrink_as_a_text_grows(text: str) -> None:
    found = [count(text[:end]).segments for end in range(len(text) + 1)]
    assert found == sorted(found)


@given(TEXTS)
def test_property_counting_agrees_with_packing_by_hand(text: str) -> None:
    counted = count(text)
    extended = set("^{}\\[~]|€\f")
    gsm = counted.alphabet == "gsm"
    widths = [(2 if char in extended else 1) if gsm else len(char.encode("utf-16-le")) // 2 for char in text]
    assert counted.units == sum(widths)
    if counted.units <= (160 if gsm else 70):
        assert counted.segments == bool(text)
        return
    parts, room = 0, 0
    for width in widths:
        if width > room:
            parts, room = parts + 1, 153 if gsm else 67
        room -= width
    assert counted.segments == parts
