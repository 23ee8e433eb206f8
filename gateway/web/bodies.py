"""Reading a request's body: never more than allowed, never longer than allowed, exactly the bytes of the wire."""

from __future__ import annotations

import asyncio

from aiohttp import web


class BodyTooLarge(Exception):
    """The body is larger than allowed."""


class BodyTooSlow(Exception):
    """The body did not come within its time."""


class BodyBroken(Exception):
    """The connection ended, or the framing broke, before the body did."""


async def read_body(request: web.Request, max_bytes: int, timeout_s: float) -> bytes:
    """The whole body. Raises `BodyTooLarge`, `BodyTooSlow`, `BodyBroken`.

    A small body is there before its handler runs: it is taken without waiting.
    """
    announced = request.content_length
    if announced is not None and announced > max_bytes:
        raise BodyTooLarge
    content = request.content
    try:
        if content.is_eof():
            body = content.read_nowait(-1)
            if len(body) > max_bytes:
                raise BodyTooLarge
            return body
        parts = bytearray()
        async with asyncio.timeout(timeout_s):
            while chunk := await content.readany():
                parts += chunk
                if len(parts) > max_bytes:
                    raise BodyTooLarge
        return bytes(parts)
    except TimeoutError:
        raise BodyTooSlow from None
    except (web.HTTPException, BodyTooLarge):
        raise
    except Exception as error:  # whatever the parser says of a body that breaks off
        raise BodyBroken(type(error).__name__) from error
