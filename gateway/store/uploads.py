"""Uploads of agents: files that wait to be attached to a reply."""

from __future__ import annotations

from sqlalchemy import Connection, RowMapping, insert, select

from gateway.blobs import Stored
from gateway.ids import new_id
from gateway.store.schema import uploads


def add(connection: Connection, stored: Stored, filename: str, media_type: str, owner: str, now: int) -> str:
    """Record a file that lies in the blob store; its id."""
    upload_id = new_id()
    row = {
        "id": upload_id,
        "filename": filename,
        "media_type": media_type,
        "size": stored.size,
        "path": stored.path,
        "owner": owner,
        "created_at": now,
    }
    connection.execute(insert(uploads), [row])
    return upload_id


def load(connection: Connection, upload_id: str) -> RowMapping | None:
    """The upload's row, or None."""
    return connection.execute(select(uploads).where(uploads.c.id == upload_id)).mappings().first()
