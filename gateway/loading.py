"""From settings to accounts with working adapters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
import phonenumbers

from adapters import Adapter, Http, SettingsError, SharedKeys, TokenCache, TokenHolder
from adapters._load import FoundAdapter, class_for
from config.settings import AccountSettings, ConfigError, Fault, Settings
from config.values import MANY, number_problem
from gateway.accounts import Accounts, BoundAccount, family_of
from gateway.automatic.texts import faults as faults_of
from gateway.automatic.texts import switched_on
from gateway.intake.suspension import CAUSES, problem_of
from gateway.policies import Policies
from normalizers.model import Account
from outbox.rules import load_rules

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
    try:
        policies = Policies(settings, load_rules(), {ch.name for entry in found.values() for ch in entry.channels})
    except Exception as error:
        raise ConfigError(Fault("rules", f"an installed rule cannot be used: {error}")) from error
    faults += policies.faults
    configured = [*settings.accounts, *(AccountSettings(name, name, None) for name in BUILT_IN_ACCOUNTS)]
    for account in configured:
        if account.options is None and account.id not in BUILT_IN_ACCOUNTS:
            continue
        try:
            bound.append(_bind(account, settings, found[account.adapter].adapter, make_http, policies))
        except SettingsError as error:
            faults.append(Fault(f"accounts[{account.index}].{error.key}", error.problem))
        except (ValueError, OverflowError) as error:
            faults.append(Fault(f"accounts[{account.index}]", str(error)))
    faults += _region_faults("gateway", settings.gateway.region)
    for account in settings.accounts:
        faults += _region_faults(f"accounts[{account.index}]", account.region)
        faults += [*_host_faults(account), *_screen_faults(account)]
    taken = [account for account in settings.accounts if account.id in BUILT_IN_ACCOUNTS]
    faults += [Fault(f"accounts[{account.index}].id", f"{account.id!r} is built in") for account in taken]
    faults += _clashes(bound)
    faults += _dead_ends(settings, bound)
    faults += [fault for account in bound for fault in _automatic(account)]
    if faults:
        raise ConfigError(*faults)
    _share_own_addresses(bound)
    return Accounts(bound)


def _bind(
    account: AccountSettings, settings: Settings, kind: type[Any], make_http: MakeHttp, policies: Policies
) -> BoundAccount:
    hosts = tuple(host for name in _HOSTS if (host := getattr(account.options, name, "")))
    region = account.region or settings.gateway.region
    identity = Account(account.id, account.adapter, region=region, templates=account.templates)
    adapter: Adapter = class_for(kind, account.options)(identity, account.options, make_http(hosts))
    own = {channel.name: policies.of(account, channel.name) for channel in adapter.channels}
    channels = {channel.name: own[channel.name].on(channel) for channel in adapter.channels}
    return BoundAccount(account.id, adapter, account, channels, own)


def _region_faults(where: str, region: str) -> list[Fault]:
    if not region or region in phonenumbers.SUPPORTED_REGIONS:
        return []
    return [Fault(f"{where}.region", f"{region!r} is no ISO 3166 code in capitals, such as 'DE'")]


def _host_faults(account: AccountSettings) -> Iterator[Fault]:
    """Platforms are called at whole addresses; one without its `https://` would only fail with the first message."""
    for spec in dataclasses.fields(account.options) if account.options is not None else ():
        value = getattr(account.options, spec.name) if spec.name in _HOSTS else None
        if value == "" and spec.default:  # where the default is "", the adapter chooses
            yield Fault(f"accounts[{account.index}].{spec.name}", "is empty")
        elif value and not _is_address(value):
            yield Fault(f"accounts[{account.index}].{spec.name}", "not an http or https address")


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _screen_faults(account: AccountSettings) -> list[Fault]:
    where = f"accounts[{account.index}]"
    unknown = [cause for cause in account.suspend or () if cause not in CAUSES]
    faults = [Fault(f"{where}.suspend", f"{cause!r} is no cause; known are {', '.join(CAUSES)}") for cause in unknown]
    if problem := number_problem(account.tickets_per_hour, 0, MANY):
        faults.append(Fault(f"{where}.tickets_per_hour", problem))
    for key in ("blocklist", "allowlist"):
        faults += [
            Fault(f"{where}.{key}", problem) for pattern in getattr(account, key) if (problem := problem_of(pattern))
        ]
    return faults


def _clashes(bound: list[BoundAccount]) -> list[Fault]:
    """Two accounts that the platform calls by one name: an event could go to either."""
    owner: dict[tuple[str, str], str] = {}
    faults = []
    for account in bound:
        adapter: object = account.adapter
        shared = adapter.shared_keys() if isinstance(adapter, SharedKeys) else frozenset[str]()
        for key in sorted(account.adapter.routing_keys() - shared):
            first = owner.setdefault((family_of(account.adapter), key), account.id)
            if first != account.id:
                faults.append(Fault(f"accounts[{account.settings.index}]", f"{key} is served by {first!r} already"))
    return faults


def _dead_ends(settings: Settings, bound: list[BoundAccount]) -> list[Fault]:
    """Chains that name an account or a channel nobody serves."""
    serves = {account.id: account.channels for account in bound}
    channels = {name for account in bound for name in account.channels}
    faults: list[Fault] = []
    for index, chain in enumerate(settings.fallback):
        places = [(f"fallback[{index}]", chain.account, chain.channel)]
        places += [(f"fallback[{index}].steps[{n}]", step.account, step.channel) for n, step in enumerate(chain.steps)]
        for where, account, channel in places:
            if account and account not in serves:
                faults.append(Fault(f"{where}.account", f"no account {account!r}"))
            elif channel and channel not in (serves[account] if account else channels):
                faults.append(Fault(f"{where}.channel", f"no account serves {channel!r}"))
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


def share_tokens(accounts: Accounts, tokens: TokenCache) -> None:
    """Give the adapters that fetch access tokens one place to keep them."""
    for account in accounts:
        adapter: object = account.adapter
        if isinstance(adapter, TokenHolder):
            adapter.tokens = tokens
