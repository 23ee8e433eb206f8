"""What a message offers to choose from, read with the platform's limits: buttons, links, cards. Pure.

Agents write it alike for every channel (`Interactive.values`); each channel's body says what it makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import regex

from adapters._errors import SendError

VALUES = "content.values"


class ContentRefused(SendError):
    """The platform would refuse the content. `field` says where it stands in the message, `problem` what is wrong."""

    def __init__(self, problem: str, field: str = VALUES, code: str = "interactive") -> None:
        super().__init__("permanent", code, f"{field}: {problem}")
        self.field, self.problem = field, problem


@dataclass(frozen=True, slots=True)
class Choice:
    """A button or row: pressed, it opens `url`, or `id` comes back."""

    title: str
    id: str
    url: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class ChoiceLimits:
    """Sizes of a choice. `size` measures titles."""

    title: int
    id: int
    url: int = 0  # 0: it opens no address
    description: int = 0
    size: Callable[[str], int] = len
    https: bool = False  # addresses must be https


@dataclass(frozen=True, slots=True)
class Card:
    """One of several side by side."""

    title: str
    text: str
    image: str
    actions: tuple[Choice, ...]


def graphemes(words: str) -> int:
    """Characters as a reader counts them."""
    return len(regex.findall(r"\X", words))


def kind_of(values: Mapping[str, Any], known: Collection[str]) -> str:
    """The first of the known keys that the values hold. Raises `ContentRefused`."""
    for key in known:
        if key in values:
            return key
    raise ContentRefused(f"needs one of {', '.join(known)}")


def listed(values: Mapping[str, Any], name: str, most: int, least: int = 1, place: str = VALUES) -> list[Any]:
    """So many entries under a name; one alone may stand without a list. Raises `ContentRefused`."""
    given = values.get(name, ())
    found = list(given) if isinstance(given, list | tuple) else [given]
    if not least <= len(found) <= most:
        wanted = f"{least} to {most}" if least < most else f"{most}"
        raise ContentRefused(f"takes {wanted} entries, not {len(found)}", f"{place}.{name}")
    return found


def short(value: Any, most: int, field: str, *, size: Callable[[str], int] = len, needed: bool = False) -> str:
    """A text no longer than the platform takes. Raises `ContentRefused`."""
    words = "" if value is None else str(value)
    if needed and not words.strip():
        raise ContentRefused("is missing", field)
    if size(words) > most:
        raise ContentRefused(f"has {size(words)} characters; at most {most}", field)
    return words


def address(value: Any, most: int, field: str, *, https: bool = False) -> str:
    """An address people or the platform may open. Raises `ContentRefused`."""
    url = short(value, most, field, needed=True)
    if not url.startswith(("https://",) if https else ("https://", "http://")):
        raise ContentRefused(f"is no {'https' if https else 'http or https'} address", field)
    return url


def choice(entry: Any, limits: ChoiceLimits, field: str) -> Choice:
    """A title alone, or an object with title, id or url, and description. Raises `ContentRefused`."""
    given: Mapping[str, Any] = entry if isinstance(entry, Mapping) else {"title": entry}
    title = short(given.get("title"), limits.title, f"{field}.title", size=limits.size, needed=True)
    if "url" in given:
        if not limits.url:
            raise ContentRefused("opens no address here", f"{field}.url")
        return Choice(title, "", address(given["url"], limits.url, f"{field}.url", https=limits.https))
    description = ""
    if given.get("description"):
        if not limits.description:
            raise ContentRefused("is not shown here", f"{field}.description")
        description = short(given["description"], limits.description, f"{field}.description")
    return Choice(title, short(given.get("id") or title, limits.id, f"{field}.id"), "", description)


def choices(
    values: Mapping[str, Any], name: str, limits: ChoiceLimits, most: int, least: int = 1, place: str = VALUES
) -> tuple[Choice, ...]:
    """All the choices under a name. Raises `ContentRefused`."""
    found = listed(values, name, most, least, place)
    return tuple(choice(entry, limits, f"{place}.{name}[{index}]") for index, entry in enumerate(found))


def cards(
    values: Mapping[str, Any], limits: ChoiceLimits, *, most: int, title_max: int, text_max: int, actions_max: int,
    actions_min: int, image_max: int, image_https: bool,
) -> tuple[Card, ...]:  # fmt: skip
    """`cards`: objects with title, text, image and actions. Raises `ContentRefused`."""
    found: list[Card] = []
    for index, entry in enumerate(listed(values, "cards", most)):
        place = f"{VALUES}.cards[{index}]"
        if not isinstance(entry, Mapping):
            raise ContentRefused("is an object with title, text, image and actions", place)
        image = address(entry["image"], image_max, f"{place}.image", https=image_https) if entry.get("image") else ""
        offered = choices(entry, "actions", limits, actions_max, actions_min, place) if (
            actions_min or entry.get("actions")
        ) else ()  # fmt: skip
        found.append(
            Card(
                short(entry.get("title"), title_max, f"{place}.title", size=limits.size),
                short(entry.get("text"), text_max, f"{place}.text", size=limits.size),
                image,
                offered,
            )
        )
    return tuple(found)


def needs_text(words: str, most: int | None = None, *, size: Callable[[str], int] = len) -> str:
    """The text the choices stand below. Raises `ContentRefused`."""
    if not words.strip():
        raise ContentRefused("is missing: choices stand below a text", "text")
    return words if most is None else short(words, most, "text", size=size)


def refuse_text(words: str, what: str) -> None:
    """Raises `ContentRefused` for a text beside what takes none."""
    if words.strip():
        raise ContentRefused(f"{what} goes without a text", "text")


def no_such(content: object) -> ContentRefused:
    """For a kind the channel cannot send."""
    return ContentRefused(f"{type(content).__name__} cannot be sent", "content", "content")
