"""A CRM beside a running gateway: asked when a customer writes, told when a ticket is solved, never waited for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from adapters.sandbox.meta_whatsapp import Customer
from gateway.web.types import DeadLetter
from tests.support.crm import FakeCrm, FakeHubSpot
from tests.support.world import World

ANN = Customer("4915112345601", "Ann Lee")
PHONE = "+4915112345601"


def generic(crm: FakeCrm, **more: str) -> str:
    lines = "\n".join(f"{name} = {value}" for name, value in more.items())
    return f"""
[vip]
priority = "urgent"

[[crm]]
id = "crm"
kind = "http"
url = "{crm.url}"
secret = "{crm.secret}"
lookup = ["phone", "email"]
attributes = {{ tier = "loyalty", note = "memo", vip = "is_vip" }}
editable = ["note"]
write_back_on = ["solved"]
{lines}
"""


async def logged(world: World, ticket: dict[str, Any], kind: str) -> dict[str, Any]:
    """The data of the first line of a kind in a ticket's log, once it is there."""
    path = f"tickets/{ticket['id']}/events"
    found = await world.api.until(path, lambda page: any(event["kind"] == kind for event in page["items"]))
    return dict(next(event["data"] for event in found["items"] if event["kind"] == kind))


async def test_a_customer_is_looked_up_and_an_edit_goes_back(tmp_path: Path) -> None:
    records = {"c-1": {"phone": PHONE, "loyalty": "gold", "is_vip": True, "size": 3}}
    async with FakeCrm(records=records) as crm, World.open(tmp_path, more=generic(crm)) as world:
        await world.api.patch("attributes/tier", type="choice", choices=["gold", "silver"])
        await world.whatsapp.customer_writes(ANN, "Hello")
        ticket = await world.api.ticket()
        data = await logged(world, ticket, "crm.looked_up")
        assert (data["crm"], sorted(data["filled"]), data["refused"]) == ("crm", ["tier", "vip"], [])
        contact = await world.api.get(f"contacts/{ticket['contact_id']}")
        assert (contact["attributes"]["tier"], contact["vip"]) == ("gold", True)
        (tier,) = [value for value in contact["values"] if value["name"] == "tier"]
        assert (tier["source"], tier["by"]) == ("crm", "crm")
        raised = await world.api.get(f"tickets/{ticket['id']}")
        assert raised["priority"] == "urgent"  # whom the CRM calls a VIP is one

        await world.api.patch(f"contacts/{contact['id']}", attributes={"note": "likes tea"})
        await world.api.patch(f"tickets/{ticket['id']}", status="pending")
        await world.api.patch(f"tickets/{ticket['id']}", status="solved")
        told = await logged(world, ticket, "crm.told")
        assert told == {"crm": "crm", "attributes": ["note"]}
        assert crm.records["c-1"]["memo"] == "likes tea"
        data = next(body["data"] for path, body in crm.calls if path == "/upsert")
        assert (data["id"], data["changes"], data["contact_id"]) == ("c-1", {"memo": "likes tea"}, contact["id"])
        assert len([path for path, _ in crm.calls if path == "/upsert"]) == 1

        crm.records["c-1"] |= {"loyalty": "lead", "memo": "likes coffee"}
        await world.api.patch(f"tickets/{ticket['id']}", status="closed")
        await world.whatsapp.customer_writes(ANN, "Me again")
        follow = next(one for one in await world.api.items("tickets", 2) if one["id"] != ticket["id"])
        data = await logged(world, follow, "crm.looked_up")
        assert data["filled"] == ["note"]  # it was told, and is right again
        assert [one["attribute"] for one in data["refused"]] == ["tier"]
        assert "gold, silver" in data["refused"][0]["reason"]


async def test_a_crm_that_does_not_answer_delays_nothing_and_loses_nothing(tmp_path: Path) -> None:
    slow = FakeCrm(records={"c-1": {"phone": PHONE, "loyalty": "gold"}}, hold=asyncio.Event())
    async with slow as crm, World.open(tmp_path, more=generic(crm, timeout_s="30.0")) as world:
        await world.whatsapp.customer_writes(ANN, "Hello")
        ticket = await world.api.ticket()
        reply = await world.api.replied(ticket, "Hi Ann")
        await world.api.settled(reply, "delivered")  # there and back while the CRM sits on its answer
        assert "tier" not in (await world.api.get(f"contacts/{ticket['contact_id']}"))["attributes"]
        assert crm.hold is not None
        crm.hold.set()
        await logged(world, ticket, "crm.looked_up")


async def test_what_a_crm_refuses_is_a_dead_letter_and_is_replayed(tmp_path: Path) -> None:
    async with FakeCrm(records={"c-1": {"phone": PHONE, "loyalty": "gold"}}) as crm:
        crm.faults.append("409")
        async with World.open(tmp_path, more=generic(crm)) as world:
            await world.whatsapp.customer_writes(ANN, "Hello")
            ticket = await world.api.ticket()
            (letter,) = await world.api.items("dead", 1)
            assert (letter["kind"], letter["account"], letter["error"]["code"]) == ("errand", "crm", "409")
            assert set(letter) == {*DeadLetter.__struct_fields__}
            await world.api.post(f"dead/{letter['id']}/replay")
            await logged(world, ticket, "crm.looked_up")
            assert (await world.api.get("dead"))["items"] == []
            again = await world.api.call("POST", f"dead/{letter['id']}/replay")
            assert again.status == 202  # twice changes nothing
            # and with the person goes what was to be done about them
            crm.faults.append("409")
            await world.api.patch(f"tickets/{ticket['id']}", status="closed")
            await world.whatsapp.customer_writes(ANN, "Again")
            await world.api.items("dead", 1)
            await world.api.call("DELETE", f"contacts/{ticket['contact_id']}")
            assert (await world.api.get("dead"))["items"] == []


async def test_several_records_fill_nothing(tmp_path: Path) -> None:
    records = {"c-1": {"phone": PHONE, "loyalty": "gold"}, "c-2": {"phone": PHONE, "loyalty": "silver"}}
    async with FakeCrm(records=records) as crm, World.open(tmp_path, more=generic(crm)) as world:
        await world.whatsapp.customer_writes(ANN, "Hello")
        ticket = await world.api.ticket()
        assert await logged(world, ticket, "crm.ambiguous") == {"crm": "crm", "matches": 2}
        assert "tier" not in (await world.api.get(f"contacts/{ticket['contact_id']}"))["attributes"]


async def test_hubspot_in_its_place(tmp_path: Path) -> None:
    async with FakeHubSpot(records={"101": {"phone": PHONE, "loyalty": "gold"}}) as hub:
        block = f"""
[[crm]]
id = "hs"
kind = "hubspot"
api_base = "{hub.url}"
token = "{hub.token}"
lookup = ["phone"]
attributes = {{ tier = "loyalty", note = "gw_note" }}
editable = ["note"]
"""
        async with World.open(tmp_path, more=block) as world:
            await world.whatsapp.customer_writes(ANN, "Hello")
            ticket = await world.api.ticket()
            await logged(world, ticket, "crm.looked_up")
            await world.api.patch(f"contacts/{ticket['contact_id']}", attributes={"note": "=tea"})
            await world.api.patch(f"tickets/{ticket['id']}", status="open")  # any change of status
            await logged(world, ticket, "crm.told")
            assert hub.records["101"]["gw_note"] == "=tea"
