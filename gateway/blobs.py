"""Files on disk under random names: media of customers, uploads of agents.

A file is first written beside its place, synced, and then moved, so that what the database names is always whole.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path


class TooLarge(Exception):
    """The file is larger than allowed."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that was written: `path` is relative to the store."""

    path: str
    size: int  # bytes
    sha256: str  # hex
    head: bytes  # the first bytes, by which its type is told


class Blobs:
    """The blob store in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def locate(self, path: str) -> Path:
        """The absolute path of a stored file. Raises `ValueError` for a path that leads out of the store."""
        target = (self._directory / path).resolve()
        if not path or not target.is_relative_to(self._directory.resolve()):
            raise ValueError("not a stored file")
        return target

    async def write(self, chunks: AsyncIterator[bytes], max_bytes: int) -> Stored:
        """Store a stream. Raises `TooLarge`; what the stream raises comes out as it is. Nothing is left behind."""
        name = secrets.token_hex(16)
        path = f"{name[:2]}/{name}"
        target = self._directory / path
        partial = target.with_suffix(".part")
        await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
        digest, size, head = hashlib.sha256(), 0, b""
        file = await asyncio.to_thread(partial.open, "wb")
        try:
            async for chunk in chunks:
                size += len(chunk)
                if size > max_bytes:
                    raise TooLarge(f"more than {max_bytes} bytes")
                head = (head + chunk)[:4096] if len(head) < 4096 else head
                digest.update(chunk)
                await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(_finish, file.fileno(), file.flush)
            file.close()
            await asyncio.to_thread(os.replace, partial, target)
        except BaseException:
            file.close()
            partial.unlink(missing_ok=True)
            raise
        return Stored(path, size, digest.hexdigest(), head)

    def remove(self, path: str) -> None:
        """Remove a file; one that is gone already is no error."""
        self.locate(path).unlink(missing_ok=True)


def _finish(descriptor: int, flush: object) -> None:
    if callable(flush):
        flush()
    os.fsync(descriptor)
