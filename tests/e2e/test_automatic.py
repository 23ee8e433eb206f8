"""Automatic messages from end to end: who gets one, who must not, what they say; one for each event, whatever comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from config.settings import AutomaticSettings, AutomaticText, ConfigError
from gateway.automatic.manners import objection, status_event
from gateway.automatic.texts import DEFAULTS, EVENTS, say
from gateway.cli import load
from tests.support.world import SUPPORT, World, eventually, shown

ANN, BOB = "ann@customer.test", "bob@customer.test"
ON = "automatic = { created = true, updated = true, solved = true }"
TEXTS = """
automatic = { created = true, solved = true, texts = [
  { event = "created", text = "Got it, {{ ticket.number }}.", subject = "Got it" },
  { event = "created", text = "Angekommen, {{ ticket.number }}.", subject = "Angekommen", language = "de" },
  { event = "solved", text = "{{ contact.name }}: {{ ticket.subject }} is done." },
] }
template = { footer = "Shop Ltd.", header = "Shop" }
"""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World.open(tmp_path, mail_more=ON, sms_more=ON) as opened:
        yield opened


async def thread(world: World, ticket: dict[str, Any], count: int) -> list[dict[str, Any]]:
    return await world.api.messages(ticket, count)


async def quiet(world: World, sends: int) -> None:
    """Nothing more leaves than what already did: whatever a further customer starts is answered after it."""
    await world.mailed("probe@customer.test", subject="Probe")
    await eventually(lambda: any("probe@customer.test" in mail.recipients for mail in world.mail.sends))
    assert len(world.mail.sends) == sends + 1, [mail.recipients for mail in world.mail.sends]


# --- a new ticket -----------------------------------------------------------------------------------------------------


async def test_a_new_ticket_is_acknowledged(world: World) -> None:
    written = await world.mail.customer_writes(
        world.smtp_port, ANN, SUPPORT, name="Buy pills at evil.test", subject="CHEAP PILLS", text="Click evil.test"
    )
    ticket = await world.api.ticket()
    question, answer = await thread(world, ticket, 2)
    assert shown(answer, "direction", "automatic", "purpose") == ("outbound", "created", "transactional")
    assert answer["author"] == {"type": "bot", "id": "", "name": "Shop Support"}
    detail = await world.api.settled(answer, "sent")
    assert [attempt["outcome"] for attempt in detail["attempts"]] == ["sent"]
    (mail,) = world.mail.sends
    assert (mail.sender, mail.recipients) == ("", (ANN,))
    assert mail.headers.get("auto-submitted") == "auto-replied"
    assert mail.headers.get("x-auto-response-suppress") == "All"
    assert mail.headers.get("subject") == "We have received your message"
    assert mail.headers.get("in-reply-to") == f"<{written.message_id}>"
    assert str(ticket["number"]) in mail.text
    for words in ("PILLS", "pills", "evil"):  # nothing of what a stranger wrote goes to whoever he says he is
        assert words not in mail.text + mail.html + mail.headers.get("subject") + mail.headers.get("to")
    assert (await world.api.get(f"tickets/{ticket['id']}"))["status"] == "new"
    assert question["text"] == "Click evil.test"


NEVER: dict[str, dict[str, Any]] = {
    "automatic": {"headers": {"Auto-Submitted": "auto-generated"}},
    "an absence note": {"headers": {"Auto-Submitted": "auto-replied"}, "subject": "Out of office"},
    "a list": {"headers": {"List-Id": "<news.customer.test>"}},
    "bulk": {"headers": {"Precedence": "bulk"}},
    "who asks not to be answered": {"headers": {"X-Auto-Response-Suppress": "All"}},
    "no-reply": {"sender": "no-reply@customer.test"},
    "in blind copy": {"headers": {"To": "somebody@else.test"}},
    "our own mail": {"headers": {"X-Gateway-Loop": "x"}},
}


@pytest.mark.parametrize("mail", NEVER.values(), ids=NEVER)
async def test_no_machine_is_answered(world: World, mail: dict[str, Any]) -> None:
    given = dict(mail)
    sender = given.pop("sender", ANN)
    lines = {"From": sender, "To": SUPPORT, "Subject": "Hello", "Message-ID": "<x1@customer.test>"}
    lines |= {"Subject": given["subject"]} if "subject" in given else {}
    lines |= given.get("headers", {})
    raw = "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\nHello\r\n"
    await world.mail.hand_over(world.smtp_port, sender, [SUPPORT], raw.encode())
    await quiet(world, 0)


async def test_a_mail_from_nobody_is_not_answered(world: World) -> None:
    await world.mail.hand_over(world.smtp_port, "", [SUPPORT], b"From: ann@customer.test\r\nSubject: x\r\n\r\nHi\r\n")
    await quiet(world, 0)


async def test_what_was_put_aside_and_released_is_not_answered_by_a_machine(world: World) -> None:
    lines = {"From": ANN, "To": SUPPORT, "Subject": "Win", "Message-ID": "<x2@customer.test>", "X-Spam-Flag": "YES"}
    raw = "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\nHello\r\n"
    await world.mail.hand_over(world.smtp_port, ANN, [SUPPORT], raw.encode())
    (held,) = (await world.api.until("suspended", lambda page: page["items"]))["items"]
    answer = await world.api.call("POST", f"suspended/{held['id']}/release")
    assert answer.status < 300
    await world.api.ticket()
    await quiet(world, 0)


async def test_the_same_mail_twice_is_acknowledged_once(world: World) -> None:
    written = await world.mail.customer_writes(world.smtp_port, ANN, SUPPORT, subject="Once", text="Hello")
    for _ in range(3):
        await world.mail.hand_over(world.smtp_port, ANN, [SUPPORT], written.raw)
    await world.api.ticket()
    await quiet(world, 1)


async def test_a_crash_between_changes_nothing(world: World) -> None:
    world.mail.fail_next("451")
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    _, answer = await thread(world, ticket, 2)
    await world.api.until(f"messages/{answer['id']}", lambda detail: bool(detail["error"]))
    await world.stop()
    await world.start()
    world.clock.ahead = timedelta(minutes=5)
    _, answer = await thread(world, ticket, 2)
    await world.api.settled(answer, "sent")
    assert len(world.mail.sends) == 1


async def test_two_machines_that_thank_each_other_stop(world: World) -> None:
    for number in range(6):  # each with a new subject, as other help desks do
        await world.mailed(ANN, subject=f"[{number}] We have received your mail", text=f"Thank you {number}")
    await world.api.items("tickets", 6)
    await quiet(world, 3)


async def test_a_colleague_with_a_copy_is_not_told(world: World) -> None:
    await world.mailed(ANN, cc=[BOB])
    await world.api.ticket()
    await eventually(lambda: world.mail.sends)
    assert world.mail.sends[0].recipients == (ANN,)


async def test_the_answer_does_not_go_where_the_sender_points(world: World) -> None:
    await world.mailed(ANN, headers={"Reply-To": "victim@elsewhere.test"})
    await eventually(lambda: world.mail.sends)
    assert world.mail.sends[0].recipients == (ANN,)


# --- later ------------------------------------------------------------------------------------------------------------


async def test_updated_and_solved(world: World) -> None:
    await world.mailed(ANN, subject="Order 12")
    ticket = await world.api.ticket()
    await thread(world, ticket, 2)
    path = f"tickets/{ticket['id']}"
    await world.api.patch(path, assignee="mia", priority="high")  # nothing the customer would see
    await world.api.patch(path, status="pending")
    await world.api.patch(path, status="pending")  # no change, no message
    await world.api.patch(path, status="solved")
    messages = await thread(world, ticket, 4)
    assert [message["automatic"] for message in messages] == ["", "created", "updated", "solved"]
    await eventually(lambda: len(world.mail.sends) == 3)
    solved = world.mail.sends[-1]
    assert solved.headers.get("subject") == "Re: Order 12"
    assert "as solved" in solved.text
    kinds = [line["kind"] for line in await world.api.log(ticket)]
    assert kinds.count("reply.queued") == 3


async def test_what_is_refused_is_counted_whatever_led_to_it(world: World) -> None:
    async def counted() -> float:
        lines = (await world.api.call("GET", "/metrics")).body.decode().splitlines()
        name = 'gateway_refusals_total{channel="email",rule="suppression"} '
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    entry = {"channel": "email", "address": ANN, "scope": "automatic"}
    assert (await world.api.call("POST", "suppressions", json=entry)).status < 300
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    path = f"tickets/{ticket['id']}"
    await world.api.until(f"{path}/events", lambda page: "reply.refused" in str(page))
    async with asyncio.timeout(15):
        while await counted() != 1:  # it is counted once it is durable  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await world.api.patch(path, status="pending")
    assert await counted() == 2
    await world.api.replied(ticket, "Done", status="solved")
    assert await counted() == 3
    await world.api.post("tickets/bulk", {"ids": [ticket["id"]], "changes": {"status": "pending"}})
    assert await counted() == 4


async def test_a_reply_tells_by_itself(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    await thread(world, ticket, 2)
    await world.api.replied(ticket, "We look into it.", status="pending")
    messages = await thread(world, ticket, 3)
    assert [message["automatic"] for message in messages] == ["", "created", ""]
    await world.api.replied(ticket, "Done.", status="solved")
    messages = await thread(world, ticket, 5)
    assert [message["automatic"] for message in messages[3:]] == ["", "solved"]
    await world.api.reply(ticket, "For us", visibility="note", status="open")
    messages = await thread(world, ticket, 7)
    assert sorted(message["automatic"] for message in messages[5:]) == ["", "updated"]


async def test_what_the_customer_adds_is_acknowledged_once_a_day(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    _, first = await thread(world, ticket, 2)
    await world.api.settled(first, "sent")
    mail = world.mail.sends[0]
    await world.mail.customer_writes(world.smtp_port, ANN, SUPPORT, text="One more thing", reply_to=mail)
    await thread(world, ticket, 3)
    world.clock.ahead = timedelta(hours=25)
    await world.mail.customer_writes(world.smtp_port, ANN, SUPPORT, text="And another", reply_to=mail)
    await world.mail.customer_writes(world.smtp_port, ANN, SUPPORT, text="And another one", reply_to=mail)
    messages = await thread(world, ticket, 6)
    assert [message["automatic"] for message in messages].count("updated") == 1


async def test_a_follow_up_of_a_closed_ticket_is_a_new_one(world: World) -> None:
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    _, first = await thread(world, ticket, 2)
    await world.api.settled(first, "sent")
    await world.api.patch(f"tickets/{ticket['id']}", status="closed")
    await world.mail.customer_writes(world.smtp_port, ANN, SUPPORT, text="Again", reply_to=world.mail.sends[0])
    newest, _ = await world.api.items("tickets", 2)
    messages = await thread(world, newest, 2)
    assert [message["automatic"] for message in messages] == ["", "created"]


async def test_who_wants_nothing_automatic_gets_nothing(world: World) -> None:
    await world.api.post("suppressions", {"channel": "email", "address": ANN, "scope": "automatic"})
    await world.mailed(ANN)
    ticket = await world.api.ticket()
    log = await world.api.until(f"tickets/{ticket['id']}/events", lambda page: len(page["items"]) >= 3)
    refused = [line for line in log["items"] if line["kind"] == "reply.refused"]
    assert [line["data"]["rule"] for line in refused] == ["suppression"]
    await quiet(world, 0)


# --- other channels ---------------------------------------------------------------------------------------------------


async def test_text_messages_by_the_same_switches(world: World) -> None:
    await world.twilio.customer_writes("Is my parcel on its way?")
    await world.sent_to(world.twilio, 1)
    ticket = await world.api.ticket()
    messages = await thread(world, ticket, 2)
    assert shown(messages[1], "channel", "automatic") == ("sms", "created")
    assert "This is an automatic message." in messages[1]["text"]
    await world.api.patch(f"tickets/{ticket['id']}", status="solved")
    await world.sent_to(world.twilio, 2)


async def test_who_says_stop_gets_no_answer(world: World) -> None:
    await world.twilio.customer_writes("STOP")
    ticket = await world.api.ticket()
    await world.api.patch(f"tickets/{ticket['id']}", status="solved")
    assert len(await thread(world, ticket, 1)) == 1


async def test_off_by_default(tmp_path: Path) -> None:
    async with World.open(tmp_path) as world:
        await world.mailed(ANN)
        ticket = await world.api.ticket()
        await world.api.patch(f"tickets/{ticket['id']}", status="solved")
        assert len(await thread(world, ticket, 1)) == 1
        assert world.mail.sends == []


# --- texts ------------------------------------------------------------------------------------------------------------


async def test_own_texts_by_language_in_the_accounts_form(tmp_path: Path) -> None:
    async with World.open(tmp_path, mail_more=TEXTS) as world:
        await world.mailed(ANN, name="Ann Lee", subject="Lamp", headers={"Accept-Language": "de-AT"})
        ticket = await world.api.ticket()
        await thread(world, ticket, 2)
        await world.api.patch(f"tickets/{ticket['id']}", status="solved")
        await eventually(lambda: len(world.mail.sends) == 2)
        created, solved = world.mail.sends
        assert created.headers.get("subject") == "Angekommen"
        assert created.text == f"Shop\n\nAngekommen, {ticket['number']}.\n\n-- \nShop Ltd."
        assert "Shop Ltd." in created.html
        assert "Ann Lee: Lamp is done." in solved.text


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("language", ["", "en", "de", "de-CH", "fr", "es", "xx"])
def test_there_is_a_text_for_everybody(event: str, language: str) -> None:
    settings = AutomaticSettings(created=True)
    said = say(settings, event, {"ticket": {"number": "12"}}, language)
    assert "12" in said.text
    assert bool(said.subject) is (event == "created")
    wanted = language.partition("-")[0] if language.partition("-")[0] in ("de", "fr", "es") else ""
    assert said.text == next(
        text.text.replace("{{ ticket.number }}", "12")
        for text in DEFAULTS
        if (text.event, text.language) == (event, wanted)
    )


def test_an_own_text_without_language_is_for_all() -> None:
    settings = AutomaticSettings(created=True, texts=(AutomaticText("created", "Hi"),))
    assert say(settings, "created", {}, "de").text == "Hi"
    assert say(settings, "created", {}, "").subject == "We have received your message"
    assert "gelöst" in say(settings, "solved", {}, "de").text


FAULTS = {
    'automatic = { created = "yes" }': "automatic.created: must be true or false",
    "automatic = { opened = true }": "automatic.opened: unknown setting",
    'automatic = { texts = [{ event = "created", text = "{{ contact.name }}" }] }': (
        "automatic.texts[0].text: line 1: unknown place {{ contact.name }}"
    ),
    'automatic = { texts = [{ event = "created", text = "Hi", subject = "{{ ticket.subject }}" }] }': (
        "automatic.texts[0].subject: line 1: unknown place {{ ticket.subject }}"
    ),
    'automatic = { texts = [{ event = "solved", text = " " }] }': "automatic.texts[0].text: is empty",
    'automatic = { texts = [{ event = "opened", text = "x" }] }': "automatic.texts[0].event: must be one of",
}


@pytest.mark.parametrize(("line", "expected"), FAULTS.items(), ids=FAULTS)
async def test_faults_have_their_place(tmp_path: Path, line: str, expected: str) -> None:
    async with World.platforms(tmp_path, mail_more=line) as world:
        with pytest.raises(ConfigError) as caught:
            settings, found = load(world.file)
            bound(settings, found)
        assert [str(fault) for fault in caught.value.faults if expected in str(fault)], caught.value.faults
        assert all(str(fault).startswith("accounts[2].automatic") for fault in caught.value.faults)


def bound(settings: Any, found: Any) -> None:
    from gateway.loading import bind

    bind(settings, found, lambda hosts: None)  # type: ignore[arg-type,return-value]


def test_nothing_automatic_is_said_in_public() -> None:
    from adapters._load import find
    from config.settings import parse
    from gateway.loading import bind, settings_types

    block = {
        "id": "x", "adapter": "x", "user_id": "1", "consumer_key": "k", "consumer_secret": "s", "access_token": "t",
        "access_token_secret": "u", "automatic": {"created": True},
    }  # fmt: skip
    settings = parse({"accounts": [block]}, settings_types(find()))
    bind(settings, find(), lambda hosts: None)  # type: ignore[arg-type,return-value]  # direct messages can carry it


# --- the decisions ----------------------------------------------------------------------------------------------------

STATUSES = {
    ("new", "open", False): "updated", ("new", "open", True): "", ("open", "solved", True): "solved",
    ("open", "solved", False): "solved", ("solved", "solved", False): "", ("solved", "closed", False): "",
    ("solved", "open", False): "updated", ("open", "pending", False): "updated",
}  # fmt: skip


@pytest.mark.parametrize(("change", "event"), STATUSES.items(), ids=str)
def test_which_event_a_change_of_status_is(change: tuple[str, str, bool], event: str) -> None:
    assert status_event(change[0], change[1], told=change[2]) == event


def test_why_a_machine_must_not_answer() -> None:
    assert objection("", ["unchecked"]) == ""
    assert objection("bulk", []) == "it is automatic itself (bulk)"
    assert objection("", ["unaligned", "null_sender"]) == "null_sender, unaligned"
    for flag in ("spam", "report", "system_sender", "no_sender"):  # released from where such mail is put aside
        assert objection("", [flag, "released"]) == flag
