"""Signing in and out, who one is, and API keys."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import Connection, RowMapping

from gateway import passwords
from gateway.permissions import BUILT_IN, ROLE_OF_SCOPE
from gateway.store import keys
from gateway.store import users as store
from gateway.web import asks, show, types
from gateway.web.api.users import check_accounts, hashed, known_permissions, no_more_than_own, user_problems
from gateway.web.auth import Caller, cookie_name, secure
from gateway.web.problems import Problem
from gateway.web.ratelimit import SIGN_INS
from gateway.web.routes import Call, Reply, Route

log = logging.getLogger(__name__)


async def sign_in(call: Call) -> Reply:
    """Open a session: the cookie of the answer stands for the user, its `csrf` goes into every unsafe request.

    Few tries a minute from one address and for one user; a wrong address and a wrong password look alike.
    """
    ask: asks.SignIn = call.body
    address = ask.email.strip().casefold()[:320]
    await _try(call, f"from {call.request.remote}", f"as {address}")
    row = await call.read(lambda connection: store.by_email(connection, ask.email))
    active = row is not None and row["deactivated_at"] is None
    stored = row["password_hash"] if row is not None and active else ""
    if not await passwords.fits(ask.password, stored) or row is None:
        log.warning("user.sign_in_refused")
        raise Problem("wrong_password")
    renewed = await passwords.hashed(ask.password) if passwords.outdated(stored) else ""
    user: RowMapping = row

    def job(connection: Connection) -> tuple[store.NewSession, types.Me]:
        if renewed:
            store.change(connection, user["id"], {"password_hash": renewed}, call.now)
        made = store.sign_in(connection, user["id"], call.now)
        rights = store.known_role(connection, user["role"])
        caller = Caller(user["id"], user["name"], (rights,), user_id=user["id"], role=user["role"], csrf=made.csrf)
        return made, _me(caller, msgspec.json.decode(user["accounts"]))

    made, me = await call.write(job)
    return Reply(me, 201, {"Set-Cookie": _cookie(call, made.token, store.SESSION_LONGEST // 1_000_000)})


async def _try(call: Call, *names: str) -> None:
    """Count a try of a password under each of these names. Raises `Problem` when there were too many."""
    for name in names:
        if wait_s := await call.request.app[SIGN_INS].wait_s(name):
            raise Problem("rate_limited", "too many tries of a password", headers={"Retry-After": str(wait_s)})


def _cookie(call: Call, token: str, age_s: int) -> str:
    """Not readable by scripts, not sent from other sites' forms."""
    parts = [f"{cookie_name(call.core)}={token}", "Path=/", f"Max-Age={age_s}", "HttpOnly", "SameSite=Lax"]
    return "; ".join([*parts, "Secure"] if secure(call.core) else parts)


async def sign_out(call: Call) -> Reply:
    """End the session one has."""
    if call.key.session:
        await call.write(lambda connection: store.sign_out(connection, call.key.session))
    return Reply(status=204, headers={"Set-Cookie": _cookie(call, "", 0)})


def _me(caller: Caller, accounts: Sequence[str]) -> types.Me:
    return types.Me(
        id=caller.id, name=caller.name, user_id=caller.user_id, role=caller.role, accounts=list(accounts),
        permissions=[entry for entry in known_permissions() if caller.may(entry)], csrf=caller.csrf,
    )  # fmt: skip


async def get_me(call: Call) -> Reply:
    """Who calls, and what he may."""
    return Reply(_me(call.key, sorted(call.key.accounts or ())))


async def change_own_password(call: Call) -> Reply:
    """A new password of one's own; all sessions end."""
    ask: asks.PasswordRequest = call.body
    if not call.key.user_id:
        raise Problem("forbidden", "an API key has no password")
    with user_problems():
        user = await call.read(lambda connection: store.load(connection, call.key.user_id))
        await _try(call, f"as {user['email']}")  # a session somebody got hold of must not be a way to guess it
        if not await passwords.fits(ask.current, user["password_hash"]):
            raise Problem("wrong_password", field="current")
        new = await hashed(ask.new, user["email"], user["name"], field="new")
        await call.write(lambda connection: store.change(connection, user["id"], {"password_hash": new}, call.now))
    return Reply(status=204)


# --- keys -------------------------------------------------------------------------------------------------------------


async def list_keys(call: Call) -> Reply:
    """Every API key, the oldest first; never the keys themselves."""
    rows = await call.read(keys.listing)
    items = [
        types.KeyView(
            id=row["id"], name=row["name"], scope=row["scope"], accounts=msgspec.json.decode(row["accounts"]),
            user=row["user_id"], created_at=show.moment(row["created_at"]),
            last_used_at=show.moment(row["last_used_at"]) if row["last_used_at"] else None,
            revoked_at=show.moment(row["revoked_at"]) if row["revoked_at"] else None,
        )
        for row in rows
    ]  # fmt: skip
    return Reply(types.Items[types.KeyView](items=items))


async def create_key(call: Call) -> Reply:
    """Make an API key; it is shown in this answer and nowhere else."""
    ask: asks.KeyRequest = call.body
    check_accounts(call, ask.accounts)
    no_more_than_own(call, BUILT_IN[ROLE_OF_SCOPE[ask.scope]], "scope")
    user_id = None if ask.user is UNSET else ask.user

    def job(connection: Connection) -> tuple[str, str]:
        if user_id is not None and store.load(connection, user_id)["deactivated_at"] is not None:
            raise store.UserError("unknown_user", "user", "the user is not active")
        return keys.create(connection, ask.name, ask.scope, ask.accounts, call.now, user_id)

    try:
        key_id, key = await call.write(job)
    except store.UserError as error:
        raise Problem("unknown_user", error.detail, field="user") from None
    except ValueError as error:
        raise Problem("invalid_value", str(error), field="name") from None
    return Reply(types.NewKey(id=key_id, key=key), 201)


async def revoke_key(call: Call) -> Reply:
    """Make a key useless at once."""
    if not await call.write(lambda connection: keys.revoke(connection, call.id, call.now)):
        raise Problem("not_found", "there is no such key")
    return Reply(status=204)


_TAG = "Access"
_ADMIN: dict[str, Any] = {"scope": "admin", "unlimited": True}
ROUTES: tuple[Route, ...] = (
    Route(
        "POST", "/api/v1/sessions", sign_in, "Sign in", _TAG, scope="", body=asks.SignIn, answers={201: types.Me},
        errors=("wrong_password", "rate_limited"),
    ),
    Route("DELETE", "/api/v1/sessions", sign_out, "Sign out", _TAG, personal=True, answers={204: None}),
    Route("GET", "/api/v1/me", get_me, "Who I am", _TAG, personal=True, answers={200: types.Me}),
    Route(
        "POST", "/api/v1/me/password", change_own_password, "A new password of one's own", _TAG,
        personal=True, body=asks.PasswordRequest, answers={204: None}, errors=("wrong_password", "invalid_value"),
    ),
    Route(
        "GET", "/api/v1/keys", list_keys, "API keys", _TAG, **_ADMIN, answers={200: types.Items[types.KeyView]},
    ),
    Route(
        "POST", "/api/v1/keys", create_key, "Make an API key", _TAG, **_ADMIN, body=asks.KeyRequest,
        answers={201: types.NewKey}, errors=("unknown_account", "unknown_user", "invalid_value"),
    ),
    Route("DELETE", "/api/v1/keys/{id}", revoke_key, "Revoke an API key", _TAG, **_ADMIN, answers={204: None}),
)  # fmt: skip
