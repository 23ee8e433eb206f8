"""The configuration's own faults: each is named by its place, and nothing that passes stops the gateway later."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest

from adapters._load import find
from config import settings as configuration
from config.settings import ConfigError
from config.values import number_problem
from gateway import cli_check, loading
from outbox.rules import RULES, specs
from tests.test_policies import ACCOUNT, bind, read

FINITE, YEARS = "must be a finite number", "must be at most 315360000"
NUMBERS: dict[str, tuple[str, list[str]]] = {  # configuration -> faults
    "a rate that is no number": (ACCOUNT + "rate = nan", [f"accounts[0].rate: {FINITE}"]),
    "a rate without an end": (ACCOUNT + "rate = inf", [f"accounts[0].rate: {FINITE}"]),
    "a rate of nothing": (ACCOUNT + "rate = 0", ["accounts[0].rate: must be at least 0.001"]),
    "a rate of everything": (ACCOUNT + "rate = 1e7", ["accounts[0].rate: must be at most 1000000"]),
    "a rate of many digits": (ACCOUNT + f"rate = 1{'0' * 400}", [f"accounts[0].rate: {FINITE}"]),
    "too many tickets": (
        ACCOUNT + f"tickets_per_hour = {10**20}", ["accounts[0].tickets_per_hour: must be at most 1000000000"],
    ),
    "fewer than no tickets": (
        ACCOUNT + "tickets_per_hour = -1", ["accounts[0].tickets_per_hour: must be at least 0"],
    ),
    "a pace in a channel": (
        "[channels.sms.rules.pace]\npair_seconds = 1e13", [f"channels.sms.rules.pace.pair_seconds: {YEARS}"],
    ),
    "a pace": (
        "[rules.pace]\nper_second = nan\npair_seconds = inf\ndaily = 1e23",
        [f"rules.pace.per_second: {FINITE}", f"rules.pace.pair_seconds: {FINITE}",
         "rules.pace.daily: must be a whole number"],
    ),
    "all of a pace": (
        f"[rules.pace]\nper_second = 0\npair_burst = 0\ndaily = {10**23}",
        ["rules.pace.per_second: must be at least 0.001", "rules.pace.pair_burst: must be at least 1",
         "rules.pace.daily: must be at most 1000000000"],
    ),
    "a margin of ages": ("[rules.window]\nmargin_s = 1e30", [f"rules.window.margin_s: {YEARS}"]),
    "a margin that is no number": ("[rules.window]\nmargin_s = nan", [f"rules.window.margin_s: {FINITE}"]),
    "repeats of ages": ("[rules.repeated]\nwithin_s = 1e300", [f"rules.repeated.within_s: {YEARS}"]),
    "limits": (
        "[limits]\nin_flight = -5\ncommit_timeout_s = -1\napi_per_minute = -3\nwebhook_bytes = -1",
        ["limits.webhook_bytes: must be at least 1", "limits.in_flight: must be at least 1",
         "limits.commit_timeout_s: must be at least 0.01", "limits.api_per_minute: must be at least 1"],
    ),
    "retention": (
        "[retention]\nraw_days = 99999999999\nsuspended_days = -3",
        ["retention.raw_days: must be at most 3650", "retention.suspended_days: must be at least 0"],
    ),
    "tickets": (
        "[tickets]\nclose_solved_after = -1\nnew_ticket_when_solved_for = nan",
        [f"tickets.new_ticket_when_solved_for: {FINITE}"],
    ),
    "tickets that close before they are solved": (
        "[tickets]\nclose_solved_after = -1", ["tickets.close_solved_after: must be at least 0"],
    ),
    "mail": (
        f"[smtp]\nmax_bytes = 0\nmax_connections = {10**10}",
        ["smtp.max_bytes: must be at least 1", "smtp.max_connections: must be at most 1000000000"],
    ),
    "files": ("[media]\nmax_bytes = -1", ["media.max_bytes: must be at least 1"]),
    "a port of other digits": ("[gateway]\nlisten = '127.0.0.1:²'", ["gateway.listen: not HOST:PORT"]),
}  # fmt: skip


ENTRY = "[[accounts.templates]]\n"
HELLO = ENTRY + 'name = "hello"\n'
WHOLE = "must be a whole number, or a list of texts"
PLACE = "accounts[0].templates[0]"
TEMPLATES: dict[str, tuple[str, list[str]]] = {  # of an account -> faults
    "not counted in words": (HELLO + 'parameters = "two"', [f"{PLACE}.parameters: {WHOLE}"]),
    "nor by yes and no": (HELLO + "parameters = true", [f"{PLACE}.parameters: {WHOLE}"]),
    "a list of numbers": (HELLO + "parameters = [1]", [f"{PLACE}.parameters: {WHOLE}"]),
    "fewer than none": (HELLO + "parameters = -1", [f"{PLACE}.parameters: must be at least 0"]),
    "an unknown field": (
        HELLO + "foo = 1",
        [f"{PLACE}.foo: unknown setting; known are category, language, name, parameters, sid, status"],
    ),
    "a name that is none": (ENTRY + "name = 5", [f"{PLACE}.name: must be a text"]),
    "an empty name": (ENTRY + "name = ' '", [f"{PLACE}.name: is empty"]),
    "no name": (ENTRY + "language = 'en'", [f"{PLACE}.name: missing"]),
    "a language of its own": (HELLO + f"language = '{'x' * 17}'", [f"{PLACE}.language: at most 16 characters"]),
    "a status nobody knows": (
        HELLO + "status = 'paussed'", [f"{PLACE}.status: must be one of approved, pending, rejected, paused, disabled"],
    ),
    "a category nobody knows": (
        HELLO + "category = 'markting'", [f"{PLACE}.category: must be one of marketing, utility, authentication"],
    ),
    "twice": (
        HELLO + "language = 'en'\n" + HELLO + HELLO + "language = 'en'",
        [f"accounts[0].templates[2].name: 'hello' in 'en' is there already: {PLACE}"],
    ),
    "twice in any language": (
        HELLO + HELLO, [f"accounts[0].templates[1].name: 'hello' is there already: {PLACE}"],
    ),
    "no tables": (
        "templates = ['hello']", ["accounts[0].templates: must be a list of tables: [[accounts[0].templates]]"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "faults"), TEMPLATES.values(), ids=TEMPLATES)
def test_an_entry_of_the_catalogue_is_checked_field_by_field(text: str, faults: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        read(ACCOUNT + text)
    assert list(map(str, error.value.faults)) == faults


def test_what_may_stand_in_the_catalogue() -> None:
    more = "parameters = ['name', 'order']\nstatus = 'PAUSED'\ncategory = 'Marketing'\nlanguage = ''\nsid = 'HX1'\n"
    (account,) = read(ACCOUNT + HELLO + more + HELLO + "language = 'en'\nparameters = 0").accounts
    assert account.templates == (
        {"name": "hello", "parameters": ["name", "order"], "status": "PAUSED", "category": "Marketing", "sid": "HX1"},
        {"name": "hello", "language": "en", "parameters": 0},
    )


@pytest.mark.parametrize(("text", "faults"), NUMBERS.values(), ids=NUMBERS)
async def test_a_number_nobody_can_mean_is_a_fault(text: str, faults: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        await bind(read(text))
    assert list(map(str, error.value.faults)) == faults


def test_the_command_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Parsed:
        config = tmp_path / "gateway.toml"

    Parsed.config.write_text("[rules.window]\nmargin_s = 1e30\n", "utf-8")
    assert cli_check.check(Parsed()) == 2  # type: ignore[arg-type]
    assert capsys.readouterr().err == f"rules.window.margin_s: {YEARS}\n"


MISTYPED = {  # configuration -> (place, what is asked)
    "a section": ("[gatway]", "gatway: unknown section; did you mean gateway? known are accounts, "),
    "a setting": ("[gateway]\nlistn = 'x'", "gateway.listn: unknown setting; did you mean listen? known are "),
    "an account's": (ACCOUNT + "acount_sid = 'x'", "accounts[0].acount_sid: unknown setting; did you mean account_sid"),
    "every account's": (ACCOUNT + "blocklst = []", "accounts[0].blocklst: unknown setting; did you mean blocklist? "),
    "an adapter": (
        "[[accounts]]\nid = 'a'\nadapter = 'facebok'",
        "accounts[0].adapter: no adapter named 'facebok'; did you mean facebook? found are ",
    ),
    "nothing like it": ("[gateway]\ncolour = 'red'", "gateway.colour: unknown setting; known are data_dir, "),
}  # fmt: skip


@pytest.mark.parametrize(("text", "words"), MISTYPED.values(), ids=MISTYPED)
def test_a_name_nobody_knows_is_told_with_the_one_that_was_meant(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(text)
    assert [str(fault)[: len(words)] for fault in error.value.faults] == [words]


def test_a_byte_order_mark_is_no_part_of_what_is_said(tmp_path: Path) -> None:
    file, secret = tmp_path / "gateway.toml", tmp_path / "secret"
    file.write_text("[gateway]\nsecret_key = 'file:secret'\n", "utf-8-sig")
    secret.write_text("0123456789abcdef\n", "utf-8-sig")
    (key,) = configuration.load(file, {}).gateway.secret_key
    assert key.reveal() == "0123456789abcdef"


def test_certificates_that_are_no_ascii_are_a_fault() -> None:
    with pytest.raises(ConfigError) as error:
        read("[[accounts]]\nid = 'm'\nadapter = 'email'\naddress = 'a@b.test'\nsmtp = { host = 'h', ca = 'ä' }")
    assert list(map(str, error.value.faults)) == ["accounts[0].smtp.ca: no certificates in PEM form"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -1, 11])
def test_what_is_not_between(value: float) -> None:
    assert number_problem(value, 0, 10)
    assert not number_problem(None, 0, 10)


KINDS = {
    **{kind.__name__: kind for kind in configuration._SECTIONS.values()},
    **{spec.name: spec.settings for spec in specs(RULES) if spec.settings is not None},
    **loading.settings_types(find()),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_number_has_bounds(kind: type[Any]) -> None:
    """A number without any would be taken as it is: no setting can be as large as this one, or as small."""
    for field in dataclasses.fields(kind):
        words = str(field.type)
        if "int" in words.split(" | ") or "float" in words.split(" | "):
            for value in ("1e40", "-1e40") if "float" in words else (str(10**40), str(-(10**40))):
                table = tomllib.loads(f"{field.name} = {value}")
                reader = configuration._Reader(Path(), {})
                needed = {f.name: "1" for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING
                          and f.default_factory is dataclasses.MISSING}  # fmt: skip
                reader.build(kind, needed | table, "it")
                assert any(fault.key == f"it.{field.name}" for fault in reader.faults), f"{kind.__name__}.{field.name}"
