"""Files that are too large to travel with a message, as addresses in its text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from msgspec.structs import replace

from normalizers.model import OutboundFile, OutboundMessage


def too_large(files: Sequence[OutboundFile], budget: int) -> tuple[OutboundFile, ...]:
    """Which files must go as links so that the rest is at most `budget` bytes together: the largest first.

    Only files that have an address can, and one that lies elsewhere always does; an image the HTML shows stays.
    """
    chosen = [file for file in files if file.url and not file.open_path]
    total = sum(file.size for file in files if file not in chosen)
    for file in sorted(files, key=lambda file: -file.size):
        if total <= budget:
            break
        if file.url and not file.inline_id and file not in chosen:
            chosen.append(file)
            total -= file.size
    return tuple(file for file in files if file in chosen)


def with_links(message: OutboundMessage, linked: Sequence[OutboundFile]) -> OutboundMessage:
    """The message without these files; its text and HTML end with a line for each: name, size, address."""
    if not linked:
        return message
    text = "\n".join(f"{file.filename}{_size(file.size)}:\n{file.url}" for file in linked)
    lines = "<br>\n".join(
        f'<a href="{escape(file.url)}">{escape(file.filename)}</a>{_size(file.size)}' for file in linked
    )
    return replace(
        message,
        text=f"{message.text.rstrip()}\n\n{text}\n".lstrip("\n"),
        html=_at_the_end(message.html, f"<p>{lines}</p>") if message.html else "",
        file=None if message.file in linked else message.file,
        files=tuple(file for file in message.files if file not in linked),
    )


def _at_the_end(html: str, more: str) -> str:
    """Within the body, where the HTML is a whole document."""
    end = html.lower().rfind("</body>")
    return f"{html[:end]}{more}\n{html[end:]}" if end >= 0 else f"{html}\n{more}"


def _size(size: int) -> str:
    """The size in brackets, "" where nobody knows it."""
    if not size:
        return ""
    return f" ({size / 2**20:.1f} MiB)" if size >= 2**20 else f" ({size / 2**10:.1f} KiB)"
