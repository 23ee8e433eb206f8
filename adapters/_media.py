"""The guarded client for files from the outside: the one place where an address somebody else chose is fetched."""

from __future__ import annotations

from collections.abc import AsyncIterator


class MediaClient:
    """Placeholder until the guard is written."""

    def download(
        self,
        url: str,
        *,
        authorization: str = "",
        own_hosts: frozenset[tuple[str, str, int | None]] = frozenset(),
        media_hosts: frozenset[str] = frozenset(),
    ) -> AsyncIterator[bytes]:
        raise RuntimeError(url)
