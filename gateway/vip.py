"""What it means for a ticket that its person is a VIP (A3). Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from config.settings import Settings
from gateway.tickets import SYSTEM, Entry

_PRIORITIES = ("low", "normal", "high", "urgent")


class VipPolicy(msgspec.Struct, frozen=True):
    """The operator's choice: the least priority, and the group ("": none), of tickets of VIPs."""

    priority: str = "high"
    group: str = ""


def vip_policy(settings: Settings) -> VipPolicy:
    """What the operator chose."""
    return VipPolicy(settings.vip.priority, settings.vip.group)


class Promotion(msgspec.Struct, frozen=True):
    """What a ticket gets, and the lines that tell why. What is None stays as it is."""

    priority: str | None
    group: str | None
    entries: tuple[Entry, ...]


def promote(policy: VipPolicy, priority: str, group: str, why: str) -> Promotion:
    """What becomes of a ticket with this priority and group. Priorities only rise, and a group that is set stays."""
    raised = _PRIORITIES.index(policy.priority) > _PRIORITIES.index(priority)
    routed = bool(policy.group) and not group
    entries: list[Entry] = []
    if raised:
        entries.append(_entry("priority", priority, policy.priority, why))
    if routed:
        entries.append(_entry("group", group, policy.group, why))
    return Promotion(policy.priority if raised else None, policy.group if routed else None, tuple(entries))


def _entry(field: str, before: str, after: str, why: str) -> Entry:
    data: dict[str, Any] = {"from": before, "to": after, "why": why}
    return Entry(f"ticket.{field}_changed", SYSTEM, data)
