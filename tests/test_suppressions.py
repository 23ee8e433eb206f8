"""The suppression list: what gets on it, what it holds back, who may pass over it, and how it is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters import Channel, Limits, Pace
from adapters.sandbox.smtp import Delivered
from normalizers.model import Address, MailHeaders, OutboundMessage
from outbox.detours import goes_on
from outbox.facts import Facts, Suppressed, TemplateFacts
from outbox.judge import judge
from outbox.rules import CLASS_OF_RULE
from outbox.rules.suppression import suppression
from tests.e2e.test_email import reply_to
from tests.support.world import ANN as PHONE
from tests.support.world import SUPPORT, World, eventually, shown

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ANN, BOB = "ann@customer.test", "bob@customer.test"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World.open(tmp_path) as opened:
        yield opened


# --- the rule ---------------------------------------------------------------------------------------------------------

MESSAGE = OutboundMessage(
    id="m", key="k", account="a", channel="post", to=(Address("post", "email", "Ann@Customer.test"),), text="Hi",
    mail=MailHeaders(subject="S", message_id="<m@x>", cc=("Bob@customer.test", "eve@customer.test")),
)  # fmt: skip
CHANNEL = Channel("post", "Post", Limits(100, "x"), Pace(1, "x"))


def word(message: OutboundMessage = MESSAGE, *entries: Suppressed, automatic: bool = False) -> str:
    facts = Facts(now=NOW, channel=CHANNEL, suppressed=entries, automatic=automatic)
    return judge(message, facts, (suppression,)).decision


MARKETING = msgspec.structs.replace(MESSAGE, purpose="marketing")
OVERRIDDEN = msgspec.structs.replace(MESSAGE, overrides=("suppression",))
WORDS: dict[str, tuple[str, OutboundMessage, tuple[Suppressed, ...], bool]] = {
    "not listed": ("allow", MESSAGE, (), False),
    "listed": ("deny", MESSAGE, (Suppressed(ANN),), False),
    "only marketing, a reply": ("allow", MESSAGE, (Suppressed(ANN, "marketing"),), False),
    "only marketing, marketing": ("deny", MARKETING, (Suppressed(ANN, "marketing"),), False),
    "only automatic, a person's": ("allow", MESSAGE, (Suppressed(ANN, "automatic"),), False),
    "only automatic, a machine's": ("deny", MESSAGE, (Suppressed(ANN, "automatic"),), True),
    "a copy": ("change", MESSAGE, (Suppressed(BOB),), False),
    "passed over by a person": ("allow", OVERRIDDEN, (Suppressed(ANN),), False),
    "a machine passes over nothing": ("deny", OVERRIDDEN, (Suppressed(ANN),), True),
    "nor does marketing": (
        "deny", msgspec.structs.replace(OVERRIDDEN, purpose="marketing"), (Suppressed(ANN),), False
    ),
}  # fmt: skip


@pytest.mark.parametrize(("decision", "message", "entries", "automatic"), WORDS.values(), ids=WORDS)
def test_the_rule(decision: str, message: OutboundMessage, entries: tuple[Suppressed, ...], automatic: bool) -> None:
    assert word(message, *entries, automatic=automatic) == decision


def test_a_copy_is_left_out_and_the_others_stay() -> None:
    facts = Facts(now=NOW, channel=CHANNEL, suppressed=(Suppressed(BOB),))
    (part,) = judge(MESSAGE, facts, (suppression,)).parts
    assert part.mail is not None
    assert part.mail.cc == ("eve@customer.test",)


def test_a_refusal_tells_why_and_until_when() -> None:
    until = NOW + timedelta(days=3)
    entry = Suppressed(ANN, "all", "bounce", "550 5.1.1 gone", int(until.timestamp() * 1_000_000))
    (verdict,) = judge(MESSAGE, Facts(now=NOW, channel=CHANNEL, suppressed=(entry,)), (suppression,)).verdicts
    assert verdict.reason == f"{ANN} is on the suppression list: mail to it came back (550 5.1.1 gone)"
    assert verdict.until == until
    assert '"override": ["suppression"]' in verdict.remedy


def test_another_channel_may_be_tried() -> None:
    judgment = judge(MESSAGE, Facts(now=NOW, channel=CHANNEL, suppressed=(Suppressed(ANN),)), (suppression,))
    assert goes_on(judgment)
    assert CLASS_OF_RULE["suppression"] == "bad-recipient"


def test_a_template_that_sells_is_marketing() -> None:
    listed = (Suppressed(ANN, "marketing"),)
    facts = Facts(now=NOW, channel=CHANNEL, suppressed=listed, template=TemplateFacts("sale", category="MARKETING"))
    assert judge(MESSAGE, facts, (suppression,)).decision == "deny"


# --- fed by itself ----------------------------------------------------------------------------------------------------


async def listed(world: World, **params: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await world.api.get("suppressions", **params))["items"]
    return items


async def test_a_bounce_for_good_keeps_further_mail_back(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    mail = await reply_to(world, ticket, "Hi")
    await world.mail.bounce(world.smtp_port, mail)
    await world.api.until("suppressions", lambda page: page["items"])
    (entry,) = await listed(world)
    assert shown(entry, "channel", "address", "scope", "reason", "expires_at") == ("email", ANN, "all", "bounce", None)
    assert entry["detail"].startswith("5.1.1 550 5.1.1 no such user")
    answer = await world.api.reply(ticket, "Hello again")
    assert (answer.status, answer.rules) == (422, ["suppression"])
    log = await world.api.log(ticket)
    assert (log[-1]["kind"], log[-1]["data"]["rule"]) == ("reply.refused", "suppression")
    await world.api.replied(ticket, "All the same", override=["suppression"])
    await eventually(lambda: len(world.mail.sends) == 2)
    queued = [line for line in await world.api.log(ticket) if line["kind"] == "reply.queued"]
    assert queued[-1]["data"]["overridden"] == ["suppression"]


async def test_only_a_person_passes_over_the_list(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    answer = await world.api.reply(ticket, "Hi", override=["suppression"], author={"type": "bot", "name": "B"})
    assert (answer.status, answer.json["field"]) == (422, "override")
    answer = await world.api.reply(ticket, "Hi", override=["window"])
    assert answer.status == 422


async def test_a_disabled_mailbox_counts_to_three(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    world.mail.refuse(ANN, "550 5.2.1 mailbox disabled")
    for _ in range(2):
        await world.api.settled(await world.api.replied(ticket, "Hi"), "failed")
        assert await listed(world) == []
    await world.api.settled(await world.api.replied(ticket, "Hi"), "failed")
    (entry,) = await listed(world)
    expires = datetime.fromisoformat(entry["expires_at"])
    assert timedelta(days=179) < expires - datetime.now(UTC) < timedelta(days=181)
    assert (await world.api.reply(ticket, "Hi")).rules == ["suppression"]
    world.clock.ahead = timedelta(days=200)
    world.mail.refuse(ANN, "")
    assert await listed(world) == []
    await world.api.settled(await world.api.replied(ticket, "Are you back?"), "sent")


async def test_a_full_mailbox_and_spam_are_no_reason(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    for answer in ("552 5.2.2 full", "550 5.7.1 spam"):
        world.mail.refuse(ANN, answer)
        for _ in range(4):
            await world.api.settled(await world.api.replied(ticket, "Hi"), "failed")
    assert await listed(world) == []


async def test_one_refused_among_several_is_shown_and_left_alone(world: World) -> None:
    await world.mailed(ANN, cc=[BOB])
    ticket = await world.api.ticket()
    world.mail.refuse(BOB)
    message = await world.api.replied(ticket, "Hello both")
    detail = await world.api.settled(message, "sent")
    (receipt,) = detail["receipts"]
    assert shown(receipt, "status", "recipient", "applied") == ("failed", BOB, False)
    assert receipt["error"]["code"] == "550 5.1.1"
    assert BOB in detail["attempts"][0]["detail"]
    assert [entry["address"] for entry in await listed(world)] == [BOB]
    again = await reply_to(world, ticket, "Hello", 2)
    assert again.recipients == (ANN,)


async def test_a_report_about_somebody_else_is_not_believed(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    mail = await reply_to(world, ticket, "Hi")
    await world.mail.bounce(world.smtp_port, mail, recipient="victim@elsewhere.test")
    await world.mailed(BOB)
    await world.api.items("tickets", 2)
    assert await listed(world) == []


COMPLAINT = (
    "From: fbl@provider.test\r\nTo: {to}\r\nSubject: complaint\r\nMIME-Version: 1.0\r\n"
    'Content-Type: multipart/report; report-type=feedback-report; boundary="r"\r\n\r\n'
    "--r\r\nContent-Type: text/plain\r\n\r\nA complaint\r\n"
    "--r\r\nContent-Type: message/feedback-report\r\n\r\n"
    "Feedback-Type: abuse\r\nUser-Agent: x\r\nVersion: 1\r\nOriginal-Rcpt-To: {who}\r\n"
    "--r\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <{id}>\r\n--r--\r\n"
)


async def test_a_complaint_ends_what_machines_send(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    mail = await reply_to(world, ticket, "Hi")
    made_up = COMPLAINT.format(to=SUPPORT, who="stranger@customer.test", id="<1@made.up>").encode()
    await world.mail.hand_over(world.smtp_port, "anybody@elsewhere.test", [SUPPORT], made_up)  # says nothing of anybody
    raw = COMPLAINT.format(to=SUPPORT, who=ANN, id=mail.message_id).encode()
    await world.mail.hand_over(world.smtp_port, "fbl@provider.test", [SUPPORT], raw)
    await world.api.until("suppressions", lambda page: len(page["items"]) == 2)
    assert {shown(entry, "address", "scope", "reason") for entry in await listed(world)} == {
        (ANN, "automatic", "complaint"), (ANN, "marketing", "complaint"),
    }  # fmt: skip
    body = {"account": "mail", "to": ANN, "subject": "News", "text": "Buy!", "purpose": "marketing"}
    answer = await world.api.call("POST", "messages", json=body)
    assert answer.status == 422
    assert "suppression" in answer.rules
    await reply_to(world, ticket, "We are sorry", 2)


PAYLOADS = Path(__file__).parent / "channels" / "payloads" / "email"


def report(name: str, mail: Delivered) -> bytes:
    """A kept report as it would come on a mail of ours."""
    raw = (PAYLOADS / name).read_bytes()
    assert b"t.abc@shop.test" in raw
    return raw.replace(b"t.abc@shop.test", mail.message_id.encode())


async def test_a_bounce_as_servers_write_it(world: World) -> None:
    await world.mailed("gone@customer.test", cc=["late@customer.test"])
    ticket = await world.api.ticket()
    mail = await reply_to(world, ticket, "Hi")
    await world.mail.hand_over(world.smtp_port, "", [SUPPORT], report("bounce.eml", mail))
    await world.api.until("suppressions", lambda page: page["items"])
    (entry,) = await listed(world)  # the copy is only late
    assert shown(entry, "address", "scope", "reason") == ("gone@customer.test", "all", "bounce")
    assert (await world.api.reply(ticket, "Again")).rules == ["suppression"]


async def test_the_same_bounce_on_nothing_of_ours_is_put_aside(world: World) -> None:
    await world.mailed("gone@customer.test")
    ticket = await world.api.ticket()
    await reply_to(world, ticket, "Hi")
    raw = (PAYLOADS / "bounce.eml").read_bytes()
    await world.mail.hand_over(world.smtp_port, "", [SUPPORT], raw)
    await world.mailed(BOB)
    await world.api.items("tickets", 2)
    assert await listed(world) == []


async def test_a_complaint_as_providers_write_it(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    mail = await reply_to(world, ticket, "Hi")
    await world.mail.hand_over(world.smtp_port, "feedback@provider.test", [SUPPORT], report("complaint.eml", mail))
    await world.api.until("suppressions", lambda page: len(page["items"]) == 2)
    assert {entry["scope"] for entry in await listed(world, address=ANN)} == {"automatic", "marketing"}


# --- kept by hand -----------------------------------------------------------------------------------------------------


async def test_by_hand_over_the_api(world: World) -> None:
    made = await world.api.post(
        "suppressions", {"channel": "email", "address": " Ann@CUSTOMER.test ", "reason": "asked"}
    )
    assert shown(made, "address", "scope", "reason", "detail", "created_by", "expires_at") == (
        ANN, "all", "manual", "asked", "tests", None,
    )  # fmt: skip
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    assert (await world.api.reply(ticket, "Hi")).rules == ["suppression"]
    assert [entry["id"] for entry in await listed(world, channel="email", address="ANN@customer.test")] == [made["id"]]
    assert await listed(world, channel="sms") == []
    assert (await world.api.call("DELETE", f"suppressions/{made['id']}")).status == 204
    assert (await world.api.call("DELETE", f"suppressions/{made['id']}")).status == 404
    await world.api.replied(ticket, "Hi")


async def test_any_channel_and_a_given_end(world: World) -> None:
    until = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    made = await world.api.post("suppressions", {"channel": "sms", "address": "+1 555 010 0001", "expires_at": until})
    assert made["address"] == PHONE
    body = {"channel": "sms", "to": PHONE, "text": "Hi"}
    answer = await world.api.call("POST", "messages", json=body)
    assert answer.rules == ["suppression"]
    assert answer.json["verdicts"][0]["until"].startswith(until[:16])
    world.clock.ahead = timedelta(hours=3)
    assert (await world.api.call("POST", "messages", json=body)).status == 202


MAIL = {"channel": "email", "address": ANN}
BAD = {
    "no channel": ({"channel": "fax", "address": ANN}, "unknown_channel", "channel"),
    "no address": ({"channel": "email", "address": "nobody"}, "invalid_body", "address"),
    "the past": (MAIL | {"expires_at": "2020-01-01T00:00:00Z"}, "invalid_body", "expires_at"),
    "no offset": (MAIL | {"expires_at": "2050-01-01T00:00:00"}, "invalid_body", "expires_at"),
    "a scope of one's own": (MAIL | {"scope": "some"}, "invalid_body", "scope"),
}


async def test_what_the_api_refuses(world: World) -> None:
    for name, (body, code, field) in BAD.items():
        answer = await world.api.call("POST", "suppressions", json=body)
        assert (answer.status, answer.json["code"], answer.json["field"]) == (422, code, field), name


async def test_a_key_limited_to_accounts_has_no_part_in_it(world: World) -> None:
    from gateway.control import create_key
    from tests.support.api import Api

    key = await create_key(world.gateway.core, {"name": "one", "scope": "admin", "accounts": ["mail"]})
    api = Api(world.gateway.address, key["key"])
    answers = [
        await api.call("GET", "suppressions"),
        await api.call("POST", "suppressions", json={"channel": "email", "address": ANN}),
        await api.call("DELETE", f"suppressions/{'0' * 32}"),
    ]
    await api.close()
    assert [answer.status for answer in answers] == [403, 403, 403]


async def test_by_hand_on_the_command_line(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    from gateway import cli
    from gateway.__main__ import parser

    async def run(*arguments: str) -> tuple[int, str]:
        parsed = parser().parse_args(["suppressions", *arguments, "--config", str(world.file)])
        code = await cli.suppressions(parsed)
        return code, capsys.readouterr().out

    code, out = await run("add", "email", ANN, "--reason", "asked", "--days", "30")
    assert (code, out.split()[1:5]) == (0, ["email", ANN, "all", "manual"])
    entry_id = out.split()[0]
    assert ANN in (await run("list", "--channel", "email"))[1]
    with pytest.raises(cli.CommandFailed, match="address: "):
        await run("add", "email", "nobody")
    assert await run("drop", entry_id) == (0, "1 dropped\n")
    assert await run("drop", entry_id) == (1, "0 dropped\n")


async def test_what_is_past_its_time_is_removed(world: World) -> None:
    from gateway.retention import Retention
    from gateway.store.schema import suppressions

    until = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    await world.api.post("suppressions", {"channel": "email", "address": ANN, "expires_at": until})
    world.clock.ahead = timedelta(hours=3)
    await Retention(world.gateway.core).step()
    found = await world.gateway.core.database.read(lambda connection: connection.execute(suppressions.select()).all())
    assert found == []
