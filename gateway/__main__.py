"""`gateway init | check | serve | keys | users | contacts | channels | dead | suppressions | demo` and more."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from config.settings import ConfigError
from gateway import cli, cli_check, cli_contacts, cli_dead, cli_identities, failures
from gateway.bounds import LISTED, PER_SECOND, SUPPRESSED_DAYS, argument
from gateway.intake.suspension import CAUSES

TRACEBACK = "GATEWAY_TRACEBACK"


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `gateway`. Exit codes: 0 done, 1 it failed, 2 the configuration or the call is wrong."""
    parsed = parser().parse_args(arguments)
    try:
        code = parsed.run(parsed)
    except ConfigError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        code = 2
    except cli.CommandFailed as error:
        print(f"gateway: {error}", file=sys.stderr)
        code = 1
    except BrokenPipeError:  # whoever reads us has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter stumbles at its end
        code = 1
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        code = _failed(error)
    sys.exit(code)


def _failed(error: Exception) -> int:
    """One line; all of it only when asked for."""
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    hint = "" if failures.is_known(error) else f" ({TRACEBACK}=1 shows where)"
    print(f"gateway: {failures.sentence(error)}{hint}", file=sys.stderr)
    return 1


def parser() -> argparse.ArgumentParser:
    """What may be called how."""
    top = argparse.ArgumentParser(prog="gateway", description="Every channel customers write in on, in one gateway.")
    top.add_argument("--version", action="version", version=f"gateway {version('channel-gateway')}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, words: str, run: object, *, config: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=words, description=words)
        sub.set_defaults(run=run)
        if config:
            _config(sub)
        return sub

    init = command("init", "write a commented starter gateway.toml", cli.init)
    init.add_argument("directory", nargs="?", default=".", type=Path, metavar="DIR")
    command("check", "validate the configuration, the store and the connections", cli_check.check, config=True)
    serve = command("serve", "run the gateway", lambda parsed: asyncio_run(cli.serve(parsed)), config=True)
    serve.add_argument("--listen", metavar="HOST:PORT", help="instead of gateway.listen; port 0 picks a free one")
    serve.add_argument("--roles", default="web,worker,sender", help="comma-separated: web, worker, sender")
    channels = command("channels", "the adapters found and what their channels can do", cli.channels)
    channels.add_argument("--json", action="store_true")
    adapters = commands.add_parser("adapters", help="adapters of your own").add_subparsers(
        required=True, metavar="ACTION"
    )
    new = adapters.add_parser("new", help="write a package with an adapter, its tests and a README")
    new.add_argument("name", help="what [[accounts]] adapter will say")
    new.add_argument("directory", nargs="?", type=Path, metavar="DIR", help="default: gateway-NAME")
    new.set_defaults(run=cli.write_adapter)
    demo = command("demo", "the gateway with simulated platforms and customers", lambda p: asyncio_run(cli.demo(p)))
    demo.add_argument("--once", action="store_true", help="play the scenario, print a transcript, and end")

    keys = commands.add_parser("keys", help="API keys").add_subparsers(required=True, metavar="ACTION")
    create = keys.add_parser("create", help="print a new API key; only its hash is stored")
    create.add_argument("name")
    create.add_argument("--scope", default="agent", help="read, agent or admin")
    create.add_argument("--account", action="append", default=[], help="only this account; may be repeated")
    create.set_defaults(run=lambda parsed: asyncio_run(cli.create_key(parsed)))
    _config(create)

    users = commands.add_parser("users", help="who works here").add_subparsers(required=True, metavar="ACTION")
    for action, words in (
        ("create", "make a user; prints the password, this once"),
        ("password", "give a user a new password; prints it, and ends all sessions"),
        ("list", "list them"),
    ):
        sub = users.add_parser(action, help=words)
        if action != "list":
            sub.add_argument("email")
        if action == "create":
            sub.add_argument("--name", default="")
            sub.add_argument("--role", default="agent", help="admin, agent, reader, or one of your own")
        sub.set_defaults(run=lambda parsed: asyncio_run(cli.users(parsed)), action=action)
        _config(sub)

    contacts = commands.add_parser("contacts", help="contacts to files and back").add_subparsers(
        required=True, metavar="ACTION"
    )
    for action, words in (("export", "write contacts to a new file"), ("import", "make and change contacts from one")):
        sub = contacts.add_parser(action, help=words)
        sub.add_argument("file", type=Path)
        sub.add_argument("--format", choices=("csv", "jsonl"), help="default: as the file's name ends")
        if action == "export":
            sub.add_argument("--columns", default="", help="fields and attributes, separated by commas")
        else:
            sub.add_argument(
                "--mode", choices=("each", "all"), default="each", help="each row for itself, or all or none"
            )
            sub.add_argument("--dry-run", action="store_true", help="only say what would become of each row")
        sub.set_defaults(run=lambda parsed: asyncio_run(cli_contacts.run(parsed)), action=action)
        _config(sub)
    search = commands.add_parser("search", help="the index of words").add_subparsers(required=True, metavar="ACTION")
    rebuild = search.add_parser("rebuild", help="index tickets, messages and contacts anew; others go on working")
    rebuild.set_defaults(run=lambda parsed: asyncio_run(cli.search(parsed)), action="rebuild")
    _config(rebuild)

    dead = commands.add_parser("dead", help="dead letters").add_subparsers(required=True, metavar="ACTION")
    listed = dead.add_parser("list", help="list them, the oldest first")
    listed.add_argument("--json", action="store_true")
    listed.set_defaults(run=lambda parsed: asyncio_run(cli_dead.list_letters(parsed)))
    shown = dead.add_parser("show", help="one with all that is kept of it")
    shown.add_argument("id")
    shown.set_defaults(run=lambda parsed: asyncio_run(cli_dead.show(parsed)))
    jobs = dead.add_parser("jobs", help="jobs that replay or drop many")
    jobs.add_argument("--cancel", default="", metavar="ID", help="end this one early")
    jobs.set_defaults(run=lambda parsed: asyncio_run(cli_dead.jobs(parsed)))
    _config(shown)
    _config(jobs)
    handled = [listed]
    for action, words in (("replay", "try again"), ("drop", "put aside for good")):
        sub = dead.add_parser(action, help=words)
        sub.add_argument("id", nargs="*", help="dead letters; none: all that fit the options")
        sub.add_argument(
            "--rate", type=argument(PER_SECOND), default=10, metavar="N", help="1 to 1000 a second; default 10"
        )
        sub.set_defaults(run=lambda parsed: asyncio_run(cli_dead.handle(parsed)), action=action)
        handled.append(sub)
    for sub in handled:
        cli_dead.add_filter(sub)
        _config(sub)
    held = commands.add_parser("suspended", help="messages put aside").add_subparsers(required=True, metavar="ACTION")
    for action, words in (("list", "list them"), ("release", "file them"), ("drop", "put away for good")):
        sub = held.add_parser(action, help=words)
        if action != "list":
            sub.add_argument("id", nargs="*", help="which; none: all that --cause and --account choose")
        else:
            sub.add_argument("--json", action="store_true")
        sub.add_argument(
            "--cause", default="", choices=tuple(CAUSES), metavar="CAUSE", help="only those put aside for this"
        )
        sub.add_argument("--account", default="", help="only of this account")
        sub.set_defaults(run=lambda parsed: asyncio_run(cli.suspended(parsed)), action=action)
        _config(sub)
    _suppressions(commands)
    _identities(commands)
    return top


def _identities(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    people = commands.add_parser("identities", help="who is who").add_subparsers(required=True, metavar="ACTION")
    preview = people.add_parser("preview", help="what a matching rule would merge; changes nothing")
    preview.add_argument(
        "--attribute", action="append", default=[], metavar="A[,B]", help="in order; none: the configured ones"
    )
    words = "list so many of each; default: 1000"
    preview.add_argument("--limit", type=argument(LISTED), default=1000, metavar="N", help=words)
    preview.add_argument("--json", action="store_true")
    apply = people.add_parser("apply", help="merge by the configured rule what was there before it")
    for action, sub in (("preview", preview), ("apply", apply)):
        sub.set_defaults(run=lambda parsed: asyncio_run(cli_identities.run(parsed)), action=action)
        _config(sub)


def _suppressions(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    alone = commands.add_parser("suppressions", help="addresses nothing is sent to")
    actions = alone.add_subparsers(required=True, metavar="ACTION")
    show = actions.add_parser("list", help="list them")
    show.add_argument("--channel", default="", help="only of this channel")
    show.add_argument("--address", default="", help="only this address")
    show.add_argument("--json", action="store_true")
    add = actions.add_parser("add", help="put an address on the list")
    add.add_argument("channel")
    add.add_argument("address")
    add.add_argument("--scope", default="all", choices=("all", "automatic", "marketing"))
    add.add_argument("--reason", default="", help="shown to agents")
    add.add_argument("--days", type=argument(SUPPRESSED_DAYS), help="for so long; without it until it is dropped")
    drop = actions.add_parser("drop", help="take entries off the list")
    drop.add_argument("id", nargs="+")
    for action, sub in (("list", show), ("add", add), ("drop", drop)):
        sub.set_defaults(run=lambda parsed: asyncio_run(cli.suppressions(parsed)), action=action)
        _config(sub)


def _config(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--config", type=Path, default=Path("gateway.toml"), metavar="F", help="default: gateway.toml")


def asyncio_run(work: object) -> int:
    """Run a coroutine on the fastest event loop there is; its exit code."""
    assert asyncio.iscoroutine(work)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        code: int = runner.run(work)
        return code


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


if __name__ == "__main__":
    main()
