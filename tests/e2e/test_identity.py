"""One person, one history: rules, conflicts, previews, merges and their journal, over the API and the command line."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import run
from tests.support.world import ANN, World

PHONE = 'matching_attribute = ["phone", "customer_no"]'


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A gateway that links by phone, then by a number of the operator's own."""
    async with World.open(tmp_path, more=PHONE) as found:
        await found.api.post("attributes", {"name": "customer_no", "title": "Customer number", "unique": True})
        yield found


async def by_channel(world: World, channel: str) -> dict[str, Any]:
    """The contact who wrote on a channel."""
    (ticket,) = await world.api.items("tickets", 1, channel=channel)
    found: dict[str, Any] = await world.api.get(f"contacts/{ticket['contact_id']}")
    return found


async def two(world: World) -> tuple[str, str]:
    """Somebody by SMS and somebody by mail; their contacts."""
    await world.twilio.customer_writes("By SMS", sender=ANN)
    await world.mailed()
    await world.api.items("tickets", 2)
    return str((await by_channel(world, "sms"))["id"]), str((await by_channel(world, "email"))["id"])


async def test_an_attribute_of_ones_own_links_whatever_its_spelling(world: World) -> None:
    sms, mail = await two(world)
    await world.api.patch(f"contacts/{sms}", attributes={"customer_no": " AB-12 "})
    linked = await world.api.patch(f"contacts/{mail}", attributes={"customer_no": "ab-12"})
    assert (linked["id"], len(linked["identities"])) == (sms, 2)
    assert linked["attributes"]["customer_no"] == " AB-12 "
    (entry,) = (await world.api.get(f"contacts/{sms}/merges"))["items"]
    assert (entry["contact_id"], entry["other_contact_id"], entry["attribute"]) == (sms, mail, "customer_no")
    assert (entry["by"], entry["evidence"], entry["value"]) == ("tests", "authenticated", "ab-12")
    assert entry["before"]["attributes"] == {"customer_no": "ab-12"}
    identity = next(one for one in linked["identities"] if one["channel"] == "email")
    undone = await world.api.post(f"contacts/{sms}/unmerge", {"identity": identity["id"]})
    assert (undone["contact_id"], undone["contact"]["attributes"]["customer_no"]) == (mail, "ab-12")
    newest, merged = (await world.api.get(f"contacts/{sms}/merges"))["items"]
    assert (newest["kind"], merged["undone_by"]) == ("unmerge", "tests")
    again = await world.api.patch(f"contacts/{mail}", attributes={"customer_no": "AB-12"})
    assert again["id"] == mail  # taken out by hand: not linked again by itself


async def conflicting(world: World) -> tuple[dict[str, Any], str, str]:
    """Two contacts with one phone number and two customer numbers; the conflict."""
    sms, mail = await two(world)
    await world.api.patch(f"contacts/{sms}", attributes={"customer_no": "1"})
    await world.api.patch(f"contacts/{mail}", attributes={"customer_no": "2"})
    same = await world.api.patch(f"contacts/{mail}", attributes={"phone": ANN})
    assert same["id"] == mail
    (conflict,) = await world.api.items("conflicts", 1)
    return conflict, sms, mail


async def test_a_contradiction_is_asked_about_and_kept_apart_for_good(world: World) -> None:
    conflict, sms, mail = await conflicting(world)
    assert conflict["contact_ids"] == sorted((sms, mail))
    assert (conflict["attribute"], conflict["value"], conflict["state"]) == ("phone", ANN, "open")
    assert "customer_no" in conflict["reason"]
    decided = await world.api.post(f"conflicts/{conflict['id']}/keep_apart")
    assert (decided["state"], decided["decided_by"]) == ("kept_apart", "tests")
    await world.api.items("conflicts", 0)
    answer = await world.api.call("POST", f"conflicts/{conflict['id']}/merge", json={})
    assert (answer.status, answer.json["code"]) == (409, "conflict_decided")
    await world.api.patch(f"contacts/{mail}", attributes={"customer_no": "1"})  # nothing contradicts any more
    await world.api.items("contacts", 2)
    await world.api.items("conflicts", 0)
    assert len((await world.api.get("conflicts", state="kept_apart"))["items"]) == 1


async def test_a_conflict_decided_as_one_person(world: World) -> None:
    conflict, sms, mail = await conflicting(world)
    wrong = await world.api.call("POST", f"conflicts/{conflict['id']}/merge", json={"into": conflict["id"]})
    assert (wrong.status, wrong.json["field"]) == (422, "into")
    decided = await world.api.post(f"conflicts/{conflict['id']}/merge", {"into": mail})
    assert (decided["state"], decided["contact_ids"]) == ("merged", [mail])
    contact = await world.api.get(f"contacts/{sms}")
    assert (contact["id"], contact["attributes"]["customer_no"]) == (mail, "2")
    await world.api.items("tickets", 2, contact=mail)
    missing = await world.api.call("GET", f"conflicts/{mail}")
    assert (missing.status, missing.json["code"]) == (404, "not_found")


async def test_a_changed_rule_is_previewed_and_then_applied(tmp_path: Path) -> None:
    async with World.open(tmp_path) as world:
        await world.twilio.customer_writes("By SMS", sender=ANN)
        await world.whatsapp.customer_writes(world.customer(wa_id=ANN.lstrip("+")), "By WhatsApp")
        one, other = sorted(contact["id"] for contact in await world.api.items("contacts", 2))
        told = await world.api.get("identities/preview", attribute="phone,email")
        assert (told["attributes"], told["merges"], told["conflicts"]) == (["phone", "email"], 1, 0)
        because = {"attribute": "phone", "value": ANN}
        assert told["contacts"] == [{"into": one, "contacts": [other], "because": [because]}]
        assert (await world.api.get("identities/preview"))["merges"] == 0  # no rule, nothing to do
        unknown = await world.api.call("GET", "identities/preview", params={"attribute": "shoe"})
        assert (unknown.status, unknown.json["code"], unknown.json["field"]) == (422, "unknown_attribute", "attribute")
        shown = await run("identities", "preview", "--attribute", "phone", "--json", "--config", world.file)
        assert (shown.code, json.loads(shown.out)["merges"]) == (0, 1)
        words = await run("identities", "preview", "--attribute", "phone", "--config", world.file)
        assert f"merge     {other} into {one}: phone {ANN}" in words.out
        await world.api.items("contacts", 2)
        await world.stop()
        world.file.write_text(world.file.read_text().replace("[gateway]", '[gateway]\nmatching_attribute = "phone"'))
        done = await run("identities", "apply", "--config", world.file)
        assert (done.code, done.out) == (0, "1 contacts merged by phone; 0 new conflicts to decide\n")
        again = await run("identities", "apply", "--config", world.file)
        assert again.out == "0 contacts merged by phone; 0 new conflicts to decide\n"
        wrong = await run("identities", "preview", "--attribute", "shoe", "--config", world.file)
        assert (wrong.code, wrong.err) == (1, "gateway: there is no attribute 'shoe'\n")
        await world.start()
        (contact,) = await world.api.items("contacts", 1)
        (entry,) = (await world.api.get(f"contacts/{contact['id']}/merges"))["items"]
        assert (entry["by"], entry["reason"]) == ("command line", "the same phone, by the rule as it was applied")


async def test_writing_to_a_contact_that_was_merged_away_reaches_the_one_it_is_part_of(world: World) -> None:
    sms, mail = await two(world)
    await world.api.post(f"contacts/{mail}/merge", {"into": sms})
    sent = await world.api.post("messages", {"channel": "sms", "contact": mail, "text": "Hello to both of you"})
    assert sent["contact_id"] == sms
    await world.api.items("contacts", 1)
