"""`gateway dead ...`: dead letters on the command line."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, get_args

from adapters import ErrorClass
from gateway.bounds import AGE_S, argument
from gateway.cli import command
from gateway.ids import rfc3339

_DONE = {"replay": "replayed", "drop": "dropped"}


def add_filter(sub: argparse.ArgumentParser) -> None:
    """The options that say which dead letters are meant."""
    sub.add_argument("--direction", choices=("inbound", "outbound"))
    sub.add_argument("--account", default="", metavar="ID")
    sub.add_argument("--channel", default="", metavar="NAME", help="outbound ones only")
    sub.add_argument("--kind", choices=("delivery", "event", "message", "errand"))
    sub.add_argument("--class", dest="error_class", choices=get_args(ErrorClass))
    sub.add_argument("--code", default="", help="the platform's code, or the rule's name")
    sub.add_argument("--older-than", type=argument(AGE_S), metavar="SECONDS")
    sub.add_argument("--newer-than", type=argument(AGE_S), metavar="SECONDS")


def _filter(parsed: argparse.Namespace) -> dict[str, Any]:
    names = ("direction", "account", "channel", "kind", "error_class", "code", "older_than", "newer_than")
    return {name: value for name in names if (value := getattr(parsed, name)) not in (None, "")}


async def list_letters(parsed: argparse.Namespace) -> int:
    """List open dead letters, the oldest first."""
    letters = (await command(parsed.config, "dead.list", {"filter": _filter(parsed)}))["items"]
    if parsed.json:
        print(json.dumps({"items": letters}, indent=2))
        return 0
    for letter in letters:
        place = letter["message_id"] or letter["ref"]
        print(
            f"{letter['id']}  {rfc3339(letter['created_at'])}  {letter['direction']}  {letter['account']}  "
            f"{letter['error_class']}  {letter['code']}  {place}  {letter['detail']}"
        )
    print(f"{len(letters)} dead letters", file=sys.stderr)
    return 0


async def show(parsed: argparse.Namespace) -> int:
    """Print one with all that is kept of it."""
    print(json.dumps(await command(parsed.config, "dead.show", {"id": parsed.id}), indent=2, ensure_ascii=False))
    return 0


async def handle(parsed: argparse.Namespace) -> int:
    """Replay or drop: those named at once, else all that fit by a job that is followed to its end."""
    if parsed.id:
        result = await command(parsed.config, f"dead.{parsed.action}", {"ids": parsed.id})
        for problem in result["failed"]:
            print(problem, file=sys.stderr)
        print(f"{len(result['done'])} {_DONE[parsed.action]}")
        return 1 if result["failed"] else 0
    order = {"action": parsed.action, "filter": _filter(parsed), "rate": parsed.rate}
    job = await command(parsed.config, "dead.job", order)
    while job["state"] == "running":
        print(f"job {job['id']}: {job['done'] + job['refused']} of {job['total']}", file=sys.stderr)
        job = await command(parsed.config, "dead.follow", {"id": job["id"]})
    if job["refused"]:
        print(f"{job['refused']} refused: they stay, and their tickets say why", file=sys.stderr)
    print(f"{job['done']} {_DONE[parsed.action]}")
    return 1 if job["refused"] or job["state"] != "done" else 0


async def jobs(parsed: argparse.Namespace) -> int:
    """List the jobs, or end one early."""
    if parsed.cancel:
        await command(parsed.config, "dead.cancel", {"id": parsed.cancel})
        print("cancelled")
        return 0
    for job in (await command(parsed.config, "dead.jobs", {}))["items"]:
        print(
            f"{job['id']}  {rfc3339(job['created_at'])}  {job['action']}  {job['state']}  "
            f"{job['done']} done, {job['refused']} refused of {job['total']}"
        )
    return 0
