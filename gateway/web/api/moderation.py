"""Moderation: comments below our posts hidden, shown again, or deleted."""

from __future__ import annotations

from gateway.moderation import Action, moderate
from gateway.web import types
from gateway.web.api.loading import detail_of, visible_message
from gateway.web.api.messages import request_problems
from gateway.web.routes import Call, Reply, Route


async def _moderate(call: Call, action: Action) -> Reply:
    await call.read(lambda connection: visible_message(connection, call))
    with request_problems():
        await moderate(call.core, call.id, action, call.key.actor)
    return Reply(await call.read(lambda connection: detail_of(connection, call.core, call.id, call.key.accounts)))


async def hide(call: Call) -> Reply:
    """Show a comment to its author only. Its message gets the flag `hidden`."""
    return await _moderate(call, "hide")


async def unhide(call: Call) -> Reply:
    """Show a hidden comment to everybody again."""
    return await _moderate(call, "unhide")


async def delete(call: Call) -> Reply:
    """Take a comment away for good, ours or somebody's: its text and files go here too."""
    return await _moderate(call, "delete")


_TAG = "Moderation"
_PATH = "/api/v1/messages/{id}"
_ANSWERS = {200: types.MessageDetail}
_ERRORS = ("not_moderatable", "platform_refused")
ROUTES: tuple[Route, ...] = (
    Route(
        "POST", f"{_PATH}/hide", hide, "Hide a public comment", _TAG, scope="agent", answers=_ANSWERS, errors=_ERRORS
    ),
    Route(
        "POST", f"{_PATH}/unhide", unhide, "Show a hidden comment again", _TAG, scope="agent", answers=_ANSWERS,
        errors=_ERRORS,
    ),
    Route(
        "POST", f"{_PATH}/delete", delete, "Delete a public comment", _TAG, scope="agent", answers=_ANSWERS,
        errors=_ERRORS,
    ),
)  # fmt: skip
