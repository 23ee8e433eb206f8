"""Standard Webhooks as a receiver checks them, written apart from what signs."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping


def verify_standard_webhook(secret: str, headers: Mapping[str, str], body: bytes, *, now: float | None = None) -> bool:
    """Whether one of the signatures fits and the time is within five minutes."""
    stamp = headers["webhook-timestamp"]
    if abs((time.time() if now is None else now) - int(stamp)) > 300:
        return False
    mac = hmac.new(base64.b64decode(secret.split("_", 1)[1]), digestmod=hashlib.sha256)
    mac.update(headers["webhook-id"].encode() + b"." + stamp.encode() + b"." + body)
    wanted = base64.b64encode(mac.digest()).decode()
    given = [entry.partition(",")[2] for entry in headers["webhook-signature"].split(" ") if entry.startswith("v1,")]
    return any(hmac.compare_digest(wanted, entry) for entry in given)
