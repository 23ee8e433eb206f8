"""Addresses under which a platform may fetch one file of ours for a while, without an API key.

The token names the file and its end of life and carries a hash only we can make: nothing is stored.
"""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta

from gateway.ids import micros
from gateway.tokens import Tokens

VALID = timedelta(days=4)  # longer than any message is retried
_MAC = 32  # hex digits


def make(tokens: Tokens, attachment_id: str, now: datetime, valid: timedelta = VALID) -> str:
    """The token for `/media/{token}` that opens the file of an attachment until `now + valid`."""
    expires = f"{int((now + valid).timestamp()):x}"
    return f"{attachment_id}.{expires}.{_mac(tokens, attachment_id, expires)}"


def check(tokens: Tokens, token: str, now: datetime) -> str | None:
    """The attachment's id when we made the token and it is still valid, else None."""
    parts = token.split(".")
    if len(parts) != 3 or not token.isascii() or len(token) > 128:
        return None
    attachment_id, expires, mac = parts
    if not hmac.compare_digest(_mac(tokens, attachment_id, expires).encode(), mac.encode()):
        return None
    return attachment_id if int(expires, 16) * 1_000_000 > micros(now) else None


def _mac(tokens: Tokens, attachment_id: str, expires: str) -> str:
    return tokens.keyed_hash(f"media\0{attachment_id}\0{expires}")[:_MAC]
