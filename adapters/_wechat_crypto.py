"""How WeChat proves a callback and hides its content: two plain SHA-1 signatures, and AES in an envelope.

Source: WeChat, Service account, Message encryption (with its FAQ), 2026.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from adapters._errors import VerificationError
from adapters._signing import same
from config.secret import Secret

KEY_CHARS: Final = re.compile(r"[A-Za-z0-9+/]{43}")
_PAD: Final = 32  # bytes: PKCS#7 by a block of 32, though AES has one of 16
_HEAD: Final = 20  # bytes: 16 random ones, then the message's length
_DIGITS: Final = re.compile(r"[0-9]{1,12}")


def signature(token: str, *parts: str) -> str:
    """The platform's signature: SHA-1 in hex over token and parts, sorted as text and joined."""
    joined = "".join(sorted((token, *parts))).encode("utf-8", "surrogatepass")
    return hashlib.sha1(joined).hexdigest()  # noqa: S324 - the platform's choice


def check_signature(tokens: Sequence[Secret], given: str, *parts: str) -> None:
    """Raise `VerificationError` unless one of the tokens made the signature."""
    if not given or not all(parts):
        raise VerificationError("the signature is missing")
    fits = [same(signature(token.reveal(), *parts), given) for token in tokens if token]
    if not any(fits):
        raise VerificationError("the signature does not fit")


def check_fresh(timestamp: str, now_s: float, tolerance_s: float) -> None:
    """Raise `VerificationError` unless the signed timestamp (Unix seconds) is near."""
    if not _DIGITS.fullmatch(timestamp) or abs(now_s - int(timestamp)) > tolerance_s:
        raise VerificationError("the timestamp is stale")


class Envelope:
    """Opens and seals for one account, with the newest key first and older ones still valid."""

    def __init__(self, app_id: str, keys: Sequence[Secret]) -> None:
        self._app_id, self._keys = app_id.encode(), tuple(keys)

    def __repr__(self) -> str:
        return f"Envelope({self._app_id.decode()!r})"

    def __bool__(self) -> bool:
        return any(self._keys)

    def open(self, sealed: str) -> bytes:
        """The message inside. Raises `VerificationError` unless one of the keys opens it and it names our app."""
        try:
            content = base64.b64decode(sealed)
        except (binascii.Error, ValueError):
            raise VerificationError("the content is not base64") from None
        for key in self._keys:
            message = self._opened(key, content)
            if message is not None:
                return message
        raise VerificationError("no key opens the content for this app")

    def seal(self, message: bytes, salt: bytes) -> str:
        """The message sealed with the newest key. `salt`: 16 random bytes."""
        clear = salt + struct.pack(">I", len(message)) + message + self._app_id
        pad = _PAD - len(clear) % _PAD
        cipher = _cipher(self._keys[0]).encryptor()
        sealed = cipher.update(clear + bytes([pad]) * pad) + cipher.finalize()
        return base64.b64encode(sealed).decode()

    def _opened(self, key: Secret, content: bytes) -> bytes | None:
        if not content or len(content) % 16:
            return None
        cipher = _cipher(key).decryptor()
        clear = cipher.update(content) + cipher.finalize()
        pad = clear[-1]
        if not 1 <= pad <= _PAD or clear[-pad:] != bytes([pad]) * pad or len(clear) < _HEAD + pad:
            return None
        end = _HEAD + int.from_bytes(clear[16:_HEAD], "big")
        if end > len(clear) - pad or clear[end:-pad] != self._app_id:
            return None
        return clear[_HEAD:end]


def _cipher(key: Secret) -> Cipher[modes.CBC]:
    """The console makes keys whose last character has bits that base64 drops; the decoder takes them."""
    raw = base64.b64decode(key.reveal() + "=")
    return Cipher(algorithms.AES(raw), modes.CBC(raw[:16]))


class Replays:
    """Remembers which body a plain signature came with: the signature covers no body, so one pair is one body.

    The platform's own retries may repeat timestamp and nonce (assumed, undocumented), but not with other content.
    What the signature's own freshness outlives is forgotten.
    """

    def __init__(self, keep_s: float, clock: Callable[[], float], most: int = 65_536) -> None:
        self._keep_s, self._clock, self._most = keep_s, clock, most
        self._seen: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()

    def check(self, timestamp: str, nonce: str, body: bytes) -> None:
        """Raise `VerificationError` when timestamp and nonce came with another body before."""
        now, hashed = self._clock(), hashlib.sha256(body).digest()[:16]
        while self._seen and now - next(iter(self._seen.values()))[0] > self._keep_s:
            self._seen.popitem(last=False)
        _, known = self._seen.setdefault((timestamp, nonce), (now, hashed))
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)
        if known != hashed:
            raise VerificationError("the signature was used for another body")
