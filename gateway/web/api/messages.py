"""Messages: replies on a ticket, first messages, the API channel, and what becomes of a message on its way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from gateway import replies
from gateway.permissions import permission
from gateway.replies import AttachmentRequest, Denied, MessageRequest, ReplyRequest, RequestError, Submitted
from gateway.store import people_views, uploads
from gateway.web import asks, plans, show, types
from gateway.web.api.inbound import post_inbound
from gateway.web.api.loading import detail_of, visible_message, visible_ticket
from gateway.web.problems import PROBLEMS, Problem
from gateway.web.routes import Call, OneOf, Param, Reply, Route

DRY_RUN = Param("dry_run", "only ask the rules: nothing is queued or written", "bool", guard=True)


@contextmanager
def request_problems() -> Iterator[None]:
    """What cannot be carried out, as a problem."""
    try:
        yield
    except RequestError as error:
        fallback = {404: "not_found", 409: "conflict"}.get(error.status, "invalid_body")
        known = error.code in PROBLEMS and PROBLEMS[error.code].status == error.status
        raise Problem(error.code if known else fallback, error.detail, field=error.field) from None


def refused(answer: Denied) -> Problem:
    """What the rules refuse, as a problem with every verdict."""
    verdicts = [show.verdict(verdict) for verdict in answer.verdicts]
    others = [plans.alternative(other) for other in answer.alternatives]
    return Problem(
        "outbox_denied", verdicts[0].reason if verdicts else "", verdicts=msgspec.to_builtins(verdicts),
        alternatives=msgspec.to_builtins(others),
    )  # fmt: skip


async def _answer(call: Call, answer: Submitted | Denied) -> Reply:
    """202 with the message, or 422 with the verdicts."""
    if isinstance(answer, Denied):
        raise refused(answer)
    message_id = answer.message_id
    return Reply(
        await call.read(lambda connection: detail_of(connection, call.core, message_id, call.key.accounts)), 202
    )


async def post_reply(call: Call) -> Reply:
    """Answer the customer, or leave a note. The rules of the channel decide; a refusal is an event on the ticket."""
    request: ReplyRequest = call.body
    _may_set(call, request.status)
    await call.read(lambda connection: visible_ticket(connection, call))
    await _check_uploads(call, request.attachments)
    core, key = call.core, call.key
    with request_problems():
        if call.query.get("dry_run"):
            found = await replies.dry_run(core, call.id, request, key.actor, accounts=key.accounts)
            return Reply(plans.dry_run(found))
        answer = await replies.submit(
            core, call.id, request, key.actor, key.id, call.idempotency_key, accounts=key.accounts
        )
    return await _answer(call, answer)


def _may_set(call: Call, status: str | None) -> None:
    """A status given with a message is a change of the ticket: who may not do the one does not get it by the other."""
    needed = permission("Tickets", "agent")
    if status is not None and not call.key.may(needed):
        raise Problem("forbidden", f"setting the status needs the permission {needed!r}", field="status")


async def _check_uploads(call: Call, files: Sequence[AttachmentRequest]) -> None:
    """A key limited to accounts attaches its own uploads only: those of others are not there."""
    if call.key.accounts is None:
        return
    for index, file in enumerate(files):
        row = await call.read(lambda connection, name=file.upload: uploads.load(connection, name))  # type: ignore[misc]
        if file.upload and (row is None or row["owner"] != call.key.id):
            raise Problem("unknown_upload", "there is no such upload", field=f"attachments[{index}].upload")


async def post_message(call: Call) -> Reply:
    """A customer's message over the API channel (`"direction": "inbound"`), or a first message of ours to somebody."""
    if isinstance(call.body, asks.InboundRequest):
        if call.query.get("dry_run"):
            raise Problem("invalid_parameter", "no rules are asked about a customer's message", field="dry_run")
        return await post_inbound(call)
    _may_set(call, call.body.status)
    request = await _within_key(call, call.body)
    await _check_uploads(call, request.attachments)
    core, key = call.core, call.key
    with request_problems():
        if call.query.get("dry_run"):
            found = await replies.dry_run_proactive(core, request, key.actor, accounts=key.accounts)
            return Reply(plans.dry_run(found))
        answer = await replies.proactive(core, request, key.actor, key.id, call.idempotency_key, accounts=key.accounts)
    return await _answer(call, answer)


async def _within_key(call: Call, request: MessageRequest) -> MessageRequest:
    """The request as this key may make it: from an account and to a contact that it sees. Raises `Problem`."""
    if call.key.accounts is None:
        return request
    if request.contact:
        found = await call.read(lambda c: people_views.contact(c, request.contact, call.key.accounts))
        if found is None:
            raise Problem("unknown_contact", "there is no such contact", field="contact")
    if request.account:
        if not call.key.sees(request.account):
            raise Problem("unknown_account", f"no account {request.account!r}", field="account")
        return request
    serving = [account.id for account in call.core.accounts.serving(request.channel) if call.key.sees(account.id)]
    if not serving:
        raise Problem("unknown_account", f"no account serves {request.channel!r}", field="account")
    return msgspec.structs.replace(request, account=serving[0])


async def get_message(call: Call) -> Reply:
    """One message with its attempts and receipts, and its parts where it went in several."""
    return Reply(await call.read(lambda connection: detail_of(connection, call.core, call.id, call.key.accounts)))


async def _see(call: Call) -> None:
    await call.read(lambda connection: visible_message(connection, call))


async def retry_message(call: Call) -> Reply:
    """Send a failed or unknown message again, after the rules have passed it again."""
    await _see(call)
    with request_problems():
        answer = await replies.retry(call.core, call.id, call.key.actor)
    return await _answer(call, answer)


async def leave_message(call: Call) -> Reply:
    """Leave an unknown message as it is: what waits behind it goes."""
    await _see(call)
    with request_problems():
        answer = await replies.leave(call.core, call.id, call.key.actor)
    return await _answer(call, answer)


async def cancel_message(call: Call) -> Reply:
    """Take back what has not left yet."""
    await _see(call)
    with request_problems():
        answer = await replies.cancel(call.core, call.id, call.key.actor)
    return await _answer(call, answer)


def _which(tree: Any) -> Any:
    inbound = isinstance(tree, dict) and tree.get("direction") == "inbound"
    return asks.InboundRequest if inbound else MessageRequest


_TAG = "Messages"
_PATH = "/api/v1/messages"
_WRITING = ("outbox_denied", "idempotency_conflict", "duplicate_header", "ticket_closed", "unknown_upload", "conflict",
            "unknown_channel", "unknown_account", "required_field")  # fmt: skip
_FIRST = ("unknown_contact", "no_address")
_SETTLED = {202: types.MessageDetail}
ROUTES: tuple[Route, ...] = (
    Route(
        "POST", "/api/v1/tickets/{id}/replies", post_reply, "Answer the customer, or leave a note", _TAG,
        scope="agent", params=(DRY_RUN,), body=ReplyRequest,
        answers={202: types.MessageDetail, 200: types.DryRun}, errors=_WRITING, headers=("Idempotency-Key",),
    ),
    Route(
        "POST", _PATH, post_message, "A message over the API channel, or a first message to somebody", _TAG,
        scope="agent", params=(DRY_RUN,), body=OneOf((MessageRequest, asks.InboundRequest), _which),
        answers={202: (types.MessageDetail, types.Accepted), 200: types.DryRun},
        errors=(*_WRITING, *_FIRST), headers=("Idempotency-Key",),
    ),
    Route(
        "GET", f"{_PATH}/{{id}}", get_message, "One message with all that was tried", _TAG,
        answers={200: types.MessageDetail},
    ),
    Route(
        "POST", f"{_PATH}/{{id}}/retry", retry_message, "Send again", _TAG, scope="agent", answers=_SETTLED,
        errors=("not_retryable", "outbox_denied", "conflict"),
    ),
    Route(
        "POST", f"{_PATH}/{{id}}/leave", leave_message, "Leave an unknown message as it is", _TAG, scope="agent",
        answers=_SETTLED, errors=("not_unknown", "conflict"),
    ),
    Route(
        "POST", f"{_PATH}/{{id}}/cancel", cancel_message, "Take back", _TAG, scope="agent", answers=_SETTLED,
        errors=("not_cancellable", "conflict"),
    ),
)  # fmt: skip
