"""What the commands of the command line do."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from adapters import Channel
from adapters._load import AdapterLoadError, FoundAdapter, find
from config import settings as configuration
from config.settings import ConfigError, Fault, Settings
from gateway import log, runtime
from gateway.control import COMMANDS, CommandError
from gateway.control_socket import ask_running
from gateway.ids import rfc3339
from gateway.loading import settings_types
from gateway.lock import Locked
from gateway.policies import described
from gateway.scaffold import ScaffoldError, new_adapter
from gateway.store import migrate
from outbox.rules import Rule, Spec, load_rules, specs

EXAMPLE = Path(configuration.__file__).with_name("gateway.example.toml")


class CommandFailed(Exception):
    """The command could not do its work, in a sentence."""


def load(path: Path) -> tuple[Settings, Mapping[str, FoundAdapter]]:
    """The settings of a file and the adapters there are. Raises `ConfigError`."""
    try:
        found = find()
    except AdapterLoadError as error:
        raise ConfigError(Fault("", str(error))) from None
    return configuration.load(path, settings_types(found)), found


def init(parsed: argparse.Namespace) -> int:
    """Write the starter configuration; an existing one is left alone."""
    target = parsed.directory / "gateway.toml"
    if target.exists():
        raise CommandFailed(f"{target} is there already")
    parsed.directory.mkdir(parents=True, exist_ok=True)
    target.write_text(EXAMPLE.read_text("utf-8"), "utf-8")
    print(f"wrote {target}; now edit it, then: gateway check --config {target}")
    return 0


async def serve(parsed: argparse.Namespace) -> int:
    """Run until told to stop."""
    log.configure()
    settings, found = load(parsed.config)
    if parsed.listen:
        host, _, port = parsed.listen.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ConfigError(Fault("--listen", "not HOST:PORT"))
        settings = dataclasses.replace(settings, gateway=dataclasses.replace(settings.gateway, listen=parsed.listen))
    roles = [role.strip() for role in parsed.roles.split(",") if role.strip()]
    try:
        return await runtime.serve(settings, roles, found)
    except (Locked, migrate.StoreTooNew) as error:
        raise CommandFailed(str(error)) from None


# --- channels ---


def channels(parsed: argparse.Namespace) -> int:
    """The capability table."""
    try:
        found = find()
    except AdapterLoadError as error:
        raise CommandFailed(str(error)) from None
    rules = specs(_rules())
    if parsed.json:
        adapters = [describe(entry) for entry in found.values()]
        print(json.dumps({"adapters": adapters, "rules": [described(spec) for spec in rules]}, indent=2))
        return 0
    rows = [table_row(entry, channel) for entry in found.values() for channel in entry.channels]
    _print_table(("adapter", "channel", "window", "text", "files", "receipts", "repeat", "from"), rows)
    print()
    _print_table(("rule", "says", "settings", "off", "from"), [rule_row(spec) for spec in rules])
    return 0


def _rules() -> Sequence[Rule]:
    """Raises `CommandFailed` for a package whose rule cannot be used, whatever it raises."""
    try:
        return load_rules()
    except Exception as error:
        raise CommandFailed(f"an installed rule cannot be used: {error}") from error


def _print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def rule_row(spec: Spec) -> tuple[str, ...]:
    """One line of the table of rules."""
    names = ", ".join(described(spec)["settings"])
    return spec.name, ", ".join(spec.may), names or "none", "never" if spec.kept else "may be", spec.origin


def table_row(entry: FoundAdapter, channel: Channel) -> tuple[str, ...]:
    """One line of the capability table."""
    limits = channel.limits
    units = {"chars": "characters", "utf16": "UTF-16 units", "bytes": "bytes", "gsm": "characters",
             "weighted": "characters by weight"}  # fmt: skip
    window = f"{channel.window.duration // timedelta(hours=1)} h" if channel.window else "none"
    if channel.window and channel.window.template_outside:
        window += ", then templates"
    kinds = ", ".join(dict.fromkeys(rule.kind for rule in limits.media if rule.media_types))
    repeat = {"none": "never", "request": "by key", "message_id": "by Message-ID"}[channel.key]
    return (
        entry.name,
        channel.name,
        window,
        f"{limits.text_max} {units[limits.text_unit]}" + (", in parts" if limits.split else ""),
        kinds or ("none" if limits.media else "any"),
        ", ".join(channel.receipts) or "none",
        repeat,
        entry.origin,
    )


def describe(entry: FoundAdapter) -> dict[str, Any]:
    """An adapter as JSON: its channels and all they declare."""
    return {
        "name": entry.name,
        "origin": entry.origin,
        "channels": [channel.name for channel in entry.channels],
        "capabilities": {channel.name: _plain(channel) for channel in entry.channels},
    }


def write_adapter(parsed: argparse.Namespace) -> int:
    """Write a package with a new adapter."""
    directory = parsed.directory or Path(f"gateway-{parsed.name.replace('_', '-')}")
    try:
        taken = {name for entry in find().values() for name in (entry.name, *(c.name for c in entry.channels))}
        written = new_adapter(parsed.name, directory, taken)
    except (AdapterLoadError, ScaffoldError) as error:
        raise CommandFailed(str(error)) from None
    for path in written:
        print(f"wrote {path}")
    print(f"now: pip install -e {directory}, gateway channels, and read {directory / 'README.md'}")
    return 0


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


# --- commands that work on the store ---


async def create_key(parsed: argparse.Namespace) -> int:
    """Print a new API key alone on standard output."""
    result = await command(
        parsed.config, "keys.create", {"name": parsed.name, "scope": parsed.scope, "accounts": parsed.account}
    )
    print(result["key"])
    return 0


async def users(parsed: argparse.Namespace) -> int:
    """Make a user or give one a new password, printed alone on standard output; or list them."""
    if parsed.action == "list":
        for user in (await command(parsed.config, "users.list", {}))["items"]:
            state = "deactivated" if user["deactivated_at"] else "active"
            print(f"{user['email']}  {user['role']}  {state}  since {rfc3339(user['created_at'])}  {user['name']}")
        return 0
    arguments = {"email": parsed.email}
    if parsed.action == "create":
        arguments |= {"name": parsed.name, "role": parsed.role}
    print((await command(parsed.config, f"users.{parsed.action}", arguments))["password"])
    return 0


async def suspended(parsed: argparse.Namespace) -> int:
    """List, release or drop what was put aside."""
    chosen = {"cause": parsed.cause, "account": parsed.account}
    if parsed.action == "list":
        found = (await command(parsed.config, "suspended.list", chosen))["items"]
        if parsed.json:
            print(json.dumps({"items": found}, indent=2))
            return 0
        for row in found:
            print(
                f"{row['id']}  {rfc3339(row['received_at'])}  {row['account']}  {row['cause']}  "
                f"{row['sender']}  {row['subject']}"
            )
        print(f"{len(found)} suspended", file=sys.stderr)
        return 0
    result = await command(parsed.config, f"suspended.{parsed.action}", {"ids": parsed.id, **chosen})
    for problem in result["failed"]:
        print(problem, file=sys.stderr)
    print(f"{len(result['done'])} {'released' if parsed.action == 'release' else 'dropped'}")
    return 1 if result["failed"] else 0


async def suppressions(parsed: argparse.Namespace) -> int:
    """List, add to or drop from the suppression list."""
    if parsed.action == "list":
        wanted = {"channel": parsed.channel, "address": parsed.address}
        entries = (await command(parsed.config, "suppressions.list", wanted))["items"]
        if parsed.json:
            print(json.dumps({"items": entries}, indent=2))
            return 0
        for entry in entries:
            print(_suppression(entry))
        print(f"{len(entries)} addresses", file=sys.stderr)
        return 0
    if parsed.action == "add":
        arguments = {
            "channel": parsed.channel, "address": parsed.address, "scope": parsed.scope, "reason": parsed.reason,
            "days": parsed.days,
        }  # fmt: skip
        print(_suppression(await command(parsed.config, "suppressions.add", arguments)))
        return 0
    dropped = (await command(parsed.config, "suppressions.drop", {"ids": parsed.id}))["dropped"]
    print(f"{dropped} dropped")
    return 0 if dropped == len(set(parsed.id)) else 1


def _suppression(entry: Mapping[str, Any]) -> str:
    until = rfc3339(entry["expires_at"]) or "for good"
    words = "  ".join(str(entry[name]) for name in ("id", "channel", "address", "scope", "reason"))
    return f"{words}  {until}  {entry['detail']}".rstrip()


async def search(parsed: argparse.Namespace) -> int:
    """Index everything anew that can be searched."""
    found = await command(parsed.config, f"search.{parsed.action}", {})
    print(", ".join(f"{count} {name}" for name, count in found.items()))
    return 0


async def command(path: Path, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Have the running gateway do it, or take its place for a moment. Raises `CommandFailed`."""
    settings, found = load(path)
    try:
        result = await ask_running(settings.data_dir, name, arguments)
        if result is not None:
            return result
        log.configure("ERROR")  # what is done stands in the answer
        gateway = runtime.Gateway(settings, found=found)
        async with gateway.resting() as core:
            return await COMMANDS[name](core, arguments)
    except (CommandError, Locked, migrate.StoreTooNew) as error:
        raise CommandFailed(str(error)) from None


async def demo(parsed: argparse.Namespace) -> int:
    """Play the demo."""
    from gateway.demo import play  # the simulators are needed nowhere else

    return await play(once=parsed.once)
