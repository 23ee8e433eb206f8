"""From what TOML holds to typed, frozen values; what does not fit becomes a fault with its place."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union

from config.secret import Secret


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the configuration: where, and what."""

    key: str
    problem: str

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}" if self.key else self.problem


class ConfigError(Exception):
    """The configuration cannot be used. `faults` has every fault found, in the file's order."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


TEN_YEARS_S = 3650 * 86_400.0
MANY = 10**9  # more than anybody means; what is counted in it still fits everywhere
TERABYTE = 2**40


def number_problem(value: float | None, least: float, most: float) -> str:
    """What is wrong with a number that must be finite and between two others; "": nothing, or it is not set."""
    if value is None or least <= value <= most:
        return ""
    if value != value or value in (math.inf, -math.inf):
        return "must be a finite number"
    return f"must be at least {_plain(least)}" if value < least else f"must be at most {_plain(most)}"


def check_numbers(settings: object, **bounds: tuple[float, float]) -> None:
    """Raises `ValueError`, a line of "key: problem" for each setting beyond its (least, most)."""
    found = {name: number_problem(getattr(settings, name), *between) for name, between in bounds.items()}
    if lines := [f"{name}: {problem}" for name, problem in found.items() if problem]:
        raise ValueError("\n".join(lines))


_CREDENTIALS = {  # what stands before the host, as the libraries that connect read it
    "postgresql": re.compile("[^:/]*(:[^@]*)?@"),
    "redis": re.compile("[^/?#]*@"),
}
UNESCAPED = "in a user's name or password, which must be percent-encoded: @ / # ? as %40 %2F %23 %3F"


def address_problem(url: str, kind: Literal["postgresql", "redis"]) -> str:
    """What is wrong with an address in which a piece of a password would pass for the host or for what follows it; ""
    when nothing is. No word of the address is in it."""
    rest = url.partition("://")[2]
    if credentials := _CREDENTIALS[kind].match(rest):
        rest = rest[credentials.end() :]
    return f"a character that means something else {UNESCAPED}" if "@" in rest else ""


def unknown(problem: str, name: str, known: Iterable[str], there: str = "known are") -> str:
    """What is said of a name nobody knows: the one that was probably meant, and all there are."""
    names = sorted(known)
    near = "".join(f"did you mean {found}? " for found in difflib.get_close_matches(name, names, 1, 0.7))
    return f"{problem}; {near}{there} {', '.join(names)}"


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


class Values:
    """Builds dataclasses from tables and gathers every fault on the way. Files are sought from `base_dir`."""

    def __init__(self, base_dir: Path, environ: Mapping[str, str]) -> None:
        self.base_dir, self.environ = base_dir, environ
        self.faults: list[Fault] = []

    def fault(self, key: str, problem: str) -> None:
        self.faults.append(Fault(key, problem))

    def build(self, kind: type[Any], table: Any, where: str, beside: Iterable[str] = ()) -> Any:
        """An instance of the dataclass `kind` from a table, or None after a fault. `beside`: keys others read there."""
        if not isinstance(table, dict):
            self.fault(where, "must be a table")
            return None
        hints = typing.get_type_hints(kind)
        fields = {f.name: f for f in dataclasses.fields(kind) if f.init}
        for key in (key for key in table if key not in fields):
            self.fault(f"{where}.{key}", unknown("unknown setting", key, {*fields, *beside}))
        needed = frozenset(kind.needed(table)) if hasattr(kind, "needed") else frozenset[str]()  # by its other settings
        optional = {
            name
            for name, spec in fields.items()
            if spec.default is not dataclasses.MISSING or spec.default_factory is not dataclasses.MISSING
        } - needed
        before = len(self.faults)  # what is unknown does not hide what is wrong with the rest
        values = {
            key: self.build_value(hints[key], value, f"{where}.{key}")
            for key, value in table.items()
            if key in fields and not (value == "" and hints[key] is Secret and key in optional)
        }
        for name in fields:
            if name not in optional and name not in table:
                self.fault(f"{where}.{name}", "missing")
        if len(self.faults) > before:
            return None
        try:
            return kind(**values)
        except (ValueError, OverflowError) as error:  # a dataclass may refuse a combination: lines of "key: problem"
            for line in str(error).splitlines() or [""]:
                key, _, problem = line.partition(": ")
                self.fault(f"{where}.{key}" if problem else where, problem or key)
            return None

    def build_value(self, hint: Any, value: Any, where: str) -> Any:
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (Union, types.UnionType):
            inner = [argument for argument in arguments if argument is not type(None)]
            return self.build_value(inner[0], value, where) if len(inner) == 1 else value
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return self.build(hint, value, where)
        if isinstance(value, str):
            value = self._resolve(value, where)
            if value is None:
                return None
        if hint is Secret:
            return Secret(value) if isinstance(value, str) and value else self._wrong(where, "a text", value)
        if origin is tuple:
            entries = value if isinstance(value, list) else [value] if value != "" else []
            places = [where] * len(entries)
            if isinstance(value, list) and dataclasses.is_dataclass(arguments[0]):
                places = [f"{where}[{index}]" for index in range(len(entries))]
            return tuple(
                self.build_value(arguments[0], entry, place) for entry, place in zip(entries, places, strict=True)
            )
        if origin is Literal:
            if value not in arguments:
                self.fault(where, f"must be one of {', '.join(map(str, arguments))}")
            return value
        if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
            return self._finite(value, where)
        if hint is int and isinstance(value, bool):
            return self._wrong(where, "a whole number", value)
        if hint in (str, int, float, bool):
            words = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
            return value if isinstance(value, hint) else self._wrong(where, words[hint], value)
        return value

    def _finite(self, value: float, where: str) -> float | None:
        try:
            if math.isfinite(found := float(value)):
                return found
        except OverflowError:  # TOML's whole numbers have no end here
            pass
        self._wrong(where, "a finite number", value)
        return None

    def _wrong(self, where: str, wanted: str, value: Any) -> None:
        problem = "is empty" if value == "" else f"must be {wanted}"
        self.fault(where, problem)

    def _resolve(self, value: str, where: str) -> str | None:
        if value.startswith("env:"):
            name = value[4:]
            if name not in self.environ:
                self.fault(where, f"environment variable {name} is not set")
                return None
            return self.environ[name]
        if value.startswith("file:"):
            try:
                return (self.base_dir / value[5:]).read_text("utf-8-sig").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                self.fault(
                    where,
                    f"cannot read {value[5:]}: {error.strerror if isinstance(error, OSError) else 'not UTF-8'}",
                )
                return None
        return value
