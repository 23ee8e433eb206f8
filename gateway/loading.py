"""From settings to accounts with working adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from adapters import Adapter, Http, SettingsError
from adapters._load import FoundAdapter
from config.settings import AccountSettings, ConfigError, Fault, Settings
from gateway.accounts import Accounts, BoundAccount
from gateway.automatic.texts import faults as faults_of
from gateway.automatic.texts import switched_on
from normalizers.model import Account

BUILT_IN_ACCOUNTS = ("api",)  # there without being configured, under the adapter's own name
_HOSTS = ("api_base", "data_base")

MakeHttp = Callable[[tuple[str, ...]], Http]
"""An account's `Http`, given the hosts it may reach."""


def settings_types(found: Mapping[str, FoundAdapter]) -> dict[str, type[Any]]:
    """What `config.settings.load` must know of the adapters."""
    return {name: entry.adapter.settings_type for name, entry in found.items() if name not in BUILT_IN_ACCOUNTS}


def bind(settings: Settings, found: Mapping[str, FoundAdapter], make_http: MakeHttp) -> Accounts:
    """Every configured account with its adapter, and the built-in ones. Raises `ConfigError` with every fault."""
    faults: list[Fault] = []
    bound: list[BoundAccount] = []
    configured = [*settings.accounts, *(AccountSettings(name, name, None) for name in BUILT_IN_ACCOUNTS)]
    for account in configured:
        if account.options is None and account.id not in BUILT_IN_ACCOUNTS:
            continue
        try:
            bound.append(_bind(account, settings, found[account.adapter].adapter, make_http))
        except SettingsError as error:
            faults.append(Fault(f"accounts[{account.index}].{error.key}", error.problem))
        except ValueError as error:
            faults.append(Fault(f"accounts[{account.index}]", str(error)))
    taken = [account for account in settings.accounts if account.id in BUILT_IN_ACCOUNTS]
    faults += [Fault(f"accounts[{account.index}].id", f"{account.id!r} is built in") for account in taken]
    faults += _clashes(bound)
    faults += [fault for account in bound for fault in _automatic(account)]
    if faults:
        raise ConfigError(*faults)
    _share_own_addresses(bound)
    return Accounts(bound)


def _bind(account: AccountSettings, settings: Settings, kind: type[Any], make_http: MakeHttp) -> BoundAccount:
    hosts = tuple(host for name in _HOSTS if (host := getattr(account.options, name, "")))
    identity = Account(account.id, account.adapter, region=account.region or settings.gateway.region)
    adapter: Adapter = kind(identity, account.options, make_http(hosts))
    return BoundAccount(account.id, adapter, account, {channel.name: channel for channel in adapter.channels})


def _clashes(bound: list[BoundAccount]) -> list[Fault]:
    """Two accounts that the platform calls by one name: an event could go to either."""
    owner: dict[tuple[str, str], str] = {}
    faults = []
    for account in bound:
        for key in sorted(account.adapter.routing_keys()):
            first = owner.setdefault((account.adapter.name, key), account.id)
            if first != account.id:
                faults.append(Fault(f"accounts[{account.settings.index}]", f"{key} is served by {first!r} already"))
    return faults


def _automatic(account: BoundAccount) -> Iterator[Fault]:
    """What is wrong with an account's automatic messages."""
    settings = account.settings.automatic
    if settings is None:
        return
    where = f"accounts[{account.settings.index}]"
    if switched_on(settings) and not any(channel.private for channel in account.channels.values()):
        yield Fault(f"{where}.automatic", "the account has no private channel, and nothing automatic is said in public")
    for key, problem in faults_of(settings):
        yield Fault(f"{where}.{key}", problem)


def _share_own_addresses(bound: list[BoundAccount]) -> None:
    """Every account of an adapter knows the addresses of all: what one of them sends another is no customer's word."""
    for account in bound:
        adapter = account.adapter
        ours = frozenset[str]().union(
            *(other.adapter.account.own_addresses for other in bound if other.adapter.name == adapter.name)
        )
        adapter.account = msgspec.structs.replace(adapter.account, own_addresses=ours)
