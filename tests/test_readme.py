"""The README says what the code says: its tables are held against the adapters and the settings types."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters._load import find
from config import people
from config import settings as configuration
from config.secret import Secret
from gateway.cli import table_row
from gateway.web.api import ROUTES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
EXAMPLE = (ROOT / "config" / "gateway.example.toml").read_text("utf-8")
BUILT_IN = {name: entry for name, entry in find().items() if entry.origin == "built in"}
SECTIONS = {
    "gateway": configuration.GatewaySettings,
    "smtp": configuration.SmtpSettings,
    "media": configuration.MediaSettings,
    "limits": configuration.LimitSettings,
    "retention": configuration.RetentionSettings,
    "tickets": configuration.TicketSettings,
    "vip": people.VipSettings,
}


def table(first: str) -> list[tuple[str, ...]]:
    """The rows of the README's table whose first header cell is `first`."""
    found = re.search(rf"^\| {re.escape(first)} \|.*\n\|[ |-]+\n((?:\|.*\n)+)", README, re.M)
    assert found, f"no table begins with {first!r}"
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in found[1].splitlines()]


def toml(value: Any) -> str:
    """A default as an operator would write it."""
    if value is None:
        return "unset"
    if isinstance(value, Secret):
        value = value.reveal()
    if isinstance(value, bool):
        return str(value).lower()
    return '"' + value + '"' if isinstance(value, str) else _list(value) if isinstance(value, tuple) else str(value)


def _list(values: tuple[Any, ...]) -> str:
    return "[" + ", ".join(map(toml, values)) + "]"


def keys(kind: type[Any]) -> Iterator[tuple[str, str]]:
    """(key, default) of every setting."""
    for field in dataclasses.fields(kind):
        if field.default is not dataclasses.MISSING:
            yield field.name, toml(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            yield field.name, toml(field.default_factory())
        else:
            yield field.name, "required"


def test_the_channels_table_is_what_the_command_prints() -> None:
    rows = [table_row(entry, channel) for entry in BUILT_IN.values() for channel in entry.channels]
    assert table("adapter") == rows


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_stands_in_its_table(section: str) -> None:
    rows = [(key.strip("`"), default.strip("`")) for key, default, _ in table(f"`[{section}]`")]
    assert rows == list(keys(SECTIONS[section]))


def test_every_setting_of_every_adapter_stands_in_its_table() -> None:
    rows = [(name.strip("`"), key.strip("`"), default.strip("`")) for name, key, default, _ in table("of adapter")]
    expected = [
        (name, *pair) for name, entry in BUILT_IN.items() if name != "api" for pair in keys(entry.adapter.settings_type)
    ]
    assert rows == expected


def test_every_setting_of_a_crm_stands_in_its_table() -> None:
    rows = [(key.strip("`"), default.strip("`")) for key, default, _ in table("`[[crm]]`")]
    assert rows == list(keys(people.CrmSettings))
    missing = [key for key, _ in rows if not re.search(rf"^#? ?{key}\s*=", EXAMPLE, re.M)]
    assert missing == []


def test_every_call_stands_in_its_table() -> None:
    rows = {tuple(re.findall(r"`([A-Z]+) ([^`?]+)", call)) for call, *_ in table("call")}
    found = {pair for pairs in rows for pair in pairs}
    expected = {(route.method, route.path) for route in ROUTES} | {("GET", "/api/v1/events")}
    assert found == expected


@pytest.mark.parametrize("section", SECTIONS)
def test_the_example_names_every_setting(section: str) -> None:
    missing = [key for key, _ in keys(SECTIONS[section]) if not re.search(rf"^#? ?{key}\s*=", EXAMPLE, re.M)]
    assert missing == []


def test_every_link_leads_somewhere() -> None:
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_every_dependency_has_its_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = [re.match(r"[\w.-]+", entry) for entry in project["dependencies"]]
    page = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    assert re.findall(r"^\| `([\w.-]+)` \|", page, re.M) == [found[0] for found in declared if found]


if __name__ == "__main__":  # the rows as they should be, to be copied after a channel was added
    for entry in BUILT_IN.values():
        for channel in entry.channels:
            print("|", " | ".join(table_row(entry, channel)), "|")
    told = {(name, key): meaning for name, key, _, meaning in table("of adapter")}
    for name, entry in BUILT_IN.items():
        for key, default in keys(entry.adapter.settings_type) if name != "api" else ():
            print(f"| `{name}` | `{key}` | `{default}` | {told.get((f'`{name}`', f'`{key}`'), '')} |")
