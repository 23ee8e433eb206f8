"""The index of words, made anew while everybody goes on working."""

from __future__ import annotations

import functools

from gateway.core import Core
from gateway.store import dialect, search_index

CHUNK = 500  # things indexed in one transaction


async def rebuild(core: Core) -> dict[str, int]:
    """Index every ticket, message and contact, a little at a time; how many of each, and what was `removed`."""
    database = core.database
    await database.bulk(dialect.rebuild_search)
    counted: dict[str, int] = {}
    for name, step in (
        ("contacts", search_index.rebuild_contacts),
        ("tickets", search_index.rebuild_tickets),
        ("messages", search_index.rebuild_messages),
    ):
        after = ""
        counted[name] = 0
        while ids := await database.bulk(functools.partial(step, after=after, limit=CHUNK)):
            after, counted[name] = ids[-1], counted[name] + len(ids)
    counted["removed"] = await database.bulk(search_index.drop_orphans)
    return counted
