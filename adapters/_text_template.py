"""Templates an operator writes: text with places, `if`, a few filters, and nothing that could run for long.

Jinja2's sandbox keeps a template away from Python's insides, but neither from a loop without end nor from a text of a
billion characters. So of its language only what stands in `_NODES`, `_FILTERS` and `_TESTS` is taken: without loops,
calls and arithmetic the cost of a template is its length times that of its fields, and both have limits.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from jinja2 import ChainableUndefined, TemplateSyntaxError, nodes
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup

SOURCE_MAX = 256 * 1024  # characters
OUTPUT_MAX = 4 * 2**20  # characters
TIME_MAX_S = 2.0

Places = Mapping[str, frozenset[str]]
"""What a template may name: a place, and the fields it has; without fields it is a text itself."""
Values = Mapping[str, "str | Markup | Mapping[str, str]"]

_NODES: tuple[type[nodes.Node], ...] = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Getattr, nodes.Const, nodes.Filter, nodes.If,
    nodes.CondExpr, nodes.Test, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Concat,
)  # fmt: skip
_FILTERS = frozenset({"default", "d", "upper", "lower", "title", "capitalize", "trim", "truncate", "escape", "e"})
_TESTS = frozenset({"defined", "undefined", "none", "eq", "equalto", "ne"})


class TemplateFault(ValueError):
    """What is wrong with a template, and where: "line 3: unknown place {{ contnet }}"."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line, self.problem = line, problem


class OutputTooLong(Exception):
    """A template made more, or took longer, than anybody can mean."""


class TextTemplate:
    """A checked template. `html`: everything that fills a place is escaped, unless it is `Markup`."""

    def __init__(self, source: str, places: Places, *, html: bool = False) -> None:
        """Raises `TemplateFault`."""
        if len(source) > SOURCE_MAX:
            raise TemplateFault(1, f"longer than {SOURCE_MAX // 1024} KiB")
        environment = _environment(html)
        try:
            tree = environment.parse(source)
            self.names = _checked(tree, places)
            self._template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise TemplateFault(error.lineno, error.message or "not a template") from None
        except RecursionError:
            raise TemplateFault(1, "nested too deeply") from None

    def render(self, values: Values) -> str:
        """The text. What has no value is empty. Raises `OutputTooLong`."""
        pieces: list[str] = []
        length, until = 0, time.monotonic() + TIME_MAX_S
        for piece in self._template.generate(dict(values)):
            pieces.append(piece)
            length += len(piece)
            if length > OUTPUT_MAX or time.monotonic() > until:
                raise OutputTooLong
        return "".join(pieces)


def _environment(html: bool) -> SandboxedEnvironment:
    environment = SandboxedEnvironment(
        autoescape=html, undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False
    )
    environment.globals.clear()
    return environment


def _checked(tree: nodes.Template, places: Places) -> frozenset[str]:
    """The places the template names. Raises `TemplateFault` for what it must not do."""
    found: set[str] = set()
    fields: set[int] = set()
    for node in [tree, *tree.find_all(nodes.Node)]:
        match node:
            case nodes.Getattr(node=nodes.Name() as owner):
                fields.add(id(owner))
                if node.attr not in places.get(owner.name, ()):
                    raise TemplateFault(
                        node.lineno, f"unknown place {{{{ {owner.name}.{node.attr} }}}}{_known(places)}"
                    )
            case nodes.Name():
                found.add(node.name)
                if node.name not in places or (places[node.name] and id(node) not in fields):
                    raise TemplateFault(node.lineno, f"unknown place {{{{ {node.name} }}}}{_known(places)}")
            case nodes.Getattr():
                raise TemplateFault(node.lineno, f"a field of a field: .{node.attr}")
            case nodes.Filter() if node.name not in _FILTERS:
                raise TemplateFault(node.lineno, f"the filter {node.name!r} is not for templates here")
            case nodes.Test() if node.name not in _TESTS:
                raise TemplateFault(node.lineno, f"the test {node.name!r} is not for templates here")
            case _ if not isinstance(node, _NODES):
                raise TemplateFault(_line(node), f"{_word(node)} is not for templates here")
            case _:
                pass
    return frozenset(found)


def _line(node: nodes.Node) -> int:
    return getattr(node, "lineno", None) or 1


def _word(node: nodes.Node) -> str:
    return {"For": "{% for %}", "Call": "a call", "Assign": "{% set %}", "Macro": "{% macro %}"}.get(
        type(node).__name__, type(node).__name__
    )


def _known(places: Places) -> str:
    names = [f"{name}.{field}" if field else name for name, fields in places.items() for field in fields or ("",)]
    return f"; known are {', '.join(sorted(names))}"
