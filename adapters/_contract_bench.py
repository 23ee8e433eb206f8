"""Where the contract is checked: one adapter wired to a faulty platform, with an ear on all that anybody could read."""

from __future__ import annotations

import base64
import contextlib
import logging
import socket
import traceback
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
from aiohttp import web

from adapters._base import Adapter, Closing
from adapters._http import Http, new_session
from adapters._load import class_for
from adapters._media import MediaClient
from adapters.sandbox._base import Platform
from adapters.testing import AdapterCase
from config.secret import Secret
from config.settings import parse
from normalizers.model import Account, Event, OutboundMessage, Received

RECEIVED_AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
BRIEF_S = 1.0  # for an answer that never comes
SECRET_MIN = 8  # characters; a shorter one may stand in a text by chance


class _Faulty(Platform):
    """A platform that answers every path alike."""

    def __init__(self) -> None:
        super().__init__()
        self.status, self.body = 200, b"{}"
        self.quotable: frozenset[str] = frozenset()  # what it quotes in its answer where a request holds it
        self.quoted: set[str] = set()
        self.heard: list[str] = []  # the requests since somebody looked

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        return (web.route("*", "/{path:.*}", self._any),)

    async def _any(self, request: web.Request) -> web.StreamResponse:
        await self._listen(request)
        return await self.answer(request, self._accept)

    async def _listen(self, request: web.Request) -> None:
        body = (await request.read()).decode("utf-8", "replace")
        heard = "\n".join((request.path_qs, body, *request.headers.values()))
        if (authorization := request.headers.get("Authorization", "")).startswith("Basic "):
            heard += base64.b64decode(authorization.removeprefix("Basic ")).decode()
        self.heard.append(heard)
        self.quoted = {word for word in self.quotable if word in heard or quote(word, safe="") in heard}

    async def _accept(self) -> web.Response:
        body = quoting(self.body, self.quoted) if self.quoted else self.body
        return web.Response(status=self.status, body=body, content_type="application/json")


def quoting(body: bytes, words: Iterable[str]) -> bytes:
    """An error answer with these words at the end of each of its sentences."""
    quoted = " ".join(sorted(words))

    def said(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: said(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [said(entry) for entry in value]
        return f"{value}: {quoted}" if isinstance(value, str) and not value.isdigit() else value

    try:
        tree = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body + quoted.encode()
    plain = {"message": quoted, "errmsg": quoted, "detail": quoted}
    return msgspec.json.encode(plain | said(tree) if isinstance(tree, dict) else said(tree))


@dataclass(slots=True)
class Bench:
    """One adapter, wired to a faulty platform, and everything that anybody could read of it."""

    case: AdapterCase
    adapter: Adapter
    hasty: Adapter  # the same, but it waits only briefly
    platform: _Faulty
    secrets: frozenset[str]
    hosts: set[str]  # that requests went to
    seen: list[str] = field(default_factory=list)

    def received(self, body: bytes) -> Received:
        """The body as the core would hand it to the normaliser, with headers and query of a true delivery."""
        case = self.case
        callback = case.sign(case.message) if case.sign else None
        headers = {name: values[0] for name, values in callback.headers.items()} if callback else {}
        return Received(
            body, headers | dict(case.headers), callback.query if callback else {}, RECEIVED_AT, self.adapter.account
        )

    def events(self, body: bytes) -> tuple[Event, ...]:
        """What the normaliser makes of the body. Raises `AssertionError` when it raises or finds nothing."""
        try:
            events = self.adapter.normalize(self.received(body))
        except Exception as error:
            raise AssertionError(f"normalize raised {error!r} for {body[:200]!r}") from error
        expect(bool(events), f"normalize gave no event for {body[:200]!r}")
        return events

    async def send(self, message: OutboundMessage | None = None, *, hasty: bool = False) -> Any:
        """What became of a send, by itself that of the case's own message: `Sent` or the error."""
        message = message or self.case.outbound
        assert message is not None
        try:
            return await (self.hasty if hasty else self.adapter).send(message)
        except Exception as error:
            self.seen += traceback.format_exception(error)
            return error


def expect(fact: bool, sentence: str) -> None:
    if not fact:
        raise AssertionError(sentence)


# --- wiring -----------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def bench_for(case: AdapterCase) -> AsyncIterator[Bench]:
    hosts: set[str] = set()
    async with _Faulty() as platform, open_session(hosts) as session:
        media = MediaClient()
        options = options_for(case, platform.url)
        factory = class_for(case.adapter, options)
        account = case.account or Account("contract", case.adapter.name)
        adapter = factory(account, options, Http(session, [platform.url], media))
        hasty = factory(account, options, Http(session, [platform.url], media, timeout_s=BRIEF_S))
        bench = Bench(case, adapter, hasty, platform, _secrets(options, case), hosts)
        platform.status, platform.body = case.success_status, case.success
        with _listening(bench.seen):
            yield bench
        for made in (adapter, hasty):
            if isinstance(made, Closing):
                await made.aclose()
        await media.aclose()


@contextlib.asynccontextmanager
async def open_session(hosts: set[str]) -> AsyncIterator[aiohttp.ClientSession]:
    """The session of the product, telling every host it calls."""

    async def started(_: Any, __: Any, request: aiohttp.TraceRequestStartParams) -> None:
        hosts.add(f"{request.url.scheme}://{request.url.authority}")

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(started)
    trace.freeze()
    async with new_session() as session:
        session.trace_configs.append(trace)
        yield session


def closed_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def options_for(case: AdapterCase, base: str) -> Any:
    name = case.adapter.name
    block = {"id": "contract", "adapter": name, **_filled(case.settings, base)}
    return parse({"accounts": [block]}, {name: case.adapter.settings_type}).accounts[0].options


def _filled(value: Any, base: str) -> Any:
    if isinstance(value, str):
        return value.replace("{base}", base)
    if isinstance(value, Mapping):
        return {key: _filled(entry, base) for key, entry in value.items()}
    return [_filled(entry, base) for entry in value] if isinstance(value, list | tuple) else value


def _secrets(options: Any, case: AdapterCase) -> frozenset[str]:
    found = {secret.reveal() for secret in _walk(options)} | set(case.secrets)
    return frozenset(text for text in found if len(text) >= SECRET_MIN)


def _walk(value: Any) -> Iterator[Secret]:
    if isinstance(value, Secret):
        yield value
    elif is_dataclass(value) and not isinstance(value, type):
        for spec in fields(value):
            yield from _walk(getattr(value, spec.name))
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _walk(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _walk(entry)


class _Ear(logging.Handler):
    def __init__(self, seen: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._seen = seen

    def emit(self, record: logging.LogRecord) -> None:
        self._seen.append(f"{record.getMessage()} {record.__dict__} {record.exc_info}")


@contextlib.contextmanager
def _listening(seen: list[str]) -> Iterator[None]:
    """Hear every log record, down to debug."""
    root, ear = logging.getLogger(), _Ear(seen)
    level = root.level
    root.addHandler(ear)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(ear)


def keep_secrets(bench: Bench) -> None:
    adapter = bench.adapter
    shown = [repr(adapter), str(adapter), repr(vars(adapter) if hasattr(adapter, "__dict__") else ""), *bench.seen]
    for text in shown:
        for secret in bench.secrets:
            expect(secret not in text, f"a secret is shown: {text.replace(secret, '<SECRET>')[:300]}")
