"""The handlers of the API, by resource; `ROUTES` is all of them in the order of the documentation."""

from __future__ import annotations

from gateway.web.api import (
    access,
    attributes,
    contacts,
    dead,
    files,
    gateway,
    identities,
    messages,
    moderation,
    queues,
    suppressions,
    suspended,
    ticket_fields,
    tickets,
    transfer,
    unsubscribe,
    users,
    views,
)
from gateway.web.routes import Route

ROUTES: tuple[Route, ...] = (
    *tickets.ROUTES,
    *views.ROUTES,
    *ticket_fields.ROUTES,
    *messages.ROUTES,
    *moderation.ROUTES,
    *transfer.ROUTES,
    *contacts.ROUTES,
    *identities.ROUTES,
    *attributes.ROUTES,
    *files.ROUTES,
    *queues.ROUTES,
    *dead.ROUTES,
    *suspended.ROUTES,
    *users.ROUTES,
    *access.ROUTES,
    *suppressions.ROUTES,
    *unsubscribe.ROUTES,
    *gateway.ROUTES,
)
