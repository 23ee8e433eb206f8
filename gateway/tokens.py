"""Tokens only we can make: the reply address and the Message-ID that lead a mail back to its ticket.

A token is a hint where to look and a proof that we gave it out. It says nothing about who may write there.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence

from config.secret import Secret

_VERSION = b"\x01"
_MAC_BYTES = 10
_MESSAGE_ID = re.compile(r"^t\.([a-z2-7]{26})\.([a-z2-7]{10})@", re.IGNORECASE)


def _b32(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower()


def _unb32(text: str) -> bytes | None:
    try:
        return base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except ValueError:
        return None


class Tokens:
    """Makes and reads tokens with the keys of `[gateway] secret_key`: the first makes, all of them read."""

    def __init__(self, keys: Sequence[Secret]) -> None:
        if not keys:
            raise ValueError("secret_key: missing")
        self._keys = tuple(key.reveal().encode() for key in keys)

    def _mac(self, key: bytes, purpose: bytes, raw: bytes, size: int = _MAC_BYTES) -> bytes:
        return hmac.digest(key, _VERSION + purpose + b"\0" + raw, "sha256")[:size]

    def _fits(self, purpose: bytes, raw: bytes, given: bytes) -> bool:
        return any(hmac.compare_digest(self._mac(key, purpose, raw, len(given)), given) for key in self._keys)

    def reply_token(self, ticket_number: int) -> str:
        """The token of a ticket's reply address: 29 characters of one case, so that no mail server spoils it."""
        raw = ticket_number.to_bytes(8, "big")
        return _b32(raw + self._mac(self._keys[0], b"reply", raw))

    def ticket_number(self, token: str) -> int | None:
        """The ticket number in a reply token of ours, else None."""
        raw = _unb32(token) if len(token) <= 64 else None
        if raw is None or len(raw) != 8 + _MAC_BYTES or not self._fits(b"reply", raw[:8], raw[8:]):
            return None
        return int.from_bytes(raw[:8], "big")

    def mail_id(self, message_id: str, domain: str) -> str:
        """The Message-ID (without <>) of our message with the id `message_id` (32 hex digits)."""
        raw = bytes.fromhex(message_id)
        return f"t.{_b32(raw)}.{_b32(self._mac(self._keys[0], b'mail', raw, 6))}@{domain}"

    def own_message(self, mail_id: str) -> str | None:
        """The id of our message when `mail_id` is a Message-ID that we made, else None."""
        found = _MESSAGE_ID.match(mail_id)
        raw, mac = (_unb32(found[1]), _unb32(found[2])) if found else (None, None)
        if raw is None or mac is None or not self._fits(b"mail", raw, mac):
            return None
        return raw.hex()

    def unsubscribe_token(self, identity_id: str) -> str:
        """What lets whoever holds it end all marketing to an identity (32 hex digits), and nothing else."""
        raw = bytes.fromhex(identity_id)
        return _b32(raw + self._mac(self._keys[0], b"unsubscribe", raw))

    def unsubscribing(self, token: str) -> str | None:
        """The identity's id in a token of ours, else None."""
        raw = _unb32(token) if len(token) <= 64 and token.isascii() else None
        if raw is None or len(raw) != 16 + _MAC_BYTES or not self._fits(b"unsubscribe", raw[:16], raw[16:]):
            return None
        return raw[:16].hex()

    def loop_token(self) -> str:
        """What our automatic mails carry, so that we know them when they come back."""
        return self._mac(self._keys[0], b"loop", b"").hex()

    def keyed_hash(self, text: str) -> str:
        """A hash that only we can make (hex, 64 characters): what remains of an id after an erasure."""
        return hmac.digest(
            self._keys[0], _VERSION + b"erased\0" + text.encode("utf-8", "replace"), hashlib.sha256
        ).hex()
