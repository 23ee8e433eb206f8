"""Dead letters over the API: found, read, replayed and dropped, one by one and by a job that survives."""

from __future__ import annotations

from typing import Any

from sqlalchemy import update

from gateway import deadletters
from gateway.ids import micros
from gateway.store import dead, schema
from gateway.store.outbox import OutboxStore
from gateway.tickets import Actor
from outbox.dispatcher import Dispatcher
from tests.web.conftest import Gateway

V1 = "/api/v1"
KIM = Actor("agent", "7", "Kim")


async def bury(gateway: Gateway, count: int, account: str = "echo-a") -> list[str]:
    """So many inbound letters; their ids, the oldest first."""
    for _ in range(count):
        await gateway.webhook(f'{{"messages": [{{"id": "bad{next(gateway._ids)}"}}]}}'.encode(), account)
    await gateway.intake.drain()
    found = (await gateway.ok("GET", f"{V1}/dead?limit=200&account={account}"))["items"]
    return [letter["id"] for letter in reversed(found)]


async def ended(gateway: Gateway, job: dict[str, Any]) -> dict[str, Any]:
    """The job once it has been worked on to its end."""
    worker = deadletters.Undertaker(gateway.core)
    for _ in range(100):
        await gateway.core.database.write(
            lambda c: c.execute(update(schema.dead_jobs).values(not_before=0)).rowcount  # the next second
        )
        if not await worker.step():
            break
    found: dict[str, Any] = await gateway.ok("GET", f"{V1}/dead-jobs/{job['id']}")
    return found


async def test_letters_are_found_by_what_they_are(gateway: Gateway) -> None:
    first, second = await bury(gateway, 2)
    (other,) = await bury(gateway, 1, "echo-b")
    await gateway.core.database.write(
        lambda c: (
            c.execute(
                update(schema.dead_letters)
                .where(schema.dead_letters.c.id == first)
                .values(created_at=micros(gateway.core.clock()) - 7_200_000_000, code="old")
            ).rowcount
        )
    )
    for query, expected in {
        "account=echo-b": [other],
        "older_than=3600": [first],
        "newer_than=3600": [other, second],
        "code=old": [first],
        "kind=event&direction=inbound": [other, second, first],
        "kind=message": [],
        "direction=outbound": [],
        "class=permanent&account=echo-a": [second, first],
        "class=throttle": [],
        "channel=echo": [],
    }.items():
        found = (await gateway.ok("GET", f"{V1}/dead?{query}"))["items"]
        assert [letter["id"] for letter in found] == expected, query
    for query, field in {"older_than=x": "older_than", "class=odd": "class", "kind=odd": "kind"}.items():
        answer = await gateway.call("GET", f"{V1}/dead?{query}")
        assert (answer.status, answer.json["code"], answer.json["field"]) == (400, "invalid_parameter", field)


async def test_a_letter_shows_what_came(gateway: Gateway) -> None:
    (letter,) = await bury(gateway, 1)
    found = await gateway.ok("GET", f"{V1}/dead/{letter}")
    assert found["raw"]["text"] == '{"messages": [{"id": "bad1"}]}'
    assert found["raw"]["source"] == "webhook"
    assert found["event"] is not None
    assert (found["history"], found["payload"]) == ([], None)
    reader = await gateway.make_key("reader", "read")
    assert (await gateway.call("GET", f"{V1}/dead/{letter}", key=reader)).status == 403
    other = await gateway.make_key("other", "admin", ["echo-b"])
    assert (await gateway.call("GET", f"{V1}/dead/{letter}", key=other)).status == 404


async def test_a_job_drops_what_fits_and_nothing_else(gateway: Gateway) -> None:
    await bury(gateway, 5)
    await bury(gateway, 2, "echo-b")
    order = {"action": "drop", "filter": {"account": "echo-a"}, "per_second": 2}
    job = await gateway.ok("POST", f"{V1}/dead-jobs", 202, json=order)
    assert (job["state"], job["total"], job["done"], job["filter"]) == ("running", 5, 0, {"account": "echo-a"})
    worker = deadletters.Undertaker(gateway.core)
    assert await worker.step()
    assert (await gateway.ok("GET", f"{V1}/dead-jobs/{job['id']}"))["done"] == 2
    assert not await worker.step()  # not in the same second
    later = await bury(gateway, 1)  # made after the order
    done = await ended(gateway, job)
    assert (done["state"], done["done"], done["refused"]) == ("done", 5, 0)
    left = (await gateway.ok("GET", f"{V1}/dead"))["items"]
    assert [letter["account"] for letter in left] == ["echo-a", "echo-b", "echo-b"]
    assert left[0]["id"] == later[-1]


async def test_a_job_goes_on_where_it_was_when_its_worker_died(gateway: Gateway) -> None:
    await bury(gateway, 5)
    job = await gateway.ok("POST", f"{V1}/dead-jobs", 202, json={"action": "replay", "per_second": 3})
    await deadletters.Undertaker(gateway.core).step()
    # one more was handed out and replayed, and its worker died before it could note it
    assert await gateway.core.database.write(lambda c: dead.take_job(c, 2**62, 0)) is not None
    (letter, *_) = await gateway.core.database.read(lambda c: dead.oldest(c, dead.Filter(), 1))
    await deadletters.replay(gateway.core, letter["id"], KIM)
    done = await ended(gateway, job)
    assert (done["state"], done["done"]) == ("done", 4)
    await gateway.intake.drain()
    found = (await gateway.ok("GET", f"{V1}/dead"))["items"]
    assert len(found) == 5  # each was tried again once, and is as bad as before
    assert letter["id"] not in {entry["id"] for entry in found}


async def test_a_cancelled_job_stops_where_it_is(gateway: Gateway) -> None:
    await bury(gateway, 4)
    job = await gateway.ok("POST", f"{V1}/dead-jobs", 202, json={"action": "drop", "per_second": 1})
    await deadletters.Undertaker(gateway.core).step()
    assert (await gateway.ok("POST", f"{V1}/dead-jobs/{job['id']}/cancel"))["state"] == "cancelled"
    assert (await gateway.call("POST", f"{V1}/dead-jobs/{job['id']}/cancel")).status == 409
    done = await ended(gateway, job)
    assert (done["state"], done["done"]) == ("cancelled", 1)
    assert len((await gateway.ok("GET", f"{V1}/dead"))["items"]) == 3


async def test_a_key_for_some_accounts_handles_and_sees_theirs_only(gateway: Gateway) -> None:
    await bury(gateway, 1)
    await bury(gateway, 1, "echo-b")
    key = await gateway.make_key("b", "admin", ["echo-b"])
    all_of_it = await gateway.ok("POST", f"{V1}/dead-jobs", 202, json={"action": "drop"})
    own = await gateway.ok("POST", f"{V1}/dead-jobs", 202, json={"action": "drop"}, key=key)
    assert (all_of_it["total"], own["total"]) == (2, 1)
    assert [job["id"] for job in (await gateway.ok("GET", f"{V1}/dead-jobs", key=key))["items"]] == [own["id"]]
    assert (await gateway.call("GET", f"{V1}/dead-jobs/{all_of_it['id']}", key=key)).status == 404
    assert (await gateway.call("POST", f"{V1}/dead-jobs/{all_of_it['id']}/cancel", key=key)).status == 404


async def test_a_job_without_work_is_done_at_once(gateway: Gateway) -> None:
    job = await gateway.ok("POST", f"{V1}/dead-jobs", 202, json={"action": "replay", "filter": {"class": "auth"}})
    assert (job["state"], job["total"]) == ("done", 0)
    for body, field in (
        ({"action": "burn"}, "action"),
        ({"action": "drop", "per_second": 0}, "per_second"),
        ({"action": "drop", "filter": {"odd": 1}}, "filter.odd"),
    ):
        answer = await gateway.call("POST", f"{V1}/dead-jobs", json=body)
        assert (answer.status, answer.json["code"], answer.json["field"]) == (422, "invalid_body", field)


async def test_the_outbox_in_figures(gateway: Gateway) -> None:
    ticket = await gateway.customer_writes("Hello")
    body = {"text": "Hi", "author": {"type": "agent", "id": "1", "name": "Kim"}}
    await gateway.ok("POST", f"{V1}/tickets/{ticket['id']}/replies", 202, json=body)
    found = await gateway.ok("GET", f"{V1}/outbox/summary")
    assert found["states"] == {"queued": 1, "held": 0, "sending": 0, "unknown": 0}
    assert (found["undecided"], found["dead"]) == (0, 0)
    assert found["oldest_queued_s"] >= 0
    assert [(entry["account"], entry["states"]) for entry in found["accounts"]] == [("echo-a", {"queued": 1})]
    other = await gateway.make_key("other", "read", ["echo-b"])
    assert (await gateway.ok("GET", f"{V1}/outbox/summary", key=other))["accounts"] == []


async def test_a_message_that_cannot_be_read_is_shown_and_not_sent_again(gateway: Gateway) -> None:
    ticket = await gateway.customer_writes()
    message = await gateway.ok("POST", f"{V1}/tickets/{ticket['id']}/replies", 202, json={"text": "Hi"})
    await gateway.core.database.write(lambda c: c.execute(update(schema.outbox).values(payload='{"id')).rowcount)
    store = OutboxStore(gateway.core)
    await Dispatcher(store, gateway.core.accounts, gateway.core.clock, store.pace, owner="test").round()
    shown = await gateway.ok("GET", f"{V1}/messages/{message['id']}")
    assert (shown["status"], shown["error"]["code"], shown["error"]["class"]) == ("failed", "unreadable", "permanent")
    [letter] = (await gateway.ok("GET", f"{V1}/dead?code=unreadable"))["items"]
    detail = await gateway.ok("GET", f"{V1}/dead/{letter['id']}")
    assert (detail["message_id"], detail["payload"]) == (message["id"], None)
    for path in (f"dead/{letter['id']}/replay", f"messages/{message['id']}/retry"):
        again = await gateway.call("POST", f"{V1}/{path}")
        assert (again.status, again.json["code"]) == (409, "not_retryable")
