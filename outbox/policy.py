"""What the operator says about rules, for one account and channel: what is switched off, and data in other values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from adapters import Channel

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Policy:
    """`off`: names of rules that are not asked. `settings`: by its type, what a rule was given in the configuration."""

    off: frozenset[str] = frozenset()
    settings: Mapping[type[Any], Any] = field(default_factory=dict)

    def of(self, kind: type[T]) -> T:
        """A rule's settings, its defaults where the operator said nothing."""
        found = self.settings.get(kind)
        return kind() if found is None else found

    def on(self, channel: Channel) -> Channel:
        """The channel as the operator's values leave it."""
        for settings in self.settings.values():
            if isinstance(settings, OfChannel):
                channel = settings.on(channel)
        return channel


@runtime_checkable
class OfChannel(Protocol):
    """Settings that stand in the place of what the adapter declares of its channel."""

    def on(self, channel: Channel) -> Channel:
        """The channel with these values."""
        ...


USUAL = Policy()
