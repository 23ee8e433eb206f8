"""The local door of a running gateway: commands that write go through the one process that may.

A socket in the data directory, readable by its owner alone. When nothing listens there, a command takes the lock and
does the same work itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from sqlalchemy import Connection

from gateway import deadletters, passwords, suppressions
from gateway.core import Core
from gateway.ids import micros
from gateway.requests import RequestError
from gateway.store import keys, users
from gateway.store import suppressions as store
from gateway.tickets import Actor

SOCKET = "control.sock"
LISTED_MAX = 10_000
OPERATOR = Actor("agent", "", "command line")


class CommandError(Exception):
    """A command that cannot be carried out, in a sentence."""


async def create_key(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Make an API key: `name`, `scope`, `accounts`."""
    now = micros(core.clock())
    name, scope, accounts = str(arguments["name"]), str(arguments["scope"]), list(arguments.get("accounts", []))
    unknown = [account for account in accounts if core.accounts.get(account) is None]
    if unknown:
        raise CommandError(f"no account {', '.join(map(repr, unknown))} is configured")
    try:
        _, key = await core.database.write(lambda connection: keys.create(connection, name, scope, accounts, now))
    except ValueError as error:
        raise CommandError(str(error)) from None
    return {"key": key}


async def create_user(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Make a user: `email`, `name`, `role`. The password is made up and told this once."""
    now, password = micros(core.clock()), passwords.generate()
    email, name, role = (str(arguments.get(field, "")) for field in ("email", "name", "role"))
    stored = await passwords.hashed(password)
    try:
        await core.database.write(lambda connection: users.create(connection, email, name, role, (), stored, now))
    except users.UserError as error:
        raise CommandError(f"{error.field}: {error.detail}") from None
    return {"password": password}


async def reset_password(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Give a user (`email`) a new password, told this once; all sessions of the user end."""
    now, password, email = micros(core.clock()), passwords.generate(), str(arguments["email"])
    stored = await passwords.hashed(password)

    def job(connection: Connection) -> bool:
        row = users.by_email(connection, email)
        if row is not None:
            users.change(connection, row["id"], {"password_hash": stored, "deactivated_at": None}, now)
        return row is not None

    if not await core.database.write(job):
        raise CommandError(f"there is no user {email!r}")
    return {"password": password}


async def list_users(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Everybody who works here, the oldest first."""
    rows = await core.database.read(lambda connection: users.page(connection, 10_000, None))
    shown = ("email", "name", "role", "created_at", "last_seen_at", "deactivated_at")
    return {"items": [{name: row[name] for name in shown} for row in rows]}


async def list_dead(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The open dead letters, oldest first."""
    return {"items": [dict(letter) for letter in await deadletters.open_letters(core)]}


async def replay_dead(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Replay dead letters by id, or all of them."""
    return await _each(core, arguments, lambda letter: deadletters.replay(core, letter, OPERATOR))


async def drop_dead(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Drop dead letters by id, or all of them."""
    return await _each(core, arguments, lambda letter: deadletters.drop(core, letter))


async def list_suppressions(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The suppression list, the newest entry first: `channel`, `address` choose from it."""
    channel, address = str(arguments.get("channel", "")), str(arguments.get("address", ""))
    rows = await core.database.read(
        lambda connection: store.page(
            connection, micros(core.clock()), channel=channel, address=address, limit=LISTED_MAX
        )
    )
    return {"items": [suppressions.plain(row) for row in rows]}


async def add_suppression(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Put an address on the suppression list: `channel`, `address`, `scope`, `reason`, `days`."""
    days = arguments.get("days")
    expires_at = None if days is None else core.clock() + timedelta(days=float(days))

    def job(connection: Connection) -> dict[str, Any]:
        row = suppressions.add(
            connection, core, channel=str(arguments["channel"]), address=str(arguments["address"]),
            scope=str(arguments.get("scope", "all")), detail=str(arguments.get("reason", "")), expires_at=expires_at,
            created_by=OPERATOR.name,
        )  # fmt: skip
        return suppressions.plain(row)

    try:
        return await core.database.write(job)
    except RequestError as error:
        raise CommandError(f"{error.field}: {error.detail}") from None


async def drop_suppression(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Take entries off the suppression list: `ids`."""
    ids = [str(entry) for entry in arguments["ids"]]
    return {"dropped": await core.database.write(lambda connection: store.drop(connection, ids))}


async def _each(core: Core, arguments: Mapping[str, Any], work: Callable[[str], Awaitable[object]]) -> dict[str, Any]:
    ids = list(arguments.get("ids", []))
    if not ids:
        ids = [letter["id"] for letter in (await list_dead(core, {}))["items"]]
    done, failed = [], []
    for letter in ids:
        try:
            await work(letter)
            done.append(letter)
        except Exception as error:
            failed.append(f"{letter}: {error}")
    return {"done": done, "failed": failed}


COMMANDS: dict[str, Callable[[Core, Mapping[str, Any]], Awaitable[dict[str, Any]]]] = {
    "keys.create": create_key,
    "users.create": create_user,
    "users.password": reset_password,
    "users.list": list_users,
    "dead.list": list_dead,
    "dead.replay": replay_dead,
    "dead.drop": drop_dead,
    "suppressions.list": list_suppressions,
    "suppressions.add": add_suppression,
    "suppressions.drop": drop_suppression,
}


class Control:
    """Serves commands on the socket while the gateway runs."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._path = core.settings.data_dir / SOCKET
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/{command}", self._command)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        self._path.unlink(missing_ok=True)
        await web.UnixSite(self._runner, str(self._path)).start()
        self._path.chmod(0o600)

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self._path.unlink(missing_ok=True)

    async def _command(self, request: web.Request) -> web.Response:
        command = COMMANDS.get(request.match_info["command"])
        if command is None:
            return web.json_response({"error": "unknown command"}, status=404)
        try:
            result = await command(self._core, msgspec.json.decode(await request.read()))
        except CommandError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(result)


async def ask_running(data_dir: Path, command: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """Have the running gateway carry a command out; None when none runs. Raises `CommandError`."""
    path = data_dir / SOCKET
    if not path.exists():
        return None
    connector = aiohttp.UnixConnector(str(path))
    async with aiohttp.ClientSession(connector=connector) as session:
        with contextlib.suppress(aiohttp.ClientConnectorError):
            async with session.post(f"http://gateway/{command}", data=msgspec.json.encode(dict(arguments))) as answer:
                result: dict[str, Any] = await answer.json()
                if answer.status != 200:
                    raise CommandError(str(result.get("error", "it failed")))
                return result
    return None
