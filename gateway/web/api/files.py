"""Files: uploads of agents, attachments of messages, and signed addresses a platform may fetch a file from."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from aiohttp import BodyPartReader, MultipartReader, web
from sqlalchemy import RowMapping

from gateway import signed_urls
from gateway.blobs import Stored, TooLarge
from gateway.media import media_type_of
from gateway.store import uploads, views
from gateway.web import types
from gateway.web.problems import Problem
from gateway.web.routes import Call, Reply, Route

CHUNK = 256 * 1024  # bytes
IDLE_TIMEOUT_S = 30.0  # for the next chunk of an upload
FILENAME_MAX = 255
INLINE = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
_UNWANTED = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\u202a-\u202e\u2066-\u2069]')


def clean_filename(name: str) -> str:
    """The last part of a file's name, without what means something to a file system or turns the text around."""
    base = re.split(r"[/\\]", name.encode("utf-8", "replace").decode())[-1]
    return _UNWANTED.sub("_", base).strip(". ")[-FILENAME_MAX:] or "file"


def clean_media_type(declared: str | None) -> str:
    """The declared type without parameters, or the one that says nothing."""
    bare = (declared or "").partition(";")[0].strip().lower()
    return bare if _MEDIA_TYPE.fullmatch(bare) else "application/octet-stream"


async def _received(call: Call) -> tuple[Stored, str, str | None]:
    """The file of a form, streamed to disk; its name, and the media type it says it has. Raises `Problem`."""
    request = call.request
    if request.content_type != "multipart/form-data":
        raise Problem("unsupported_media_type", "multipart/form-data is wanted")
    max_bytes = call.core.settings.limits.upload_bytes
    if request.content_length is not None and request.content_length > max_bytes + 64 * 1024:
        raise Problem("too_large")
    try:
        async with asyncio.timeout(IDLE_TIMEOUT_S):
            reader = await request.multipart()
            part = _file_part(await reader.next())
        filename = clean_filename(part.filename or "")
        stored = await call.core.blobs.write(_chunks(reader, part), max_bytes)
    except TooLarge:
        raise Problem("too_large", f"at most {max_bytes} bytes") from None
    except TimeoutError:
        raise Problem("body_timeout", headers={"Connection": "close"}) from None
    except (ValueError, web.HTTPException, AssertionError) as error:  # what the multipart reader says of broken input
        raise Problem("malformed_body", f"not multipart/form-data: {type(error).__name__}") from None
    return stored, filename, part.headers.get("Content-Type")


async def read_form_file(call: Call) -> tuple[str, str]:
    """The path in the blob store of a file that came in a form, and its name. Raises `Problem`."""
    stored, filename, _ = await _received(call)
    return stored.path, filename


async def upload(call: Call) -> Reply:
    """Take one file, streamed to disk. It does not count against what webhooks may have in flight."""
    stored, filename, declared = await _received(call)
    if not stored.size:
        call.core.blobs.remove(stored.path)
        raise Problem("invalid_body", "the file is empty", field="file")
    media_type = media_type_of(stored, clean_media_type(declared))
    try:
        upload_id = await call.write(lambda c: uploads.add(c, stored, filename, media_type, call.key.id, call.now))
    except BaseException:
        call.core.blobs.remove(stored.path)
        raise
    found = types.Upload(id=upload_id, filename=filename, media_type=media_type, size=stored.size, sha256=stored.sha256)
    return Reply(found, 201)


def _file_part(part: MultipartReader | BodyPartReader | None) -> BodyPartReader:
    if part is None:
        raise Problem("invalid_body", "a file is wanted", field="file")
    if not isinstance(part, BodyPartReader) or part.name != "file":
        raise Problem("invalid_body", "the only field is `file`", field=getattr(part, "name", None) or "")
    if "Content-Encoding" in part.headers or part.headers.get("Content-Transfer-Encoding", "binary") not in (
        "binary", "8bit", "7bit",
    ):  # fmt: skip
        raise Problem("unsupported_media_type", "the file must come as it is", field="file")
    return part


async def _chunks(reader: MultipartReader, part: BodyPartReader) -> AsyncIterator[bytes]:
    """The file; then the form must be at its end, so that half an upload is none."""
    while True:
        async with asyncio.timeout(IDLE_TIMEOUT_S):
            chunk = await part.read_chunk(CHUNK)
        if not chunk:
            break
        yield chunk
    async with asyncio.timeout(IDLE_TIMEOUT_S):
        if await reader.next() is not None:
            raise Problem("invalid_body", "the only field is `file`")


# --- out --------------------------------------------------------------------------------------------------------------


def file_response(call: Call, row: RowMapping) -> web.StreamResponse:
    """A stored file: never run, never guessed at, shown inline only where it is a plain picture."""
    if row["state"] != "stored" or not row["path"]:
        detail = {"pending": "it is still being fetched", "failed": row["reason"] or "it could not be fetched"}
        raise Problem("attachment_not_stored", detail.get(row["state"], "it is not kept here"))
    try:
        path = call.core.blobs.locate(row["path"])
    except ValueError:
        raise Problem("not_found", "the file is gone") from None
    if not path.is_file():
        raise Problem("not_found", "the file is gone")
    media_type = clean_media_type(row["media_type"])
    how = "inline" if media_type in INLINE else "attachment"
    name = clean_filename(row["filename"] or "file")
    plain = name.encode("ascii", "replace").decode().replace("?", "_").replace("\\", "_").replace("%", "_")
    headers = {
        "Content-Type": media_type,
        "Content-Disposition": f"{how}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "private, max-age=300",
    }
    return web.FileResponse(path, headers=headers, chunk_size=CHUNK)


async def get_attachment(call: Call) -> web.StreamResponse:
    """The file of a message."""
    row = await call.read(lambda connection: views.attachment(connection, call.id, call.key.accounts))
    if row is None:
        raise Problem("not_found", "there is no such attachment")
    return file_response(call, row)


async def get_media(call: Call) -> web.StreamResponse:
    """A file for a platform that fetches: the address itself is the permission, for a while."""
    token = call.request.match_info["token"]
    attachment_id = signed_urls.check(call.core.tokens, token, call.core.clock())
    if attachment_id is None:
        raise Problem("not_found", "the address is not valid, or no longer")
    row = await call.read(lambda connection: views.attachment(connection, attachment_id, None))
    if row is None:
        raise Problem("not_found", "there is no such file")
    return file_response(call, row)


_TAG = "Files"
_ANY = "application/octet-stream"
_SERVED: dict[str, Any] = {  # aiohttp's `FileResponse` reads the conditions and ranges of RFC 9110
    "answers": {200: bytes, 206: bytes, 304: None, 412: None, 416: None}, "media": _ANY,
    "headers": ("Range", "If-None-Match", "If-Match"), "errors": ("attachment_not_stored",),
}  # fmt: skip
ROUTES: tuple[Route, ...] = (
    Route(
        "POST", "/api/v1/uploads", upload, "Upload a file to attach to a reply", _TAG, scope="agent",
        answers={201: types.Upload}, form=True,
        errors=("malformed_body", "invalid_body", "too_large", "unsupported_media_type", "body_timeout"),
    ),
    Route(
        "GET", "/api/v1/attachments/{id}", get_attachment, "The file of a message", _TAG, **_SERVED,
    ),
    Route(
        "GET", "/media/{token}", get_media, "A file under a signed address, for platforms that fetch it", _TAG,
        scope="", **_SERVED,
    ),
)  # fmt: skip
