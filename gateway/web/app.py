"""The web application: every path, and nothing that a webhook does not need on a webhook's way."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from aiohttp import web

from gateway.core import Core
from gateway.web import openapi
from gateway.web.api import ROUTES
from gateway.web.auth import Authenticator
from gateway.web.health import Health, add_health
from gateway.web.inflight import InFlight
from gateway.web.pages import add_pages
from gateway.web.problems import Problem
from gateway.web.ratelimit import SIGN_INS, SIGN_INS_PER_MINUTE, KeyLimiter
from gateway.web.routes import CURSOR, Call, Door, Route
from gateway.web.stream import Streams
from gateway.web.webhooks import add_webhooks

KEEPALIVE_S = 15.0  # also bounds idle, half and trickled headers
LINGERING_S = 1.0
HEALTH = web.AppKey("health", Health)
STREAMS = web.AppKey("streams", Streams)


def create_app(core: Core, *, health: Health | None = None, extra: Sequence[Route] = ()) -> web.Application:
    """The application for the role "web". `extra` are further routes, documented like ours."""
    app = web.Application(client_max_size=core.settings.limits.upload_bytes)
    in_flight = InFlight(core.settings.limits.in_flight, core.settings.limits.in_flight_bytes)
    core.metrics.in_flight.set_function(lambda: in_flight.requests)
    add_webhooks(app, core, in_flight)
    app[HEALTH] = health or Health(core)
    add_health(app, app[HEALTH])
    authenticator = Authenticator(core)
    app[SIGN_INS] = KeyLimiter(SIGN_INS_PER_MINUTE)
    app[STREAMS] = streams = Streams(authenticator)
    routes = (*ROUTES, events_route(streams), *extra)
    _add_api(app, Door(core, authenticator), routes)
    add_pages(app, lambda: openapi.document(routes))
    app.router.add_route("*", "/{anything:.*}", _nothing_here)

    async def close(_app: web.Application) -> None:
        await streams.close()

    async def finish(_app: web.Application) -> None:
        await authenticator.close()

    async def part(_request: web.Request, response: web.StreamResponse) -> None:
        if app[HEALTH].draining:  # else the client's next request meets a connection we are about to close
            response.headers["Connection"] = "close"
            response.force_close()

    app.on_response_prepare.append(part)
    app.on_shutdown.append(close)
    app.on_cleanup.append(finish)
    return app


def create_health_app(core: Core, health: Health) -> web.Application:
    """What a process without the role "web" serves: health, readiness, figures."""
    app = web.Application()
    add_health(app, health)
    app.router.add_route("*", "/{anything:.*}", _nothing_here)
    return app


def make_runner(app: web.Application, *, shutdown_timeout_s: float = 5.0) -> web.AppRunner:
    """A runner with the settings the accept path relies on: bodies stay the bytes of the wire, nothing waits long."""
    return web.AppRunner(
        app,
        handle_signals=False,
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=KEEPALIVE_S,
        lingering_time=LINGERING_S,
        shutdown_timeout=shutdown_timeout_s,
    )


def events_route(streams: Streams) -> Route:
    """The live events."""

    async def live_events(call: Call) -> web.StreamResponse:
        """`ticket.created`, `ticket.updated`, `message.received`, `message.updated`, `contact.merged`, and more, as
        server-sent events. After `reset` something may be missing: look at the lists again."""
        return await streams.serve(call)

    return Route(
        "GET", "/api/v1/events", live_events, "Live events as they happen", "Events",
        params=(dataclasses.replace(CURSOR, name="after", meaning="like Last-Event-ID, for those who cannot send it"),),
        answers={200: str}, headers=("Last-Event-ID",), media="text/event-stream", streams=True,
    )  # fmt: skip


def _add_api(app: web.Application, door: Door, routes: Sequence[Route]) -> None:
    by_path: dict[str, list[Route]] = {}
    for route in routes:
        by_path.setdefault(route.path, []).append(route)
    for path, table in by_path.items():
        app.router.add_route("*", path, door.methods(table))


async def _nothing_here(_request: web.Request) -> web.StreamResponse:
    return Problem("not_found", "there is nothing at this path").response()
