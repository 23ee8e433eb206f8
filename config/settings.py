"""The operator's TOML file as typed, frozen values; every fault named by its place: `accounts[2].app_secret: missing`.

Any text may be `env:NAME` or `file:PATH`. Secrets may be lists, so that two are valid during a rotation.
"""

from __future__ import annotations

import os
import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from config.follow_up import FollowUp
from config.outbox import FallbackSettings, RuleTables
from config.people import CrmSettings, VipSettings, read_crms
from config.secret import Secret
from config.templates import read_templates
from config.values import (
    MANY,
    TERABYTE,
    ConfigError,
    Fault,
    Values,
    address_problem,
    check_numbers,
    number_problem,
    unknown,
)

__all__ = [
    "AccountSettings", "AutomaticSettings", "AutomaticText", "ConfigError", "Fault", "GatewaySettings", "LimitSettings",
    "MediaSettings", "RetentionSettings", "Settings", "SmtpSettings", "TicketSettings", "build", "load", "parse",
]  # fmt: skip


_COUNT, _BYTES = (1, MANY), (1, TERABYTE)  # least, most
_DAYS = (0, 3650)
_WAIT_S = (0.01, 600)
_DRAIN_S = (0, 30)  # of the 60 a stop may take
_RATE = (0.001, 1_000_000)  # messages a second


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    public_url: str = ""
    listen: str = "127.0.0.1:8080"
    data_dir: str = "var"
    database: Secret = field(default_factory=lambda: Secret(""))  # a URL may hold a password
    redis: Secret = field(default_factory=lambda: Secret(""))
    matching_attribute: tuple[str, ...] = ()
    secret_key: tuple[Secret, ...] = ()
    region: str = ""  # ISO 3166 code for phone numbers written without +
    on_unknown: Literal["ask", "resend_once"] = "ask"
    drain_s: float = 3.0  # that the port stays open after SIGTERM, when somebody asks /readyz

    def __post_init__(self) -> None:
        check_numbers(self, drain_s=_DRAIN_S)


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    listen: str = "127.0.0.1:2525"
    hostname: str = "localhost"
    max_bytes: int = 50 * 2**20  # of one mail
    budget_bytes: int = 512 * 2**20  # of all mails being received
    max_connections: int = 200
    max_recipients: int = 100

    def __post_init__(self) -> None:
        check_numbers(self, max_bytes=_BYTES, budget_bytes=_BYTES, max_connections=_COUNT, max_recipients=_COUNT)


@dataclass(frozen=True, slots=True)
class MediaSettings:
    allow_private_networks: bool = False
    max_bytes: int = 100 * 2**20  # of one file

    def __post_init__(self) -> None:
        check_numbers(self, max_bytes=_BYTES)


@dataclass(frozen=True, slots=True)
class LimitSettings:
    webhook_bytes: int = 4 * 2**20
    upload_bytes: int = 100 * 2**20
    body_timeout_s: float = 5.0
    in_flight: int = 2000  # requests
    in_flight_bytes: int = 64 * 2**20
    commit_timeout_s: float = 1.5
    api_per_minute: int = 6000  # per API key
    webhook_per_minute_per_ip: int = 600_000

    def __post_init__(self) -> None:
        check_numbers(
            self, webhook_bytes=_BYTES, upload_bytes=_BYTES, body_timeout_s=_WAIT_S, in_flight=_COUNT,
            in_flight_bytes=_BYTES, commit_timeout_s=_WAIT_S, api_per_minute=_COUNT, webhook_per_minute_per_ip=_COUNT,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    raw_days: int = 30
    suspended_days: int = 14

    def __post_init__(self) -> None:
        check_numbers(self, raw_days=_DAYS, suspended_days=_DAYS)


@dataclass(frozen=True, slots=True)
class TicketSettings:
    new_ticket_when_solved_for: float | None = None  # days; None: a solved ticket is always reopened
    close_solved_after: float | None = None  # days
    follow_up: tuple[FollowUp, ...] = ()

    def __post_init__(self) -> None:
        check_numbers(self, new_ticket_when_solved_for=_DAYS, close_solved_after=_DAYS)


@dataclass(frozen=True, slots=True)
class AutomaticText:
    """What an automatic message says instead of the built-in text. `language`: a BCP 47 tag; empty: for everybody."""

    event: Literal["created", "updated", "solved"]
    text: str
    language: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True)
class AutomaticSettings:
    """Which events of a ticket its customer is told of without anybody writing."""

    created: bool = False
    updated: bool = False
    solved: bool = False
    texts: tuple[AutomaticText, ...] = ()


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """One `[[accounts]]` block. `options` is an instance of the adapter's own settings type."""

    id: str
    adapter: str
    options: Any
    rate: float | None = None
    templates: tuple[Mapping[str, Any], ...] = ()
    region: str = ""
    suspend: tuple[str, ...] | None = None  # causes; None: what the channel suspends by itself
    blocklist: tuple[str, ...] = ()
    allowlist: tuple[str, ...] = ()
    allowlist_only: bool = False
    tickets_per_hour: int = 0  # that one sender may begin; 0: any number
    index: int = 0
    rules: Mapping[str, Any] = field(default_factory=dict)  # see `RuleTables`
    automatic: AutomaticSettings | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    smtp: SmtpSettings | None = None
    media: MediaSettings = field(default_factory=MediaSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    tickets: TicketSettings = field(default_factory=TicketSettings)
    vip: VipSettings = field(default_factory=VipSettings)
    accounts: tuple[AccountSettings, ...] = ()
    sinks: tuple[Mapping[str, Any], ...] = ()
    rules: RuleTables = field(default_factory=RuleTables)
    fallback: tuple[FallbackSettings, ...] = ()
    crm: tuple[CrmSettings, ...] = ()
    base_dir: Path = Path()  # of the file; relative paths start here

    @property
    def mail_bytes(self) -> int:
        """How large a mail may be, by whatever way it comes."""
        return (self.smtp or SmtpSettings()).max_bytes

    @property
    def data_dir(self) -> Path:
        return self.base_dir / self.gateway.data_dir


_SECTIONS: dict[str, type[Any]] = {
    "gateway": GatewaySettings,
    "smtp": SmtpSettings,
    "media": MediaSettings,
    "limits": LimitSettings,
    "retention": RetentionSettings,
    "tickets": TicketSettings,
    "vip": VipSettings,
}
_SCREEN: dict[str, Any] = {
    "suspend": tuple[str, ...], "blocklist": tuple[str, ...], "allowlist": tuple[str, ...], "allowlist_only": bool,
    "tickets_per_hour": int,
}  # fmt: skip
_COMMON = {"id", "adapter", "rate", "templates", "region", "rules", "automatic", *_SCREEN}
_ID_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


def load(path: Path, adapters: Mapping[str, type[Any]], environ: Mapping[str, str] | None = None) -> Settings:
    """Read and check the file. `adapters` maps each adapter's name to its settings type. Raises `ConfigError`."""
    try:
        tree = tomllib.loads(path.read_text("utf-8-sig"))  # some editors put a byte order mark before it
    except FileNotFoundError:
        raise ConfigError(Fault("", f"{path}: no such file")) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(Fault("", f"{path}: {error}")) from None
    return parse(tree, adapters, base_dir=path.parent.resolve(), environ=environ)


def parse(
    tree: Mapping[str, Any],
    adapters: Mapping[str, type[Any]],
    *,
    base_dir: Path = Path(),
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Settings from a decoded TOML tree. Raises `ConfigError` with every fault."""
    reader = _Reader(base_dir, os.environ if environ is None else environ)
    known = {*_SECTIONS, "accounts", "sinks", "rules", "channels", "fallback", "crm"}
    for name in tree:
        if name not in known:
            reader.fault(name, unknown("unknown section", name, known))
    sections: dict[str, Any] = {
        name: reader.build(kind, tree[name], name) for name, kind in _SECTIONS.items() if name in tree
    }
    accounts = reader.accounts(tree.get("accounts", []), adapters)
    sinks = reader.sinks(tree.get("sinks", []), {account.id for account in accounts})
    taken = {account.id: "accounts" for account in accounts} | {str(sink.get("id")): "sinks" for sink in sinks}
    crm = read_crms(reader, tree.get("crm", []), taken)
    tables = RuleTables(reader.table(tree.get("rules", {}), "rules"), reader.channel_rules(tree.get("channels", {})))
    blocks = reader.blocks(tree.get("fallback", []), "fallback")
    fallback = [reader.build(FallbackSettings, block, f"fallback[{index}]") for index, block in enumerate(blocks)]
    gateway = sections.get("gateway")
    if isinstance(gateway, GatewaySettings):
        _check_gateway(gateway, reader)
    smtp = sections.get("smtp")
    if isinstance(smtp, SmtpSettings):
        reader.endpoint("smtp.listen", smtp.listen)
    if reader.faults:
        raise ConfigError(*reader.faults)
    return Settings(
        **sections, accounts=accounts, sinks=sinks, rules=tables, fallback=tuple(fallback), crm=crm, base_dir=base_dir
    )


def build(kind: type[Any], table: Mapping[str, Any], where: str, base_dir: Path) -> tuple[Any, list[Fault]]:
    """An instance of the dataclass `kind` from a decoded table, or None and what is wrong with it."""
    reader = _Reader(base_dir, os.environ)
    return reader.build(kind, table, where), reader.faults


def _check_gateway(gateway: GatewaySettings, reader: _Reader) -> None:
    reader.endpoint("gateway.listen", gateway.listen)
    if gateway.public_url:
        parts = urlsplit(gateway.public_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            reader.fault("gateway.public_url", "not an http or https address")
        elif parts.query or parts.fragment:
            reader.fault("gateway.public_url", "must not have a query or a fragment")
    database = gateway.database.reveal()
    if database and not database.startswith(("postgresql://", "postgres://", "sqlite:///")):
        reader.fault("gateway.database", "not a postgresql:// address")
    elif not database.startswith("sqlite:") and (problem := address_problem(database, "postgresql")):
        reader.fault("gateway.database", problem)
    redis = gateway.redis.reveal()
    if redis and not redis.startswith(("redis://", "rediss://", "unix://")):
        reader.fault("gateway.redis", "not a redis:// address")
    elif problem := address_problem(redis, "redis"):
        reader.fault("gateway.redis", problem)


class _Reader(Values):
    """Reads the parts of the file that more than one table is needed for."""

    def endpoint(self, key: str, value: str) -> None:
        host, _, port = value.rpartition(":")
        if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
            self.fault(key, "not HOST:PORT")

    def accounts(self, blocks: Any, adapters: Mapping[str, type[Any]]) -> tuple[AccountSettings, ...]:
        found: list[AccountSettings] = []
        for index, block in enumerate(self.blocks(blocks, "accounts")):
            where = f"accounts[{index}]"
            account_id = self.id_of(block, where, {account.id: f"accounts[{account.index}]" for account in found})
            name = self.build_value(str, block.get("adapter"), f"{where}.adapter") if "adapter" in block else None
            if name is None:
                if "adapter" not in block:
                    self.fault(f"{where}.adapter", "missing")
                continue
            if name not in adapters:
                self.fault(f"{where}.adapter", unknown(f"no adapter named {name!r}", name, adapters, "found are"))
                continue
            rate = self.build_value(float, block["rate"], f"{where}.rate") if "rate" in block else None
            if problem := number_problem(rate, *_RATE):
                self.fault(f"{where}.rate", problem)
            region = self.build_value(str, block.get("region", ""), f"{where}.region")
            templates = read_templates(self, block.get("templates", []), f"{where}.templates")
            rules = self.table(block.get("rules", {}), f"{where}.rules")
            screen = {
                key: self.build_value(hint, block[key], f"{where}.{key}")
                for key, hint in _SCREEN.items()
                if key in block
            }
            switches = block.get("automatic", {})
            automatic = self.build(AutomaticSettings, switches, f"{where}.automatic") if switches != {} else None
            own = {key: value for key, value in block.items() if key not in _COMMON}
            before = len(self.faults)
            options = self.build(adapters[name], own, where, _COMMON)
            if len(self.faults) == before:
                found.append(
                    AccountSettings(
                        account_id,
                        name,
                        options,
                        rate,
                        templates,
                        region or "",
                        index=index,
                        rules=rules,
                        automatic=automatic,
                        **screen,
                    )
                )
            elif account_id:
                found.append(AccountSettings(account_id, name, None, index=index))
        return tuple(found)

    def sinks(self, blocks: Any, taken: set[str]) -> tuple[Mapping[str, Any], ...]:
        found: list[Mapping[str, Any]] = []
        ids = dict.fromkeys(taken, "accounts")
        for index, block in enumerate(self.blocks(blocks, "sinks")):
            where = f"sinks[{index}]"
            sink_id = self.id_of(block, where, ids)
            ids[sink_id] = where
            if not isinstance(block.get("kind"), str):
                self.fault(f"{where}.kind", "missing")
            found.append(types.MappingProxyType(dict(block)))
        return tuple(found)

    def table(self, value: Any, where: str) -> dict[str, Any]:
        """A table as it stands; a fault and an empty one for anything else."""
        if isinstance(value, dict):
            return value
        self.fault(where, "must be a table")
        return {}

    def channel_rules(self, value: Any) -> dict[str, dict[str, Any]]:
        """`[channels.NAME]`, which has rules and nothing else."""
        found: dict[str, dict[str, Any]] = {}
        for name, entry in self.table(value, "channels").items():
            block = self.table(entry, f"channels.{name}")
            for key in (key for key in block if key != "rules"):
                self.fault(f"channels.{name}.{key}", "unknown setting; known are rules")
            found[name] = self.table(block.get("rules", {}), f"channels.{name}.rules")
        return found

    def blocks(self, value: Any, where: str) -> list[dict[str, Any]]:
        if not isinstance(value, list) or not all(isinstance(block, dict) for block in value):
            self.fault(where, f"must be a list of tables: [[{where}]]")
            return []
        return value

    def id_of(self, block: Mapping[str, Any], where: str, taken: Mapping[str, str]) -> str:
        value = block.get("id")
        if not isinstance(value, str) or not value:
            self.fault(f"{where}.id", "missing" if value is None else "must be a text that is not empty")
            return ""
        if not set(value.lower()) <= _ID_CHARS or len(value) > 64:
            self.fault(f"{where}.id", "only letters, digits, '-', '_' and '.', at most 64")
        if value in taken:
            self.fault(f"{where}.id", f"{value!r} is taken by {taken[value]}")
        return value
