"""Finding adapters: those built in, and those of installed packages by entry point."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from adapters._base import AdapterFactory, Variants
from adapters._channel import Channel

GROUP = "channel_gateway.adapters"
BUILT_IN = {
    "api": "adapters.api:ApiAdapter",
    "email": "adapters.email:EmailAdapter",
    "facebook": "adapters.facebook:FacebookAdapter",
    "instagram": "adapters.instagram:InstagramAdapter",
    "line": "adapters.line:LineAdapter",
    "sms": "adapters.sms:SmsAdapter",
    "wechat": "adapters.wechat:WeChatAdapter",
    "whatsapp": "adapters.whatsapp:WhatsAppAdapter",
    "x": "adapters.x:XAdapter",
}


class AdapterLoadError(Exception):
    """An adapter that cannot be used: its name, and why in a sentence."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"adapter {name!r}: {problem}")
        self.name, self.problem = name, problem


@dataclass(frozen=True, slots=True)
class FoundAdapter:
    """An adapter class by the name accounts give it."""

    name: str
    adapter: type[Any]
    origin: str  # "built in" or the package's name

    @property
    def channels(self) -> tuple[Channel, ...]:
        channels: tuple[Channel, ...] = self.adapter.channels
        return channels


def find(installed: Iterable[EntryPoint] | None = None) -> Mapping[str, FoundAdapter]:
    """All adapters by name. Raises `AdapterLoadError` for one that fails to load or takes a name that is taken."""
    found: dict[str, FoundAdapter] = {}
    for name, target in BUILT_IN.items():
        module, _, attribute = target.partition(":")
        found[name] = FoundAdapter(name, getattr(importlib.import_module(module), attribute), "built in")
    for point in entry_points(group=GROUP) if installed is None else installed:
        origin = point.dist.name if point.dist is not None else point.value
        if point.name in found:
            raise AdapterLoadError(point.name, f"{origin} clashes with {found[point.name].origin}")
        found[point.name] = FoundAdapter(point.name, _load(point), origin)
    _check_channels(found.values())
    return found


def class_for(adapter: type[Any], settings: Any) -> AdapterFactory:
    """The class to make an account of, by its settings: one of the adapter's variants, else the adapter itself."""
    named: object = adapter
    chosen: AdapterFactory = named.variant(settings) if isinstance(named, Variants) else adapter
    return chosen


def _load(point: EntryPoint) -> type[Any]:
    try:
        adapter = point.load()
    except Exception as error:
        raise AdapterLoadError(
            point.name, f"{point.value} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    missing = [
        name
        for name in ("channels", "settings_type", "signature_headers", "verify", "well_formed", "normalize", "send")
        if not hasattr(adapter, name)
    ]
    if not isinstance(adapter, type) or missing:
        raise AdapterLoadError(point.name, f"{point.value} is no adapter: it lacks {', '.join(missing) or 'a class'}")
    return adapter


def _check_channels(found: Iterable[FoundAdapter]) -> None:
    """One name of a channel means one thing, whichever adapter serves it."""
    titles: dict[str, tuple[str, str]] = {}
    for entry in found:
        for channel in entry.channels:
            known = titles.setdefault(channel.name, (channel.title, entry.name))
            if known[0] != channel.title:
                raise AdapterLoadError(entry.name, f"channel {channel.name!r} is another one for {known[1]!r}")
