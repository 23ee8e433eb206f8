"""The pages for people: the console at `/` and the API's documentation. All of it is ours and lies in `static/`."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

import msgspec
from aiohttp import web

from gateway.web import docs

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # an address may carry a key in its fragment, and tells of tickets
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
STATIC = {
    "console.css": "text/css",
    "conflicts.js": "text/javascript",
    "console.js": "text/javascript",
    "docs.css": "text/css",
    "icon.svg": "image/svg+xml",
    "views.js": "text/javascript",
}


def _static(name: str) -> bytes:
    return resources.files("gateway.web").joinpath("static", name).read_bytes()


def _served(make: Callable[[], bytes], content_type: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """A handler for a body that never changes while the process runs; made when it is first asked for."""
    charset = None if content_type == "application/json" else "utf-8"

    @functools.cache
    def made() -> tuple[bytes, str]:
        body = make()
        return body, f'"{hashlib.sha256(body).hexdigest()[:20]}"'

    async def handle(request: web.Request) -> web.StreamResponse:
        body, tag = made()
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers={"ETag": tag})
        return web.Response(body=body, content_type=content_type, charset=charset, headers={**HEADERS, "ETag": tag})

    return handle


def add_pages(app: web.Application, document: Callable[[], dict[str, Any]]) -> None:
    """The console, its parts, the documentation, and the OpenAPI document."""
    app.router.add_get("/", _served(lambda: _static("console.html"), "text/html"))
    for name, content_type in STATIC.items():
        app.router.add_get(f"/static/{name}", _served(functools.partial(_static, name), content_type))
    app.router.add_get("/api/docs", _served(lambda: docs.page(document()).encode(), "text/html"))
    app.router.add_get("/api/openapi.json", _served(lambda: msgspec.json.encode(document()), "application/json"))
