"""The console page in a real browser: tickets appear by themselves, refusals are shown before and after sending."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from playwright.async_api import Page, Route, expect
from sqlalchemy import update

from gateway.ids import micros
from gateway.store.schema import identities, messages
from tests.web.conftest import Gateway

pytestmark = pytest.mark.browser
V1 = "/api/v1"


async def test_the_page_asks_for_a_key_and_keeps_it_in_the_tab(gateway: Gateway, page: Page) -> None:
    await page.goto(gateway.base)
    await page.get_by_label("API key").fill("gw_wrong")
    await page.get_by_role("button", name="Open").click()
    await expect(page.get_by_role("alert")).to_have_text("This key is not valid, or no longer.")
    await page.get_by_label("API key").fill(gateway.key)
    await page.get_by_role("button", name="Open").click()
    await expect(page.get_by_text("No tickets here.")).to_be_visible()
    await page.reload()
    await expect(page.get_by_text("No tickets here.")).to_be_visible()
    await page.get_by_role("button", name="Sign out").click()
    await page.reload()
    await expect(page.get_by_label("API key")).to_be_visible()


async def test_a_conversation_is_seen_live_and_answered(gateway: Gateway, page: Page) -> None:
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    await expect(page.locator("#live")).to_have_text("live")
    assert gateway.key not in page.url
    ticket = await gateway.customer_writes("Where is <b>my</b> parcel?", name="Ann")
    row = page.locator(f"[data-ticket='{ticket['id']}']")
    await expect(row).to_contain_text("Where is <b>my</b> parcel?")
    await expect(row).to_contain_text("started a new chat")
    await row.click()
    await expect(page.locator("#thread .inbound")).to_contain_text("Where is <b>my</b> parcel?")
    await gateway.customer_writes("Hello?", name="Ann")
    await expect(page.locator("#thread .inbound")).to_have_count(2)

    await page.get_by_label("Reply", exact=True).fill("x" * 101)
    await expect(page.locator("#verdicts [data-rule=text_length]")).to_be_visible()
    await page.get_by_label("Reply", exact=True).fill("On its way")
    await expect(page.locator("#verdicts li")).to_have_count(0)
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#thread .outbound")).to_contain_text("On its way")
    await expect(page.get_by_label("Reply", exact=True)).to_have_value("")


async def test_a_name_known_only_later_stands_over_what_its_person_wrote(gateway: Gateway, page: Page) -> None:
    ticket = await gateway.customer_writes("Hi")
    (message,) = (await gateway.ok("GET", f"/api/v1/tickets/{ticket['id']}/messages"))["items"]
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    await page.locator(f"[data-ticket='{ticket['id']}']").click()
    who = page.locator("#thread .inbound .who")
    await expect(who).to_have_text(message["author"]["name"])
    await gateway.ok("PATCH", f"/api/v1/contacts/{ticket['contact_id']}", json={"name": "Ann Berg"})
    await page.reload()
    await page.locator(f"[data-ticket='{ticket['id']}']").click()
    await expect(who).to_have_text("Ann Berg")


async def test_what_was_cut_from_a_mail_and_who_is_not_to_be_believed_is_shown(gateway: Gateway, page: Page) -> None:
    ticket = await gateway.customer_writes("Thanks")
    whole, flags = "Thanks\n\n> Which size?", '["unchecked", "unknown_sender"]'
    await gateway.core.database.write(
        lambda connection: connection.execute(update(messages).values(full_text=whole, flags=flags))
    )
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    await page.locator(f"[data-ticket='{ticket['id']}']").click()
    message = page.locator("#thread .inbound")
    await expect(message.locator(".who")).to_contain_text("unknown sender")
    await expect(message.locator(".who")).not_to_contain_text("unchecked")
    await expect(message.get_by_text("Which size?")).to_be_hidden()
    await message.get_by_text("Whole message").click()
    await expect(message.get_by_text("Which size?")).to_be_visible()


async def test_a_refusal_is_shown_with_its_reason(gateway: Gateway, page: Page) -> None:
    ticket = await gateway.customer_writes("Hi", name="Ann")
    late = micros(gateway.core.clock() - timedelta(days=2))
    await gateway.core.database.write(lambda c: c.execute(update(identities).values(opened_at=late)))
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    await page.locator(f"[data-ticket='{ticket['id']}']").click()
    await expect(page.locator("#windows")).to_contain_text("echo: closed")
    await page.get_by_label("Reply", exact=True).fill("Too late?")
    await expect(page.locator("#verdicts [data-rule=window]")).to_be_visible()
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#thread .refused")).to_contain_text("window")
    await expect(page.get_by_label("Reply", exact=True)).to_have_value("Too late?")


async def test_a_user_signs_in_and_answers_under_the_own_name(gateway: Gateway, page: Page) -> None:
    body = {"email": "mia@shop.test", "name": "Mia", "password": "correct horse battery"}
    await gateway.ok("POST", "/api/v1/users", 201, json=body)
    ticket = await gateway.customer_writes("Is it blue?")
    await page.goto(gateway.base)
    await page.get_by_label("Mail address").fill("mia@shop.test")
    await page.get_by_label("Password").fill("wrong")
    await page.get_by_role("button", name="Open").click()
    await expect(page.get_by_role("alert")).to_have_text("Address and password do not fit")
    await page.get_by_label("Mail address").fill("mia@shop.test")
    await page.get_by_label("Password").fill("correct horse battery")
    await page.get_by_role("button", name="Open").click()
    await page.get_by_role("button", name="Is it blue?").click()
    await page.locator("#text").fill("It is.")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#thread")).to_contain_text("Mia")
    thread = await gateway.ok("GET", f"/api/v1/tickets/{ticket['id']}/messages")
    assert thread["items"][-1]["author"]["name"] == "Mia"
    await page.reload()
    await expect(page.get_by_role("button", name="Is it blue?")).to_be_visible()  # the cookie keeps the session
    await page.get_by_role("button", name="Sign out").click()
    await page.reload()
    await expect(page.get_by_label("Mail address")).to_be_visible()


async def test_views_are_counted_and_a_dot_tells_of_something_new(gateway: Gateway, page: Page) -> None:
    body = {"email": "mia@shop.test", "name": "Mia", "password": "correct horse battery"}
    user = await gateway.ok("POST", f"{V1}/users", 201, json=body)
    await gateway.ok("POST", f"{V1}/groups", 201, json={"name": "second", "members": [user["id"]]})
    first = await gateway.customer_writes("Is it blue?", "+4915100000001", name="Ann")
    await page.goto(gateway.base)
    await page.get_by_label("Mail address").fill("mia@shop.test")
    await page.get_by_label("Password").fill("correct horse battery")
    await page.get_by_role("button", name="Open").click()
    unassigned = page.locator("[data-view=unassigned]")
    await expect(unassigned).to_have_text("Unassigned1")
    for view in ("mine", "messaging-mine", "messaging-unassigned"):
        await expect(page.locator(f"[data-view={view}]")).to_be_visible()
    await page.locator("[data-view=mine]").click()
    await expect(page.get_by_text("No tickets here.")).to_be_visible()
    await gateway.customer_writes("And how large?", "+4915100000002", name="Bob")
    await expect(unassigned).to_have_text("Unassigned2")
    await expect(unassigned.locator(".dot")).to_be_visible()
    await unassigned.click()
    await expect(unassigned.locator(".dot")).to_have_count(0)

    await page.locator(f"[data-ticket='{first['id']}']").click()
    await page.get_by_role("button", name="Take it").click()
    await expect(page.locator("[data-view=mine]")).to_have_text("Assigned to me1")
    await expect(page.get_by_label("Assignee")).to_have_value("Mia")
    await page.locator("[data-view=mine]").click()
    row = page.locator(f"[data-ticket='{first['id']}']")
    await expect(row).to_contain_text("started a new chat")


async def test_properties_are_edited_and_a_lost_race_is_told(gateway: Gateway, page: Page) -> None:
    ticket = await gateway.customer_writes("Is it blue?", name="Ann")
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    await page.locator(f"[data-ticket='{ticket['id']}']").click()
    path = f"{V1}/tickets/{ticket['id']}"
    properties = page.locator("#properties")
    await page.locator("#properties [name=status]").select_option("pending")
    await expect(page.locator("#thread")).to_contain_text("new → pending")
    await properties.get_by_label("Priority").select_option("urgent")
    await expect(page.locator("#facts")).to_contain_text("urgent")
    for label, value in (("Assignee", "mia"), ("Group", "second"), ("Tags", "late gold")):
        await properties.get_by_label(label).fill(value)
        await properties.get_by_label(label).press("Enter")
        await expect(page.locator("#thread")).to_contain_text(value.split()[0])
    shown = await gateway.ok("GET", path)
    expected = {"status": "pending", "priority": "urgent", "assignee": "mia", "group": "second"}
    assert shown | expected == shown
    assert shown["tags"] == ["late", "gold"]

    async def overtaken(route: Route) -> None:  # somebody else is faster, and the page has not heard of it
        if route.request.method == "PATCH":
            await gateway.ok("PATCH", path, json={"subject": "Overtaken"})
        await route.continue_()

    await page.route(f"**/tickets/{ticket['id']}", overtaken)
    await properties.get_by_label("Priority").select_option("low")
    await expect(properties.get_by_role("alert")).to_contain_text("Somebody else changed it")
    await expect(properties.get_by_label("Priority")).to_have_value("urgent")
    assert (await gateway.ok("GET", path))["priority"] == "urgent"


async def test_the_search_looks_in_everything(gateway: Gateway, page: Page) -> None:
    ann = await gateway.customer_writes(
        "荷物はどこですか", "+4915112345678", name="Ann Ärger", profile={"city": "Köln"}
    )
    bob = await gateway.customer_writes("Hello", "+33612345678", name="Bob")
    await gateway.ok("PATCH", f"{V1}/tickets/{ann['id']}", json={"status": "solved"})
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    rows = page.locator("#tickets [data-ticket]")
    await expect(rows).to_have_count(1)
    for words in ("荷物", "koln", "0151 12345", "arger", f"#{ann['number']}"):
        await page.get_by_label("Search").fill(words)
        await expect(page.locator(f"[data-ticket='{ann['id']}']")).to_be_visible()
        await expect(rows).to_have_count(1)
    await expect(page.locator("#viewing")).to_have_text("Found in all tickets")
    await page.get_by_label("Search").fill("")
    await expect(page.locator(f"[data-ticket='{bob['id']}']")).to_be_visible()


async def test_a_short_list_opens_the_full_view(gateway: Gateway, page: Page) -> None:
    for number in range(23):
        message = {"id": f"many-{number}", "from": f"+49151000000{number:02}", "text": f"case {number}"}
        assert (await gateway.webhook(json.dumps({"messages": [message]}).encode())).status == 200
    await gateway.intake.drain()
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    await page.locator("[data-view=unassigned]").click()
    rows = page.locator("#tickets [data-ticket]")
    await expect(rows).to_have_count(20)
    await page.get_by_role("button", name="Load more").click()
    await expect(rows).to_have_count(23)
