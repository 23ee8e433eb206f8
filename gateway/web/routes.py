"""One table of routes: what is routed, checked and documented comes from the same rows.

A handler is an `async def` of a `Call` to a `Reply`. Before it runs, the key, its scope, the rate, the parameters and
the body have been checked; whatever it raises becomes a problem.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import msgspec
from aiohttp import web
from sqlalchemy import Connection

from gateway.core import Core
from gateway.ids import micros
from gateway.permissions import permission
from gateway.store.dialect import StoreUnavailable
from gateway.web import misread
from gateway.web.auth import NOBODY, Authenticator, Caller
from gateway.web.bodies import BodyBroken, BodyTooLarge, BodyTooSlow, read_body
from gateway.web.problems import Problem
from gateway.web.ratelimit import KeyLimiter

log = logging.getLogger(__name__)
T = TypeVar("T")
ParamType = Literal["text", "int", "bool"]
JSON_TIMEOUT_S = 30.0  # an API caller may be slower than a platform
_encode = msgspec.json.Encoder().encode
_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_FIELD = re.compile(r"(?:field|property) `(?P<name>[^`]+)`")


@dataclass(frozen=True, slots=True)
class Param:
    """A query parameter. An empty value counts as not given; of a `guard`, and of one of a family, it is a problem."""

    name: str
    meaning: str
    type: ParamType = "text"
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    many: bool = False  # several values, separated by commas
    guard: bool = False  # it holds something back that is done without it
    prefix: bool = False  # `name` is the beginning of a family of names: attribute.NAME


LIMIT = Param("limit", "how many items at most", "int", 1, 200)
CURSOR = Param("cursor", "where to go on: `next` of the page before")
PAGED = (LIMIT, CURSOR)


@dataclass(frozen=True, slots=True)
class OneOf:
    """A body of several forms: `choose` tells from the decoded JSON which of `kinds` it is meant to be."""

    kinds: tuple[Any, ...]
    choose: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a handler answers. `body` is encoded as JSON; None: no body."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. `answers` maps a status to its type; `errors` are codes of `problems.PROBLEMS` beside the usual.

    A tuple of types is any of them. `media`: what an answer is that is no JSON.
    """

    method: str
    path: str
    handler: Callable[[Call], Awaitable[Any]]
    summary: str
    tag: str
    scope: str = "read"  # "" for what is open to everybody
    params: tuple[Param, ...] = ()
    body: Any = None
    answers: Mapping[int, Any] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()  # request headers it reads
    media: str = "application/json"
    other_media: tuple[str, ...] = ()  # what it may be instead, when that is asked for
    streams: bool = False  # its body is written as it comes, so that HEAD is answered without asking the handler
    personal: bool = False  # it concerns the caller alone: every caller may
    form: bool = False  # takes multipart/form-data with a file
    unlimited: bool = False  # only for callers who see every account: it concerns them all

    @property
    def permission(self) -> str:
        """What a caller must have: the resource it is documented under, and the verb of its scope."""
        return permission(self.tag, self.scope)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters in the path."""
        return tuple(re.findall(r"\{(\w+)\}", self.path))

    @property
    def usual_errors(self) -> tuple[str, ...]:
        """The problems every operation of this shape may answer with."""
        found = ["internal", "unavailable", *self.errors]
        if self.scope:
            found += ["unauthorized", "forbidden", "rate_limited", "invalid_parameter"]
            found += ["csrf"] if self.method != "GET" else []
        if self.names:
            found.append("not_found")
        if CURSOR in self.params:
            found.append("invalid_cursor")
        if self.body is not None:
            found += ["malformed_body", "invalid_body", "too_large", "unsupported_media_type", "body_timeout"]
        return tuple(dict.fromkeys(found))


class Call:
    """One checked request: who calls, with what."""

    __slots__ = ("body", "core", "key", "query", "request")

    def __init__(self, core: Core, request: web.Request, key: Caller, query: dict[str, Any], body: Any) -> None:
        self.core, self.request, self.key, self.query, self.body = core, request, key, query, body

    @property
    def id(self) -> str:
        """The id in the path."""
        return self.request.match_info["id"]

    @property
    def now(self) -> int:
        """Whole microseconds since 1970 UTC."""
        return micros(self.core.clock())

    @property
    def limit(self) -> int:
        """How many items one page has at most."""
        return int(self.query.get("limit", 50))

    @property
    def idempotency_key(self) -> str:
        """The Idempotency-Key, or "". Raises `Problem` for one that cannot be stored."""
        values = self.request.headers.getall("Idempotency-Key", [])
        if len(values) > 1:
            raise Problem("duplicate_header", "Idempotency-Key", field="Idempotency-Key")
        key = values[0] if values else ""
        if len(key) > 255 or not key.isprintable() or not key.isascii():
            raise Problem("invalid_parameter", "at most 255 printable ASCII characters", field="Idempotency-Key")
        return key

    async def read(self, job: Callable[[Connection], T]) -> T:
        """Ask the store."""
        return await self.core.database.read(job)

    async def write(self, job: Callable[[Connection], T]) -> T:
        """Change the store; durable once this returns."""
        return await self.core.database.write(job)


def parameters(request: web.Request, params: Iterable[Param]) -> dict[str, Any]:
    """The query as typed values. Raises `Problem` for what is unknown, doubled or of a wrong type."""
    known = {param.name: param for param in params if not param.prefix}
    families = [param for param in params if param.prefix]
    found: dict[str, Any] = {}
    for name, text in request.query.items():
        param = known.get(name) or next((p for p in families if name.startswith(p.name) and name != p.name), None)
        if param is None:
            raise Problem("invalid_parameter", "unknown parameter", field=name)
        if name in found:
            raise Problem("invalid_parameter", "given twice", field=name)
        if text == "" and param.prefix:  # who asks by name for a value they do not have must not be given everything
            raise Problem("invalid_parameter", "a value is wanted", field=name)
        if text != "" or param.guard:
            found[name] = _typed(param, name, text)
    return found


def _typed(param: Param, name: str, text: str) -> Any:
    if "\0" in text or any(0xD800 <= ord(char) <= 0xDFFF for char in text) or len(text) > 1000:
        raise Problem("invalid_parameter", "not a text that can be searched", field=name)
    if param.type == "bool":
        if text not in ("true", "false"):
            raise Problem("invalid_parameter", "must be true or false", field=name)
        return text == "true"
    if param.type == "int":
        if not re.fullmatch(r"[0-9]{1,9}", text):
            raise Problem("invalid_parameter", "must be a whole number", field=name)
        number = int(text)
        if number < (param.minimum or 0) or (param.maximum is not None and number > param.maximum):
            raise Problem("invalid_parameter", f"must be {param.minimum or 0} to {param.maximum}", field=name)
        return number
    values = [value.strip() for value in text.split(",")] if param.many else [text]
    for value in values:
        if param.choices and value not in param.choices:
            raise Problem("invalid_parameter", f"must be one of {', '.join(param.choices)}", field=name)
    return values if param.many else text


def decode_body(raw: bytes, kind: Any) -> Any:
    """The JSON body as `kind`. Raises `Problem` with the field's name."""
    try:
        tree = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        words, field = misread.malformed(raw, error)
        raise Problem("malformed_body", words, field=field) from None
    _check_text(tree)
    wanted = kind.choose(tree) if isinstance(kind, OneOf) else kind
    try:
        return msgspec.convert(tree, wanted)
    except (msgspec.ValidationError, RecursionError) as error:
        raise invalid(error, wanted) from None


def invalid(error: msgspec.ValidationError | RecursionError, kind: Any) -> Problem:
    """The problem that names the field msgspec complains of: "attachments[0].upload"."""
    words = str(error)
    at, named = _AT.search(words), _FIELD.search(words)
    path = at["path"] if at else ""
    parts = [path, named["name"] if named else ""]
    told = misread.words_of(error, _AT.sub("", words), kind, path)
    return Problem("invalid_body", told[:300], field=".".join(part for part in parts if part))


def _check_text(value: Any, path: str = "", depth: int = 0) -> None:
    """Refuse what no store takes: NUL in a text, numbers beyond 64 bits, nesting without end."""
    if depth > 64:
        raise Problem("invalid_body", "nested too deeply", field=path[:200])
    if isinstance(value, str):
        if "\0" in value:
            raise Problem("invalid_body", "a text must not contain NUL", field=path)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise Problem("invalid_body", "a number beyond 64 bits", field=path)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key, path, depth + 1)
            _check_text(item, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_text(item, f"{path}[{index}]", depth + 1)


class Door:
    """What stands before every API handler: key, scope, rate, parameters, body; and behind it: problems, metrics."""

    def __init__(self, core: Core, authenticator: Authenticator) -> None:
        self._core, self._authenticator = core, authenticator
        self._limiter = KeyLimiter(core.settings.limits.api_per_minute)

    def methods(self, routes: Iterable[Route]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """One aiohttp handler for all operations on one path."""
        table = {route.method: route for route in routes}
        allowed = ", ".join(sorted(table))

        async def handle(request: web.Request) -> web.StreamResponse:
            name = ["-"]
            try:
                route = table.get("GET" if request.method == "HEAD" else request.method)
                if route is None:
                    raise Problem("method_not_allowed", headers={"Allow": allowed})
                response = await self._enter(route, request, name)
            except Problem as problem:
                response = problem.response()
            except StoreUnavailable:
                response = Problem("unavailable", "the store does not answer").response()
            except (asyncio.CancelledError, ConnectionResetError):
                raise
            except Exception:
                log.exception("api.failed", extra={"method": request.method})
                response = Problem("internal").response()
            self._core.metrics.api_requests.labels(name[0], _method(request), str(response.status)).inc()
            return response

        return handle

    async def _enter(self, route: Route, request: web.Request, name: list[str]) -> web.StreamResponse:
        key = NOBODY
        if route.scope:
            key = await self._authenticator.caller(request)
            name[0] = key.name
            wait_s = await self._limiter.wait_s(key.id)
            if wait_s:
                raise Problem("rate_limited", headers={"Retry-After": str(wait_s)})
            if not route.personal and not key.may(route.permission):
                raise Problem("forbidden", f"this needs the permission {route.permission!r}")
            if route.unlimited and key.accounts is not None:
                raise Problem("forbidden", "this concerns every account, and the caller sees some of them only")
        query = parameters(request, route.params)
        if route.streams and request.method == "HEAD":
            return web.Response(content_type=route.media, headers={"Cache-Control": "no-store"})
        body = await self._body(route, request) if route.body is not None else None
        reply = await route.handler(Call(self._core, request, key, query, body))
        if isinstance(reply, web.StreamResponse):
            return reply
        content = b"" if reply.body is None else _encode(reply.body)
        return web.Response(
            status=reply.status,
            body=content,
            content_type="application/json" if content else None,
            headers={"Cache-Control": "no-store", **reply.headers},
        )

    async def _body(self, route: Route, request: web.Request) -> Any:
        # Without a header a body counts as JSON where a key or a session's token speaks for the caller. Where nothing
        # does (signing in), it must be said: a page of another site can leave it out and have no permission asked for.
        given = request.content_type if "Content-Type" in request.headers or not route.scope else "application/json"
        if given != "application/json" and not given.endswith("+json"):
            raise Problem("unsupported_media_type", "application/json is wanted")
        if "Content-Encoding" in request.headers:
            raise Problem("unsupported_media_type", "no Content-Encoding is taken")
        try:
            raw = await read_body(request, self._core.settings.limits.webhook_bytes, JSON_TIMEOUT_S)
        except BodyTooLarge:
            raise Problem("too_large") from None
        except BodyTooSlow:
            raise Problem("body_timeout", headers={"Connection": "close"}) from None
        except BodyBroken:
            raise Problem("malformed_body", "the body breaks off") from None
        return decode_body(raw, route.body)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _method(request: web.Request) -> str:
    """The method as a metric's label: a caller must not make new ones."""
    return request.method if request.method in _METHODS else "other"
