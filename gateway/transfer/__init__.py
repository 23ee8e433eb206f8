"""Contacts out to files and in from them (A5): CSV and JSON lines. `docs/contacts.md` is the format."""

from __future__ import annotations

from gateway.transfer.columns import Column, ColumnError, columns_of
from gateway.transfer.exporting import contact_chunks, format_of
from gateway.transfer.importing import run
from gateway.transfer.reading import BrokenFile

__all__ = ["BrokenFile", "Column", "ColumnError", "columns_of", "contact_chunks", "format_of", "run"]
