"""Ids stand in indexes, and no index takes one of any length: what is too long is replaced, always in the same way.

Platforms keep theirs short, but a mail's Message-ID is its sender's to choose. PostgreSQL refuses an index entry of
more than a third of a page (2704 bytes), and two ids may share one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from normalizers.model import Address, Event, Person, Thread

KEY_BYTES: Final = 1000  # the longest line of a mail has 998
_KEPT = 100  # characters of it that stay to be read

_NAMES: Final = frozenset(
    {"id", "routing_key", "target", "ours", "new_id", "key", "parent", "value", "reply_to", "message_id", "references"}
)
_WHAT_WAS_SAID: Final = frozenset({"content", "attachments"})  # ids in there are nobody's names


def within(event: Event) -> Event:
    """The event with ids that fit; itself when they do, as nearly always."""
    if not any(map(_is_long, _names(event))):
        return event
    return msgspec.convert(_shortened(msgspec.to_builtins(event)), type(event))


def short(name: str) -> str:
    """The id, or its beginning and a hash of it."""
    if not _is_long(name):
        return name
    return f"{name[:_KEPT]}~{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _is_long(name: str) -> bool:
    return len(name) > KEY_BYTES // 4 and len(name.encode("utf-8", "surrogatepass")) > KEY_BYTES


def _names(event: Event) -> Iterator[str]:
    """All by which an event, or what it is about, may be found."""
    for field in event.__struct_fields__:
        value = getattr(event, field)
        if isinstance(value, str):
            if field in _NAMES:
                yield value
        elif isinstance(value, Person):
            yield from (address.value for address in value.addresses)
        elif isinstance(value, Address):
            yield value.value
        elif isinstance(value, Thread):
            yield from (value.key, value.parent, *value.references)
        elif isinstance(value, tuple):
            yield from (address.value for address in value if isinstance(address, Address))
    context = getattr(event, "context", None)
    if context is not None:
        yield context.reply_to
        yield str(context.metadata.get("message_id", ""))


def _shortened(value: Any, name: str = "") -> Any:
    if isinstance(value, str):
        return short(value) if name in _NAMES else value
    if isinstance(value, dict):
        return {key: inner if key in _WHAT_WAS_SAID else _shortened(inner, key) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(inner, name) for inner in value]
    return value
