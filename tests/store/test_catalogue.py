"""Templates as platforms tell of them, piece by piece and as a whole list, the same on each store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from gateway.accounts import Accounts
from gateway.store import catalogue
from gateway.store.engine import Database
from gateway.store.facts import FactSource
from gateway.store.schema import templates
from normalizers.model import TemplateState
from tests.pigeon import world

T1, T2, T3 = 1_000, 2_000, 3_000


def told(name: str, at: int, **values: Any) -> dict[str, Any]:
    """What one event tells."""
    row = {"account": "wa", "name": name, "language": "en", "status": "", "category": "", "parameters": None}
    return row | values | {"at": at}


def known(connection: Connection) -> dict[tuple[str, str], tuple[str, str, int | None]]:
    return {
        (row.account, row.name): (row.status, row.category, row.parameters)
        for row in connection.execute(select(templates))
    }


async def test_what_an_event_leaves_open_stays_as_it_was(database: Database) -> None:
    def job(connection: Connection) -> None:
        catalogue.learn(connection, [told("a", T1, status="approved", category="utility", parameters=2)])
        catalogue.learn(
            connection, [told("a", T2, status="paused"), told("a", T3, category="marketing"), told("b", T2)]
        )

    await database.write(job)
    assert await database.read(known) == {("wa", "a"): ("paused", "marketing", 2), ("wa", "b"): ("", "", None)}


async def test_a_list_replaces_all_but_what_was_told_since(database: Database) -> None:
    def job(connection: Connection) -> None:
        catalogue.learn(connection, [told("gone", T1, status="approved"), told("newest", T3, status="pending")])
        catalogue.learn(connection, [told("gone", T1, status="approved") | {"account": "other"}])
        listed = [TemplateState("a", "en", "approved", "utility", 1), TemplateState("b", "en", "paused")]
        catalogue.replace_all(connection, "wa", listed, T2)

    await database.write(job)
    assert await database.read(known) == {
        ("other", "gone"): ("approved", "", None),
        ("wa", "a"): ("approved", "utility", 1),
        ("wa", "b"): ("paused", "", None),
        ("wa", "newest"): ("pending", "", None),
    }
    await database.write(lambda connection: catalogue.replace_all(connection, "wa", [], T3 + 1))
    assert list(await database.read(known)) == [("other", "gone")]


async def test_words_that_are_too_long_are_cut(database: Database) -> None:
    state = TemplateState("n" * 600, "l" * 20, "s" * 30, "c" * 30)
    await database.write(lambda connection: catalogue.replace_all(connection, "wa", [state], T1))
    assert await database.read(known) == {("wa", "n" * 512): ("s" * 24, "c" * 24, None)}


async def test_a_template_that_cannot_be_sent_is_not_proposed(tmp_path: Path) -> None:
    async with world(tmp_path) as loft:
        (account,) = [account for account in loft.core.accounts if account.id == "loft"]

        async def proposed(*entries: dict[str, Any]) -> str:
            source = FactSource(Accounts([replace(account, settings=replace(account.settings, templates=entries))]))
            return await loft.core.database.read(lambda connection: source._approved(connection, "loft", {}))

        paused = {"name": "a", "language": "en", "status": "PAUSED"}
        assert await proposed(paused) == ""
        assert await proposed(paused, {"name": "b"}) == "b"
        assert await proposed(paused, {"name": "a", "language": "de"}, {"name": "b"}) == "a"
        row = told("a", T1, status="approved") | {"account": "loft"}
        await loft.core.database.write(lambda connection: catalogue.learn(connection, [row]))
        assert await proposed(paused, {"name": "b"}) == "a"  # the platform's word goes before the operator's
