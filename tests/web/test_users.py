"""Users, roles, groups, sessions and keys over the API: who may do what, and what nobody may."""

from __future__ import annotations

import json

import aiohttp
import pytest

from gateway.ids import micros
from gateway.store import users as store
from gateway.web.ratelimit import SIGN_INS_PER_MINUTE
from tests.web.conftest import Answered, Gateway, running

PASSWORD = "correct horse battery"


async def make_user(gateway: Gateway, email: str = "mia@shop.test", role: str = "agent", **more: object) -> str:
    body = {"email": email, "name": "Mia", "role": role, "password": PASSWORD, **more}
    return str((await gateway.ok("POST", "/api/v1/users", 201, json=body))["id"])


class Browser:
    """Somebody signed in: cookies and the session's token."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.csrf = ""

    async def __aenter__(self) -> Browser:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def call(self, method: str, path: str, *, csrf: str | None = None, **more: object) -> Answered:
        headers = {"X-CSRF-Token": self.csrf if csrf is None else csrf} if method != "GET" else {}
        url = self._gateway.base + path
        async with self._session.request(method, url, headers=headers, **more) as answer:  # type: ignore[arg-type]
            return Answered(answer.status, answer.headers, await answer.read())

    async def sign_in(self, email: str = "mia@shop.test", password: str = PASSWORD) -> Answered:
        answer = await self.call("POST", "/api/v1/sessions", json={"email": email, "password": password})
        if answer.status == 201:
            self.csrf = answer.json["csrf"]
        return answer


async def test_a_session_stands_for_the_user(gateway: Gateway) -> None:
    user = await make_user(gateway)
    ticket = await gateway.customer_writes()
    async with Browser(gateway) as browser:
        answer = await browser.sign_in("MIA@shop.TEST")
        assert (answer.status, answer.json["user_id"], answer.json["role"]) == (201, user, "agent")
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        reply = await browser.call("POST", f"/api/v1/tickets/{ticket['id']}/replies", json={"text": "Hello"})
        assert reply.status == 202
        message = await gateway.ok("GET", f"/api/v1/messages/{reply.json['id']}")
        assert message["author"] == {"type": "agent", "id": user, "name": "Mia"}
        assert (await browser.call("DELETE", "/api/v1/sessions")).status == 204
        assert (await browser.call("GET", "/api/v1/tickets")).status == 401


async def test_unsafe_requests_of_a_session_need_its_token(gateway: Gateway) -> None:
    await make_user(gateway)
    ticket = await gateway.customer_writes()
    async with Browser(gateway) as browser:
        await browser.sign_in()
        for wrong in ("", "x", "ü" * 40):
            answer = await browser.call("PATCH", f"/api/v1/tickets/{ticket['id']}", csrf=wrong, json={"status": "open"})
            assert (answer.status, answer.json["code"]) == (403, "csrf")
        assert (await browser.call("GET", "/api/v1/tickets")).status == 200
        right = await browser.call("PATCH", f"/api/v1/tickets/{ticket['id']}", json={"status": "open"})
        assert right.status == 200


async def test_an_https_gateway_binds_the_cookie_to_itself(tmp_path: object) -> None:
    async with running(tmp_path, public_url="https://support.example") as gateway:  # type: ignore[arg-type]
        await make_user(gateway)
        async with Browser(gateway) as browser:
            cookie = (await browser.sign_in()).headers["Set-Cookie"]
    assert cookie.startswith("__Host-session=")
    assert "; Secure" in cookie
    assert "Path=/;" in cookie


async def test_a_wrong_password_and_an_unknown_address_look_alike(gateway: Gateway) -> None:
    await make_user(gateway)
    async with Browser(gateway) as browser:
        known, unknown = await browser.sign_in(password="wrong"), await browser.sign_in("no@shop.test")
    assert (known.status, known.body) == (unknown.status, unknown.body)
    assert known.json["code"] == "wrong_password"


async def test_signing_in_takes_json_that_says_so(gateway: Gateway) -> None:
    """What a page of another site may send without asking is refused: a form, and a body of no type at all."""
    await make_user(gateway)
    body = json.dumps({"email": "mia@shop.test", "password": PASSWORD}).encode()
    async with aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as anybody:
        for headers in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}):
            async with anybody.post(f"{gateway.base}/api/v1/sessions", data=body, headers=headers) as answer:
                problem = await answer.json(content_type=None)
                assert (answer.status, problem["code"]) == (415, "unsupported_media_type"), headers
                assert problem["detail"] == "application/json is wanted"
                assert "Set-Cookie" not in answer.headers
        headers = {"Content-Type": "application/json; charset=utf-8"}
        async with anybody.post(f"{gateway.base}/api/v1/sessions", data=body, headers=headers) as answer:
            assert answer.status == 201
        key = {"Authorization": f"Bearer {gateway.key}"}  # no browser sends one by itself: it may go without
        body = b'{"name": "size"}'
        async with anybody.post(f"{gateway.base}/api/v1/attributes", data=body, headers=key) as answer:
            assert answer.status == 201


async def test_tries_to_sign_in_are_few(gateway: Gateway) -> None:
    await make_user(gateway)
    async with Browser(gateway) as browser:
        answers = [await browser.sign_in(password="wrong") for _ in range(12)]
        assert [answer.status for answer in answers][-1] == 429
        assert int(answers[-1].headers["Retry-After"]) > 0
        assert (await browser.sign_in()).status == 429  # the right one too


async def test_tries_of_the_own_password_are_few_too(gateway: Gateway) -> None:
    await make_user(gateway)
    async with Browser(gateway) as browser:
        await browser.sign_in()
        guess = {"current": "a guess", "new": "another horse battery"}
        found = [await browser.call("POST", "/api/v1/me/password", json=guess) for _ in range(SIGN_INS_PER_MINUTE + 4)]
    assert (found[0].status, found[-1].status) == (401, 429)
    assert int(found[-1].headers["Retry-After"]) > 0


async def test_who_is_deactivated_is_out_at_once(gateway: Gateway) -> None:
    user = await make_user(gateway)
    key = (await gateway.ok("POST", "/api/v1/keys", 201, json={"name": "mine", "user": user}))["key"]
    async with Browser(gateway) as browser:
        await browser.sign_in()
        await gateway.ok("PATCH", f"/api/v1/users/{user}", json={"active": False})
        assert (await browser.call("GET", "/api/v1/tickets")).status == 401
        assert (await gateway.call("GET", "/api/v1/tickets", key=key)).status == 401
        assert (await browser.sign_in()).status == 401
        await gateway.ok("PATCH", f"/api/v1/users/{user}", json={"active": True})
        assert (await browser.sign_in()).status == 201


async def test_a_new_password_ends_every_session(gateway: Gateway) -> None:
    await make_user(gateway)
    async with Browser(gateway) as browser, Browser(gateway) as elsewhere:
        await browser.sign_in()
        await elsewhere.sign_in()
        body = {"current": "wrong", "new": "another long password"}
        assert (await browser.call("POST", "/api/v1/me/password", json=body)).json["field"] == "current"
        short = await browser.call("POST", "/api/v1/me/password", json={"current": PASSWORD, "new": "short"})
        assert (short.status, short.json["field"]) == (422, "new")
        done = await browser.call("POST", "/api/v1/me/password", json=body | {"current": PASSWORD})
        assert done.status == 204
        assert (await elsewhere.call("GET", "/api/v1/me")).status == 401
        assert (await browser.sign_in()).status == 401
        assert (await browser.sign_in(password="another long password")).status == 201


async def test_sessions_end_by_themselves(gateway: Gateway) -> None:
    user = await make_user(gateway)
    now = micros(gateway.core.clock())
    made = await gateway.core.database.write(lambda connection: store.sign_in(connection, user, now))

    async def lives(at: int) -> bool:
        return (
            await gateway.core.database.read(lambda connection: store.session(connection, made.token, at)) is not None
        )

    assert await lives(now + store.SESSION_IDLE - 1)
    assert not await lives(now + store.SESSION_IDLE + 1)
    used = now + store.SESSION_LONGEST - 1000
    await gateway.core.database.write(lambda c: store.session_used(c, store.hash_of(made.token), user, used))
    assert await lives(used)
    assert not await lives(now + store.SESSION_LONGEST + 1)


async def test_no_password_and_no_token_lies_in_the_store_in_clear(gateway: Gateway) -> None:
    await make_user(gateway)
    async with Browser(gateway) as browser:
        answer = await browser.sign_in()
    token = answer.headers["Set-Cookie"].partition("=")[2].partition(";")[0]
    stored = (gateway.core.settings.data_dir / "gateway.db").read_bytes()
    stored += (gateway.core.settings.data_dir / "gateway.db-wal").read_bytes()
    assert token.encode() not in stored
    assert PASSWORD.encode() not in stored
    assert b"$argon2id$" in stored


# --- roles ------------------------------------------------------------------------------------------------------------


async def test_a_role_of_ones_own_may_what_it_says(gateway: Gateway) -> None:
    body = {"name": "clerk", "permissions": ["tickets.*", "messages.read"]}
    await gateway.ok("POST", "/api/v1/roles", 201, json=body)
    await make_user(gateway, role="clerk")
    ticket = await gateway.customer_writes()
    async with Browser(gateway) as browser:
        await browser.sign_in()
        assert (await browser.call("PATCH", f"/api/v1/tickets/{ticket['id']}", json={"status": "open"})).status == 200
        refused = await browser.call("GET", "/api/v1/contacts")
        assert (refused.status, "contacts.read" in refused.json["detail"]) == (403, True)
        await gateway.ok("PATCH", "/api/v1/roles/clerk", json={"permissions": ["*.read"]})
        assert (await browser.call("GET", "/api/v1/contacts")).status == 200
        assert (await browser.call("PATCH", f"/api/v1/tickets/{ticket['id']}", json={"status": "hold"})).status == 403
    used = await gateway.call("DELETE", "/api/v1/roles/clerk")
    assert (used.status, used.json["code"]) == (409, "role_in_use")


async def test_a_reply_does_not_change_a_ticket_its_writer_may_not_change(gateway: Gateway) -> None:
    await gateway.ok("POST", "/api/v1/roles", 201, json={"name": "scribe", "permissions": ["messages.*", "*.read"]})
    await make_user(gateway, role="scribe")
    ticket = await gateway.customer_writes()
    path = f"/api/v1/tickets/{ticket['id']}/replies"
    first = {"channel": "echo", "to": "+4917012345678", "text": "Hi", "status": "solved"}
    async with Browser(gateway) as browser:
        await browser.sign_in()
        for refused in (
            await browser.call("POST", path, json={"text": "Hi", "status": "closed"}),
            await browser.call("POST", path, json={"text": "Hi", "visibility": "note", "status": "solved"}),
            await browser.call("POST", "/api/v1/messages", json=first),
        ):
            assert (refused.status, refused.json["field"], refused.json["code"]) == (403, "status", "forbidden")
        assert (await gateway.ok("GET", f"/api/v1/tickets/{ticket['id']}"))["status"] == "new"
        assert (await browser.call("POST", path, json={"text": "Hi"})).status == 202


async def test_what_concerns_oneself_needs_no_permission(gateway: Gateway) -> None:
    await gateway.ok("POST", "/api/v1/roles", 201, json={"name": "clerk", "permissions": ["tickets.*"]})
    await make_user(gateway, role="clerk")
    async with Browser(gateway) as browser:
        await browser.sign_in()
        assert (await browser.call("GET", "/api/v1/me")).json["role"] == "clerk"
        weak = await browser.call("POST", "/api/v1/me/password", json={"current": PASSWORD, "new": "x"})
        assert weak.json["code"] == "invalid_value"
        assert (await browser.call("DELETE", "/api/v1/sessions")).status == 204
        assert (await browser.call("GET", "/api/v1/me")).status == 401


async def test_nobody_hands_out_more_than_he_has(gateway: Gateway) -> None:
    await gateway.ok(
        "POST", "/api/v1/roles", 201, json={"name": "hr", "permissions": ["users.*", "access.*", "*.read"]}
    )
    await make_user(gateway, role="hr")
    boss = await make_user(gateway, "boss@shop.test", "admin")
    async with Browser(gateway) as browser:
        await browser.sign_in()
        for method, path, body in (
            ("POST", "/api/v1/users", {"email": "a@shop.test", "role": "admin"}),
            ("PATCH", f"/api/v1/users/{boss}", {"password": "a new long password"}),
            ("POST", "/api/v1/roles", {"name": "root", "permissions": ["*"]}),
            ("PATCH", "/api/v1/roles/hr", {"permissions": ["*"]}),
            ("POST", "/api/v1/keys", {"name": "root", "scope": "admin"}),
        ):
            answer = await browser.call(method, path, json=body)
            assert (answer.status, answer.json["code"]) == (403, "forbidden"), path
        fine = await browser.call("POST", "/api/v1/users", json={"email": "b@shop.test", "role": "reader"})
        assert fine.status == 201


async def test_the_last_administrator_stays(gateway: Gateway) -> None:
    boss = await make_user(gateway, role="admin")
    for change in ({"role": "agent"}, {"active": False}):
        answer = await gateway.call("PATCH", f"/api/v1/users/{boss}", json=change)
        assert (answer.status, answer.json["code"]) == (409, "last_admin")
    await make_user(gateway, "second@shop.test", "admin")
    await gateway.ok("PATCH", f"/api/v1/users/{boss}", json={"role": "agent"})


WRONG = {  # body -> status, code, field
    "an address twice": ({"email": "MIA@SHOP.test"}, 409, "user_exists", "email"),
    "no address": ({"email": "mia at shop"}, 422, "invalid_value", "email"),
    "an unknown role": ({"email": "a@b.test", "role": "king"}, 422, "unknown_role", "role"),
    "an unknown account": ({"email": "a@b.test", "accounts": ["echo-a", "no"]}, 422, "unknown_account", "accounts[1]"),
    "a short password": ({"email": "a@b.test", "password": "short"}, 422, "invalid_value", "password"),
    "the own address": ({"email": "a.long@b.test", "password": "A.long@b.test"}, 422, "invalid_value", "password"),
    "an unknown field": ({"email": "a@b.test", "king": True}, 422, "invalid_body", "king"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "status", "code", "field"), WRONG.values(), ids=WRONG)
async def test_a_user_that_cannot_be(
    gateway: Gateway, body: dict[str, object], status: int, code: str, field: str
) -> None:
    await make_user(gateway)
    answer = await gateway.call("POST", "/api/v1/users", json=body)
    assert (answer.status, answer.json["code"], answer.json["field"]) == (status, code, field)


# --- groups and assignment --------------------------------------------------------------------------------------------


async def test_tickets_are_assigned_to_people_and_groups_that_are_there(gateway: Gateway) -> None:
    ticket = await gateway.customer_writes()
    path = f"/api/v1/tickets/{ticket['id']}"
    free = await gateway.ok("PATCH", path, json={"assignee": "somebody elsewhere", "group": "any"})
    assert free["assignee"] == "somebody elsewhere"  # nobody works here yet: another system keeps them
    mia = await make_user(gateway)
    group = await gateway.ok("POST", "/api/v1/groups", 201, json={"name": "Sales", "members": [mia]})
    assert (await gateway.call("PATCH", path, json={"assignee": "nobody"})).json["code"] == "unknown_user"
    assert (await gateway.call("PATCH", path, json={"group": "nowhere"})).json["code"] == "unknown_group"
    done = await gateway.ok("PATCH", path, json={"assignee": mia, "group": "Sales"})
    assert (done["assignee"], done["group"]) == (mia, "Sales")
    assert (await gateway.ok("GET", f"/api/v1/users/{mia}"))["groups"] == ["Sales"]
    await gateway.ok("PATCH", f"/api/v1/groups/{group['id']}", json={"name": "Shop"})
    assert (await gateway.ok("GET", path))["group"] == "Shop"
    unknown = await gateway.call("PATCH", f"/api/v1/groups/{group['id']}", json={"members": [mia, "0" * 32]})
    assert (unknown.status, unknown.json["field"]) == (422, "members[1]")
    assert (await gateway.call("POST", "/api/v1/groups", json={"name": "Shop"})).json["code"] == "group_exists"
    await gateway.ok("DELETE", f"/api/v1/groups/{group['id']}", 204)
    assert (await gateway.ok("GET", path))["group"] is None


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_a_users_key_may_never_more_than_the_user(gateway: Gateway) -> None:
    reader = await make_user(gateway, role="reader", accounts=["echo-a"])
    body = {"name": "mine", "scope": "admin", "user": reader}
    key = (await gateway.ok("POST", "/api/v1/keys", 201, json=body))["key"]
    here, there = await gateway.customer_writes(), await gateway.customer_writes(account="echo-b", sender="+491511")
    assert (await gateway.call("GET", f"/api/v1/tickets/{here['id']}", key=key)).status == 200
    assert (await gateway.call("GET", f"/api/v1/tickets/{there['id']}", key=key)).status == 404
    assert (await gateway.call("PATCH", f"/api/v1/tickets/{here['id']}", key=key, json={})).status == 403


async def test_keys_are_listed_without_the_key_and_revoked(gateway: Gateway) -> None:
    made = await gateway.ok("POST", "/api/v1/keys", 201, json={"name": "sync", "scope": "read"})
    assert (await gateway.call("GET", "/api/v1/tickets", key=made["key"])).status == 200
    listed = await gateway.call("GET", "/api/v1/keys")
    assert made["key"].encode() not in listed.body
    await gateway.ok("DELETE", f"/api/v1/keys/{made['id']}", 204)
    assert (await gateway.call("GET", "/api/v1/tickets", key=made["key"])).status == 401
    assert (await gateway.call("DELETE", f"/api/v1/keys/{made['id']}")).status == 404


async def test_who_sees_some_accounts_manages_nobody(gateway: Gateway) -> None:
    """A limited administrator could else make an unlimited one."""
    limited = await gateway.make_key("limited", "admin", ["echo-a"])
    for method, path, body in (
        ("POST", "/api/v1/users", {"email": "a@b.test", "role": "admin"}),
        ("POST", "/api/v1/keys", {"name": "all", "scope": "admin"}),
        ("POST", "/api/v1/roles", {"name": "root", "permissions": ["*"]}),
        ("POST", "/api/v1/groups", {"name": "all"}),
        ("GET", "/api/v1/keys", None),
    ):
        assert (await gateway.call(method, path, key=limited, json=body)).status == 403, path
