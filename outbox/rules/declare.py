"""What is told of a rule beside what it does: its verdicts, source and settings; whether it can be switched off."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from normalizers.model import OutboundMessage
from outbox.facts import Facts
from outbox.verdict import Change, Decision, Verdict

Word = TypeVar("Word", bound=Verdict | Change, covariant=True)
BUILT_IN = "built in"
Check = Callable[[OutboundMessage, Facts], Verdict | Change]


@dataclass(frozen=True, slots=True)
class Spec:
    """A rule as its operator sees it.

    `kept` is a sentence: why it cannot be switched off; "": it can. `settings` is a frozen dataclass whose fields all
    have defaults: the rule's data, which `Policy.of` gives it. `elsewhere`: what it refuses may pass on another channel
    or as a template, so that a fallback chain goes on.
    """

    name: str
    what: str
    may: tuple[Decision, ...]
    source: str = ""
    kept: str = ""
    settings: type[Any] | None = None
    elsewhere: bool = False
    origin: str = BUILT_IN

    @property
    def grounds(self) -> str:
        """What its verdicts rest on, as whoever gets one is told."""
        own = "the gateway's own rule" if self.origin == BUILT_IN else f"a rule of {self.origin}"
        return self.source or (f"{own}: {self.kept}" if self.kept else own)


@dataclass(frozen=True, slots=True)
class Declared(Generic[Word]):
    """A rule with its declaration; called like the function it was made of."""

    spec: Spec
    check: Callable[[OutboundMessage, Facts], Word]

    def __call__(self, message: OutboundMessage, facts: Facts) -> Word:
        return self.check(message, facts)


def rule(
    *may: Decision, source: str = "", kept: str = "", settings: type[Any] | None = None, elsewhere: bool = False
) -> Callable[[Callable[[OutboundMessage, Facts], Word]], Declared[Word]]:
    """Declares a rule. Its name is the function's, what it says of itself the first line of its docstring."""

    def declare(check: Callable[[OutboundMessage, Facts], Word]) -> Declared[Word]:
        name = getattr(check, "__name__", type(check).__name__)
        return Declared(Spec(name, _first_line(check), may, source, kept, settings, elsewhere), check)

    return declare


def spec_of(check: Check) -> Spec:
    """The declaration of a rule. One that declares nothing is never switched off."""
    if isinstance(check, Declared):
        return check.spec
    name = getattr(check, "__name__", type(check).__name__)
    return Spec(name, _first_line(check), ("change", "defer", "deny"), kept="the rule does not declare that it may be")


def installed(check: Check, name: str, package: str) -> Declared[Verdict | Change]:
    """A rule that an installed package brings under `name`: what it does not declare may be switched off."""
    if isinstance(check, Declared):
        return replace(check, spec=replace(check.spec, name=name, origin=package))
    return Declared(replace(spec_of(check), name=name, kept="", origin=package), check)


def _first_line(check: Check) -> str:
    lines = (inspect.getdoc(check) or "").splitlines()
    return lines[0] if lines else ""
