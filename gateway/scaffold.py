"""`gateway adapters new NAME`: a package with an adapter of one's own, made from the example that the tests install.

The example is the template: `examples/pigeon` in a checkout, the same files inside an installed gateway.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable
from pathlib import Path

_WORD = "pigeon"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
_DASHED = re.compile(rf"(?<=[-.]){_WORD}|(?<![_a-z]){_WORD}(?=[-.][a-z])")
_DASHED_TITLE = re.compile(rf"(?<=-){_WORD.capitalize()}(?=-)")
_LEFT_OUT = frozenset({"__pycache__", ".pytest_cache"})


class ScaffoldError(Exception):
    """Why no package was written, in a sentence."""


def template() -> Path:
    """The folder of the example."""
    packed = Path(__file__).with_name("examples") / _WORD
    return packed if packed.is_dir() else Path(__file__).parents[1] / "examples" / _WORD


def new_adapter(name: str, directory: Path, taken: Iterable[str] = ()) -> list[Path]:
    """Write the package and return its files. Raises `ScaffoldError`; then nothing was written.

    `name` is what `[[accounts]] adapter` will say: lower case, it becomes a module's and a channel's name. `taken` are
    the names of adapters and channels there are.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ScaffoldError(f"{name!r} is no name for an adapter: lower-case letters, digits and _, a letter first")
    if name in taken:
        raise ScaffoldError(f"an adapter or a channel {name!r} is there already")
    if directory.exists() and any(directory.iterdir()):
        raise ScaffoldError(f"{directory} is not empty")
    written: list[Path] = []
    for source in sorted(template().iterdir()):
        if source.is_file() and source.name not in _LEFT_OUT:
            target = directory / _renamed(source.name, name)
            directory.mkdir(parents=True, exist_ok=True)
            target.write_text(_renamed(source.read_text("utf-8"), name), "utf-8")
            written.append(target)
    return written


def _renamed(text: str, name: str) -> str:
    """The text with the example's name replaced: in hosts, headers and package names by one with dashes."""
    dashed, title = name.replace("_", "-"), "".join(part.capitalize() for part in name.split("_"))
    text = _DASHED.sub(dashed, text).replace(_WORD, name)
    return _DASHED_TITLE.sub("-".join(map(str.capitalize, dashed.split("-"))), text).replace(_WORD.capitalize(), title)
