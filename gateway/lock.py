"""One gateway per data directory: the embedded store has one writer."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType


class Locked(Exception):
    """Another gateway is running on this data directory."""


def make_data_dir(path: Path) -> None:
    """Make the folder for nobody else: it holds what customers wrote. One that is there keeps its mode."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


class DataLock:
    """Holds the data directory while the process lives; the system frees it even after a kill."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "gateway.lock"
        self._descriptor = -1

    def acquire(self) -> None:
        """Raises `Locked` when somebody else holds it."""
        make_data_dir(self._path.parent)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise Locked(f"another gateway is running in {self._path.parent}") from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> DataLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
