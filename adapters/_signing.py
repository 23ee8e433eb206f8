"""Signature checks that no header can crash: bytes compared in constant time, every active secret tried."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Any

from adapters._errors import VerificationError
from config.secret import Secret


def same(expected: str, given: str) -> bool:
    """Constant-time comparison; text that is not ASCII is simply different."""
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "surrogatepass"))


def check_hmac(
    secrets: Sequence[Secret],
    body: bytes,
    given: str,
    *,
    algorithm: Callable[..., Any] = hashlib.sha256,
    encoding: str = "hex",
    prefix: str = "",
) -> int:
    """The index of the secret whose HMAC over `body` equals `given`.

    `given` is the header's value with `prefix` ("sha256="). Raises `VerificationError`, also when no secret is set.
    """
    if not given:
        raise VerificationError("the signature is missing")
    if not given.isascii() or not given.startswith(prefix):
        raise VerificationError("the signature is malformed")
    found = -1
    for index, secret in enumerate(secrets):
        mac = hmac.digest(secret.reveal().encode(), body, algorithm().name)
        text = mac.hex() if encoding == "hex" else base64.b64encode(mac).decode()
        if same(text, given[len(prefix) :]) and found < 0:
            found = index
    if found < 0:
        raise VerificationError("the signature does not fit")
    return found
