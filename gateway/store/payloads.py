"""Stored messages as they are read back; some cannot be: damaged, or written by another version."""

from __future__ import annotations

import msgspec

from normalizers.model import OutboundMessage

UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoding a damaged payload raises."""

_decode = msgspec.json.Decoder(OutboundMessage).decode


def readable(payload: str | None) -> OutboundMessage | None:
    """A stored message, None for one that cannot be read."""
    try:
        return _decode(payload) if payload else None
    except UNREADABLE:
        return None
