"""An agent's day at the console, in a real browser: several tickets, files, a small screen, a keyboard, bad lines."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from playwright.async_api import FilePayload, Page, Route, expect
from sqlalchemy import Connection, update

from gateway.bus import LiveEvent
from gateway.store.schema import messages, outbox
from tests.web.conftest import Gateway

pytestmark = pytest.mark.browser
V1 = "/api/v1"
EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>"
LONG = "W" * 300
PASSWORD = "correct horse battery"


async def two(gateway: Gateway) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two customers' tickets."""
    ann = await gateway.customer_writes("Is it blue?", "+4915100000001", name="Ann")
    return ann, await gateway.customer_writes("Where is it?", "+4915100000002", name="Bob")


async def choose(page: Page, ticket: dict[str, Any]) -> None:
    await page.locator(f"[data-ticket='{ticket['id']}']").click()
    await expect(page.locator("#subject")).to_have_text(f"#{ticket['number']} {ticket['subject']}")


async def test_a_late_answer_never_takes_the_place_of_the_ticket_that_was_chosen(gateway: Gateway, page: Page) -> None:
    ann, bob = await two(gateway)
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    await choose(page, ann)
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def late(route: Route) -> None:
        asked.set()
        await go_on.wait()
        await route.continue_()

    await page.route(f"**{V1}/tickets/{ann['id']}", late)
    await gateway.customer_writes("Or green?", "+4915100000001", name="Ann")
    await asked.wait()
    await choose(page, bob)
    await page.locator("#text").fill("Dear Bob")
    async with page.expect_response(f"**{V1}/tickets/{ann['id']}"):
        go_on.set()
    await gateway.customer_writes("Hello?", "+4915100000002", name="Bob")
    await expect(page.locator("#thread .inbound")).to_have_count(2)
    await expect(page.locator("#subject")).to_contain_text("Where is it?")
    await expect(page.locator("#text")).to_have_value("Dear Bob")


async def test_each_ticket_keeps_its_own_draft(gateway: Gateway, page: Page) -> None:
    ann, bob = await two(gateway)
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    await choose(page, ann)
    await page.locator("#text").fill("Only for us")
    await page.locator("#visibility").select_option("note")
    await page.locator("#then").select_option("solved")
    await choose(page, bob)
    await expect(page.locator("#text")).to_have_value("")
    await expect(page.locator("#visibility")).to_have_value("")
    await page.locator("#text").fill("Dear Bob")
    await choose(page, ann)
    await expect(page.locator("#text")).to_have_value("Only for us")
    await page.get_by_role("button", name="Add note").click()
    await expect(page.locator("#thread .note")).to_contain_text("Only for us")
    await expect(page.locator("#then")).to_have_value("")
    await choose(page, bob)
    await expect(page.locator("#text")).to_have_value("Dear Bob")
    await expect(page.locator("#send")).to_have_text("Send")


async def test_a_reply_on_its_way_leaves_the_next_ticket_alone(gateway: Gateway, page: Page) -> None:
    ann, bob = await two(gateway)
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    await choose(page, ann)
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(route: Route) -> None:
        asked.set()
        await go_on.wait()
        await route.continue_()

    await page.route(f"**{V1}/tickets/{ann['id']}/replies", slow)
    await page.locator("#text").fill("It is.")
    await page.locator("#text").press("Control+Enter")
    await asked.wait()
    await choose(page, bob)
    await page.locator("#text").fill("Dear Bob")
    go_on.set()
    await expect(page.locator("#send")).to_be_enabled()
    await expect(page.locator("#subject")).to_contain_text("Where is it?")
    await expect(page.locator("#text")).to_have_value("Dear Bob")
    await choose(page, ann)
    await expect(page.locator("#thread .outbound")).to_have_count(1)
    await expect(page.locator("#text")).to_have_value("")


def plain(name: str, content: bytes) -> FilePayload:
    return {"name": name, "mimeType": "text/plain", "buffer": content}


async def test_files_are_attached_taken_off_and_sent(gateway: Gateway, page: Page) -> None:
    ticket = await gateway.customer_writes("The label, please", name="Ann")
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    await choose(page, ticket)
    wrong, right = plain("wrong.txt", b"no"), plain(f"{EVIL}.txt", b"yes")
    await page.get_by_label("Attach", exact=True).set_input_files([wrong, right])
    await expect(page.locator("#attached li")).to_have_count(2)
    await page.get_by_role("button", name="Remove wrong.txt").click()
    await page.locator("#send").click()  # a file needs no words
    await expect(page.locator("#thread .outbound")).to_contain_text(".txt")
    await expect(page.locator("#attached li")).to_have_count(0)
    thread = await gateway.ok("GET", f"{V1}/tickets/{ticket['id']}/messages")
    [file] = thread["items"][-1]["attachments"]
    assert (await gateway.call("GET", file["url"])).body == b"yes"


async def test_a_file_that_was_not_taken_holds_the_reply_back(gateway: Gateway, page: Page) -> None:
    ticket = await gateway.customer_writes("The label, please", name="Ann")
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    await choose(page, ticket)
    await page.route(f"**{V1}/uploads", lambda route: route.abort())
    await page.get_by_label("Attach", exact=True).set_input_files(plain("a.txt", b"a"))
    await expect(page.locator("#attached li.deny")).to_contain_text("a.txt: the upload broke off")
    await page.locator("#text").fill("Here it is")
    await page.locator("#send").click()
    await expect(page.locator("#verdicts [data-rule=attachments]")).to_be_visible()
    await expect(page.locator("#text")).to_have_value("Here it is")
    await expect(page.locator("#thread .outbound")).to_have_count(0)


@pytest.mark.parametrize("width", [360, 1280])
async def test_nothing_a_customer_writes_breaks_the_page(gateway: Gateway, page: Page, width: int) -> None:
    ticket = await gateway.customer_writes(f"{EVIL} {LONG}", name=f"{EVIL}{LONG}")
    subject = f"{EVIL} {LONG}"
    await gateway.ok("PATCH", f"{V1}/tickets/{ticket['id']}", json={"subject": subject, "tags": [LONG[:200]]})
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    await page.set_viewport_size({"width": width, "height": 640})
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    await choose(page, ticket | {"subject": subject})
    await expect(page.locator("#thread .inbound")).to_contain_text(LONG)
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    assert await page.evaluate("document.querySelectorAll('#desk img, #desk script').length") == 0
    await page.locator("#text").fill("Thank you")
    await page.locator("#send").click()
    await expect(page.locator("#thread .outbound")).to_contain_text("Thank you")
    if width < 700:  # list and ticket take turns
        await page.get_by_role("button", name="All tickets").click()
        await expect(page.locator("#ticket")).to_be_hidden()
        await choose(page, ticket | {"subject": subject})


async def test_a_keyboard_is_enough_and_keeps_its_place(gateway: Gateway, page: Page) -> None:
    ann, _ = await two(gateway)
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    await expect(page.get_by_label("Search")).to_be_focused()
    row = page.locator(f"[data-ticket='{ann['id']}']")
    await row.focus()
    await gateway.customer_writes("Anybody?", "+4915100000003", name="Cleo")
    await expect(page.locator("#tickets [data-ticket]")).to_have_count(3)
    await expect(row).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#subject")).to_be_focused()

    status = page.locator("#properties [name=status]")
    await status.focus()
    for _ in range(5):  # on the way to "closed", which is for good, and back to "pending"
        await page.keyboard.press("ArrowDown")
    for _ in range(3):
        await page.keyboard.press("ArrowUp")
    await expect(status).to_have_value("pending")
    await page.keyboard.press("Enter")
    await expect(page.locator("#thread")).to_contain_text("new → pending")
    await expect(status).to_be_focused()
    log = await gateway.ok("GET", f"{V1}/tickets/{ann['id']}/events")
    changes = [entry["data"] for entry in log["items"] if entry["kind"] == "ticket.status_changed"]
    assert [entry["to"] for entry in changes] == ["pending"]
    await page.keyboard.press("Escape")
    await expect(row).to_be_focused()


async def test_what_did_not_arrive_is_sent_again_or_left(gateway: Gateway, page: Page) -> None:
    ticket = await gateway.customer_writes("Is it blue?", name="Ann")
    message = await gateway.ok("POST", f"{V1}/tickets/{ticket['id']}/replies", 202, json={"text": "It is."})
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    await choose(page, ticket)
    bubble = page.locator(f"[data-message='{message['id']}']")

    async def become(state: str) -> None:
        def job(connection: Connection) -> None:
            connection.execute(update(messages).where(messages.c.id == message["id"]).values(status=state))
            connection.execute(update(outbox).values(state=state, settled=False))

        await gateway.core.database.write(job)
        gateway.core.bus.publish([LiveEvent("message.updated", {"ticket_id": ticket["id"]}, "echo-a")])

    await become("unknown")
    await bubble.get_by_role("button", name="Leave it").click()
    await expect(page.locator("#thread")).to_contain_text("reply left")
    await become("failed")
    await bubble.get_by_role("button", name="Send again").click()
    await expect(bubble.locator("footer")).to_contain_text("queued")
    await become("sent")
    await expect(bubble.get_by_role("button")).to_have_count(0)
    await become("queued")
    await expect(bubble.get_by_role("button", name="Take back")).to_be_visible()
    await page.route(f"**{V1}/tickets/{ticket['id']}**", lambda route: route.abort())  # the page is behind
    await become("sent")
    await bubble.get_by_role("button", name="Take back").click()
    await expect(bubble.get_by_role("alert")).to_contain_text("can be cancelled")


async def test_what_stays_as_it_is_is_not_put_on_the_page_again(gateway: Gateway, page: Page) -> None:
    """Else a screen reader would read the whole thread at each event."""
    ticket = await gateway.customer_writes("Is it blue?", name="Ann")
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    await choose(page, ticket)
    first = page.locator("#thread .inbound").first
    await first.evaluate("element => { element.dataset.same = 'yes'; }")
    await gateway.customer_writes("Hello?", name="Ann")
    await expect(page.locator("#thread .inbound")).to_have_count(2)
    await expect(first).to_have_attribute("data-same", "yes")


async def test_an_open_ticket_follows_its_contact(gateway: Gateway, page: Page) -> None:
    """Into the one it is merged with; and it goes when the contact is deleted, with all that was said."""
    ann, bob = await two(gateway)
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    await choose(page, ann)
    await page.locator("#text").fill("Dear Ann")
    await gateway.ok("POST", f"{V1}/contacts/{ann['contact_id']}/merge", json={"into": bob["contact_id"]})
    await expect(page.locator("#facts")).to_contain_text("Bob")
    await expect(page.locator("#text")).to_have_value("Dear Ann")
    await gateway.ok("DELETE", f"{V1}/contacts/{bob['contact_id']}", 204)
    await expect(page.get_by_text("This ticket is no longer there.")).to_be_visible()
    await expect(page.locator("#tickets [data-ticket]")).to_have_count(0)
    assert "Is it blue?" not in await page.content()


async def test_who_signs_out_leaves_nothing_on_the_page(gateway: Gateway, page: Page) -> None:
    ann, _ = await two(gateway)
    body = {"email": "mia@shop.test", "name": "Mia", "password": PASSWORD, "accounts": ["echo-b"]}
    await gateway.ok("POST", f"{V1}/users", 201, json=body)
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    await choose(page, ann)
    await page.locator("#text").fill("half a secret")
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_label("Mail address").fill("mia@shop.test")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Open").click()
    await expect(page.get_by_text("No tickets here.")).to_be_visible()
    await expect(page.locator("#ticket")).to_be_hidden()
    assert "blue" not in await page.content()
    assert await page.locator("#text").input_value() == ""


async def test_what_happened_while_the_line_was_down_is_shown_after(gateway: Gateway, page: Page) -> None:
    down = True

    async def line(route: Route) -> None:
        if down:
            await route.abort()
        else:
            await route.continue_()

    await page.route(f"**{V1}/events", line)
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    await expect(page.get_by_text("No tickets here.")).to_be_visible()
    await expect(page.locator("#live")).to_have_text("offline")
    ticket = await gateway.customer_writes("Anybody?", name="Ann")
    down = False
    await expect(page.locator("#live")).to_have_text("live")
    await expect(page.locator(f"[data-ticket='{ticket['id']}']")).to_be_visible()


async def test_a_gateway_that_does_not_answer_is_told(gateway: Gateway, page: Page) -> None:
    await page.route(f"**{V1}/**", lambda route: route.abort())
    await page.goto(gateway.base)
    await expect(page.get_by_role("alert")).to_contain_text("does not answer")
    await page.unroute_all()
    await page.route(f"**{V1}/sessions", lambda route: route.abort())
    await page.get_by_label("Mail address").fill("mia@shop.test")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Open").click()
    await expect(page.get_by_role("alert")).to_contain_text("does not answer")


async def test_what_was_loaded_stays_loaded(gateway: Gateway, page: Page) -> None:
    for number in range(53):
        message = {"id": f"many-{number}", "from": f"+49151000000{number:02}", "text": f"case {number}"}
        assert (await gateway.webhook(json.dumps({"messages": [message]}).encode())).status == 200
    await gateway.intake.drain()
    await page.goto(f"{gateway.base}/#key={gateway.key}")
    rows = page.locator("#tickets [data-ticket]")
    await expect(rows).to_have_count(50)
    await page.get_by_role("button", name="Load more").click()
    await expect(rows).to_have_count(53)
    await gateway.customer_writes("One more", "+4915109999999", name="Zoe")
    await expect(page.get_by_role("button", name="One more")).to_be_visible()
    assert await rows.count() >= 53
