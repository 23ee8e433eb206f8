"""The attributes of a contact as the API shows them, each value with where it comes from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import RowMapping

from gateway.ids import rfc3339
from gateway.web import types

_decode = msgspec.json.decode


def attributes(
    row: RowMapping, values: Iterable[RowMapping], identities: Sequence[types.Identity], known: Collection[str]
) -> tuple[dict[str, Any], list[types.AttributeValue]]:
    """The attributes by name (several values as a list), and where each value comes from.

    A value another account's identity brought is left out for who may not see that account. Where an attribute of
    ours and one a channel told are called the same, ours is
    shown. Values of attributes that were removed (not `known`) are kept and not shown.
    """
    visible = {entry.id: entry for entry in identities}
    origins: dict[str, dict[str, Any]] = _decode(row["attribute_origins"])
    custom = {name: value for name, value in _decode(row["attributes"]).items() if name in known}
    shown = [_by_hand(name, value, origins) for name, value in custom.items()]
    if "vip" in origins:
        shown.append(_by_hand("vip", bool(row["vip"]), origins))
    several: dict[str, list[Any]] = {}
    for value in values:
        name, identity = value["attribute"], visible.get(value["identity_id"])
        if value["identity_id"] and identity is None:
            continue
        if name not in ("phone", "email") and (name in custom or not value["identity_id"]):
            continue  # what matching compares of an attribute of ours
        _add(several, name, value["value"])
        shown.append(_brought(value, identity, origins))
    told: dict[str, list[Any]] = {}
    for entry in identities:
        for name, value in [*entry.profile.items(), *([("handle", entry.handle)] if entry.handle else [])]:
            if name in custom or name in several or not isinstance(value, str | int | float):
                continue
            _add(told, name, value)
            shown.append(
                types.AttributeValue(
                    name=name, value=value, kind="platform", source="platform", channel=entry.channel,
                    account=entry.account, identity_id=entry.id,
                )
            )  # fmt: skip
    found = {name: known[0] if len(known) == 1 else known for name, known in (told | several).items()}
    return found | {name: value for name, value in custom.items() if name not in several}, shown


def _add(values: dict[str, list[Any]], name: str, value: Any) -> None:
    known = values.setdefault(name, [])
    if value not in known:
        known.append(value)


def _by_hand(name: str, value: Any, origins: Mapping[str, Mapping[str, Any]]) -> types.AttributeValue:
    origin = origins.get(name, {})
    return types.AttributeValue(
        name=name, value=value, kind="custom", source=origin.get("source", "unknown"), by=origin.get("by", ""),
        at=rfc3339(origin.get("at")),
    )  # fmt: skip


def _brought(
    value: RowMapping, identity: types.Identity | None, origins: Mapping[str, Mapping[str, Any]]
) -> types.AttributeValue:
    """A phone number or mail address: an identity's own, or set by somebody."""
    if identity is None:
        return _by_hand(value["attribute"], value["value"], origins)
    return types.AttributeValue(
        name=value["attribute"], value=value["value"], kind="custom",
        source="customer" if value["evidence"] == "claimed" else "platform", at=rfc3339(value["at"]),
        channel=identity.channel, account=identity.account, identity_id=identity.id,
    )  # fmt: skip
