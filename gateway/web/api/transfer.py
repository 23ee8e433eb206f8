"""Contacts to files and back (A5): a streamed export, and an import that says what became of every row."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web
from sqlalchemy import Connection

from gateway import transfer
from gateway.blobs import TooLarge
from gateway.store import attributes as definitions
from gateway.web import types
from gateway.web.api.contacts import FILTERS, filter_of
from gateway.web.api.files import read_form_file
from gateway.web.problems import Problem
from gateway.web.routes import Call, Param, Reply, Route

log = logging.getLogger(__name__)

FORMATS = ("csv", "jsonl")
MEDIA = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}


async def export_contacts(call: Call) -> web.StreamResponse:
    """All contacts that pass the filters of the list, the oldest first, as CSV or JSON lines.

    `columns` names fields and attributes, in that order. In CSV a cell that a spreadsheet would take for a formula has
    ' before it; several values stand as a JSON list. An answer that breaks off is not complete.
    """
    form = call.query.get("format", "csv")
    names = call.query.get("columns", [])

    def columns(connection: Connection) -> list[transfer.Column]:
        return transfer.columns_of(names, definitions.catalogue(connection, call.core.settings.crm))

    try:
        wanted = await call.read(columns)
    except transfer.ColumnError as error:
        raise Problem("invalid_parameter", f"{error.column}: {error.reason}", field="columns") from None
    chunks = transfer.contact_chunks(
        call.core, filter_of(call), call.key.accounts, wanted, form, bom=call.query.get("bom", False)
    )
    response = web.StreamResponse(
        headers={
            "Content-Type": MEDIA[form],
            "Content-Disposition": f'attachment; filename="contacts.{form}"',
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
    )
    log.info("contacts.exported", extra={"key": call.key.name, "format": form})
    await response.prepare(call.request)
    if call.request.method == "HEAD":
        return response
    try:
        async for chunk in chunks:
            await response.write(chunk)
        await response.write_eof()
    except (asyncio.CancelledError, ConnectionResetError):
        raise
    except Exception:
        log.exception("contacts.export_failed")
        if call.request.transport is not None:  # the client must not take half of it for all
            call.request.transport.abort()
    return response


async def import_contacts(call: Call) -> Reply:
    """Make and change contacts from a file (multipart, field `file`) of UTF-8, CSV or JSON lines.

    A row is the contact of its `id`, else of its value of a matching or unique attribute, else a new one. Empty cells
    say nothing. `mode=each` (the default): each row for itself; `mode=all`: nothing unless every row can be used.
    """
    core = call.core
    path, filename = await read_form_file(call)
    try:
        form = call.query.get("format") or transfer.format_of(filename)
        report = await transfer.run(
            core, core.blobs.locate(path), form, mode=call.query.get("mode", "each"),
            dry_run=call.query.get("dry_run", False), actor=call.key.actor,
        )  # fmt: skip
    except transfer.BrokenFile as error:
        raise Problem("broken_file", error.detail, field=error.field) from None
    except TooLarge:
        raise Problem("too_large") from None
    finally:
        core.blobs.remove(path)
    log.info("contacts.imported", extra={"key": call.key.name, "rows": report.rows, "refused": report.refused})
    return Reply(report)


ROUTES: tuple[Route, ...] = (
    Route(
        "GET", "/api/v1/contacts/export", export_contacts, "Contacts as a file", "Contact export", scope="admin",
        params=(
            Param("format", "csv, or jsonl: one object for each line", choices=FORMATS),
            Param("columns", "fields and attributes, separated by commas; default: all that are shown", many=True),
            Param("bom", "begin with a byte order mark, for programs that want one", "bool"),
            *FILTERS,
        ),
        answers={200: str}, media="text/csv", other_media=("application/x-ndjson",), streams=True,
        errors=("invalid_parameter",),
    ),
    Route(
        "POST", "/api/v1/contacts/import", import_contacts, "Contacts from a file", "Contact import", scope="admin",
        params=(
            Param("format", "csv or jsonl; default: as the file's name ends", choices=FORMATS),
            Param("mode", "each row for itself, or all of them or none", choices=("each", "all"), guard=True),
            Param("dry_run", "only tell what would become of each row", "bool", guard=True),
        ),
        answers={200: types.ImportReport}, form=True, unlimited=True,
        errors=("broken_file", "malformed_body", "invalid_body", "too_large", "unsupported_media_type", "body_timeout"),
    ),
)  # fmt: skip
