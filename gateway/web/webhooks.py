"""The accept path: verify the raw bytes, keep them, answer. Nothing is understood here.

An answer of 2xx says that the delivery is on disk. Everything an account needs is made ready once, at the start: a
request costs its signature, its row and its share of a commit.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from adapters import Adapter, Callback, Handshake, HandshakeRefused, MalformedBody, VerificationError
from gateway.core import Core
from gateway.ids import micros, new_id
from gateway.store.dialect import StoreUnavailable
from gateway.web.bodies import BodyBroken, BodyTooLarge, BodyTooSlow, read_body
from gateway.web.inflight import InFlight
from gateway.web.problems import Problem
from gateway.web.ratelimit import PerMinute

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# What a normaliser may want of the headers, beside the adapter's own signature headers. Cookies, credentials and what
# proxies add stay out of the store.
KEPT_HEADERS = frozenset({"content-type", "user-agent", "i-twilio-idempotency-token", "x-line-retry-key"})
RETRY_AFTER_S = "5"
_encode = msgspec.json.Encoder().encode
_NO_QUERY: Mapping[str, str] = {}


def storable(text: str) -> str:
    """The text without lone surrogates and NUL, which no store takes. One bad row would undo everybody's commit."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "�")


def decoded_headers(request: web.Request) -> dict[str, tuple[str, ...]]:
    """Lower-case names to all their values, in order. Bytes that are not UTF-8 become replacement characters."""
    found: dict[str, tuple[str, ...]] = {}
    for raw_name, raw_value in request.raw_headers:
        name = raw_name.decode("ascii", "replace").lower()
        value = raw_value.decode("utf-8", "replace")
        before = found.get(name)
        found[name] = (value,) if before is None else (*before, value)
    return found


class Webhook:
    """The webhook of one account."""

    def __init__(self, core: Core, account: str, adapter: Adapter, in_flight: InFlight, per_ip: PerMinute) -> None:
        self._core, self._account, self._adapter = core, account, adapter
        self._in_flight, self._per_ip = in_flight, per_ip
        self._limits = core.settings.limits
        own_cap: int | None = getattr(adapter, "webhook_max_bytes", None)  # a platform whose bodies are always small
        self._max_bytes = min(self._limits.webhook_bytes, own_cap or self._limits.webhook_bytes)
        self._public_url = core.settings.gateway.public_url.rstrip("/")
        self._single = frozenset(name.lower() for name in adapter.signature_headers)
        self._kept = self._single | KEPT_HEADERS
        counter = core.metrics.deliveries
        self._accepted = counter.labels(account, "accepted").inc
        self._refused = {
            status: counter.labels(account, outcome).inc
            for status, outcome in (
                (400, "malformed"), (401, "unverified"), (403, "refused"), (405, "method"), (408, "slow"),
                (413, "too_large"), (503, "unavailable"),
            )
        }  # fmt: skip
        self._commit_seconds = core.metrics.commit_seconds.observe

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Accept one delivery. Never 500: what we cannot explain is 503, and the platform tries again."""
        announced = request.content_length
        size = self._max_bytes if announced is None else announced  # unsaid: it may grow to all that is allowed
        if size > self._max_bytes:
            return self._refuse(413)
        if not self._per_ip.allows(request.remote or "") or not self._in_flight.enter(size):
            return self._refuse(503)
        try:
            return await self._accept(request)
        except VerificationError:
            return self._refuse(401)
        except (MalformedBody, BodyBroken):
            return self._refuse(400)
        except BodyTooLarge:
            return self._refuse(413)
        except BodyTooSlow:
            return self._refuse(408, close=True)
        except (TimeoutError, StoreUnavailable):
            return self._refuse(503)
        except Exception:
            log.exception("webhook.failed", extra={"account": self._account})
            return self._refuse(503)
        finally:
            self._in_flight.leave(size)

    async def _accept(self, request: web.Request) -> web.StreamResponse:
        headers = decoded_headers(request)
        if "content-encoding" in headers:
            raise MalformedBody("a Content-Encoding is not taken: the signature covers the bytes as they come")
        for name in self._single:
            if len(headers.get(name, ())) > 1:
                raise MalformedBody(f"{name} stands twice")
        body = await read_body(request, self._max_bytes, self._limits.body_timeout_s)
        callback = self._callback(request, headers, body)
        self._adapter.verify(callback)
        self._adapter.well_formed(callback)
        row = self._row(callback)
        started = time.perf_counter()
        async with asyncio.timeout(self._limits.commit_timeout_s):
            await self._core.database.keep(row)
        self._commit_seconds(time.perf_counter() - started)
        self._accepted()
        self._core.bus.wake("intake")
        answer = self._adapter.acknowledge(callback)
        return web.Response(status=answer.status, body=answer.body, content_type=answer.content_type)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Answer a platform that proves our address by GET; 405 where the platform knows no such thing."""
        if not isinstance(self._adapter, Handshake):
            return self._refuse(405)
        try:
            answer = self._adapter.handshake(self._callback(request, decoded_headers(request), b""))
        except HandshakeRefused:
            return self._refuse(403)
        except Exception:
            log.exception("webhook.handshake_failed", extra={"account": self._account})
            return self._refuse(503)
        return web.Response(status=answer.status, body=answer.body, content_type=answer.content_type)

    async def other(self, request: web.Request) -> web.StreamResponse:
        """Any other method."""
        return self._refuse(405)

    def _callback(self, request: web.Request, headers: Mapping[str, tuple[str, ...]], body: bytes) -> Callback:
        target = request.raw_path
        if not target.startswith("/"):  # absolute form: "GET http://host/path"
            target = request.rel_url.raw_path_qs
        base = self._public_url or f"{request.scheme}://{request.host}"
        query = dict(request.query) if "?" in target else _NO_QUERY
        return Callback(request.method, base + target, target, query, headers, body)

    def _row(self, callback: Callback) -> dict[str, Any]:
        kept = self._kept
        headers = {name: values for name, values in callback.headers.items() if name in kept}
        query = callback.query
        return {
            "id": new_id(),
            "account": self._account,
            "source": "webhook",
            "url": storable(callback.url),
            "headers": _encode(headers).decode(),
            "query": _encode({storable(k): storable(v) for k, v in query.items()}).decode() if query else "{}",
            "body": callback.body,
            "received_at": micros(self._core.clock()),
        }

    def _refuse(self, status: int, *, close: bool = False) -> web.Response:
        self._refused[status]()
        headers: dict[str, str] = {}
        if status == 503:
            headers["Retry-After"] = RETRY_AFTER_S
        elif status == 405:
            headers["Allow"] = "GET, POST" if isinstance(self._adapter, Handshake) else "POST"
        response = web.Response(status=status, headers=headers)
        if close:
            response.force_close()
        return response


def add_webhooks(app: web.Application, core: Core, in_flight: InFlight) -> None:
    """One fixed path per account: the router compares a text, and an unknown account is not found."""
    per_ip = PerMinute(core.settings.limits.webhook_per_minute_per_ip)
    for account in core.accounts:
        hook = Webhook(core, account.id, account.adapter, in_flight, per_ip)
        resource = app.router.add_resource(f"/webhooks/{account.id}")
        resource.add_route("POST", hook.post)
        resource.add_route("GET", hook.get)
        resource.add_route("*", hook.other)

    async def unknown(_request: web.Request) -> web.StreamResponse:
        return Problem("not_found", "no account has this id").response()

    app.router.add_route("*", "/webhooks/{account}", unknown)
