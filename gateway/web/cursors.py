"""Cursors: where a list goes on. Opaque to callers, checked when they come back."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.web.problems import Problem

_ID = re.compile(r"[0-9a-f]{32}")


def make(*values: int | str) -> str:
    """The cursor that says: after the item with these sort values."""
    return base64.urlsafe_b64encode(msgspec.json.encode(values)).decode().rstrip("=")


def read(cursor: str | None, kinds: Sequence[type[Any]]) -> tuple[Any, ...] | None:
    """The sort values in a cursor, None without one. Raises `Problem` for what is none of ours."""
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        values = msgspec.json.decode(raw)
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        raise Problem("invalid_cursor", field="cursor") from None
    if not isinstance(values, list) or len(values) != len(kinds):
        raise Problem("invalid_cursor", field="cursor")
    for value, kind in zip(values, kinds, strict=True):
        fits = type(value) is kind and (kind is not str or _ID.fullmatch(value))
        if not fits or (kind is int and not -(2**63) <= value < 2**63):
            raise Problem("invalid_cursor", field="cursor")
    return tuple(values)


def read_id(cursor: str | None) -> str | None:
    """The id in a cursor of a list that is sorted by id alone. Raises `Problem`."""
    values = read(cursor, (str,))
    return None if values is None else str(values[0])
