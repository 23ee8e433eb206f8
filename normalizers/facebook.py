"""Webhooks of Facebook Pages: Messenger's private messages, and the public feed. One delivery may carry both.

Sources: Meta, Messenger Platform, Webhook events reference, 2026-05; Pages API, Webhooks for Pages, 2026-04.
"""

from __future__ import annotations

from collections.abc import Mapping

from normalizers._facebook_feed import change
from normalizers._meta_envelope import Reader, read_entries
from normalizers._meta_messaging import messaging
from normalizers.model import Event, Received

_LISTS: Mapping[str, tuple[str, Reader]] = {
    "messaging": ("messenger", messaging),
    "standby": ("messenger", messaging),
    "changes": ("facebook", change),
}


def normalize(received: Received) -> tuple[Event, ...]:
    """Turn one delivery into events, in the platform's order; at least one for every body.

    Never raises: a message of an unknown type becomes an `InboundMessage` of kind "unsupported", another unknown event
    `Ignored`, and an item that breaks its format `Unreadable` with its path; the others go on. What the Page itself
    wrote is an `Echo`, never a message.
    """
    return read_entries(received, "page", _LISTS)
