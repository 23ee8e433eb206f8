"""`[tickets] follow_up`, from the file to the ticket: where answers go, and the reason in the log."""

from __future__ import annotations

from pathlib import Path

from tests.support.world import World

RULES = """
[tickets]
follow_up = [
  { channel = "sms", status = ["pending"], action = "append" },
  { channel = "sms", status = ["solved"], action = "create" },
]
"""


async def test_answers_go_where_the_operator_says(tmp_path: Path) -> None:
    async with World.open(tmp_path, more=RULES) as world:
        await world.twilio.customer_writes("Is it open today?", sender="+15550100001")
        asked = await world.api.ticket()
        await world.api.patch(f"tickets/{asked['id']}", status="pending")
        await world.twilio.customer_writes("Hello?", sender="+15550100001")
        assert [entry["text"] for entry in await world.api.messages(asked, 2)] == ["Is it open today?", "Hello?"]
        assert (await world.api.get(f"tickets/{asked['id']}"))["status"] == "pending"
        (kept,) = [entry for entry in await world.api.log(asked) if entry["kind"] == "ticket.kept_status"]
        assert "follow_up rule 1 (channel sms) says append" in kept["data"]["why"]

        await world.api.patch(f"tickets/{asked['id']}", status="solved")
        await world.twilio.customer_writes("Something else", sender="+15550100001")
        newest, older = await world.api.items("tickets", 2)
        assert (newest["subject"], newest["status"], older["status"]) == ("Something else", "new", "solved")
