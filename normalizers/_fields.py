"""Reading strange input safely: bodies to mappings, mappings to clean text, and where in the payload it stood.

Nothing here raises anything but `Broken` (an item breaks its own format) and `NotWellFormed` (the body is not what it
should be at all).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import msgspec

_LONE = re.compile("[\ud800-\udfff]")
_decode = msgspec.json.Decoder().decode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_LAST_MOMENT = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


class NotWellFormed(ValueError):
    """The body is not the JSON, form or XML it should be."""


class Broken(ValueError):
    """An item lacks what its platform's format promises. `path` is relative to the item."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path, self.problem = path, problem


def clean(text: str) -> str:
    """The text without NUL and lone surrogates, which no store and no JSON writer takes."""
    if "\0" in text:
        text = text.replace("\0", "")
    return text if text.isascii() else _LONE.sub("\ufffd", text)


def load_json(body: bytes) -> Any:
    """The decoded JSON body. Raises `NotWellFormed`.

    The fast decoder first; what only it refuses (escaped lone surrogates, which are well-formed JSON) goes to the
    standard library's. NaN and Infinity, which are not JSON, and bodies nested too deep to decode are refused.
    """
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_not_json)
    except (ValueError, RecursionError) as error:
        raise NotWellFormed(f"not JSON: {type(error).__name__}") from None
    return value


def _not_json(constant: str) -> Any:
    raise ValueError(constant)


def load_form(body: bytes) -> dict[str, str]:
    """The form's fields; a repeated name keeps its first value. Raises `NotWellFormed`."""
    try:
        pairs = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            max_num_fields=1000,
            errors="replace",
        )
    except ValueError:
        raise NotWellFormed("not a form") from None
    fields: dict[str, str] = {}
    for name, value in pairs:
        fields.setdefault(clean(name), clean(value))
    return fields


def text(item: Mapping[str, Any], key: str) -> str:
    """The text at `key`, cleaned; "" when it is missing or of another type. Numbers are taken as text."""
    value = item.get(key, "")
    if type(value) is str:
        return value if value.isascii() and "\0" not in value else clean(value)
    return str(value) if type(value) is int else ""


def need(item: Mapping[str, Any], key: str) -> str:
    """The text at `key`. Raises `Broken` when it is missing, empty or no text."""
    value = text(item, key)
    if not value:
        raise Broken(f".{key}", "missing" if item.get(key) in (None, "") else "not a text")
    return value


def mapping(item: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object at `key`; an empty one when it is missing or of another type."""
    value = item.get(key)
    return value if type(value) is dict else {}


def items(item: Mapping[str, Any], key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of the list at `key` with their paths (".key[3]"). What is no object is passed over."""
    value = item.get(key)
    if type(value) is list:
        for index, entry in enumerate(value):
            if type(entry) is dict:
                yield f".{key}[{index}]", entry


def objects(item: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The same without their paths."""
    value = item.get(key)
    return [entry for entry in value if type(entry) is dict] if type(value) is list else []


def number(item: Mapping[str, Any], key: str) -> float | None:
    """The finite number at `key`, given as number or text; else None."""
    value = item.get(key)
    if type(value) is bool or not isinstance(value, int | float | str):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if abs(result) < 1e18 else None  # also drops NaN and infinity


def whole(item: Mapping[str, Any], key: str) -> int | None:
    """The whole number at `key` within 64 bits, else None."""
    given = item.get(key)
    if given is None or (type(given) is int and abs(given) < 10**18):
        return given
    value = number(item, key)
    return int(value) if value is not None and value == int(value) else None


def moment(item: Mapping[str, Any], key: str, default: datetime) -> datetime:
    """The Unix time at `key` (number or text, seconds; milliseconds when that large) as UTC, else `default`."""
    value = number(item, key)
    if value is None or value <= 0:
        return default
    if value >= 1e11:
        value /= 1000
    return datetime.fromtimestamp(value, UTC) if value < _LAST_MOMENT else default


def digest(value: object) -> str:
    """A stable id for an item that has none: SHA-256 over its canonical JSON (hex, 32 characters)."""
    if isinstance(value, bytes):
        raw = value
    else:
        try:
            raw = _encode_sorted(value)
        except Exception:  # what the fast encoder does not take: lone surrogates, huge numbers, unknown types, depth
            raw = _canonical(value)
    return hashlib.sha256(raw).hexdigest()[:32]


def _canonical(value: object) -> bytes:
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode("utf-8", "surrogatepass")
    except RecursionError:  # nested deeper than it can be written, though it could be read
        return repr(plain(value)).encode("utf-8", "surrogatepass")


def plain(value: Any, depth: int = 8) -> Any:
    """A JSON value made safe to keep: texts cleaned, huge numbers as text, nesting cut at `depth`."""
    if type(value) is str:
        return clean(value)
    if type(value) is dict:
        return {clean(str(k)): plain(v, depth - 1) for k, v in list(value.items())[:200]} if depth else {}
    if type(value) is list:
        return [plain(v, depth - 1) for v in value[:500]] if depth else []
    if type(value) is int and not -(2**63) <= value < 2**63:
        return str(value)
    return value
