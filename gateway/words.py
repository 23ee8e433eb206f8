"""The one tokeniser: what is indexed and what is asked for pass through it alike, on every store. Pure.

A word is a run of letters, marks and digits, folded: compatibility forms, case and Latin accents do not matter. Scripts
that put no spaces between words (Chinese, Japanese, Thai and their neighbours), and Korean, whose words carry endings,
are cut into pairs of neighbouring characters. A phone number is found in any form: the ends of its digits are words
too; so are four digits within a word of letters. An emoji or a flag is a word, whatever the colour of its skin.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec
import phonenumbers
import regex

WORD_MAX = 64  # characters; longer runs are cut, in the index and in the question alike
WORDS_MAX = 5_000  # words of one text that are indexed
TEXT_MAX = 50_000  # characters of one text that are looked at
ASKED_MAX = 16  # words of a question; further ones are left out
PREFIX_MIN = 2  # letters the last word must have to stand for its continuations too
DIGITS_MIN, DIGITS_MAX = 5, 15  # fewer are no phone number one could look for; E.164 has no more
NUMBER_MARK = "№"  # before a ticket's number

_PAIRED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"  # Hangul
    "\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_EMOJI = r"\p{Extended_Pictographic}|\p{Regional_Indicator}{2}"  # of a sequence (a woman, a joiner, a laptop) each one
_RUN = regex.compile(rf"(?P<paired>[{_PAIRED}]+)|(?P<emoji>{_EMOJI})|[[\p{{L}}\p{{M}}\p{{N}}]--[{_PAIRED}]]+", regex.V1)
_PLAIN = re.compile(r"[a-z0-9]+")  # of folded ASCII text
_ACCENTS = re.compile("[\u0300-\u036f]")
_PHONE = re.compile(r"[+(]?[0-9][0-9 ()./\-\u00a0]{3,30}[0-9]")
_DIGIT = re.compile(r"[0-9]")
_DIGITS = re.compile(rf"[0-9]{{{DIGITS_MIN - 1},}}")
_ASKED = re.compile(r'"(?P<phrase>[^"]*)"|(?P<rest>[^"]+)')
_TICKET = re.compile(r"#([0-9]{1,18})")
_JOINERS = re.compile(  # and what only says how an emoji looks: text or picture, a key around it, the colour of skin
    "[\u200b-\u200d\u2060\ufeff\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff]"
)


def fold(text: str) -> str:
    """The text as it is compared: compatibility forms, case and Latin accents gone."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", _JOINERS.sub("", text)).casefold()
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", folded)))


def words(text: str, *, ends: bool = True) -> list[str]:
    """The words of a text in order, as they are indexed. A run of paired script ends with its last character alone, so
    that a single character finds every run it stands in; `ends` False: without those, as they are asked for."""
    folded = fold(text[:TEXT_MAX])
    if folded.isascii():
        return [part for run in _PLAIN.findall(folded) for part in _cut(run)][:WORDS_MAX]
    found: list[str] = []
    for match in _RUN.finditer(folded):
        run = match[0]
        if match["paired"]:
            found += [run[place : place + 2] for place in range(len(run) if ends else max(1, len(run) - 1))]
        else:
            found += _cut(run)
    return found[:WORDS_MAX]


def _cut(run: str) -> Iterable[str]:
    return (run,) if len(run) <= WORD_MAX else (run[at : at + WORD_MAX] for at in range(0, len(run), WORD_MAX))


def phone_digits(text: str) -> list[str]:
    """The digits of everything in the text that may be a phone number, without leading zeros."""
    if not _DIGIT.search(text):
        return []
    found = []
    for match in _PHONE.finditer(text[:TEXT_MAX]):
        digits = re.sub(r"[^0-9]", "", match[0]).lstrip("0")
        if DIGITS_MIN <= len(digits) <= DIGITS_MAX:
            found.append(digits)
    return found


def _digits_within(text: str) -> list[str]:
    """Four digits beside a letter ("DE4711X"): people ask for them alone. More are found as phone numbers are."""
    if not _DIGIT.search(text):
        return []
    return [
        match[0]
        for match in _DIGITS.finditer(text[:TEXT_MAX])
        if len(match[0]) < DIGITS_MIN
        and (text[match.start() - 1 : match.start()].isalpha() or text[match.end() : match.end() + 1].isalpha())
    ]


def indexed(texts: Iterable[str]) -> str:
    """The words of the texts, with the ends of their phone numbers, as the search table keeps them."""
    found: list[str] = []
    for text in dict.fromkeys(texts):
        if text:
            found += words(text)
            for digits in phone_digits(text):
                found += [digits[place:] for place in range(len(digits) - DIGITS_MIN + 1)]
            found += _digits_within(text)
    return f" {' '.join(found[:WORDS_MAX])} " if found else ""


def leaves(tree: object) -> Iterator[str]:
    """The texts and numbers in decoded JSON, whatever they are called."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, bool) or tree is None:
        return
    elif isinstance(tree, int | float):
        yield str(tree)
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from leaves(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from leaves(value)


def json_leaves(text: str) -> Iterator[str]:
    """The texts and numbers in a JSON text."""
    return iter(()) if text in ("", "{}", "[]") else leaves(msgspec.json.decode(text))


def phone_forms(text: str, region: str = "") -> list[str]:
    """Pieces of E.164 numbers that `text` may stand for: "(0151) 23 45 678", "0049 151 2345678", "151-2345678"."""
    if not _PHONE.fullmatch(text.strip()):
        return []
    digits = re.sub(r"[^0-9]", "", text)
    found = [digits[2:] if digits.startswith("00") else digits.lstrip("0")]
    try:
        parsed = phonenumbers.parse(text, region or None)
        found.insert(0, f"{parsed.country_code}{parsed.national_number}")
    except phonenumbers.NumberParseException:
        pass
    return [form for form in dict.fromkeys(found) if len(form) >= DIGITS_MIN]


@dataclass(frozen=True, slots=True)
class Term:
    """One word that must be there; `prefix`: or one that begins with it."""

    word: str
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """What is looked for: of every group one alternative, of an alternative every term. `phrases` are to stand in the
    text word for word, as the search table keeps them."""

    groups: tuple[tuple[tuple[Term, ...], ...], ...]
    phrases: tuple[str, ...] = ()


def question(text: str, region: str = "") -> Question | None:
    """What somebody typed as a question, None when there is no word in it: nothing is found then.

    All words must be there, the last one may go on; what stands in quotes must stand so; `#12` is a ticket's number; a
    phone number is found in any form.
    """
    groups: list[tuple[tuple[Term, ...], ...]] = []
    phrases: list[str] = []
    pieces = list(_ASKED.finditer(text[:1000]))
    for piece in pieces:
        if piece["phrase"] is not None:
            exact = words(piece["phrase"], ends=False)
            groups += [((_word_term(word),),) for word in exact]
            if len(exact) > 1:
                phrases.append(f" {' '.join(exact)} ")
        else:
            groups += _loose(piece["rest"], region, last=piece is pieces[-1])
    kept = tuple(dict.fromkeys(groups))[:ASKED_MAX]
    return Question(kept, tuple(phrases)) if kept else None


def _loose(text: str, region: str, *, last: bool) -> list[tuple[tuple[Term, ...], ...]]:
    groups: list[tuple[tuple[Term, ...], ...]] = []
    for part, kind in _parts(text):
        if kind == "ticket":
            groups.append(((Term(NUMBER_MARK + part),),))
        elif kind == "phone":
            groups.append(_phone_terms(part, region))
        else:
            groups += [((_word_term(word),),) for word in words(part, ends=False)]
    if groups and last and len(groups[-1]) == 1 and len(groups[-1][0]) == 1 and not text[-1:].isspace():
        (term,) = groups[-1][0]
        if not term.word.startswith(NUMBER_MARK) and len(term.word) >= PREFIX_MIN and not _is_paired(term.word):
            groups[-1] = ((Term(term.word, prefix=True),),)
    return groups


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """The text cut into ticket numbers, phone numbers and the rest."""
    place = 0
    for match in re.finditer(rf"(?P<ticket>{_TICKET.pattern})|(?P<phone>{_PHONE.pattern})", text):
        before = text[match.start() - 1 : match.start()]
        if before and (before.isalnum() or (match["phone"] and before in "._-@")):
            continue  # a part of a word
        if match["phone"] and not phone_forms(match[0]):
            continue
        yield text[place : match.start()], "words"
        if match["ticket"]:
            yield str(int(match["ticket"][1:])), "ticket"
        else:
            yield match["phone"], "phone"
        place = match.end()
    yield text[place:], "words"


def _phone_terms(text: str, region: str) -> tuple[tuple[Term, ...], ...]:
    """Any form of the number, with its country or without, or the same digits as they stand."""
    forms = phone_forms(text, region)
    with contextlib.suppress(phonenumbers.NumberParseException):
        forms.append(str(phonenumbers.parse(text, region or None).national_number))
    found = [(Term(form, prefix=True),) for form in forms if len(form) >= DIGITS_MIN]
    return tuple(dict.fromkeys([*found, tuple(Term(word) for word in words(text))]))


def _word_term(word: str) -> Term:
    """A single character of a paired script stands for every pair that begins with it."""
    return Term(word, prefix=len(word) == 1 and _is_paired(word))


def _is_paired(word: str) -> bool:
    return regex.match(rf"[{_PAIRED}]", word) is not None
