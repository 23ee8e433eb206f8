"""Every built-in adapter keeps the contract: its `CASE` stands in its own module under tests/channels."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters import Ambiguous, Callback, SendError, Sent
from adapters._contract import CHECKS, run
from adapters._contract_bench import RECEIVED_AT
from adapters.testing import AdapterCase, check
from adapters.whatsapp import WhatsAppAdapter
from gateway.intake.events import decode
from gateway.intake.keys import within
from normalizers.model import Account, Event, InboundMessage, OutboundMessage, Received
from tests.intake.build import Memory

MODULES = sorted(path.stem for path in (Path(__file__).parent / "channels").glob("test_*.py"))


def _cases() -> Iterator[tuple[str, AdapterCase]]:
    """A module may hold several cases (`CASE`, `CASE_TWILIO`): one for each way to reach its platform."""
    for name in MODULES:
        module = importlib.import_module(f"tests.channels.{name}")
        found = {key: value for key, value in vars(module).items() if isinstance(value, AdapterCase)}
        if not found:
            raise LookupError(f"tests/channels/{name}.py gives no CASE = AdapterCase(...)")
        for key, case in found.items():
            yield name.removeprefix("test_") + key.removeprefix("CASE").lower(), case


CASES = dict(_cases())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("promise", CHECKS)
async def test_contract(promise: str, case: AdapterCase) -> None:
    await run(promise, case)


# --- the suite itself finds what it is for ----------------------------------------------------------------------------


class _Credulous(WhatsAppAdapter):
    def verify(self, callback: Callback) -> None:
        pass


class _Crashing(WhatsAppAdapter):
    def verify(self, callback: Callback) -> None:
        callback.header("x-hub-signature-256").encode("ascii")
        super().verify(callback)


class _Brittle(WhatsAppAdapter):
    @staticmethod
    def normalize(received: Received) -> tuple[Event, ...]:
        json.loads(received.body)
        return WhatsAppAdapter.normalize(received)


class _Eager(WhatsAppAdapter):
    async def send(self, message: OutboundMessage) -> Sent:
        try:
            return await super().send(message)
        except Ambiguous:
            return await super().send(message)


class _Talkative(WhatsAppAdapter):
    async def send(self, message: OutboundMessage) -> Sent:
        logging.getLogger("pigeon").debug("token %s", self._settings.access_token[0].reveal())
        return await super().send(message)


class _Quoting(WhatsAppAdapter):
    async def send(self, message: OutboundMessage) -> Sent:
        try:
            return await super().send(message)
        except SendError as error:
            error.detail = error.detail.replace("***", self._settings.access_token[0].reveal())
            raise


class _Optimistic(WhatsAppAdapter):
    async def send(self, message: OutboundMessage) -> Sent:
        try:
            return await super().send(message)
        except Ambiguous as error:
            raise SendError("retry", error.code) from None


class _Silent(WhatsAppAdapter):
    channels = (
        dataclasses.replace(
            WhatsAppAdapter.channels[0], limits=dataclasses.replace(WhatsAppAdapter.channels[0].limits, media=())
        ),
    )


class _Forgetful(WhatsAppAdapter):
    async def send(self, message: OutboundMessage) -> Sent:
        return await super().send(msgspec.structs.replace(message, file=None, text=message.text or "a file"))


BREAKS: dict[str, tuple[type[WhatsAppAdapter], str]] = {
    "takes any signature": (_Credulous, "accepted a changed body"),
    "crashes on a header": (_Crashing, "verify raised UnicodeEncodeError"),
    "cannot read all bytes": (_Brittle, "normalize raised"),
    "sends again by itself": (_Eager, "Sent|tried again"),
    "logs its token": (_Talkative, "a secret is shown"),
    "passes on what the platform quotes": (_Quoting, "a secret is shown"),
    "says nothing of files": (_Silent, "whatsapp says nothing of files: give Limits.media NO_FILES"),
    "loses files": (_Forgetful, r"a file of kind image \(OutboundMessage.file\) was lost"),
    "takes the unknown for certain": (_Optimistic, "without a key gave SendError"),
}


@pytest.mark.parametrize(("adapter", "sentence"), BREAKS.values(), ids=BREAKS)
async def test_a_broken_promise_is_found(adapter: type[WhatsAppAdapter], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence) as caught:
        await check(replace(CASES["whatsapp"], adapter=adapter))
    assert "token-canary-1" not in str(caught.value)


async def test_check_holds_every_promise() -> None:
    await check(CASES["whatsapp"])


# --- fuzz -------------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


AWKWARD: tuple[Any, ...] = (
    10**19, 2**63, -(10**18), 10**400, 1e300, -0.0, "\0", "\ud800", "\u202e\u200b", "x" * 5000, "漢" * 1500, "1e400",
    "nan", "-inf", "٣", "²", "1_000", "+", 253402300799999, "9" * 30, "2026-13-45T00:00:00Z", "://", "https://[::1",
    "https://x:99999/", "javascript:alert(1)", [], {}, [None], [[]], {"id": {}}, {"id": []},
)  # fmt: skip
"""Numbers no column takes, letters no store takes, digits that are none, moments nobody lives to see."""


def _bodies(case: AdapterCase) -> list[bytes]:
    given = (case.message, case.unknown_kind, case.unknown_event, case.broken_item, case.echo)
    return [body for body in given if body]


def _survives(case: AdapterCase, body: bytes) -> None:
    """The body gives events, the same each time, that can be kept, read again, and filed."""
    received = Received(body, dict(case.headers), {}, RECEIVED_AT, case.account or Account("a", case.adapter.name))
    events = case.adapter.normalize(received)
    assert events
    assert case.adapter.normalize(received) == events
    for event in events:
        payload = msgspec.json.encode(event)
        assert msgspec.json.encode(decode(payload.decode())) == payload
        assert b"\\u0000" not in payload
        assert event.id
        if isinstance(event, InboundMessage):
            assert event.sender.addresses
            assert all(address.value for address in event.sender.addresses)
    memory = Memory(now=RECEIVED_AT)
    memory.file(*map(within, events))
    assert len(memory.outcomes) == len(events)


@st.composite
def _spoilt(draw: st.DrawFn, bodies: list[bytes]) -> bytes:
    """A sample with a slice of it replaced by other bytes."""
    body = draw(st.sampled_from(bodies))
    start = draw(st.integers(0, len(body)))
    end = draw(st.integers(start, min(len(body), start + 40)))
    return body[:start] + draw(st.binary(max_size=20)) + body[end:]


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if place:
        yield place
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield from _places(entry, (*place, key))


@st.composite
def _misshapen(draw: st.DrawFn, trees: list[Any]) -> bytes:
    """A sample, well-formed JSON still, with up to three of its values replaced, left out, doubled or renamed."""
    tree = json.loads(json.dumps(draw(st.sampled_from(trees))))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(tree))
        if places:
            _misshape(draw, tree, draw(st.sampled_from(places)), trees)
    return json.dumps(tree, allow_nan=False, default=str).encode() if _finite(tree) else b"{}"


def _misshape(draw: st.DrawFn, tree: Any, place: tuple[Any, ...], trees: list[Any]) -> None:
    *way, last = place
    parent = tree
    for key in way:
        parent = parent[key]
    match draw(st.sampled_from(("drop", "any", "awkward", "elsewhere", "double", "rename"))):
        case "drop":
            del parent[last]
        case "any":
            parent[last] = draw(JSON)
        case "awkward":
            parent[last] = copy.deepcopy(draw(st.sampled_from(AWKWARD)))  # the next change may be inside of it
        case "elsewhere":  # a value of another place, or of another sample
            other = draw(st.sampled_from(trees))
            found = other
            for key in draw(st.sampled_from(list(_places(other)))):
                found = found[key]
            parent[last] = json.loads(json.dumps(found))
        case "double" if isinstance(parent, list):
            parent.append(json.loads(json.dumps(parent[last])))
        case "rename" if isinstance(parent, dict):
            parent[draw(st.sampled_from(("", "\0", "type", "id", "🙂")))] = parent.pop(last)
        case _:
            parent[last] = [parent[last]]


def _finite(tree: Any) -> bool:
    try:
        json.dumps(tree, allow_nan=False)
    except ValueError:
        return False
    return True


def _tree(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_fuzz_bytes(case: AdapterCase) -> None:
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(_spoilt(_bodies(case)))
    def survive(body: bytes) -> None:
        _survives(case, body)

    survive()


JSON_CASES = {name: case for name, case in CASES.items() if isinstance(_tree(case.message), dict)}
PAYLOADS = Path(__file__).parent / "channels" / "payloads"


def _samples(value: Any) -> Iterator[dict[str, Any]]:
    """The webhooks in a file of payloads, however they stand in it."""
    if isinstance(value, dict):
        if value.keys() & {"entry", "events", "data"} or any(key.endswith("_events") for key in value):
            yield value
        else:
            for inner in value.values():
                yield from _samples(inner)


@pytest.mark.parametrize("name", JSON_CASES)
def test_fuzz_shapes(name: str) -> None:
    case = JSON_CASES[name]
    trees = [tree for tree in map(_tree, _bodies(case)) if isinstance(tree, dict) and tree]
    for file in sorted((PAYLOADS / name).glob("*.json")):
        trees += _samples(json.loads(file.read_text("utf-8")))

    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(_misshapen(trees))
    def survive(body: bytes) -> None:
        _survives(case, body)

    survive()
