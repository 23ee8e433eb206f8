"""What the pages tell one to write is taken by the program: configurations, commands, bodies of requests, Python."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters._load import find
from config import settings as configuration
from config.settings import ConfigError
from gateway.__main__ import parser
from gateway.loading import bind, settings_types
from gateway.requests import ReplyRequest
from gateway.web import asks, types
from gateway.web.api import ROUTES
from outbox.rules import spec_of
from outbox.verdict import ALLOW
from tests.test_rules import FACTS, NOTE

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    page.relative_to(ROOT).as_posix(): page.read_text("utf-8")
    for pattern in ("README.md", "docs/*.md", "*/README.md", "gateway/store/README.md", "examples/*/README.md")
    for page in sorted(ROOT.glob(pattern))
}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def blocks(language: str) -> dict[str, str]:
    """Every fenced block of a language: "page: first line" -> text."""
    found = [(page, told) for page, text in PAGES.items() for kind, told in FENCE.findall(text) if kind == language]
    return {f"{page}: {told.splitlines()[0].split('#')[0].strip()}": told for page, told in found}


# --- configurations ---------------------------------------------------------------------------------------------------

FILES = {"reply.html": "<p>{{ content }}</p>", "reply.txt": "{{ content }}"}  # those the pages name
NEEDED: dict[str, dict[str, Any]] = {  # what a block leaves out
    "email": {"address": "help@example.com"},
    "sms": {"account_sid": "AC1", "auth_token": "t", "number": "+12025550100"},
}
ELSEWHERE = ("project",)  # tables of other files


class _Everything(dict[str, str]):
    """An environment in which every variable is set."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return "whsec_" + "QUJD" * 8 if "CRM" in name else f"the-value-of-{name}"


def complete(tree: dict[str, Any]) -> dict[str, Any]:
    """A whole configuration around a block: one without a section or a list of blocks stands in an account's."""
    sections = {"gateway", "accounts", "rules", "channels", "fallback", "crm", "vip", "tickets"}
    if not sections & set(tree):
        tree = {"accounts": [{"id": "support-mail", **tree}]}
    accounts = [
        NEEDED.get(kind := entry.get("adapter", "sms" if "sms" in entry["id"] else "email"), {})
        | {"adapter": kind}
        | entry
        for entry in tree.get("accounts", [])
    ]
    named = [step for chain in tree.get("fallback", []) for step in [chain, *chain["steps"]]]
    for channel in dict.fromkeys(step["channel"] for step in named if "channel" in step):
        told = (step["account"] for step in named if step.get("channel") == channel and "account" in step)
        name = next(told, channel)
        accounts.append({"id": name, "adapter": channel, **NEEDED.get(channel, WHATSAPP)})
    return tree | {"accounts": accounts}


WHATSAPP = {"phone_number_id": "1", "access_token": "t", "app_secret": "s", "verify_token": "v"}
CONFIGURATIONS = {name: told for name, told in blocks("toml").items() if not set(tomllib.loads(told)) & set(ELSEWHERE)}


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A private key, as the page on mail has one made."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return made.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


@pytest.mark.parametrize("told", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_configuration_passes_the_check(told: str, tmp_path: Path, key: str) -> None:
    for name, text in FILES.items() | {("dkim.pem", key)}:
        (tmp_path / name).write_text(text, "utf-8")
    found = find()
    tree = complete(tomllib.loads(told))
    tree["accounts"] = [entry for entry in tree["accounts"] if entry["adapter"] != "pigeon"]  # tests/e2e/test_kit.py
    settings = configuration.parse(tree, settings_types(found), base_dir=tmp_path, environ=_Everything())
    bind(settings, found, lambda hosts: hosts)  # type: ignore[arg-type, return-value]


def test_a_configuration_that_is_wrong_does_not() -> None:
    with pytest.raises(ConfigError, match="acess_token"):
        configuration.parse(complete({"acess_token": "x"}), settings_types(find()), environ=_Everything())


# --- commands ---------------------------------------------------------------------------------------------------------

COMMAND = re.compile(r"^(?:\.venv/bin/)?gateway ([a-z].*)$")
INLINE = re.compile(r"`(?:\.venv/bin/)?gateway ([a-z][^`]*)`")


def lines(text: str) -> Iterator[str]:
    """What stands in shell blocks, and in indented ones."""
    for kind, told in FENCE.findall(text):
        yield from told.splitlines() if kind == "sh" else ()
    yield from (line.strip() for line in FENCE.sub("", text).splitlines() if line.startswith("    "))


def forms(line: str) -> Iterator[str]:
    """A command in its shortest form and with all that may be added: the pages write [--json], a|b and ID ..."""
    words = re.split(r" #|&&|  ", line)[0].strip()
    for form in (re.sub(r"\[[^\]]*\]", "", words), re.sub(r"[\[\]]", "", words)):
        yield re.sub(r"(\w+)(\|\w+)+", r"\1", form.replace("...", "")).replace("--days N", "--days 1").strip()


COMMANDS = {
    f"{page}: {form}": shlex.split(form)
    for page, text in PAGES.items()
    for line in lines(text)
    if (found := COMMAND.match(line))
    for form in forms(found[1])
}
NAMED = {form for text in PAGES.values() for words in INLINE.findall(text) for form in forms(words)}


def refusal(words: list[str]) -> str:
    """What the command line says against it; "" for nothing."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parser().parse_args(words)
    except SystemExit:
        return said.getvalue()
    return ""


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_command_is_one(words: list[str]) -> None:
    assert refusal(words) == ""


@pytest.mark.parametrize("words", sorted(NAMED))
def test_a_command_that_is_named_in_passing_is_one(words: str) -> None:
    """It may be named without what must follow."""
    found = refusal(shlex.split(words))
    assert not found or "the following arguments are required" in found


# --- bodies -----------------------------------------------------------------------------------------------------------

BODIES: dict[str, Any] = {  # a block's page and place there -> what reads it; None: another test does
    "README.md 0": ReplyRequest,
    "README.md 1": None,  # an answer: below
    "docs/crm.md 0": None, "docs/crm.md 1": None, "docs/crm.md 2": None,  # tests/test_crm.py
    "docs/tickets.md 0": asks.ViewRequest,
}  # fmt: skip


def bodies() -> dict[str, str]:
    """Every block of JSON by its page and place."""
    return {
        f"{page} {index}": told
        for page, text in PAGES.items()
        for index, told in enumerate(told for kind, told in FENCE.findall(text) if kind == "json")
    }


def values(told: str) -> Iterator[Any]:
    """The JSON values of a block, one behind the other."""
    decoder, rest = json.JSONDecoder(), told.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        yield value
        rest = rest[end:].lstrip()


def test_every_body_is_read_by_something() -> None:
    assert set(bodies()) == set(BODIES)


@pytest.mark.parametrize("place", [place for place, kind in BODIES.items() if kind is not None])
def test_a_body_is_what_the_api_takes(place: str) -> None:
    for value in values(bodies()[place]):
        msgspec.convert(value, BODIES[place])


def test_the_answer_to_a_dry_run_is_shown_whole() -> None:
    (value,) = values(bodies()["README.md 1"])
    msgspec.convert(value, types.DryRun)
    assert set(value) == set(types.DryRun.__struct_fields__)


def curls() -> list[list[str]]:
    found = [told for told in blocks("sh").values() if told.startswith("curl") and "$GATEWAY" in told]
    return [shlex.split(told.replace("\\\n", " ")) for told in found]


@pytest.mark.parametrize("words", curls(), ids=lambda words: words[3])
def test_a_call_is_one_of_the_api(words: list[str]) -> None:
    method, target = words[2], words[3].removeprefix("$GATEWAY").replace("$TICKET", "{id}")
    path, _, query = target.partition("?")
    route = next(route for route in ROUTES if (route.method, route.path) == (method, path))
    assert {pair.partition("=")[0] for pair in filter(None, query.split("&"))} <= {one.name for one in route.params}
    msgspec.convert(json.loads(words[words.index("-d") + 1]), route.body)


MENTIONED = re.compile(r"\b(GET|POST|PUT|PATCH|DELETE)[ \n]+(/api/v1/[\w{}/-]+)")


def test_every_call_a_page_names_is_there() -> None:
    known = {(route.method, re.sub(r"\{\w+\}", "ID", route.path)) for route in ROUTES} | {("GET", "/api/v1/events")}
    named = {
        (method, re.sub(r"\{\w+\}", "ID", path)) for text in PAGES.values() for method, path in MENTIONED.findall(text)
    }
    assert named - known == set()


# --- Python -----------------------------------------------------------------------------------------------------------


def test_the_rule_of_the_example_is_one() -> None:
    (told,) = (told for name, told in blocks("python").items() if name.startswith("outbox/"))
    space: dict[str, Any] = {}
    exec(compile(told, "outbox/README.md", "exec"), space)
    assert spec_of(space["curfew"]).source == "the town council"
    facts = msgspec.structs.replace(FACTS, now=FACTS.now.replace(hour=23))
    assert (space["curfew"](NOTE, FACTS), space["curfew"](NOTE, facts).remedy) == (ALLOW, "wait until the morning")


@pytest.mark.parametrize("told", blocks("python").values(), ids=blocks("python"))
def test_python_is_python(told: str) -> None:
    compile(told, "page", "exec")
