"""What is indexed and what is asked for meet: words in many scripts, phone numbers in any form, phrases, numbers."""

from __future__ import annotations

import pytest

from gateway.words import Question, Term, fold, indexed, phone_forms, question, words

WORDS = {
    "case and accents": ("Ärger in CAFÉ", ["arger", "in", "cafe"]),
    "full width": ("ＡＢＣ １２", ["abc", "12"]),
    "half width kana": ("ｶﾞｽ", ["ガス", "ス"]),
    "a handle": ("@ann_k.99", ["ann", "k", "99"]),
    "a mail address": ("Ann.Lee@Example.com", ["ann", "lee", "example", "com"]),
    "Japanese": ("荷物はAB", ["荷物", "物は", "は", "ab"]),
    "Chinese": ("订单号", ["订单", "单号", "号"]),
    "Korean": ("안녕 하세요", ["안녕", "녕", "하세", "세요", "요"]),
    "Thai": ("ไทย", ["ไท", "ทย", "ย"]),
    "Hindi": ("हिन्दी है", ["हिन्दी", "है"]),
    "Greek": ("ΟΔΟΣ", ["οδοσ"]),
    "emoji": ("Hi😀there 😀😀", ["hi", "😀", "there", "😀", "😀"]),
    "emoji as pictures and with skin": ("❤️👍🏽", ["❤", "👍"]),
    "emoji of several": ("👩🏻‍💻", ["👩", "💻"]),
    "flags": ("🇩🇪🇫🇷", ["🇩🇪", "🇫🇷"]),
    "a key": ("1️⃣", ["1"]),
    "nothing but signs": ("%% -- !", []),
    "nothing": ("", []),
}


@pytest.mark.parametrize(("text", "found"), WORDS.values(), ids=WORDS)
def test_words_of_many_scripts(text: str, found: list[str]) -> None:
    assert words(text) == found


def test_folding_is_the_same_twice() -> None:
    for text in ("Straße", "İstanbul", "ﬁn", "ガ", "한글", "Ⅷ", "Ǆ", "ΐ"):
        assert fold(fold(text)) == fold(text)


def _meets(asked: Question | None, entry: str) -> bool:
    """Whether an entry of the search table is found, as both stores do it."""
    if asked is None:
        return False
    there = entry.split()

    def has(term: Term) -> bool:
        return any(word.startswith(term.word) if term.prefix else word == term.word for word in there)

    return all(any(all(map(has, terms)) for terms in group) for group in asked.groups) and all(
        phrase in entry for phrase in asked.phrases
    )


MEET = {
    "the last word may go on": ("blue par", "The blue parcel", True),
    "the others may not": ("blu parcel", "The blue parcel", False),
    "a space ends the last word": ("par ", "The blue parcel", False),
    "one letter stands for itself": ("p", "The blue parcel", False),
    "all words must be there": ("blue bike", "The blue parcel", False),
    "in any order": ("parcel blue", "The blue parcel", True),
    "a phrase": ('"blue parcel"', "The blue parcel", True),
    "a phrase the other way round": ('"parcel blue"', "The blue parcel", False),
    "a phrase and a word": ('"the blue" par', "The blue parcel", True),
    "a quote that does not end": ('"blue par', "The blue parcel", True),
    "accents do not matter": ("koln", "Köln", True),
    "nor on the other side": ("Köln", "Koln", True),
    "two characters": ("荷物", "私の荷物です", True),
    "a longer run": ("物番号", "荷物番号は", True),
    "a single character in the middle": ("物", "荷物番号", True),
    "a single character at the end": ("号", "荷物番号", True),
    "characters that are apart": ("荷番", "荷物番号", False),
    "a phrase of characters": ('"荷物番号"', "その荷物番号は", True),
    "E.164": ("+4915112345678", "+4915112345678", True),
    "with spaces": ("+49 151 1234 5678", "+4915112345678", True),
    "national": ("0151 12345678", "+4915112345678", True),
    "with brackets": ("(0151) 1234-5678", "+4915112345678", True),
    "00 for +": ("0049 151 12345678", "+4915112345678", True),
    "a piece of it": ("2345678", "+4915112345678", True),
    "another number": ("0151 12345679", "+4915112345678", False),
    "as it stands in a text": ("+49 151 12345678", "Call me: 0151/1234 5678!", True),
    "a handle with @": ("@ann_k", "ann_k", True),
    "without": ("ann_k", "@ann_k", True),
    "a mail address": ("ann@example.com", "<Ann@Example.com>", True),
    "an order number": ("A-77", "Order a-77 is late", True),
    "a date": ("2026-11-29", "since 2026-11-29", True),
    "only signs": ("%", "100 %", False),
    "a lone emoji": ("😀", "great 😀!", True),
    "another emoji": ("😢", "great 😀!", False),
    "without its picture's sign": ("❤", "❤️", True),
    "another with the same sign": ("❤️", "☀️", False),
    "another colour of skin": ("👍🏿", "👍🏽", True),
    "an emoji and a word": ("great 😀", "😀 that is great", True),
    "a phrase with an emoji": ('"great 😀"', "great 😀!", True),
    "a phrase with another": ('"great 😀"', "great! 😢", False),
    "a flag": ("🇩🇪", "from 🇩🇪", True),
    "the flag of another": ("🇪🇩", "🇩🇪🇩🇪", False),
    "digits within a word": ("4711", "DE4711X is late", True),
    "digits at its end": ("4711", "order de4711", True),
    "digits at its beginning": ("4711 ", "4711x", True),
    "more digits within a word": ("471108", "DE471108X", True),
    "a part of those": ("7110", "DE47110X", False),
    "digits of a longer number": ("4711", "DE14711", False),
    "a phrase with them": ('"order DE4711X late"', "order de4711x late", True),
    "an operator is a word": ("OR", "one or two", True),
    "so is NOT": ("NOT blue", "blue", False),
    "signs of a query language": ('parcel* AND (blue) ^"', "The blue parcel and", True),
}


@pytest.mark.parametrize(("asked", "said", "meets"), MEET.values(), ids=MEET)
def test_questions_and_texts_meet(asked: str, said: str, meets: bool) -> None:
    assert _meets(question(asked), indexed([said])) is meets


def test_a_number_sign_asks_for_exactly_that_ticket() -> None:
    assert question("#12") == Question((((Term("№12"),),),))
    assert question("#0012") == question("#12")
    assert not _meets(question("#12"), " №123 123 ")
    assert _meets(question("#12 parcel"), " №12 12 blue parcel ")


def test_no_question_is_without_end() -> None:
    asked = question(" ".join(f"word{number}" for number in range(500)))
    assert asked is not None
    assert len(asked.groups) <= 16
    assert question("x" * 100_000) is not None
    assert len(indexed(["word " * 100_000]).split()) <= 5_000
    assert question("") is question("  ") is question('""') is question("#") is None


def test_phones_know_their_region() -> None:
    assert phone_forms("0151 12345678", "DE")[0] == "4915112345678"
    assert phone_forms("0151 12345678") == ["15112345678"]
    assert phone_forms("1234") == phone_forms("a 12345") == []
