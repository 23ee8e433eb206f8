"""The files of a message that is to leave: uploads of ours, or addresses elsewhere."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, select

from gateway import signed_urls
from gateway.core import Core
from gateway.ids import new_id
from gateway.requests import AttachmentRequest, RequestError
from gateway.store.schema import uploads
from normalizers.model import MediaKind, OutboundFile

_KINDS: dict[str, MediaKind] = {"image": "image", "audio": "audio", "video": "video"}


def outgoing_files(
    connection: Connection,
    core: Core,
    message_id: str,
    wanted: Sequence[AttachmentRequest],
    now: datetime,
    valid: timedelta,
) -> list[tuple[dict[str, Any], OutboundFile]]:
    """Each file with its row of the table attachments; `valid`: how long its address is. Raises `RequestError`."""
    found: list[tuple[dict[str, Any], OutboundFile]] = []
    public_url = core.settings.gateway.public_url.rstrip("/")
    for position, request in enumerate(wanted):
        field = f"attachments[{position}]"
        if bool(request.upload) == bool(request.url):
            raise RequestError(422, "invalid", 'exactly one of "upload" and "url" must be given', field)
        row = _stored(connection, request, field) if request.upload else _linked(request, field)
        row |= {"id": new_id(), "message_id": message_id, "position": position}
        kind = row["kind"] = _KINDS.get(row["media_type"].partition("/")[0], "file")
        url = row["url"]
        if row["path"] and public_url:
            url = f"{public_url}/media/{signed_urls.make(core.tokens, row['id'], now, valid)}"
        path = str(core.blobs.locate(row["path"])) if row["path"] else ""
        file = OutboundFile(
            kind=kind, media_type=row["media_type"], filename=row["filename"], size=row["size"] or 0, open_path=path,
            url=url,
        )  # fmt: skip
        found.append((row, file))
    return found


def _stored(connection: Connection, request: AttachmentRequest, field: str) -> dict[str, Any]:
    upload = connection.execute(select(uploads).where(uploads.c.id == request.upload)).mappings().first()
    if upload is None:
        raise RequestError(422, "unknown_upload", "there is no such upload", f"{field}.upload")
    name = _basename(request.filename or upload["filename"])
    return {
        "media_type": upload["media_type"] or _guess(name), "filename": name, "size": upload["size"],
        "path": upload["path"], "url": "", "state": "stored",
    }  # fmt: skip


def _linked(request: AttachmentRequest, field: str) -> dict[str, Any]:
    parts = urlsplit(request.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RequestError(422, "invalid", "not an http or https address", f"{field}.url")
    name = _basename(request.filename or parts.path)
    return {"media_type": _guess(name), "filename": name, "size": None, "path": "", "url": request.url,
            "state": "linked"}  # fmt: skip


def _guess(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def _basename(name: str) -> str:
    return "".join(c for c in PurePosixPath(name.replace("\\", "/")).name if c.isprintable())[:200] or "file"
