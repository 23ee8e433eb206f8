"""Files to X and from X. Sources: X, Media upload quickstart; Media best practices; DM media download, 2026-08."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp

from adapters._errors import MediaError, SendError
from adapters._x_api import XApi
from adapters._x_oauth2 import AccessTokens
from normalizers._fields import items, mapping, text, whole
from normalizers._x_text import best_url
from normalizers.model import Attachment, OutboundFile

UPLOAD = "/2/media/upload"
LEGACY_HOSTS = ("ton.twitter.com",)  # of files in direct messages; they take a signature of OAuth 1.0a
PIECE = 4 * 2**20  # bytes; X takes up to 5 MB at once
_PATIENCE_S = 20.0  # for one file: the message itself must still leave within the same send
_KEPT_S = 20 * 3600.0  # X keeps an unused file for 24 h
_KEPT_MAX = 256
_FETCHED_MAX = 15 * 2**20  # bytes of a file that lies elsewhere


class Uploads:
    """Uploads of one account. A file is uploaded once: a later try to send it finds it there."""

    def __init__(self, api: XApi) -> None:
        self._api = api
        self._kept: dict[tuple[str, str], tuple[str, float]] = {}

    async def media_id(self, file: OutboundFile, purpose: str) -> str:
        """The id of the file, ready to be sent. `purpose`: "dm" or "tweet". Raises `SendError`; nothing has left then.

        The category must fit what the file is for, else the send fails.
        """
        kind = "gif" if file.media_type == "image/gif" else file.kind
        if kind not in ("image", "gif", "video"):
            raise SendError("permanent", "file", f"{file.filename}: X takes pictures, GIFs and videos")
        category, place = f"{purpose}_{kind}", file.open_path or file.url
        kept = self._kept.get((place, category))
        try:
            async with asyncio.timeout(_PATIENCE_S):
                if kept is None or kept[1] < time.monotonic():
                    kept = (await self._upload(file, category), time.monotonic() + _KEPT_S)
                    while len(self._kept) >= _KEPT_MAX:
                        del self._kept[next(iter(self._kept))]
                    self._kept[place, category] = kept
                elif kind != "image":
                    await self._processed(kept[0], await self._status(kept[0]))
        except TimeoutError:
            raise SendError("retry", "upload", "the file is still being processed") from None
        except SendError:
            self._kept.pop((place, category), None)
            raise
        return kept[0]

    async def _upload(self, file: OutboundFile, category: str) -> str:
        content = await self._content(file)
        if category.endswith("_image"):
            form = aiohttp.FormData()
            form.add_field("media_category", category)
            form.add_field("media", content, filename="media", content_type=file.media_type)
            return _id(await self._api.ask("POST", UPLOAD, data=form))
        begin = {"media_type": file.media_type, "total_bytes": len(content), "media_category": category}
        media_id = _id(await self._api.ask("POST", f"{UPLOAD}/initialize", json=begin))
        for index, start in enumerate(range(0, len(content), PIECE)):
            form = aiohttp.FormData()
            form.add_field("segment_index", str(index))
            form.add_field("media", content[start : start + PIECE], filename="media")
            await self._api.ask("POST", f"{UPLOAD}/{media_id}/append", data=form)
        self._kept[file.open_path or file.url, category] = (media_id, time.monotonic() + _KEPT_S)
        await self._processed(media_id, await self._api.ask("POST", f"{UPLOAD}/{media_id}/finalize"))
        return media_id

    async def _content(self, file: OutboundFile) -> bytes:
        """The file from our disk, or from where it lies: X fetches nothing by itself."""
        try:
            if file.open_path:
                return await asyncio.to_thread(_read, file.open_path)
            content = bytearray()
            async for chunk in self._api.http.download(file.url):
                content += chunk
                if len(content) > _FETCHED_MAX:
                    raise SendError("permanent", "file", f"{file.filename}: too large to be passed on from its address")
            return bytes(content)
        except OSError as error:
            raise SendError("permanent", "file-gone", f"{file.filename}: {error.strerror}") from None
        except MediaError as error:
            raise SendError("retry" if error.retryable else "permanent", "file", error.reason) from None

    async def _status(self, media_id: str) -> dict[str, Any]:
        return await self._api.ask("GET", UPLOAD, {"command": "STATUS", "media_id": media_id})

    async def _processed(self, media_id: str, answer: Mapping[str, Any]) -> None:
        """Wait until X has gone through the file. Raises `SendError` when X cannot use it."""
        while state := text(info := mapping(mapping(answer, "data"), "processing_info"), "state"):
            if state == "succeeded":
                return
            if state == "failed":
                raise SendError(
                    "permanent", "media", text(mapping(info, "error"), "message") or "X cannot use the file"
                )
            seconds = whole(info, "check_after_secs")
            await asyncio.sleep(1 if seconds is None else max(seconds, 0))
            answer = await self._status(media_id)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _id(answer: Mapping[str, Any]) -> str:
    media_id = text(mapping(answer, "data"), "id")
    if not media_id:
        raise SendError("retry", "no-media-id", "the upload brought no id")
    return media_id


# --- from X -----------------------------------------------------------------------------------------------------------


async def fetch(attachment: Attachment, api: XApi, tokens: AccessTokens | None) -> AsyncIterator[bytes]:
    """A file's bytes. Those of posts are public, those of direct messages take OAuth 2.0. Raises `MediaError`."""
    kind, _, rest = attachment.ref.partition(":")
    try:
        if kind == "dm":
            chunks = _direct(rest, api, tokens) if tokens is not None else _older(attachment, api)
        elif kind == "post":
            chunks = api.http.download(await _address(rest, api))
        else:
            chunks = api.http.download(attachment.url)
        async for chunk in chunks:
            yield chunk
    except SendError as error:
        retryable = error.error_class in ("retry", "throttle", "unknown")
        raise MediaError(f"{error.code} {error.detail}".strip(), retryable=retryable) from None


def _older(attachment: Attachment, api: XApi) -> AsyncIterator[bytes]:
    """The older way: the address that came with the message, signed with OAuth 1.0a. Raises `MediaError`."""
    if not attachment.url:
        raise MediaError("files of direct messages need the setting oauth2", retryable=False)
    signed = api.authorization("GET", attachment.url)
    return api.http.download(attachment.url, authorization=signed, media_hosts=LEGACY_HOSTS)


async def _direct(ids: str, api: XApi, tokens: AccessTokens) -> AsyncIterator[bytes]:
    """A token X refuses is renewed once."""
    url = f"{api.base}/2/dm_conversations/media/{quote(ids, safe='/')}"
    token, begun = await tokens.current(), False
    for last in (False, True):
        try:
            async for chunk in api.http.download(url, bearer=token):
                begun = True
                yield chunk
            return
        except MediaError as error:
            if last or begun or error.reason != "status 401":
                raise
        token = await tokens.current(refused=token)


async def _address(ids: str, api: XApi) -> str:
    """Where a post's file lies: the event told its key only."""
    post, _, key = ids.partition(":")
    query = {"expansions": "attachments.media_keys", "media.fields": "url,preview_image_url,variants,type"}
    answer = await api.ask("GET", f"/2/tweets/{quote(post, safe='')}", query)
    found = [media for _, media in items(mapping(answer, "includes"), "media") if text(media, "media_key") == key]
    address = best_url(found[0]) or text(found[0], "preview_image_url") if found else ""
    if not address:
        raise MediaError("the post has no such file any more", retryable=False)
    return address
