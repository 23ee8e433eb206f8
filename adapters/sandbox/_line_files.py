"""Files on the data host of the LINE sandbox: what customers sent, prepared in its own time, with previews.

Source: LINE, Messaging API reference, Get content; Get preview; Verify the preparation status of a video or audio,
2026-07.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from adapters.sandbox._line_rules import Refusal


@dataclass(slots=True)
class File:
    """What a customer sent. `preparing`: what the platform says of it, one word for each time it is asked."""

    content: bytes
    media_type: str
    preparing: list[str] = field(default_factory=list)
    preview: bytes = b""
    failed: bool = False  # the platform has given up preparing it


Files = Mapping[str, File]


async def _content(files: Files, request: web.Request) -> web.Response:
    file = _named(files, request)
    if file.preparing or file.failed:
        raise Refusal(404, "Not found")
    return web.Response(body=file.content, content_type=file.media_type)


async def _preview(files: Files, request: web.Request) -> web.Response:
    if not (preview := _named(files, request).preview):
        raise Refusal(404, "Not found")
    return web.Response(body=preview, content_type="image/jpeg")


async def _transcoding(files: Files, request: web.Request) -> web.Response:
    file = _named(files, request)
    status = file.preparing.pop(0) if file.preparing else "failed" if file.failed else "succeeded"
    file.failed = status == "failed"
    return web.json_response({"status": status})


def _named(files: Files, request: web.Request) -> File:
    if (file := files.get(request.match_info["message"])) is None:
        raise Refusal(404, "Not found")
    return file


FILE_PATH: Final = "/v2/bot/message/{message}/content"
FILE_CALLS: Final[Mapping[str, Callable[[Files, web.Request], Awaitable[web.Response]]]] = {
    "": _content, "/preview": _preview, "/transcoding": _transcoding,
}  # fmt: skip
"""The end of the path -> what answers there."""
