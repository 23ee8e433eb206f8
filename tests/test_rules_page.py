"""docs/rules.md and the README say of the rules what the code says. Run as a script it prints the rows."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from outbox.rules import RULES, specs
from outbox.rules.settings import HOURS

ROOT = Path(__file__).resolve().parents[1]


def rows(page: str, first: str) -> list[list[str]]:
    """The table of a page whose first header cell is `first`."""
    lines = (ROOT / page).read_text("utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return found


def told() -> list[list[str]]:
    """A row for each rule."""
    return [
        [
            f"`{spec.name}`",
            ", ".join(spec.may),
            spec.what,
            spec.source,
            f"no: {spec.kept}" if spec.kept else "yes",
            "yes" if spec.elsewhere else "no",
        ]
        for spec in specs(RULES)
    ]


def settings() -> list[list[str]]:
    """A row for each setting of each rule, without its meaning."""
    found = []
    for spec in specs(RULES):
        for entry in fields(spec.settings) if spec.settings is not None else ():
            value = getattr(spec.settings(), entry.name)  # type: ignore[misc]
            shown = (
                "unset" if value is None else str(value).lower() if isinstance(value, bool)
                else f'"{value}"' if isinstance(value, str) else "[]" if value == () else str(value)
            )  # fmt: skip
            found.append([f"`{spec.name}`", f"`{entry.name}`", f"`{shown}`"])
    return found


def test_every_rule_has_its_row() -> None:
    assert rows("docs/rules.md", "rule") == told()


def test_every_setting_has_its_row() -> None:
    found = rows("README.md", "of rule")
    assert [row[:3] for row in found] == settings()
    assert all(row[3] for row in found)


def test_the_hours_of_each_region_have_their_row() -> None:
    assert rows("docs/rules.md", "region") == [[f"`{region}`", hours, why] for region, (hours, why) in HOURS.items()]


def test_the_example_names_every_setting() -> None:
    example = (ROOT / "config" / "gateway.example.toml").read_text("utf-8")
    for spec in specs(RULES):
        for entry in fields(spec.settings) if spec.settings is not None else ():
            assert entry.name in example, f"{spec.name}.{entry.name}"


if __name__ == "__main__":
    for table in (told(), settings()):
        for row in table:
            print("|", " | ".join(row), "|")
