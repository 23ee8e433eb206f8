"""The gateway itself: its channels with what they can do, and its accounts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from adapters import Channel
from gateway.policies import described, differences
from gateway.store import queue_views
from gateway.web import show, types
from gateway.web.routes import Call, Reply, Route
from outbox.rules import Spec, load_rules, specs


def plain(value: Any) -> Any:
    """Declared data as JSON: durations in seconds, sets sorted."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {entry.name: plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(plain(item) for item in value)
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def capabilities(channel: Channel) -> dict[str, Any]:
    """What a channel declares of itself. Durations are in seconds, sizes in bytes."""
    found: dict[str, Any] = plain(channel)
    return {name: value for name, value in found.items() if name not in ("name", "title")}


async def list_channels(call: Call) -> Reply:
    """The channels of the configured accounts."""
    found: dict[tuple[str, str], types.ChannelView] = {}
    for account in call.core.accounts:
        if not call.key.sees(account.id):
            continue
        for channel in account.channels.values():
            key = (account.adapter.name, channel.name)
            if key not in found:
                found[key] = types.ChannelView(
                    name=channel.name,
                    title=channel.title,
                    adapter=account.adapter.name,
                    accounts=[],
                    capabilities=capabilities(channel),
                )
            found[key].accounts.append(account.id)
    return Reply(types.Items[types.ChannelView](items=list(found.values())))


async def list_accounts(call: Call) -> Reply:
    """The configured accounts, and what they wait for right now."""
    pauses = await call.read(lambda connection: queue_views.pauses(connection, call.now))
    public_url = call.core.settings.gateway.public_url.rstrip("/")
    items = [
        types.AccountView(
            id=account.id,
            adapter=account.adapter.name,
            channels=sorted(account.channels),
            webhook=f"{public_url}/webhooks/{account.id}",
            paused=[
                types.Pause(
                    scope=row["scope"] or "account",
                    until=show.moment(row["paused_until"]),
                    error_class=row["error_class"],
                    reason=row["reason"],
                )
                for row in pauses.get(account.id, ())
            ],
        )
        for account in call.core.accounts
        if call.key.sees(account.id)
    ]
    return Reply(types.Items[types.AccountView](items=items))


async def list_rules(call: Call) -> Reply:
    """The rules of the outbox in the order they run in, and what the configuration says about each."""
    items = [types.RuleView(**described(spec), changed=_changed(call, spec)) for spec in specs(load_rules())]
    return Reply(types.Items[types.RuleView](items=items))


def _changed(call: Call, spec: Spec) -> list[types.RuleChange]:
    found: list[types.RuleChange] = []
    for account in call.core.accounts:
        for channel, policy in account.policies.items() if call.key.sees(account.id) else ():
            off, settings = spec.name in policy.off, differences(policy, spec)
            if off or settings:
                found.append(types.RuleChange(account=account.id, channel=channel, off=off, settings=plain(settings)))
    return found


_TAG = "Gateway"
ROUTES: tuple[Route, ...] = (
    Route(
        "GET", "/api/v1/channels", list_channels, "Channels and what they can do", _TAG,
        answers={200: types.Items[types.ChannelView]},
    ),
    Route(
        "GET", "/api/v1/rules", list_rules, "The rules of the outbox", _TAG,
        answers={200: types.Items[types.RuleView]},
    ),
    Route(
        "GET", "/api/v1/accounts", list_accounts, "Configured accounts", _TAG,
        answers={200: types.Items[types.AccountView]},
    ),
)  # fmt: skip
