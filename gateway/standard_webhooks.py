"""Signatures by Standard Webhooks 1.0.0 (github.com/standard-webhooks, spec, read 2026-11-22), as the sender."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

from config.secret import Secret


def headers(secrets: Sequence[Secret], message_id: str, body: bytes, now: datetime) -> dict[str, str]:
    """The three headers of a request; each secret of a rotation signs.

    `message_id` stays the same over all tries: the receiver's key for repeats. The time is that of this try.
    """
    stamp = int(now.timestamp())
    signed = f"{message_id}.{stamp}.".encode() + body
    signatures = []
    for secret in secrets:
        key = base64.b64decode(secret.reveal().removeprefix("whsec_"))
        signatures.append("v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode())
    return {"webhook-id": message_id, "webhook-timestamp": str(stamp), "webhook-signature": " ".join(signatures)}
