"""Replies and first messages over the API: judged, queued, refused with the reason, and settled by hand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import aiohttp
from sqlalchemy import update

from gateway.ids import micros
from gateway.store.schema import identities, messages, outbox
from tests.web.conftest import Gateway

V1 = "/api/v1"
AGENT = {"type": "agent", "id": "u1", "name": "Bo"}


async def test_a_reply_is_queued_and_shown(gateway: Gateway) -> None:
    ticket = await gateway.customer_writes()
    path = f"{V1}/tickets/{ticket['id']}/replies"
    dry = await gateway.ok("POST", f"{path}?dry_run=true", json={"text": "Hi"})
    assert (dry["decision"], dry["verdicts"], dry["alternatives"], dry["detour"]) == ("allow", [], [], None)
    assert dry["parts"] == [
        {"text": "Hi", "template": None, "tag": None, "files": [], "length": 2, "unit": "chars", "segments": None}
    ]
    assert dry["window"]["open"] is True
    assert dry["window"]["until"].endswith("Z")
    assert dry["waits"] == []
    assert (await gateway.ok("GET", f"{V1}/outbox"))["items"] == []
    message = await gateway.ok("POST", path, 202, json={"text": "Hi", "author": AGENT, "status": "pending"})
    shown = {"text": "Hi", "direction": "outbound", "status": "queued", "visibility": "private", "author": AGENT}
    assert message | shown == message
    [entry] = (await gateway.ok("GET", f"{V1}/outbox?state=queued"))["items"]
    assert (entry["message_id"], entry["ticket_id"]) == (message["id"], ticket["id"])
    assert (await gateway.ok("GET", f"{V1}/tickets/{ticket['id']}"))["status"] == "pending"
    cancelled = await gateway.ok("POST", f"{V1}/messages/{message['id']}/cancel", 202)
    assert cancelled["status"] == "cancelled"
    again = await gateway.call("POST", f"{V1}/messages/{message['id']}/cancel")
    assert (again.status, again.json["code"]) == (409, "not_cancellable")


async def test_a_refusal_names_its_rule_and_stands_in_the_event_log(gateway: Gateway) -> None:
    ticket = await gateway.customer_writes()
    late = micros(gateway.core.clock() - timedelta(days=2))
    await gateway.core.database.write(lambda c: c.execute(update(identities).values(opened_at=late)))
    path = f"{V1}/tickets/{ticket['id']}"
    contact = await gateway.ok("GET", f"{V1}/contacts/{ticket['contact_id']}")
    assert contact["identities"][0]["window"]["open"] is False
    assert contact["identities"][0]["window"]["until"].endswith("Z")
    dry = await gateway.ok("POST", f"{path}/replies?dry_run=true", json={"text": "Hi"})
    answer = await gateway.call("POST", f"{path}/replies", json={"text": "Hi"})
    assert (answer.status, answer.json["code"], answer.json["verdicts"]) == (422, "outbox_denied", dry["verdicts"])
    [verdict] = dry["verdicts"]
    assert (dry["decision"], verdict["decision"], verdict["rule"]) == ("deny", "deny", "window")
    assert verdict["reason"]
    refusals = [e for e in (await gateway.ok("GET", f"{path}/events"))["items"] if e["kind"] == "reply.refused"]
    assert [(event["data"]["rule"], event["data"]["reason"]) for event in refusals] == [("window", verdict["reason"])]


async def test_a_note_leaves_nothing_in_the_outbox(gateway: Gateway) -> None:
    ticket = await gateway.customer_writes()
    await gateway.ok(
        "POST", f"{V1}/tickets/{ticket['id']}/replies", 202, json={"text": "call her", "visibility": "note"}
    )
    assert (await gateway.ok("GET", f"{V1}/outbox"))["items"] == []


async def test_the_same_key_answers_the_same_and_another_body_is_409(gateway: Gateway) -> None:
    ticket = await gateway.customer_writes()
    path, headers = f"{V1}/tickets/{ticket['id']}/replies", {"Idempotency-Key": "k"}
    one = await gateway.ok("POST", path, 202, json={"text": "Hi"}, headers=headers)
    assert (await gateway.ok("POST", path, 202, json={"text": "Hi"}, headers=headers))["id"] == one["id"]
    answer = await gateway.call("POST", path, json={"text": "Ho"}, headers=headers)
    assert (answer.status, answer.json["code"]) == (409, "idempotency_conflict")
    assert len((await gateway.ok("GET", f"{V1}/outbox"))["items"]) == 1


async def test_a_closed_ticket_takes_notes_only(gateway: Gateway) -> None:
    ticket = await gateway.customer_writes()
    path = f"{V1}/tickets/{ticket['id']}"
    await gateway.ok("PATCH", path, json={"status": "closed"})
    answer = await gateway.call("POST", f"{path}/replies", json={"text": "Hi"})
    assert (answer.status, answer.json["verdicts"][0]["rule"]) == (422, "closed_ticket")
    await gateway.ok("POST", f"{path}/replies", 202, json={"text": "noted", "visibility": "note"})


async def test_a_first_message_makes_a_pending_ticket(gateway: Gateway) -> None:
    body = {"channel": "api", "to": "someone@example.com", "text": "Hello you"}
    message = await gateway.ok("POST", f"{V1}/messages", 202, json=body)
    ticket = await gateway.ok("GET", f"{V1}/tickets/{message['ticket_id']}")
    assert (ticket["status"], ticket["via"], ticket["channel"]) == ("pending", "api", "api")


async def test_an_upload_is_attached_and_a_limited_key_attaches_only_its_own(gateway: Gateway) -> None:
    ticket = await gateway.customer_writes()
    upload = await gateway.ok("POST", f"{V1}/uploads", 201, data=_file())
    key = await gateway.make_key("tenant", "agent", ["echo-a"])
    path = f"{V1}/tickets/{ticket['id']}/replies?dry_run=true"
    body = {"attachments": [{"upload": upload["id"]}]}
    answer = await gateway.call("POST", path, key=key, json=body)
    assert (answer.status, answer.json["code"]) == (422, "unknown_upload")
    assert answer.json["field"] == "attachments[0].upload"
    api = await gateway.ok(
        "POST", f"{V1}/messages", 202, json={"channel": "api", "to": "a@example.com", "text": "x", **body}
    )
    [shown] = api["attachments"]
    assert (await gateway.call("GET", shown["url"])).body == b"hello"


def _file() -> aiohttp.FormData:
    data = aiohttp.FormData()
    data.add_field("file", b"hello", filename="a.txt", content_type="text/plain")
    return data


async def test_failed_and_unknown_messages_are_settled_by_hand(gateway: Gateway) -> None:
    ticket = await gateway.customer_writes()
    message = await gateway.ok("POST", f"{V1}/tickets/{ticket['id']}/replies", 202, json={"text": "Hi"})
    path = f"{V1}/messages/{message['id']}"
    for action, code in (("retry", "not_retryable"), ("leave", "not_unknown")):
        answer = await gateway.call("POST", f"{path}/{action}")
        assert (answer.status, answer.json["code"]) == (409, code)

    async def become(state: str) -> None:
        def job(connection: Any) -> None:
            connection.execute(update(messages).where(messages.c.id == message["id"]).values(status=state))
            connection.execute(update(outbox).values(state=state, settled=False))

        await gateway.core.database.write(job)

    await become("unknown")
    assert (await gateway.ok("POST", f"{path}/leave", 202))["status"] == "unknown"
    await become("failed")
    assert (await gateway.ok("POST", f"{path}/retry", 202))["status"] == "queued"


async def test_a_dry_run_that_says_neither_yes_nor_no_sends_nothing(gateway: Gateway) -> None:
    ticket = await gateway.customer_writes()
    first = {"channel": "echo", "to": "+4917012345678", "text": "Hi"}
    inbound = {"direction": "inbound", "from": {"id": "a"}, "text": "Hi"}
    asked: list[tuple[str, dict[str, Any], str]] = [
        (f"{V1}/tickets/{ticket['id']}/replies", {"text": "Hi"}, query)
        for query in ("dry_run", "dry_run=", "dry_run=1")
    ]
    asked += [(f"{V1}/messages", first, "dry_run"), (f"{V1}/messages", inbound, "dry_run=true")]
    for path, body, query in asked:
        answer = await gateway.call("POST", f"{path}?{query}", json=body)
        assert (answer.status, answer.json["code"], answer.json["field"]) == (400, "invalid_parameter", "dry_run")
    assert len((await gateway.ok("GET", f"{V1}/tickets"))["items"]) == 1
    assert (await gateway.ok("GET", f"{V1}/outbox"))["items"] == []


async def test_a_dry_run_says_what_the_status_would_be_refused_for(gateway: Gateway) -> None:
    ticket = await gateway.customer_writes()
    await gateway.ok("POST", f"{V1}/ticket-fields", 201, json={"name": "cause", "required": True})
    path = f"{V1}/tickets/{ticket['id']}/replies"

    async def both(code: tuple[int, str], **body: str) -> None:
        for params in ({"dry_run": "true"}, {}):
            answer = await gateway.call("POST", path, json={"text": "Hi", **body}, params=params)
            assert (answer.status, answer.json["code"]) == code

    await both((422, "required_field"), status="solved")
    await gateway.ok("PATCH", f"{V1}/tickets/{ticket['id']}", json={"status": "closed"})
    await both((409, "ticket_closed"), status="open", visibility="note")


async def test_a_limited_key_writes_from_its_accounts_only(gateway: Gateway) -> None:
    key = await gateway.make_key("tenant", "agent", ["echo-b"])
    body = {"channel": "echo", "to": "+4917012345678", "text": "x", "template": {"name": "t"}}
    answer = await gateway.call("POST", f"{V1}/messages", key=key, json=body | {"account": "echo-a"})
    assert (answer.status, answer.json["code"]) == (422, "unknown_account")
    answer = await gateway.call("POST", f"{V1}/messages", key=key, json=body | {"channel": "api"})
    assert (answer.status, answer.json["code"]) == (422, "unknown_account")
    theirs = await gateway.customer_writes(account="echo-a")
    answer = await gateway.call(
        "POST", f"{V1}/messages", key=key, json={"channel": "echo", "contact": theirs["contact_id"], "text": "x"}
    )
    assert (answer.status, answer.json["code"]) == (422, "unknown_contact")


async def test_a_refusal_shows_other_ways_and_goes_one_when_asked_to(gateway: Gateway) -> None:
    ticket = await gateway.customer_writes()
    other = await gateway.customer_writes(account="echo-b", sender="+4915112345679")
    await gateway.ok("POST", f"{V1}/contacts/{other['contact_id']}/merge", json={"into": ticket["contact_id"]})
    late = micros(gateway.core.clock() - timedelta(days=2))
    closes = update(identities).where(identities.c.account == "echo-a").values(opened_at=late)
    await gateway.core.database.write(lambda c: c.execute(closes))
    path = f"{V1}/tickets/{ticket['id']}/replies"
    refused = await gateway.call("POST", path, json={"text": "Hi"})
    assert (refused.status, refused.json["code"]) == (422, "outbox_denied")
    [way] = refused.json["alternatives"]
    assert (way["account"], way["channel"], way["identity_id"]) == ("echo-b", "echo", other["identity_id"])
    assert way["until"].endswith("Z")
    body = {"text": "Hi", "fallback": [{"channel": "echo", "account": "echo-b"}]}
    dry = await gateway.ok("POST", f"{path}?dry_run=true", json=body)
    assert (dry["decision"], dry["detour"]["account"], dry["detour"]["tried"][0]["rule"]) == (
        "allow",
        "echo-b",
        "window",
    )
    message = await gateway.ok("POST", path, 202, json=body)
    assert (message["account"], message["ticket_id"]) == ("echo-b", other["id"])
    events = (await gateway.ok("GET", f"{V1}/tickets/{ticket['id']}/events"))["items"]
    assert [e["data"]["went_to"]["message_id"] for e in events if e["kind"] == "reply.fell_back"] == [message["id"]]
    key = await gateway.make_key("tenant", "agent", ["echo-a"])
    answer = await gateway.call("POST", path, key=key, json=body)
    assert (answer.status, answer.json["code"], answer.json["field"]) == (422, "unknown_account", "fallback[0].account")
    answer = await gateway.call("POST", path, key=key, json={"text": "Hi"})
    assert answer.json["alternatives"] == []


async def test_the_rules_are_listed(gateway: Gateway) -> None:
    rules = {entry["name"]: entry for entry in (await gateway.ok("GET", f"{V1}/rules"))["items"]}
    assert rules["loop_guard"]["settings"]["per_hour"] == 5
    assert (rules["opt_out"]["switchable"], bool(rules["opt_out"]["kept"])) == (False, True)
    assert (rules["quiet_hours"]["switchable"], rules["window"]["fallback"]) == (True, True)
