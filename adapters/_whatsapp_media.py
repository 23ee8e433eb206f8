"""Files of WhatsApp: uploaded once and sent by id, and fetched in two steps.

Source: Meta, WhatsApp Cloud API, Media, 2026-05: ids of uploads live 30 days, those in webhooks 7, addresses 5 minutes.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Final

from msgspec.structs import replace

from adapters import _meta
from adapters._errors import MediaError, SendError
from adapters._http import Http
from adapters._meta_graph import Graph
from adapters._whatsapp_body import KINDS
from adapters._whatsapp_facts import ERRORS
from config.secret import Secret
from normalizers._fields import text
from normalizers._whatsapp_content import sha256_hex
from normalizers.model import Attachment, OutboundFile

_KEPT_S: Final = 29 * 86_400.0  # one day less than the platform keeps an upload
_KEPT_MAX = 5_000  # ids remembered
_STALE: Final = frozenset({"100", "131009", "131053"})  # how a send by an id that is gone is refused
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,200}")


class Uploads:
    """Files on our disk as the platform knows them. One that goes out again (another try, another part) is not
    uploaded again while its id lives: a file stored by us never changes."""

    def __init__(self, graph: Graph, phone_number_id: str) -> None:
        self._graph, self._path = graph, f"{phone_number_id}/media"
        self._ids: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

    async def id_of(self, file: OutboundFile) -> tuple[str, bool]:
        """The file's id, and whether it was known. Raises `SendError`; no message has left then."""
        key = (file.open_path, file.media_type)
        known = self._ids.get(key)
        if known is not None and time.monotonic() < known[1]:
            return known[0], True
        fields = {"messaging_product": "whatsapp", "type": file.media_type}
        named = file if file.filename else replace(file, filename=KINDS[file.kind])
        found = await self._graph.upload(self._path, named, "file", fields, ERRORS, "id")
        self._ids[key] = found, time.monotonic() + _KEPT_S
        while len(self._ids) > _KEPT_MAX:
            self._ids.popitem(last=False)
        return found, False

    def refused(self, file: OutboundFile, error: SendError) -> SendError:
        """The error of a send by a known id. When the id may be gone, a later try uploads the file afresh."""
        if not error.certain or error.code not in _STALE:
            return error
        self._ids.pop((file.open_path, file.media_type), None)
        return SendError("retry", error.code, error.detail, request_id=error.request_id)


async def fetch(graph: Graph, http: Http, token: Secret, attachment: Attachment) -> AsyncIterator[bytes]:
    """The file in chunks: its address first, valid for five minutes, then the file itself, both with our token.

    An address that does not work is asked for afresh once. Raises `MediaError`, also when the hash does not fit.
    """
    for fresh_left in (1, 0):
        address, sha256 = await _address(graph, attachment.ref)
        chunks = http.download(address, bearer=token.reveal(), media_hosts=_meta.MEDIA_HOSTS)
        begun = False
        try:
            async for chunk in _checked(chunks, attachment.sha256 or sha256):
                begun = True
                yield chunk
            return
        except MediaError:
            if begun or not fresh_left:
                raise


async def _address(graph: Graph, ref: str) -> tuple[str, str]:
    if not _ID.fullmatch(ref):
        raise MediaError("the file has no id", retryable=False)
    try:
        found = await graph.get(ref, ERRORS)
    except SendError as error:
        gone = error.error_class in ("permanent", "bad-recipient")
        raise MediaError(f"{error.code} {error.detail}".strip(), retryable=not gone) from None
    address = text(found, "url")
    if not address:
        raise MediaError("the platform told no address", retryable=True)
    return address, sha256_hex(text(found, "sha256"))


async def _checked(chunks: AsyncIterator[bytes], sha256: str) -> AsyncIterator[bytes]:
    """The chunks as they come. Raises `MediaError` at the end when `sha256` (hex) is given and differs."""
    seen = hashlib.sha256()
    async for chunk in chunks:
        seen.update(chunk)
        yield chunk
    if sha256 and seen.hexdigest() != sha256:
        raise MediaError("the file's hash does not fit", retryable=True)
