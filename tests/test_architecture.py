"""The shape of the code: floors, channels apart from each other, files small enough to be read in one go."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from adapters._load import find

ROOT = Path(__file__).parent.parent
FLOORS = {  # each imports itself and what stands to its right
    "gateway": ("outbox", "adapters", "normalizers", "config"),
    "outbox": ("adapters", "normalizers", "config"),
    "adapters": ("normalizers", "config"),
    "normalizers": (),
    "config": (),
}
CHANNELS = {
    floor: sorted(
        path.stem
        for path in (ROOT / floor).glob("*.py")
        if not path.stem.startswith("_") and path.stem not in ("kit", "model", "testing")
    )
    for floor in ("adapters", "normalizers")
}
LINES_MAX = 400
DECLARATIONS = {  # nothing but types and tables, better seen together
    "gateway/store/migrations/versions/0001_first.py",
    "gateway/store/schema.py",
    "gateway/web/types.py",
    "normalizers/model.py",
}
MODULES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    """Dotted names a module imports, wherever it does, with their lines."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _floor(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def test_no_module_imports_upwards() -> None:
    wrong = []
    for path in MODULES:
        floor = _floor(path)
        above = {"tests", *FLOORS} - {floor, *FLOORS[floor]}
        wrong += [
            f"{_name(path)}:{line} imports {name}" for name, line in _imports(path) if name.partition(".")[0] in above
        ]
    assert wrong == []


@pytest.mark.parametrize("floor", CHANNELS)
def test_channels_do_not_know_each_other(floor: str) -> None:
    """An adapter knows its own normaliser, the plumbing, and no other channel."""
    modules = {f"{package}.{name}" for package, names in CHANNELS.items() for name in names}
    wrong = []
    for name in CHANNELS[floor]:
        for imported, line in _imports(ROOT / floor / f"{name}.py"):
            other = next((module for module in modules if f"{imported}.".startswith(f"{module}.")), None)
            if other is not None and other.partition(".")[2] != name:
                wrong.append(f"{floor}/{name}.py:{line} imports {imported}")
    assert wrong == []


def _plain_words(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return [word for element in node.elts for word in _plain_words(element)]
    return []


def _speaks_of_a_channel(node: ast.expr) -> bool:
    """Whether an expression is named as one: `channel`, `ticket["channel"]`, `account.adapter.name`."""
    match node:
        case ast.Attribute(value=inner, attr="name"):
            return _speaks_of_a_channel(inner)
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Subscript(slice=ast.Constant(value=str(name))):
            return name in ("channel", "adapter", "surface", "channel_name", "adapter_name")
        case _:
            return False


def test_nothing_above_the_adapters_asks_which_channel_it_is() -> None:
    names = {name for found in find().values() for name in (found.name, *(channel.name for channel in found.channels))}
    wrong = []
    demo = ROOT / "gateway" / "demo"  # a scenario of its own, in which everybody knows where they write
    for path in (path for path in MODULES if _floor(path) in ("gateway", "outbox") and demo not in path.parents):
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                named = any(_speaks_of_a_channel(side) for side in sides)
                if named and names & {word for side in sides for word in _plain_words(side)}:
                    wrong.append(f"{_name(path)}:{node.lineno}: {ast.unparse(node)}")
            elif isinstance(node, ast.Match) and _speaks_of_a_channel(node.subject):
                wrong.append(f"{_name(path)}:{node.lineno}: match {ast.unparse(node.subject)}")
    assert wrong == []


def test_every_file_is_small_enough_to_read() -> None:
    lengths = {_name(path): len(path.read_text("utf-8").splitlines()) for path in MODULES}
    assert {name: lines for name, lines in lengths.items() if lines > LINES_MAX and name not in DECLARATIONS} == {}


@pytest.mark.parametrize("name", sorted(DECLARATIONS))
def test_files_excused_for_their_length_only_declare(name: str) -> None:
    tree = _tree(ROOT / name)
    branches = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.While | ast.If | ast.Match)]
    assert branches == []


@pytest.mark.parametrize("floor", [*FLOORS, "tests"])
def test_every_top_level_folder_says_what_it_is(floor: str) -> None:
    assert (ROOT / floor / "README.md").read_text("utf-8").strip()


def test_every_module_says_what_it_is() -> None:
    assert [_name(path) for path in MODULES if _tree(path).body and not ast.get_docstring(_tree(path))] == []
