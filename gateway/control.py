"""What the command line may have done: by the running gateway (`control_socket.py`), or by itself when none runs."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection

from gateway import deadletters, identities, passwords, reindexing, suppressions, transfer
from gateway.bounds import AGE_S, LISTED, PER_SECOND, SUPPRESSED_DAYS, Bounds
from gateway.core import Core
from gateway.ids import micros
from gateway.intake.suspension import CAUSES
from gateway.intake.worker import TOPIC
from gateway.requests import RequestError
from gateway.store import attributes as definitions
from gateway.store import dead, keys, suspended, users
from gateway.store import suppressions as listed
from gateway.store.people_views import ContactFilter
from gateway.tickets import Actor
from gateway.web import show_queues

FOLLOW_S = 20.0
LISTED_MAX = 10_000  # listed or decided by one command
OPERATOR = Actor("agent", "", "command line")


class CommandError(Exception):
    """A command that cannot be carried out, in a sentence."""


def _number(arguments: Mapping[str, Any], name: str, bounds: Bounds, default: float | None = None) -> float:
    """A number among the arguments. Raises `CommandError` for one that is missing or out of bounds."""
    try:
        return bounds.read(arguments.get(name, default))
    except ValueError as error:
        raise CommandError(f"{name}: {error}") from None


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


def _filter(core: Core, arguments: Mapping[str, Any]) -> dead.Filter:
    """The letters meant: `filter` with the fields of `dead.Filter`, ages in seconds as `older_than`, `newer_than`."""
    given = {name: value for name, value in arguments.get("filter", {}).items() if value not in (None, "")}
    now = micros(core.clock())
    for name, column in (("older_than", "before"), ("newer_than", "after")):
        if name in given:
            given[column] = now - int(_number(given, name, AGE_S)) * 1_000_000
            del given[name]
    try:
        return msgspec.convert(given, dead.Filter)
    except msgspec.ValidationError as error:
        raise CommandError(f"filter: {error}") from None


async def list_dead(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The open dead letters, oldest first: the first `limit` of those that fit, and how many there are."""
    wanted, limit = _filter(core, arguments), int(_number(arguments, "limit", LISTED, 1000))
    rows = await core.database.read(lambda connection: dead.oldest(connection, wanted, limit))
    return {"items": [dict(letter) for letter in rows]}


async def show_dead(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """One dead letter (`id`) with all that is kept of it."""

    def job(connection: Connection) -> dict[str, Any]:
        found = dead.letter(connection, str(arguments["id"]), None)
        if found is None:
            raise CommandError("there is no such dead letter")
        shown = show_queues.dead_letter_detail(found, dead.evidence(connection, found))
        tree: dict[str, Any] = msgspec.to_builtins(shown)
        return tree

    return await core.database.read(job)


async def replay_dead(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Replay the dead letters named in `ids`."""
    return await _each(arguments, lambda letter: deadletters.replay(core, letter, OPERATOR))


async def drop_dead(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the dead letters named in `ids`."""
    return await _each(arguments, lambda letter: deadletters.drop(core, letter, OPERATOR))


async def list_suspended(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What was put aside and waits for a decision, oldest first; `cause` and `account` narrow it."""
    account, cause = str(arguments.get("account") or ""), str(arguments.get("cause") or "")
    if cause and cause not in CAUSES:
        raise CommandError(f"{cause!r} is no cause; known are {', '.join(CAUSES)}")

    def job(connection: Connection) -> list[dict[str, Any]]:
        return [dict(row) for row in suspended.page(connection, account, cause, "", None, LISTED_MAX, None)]

    return {"items": (await core.database.read(job))[::-1]}


async def release_suspended(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """File what was put aside: by id, or everything `cause` and `account` choose."""
    return await _decide(core, arguments, suspended.release)


async def list_suppressions(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The suppression list, the newest entry first: `channel`, `address` choose from it."""
    channel, address = str(arguments.get("channel", "")), str(arguments.get("address", ""))
    rows = await core.database.read(
        lambda connection: listed.page(
            connection, micros(core.clock()), channel=channel, address=address, limit=LISTED_MAX
        )
    )
    return {"items": [suppressions.plain(row) for row in rows]}


async def add_suppression(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Put an address on the suppression list: `channel`, `address`, `scope`, `reason`, `days`."""
    expires_at = None
    if arguments.get("days") is not None:
        expires_at = core.clock() + timedelta(days=_number(arguments, "days", SUPPRESSED_DAYS))

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
    return {"dropped": await core.database.write(lambda connection: listed.drop(connection, ids))}


async def drop_suspended(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Put it away for good."""
    return await _decide(core, arguments, suspended.drop)


async def _decide(
    core: Core, arguments: Mapping[str, Any], decide: Callable[[Connection, list[str], str, int], list[str]]
) -> dict[str, Any]:
    ids = [str(entry) for entry in arguments.get("ids", [])]
    if not ids:
        ids = [row["id"] for row in (await list_suspended(core, arguments))["items"]]
    now = micros(core.clock())
    done = set(await core.database.write(lambda connection: decide(connection, ids, OPERATOR.name, now)))
    core.bus.wake(TOPIC)
    return {"done": sorted(done), "failed": [f"{i}: not there, or decided before" for i in ids if i not in done]}


async def preview_identities(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a rule would merge: `attributes` in order (none: the configured ones), `limit` of what is listed."""
    limit = int(_number(arguments, "limit", LISTED, identities.LISTED))
    found: dict[str, Any] = msgspec.to_builtins(await identities.preview(core, await _rule(core, arguments), limit))
    return found


async def apply_identities(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Merge by the configured rule what was there before it."""
    done: dict[str, Any] = msgspec.to_builtins(await identities.apply(core, await _rule(core, {}), OPERATOR))
    return done


async def _rule(core: Core, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        return await identities.check(core, arguments.get("attributes") or core.settings.gateway.matching_attribute)
    except identities.UnknownAttribute as error:
        raise CommandError(str(error)) from None


async def _each(arguments: Mapping[str, Any], work: Callable[[str], Awaitable[object]]) -> dict[str, Any]:
    done, failed = [], []
    for letter in arguments["ids"]:
        try:
            await work(letter)
            done.append(letter)
        except (deadletters.DeadLetterError, RequestError) as error:
            failed.append(f"{letter}: {error}")
    return {"done": done, "failed": failed}


async def start_dead_job(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Order that all letters that fit `filter` are handled (`action`), `rate` a second."""
    action, rate = str(arguments["action"]), int(_number(arguments, "rate", PER_SECOND))
    if action not in ("replay", "drop"):
        raise CommandError("action: must be replay or drop")
    job = await deadletters.start(core, action, _filter(core, arguments), rate, OPERATOR)
    return await follow_dead_job(core, {"id": job["id"]})


async def follow_dead_job(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """How far the job `id` has come, once it has ended or a while has passed. Works on it where nobody else does."""
    worker, job_id = deadletters.Undertaker(core), str(arguments["id"])
    until = time.monotonic() + FOLLOW_S
    while True:
        job = await core.database.read(lambda connection: dead.job(connection, job_id))
        if job is None:
            raise CommandError("there is no such job")
        if job["state"] != "running" or time.monotonic() > until:
            return dict(job)
        if not await worker.step():
            await asyncio.sleep(0.2)


async def cancel_dead_job(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """End the job `id` early."""
    now, job_id = micros(core.clock()), str(arguments["id"])
    if not await core.database.write(lambda connection: dead.cancel_job(connection, job_id, now)):
        raise CommandError("there is no such running job")
    return {}


async def list_dead_jobs(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The newest jobs on dead letters."""
    rows = await core.database.read(lambda connection: dead.jobs(connection, 50))
    return {"items": [dict(job) for job in rows]}


async def export_contacts(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Write contacts to a file (`path`), which must not be there: `format`, `columns`."""
    names, path = list(arguments.get("columns", [])), Path(str(arguments["path"]))

    def columns(connection: Connection) -> list[transfer.Column]:
        return transfer.columns_of(names, definitions.catalogue(connection, core.settings.crm))

    try:
        wanted = await core.database.read(columns)
    except transfer.ColumnError as error:
        raise CommandError(str(error)) from None
    everybody = ContactFilter(region=core.settings.gateway.region)
    form = str(arguments.get("format", "csv"))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            async for chunk in transfer.contact_chunks(core, everybody, None, wanted, form):  # type: ignore[arg-type]
                await asyncio.to_thread(file.write, chunk)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    return {}


async def import_contacts(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Make and change contacts from a file (`path`): `format`, `mode`, `dry_run`. The report of what became of it."""
    path = Path(str(arguments["path"]))
    form, mode = arguments.get("format", "csv"), arguments.get("mode", "each")
    dry_run = bool(arguments.get("dry_run"))
    try:
        report = await transfer.run(core, path, form, mode=mode, dry_run=dry_run, actor=OPERATOR)
    except transfer.BrokenFile as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    found: dict[str, Any] = msgspec.to_builtins(report)
    return found


async def rebuild_search(core: Core, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Index every ticket, message and contact anew, a little at a time: others write in between."""
    return dict(await reindexing.rebuild(core))


COMMANDS: dict[str, Callable[[Core, Mapping[str, Any]], Awaitable[dict[str, Any]]]] = {
    "keys.create": create_key,
    "users.create": create_user,
    "users.password": reset_password,
    "users.list": list_users,
    "contacts.export": export_contacts,
    "contacts.import": import_contacts,
    "dead.list": list_dead,
    "dead.show": show_dead,
    "dead.job": start_dead_job,
    "dead.follow": follow_dead_job,
    "dead.cancel": cancel_dead_job,
    "dead.jobs": list_dead_jobs,
    "dead.replay": replay_dead,
    "dead.drop": drop_dead,
    "suspended.list": list_suspended,
    "suspended.release": release_suspended,
    "suspended.drop": drop_suspended,
    "suppressions.list": list_suppressions,
    "suppressions.add": add_suppression,
    "suppressions.drop": drop_suppression,
    "identities.preview": preview_identities,
    "identities.apply": apply_identities,
    "search.rebuild": rebuild_search,
}
