"""Rules with real platforms around: chains from WhatsApp to SMS, quiet hours, the operator's word, the commands."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.support.process import run
from tests.support.world import ANN as PHONE
from tests.support.world import World, shown

CHAIN = """
[rules.window]
margin_s = 600

[channels.sms.rules.text_length]
segment_max = 1
counter = true

[[fallback]]
channel = "whatsapp"
steps = [{ channel = "sms" }, { channel = "email" }]
"""
NEW_YORK = ZoneInfo("America/New_York")


async def test_whatsapp_closed_then_sms_by_the_attested_number(tmp_path: Path) -> None:
    async with World.open(tmp_path, more=CHAIN) as world:
        await world.whatsapp.customer_writes(world.customer("Dana", "12125550123"), "Do you ship?")
        ticket = await world.api.ticket()
        world.clock.ahead = timedelta(hours=23, minutes=51)  # the platform's window is open, the margin is not
        text = "We do. " * 30
        asked = await world.api.post(f"tickets/{ticket['id']}/replies?dry_run=true", {"text": text})
        assert (asked["decision"], asked["detour"]["channel"], asked["detour"]["tried"][0]["rule"]) == (
            "change", "sms", "window",
        )  # fmt: skip
        assert [part["segments"] for part in asked["parts"]] == [1, 1]
        message = await world.api.replied(ticket, text, status="pending")
        assert (message["channel"], message["account"]) == ("sms", "sms-us")
        await world.api.settled(message, "delivered")
        assert [sent.payload.to for sent in world.twilio.sends] == ["+12125550123"] * 2
        assert [sent.payload.body[:6] for sent in world.twilio.sends] == ["(1/2) ", "(2/2) "]
        assert world.whatsapp.sends == []
        lines = [line for line in await world.api.log(ticket) if line["kind"] == "reply.fell_back"]
        assert [(line["data"]["rule"], line["data"]["went_to"]["ticket_id"]) for line in lines] == [
            ("window", message["ticket_id"])
        ]
        assert (await world.api.get(f"tickets/{ticket['id']}"))["status"] == "pending"
        there = await world.api.get(f"tickets/{message['ticket_id']}")
        assert there["contact_id"] == ticket["contact_id"]


async def test_what_a_platform_refuses_by_a_receipt_goes_on_by_mail(tmp_path: Path) -> None:
    async with World.open(tmp_path, more='[[fallback]]\nchannel = "sms"\nsteps = [{ channel = "email" }]\n') as world:
        await world.twilio.customer_writes("Is it ready?", sender=PHONE)
        ticket = await world.api.ticket()
        await world.api.patch(f"contacts/{ticket['contact_id']}", attributes={"email": "ann@customer.test"})
        world.twilio.failures[PHONE] = 30610
        message = await world.api.settled(await world.api.replied(ticket, "It is."), "cancelled")
        assert shown(message["error"], "code", "class") == ("30610", "window-closed")
        (line,) = [line for line in await world.api.log(ticket) if line["kind"] == "reply.fell_back"]
        told = line["data"]
        assert (told["rule"], told["reason"].split()[0], told["went_to"]["channel"]) == ("platform", "30610", "email")
        await world.api.settled({"id": told["went_to"]["message_id"]}, "sent")
        assert [mail.recipients for mail in world.mail.sends] == [("ann@customer.test",)]
        assert len(world.twilio.sends) == 1
        assert (await world.api.get("dead"))["items"] == []


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "by a receipt"])
async def test_what_whatsapp_refuses_goes_on_by_sms(tmp_path: Path, at_once: bool) -> None:
    async with World.open(tmp_path, more=CHAIN) as world:
        await world.whatsapp.customer_writes(world.customer("Dana", "12125550123"), "Do you ship?")
        ticket = await world.api.ticket()
        world.whatsapp.behaviour.refuse_closed_window = at_once
        world.whatsapp.clock_ahead_s = 25 * 3600.0  # only the platform knows
        message = await world.api.settled(await world.api.replied(ticket, "We do."), "cancelled")
        assert shown(message["error"], "code", "class") == ("131047", "window-closed")
        assert len(world.whatsapp.sends) == (0 if at_once else 1)
        (line,) = [line for line in await world.api.log(ticket) if line["kind"] == "reply.fell_back"]
        await world.api.settled({"id": line["data"]["went_to"]["message_id"]}, "delivered")
        assert [sent.payload.to for sent in world.twilio.sends] == ["+12125550123"]


async def test_marketing_waits_for_the_morning_over_there(world: World) -> None:
    night = datetime.now(NEW_YORK).replace(hour=22, minute=30) + timedelta(days=1)
    world.clock.ahead = night - datetime.now(NEW_YORK)
    body = {"channel": "sms", "to": "+12125550123", "text": "Sale!", "purpose": "marketing"}
    message = await world.api.post("messages", body)
    assert message["status"] == "held"
    (entry,) = await world.api.items("outbox", 1)
    opens = datetime.fromisoformat(entry["not_before"]).astimezone(NEW_YORK)
    assert (opens.hour >= 8, opens.date() > night.date()) == (True, True)
    assert (await world.api.post("messages", body | {"purpose": "transactional"}))["status"] != "held"
    world.clock.ahead = opens - datetime.now(NEW_YORK) + timedelta(minutes=1)
    await world.api.settled(message, "delivered")


async def test_check_names_what_is_wrong_with_rules(tmp_path: Path) -> None:
    more = "[rules]\noff = ['opt_out']\n[channels.sms.rules.media]\nmax_byte = 1\n"
    async with World.platforms(tmp_path, more=more) as world:
        checked = await run("check", "--config", world.file)
    assert checked.code == 2
    assert "rules.off[0]: opt_out cannot be switched off: who opted out is left alone: it is the law" in checked.err
    assert "channels.sms.rules.media.max_byte: unknown setting; did you mean max_bytes? known are" in checked.err


async def test_the_command_and_the_api_list_the_same_rules(world: World) -> None:
    told = {rule["name"]: rule for rule in json.loads((await run("channels", "--json")).out)["rules"]}
    for rule in await world.api.items("rules", len(told)):
        assert rule.pop("changed") == []
        assert rule == told[rule["name"]]
