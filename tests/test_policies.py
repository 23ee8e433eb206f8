"""The operator's word on rules: three layers, faults by their place, what may be switched off, rules of packages."""

from __future__ import annotations

import json
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace
from sqlalchemy import update

from adapters import Http
from adapters._load import find
from adapters._media import MediaClient
from config import settings as configuration
from config.settings import ConfigError, Settings
from gateway import cli, loading, replies
from gateway.accounts import Accounts
from gateway.policies import Policies
from gateway.replies import Denied, ReplyRequest, Submitted
from gateway.store import schema
from gateway.tickets import Actor
from outbox.judge import judge
from outbox.policy import Policy
from outbox.rules import RULES, load_rules, spec_of, specs
from outbox.rules.permission import loop_guard
from outbox.rules.settings import (
    LoopGuardSettings,
    MediaSettings,
    OptOutSettings,
    PaceSettings,
    PartsSettings,
    QuietHoursSettings,
    TextLengthSettings,
    WindowSettings,
)
from outbox.rules.windows import window
from outbox.verdict import ALLOW, Verdict
from tests.pigeon import PIGEON, START, world
from tests.test_rules import DAY, FACTS, NOTE, TICK

AGENT = Actor("agent", "u1", "Bo")
ACCOUNT = """
[[accounts]]
id = "sms-a"
adapter = "sms"
account_sid = "AC1"
auth_token = "t"
number = "+12025550100"
"""
OTHER = ACCOUNT.replace("sms-a", "sms-b").replace("0100", "0101")


def read(text: str) -> Settings:
    found = find()
    return configuration.parse(tomllib.loads(text), loading.settings_types(found))


async def bind(settings: Settings) -> Accounts:
    async with aiohttp.ClientSession() as session:
        media = MediaClient(allow_private=False, max_bytes=1)
        try:
            return loading.bind(settings, find(), lambda hosts: Http(session, hosts, media))
        finally:
            await media.aclose()


async def test_the_nearer_word_goes_before_the_wider_one() -> None:
    accounts = await bind(
        read(f"""
        [rules]
        off = ["quiet_hours", "template"]
        [rules.quiet_hours]
        hours = "09:00-18:00"
        countries = {{ DE = "08:00-20:00", FR = "10:00-20:00" }}
        [rules.loop_guard]
        per_hour = 3
        per_day = 9
        [channels.sms.rules]
        on = ["quiet_hours"]
        quiet_hours = {{ countries = {{ FR = "10:00-19:00" }} }}
        loop_guard = {{ per_hour = 2 }}
        [channels.sms.rules.text_length]
        segment_max = 2
        {ACCOUNT}
        [accounts.rules.loop_guard]
        per_day = 5
        {OTHER}
        """)
    )
    a, b, api = (accounts.policy(*place) for place in (("sms-a", "sms"), ("sms-b", "sms"), ("api", "api")))
    assert (sorted(a.off), sorted(api.off)) == (["template"], ["quiet_hours", "template"])
    assert [policy.of(LoopGuardSettings) for policy in (a, b, api)] == [
        LoopGuardSettings(2, 5), LoopGuardSettings(2, 9), LoopGuardSettings(3, 9),
    ]  # fmt: skip
    assert a.of(QuietHoursSettings).countries == {"DE": "08:00-20:00", "FR": "10:00-19:00"}
    channel = accounts.channel("sms-a", "sms")
    assert channel is not None
    assert channel.limits.segment_max == 2


FAULTS: dict[str, tuple[str, list[str]]] = {  # configuration -> faults
    "no such rule": ("[rules.curfew]\nx = 1", ["rules.curfew: no rule of this name; there are account"]),
    "no such setting": (
        "[rules.loop_guard]\nper_week = 1",
        ["rules.loop_guard.per_week: unknown setting; known are per_day, per_hour"],
    ),
    "of a wrong type": ("[rules.loop_guard]\nper_day = 'x'", ["rules.loop_guard.per_day: must be a whole number"]),
    "too small": ("[rules.window]\nmargin_s = -1", ["rules.window.margin_s: must be at least 0"]),
    "a rule without settings": ("[rules.account]\nx = 1", ["rules.account: the rule has no settings"]),
    "no table": ("[rules]\nwindow = 5", ["rules.window: must be a table"]),
    "off is no list": ("[rules]\noff = 'window'", ["rules.off: must be a list of names"]),
    "off names no rule": ("[rules]\noff = ['x']", ["rules.off[0]: no rule named 'x'; there are account"]),
    "no such channel": ("[channels.pager.rules]\noff = []", ["channels.pager: no channel of this name; there are"]),
    "something else of a channel": (
        "[channels.sms]\ntext_max = 3", ["channels.sms.text_max: unknown setting; known are rules"],
    ),
    "in a channel": (
        "[channels.sms.rules.media]\nmax_bytes = 0", ["channels.sms.rules.media.max_bytes: must be at least 1"],
    ),
    "in an account": (
        ACCOUNT + "[accounts.rules]\noff = ['opt_out']",
        ["accounts[0].rules.off[0]: opt_out cannot be switched off: who opted out is left alone: it is the law"],
    ),
    "hours nobody can read": (
        "[rules.quiet_hours.countries]\nDE = '8 to 9'",
        ["rules.quiet_hours.countries.DE: '8 to 9' is not like 08:00-21:00"],
    ),
    "hours of no country": (
        "[rules.quiet_hours.countries]\nTexas = '08:00-20:00'",
        ["rules.quiet_hours.countries.Texas: not an ISO 3166 code of a country or state, such as US or US-TX"],
    ),
    "no such zone": (
        "[rules.quiet_hours]\ndefault_zone = 'Mars/Base'",
        ["rules.quiet_hours.default_zone: no time zone is named 'Mars/Base'"],
    ),
    "two at once": (
        "[rules]\noff = ['window', 'blocked']",
        ["rules.off[0]: window cannot be switched off", "rules.off[1]: blocked cannot be switched off"],
    ),
    "a chain without steps": ("[[fallback]]\nsteps = []", ["fallback[0].steps: is empty"]),
    "a step that is nothing": (
        "[[fallback]]\nsteps = [{}]", ['fallback[0].steps[0]: exactly one of "channel" and "template" must be given'],
    ),
    "a step to nowhere": (
        ACCOUNT + "[[fallback]]\nsteps = [{ channel = 'pager' }]",
        ["fallback[0].steps[0].channel: no account serves 'pager'"],
    ),
    "a chain of nobody": (
        ACCOUNT + "[[fallback]]\naccount = 'x'\nsteps = [{ channel = 'sms' }]", ["fallback[0].account: no account 'x'"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "faults"), FAULTS.values(), ids=FAULTS)
async def test_faults_name_their_place(text: str, faults: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        await bind(read(text))
    found = list(map(str, error.value.faults))
    assert len(found) == len(faults)
    assert all(told.startswith(fault) for told, fault in zip(found, faults, strict=True)), found


def test_what_law_and_platforms_settle_cannot_be_switched_off() -> None:
    kept = {spec.name for spec in specs(RULES) if spec.kept}
    assert {"opt_out", "blocked", "window", "account", "closed_ticket"} <= kept
    assert {spec.name for spec in specs(RULES)} - kept == {"template", "quiet_hours", "duplicate"}


def test_every_built_in_rule_is_declared() -> None:
    for spec in specs(RULES):
        assert spec.what.endswith("."), spec.name
        assert spec.may, spec.name
        assert spec.kept != "the rule does not declare that it may be", spec.name
        if spec.settings is not None:
            spec.settings()


# --- what the values do -----------------------------------------------------------------------------------------------


def test_a_margin_closes_the_window_early() -> None:
    policy = Policy(settings={WindowSettings: WindowSettings(60)})
    facts = replace(FACTS, channel=policy.on(PIGEON))
    edge = START + DAY - timedelta(seconds=60)
    assert window(NOTE, replace(facts, now=edge - TICK)) == ALLOW
    verdict = window(NOTE, replace(facts, now=edge))
    assert isinstance(verdict, Verdict)
    assert (verdict.decision, verdict.until) == ("deny", START + DAY)  # the platform's limit
    assert verdict.reason == "the window ends within the 60 s kept as a margin"
    row: Any = {"opened_at": int(START.timestamp() * 1_000_000), "window_used": 0, "allowed_until": None}
    state = replies.window(policy.on(PIGEON), row, edge)
    assert (state.open, state.until) == (False, START + DAY)


def test_limits_paces_and_words_stand_in_the_place_of_the_adapters() -> None:
    settings: list[Any] = [
        TextLengthSettings(50, 3, False), MediaSettings(2000, 7000), PartsSettings(2, 10),
        PaceSettings(2.5, 6, 3, 100), OptOutSettings(stop=("Halt ",), start=("los",), help=("Was?",)),
    ]  # fmt: skip
    channel = Policy(settings={type(entry): entry for entry in settings}).on(PIGEON)
    limits, pace, words = channel.limits, channel.pace, channel.keywords
    assert (limits.text_max, limits.segment_max, limits.split) == (50, None, False)  # segments are for SMS
    assert ([rule.max_bytes for rule in limits.media], limits.total_bytes) == ([1000, 1000, 2000], 7000)
    assert (limits.files_per_message, limits.caption_max) == (2, 10)
    assert (pace.per_second, pace.pair_seconds, pace.pair_burst, pace.daily) == (2.5, 6, 3, 100)
    assert [sorted(found) for found in (words.stop, words.start, words.help)] == [["halt"], ["los"], ["was?"]]
    assert Policy(settings={TextLengthSettings: TextLengthSettings()}).on(PIGEON) == PIGEON


def test_counts_of_automatic_messages() -> None:
    policy = Policy(settings={LoopGuardSettings: LoopGuardSettings(per_hour=1, per_day=2)})
    facts = replace(FACTS, policy=policy, automatic=True)
    assert loop_guard(NOTE, facts).decision == "allow"
    assert loop_guard(NOTE, replace(facts, automatic_hour=1, automatic_day=1)).decision == "deny"
    assert loop_guard(NOTE, replace(facts, automatic_hour=0, automatic_day=2)).decision == "deny"


def test_a_rule_switched_off_is_not_asked() -> None:
    facts = replace(FACTS, policy=Policy(frozenset({"window"})), opened_at=None)
    assert judge(NOTE, facts).decision == "allow"
    assert judge(NOTE, replace(facts, policy=Policy())).decision == "deny"


async def test_parts_are_numbered_on_demand(tmp_path: Path) -> None:
    settings = {TextLengthSettings: TextLengthSettings(text_max=40, counter=True)}
    async with world(tmp_path, policy=Policy(settings=settings)) as loft:
        ticket = await loft.ticket()
        answer = await replies.submit(loft.core, ticket, ReplyRequest(text="word " * 12), AGENT)
        assert isinstance(answer, Submitted)
        await loft.run(loft.dispatcher())
        assert [sent.payload["text"][:6] for sent in loft.platform.sends] == ["(1/2) ", "(2/2) "]


async def test_automatic_messages_are_counted_by_person_whatever_the_channel(tmp_path: Path) -> None:
    async with world(tmp_path, policy=Policy(settings={LoopGuardSettings: LoopGuardSettings(2, 3)})) as loft:
        first, second, other = [await loft.ticket(channel) for channel in ("open", "keyed", "open")]
        contact = (await loft.rows(schema.tickets, schema.tickets.c.id == first))[0].contact_id
        for table in (schema.tickets, schema.identities):
            named = table.c.channel == "keyed"
            await loft.execute(update(table).where(named).values(contact_id=contact))

        async def automatic(ticket: str) -> bool:
            """Whether one more passes; it has left then."""
            answer = await replies.submit(loft.core, ticket, ReplyRequest(text="Hi"), AGENT, automatic="generated")
            await loft.run(loft.dispatcher())
            return isinstance(answer, Submitted)

        assert [await automatic(first), await automatic(second), await automatic(first)] == [True, True, False]
        assert await automatic(other)  # somebody else
        loft.clock.forward(hours=1)
        assert [await automatic(second), await automatic(first)] == [True, False]  # three within a day
        loft.clock.forward(hours=24)
        assert await automatic(first)
        agents = [await replies.submit(loft.core, first, ReplyRequest(text="Hi"), AGENT) for _ in range(4)]
        assert all(isinstance(answer, Submitted) for answer in agents)


# --- rules of other packages ------------------------------------------------------------------------------------------

PACKAGE = '''
"""Nobody writes to anybody after curfew."""
from dataclasses import dataclass
from outbox.rules import rule
from outbox.verdict import ALLOW, deny

@dataclass(frozen=True, slots=True)
class Curfew:
    hour: int = 22

@rule("deny", source="the town council", settings=Curfew)
def nightly(message, facts):
    """No pigeon flies after curfew."""
    if facts.now.hour < facts.policy.of(Curfew).hour:
        return ALLOW
    return deny("curfew", "the pigeons sleep", "wait until the morning")

def plain(message, facts):
    """Nobody shouts."""
    return deny("calm", "the text shouts") if message.text.isupper() else ALLOW
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package with two rules, installed as an installer leaves it."""
    site = tmp_path / "site"
    about = site / "pigeon_curfew-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "pigeon_curfew.py").write_text(PACKAGE, "utf-8")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: pigeon-curfew\nVersion: 1.0\n", "utf-8")
    (about / "entry_points.txt").write_text(
        textwrap.dedent("""
        [channel_gateway.rules]
        curfew = pigeon_curfew:nightly
        calm = pigeon_curfew:plain
        """),
        "utf-8",
    )
    monkeypatch.syspath_prepend(site)
    load_rules.cache_clear()
    yield
    load_rules.cache_clear()
    sys.modules.pop("pigeon_curfew", None)


@pytest.mark.usefixtures("package")
async def test_a_rule_of_a_package_works_like_a_built_in_one(tmp_path: Path) -> None:
    rules = load_rules()
    curfew = next(spec for spec in specs(rules) if spec.name == "curfew")
    assert (curfew.origin, curfew.kept, curfew.what) == ("pigeon-curfew", "", "No pigeon flies after curfew.")
    assert [spec.name for spec in specs(rules)].index("curfew") < [spec.name for spec in specs(rules)].index("media")
    policies = Policies(read("[rules]\noff = ['calm']\n[rules.curfew]\nhour = 11" + ACCOUNT), rules, ["sms"])
    assert policies.faults == []
    policy = policies.of(read(ACCOUNT).accounts[0], "sms")
    async with world(tmp_path, policy=policy) as loft:
        ticket = await loft.ticket()
        answer = await replies.submit(loft.core, ticket, ReplyRequest(text="HELLO"), AGENT)  # it is noon
        assert isinstance(answer, Denied)
        assert [(verdict.rule, verdict.remedy, verdict.source) for verdict in answer.verdicts] == [
            ("curfew", "wait until the morning", "the town council")
        ]


@pytest.mark.usefixtures("package")
def test_faults_in_its_settings_are_named_too() -> None:
    (fault,) = Policies(read("[rules.curfew]\nhour = 'x'"), load_rules(), []).faults
    assert str(fault) == "rules.curfew.hour: must be a whole number"


@pytest.mark.usefixtures("package")
def test_the_command_lists_it(capsys: pytest.CaptureFixture[str]) -> None:
    class Parsed:
        json = True

    assert cli.channels(Parsed()) == 0  # type: ignore[arg-type]
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["rules"]}
    assert listed["curfew"]["settings"] == {"hour": 22}
    assert (listed["calm"]["origin"], listed["calm"]["switchable"]) == ("pigeon-curfew", True)
    assert listed["opt_out"]["switchable"] is False
    Parsed.json = False
    assert cli.channels(Parsed()) == 0  # type: ignore[arg-type]
    assert "curfew" in capsys.readouterr().out


@pytest.mark.usefixtures("package")
def test_what_is_no_plain_function_is_no_rule(tmp_path: Path) -> None:
    (tmp_path / "site" / "pigeon_curfew.py").write_text(PACKAGE.replace("def plain", "async def plain"), "utf-8")
    with pytest.raises(ValueError, match="the rule 'calm' of pigeon-curfew is no plain function"):
        load_rules()


def test_a_plain_function_is_a_rule_that_stays() -> None:
    def calm(message: Any, facts: Any) -> Any:
        """Nobody shouts."""
        return ALLOW

    assert (spec_of(calm).name, spec_of(calm).what, bool(spec_of(calm).kept)) == ("calm", "Nobody shouts.", True)
