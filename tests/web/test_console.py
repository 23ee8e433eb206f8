"""The console page in a real browser: tickets appear by themselves, refusals are shown before and after sending."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect
from sqlalchemy import update

from gateway.ids import micros
from gateway.store.schema import identities
from tests.support.services import missing
from tests.web.conftest import Gateway

pytestmark = pytest.mark.browser


def chromium() -> str:
    """Where the browser is. Skips the test where there is none, unless services are required."""
    named = os.environ.get("CHROMIUM", "")
    path = named or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not path:
        missing("no chromium on this machine: the console is not tested in a browser")
    return path


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A browser without a window."""
    path = chromium()
    async with async_playwright() as playwright:
        found = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        await found.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page that must not have a single error on it, a refusal by the Content-Security-Policy among them."""
    found = await browser.new_page()
    faults: list[str] = []
    found.on("pageerror", lambda error: faults.append(str(error)))
    found.on("console", lambda line: faults.append(line.text) if "Content Security Policy" in line.text else None)
    yield found
    assert faults == []


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
