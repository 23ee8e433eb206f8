"""The configured accounts, each with its adapter: found by id, by routing key, and channel by channel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from adapters import Adapter, Channel, Pace
from config.settings import AccountSettings
from outbox.policy import USUAL, Policy


@dataclass(frozen=True, slots=True)
class BoundAccount:
    """An account with its adapter, ready to work. `channels` are as the operator's `policies` leave them."""

    id: str
    adapter: Adapter
    settings: AccountSettings
    channels: Mapping[str, Channel]
    policies: Mapping[str, Policy] = field(default_factory=dict)  # by channel


def family_of(adapter: Adapter) -> str:
    """Adapters that share webhooks, so that one may hear what is for another: their `family`, else each its own."""
    return getattr(adapter, "family", "") or adapter.name


class Accounts:
    """All configured accounts."""

    def __init__(self, accounts: Iterable[BoundAccount]) -> None:
        self._by_id = {account.id: account for account in accounts}
        self._by_key: dict[tuple[str, str], list[BoundAccount]] = {}
        for account in self._by_id.values():
            for key in account.adapter.routing_keys():
                self._by_key.setdefault((family_of(account.adapter), key), []).append(account)

    def __iter__(self) -> Iterator[BoundAccount]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, account_id: str) -> BoundAccount | None:
        """The account, or None when none has this id."""
        return self._by_id.get(account_id)

    def named(self, family: str, routing_key: str) -> list[BoundAccount]:
        """The accounts of a family of adapters (`family_of`) that the platform calls `routing_key`."""
        return self._by_key.get((family, routing_key), [])

    def channel(self, account_id: str, name: str) -> Channel | None:
        """What the account's adapter declares of the channel."""
        account = self._by_id.get(account_id)
        return account.channels.get(name) if account else None

    def policy(self, account_id: str, channel: str) -> Policy:
        """What the operator says about the rules of the account's channel."""
        account = self._by_id.get(account_id)
        return account.policies.get(channel, USUAL) if account else USUAL

    def serving(self, channel: str) -> list[BoundAccount]:
        """The accounts that serve a channel, in the order of the configuration."""
        return [account for account in self._by_id.values() if channel in account.channels]

    def pace(self, account_id: str, channel: str) -> Pace:
        """The pace the outbox keeps on a channel of an account, the operator's `rate` included."""
        account = self._by_id.get(account_id)
        declared = account.channels.get(channel) if account is not None else None
        pace = declared.pace if declared is not None else Pace(1e9, "no such channel")
        if account is None or account.settings.rate is None:
            return pace
        return replace(pace, per_second=account.settings.rate, source="[[accounts]] rate", unit="message")

    def templates(self, account_id: str, name: str) -> list[Mapping[str, Any]]:
        """The template's entries in the configured catalogue (`[[accounts.templates]]`): one for each language."""
        account = self._by_id.get(account_id)
        return [entry for entry in (account.settings.templates if account else ()) if entry.get("name") == name]
