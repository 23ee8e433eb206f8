"""What fills the places of a template, as agents write it: read alike for every channel. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from adapters._interactive import ContentRefused

PARAMETERS: Final = "template.parameters"


def unfit(problem: str) -> ContentRefused:
    """For parameters the platform would not take like this."""
    return ContentRefused(problem, PARAMETERS, "template")


def words_of(value: Any) -> str:
    """A text for a place; a number is one. Raises `ContentRefused`."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise unfit("a parameter is a text, or an object with its type")
    return str(value)


def ready_components(given: Any) -> list[dict[str, Any]]:
    """Components as the platform words them. Raises `ContentRefused`."""
    if not isinstance(given, list | tuple) or not all(isinstance(one, Mapping) and "type" in one for one in given):
        raise unfit("components is a list of objects, each with its type")
    return [dict(one) for one in given]
