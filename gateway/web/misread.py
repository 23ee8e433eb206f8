"""What is wrong with a JSON body, where the decoder's own words do not say it: half characters, unlisted values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

_STEP = re.compile(r"\.?([^.\[\]]+)|\[([^\]]*)\]")
_HALF = "half of a surrogate pair: \\ud800 to \\udfff go in twos"


def malformed(raw: bytes, error: Exception) -> tuple[str, str]:
    """Why a body is no JSON, and the field where that can be told."""
    if isinstance(error, UnicodeDecodeError):
        return "the body is not UTF-8", ""
    try:
        tree = json.loads(raw)  # takes such halves, so that they can be looked for
    except (ValueError, RecursionError):
        return str(error)[:200], ""
    place = next(_halves(tree, ""), None)
    return (str(error)[:200], "") if place is None else (_HALF, place)


def _halves(value: Any, path: str) -> Iterator[str]:
    """Where texts stand that no text can be."""
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            yield path
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _halves(key, path)
            yield from _halves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _halves(item, f"{path}[{index}]")


def choices(kind: Any, path: str) -> tuple[str, ...]:
    """The values that are taken at a place of a body ("filter.direction", "attachments[0].kind"); none known: ()."""
    places = [inspect.type_info(kind)]
    for name, _ in _STEP.findall(path):
        places = [inner for place in places for inner in _inside(place, name)]
    return tuple(dict.fromkeys(str(value) for place in places for value in _values(place)))


def _inside(place: inspect.Type, name: str) -> Iterator[inspect.Type]:
    """The types at a name, or at an index or value (name "") of a type."""
    match place:
        case inspect.Metadata(inner):
            yield from _inside(inner, name)
        case inspect.UnionType(types):
            for each in types:
                yield from _inside(each, name)
        case inspect.StructType(fields=known):
            yield from (field.type for field in known if field.encode_name == name)
        case inspect.DictType(value_type=inner) if not name:
            yield inner
        case inspect.ListType(item_type=inner) | inspect.VarTupleType(item_type=inner) if not name:
            yield inner
        case inspect.SetType(item_type=inner) | inspect.FrozenSetType(item_type=inner) if not name:
            yield inner
        case _:
            pass


def _values(place: inspect.Type) -> Iterator[Any]:
    match place:
        case inspect.Metadata(inner):
            yield from _values(inner)
        case inspect.UnionType(types):
            for each in types:
                yield from _values(each)
        case inspect.LiteralType(values):
            yield from values
        case inspect.EnumType(cls):
            yield from (member.value for member in cls)
        case _:
            pass


def words_of(error: msgspec.ValidationError | RecursionError, words: str, kind: Any, path: str) -> str:
    """What is wrong with a value, with the values that are taken instead where there is a list of them."""
    if not str(error).startswith("Invalid enum value") or kind is None:
        return words
    known = choices(kind, path)
    return f"{words}; must be one of {', '.join(known)}" if known else words
