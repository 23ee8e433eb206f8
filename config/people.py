"""What the operator says about people: what VIPs get, and the CRMs to ask about a person and to tell of changes."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from config.secret import Secret

Priority = Literal["low", "normal", "high", "urgent"]
Status = Literal["new", "open", "pending", "hold", "solved", "closed"]
FILLED_ONCE = frozenset({"name", "language", "organization"})
"""Fields of a contact that a CRM fills where they are empty, and never manages."""
_IDENTIFYING = ("email", "phone")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class VipSettings:
    priority: Priority = "high"  # the least of their tickets
    group: str = ""  # theirs go to, unless they have a group; empty: nowhere in particular


@dataclass(frozen=True, slots=True)
class CrmSettings:
    """One `[[crm]]` block. `attributes` and `keys` map our names to the CRM's."""

    id: str
    kind: Literal["http", "hubspot"]
    url: str = ""  # http: the base; /lookup and /upsert are added
    secret: tuple[Secret, ...] = ()  # http: whsec_..., the first one signs, as do all others of a rotation
    token: Secret = field(default_factory=lambda: Secret(""))  # hubspot: of the private app; http: sent as bearer
    api_base: str = "https://api.hubapi.com"  # hubspot's host
    lookup: tuple[str, ...] = _IDENTIFYING  # attributes to look a person up by, in order
    keys: Mapping[str, str] = field(default_factory=dict)  # hubspot: the properties they are compared with
    attributes: Mapping[str, str] = field(default_factory=dict)
    editable: tuple[str, ...] = ()  # of those: what agents may change, and what is written back
    write_back_on: tuple[Status, ...] = ()  # empty: every change of status
    channels: tuple[str, ...] = ()  # whose conversations are looked up; empty: all
    trust_claims: bool = False  # look up by addresses that nobody has proven, too
    timeout_s: float = 10.0  # of one request

    def __post_init__(self) -> None:
        if self.kind == "http":
            if not self.secret:
                raise ValueError("secret: missing")
            for secret in self.secret:
                _check_secret(secret)
        if self.kind == "hubspot" and not self.token:
            raise ValueError("token: missing")
        place = "url" if self.kind == "http" else "api_base"
        parts = urlsplit(getattr(self, place))
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{place}: {'not an http or https address' if getattr(self, place) else 'missing'}")
        if parts.query or parts.fragment or parts.username:
            raise ValueError(f"{place}: must not have a user, a query or a fragment")
        if not self.lookup:
            raise ValueError("lookup: is empty")
        if not 0 < self.timeout_s <= 60:
            raise ValueError("timeout_s: must be above 0, at most 60")
        for name in ("keys", "attributes"):
            _check_map(name, getattr(self, name))
        for name in self.attributes:
            if name in _IDENTIFYING:
                raise ValueError(f"attributes.{name}: what identifies a person is not filled by a CRM")
        for name in self.editable:
            if name not in self.managed:
                raise ValueError(f"editable: {name!r} is not among the attributes the CRM manages")
        if self.kind == "hubspot":
            for name in self.lookup:
                if name not in self.keys and name not in self.attributes and name not in _IDENTIFYING:
                    raise ValueError(f"keys.{name}: missing: the property it is compared with")

    @property
    def managed(self) -> tuple[str, ...]:
        """The attributes this CRM is right about."""
        return tuple(name for name in self.attributes if name not in FILLED_ONCE)

    def their_key(self, name: str) -> str:
        """What the CRM calls an attribute people are looked up by."""
        return self.keys.get(name) or self.attributes.get(name) or name

    @property
    def base(self) -> str:
        """The address requests go to, without a slash at its end."""
        return (self.url if self.kind == "http" else self.api_base).rstrip("/")


class Reader(Protocol):
    """What reads the file (`config.settings`)."""

    def fault(self, key: str, problem: str) -> None: ...

    def blocks(self, value: Any, where: str) -> list[dict[str, Any]]: ...

    def id_of(self, block: Mapping[str, Any], where: str, taken: Mapping[str, str]) -> str: ...

    def build(self, kind: type[Any], table: Any, where: str) -> Any: ...


def read_crms(reader: Reader, blocks: Any, taken: dict[str, str]) -> tuple[CrmSettings, ...]:
    """The `[[crm]]` blocks. `taken`: ids of others, and where they stand."""
    found: list[CrmSettings] = []
    managed: dict[str, str] = {}
    for index, block in enumerate(reader.blocks(blocks, "crm")):
        where = f"crm[{index}]"
        taken[reader.id_of(block, where, taken)] = where
        built = reader.build(CrmSettings, block | {"id": str(block.get("id", ""))}, where)
        if built is None:
            continue
        for name in built.managed:
            if (other := managed.setdefault(name, built.id)) != built.id:
                reader.fault(f"{where}.attributes.{name}", f"is managed by {other!r} already")
        found.append(built)
    return tuple(found)


def _check_secret(secret: Secret) -> None:
    """Standard Webhooks 1.0.0: `whsec_` and the Base64 of 24 to 64 random bytes."""
    text = secret.reveal()
    try:
        size = len(base64.b64decode(text.removeprefix("whsec_"), validate=True)) if text.startswith("whsec_") else 0
    except ValueError:
        size = 0
    if not 24 <= size <= 64:
        raise ValueError("secret: must be whsec_ and the Base64 of 24 to 64 bytes")


def _check_map(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}: must be a table")
    theirs: dict[str, str] = {}
    for ours, other in value.items():
        if not _NAME.fullmatch(ours):
            raise ValueError(f"{name}.{ours}: lower-case letters, digits and _, a letter first, at most 64")
        if not isinstance(other, str) or not other or len(other) > 255:
            raise ValueError(f"{name}.{ours}: must be a text that is not empty, at most 255 characters")
        if name == "attributes" and other in theirs:
            raise ValueError(f"{name}.{ours}: {other!r} fills {theirs[other]!r} already")
        theirs[other] = ours
