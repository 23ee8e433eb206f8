"""Two tenants are two keys that see one account each: on every route, what belongs to the other does not exist."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, select

from gateway.ids import micros, new_id
from gateway.store.schema import attachments, dead_jobs, dead_letters, events, messages, metadata, suspended
from gateway.web.api import ROUTES
from gateway.web.routes import Route
from tests.web.conftest import Gateway

NOT_A_TENANTS = ("/api/v1/attributes/{name}", "/api/v1/users/{id}")  # of the whole installation
BODIES: dict[tuple[str, str], Any] = {  # what a call must say to get as far as the object
    ("PATCH", "/api/v1/tickets/{id}"): {"status": "solved"},
    ("POST", "/api/v1/tickets/{id}/replies"): {"text": "Hello"},
    ("PATCH", "/api/v1/contacts/{id}"): {"name": "Mallory"},
    ("PATCH", "/api/v1/views/{id}"): {"title": "Mallory's"},
    ("POST", "/api/v1/contacts/{id}/merge"): {"into": "{own contact}"},
    ("POST", "/api/v1/contacts/{id}/unmerge"): {"identity": "{identity}"},
}
OBJECT_ROUTES = [
    route for route in ROUTES if "{" in route.path and route.scope and not route.unlimited
    and route.path not in NOT_A_TENANTS
]  # fmt: skip
LIST_ROUTES = [
    route for route in ROUTES if route.method == "GET" and "{" not in route.path and route.scope and not route.unlimited
]  # fmt: skip

UNLIMITED_ROUTES = [route for route in ROUTES if route.unlimited]


class Both:
    """One customer at each account, the key of the second, and ids of everything the first has."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.key = ""
        self.ids: dict[str, str] = {}
        self.names: dict[str, str] = {}

    async def make(self) -> None:
        gateway = self.gateway
        ticket = await gateway.customer_writes("A secret of tenant A", "+491511000001")
        own = await gateway.customer_writes("Mine", "+491511000002", "echo-b")
        contact = await gateway.ok("GET", f"/api/v1/contacts/{ticket['contact_id']}")
        self.key = await gateway.make_key("tenant-b", "admin", ["echo-b"])
        now = micros(gateway.core.clock())
        file, letter, order, held = new_id(), new_id(), new_id(), new_id()

        def job(connection: Any) -> str:
            message = str(connection.execute(select(messages.c.id).where(messages.c.account == "echo-a")).scalar())
            connection.execute(
                insert(attachments), [{"id": file, "message_id": message, "kind": "file", "state": "stored"}]
            )
            row = {"id": letter, "direction": "outbound", "kind": "message", "ref": message, "account": "echo-a",
                   "message_id": message, "created_at": now}  # fmt: skip
            connection.execute(insert(dead_letters), [row])
            work = {"id": order, "action": "drop", "filter": '{"visible":["echo-a"]}', "actor": '{"type":"agent"}',
                    "end_id": letter, "created_at": now, "updated_at": now, "not_before": now}  # fmt: skip
            connection.execute(insert(dead_jobs), [work])
            event = {"id": held, "delivery_id": new_id(), "account": "echo-a", "kind": "message",
                     "dedupe_key": held, "payload": '{"text": "A secret of tenant A"}', "received_at": now,
                     "state": "suspended"}  # fmt: skip
            connection.execute(insert(events), [event])
            row = {"id": held, "delivery_id": new_id(), "account": "echo-a", "cause": "spam", "received_at": now,
                   "created_at": now, "expires_at": now}  # fmt: skip
            connection.execute(insert(suspended), [row])
            return message

        message = await gateway.core.database.write(job)
        view = {"title": "A secret of tenant A", "conditions": {}}
        view = await gateway.ok("POST", "/api/v1/views", 201, json=view)
        self.ids = {
            "views": view["id"], "tickets": ticket["id"], "messages": message, "contacts": contact["id"],
            "attachments": file, "dead": letter, "dead-jobs": order, "suspended": held,
        }  # fmt: skip
        self.names = {"{own contact}": own["contact_id"], "{identity}": contact["identities"][0]["id"]}

    def address(self, route: Route) -> str:
        """The route's path with an id of the other tenant. Raises `KeyError` for a kind that nobody made here yet."""
        return route.path.replace("{id}", self.ids[route.path.split("/")[3]])

    def body(self, route: Route) -> Any:
        body = BODIES.get((route.method, route.path))
        return {key: self.names.get(value, value) for key, value in body.items()} if body else None

    async def everything(self) -> dict[str, list[Any]]:
        """All rows of the store that are about messages, tickets and people."""

        def job(connection: Any) -> dict[str, list[Any]]:
            return {
                table.name: [tuple(row) for row in connection.execute(select(table))]
                for table in metadata.sorted_tables
                if table.name not in ("api_keys", "idempotency")
            }

        return await self.gateway.core.database.read(job)


@pytest.fixture
async def both(gateway: Gateway) -> Both:
    made = Both(gateway)
    await made.make()
    return made


async def test_no_route_lets_one_tenant_touch_what_is_the_others(both: Both) -> None:
    before = await both.everything()
    for route in OBJECT_ROUTES:
        answer = await both.gateway.call(route.method, both.address(route), key=both.key, json=both.body(route))
        assert answer.status in (403, 404), (route.method, route.path, answer.status, answer.body)
        assert b"secret" not in answer.body
    assert await both.everything() == before


async def test_the_owner_reaches_every_one_of_them(both: Both) -> None:
    """Or the test above would pass for a path that does not exist."""
    for route in (route for route in OBJECT_ROUTES if route.method == "GET"):
        answer = await both.gateway.call("GET", both.address(route))
        assert answer.status != 404, (route.path, answer.body)


async def test_no_list_shows_one_tenant_what_is_the_others(both: Both) -> None:
    hidden = [value.encode() for value in (*both.ids.values(), "A secret of tenant A", "+491511000001", '"echo-a"')]
    for route in (route for route in LIST_ROUTES if route.media in ("application/json", "text/csv")):
        answer = await both.gateway.call("GET", route.path, key=both.key)
        assert answer.status in (200, 403), (route.path, answer.status, answer.body)
        assert not [value for value in hidden if value in answer.body], (route.path, answer.body)


async def test_what_concerns_every_account_is_for_keys_that_see_all(both: Both) -> None:
    """The list of addresses left alone among it: one tenant can neither read it nor silence another's customers."""
    entry = {"channel": "echo", "address": "+491511000001", "reason": "A secret of tenant A"}
    made = await both.gateway.ok("POST", "/api/v1/suppressions", 201, json=entry)
    assert {"/api/v1/suppressions", "/api/v1/suppressions/{id}"} <= {route.path for route in UNLIMITED_ROUTES}
    before = await both.everything()
    for route in UNLIMITED_ROUTES:
        path = route.path.replace("{id}", made["id"]).replace("{name}", "agent")
        body = entry if route.path == "/api/v1/suppressions" and route.method == "POST" else None
        answer = await both.gateway.call(route.method, path, key=both.key, json=body)
        assert answer.status == 403, (route.method, path, answer.status, answer.body)
        assert b"secret" not in answer.body
    assert await both.everything() == before
    assert (await both.gateway.ok("GET", "/api/v1/suppressions"))["items"] == [made]
