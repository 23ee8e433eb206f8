"""What may be wrong in a configuration by what the store holds: `gateway check` warns of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from config.settings import Fault, Settings
from gateway.runtime import store_url
from gateway.store import attributes, dialect
from gateway.store.dialect import StoreUnavailable

_KEY = "gateway.matching_attribute"


def about_matching(settings: Settings) -> list[Fault]:
    """Matching attributes that link nobody, or everybody. Reads the store as it is; says nothing when it cannot."""
    names = settings.gateway.matching_attribute
    if not names:
        return []
    engine = dialect.read_engine(store_url(settings))
    try:
        with engine.connect() as connection:
            known = attributes.catalogue(connection, settings.crm)
    except (SQLAlchemyError, StoreUnavailable, OSError):
        return []
    finally:
        engine.dispose()
    return [Fault(_KEY, f"{name!r} {words}") for name in names if (words := _objection(name, known))]


def _objection(name: str, known: Mapping[str, Mapping[str, Any]]) -> str:
    if name in attributes.FIELDS:  # vip is one of them
        return "is a field of contacts, and no attribute: it links nobody"
    if (entry := known.get(name)) is None:
        return "is no attribute yet, and no CRM fills it: it links nobody until it is made (POST /api/v1/attributes)"
    if entry["kind"] == "platform":
        return "is told by platforms and not compared: it links nobody"
    if entry["type"] == "choice":
        return "is a choice: all who have the same one become one person"
    return ""
