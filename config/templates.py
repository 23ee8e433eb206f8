"""The operator's own catalogue of templates, `[[accounts.templates]]`: every entry checked, by its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from config.people import Reader
from config.values import number_problem

STATES = ("approved", "pending", "rejected", "paused", "disabled")
CATEGORIES = ("marketing", "utility", "authentication")
_WIDTHS = {"name": 512, "language": 16, "sid": 64}
_PARAMETERS_MAX = 1000


@dataclass(frozen=True, slots=True)
class TemplateSettings:
    """One entry. `status` and `category` in whatever case; what the platform tells of a template goes before them."""

    name: str
    language: str = ""  # as the platform names it; empty: whatever a message asks for
    parameters: Any = None  # of the body: how many, or a list of their names; None: they are not counted
    status: str = "approved"
    category: str = ""
    sid: str = ""  # the platform's own id of it, where templates are sent by that

    def __post_init__(self) -> None:
        lines = [f"{name}: {problem}" for name, problem in self._problems().items() if problem]
        if lines:
            raise ValueError("\n".join(lines))

    def _problems(self) -> dict[str, str]:
        found = {
            name: f"at most {most} characters" for name, most in _WIDTHS.items() if len(getattr(self, name)) > most
        }
        if not self.name.strip():
            found["name"] = "is empty"
        found["parameters"] = _parameters_problem(self.parameters)
        if self.status.lower() not in STATES:
            found["status"] = f"must be one of {', '.join(STATES)}"
        if self.category.lower() not in ("", *CATEGORIES):
            found["category"] = f"must be one of {', '.join(CATEGORIES)}"
        return found


def _parameters_problem(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return number_problem(value, 0, _PARAMETERS_MAX)
    if value is None or (isinstance(value, list) and all(isinstance(entry, str) for entry in value)):
        return ""
    return "must be a whole number, or a list of texts"


def read_templates(reader: Reader, blocks: Any, where: str) -> tuple[Mapping[str, Any], ...]:
    """The entries as they were written, those that can be used."""
    found: list[Mapping[str, Any]] = []
    taken: dict[tuple[str, str], str] = {}
    for index, block in enumerate(reader.blocks(blocks, where)):
        place = f"{where}[{index}]"
        built = reader.build(TemplateSettings, block, place)
        if built is None:
            continue
        if (first := taken.setdefault((built.name, built.language), place)) != place:
            spoken = f" in {built.language!r}" if built.language else ""
            reader.fault(f"{place}.name", f"{built.name!r}{spoken} is there already: {first}")
        found.append({key: value for key, value in asdict(built).items() if key in block and value != ""})
    return tuple(found)
