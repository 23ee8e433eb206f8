"""Deciding who is who, and making views, at the console in a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from gateway import conditions
from tests.web.conftest import Gateway, running

pytestmark = pytest.mark.browser
V1 = "/api/v1"
PASSWORD = "correct horse battery"


@pytest.fixture
async def matching(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway where one mail address is one person."""
    async with running(tmp_path, matching=("email",)) as gateway:
        await gateway.ok("POST", f"{V1}/attributes", 201, json={"name": "customer_no", "unique": True})
        yield gateway


async def conflicting(gateway: Gateway, sender: str, other: str, email: str) -> tuple[str, str]:
    """Two contacts with one mail address and two customer numbers."""
    ids = []
    for number, phone in enumerate((sender, other)):
        ticket = await gateway.customer_writes("Hello", phone, name=f"<b>Ann</b> {phone[-1]}")
        values = {"customer_no": f"{phone}-{number}"}
        await gateway.ok("PATCH", f"{V1}/contacts/{ticket['contact_id']}", json={"attributes": values})
        await gateway.ok("PATCH", f"{V1}/contacts/{ticket['contact_id']}", json={"attributes": {"email": email}})
        ids.append(ticket["contact_id"])
    return ids[0], ids[1]


async def test_conflicts_are_shown_and_decided(matching: Gateway, page: Page) -> None:
    gateway = matching
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    await expect(page.locator("#live")).to_have_text("live")
    one, other = await conflicting(gateway, "+4915100000001", "+4915100000002", "a@shop.test")
    opener = page.get_by_role("button", name="Conflicts 1")  # it appears by itself
    await expect(opener).to_be_visible()
    await conflicting(gateway, "+4915100000003", "+4915100000004", "b@shop.test")
    await page.get_by_role("button", name="Conflicts 2").click()
    dialog = page.get_by_role("dialog", name="Who is who")
    rows = dialog.locator("[data-conflict]")
    await expect(rows).to_have_count(2)
    first = rows.filter(has_text="a@shop.test").first
    for words in ("<b>Ann</b> 1", "<b>Ann</b> 2", "customer_no: +4915100000001-0", "echo +4915100000002"):
        await expect(first).to_contain_text(words)
    await first.get_by_role("button", name="One person: <b>Ann</b> 2").click()
    await expect(dialog.get_by_role("status")).to_have_text("They are one person now.")
    await expect(rows).to_have_count(1)
    assert (await gateway.ok("GET", f"{V1}/contacts/{one}"))["id"] == other

    [left] = (await gateway.ok("GET", f"{V1}/conflicts"))["items"]
    await rows.get_by_role("button", name="Two persons").click()
    await expect(dialog.get_by_text("Nothing to decide.")).to_be_visible()
    assert (await gateway.ok("GET", f"{V1}/conflicts/{left['id']}"))["state"] == "kept_apart"
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(page.locator("#decide")).to_be_hidden()


async def test_a_conflict_somebody_else_decided_is_told(matching: Gateway, page: Page) -> None:
    gateway = matching
    await conflicting(gateway, "+4915100000001", "+4915100000002", "a@shop.test")
    await page.route(f"**{V1}/events", lambda route: route.abort())  # the page does not hear of it
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    await page.get_by_role("button", name="Conflicts 1").click()
    [conflict] = (await gateway.ok("GET", f"{V1}/conflicts"))["items"]
    await expect(page.locator("[data-conflict]")).to_have_count(1)
    await gateway.ok("POST", f"{V1}/conflicts/{conflict['id']}/keep_apart")
    await page.get_by_role("button", name="Two persons").click()
    await expect(page.get_by_role("alert").filter(has_text="has decided")).to_be_visible()
    await expect(page.get_by_text("Nothing to decide.")).to_be_visible()


async def test_who_sees_some_accounts_is_not_asked_who_is_who(matching: Gateway, page: Page) -> None:
    gateway = matching
    await conflicting(gateway, "+4915100000001", "+4915100000002", "a@shop.test")
    key = await gateway.make_key("limited", "agent", ["echo-a"])
    await page.goto(f"{gateway.base}/#key={key}")
    await expect(page.locator("#live")).to_have_text("live")
    await expect(page.locator("#decide")).to_be_hidden()


async def own_views(gateway: Gateway) -> list[dict[str, Any]]:
    found = (await gateway.ok("GET", f"{V1}/views"))["items"]
    return [view for view in found if not view["built_in"]]


async def test_a_view_is_made_looked_at_changed_and_removed(gateway: Gateway, page: Page) -> None:
    urgent = await gateway.customer_writes("It burns", "+4915100000001", name="Ann")
    await gateway.ok("PATCH", f"{V1}/tickets/{urgent['id']}", json={"priority": "urgent", "tags": ["fire"]})
    await gateway.customer_writes("No hurry", "+4915100000002", name="Bob")
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    await page.get_by_role("button", name="New view").click()
    dialog = page.get_by_role("dialog", name="New view")
    await expect(dialog.get_by_label("Title")).to_be_focused()
    await dialog.get_by_label("Title").fill("Fires")
    condition = dialog.locator("#conditions-all .condition")
    await condition.get_by_label("Field").select_option("priority")
    await condition.get_by_label("Operator").select_option("at_least")
    await condition.get_by_label("Value").fill("terrible")
    await dialog.get_by_role("button", name="Preview").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("urgent")  # it says what is taken
    await expect(condition.get_by_label("Value")).to_be_focused()
    await condition.get_by_label("Value").fill("high")
    await dialog.get_by_role("button", name="Add an alternative").click()
    other = dialog.locator("#conditions-any .condition")
    await other.get_by_label("Field").select_option("tags")
    await other.get_by_label("Value").fill("fire")
    await dialog.get_by_role("button", name="Preview").click()
    await expect(dialog.get_by_role("status")).to_contain_text("1 ticket · #1 It burns")
    await dialog.get_by_role("button", name="Save view").click()
    await expect(page.locator("#viewing")).to_have_text("Fires")
    await expect(page.locator("#tickets [data-ticket]")).to_have_count(1)
    [view] = await own_views(gateway)
    assert view["conditions"] == {
        "all": [{"field": "priority", "operator": "at_least", "value": "high"}],
        "any": [{"field": "tags", "operator": "has", "value": "fire"}],
    }

    await page.get_by_role("button", name="Edit view").click()
    dialog = page.get_by_role("dialog", name="Edit “Fires”")
    await expect(dialog.locator("#conditions-all [name=value]")).to_have_value("high")
    await dialog.locator("#conditions-any").get_by_role("button", name="Remove this condition").click()
    await dialog.locator("#conditions-all [name=operator]").select_option("in")
    await dialog.locator("#conditions-all [name=value]").fill("low, normal")
    await dialog.get_by_label("Title").fill("No fires")
    await dialog.get_by_label("For").select_option("everyone")
    await dialog.get_by_role("button", name="Save view").click()
    await expect(page.locator("#viewing")).to_have_text("No fires")
    await expect(page.locator("#tickets [data-ticket]")).to_contain_text("No hurry")
    [view] = await own_views(gateway)
    assert view["conditions"] == {
        "all": [{"field": "priority", "operator": "in", "value": ["low", "normal"]}],
        "any": [],
    }
    assert view["sharing"] == "everyone"

    await page.get_by_role("button", name="Edit view").click()
    await page.get_by_role("button", name="Remove view").click()
    await expect(page.locator("#viewing")).to_have_text("All that is not done")
    assert await own_views(gateway) == []


async def test_an_agent_makes_views_for_oneself_only_and_a_reader_none(gateway: Gateway, page: Page) -> None:
    for name in ("agent", "reader"):
        body = {"email": f"{name}@shop.test", "name": name.title(), "role": name, "password": PASSWORD}
        await gateway.ok("POST", f"{V1}/users", 201, json=body)
    shared = {"title": "Shared", "sharing": "everyone", "conditions": {"all": []}}
    view = await gateway.ok("POST", f"{V1}/views", 201, json=shared)
    for name in ("agent", "reader"):
        await page.goto(gateway.base)
        await page.get_by_label("Mail address").fill(f"{name}@shop.test")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Open").click()
        await page.locator(f"[data-view='{view['id']}']").click()
        await expect(page.locator("#viewing")).to_have_text("Shared")
        await expect(page.get_by_role("button", name="Edit view")).to_be_hidden()
        if name == "reader":
            await expect(page.get_by_role("button", name="New view")).to_be_hidden()
            return
        await page.get_by_role("button", name="New view").click()
        await expect(page.get_by_label("For")).to_be_disabled()
        await page.get_by_label("Title").fill("Mine")
        await page.locator("#conditions-all [name=field]").select_option("assignee")
        await page.locator("#conditions-all [name=value]").fill("Reader")  # by name; the view keeps the id
        await page.get_by_role("button", name="Save view").click()
        await expect(page.locator("#viewing")).to_have_text("Mine")
        await page.get_by_role("button", name="Edit view").click()
        await expect(page.get_by_role("heading", name="Edit “Mine”")).to_be_visible()  # it asks for the fields first
        await expect(page.locator("#conditions-all [name=value]")).to_have_value("Reader")
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Sign out").click()


async def test_the_editor_knows_the_fields_and_operators_there_are(gateway: Gateway, page: Page) -> None:
    await page.goto(gateway.base)
    assert await page.evaluate("FIELDS") == dict(conditions.FIELDS)
    expected = {kind: list(operators) for kind, operators in conditions.OPERATORS.items()}
    assert await page.evaluate("OPERATORS") == expected
