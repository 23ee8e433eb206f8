"""The API channel: a customer's message posted to us. It is kept, verified by the key, and filed like any other."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from sqlalchemy import Connection

from gateway.identity import email
from gateway.ids import new_id
from gateway.intake import file_now
from gateway.store import idempotency, uploads, views
from gateway.store.dialect import StoreUnavailable
from gateway.web import asks, types
from gateway.web.api.loading import detail_of
from gateway.web.problems import Problem
from gateway.web.routes import Call, Reply

ACCOUNT = "api"
FILED_WITHIN_S = 10.0
_SCOPE_INBOUND = "inbound:"  # a reply and an inbound message may carry the same key


async def post_inbound(call: Call) -> Reply:
    """Keep the message, have it filed, and show it. Durable once answered, filed or not."""
    request: asks.InboundRequest = call.body
    if not call.key.sees(ACCOUNT):
        raise Problem("forbidden", "the key may not see the account 'api'")
    if not (request.text.strip() or request.html.strip() or request.attachments):
        raise Problem("invalid_body", "a text, an html body or an attachment is wanted", field="text")
    if request.sender.email and not email(request.sender.email):
        raise Problem("invalid_body", "not a mail address", field="from.email")
    key = call.idempotency_key
    if key:
        await _take_key(call, key, request)
    name = request.id or (_name_of(call.key.id, key) if key else new_id())
    delivery_id = await _message_known(call, name) or await _keep(call, request, name)
    message_id = await file_now(call.core, ACCOUNT, name, FILED_WITHIN_S)
    if message_id is None:
        return Reply(types.Accepted(delivery_id=delivery_id), 202)
    return Reply(await call.read(lambda connection: detail_of(connection, call.core, message_id, None)), 202)


async def _take_key(call: Call, key: str, request: asks.InboundRequest) -> None:
    scope, body_hash = f"{_SCOPE_INBOUND}{call.key.id}", idempotency.fingerprint(request)
    try:
        await call.write(lambda connection: idempotency.take(connection, scope, key, body_hash, call.now))
    except idempotency.OtherBody:
        raise Problem("idempotency_conflict", field="Idempotency-Key") from None


def _name_of(key_id: str, key: str) -> str:
    """The message's id when its sender gave a key instead: the unique keys of the intake do the rest."""
    return hashlib.sha256(f"{key_id}\0{key}".encode()).hexdigest()[:32]


async def _message_known(call: Call, name: str) -> str | None:
    """The delivery that brought the message known by this name, if there is one."""

    def job(connection: Connection) -> str | None:
        message_id = views.message_named(connection, ACCOUNT, name)
        row = views.message(connection, message_id, None) if message_id else None
        return row["delivery_id"] if row is not None else None

    return await call.read(job)


async def _keep(call: Call, request: asks.InboundRequest, name: str) -> str:
    files = [await _file(call, file, index) for index, file in enumerate(request.attachments)]
    body: dict[str, Any] = {
        "id": name,
        "from": request.sender,
        "text": request.text,
        "html": request.html,
        "subject": request.subject,
        "attachments": files,
        "metadata": request.metadata,
    }
    delivery_id = new_id()
    try:
        await call.core.database.keep(
            {
                "id": delivery_id,
                "account": ACCOUNT,
                "source": "api",
                "url": "",
                "headers": "{}",
                "query": "{}",
                "body": msgspec.json.encode({name: value for name, value in body.items() if value}),
                "received_at": call.now,
            }
        )
    except TimeoutError:
        raise StoreUnavailable("the store did not answer in time") from None
    call.core.metrics.deliveries.labels(ACCOUNT, "accepted").inc()
    return delivery_id


async def _file(call: Call, file: asks.InboundFile, index: int) -> dict[str, str]:
    given = file.upload if file.upload is not msgspec.UNSET else ""
    url = file.url if file.url is not msgspec.UNSET else ""
    if bool(given) == bool(url):
        raise Problem("invalid_body", "either upload or url", field=f"attachments[{index}]")
    if not given:
        return {"url": url, "filename": file.filename}
    row = await call.read(lambda connection: uploads.load(connection, given))
    if row is None or (call.key.accounts is not None and row["owner"] != call.key.id):
        raise Problem("invalid_body", "there is no such upload", field=f"attachments[{index}].upload")
    return {"upload": given, "filename": file.filename or row["filename"], "media_type": row["media_type"]}
