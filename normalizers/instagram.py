"""Webhooks of Instagram accounts: direct messages, and comments and mentions. One delivery may carry both.

Both ways to log in are read: by a Page (events in `messaging` and `changes`) and by Instagram itself (a change may
stand on the entry directly).
Sources: Meta, Instagram Messaging, Webhooks, 2026-07; Instagram Platform, Webhooks, 2025-11.
"""

from __future__ import annotations

from collections.abc import Mapping

from normalizers._instagram_comments import change
from normalizers._meta_envelope import Reader, read_entries
from normalizers._meta_messaging import messaging
from normalizers.model import Event, Received

_LISTS: Mapping[str, tuple[str, Reader]] = {
    "messaging": ("instagram", messaging),
    "standby": ("instagram", messaging),
    "changes": ("instagram_comment", change),
}


def normalize(received: Received) -> tuple[Event, ...]:
    """Turn one delivery into events, in the platform's order; at least one for every body.

    Never raises: a message of an unknown type becomes an `InboundMessage` of kind "unsupported", another unknown event
    `Ignored`, and an item that breaks its format `Unreadable` with its path; the others go on. What the account itself
    wrote is an `Echo`, never a message.
    """
    return read_entries(received, "instagram", _LISTS)
