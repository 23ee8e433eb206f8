"""What an HTTP status of a CRM means, and answers that are not what they should be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters import HttpAnswer, SendError, Throttled, platform_error
from adapters._http import retry_after

FIELDS_MAX = 500
ID_MAX = 255  # characters


def succeeded(answer: HttpAnswer, code: str = "", detail: str = "") -> None:
    """Raise `SendError` for any status but 2xx. What the CRM can be asked again is never `permanent`."""
    status = answer.status
    if 200 <= status < 300:
        return
    wait = retry_after(answer.headers)
    if status in (429, 503) and (status == 429 or wait is not None):
        raise Throttled(code or str(status), detail, retry_after_s=wait)
    if status in (408, 425):
        raise SendError("retry", code or str(status), detail)
    raise platform_error({}, status, code, detail, retry_after_s=wait)


def bad_answer(place: str, problem: str) -> SendError:
    """An answer that can be read and is not what the contract says."""
    return SendError("permanent", "bad-answer", f"{place}: {problem}")


def checked_fields(value: Any, place: str) -> Mapping[str, Any]:
    """The fields of a record: texts, numbers, booleans, null. Raises `SendError`."""
    if not isinstance(value, dict):
        raise bad_answer(place, "must be an object")
    if len(value) > FIELDS_MAX:
        raise bad_answer(place, f"more than {FIELDS_MAX} fields")
    return value


def checked_id(value: Any, place: str) -> str:
    """A record's id. Raises `SendError`."""
    if not isinstance(value, str) or not value or len(value) > ID_MAX or "\0" in value:
        raise bad_answer(place, f"must be a text of 1 to {ID_MAX} characters")
    return value
