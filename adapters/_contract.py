"""The promises behind `adapters.testing.check`, one function each, held against a faulty platform on loopback."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import msgspec
from msgspec.structs import replace as replace_struct

from adapters._base import Callback
from adapters._channel import Channel, MediaRule
from adapters._contract_bench import (
    Bench,
    bench_for,
    closed_port,
    expect,
    keep_secrets,
    open_session,
    options_for,
)
from adapters._errors import Ambiguous, MalformedBody, SendError, Throttled, Unreachable, VerificationError
from adapters._http import Http
from adapters._load import class_for
from adapters._media import MediaClient
from adapters.sandbox._base import Fault
from adapters.testing import AdapterCase
from normalizers.model import Event, Ignored, InboundMessage, OutboundFile, Unreadable

_NOT_ASCII = ("ü" * 64, "sha256=" + "٣" * 64, "\udc80\udcff", "\x00", "=" * 10_000)
_STRANGE = (b"", b"null", b"[]", b"{}", b"[" * 100_000, b"1" * 5000, b"<a/>", b"a=%ff&a=b")


async def run(name: str, case: AdapterCase) -> None:
    """Hold one promise of `CHECKS` against the adapter, then see that no secret got out meanwhile."""
    async with bench_for(case) as bench:
        await CHECKS[name](bench)
        keep_secrets(bench)


# --- who wrote --------------------------------------------------------------------------------------------------------


async def _accepts_its_signature(bench: Bench) -> None:
    """A correctly signed delivery passes; without a webhook nothing does."""
    if bench.case.sign is None:
        _refused(bench, Callback("POST", "https://example.com/", "/", {}, {}, bench.case.message), "a webhook")
        return
    callback = bench.case.sign(bench.case.message)
    bench.adapter.verify(callback)
    bench.adapter.well_formed(callback)
    expect(bench.adapter.acknowledge(callback).status // 100 == 2, "the acknowledgement is not 2xx")
    elsewhere = replace(callback, url=callback.url.replace("://", "://other.", 1))
    if getattr(bench.adapter, "signs_address", False):
        _refused(bench, elsewhere, "a delivery signed for another address, which `signs_address` says it does not")
        return
    try:
        bench.adapter.verify(elsewhere)
    except VerificationError:
        raise AssertionError("the signature covers the address called, and `signs_address` is not set") from None


async def _refuses_changed_bodies(bench: Bench) -> None:
    if bench.case.sign is None or not bench.case.body_signed:
        return
    callback = bench.case.sign(bench.case.message)
    body, middle = callback.body, len(callback.body) // 2
    for changed in (body + b" ", body[:-1], body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :], b""):
        _refused(bench, replace(callback, body=changed), f"a changed body {changed[-20:]!r}")


async def _refuses_bad_signatures(bench: Bench) -> None:
    """Missing, garbled and not ASCII; always `VerificationError`, never another error."""
    if bench.case.sign is None:
        return
    callback, names = bench.case.sign(bench.case.message), bench.adapter.signature_headers
    if names:
        bare = {name: values for name, values in callback.headers.items() if name not in names}
        _refused(bench, replace(callback, headers=bare), "a missing signature")
    for name in names:
        for wrong in _garbled(callback.header(name)):
            _refused(bench, replace(callback, headers={**callback.headers, name: (wrong,)}), f"{name}: {wrong[:30]!r}")
    for name in bench.case.signature_query:
        rest = {key: value for key, value in callback.query.items() if key != name}
        _refused(bench, replace(callback, query=rest), f"a missing {name}")
        for wrong in _garbled(callback.query.get(name, "")):
            _refused(bench, replace(callback, query={**callback.query, name: wrong}), f"{name}: {wrong[:30]!r}")


def _garbled(signature: str) -> tuple[str, ...]:
    turned = signature[::-1] if signature != signature[::-1] else "x"
    return ("", signature[:-1], signature + "0", turned, signature.partition("=")[2] or "0", *_NOT_ASCII)


def _refused(bench: Bench, callback: Callback, what: str) -> None:
    try:
        bench.adapter.verify(callback)
    except VerificationError as error:
        bench.seen.append(str(error))
    except Exception as error:
        raise AssertionError(f"verify raised {error!r} for {what}") from error
    else:
        raise AssertionError(f"verify accepted {what}")


async def _refuses_malformed_bodies(bench: Bench) -> None:
    """Correctly signed, yet not the format at all: `MalformedBody`, unless the signature check already refused it."""
    if bench.case.sign is None:
        return
    callback = bench.case.sign(bench.case.malformed)
    try:
        bench.adapter.verify(callback)
        bench.adapter.well_formed(callback)
    except (VerificationError, MalformedBody) as error:
        bench.seen.append(str(error))
    except Exception as error:
        raise AssertionError(f"a malformed body raised {error!r}") from error
    else:
        raise AssertionError("a malformed body passed as well-formed")


# --- what was written -------------------------------------------------------------------------------------------------


async def _reads_messages(bench: Bench) -> None:
    events = bench.events(bench.case.message)
    found = [event for event in events if isinstance(event, InboundMessage)]
    expect(bool(found), f"the message is no InboundMessage: {events}")
    for message in found:
        expect(bool(message.id and message.sender.addresses and message.channel), f"id, sender or channel: {message}")
    channels = {channel.name for channel in bench.adapter.channels}
    expect({event.channel for event in found} <= channels, f"a channel that the adapter does not have: {found}")


async def _reads_alike_twice(bench: Bench) -> None:
    """The same delivery gives equal events, and these survive being stored."""
    case = bench.case
    for body in filter(None, (case.message, case.unknown_kind, case.unknown_event, case.broken_item, case.echo)):
        events = bench.events(body)
        expect(events == bench.events(body), "the same delivery twice gives different events")
        expect(msgspec.json.decode(msgspec.json.encode(events), type=tuple[Event, ...]) == events, f"stored: {events}")


async def _survives_strange_bytes(bench: Bench) -> None:
    """Bytes that are not UTF-8, cut bodies and flipped bits: always events, never an exception."""
    body, chance = bench.case.message, random.Random(0)  # noqa: S311 - reproducible disorder
    places = sorted({0, len(body) // 2, len(body), *(chance.randrange(len(body) + 1) for _ in range(40))})
    for place in places:
        for strange in (b"\xff", b"\xed\xa0\x80", b"\x00", b"\\ud800"):
            bench.events(body[:place] + strange + body[place:])
        bench.events(body[:place])
    for _ in range(200):
        place = chance.randrange(len(body))
        bench.events(body[:place] + bytes([body[place] ^ (1 << chance.randrange(8))]) + body[place + 1 :])
    for strange in (*_STRANGE, bench.case.malformed):
        bench.events(strange)


async def _shows_unknown_kinds(bench: Bench) -> None:
    if bench.case.unknown_kind:
        kinds = [event.kind for event in bench.events(bench.case.unknown_kind) if isinstance(event, InboundMessage)]
        expect("unsupported" in kinds, "a message of an unknown kind is not shown as unsupported")


async def _ignores_unknown_events(bench: Bench) -> None:
    if bench.case.unknown_event is not None:
        events = bench.events(bench.case.unknown_event)
        expect(all(isinstance(event, Ignored) for event in events), f"an unknown event is not ignored: {events}")


async def _keeps_the_rest_of_a_batch(bench: Bench) -> None:
    if bench.case.broken_item is not None:
        events = bench.events(bench.case.broken_item)
        broken = [event for event in events if isinstance(event, Unreadable)]
        expect(bool(broken) and all(event.path for event in broken), f"no Unreadable with its path: {events}")
        expect(any(isinstance(event, InboundMessage) for event in events), f"the good message is lost: {events}")


async def _takes_no_echo_for_a_message(bench: Bench) -> None:
    if bench.case.echo is not None:
        events = bench.events(bench.case.echo)
        expect(not any(isinstance(event, InboundMessage) for event in events), f"an echo came in: {events}")


# --- what is sent -----------------------------------------------------------------------------------------------------


def _channel(bench: Bench) -> Channel:
    assert bench.case.outbound is not None
    return next(channel for channel in bench.adapter.channels if channel.name == bench.case.outbound.channel)


async def _sends(bench: Bench) -> None:
    """One call, to the configured host, and the platform's id from its answer."""
    if bench.case.outbound is None:
        return
    outcome = await bench.send()
    expect(not isinstance(outcome, BaseException), f"the send failed: {outcome!r}")
    expect(outcome.external_id == bench.case.external_id, f"external id {outcome.external_id!r}")
    expect(bench.platform.calls == 1, f"{bench.platform.calls} calls for one send")
    expect(bench.hosts == {bench.platform.url}, f"requests went to {bench.hosts}")


async def _carries_files(bench: Bench) -> None:
    """A channel says which files it takes, and none of them counts as sent that the platform got neither bytes nor
    address of."""
    if (message := bench.case.outbound) is None:
        return
    for channel in bench.adapter.channels:
        words = f"{channel.name} says nothing of files: give Limits.media NO_FILES, or rules for those it takes"
        expect(bool(channel.limits.media), words)
    limits = _channel(bench).limits
    with tempfile.TemporaryDirectory() as folder:
        for rule in (rule for rule in limits.media if rule.media_types):
            file = _file(Path(folder), rule)
            bare = replace_struct(message, text="", file=file, content=None, template=None)
            if limits.files_per_message > 1:
                bare = replace_struct(bare, file=None, files=(file,))
            bench.platform.heard.clear()
            outcome = await bench.send(bare)
            heard = "\n".join(bench.platform.heard)
            carried = any(
                word in heard for word in (_CANARY, quote(_CANARY, safe=""), file.url, quote(file.url, safe=""))
            )
            where = "files" if bare.files else "file"
            words = f"a file of kind {rule.kind} (OutboundMessage.{where}) was lost: it counts as sent, and was not"
            expect(carried or isinstance(outcome, SendError), words)


_CANARY = "canary-of-the-contract"


def _file(folder: Path, rule: MediaRule) -> OutboundFile:
    """A small file of a type the rule takes, on disk and under an address."""
    media_type = rule.media_types[0].replace("/*", "/plain")
    path = folder / "file"
    path.write_bytes(_CANARY.encode())
    url = "https://gateway.example/media/file-of-the-contract"
    return OutboundFile(
        kind=rule.kind,
        media_type=media_type,
        filename="file.bin",
        size=path.stat().st_size,
        open_path=str(path),
        url=url,
    )


async def _maps_refusals(bench: Bench) -> None:
    """429 surely waits, another 4xx is certain, and a 5xx without a key proves nothing."""
    if bench.case.outbound is None:
        return
    for status in (400, 404, 429, 500, 502, 503):
        bench.platform.status = status
        bench.platform.body = bench.case.error_body(status) if bench.case.error_body else b"{}"
        error = await bench.send()
        if not isinstance(error, SendError):
            raise AssertionError(f"status {status} gave {error!r}")
        if status == 429:
            expect(isinstance(error, Throttled), f"429 gave {error!r}")
        elif status < 500:
            expect(error.certain and error.error_class != "unknown", f"status {status} gave {error!r}, not certain")
        elif _channel(bench).key == "none":
            expect(isinstance(error, Ambiguous), f"status {status} without a key gave {error!r}")


async def _hides_echoed_secrets(bench: Bench) -> None:
    """A platform that quotes our credentials in the words of its refusal: nobody gets to read them."""
    if bench.case.outbound is None:
        return
    bench.platform.quotable = bench.secrets
    for status in (400, 401, 403, 429, 500):
        bench.platform.status = status
        bench.platform.body = bench.case.error_body(status) if bench.case.error_body else b"{}"
        error = await bench.send()
        if not isinstance(error, SendError):
            raise AssertionError(f"status {status} gave {error!r}")
        bench.seen += [error.code, error.detail]


async def _maps_lost_answers(bench: Bench) -> None:
    """Written, then nothing to read: ambiguous, one try only."""
    if bench.case.outbound is None:
        return
    faults: tuple[Fault, ...] = ("reset", "timeout", "garbage", "half")
    for count, fault in enumerate(faults, 1):
        bench.platform.fail_next(fault)
        error = await bench.send(hasty=fault == "timeout")
        expect(isinstance(error, Ambiguous), f"{fault} gave {error!r}")
        expect(bench.platform.calls == count, f"{fault} was tried again")


async def _maps_closed_ports(bench: Bench) -> None:
    """A refused connection: not one byte arrived."""
    if bench.case.outbound is None:
        return
    closed = closed_port()
    options = options_for(bench.case, closed)
    async with open_session(set()) as session:
        http = Http(session, [closed], MediaClient())
        bench.adapter = class_for(bench.case.adapter, options)(bench.adapter.account, options, http)
        error = await bench.send()
    expect(isinstance(error, Unreachable), f"a refused connection gave {error!r}")


CHECKS: Mapping[str, Callable[[Bench], Awaitable[None]]] = {
    "accepts its own signature": _accepts_its_signature,
    "refuses changed bodies": _refuses_changed_bodies,
    "refuses bad signatures": _refuses_bad_signatures,
    "refuses malformed bodies": _refuses_malformed_bodies,
    "reads a message": _reads_messages,
    "reads alike twice": _reads_alike_twice,
    "survives strange bytes": _survives_strange_bytes,
    "shows unknown kinds": _shows_unknown_kinds,
    "ignores unknown events": _ignores_unknown_events,
    "keeps the rest of a batch": _keeps_the_rest_of_a_batch,
    "takes no echo for a message": _takes_no_echo_for_a_message,
    "sends": _sends,
    "carries files": _carries_files,
    "maps refusals": _maps_refusals,
    "hides echoed secrets": _hides_echoed_secrets,
    "maps lost answers": _maps_lost_answers,
    "maps closed ports": _maps_closed_ports,
}
"""Promise -> how it is held against the adapter."""
