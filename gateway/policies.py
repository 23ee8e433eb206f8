"""The operator's word on the rules, held against the rules there are: installation, then channel, then account."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from config import settings as configuration
from config.settings import AccountSettings, Fault, Settings
from outbox.policy import Policy
from outbox.rules import Rule, Spec, specs

_LISTS = ("off", "on")


class Policies:
    """Reads `[rules]`, `[channels.NAME] rules` and `[[accounts]] rules`. `faults` has all that is wrong, by its place.

    A nearer table goes before a wider one, setting by setting; `on` switches on again what a wider one switched off.
    """

    def __init__(self, settings: Settings, rules: Sequence[Rule], channels: Iterable[str]) -> None:
        self._settings = settings
        self._specs = {spec.name: spec for spec in specs(rules)}
        self.faults: list[Fault] = []
        known = set(channels)
        self._check(settings.rules.everywhere, "rules")
        for name, table in settings.rules.channels.items():
            if name not in known:
                self._fault(f"channels.{name}", f"no channel of this name; there are {', '.join(sorted(known))}")
            self._check(table, f"channels.{name}.rules")
        for account in settings.accounts:
            self._check(account.rules, f"accounts[{account.index}].rules")

    def of(self, account: AccountSettings, channel: str) -> Policy:
        """The policy of one channel of an account; what is faulty is left out."""
        tables = self._settings.rules
        layers = (tables.everywhere, tables.channels.get(channel, {}), account.rules)
        off: set[str] = set()
        merged: dict[str, dict[str, Any]] = {}
        for layer in layers:
            off |= set(_names(layer, "off"))
            off -= set(_names(layer, "on"))
            for name, table in layer.items():
                if name in self._specs and isinstance(table, dict):
                    merged[name] = _merged(merged.get(name, {}), table)
        built: dict[type[Any], Any] = {}
        for name, table in merged.items():
            kind = self._specs[name].settings
            where = f"accounts[{account.index}].rules.{name}"
            if kind is not None:
                value, faults = configuration.build(kind, table, where, self._settings.base_dir)
                if value is not None:
                    built[kind] = value
                elif not self.faults:  # each layer alone is right, but not what they make together
                    self.faults += faults
        return Policy(frozenset(name for name in off if self._may_be_off(name)), built)

    def _check(self, table: Mapping[str, Any], where: str) -> None:
        for name, value in table.items():
            place = f"{where}.{name}"
            if name in _LISTS:
                self._check_list(name, value, place)
            elif name not in self._specs:
                self._fault(place, f"no rule of this name; there are {', '.join(self._specs)}")
            elif (kind := self._specs[name].settings) is None:
                self._fault(place, "the rule has no settings")
            else:
                self.faults += configuration.build(kind, value, place, self._settings.base_dir)[1]

    def _check_list(self, which: str, value: Any, place: str) -> None:
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            self._fault(place, f'must be a list of names: {which} = ["quiet_hours"]')
            return
        for index, name in enumerate(value):
            if name not in self._specs:
                self._fault(f"{place}[{index}]", f"no rule named {name!r}; there are {', '.join(self._specs)}")
            elif which == "off" and not self._may_be_off(name):
                self._fault(f"{place}[{index}]", f"{name} cannot be switched off: {self._specs[name].kept}")

    def _may_be_off(self, name: str) -> bool:
        return name in self._specs and not self._specs[name].kept

    def _fault(self, key: str, problem: str) -> None:
        self.faults.append(Fault(key, problem))


def _names(layer: Mapping[str, Any], which: str) -> list[str]:
    value = layer.get(which, [])
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _merged(wide: Mapping[str, Any], near: Mapping[str, Any]) -> dict[str, Any]:
    """The nearer table over the wider one; tables within them by key."""
    found = dict(wide)
    for key, value in near.items():
        known = found.get(key)
        found[key] = _merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return found


def described(spec: Spec) -> dict[str, Any]:
    """A rule as JSON: what it does, its data with their defaults, whether it may be switched off."""
    kind = spec.settings
    return {
        "name": spec.name,
        "what": spec.what,
        "decisions": list(spec.may),
        "source": spec.source,
        "switchable": not spec.kept,
        "kept": spec.kept,
        "fallback": spec.elsewhere,
        "origin": spec.origin,
        "settings": {} if kind is None else _values(kind()),
    }


def differences(policy: Policy, spec: Spec) -> dict[str, Any]:
    """What the operator set of a rule: the settings that are not as usual."""
    if spec.settings is None:
        return {}
    usual = _values(spec.settings())
    return {name: value for name, value in _values(policy.of(spec.settings)).items() if value != usual[name]}


def _values(settings: Any) -> dict[str, Any]:
    return {entry.name: getattr(settings, entry.name) for entry in dataclasses.fields(settings)}
