"""The way out of marketing: one POST by whoever holds the link of a mail (RFC 8058), no key, no cookie, no redirect.

A GET changes nothing, as scanners follow every link: it shows a page with a button that posts.
"""

from __future__ import annotations

from aiohttp import web
from sqlalchemy import Connection, select

from gateway.bus import LiveEvent
from gateway.store import tickets as ticket_store
from gateway.store.people import set_consent
from gateway.store.schema import identities, tickets
from gateway.tickets import Actor, Entry
from gateway.web.bodies import BodyBroken, BodyTooLarge, BodyTooSlow, read_body
from gateway.web.problems import Problem
from gateway.web.routes import Call, Route

BODY_MAX = 4096  # bytes
BODY_TIMEOUT_S = 10.0
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address is the right to unsubscribe
    "X-Robots-Tag": "noindex",
    "Cache-Control": "no-store",
}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Unsubscribe</title></head>
<body style="font:16px/1.6 system-ui,sans-serif;max-width:32em;margin:4em auto;padding:0 1em">{body}</body></html>
"""
_ASK = """<h1>Unsubscribe</h1><p>Do you want no more marketing messages from us?</p>
<form method="post"><input type="hidden" name="List-Unsubscribe" value="One-Click">
<button style="font:inherit;padding:.5em 1.5em">Unsubscribe</button></form>"""
_DONE = "<h1>Done</h1><p>You will get no more marketing messages from us.</p>"


def _page(body: str) -> web.Response:
    return web.Response(text=_PAGE.format(body=body), content_type="text/html", headers=_HEADERS)


def _identity(call: Call) -> str:
    found = call.core.tokens.unsubscribing(call.request.match_info["token"])
    if found is None:
        raise Problem("not_found", "this link is not one of ours")
    return found


async def ask(call: Call) -> web.Response:
    """A page with a button. Looking at it changes nothing."""
    _identity(call)
    return _page(_ASK)


async def unsubscribe(call: Call) -> web.Response:
    """End all marketing to the person the link was sent to. Doing it twice changes nothing."""
    identity_id = _identity(call)
    await _read(call)

    def job(connection: Connection) -> tuple[str, str]:
        row = connection.execute(
            select(identities.c.contact_id, identities.c.account).where(identities.c.id == identity_id)
        ).first()
        if row is None or not set_consent(connection, identity_id, "opted_out", "marketing", call.now):
            return "", ""  # gone, or out already: the person need not know the difference
        newest = connection.execute(
            select(tickets.c.id).where(tickets.c.identity_id == identity_id).order_by(tickets.c.id.desc()).limit(1)
        ).scalar()
        if newest is not None:
            data = {"state": "opted_out", "scope": "marketing", "source": "one-click"}
            entry = Entry("consent.changed", Actor("customer", row.contact_id), data)
            ticket_store.log(connection, newest, [entry], call.now)
        return row.contact_id, row.account

    contact, account = await call.write(job)
    if contact:
        call.core.bus.publish([LiveEvent("contact.updated", {"contact_id": contact}, account)])
    return _page(_DONE)


async def _read(call: Call) -> None:
    """The body says nothing the link does not: any form will do, as mail providers differ. Raises `Problem`."""
    try:
        await read_body(call.request, BODY_MAX, BODY_TIMEOUT_S)
    except BodyTooLarge:
        raise Problem("too_large") from None
    except BodyTooSlow:
        raise Problem("body_timeout", headers={"Connection": "close"}) from None
    except BodyBroken:
        raise Problem("malformed_body", "the body breaks off") from None


_TAG = "Unsubscribe"
_PATH = "/unsubscribe/{token}"
ROUTES: tuple[Route, ...] = (
    Route("GET", _PATH, ask, "A page that asks", _TAG, scope="", answers={200: str}, media="text/html"),
    Route(
        "POST", _PATH, unsubscribe, "End marketing to the holder of the link", _TAG, scope="",
        answers={200: str}, errors=("too_large", "body_timeout", "malformed_body"), media="text/html",
    ),
)  # fmt: skip
