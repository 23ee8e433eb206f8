"""What the operator says about what leaves: the data of rules, rules switched off, ways out for what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class FallbackStep:
    """One step of a chain: a template in place of the text, or another channel of the same contact."""

    channel: str = ""
    account: str = ""  # of that channel; "": the one the contact was last heard on, else the first
    template: str = ""
    language: str = ""
    parameters: tuple[str, ...] = ()  # "{text}" stands for what was written, "{name}" for the contact's name

    def __post_init__(self) -> None:
        if bool(self.channel) == bool(self.template):
            raise ValueError('exactly one of "channel" and "template" must be given')
        if self.account and not self.channel:
            raise ValueError('account: needs "channel"')
        if (self.parameters or self.language) and not self.template:
            raise ValueError('parameters: need "template"')


@dataclass(frozen=True, slots=True)
class FallbackSettings:
    """One `[[fallback]]` block. Empty `account` and `channel`: every one."""

    steps: tuple[FallbackStep, ...]
    account: str = ""
    channel: str = ""

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("steps: is empty")


@dataclass(frozen=True, slots=True)
class RuleTables:
    """What the operator says about the rules, as written: `gateway.policies` holds it against the rules there are.

    Each table maps a rule's name to its settings; `off` and `on` list names.
    """

    everywhere: Mapping[str, Any] = field(default_factory=dict)  # [rules]
    channels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # [channels.NAME] rules
