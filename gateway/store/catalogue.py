"""The templates table: what platforms tell of the templates of each account, piece by piece or as a whole list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, select

from gateway.store.many import upsert
from gateway.store.schema import templates
from normalizers.model import Template, TemplateState

_KEY = ("account", "name", "language")
_TOLD = ("status", "category", "parameters")
_WIDTHS = {"name": 512, "language": 16, "status": 24, "category": 24}

_known = select(templates.c.name, templates.c.language).where(
    templates.c.account == bindparam("b_account"), templates.c.at < bindparam("b_at")
)
_drop = delete(templates).where(
    and_(
        templates.c.account == bindparam("b_account"),
        templates.c.name == bindparam("b_name"),
        templates.c.language == bindparam("b_language"),
        templates.c.at < bindparam("b_at"),
    )
)


def told(account: str, template: Template, status: str, at: int) -> dict[str, Any]:
    """A row that tells the status of a template alone."""
    return {"account": account, "name": template.name, "language": template.language, "status": status,
            "category": "", "parameters": None, "at": at}  # fmt: skip


def learn(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Keep what was told (rows of the table): what a row leaves open ("" or None) stays as it was known."""
    grouped: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        told = tuple(name for name in _TOLD if row[name] not in ("", None))
        grouped.setdefault(told, []).append({**row, **{name: row[name][:most] for name, most in _WIDTHS.items()}})
    for told, same in grouped.items():
        upsert(connection, templates, same, _KEY, [*told, "at"])


def replace_all(connection: Connection, account: str, listed: Sequence[TemplateState], at: int) -> None:
    """The account's whole list as the platform had it at `at`; what it no longer has goes, unless told of later."""
    rows = [
        {"account": account, "name": state.name, "language": state.language, "status": state.status,
         "category": state.category, "parameters": state.parameters, "at": at}
        for state in listed
    ]  # fmt: skip
    learn(connection, rows)
    have = {(state.name, state.language) for state in listed}
    known = connection.execute(_known, {"b_account": account, "b_at": at}).all()
    gone = [
        {"b_account": account, "b_name": name, "b_language": language, "b_at": at}
        for name, language in known
        if (name, language) not in have
    ]
    if gone:
        connection.execute(_drop, gone)
