"""Bodies that cannot be read: what is wrong stands in the answer, with the field, and the values that would do."""

from __future__ import annotations

import pytest

from gateway.web import asks
from gateway.web.misread import choices
from gateway.web.problems import Problem
from gateway.web.routes import decode_body

HALF = "half of a surrogate pair: \\ud800 to \\udfff go in twos"
MALFORMED: dict[str, tuple[bytes, str, str]] = {  # body -> words, field
    "a high half": (rb'{"action": "\ud83d"}', HALF, "action"),
    "a high half with more": (rb'{"filter": {"code": "a\ud83dx"}}', HALF, "filter.code"),
    "a low half": (rb'{"list": ["", "\ude00"]}', HALF, "list[1]"),
    "as a name": (rb'{"\ud83d": 1}', HALF, ""),
    "not UTF-8": (b'{"a": "\xff"}', "the body is not UTF-8", ""),
    "half a body": (b'{"a": "b"', "Input data was truncated", ""),
    "nested without end": (b"[" * 100_000, "Input data was truncated", ""),
}


@pytest.mark.parametrize(("body", "words", "field"), MALFORMED.values(), ids=MALFORMED)
def test_why_a_body_is_no_json(body: bytes, words: str, field: str) -> None:
    with pytest.raises(Problem) as refused:
        decode_body(body, asks.DeadJobRequest)
    told = refused.value
    assert (told.code, told.field) == ("malformed_body", field)
    assert told.detail == words or not field


def test_a_whole_pair_is_a_text() -> None:
    with pytest.raises(Problem, match="must be one of drop, replay"):
        decode_body(rb'{"action": "\ud83d\ude00"}', asks.DeadJobRequest)


ENUMS: dict[str, tuple[bytes, str, str]] = {
    "at the top": (b'{"action": "nope"}', "action", "Invalid enum value 'nope'; must be one of drop, replay"),
    "inside": (
        b'{"action": "drop", "filter": {"direction": "up"}}', "filter.direction",
        "Invalid enum value 'up'; must be one of inbound, outbound",
    ),
    "under another name": (
        b'{"action": "drop", "filter": {"class": "odd"}}', "filter.class",
        "Invalid enum value 'odd'; must be one of auth, bad-recipient, opted-out, permanent, policy, retry, "
        "throttle, unknown, window-closed",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "field", "words"), ENUMS.values(), ids=ENUMS)
def test_a_value_that_is_not_on_the_list_is_told_the_list(body: bytes, field: str, words: str) -> None:
    with pytest.raises(Problem) as refused:
        decode_body(body, asks.DeadJobRequest)
    told = refused.value
    assert (told.code, told.field, told.detail) == ("invalid_body", field, words)


def test_places_nobody_knows_have_no_list() -> None:
    assert choices(asks.DeadJobRequest, "nowhere.at[0].all") == ()
    assert choices(list[asks.DeadJobRequest], "[...].action") == ("drop", "replay")
