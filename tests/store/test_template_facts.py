"""Which of a catalogue's entries a template is, and the languages it is there in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.accounts import Accounts, BoundAccount
from gateway.store.template_facts import known
from normalizers.model import Template
from outbox.facts import TemplateFacts


def told(language: str, status: str = "approved", parameters: int | None = 1) -> TemplateFacts:
    return TemplateFacts("hello", language, status, "", parameters)


EN, DE = {"name": "hello", "language": "en", "parameters": 2}, {"name": "hello", "language": "de"}
ANY = {"name": "hello", "parameters": 2}
CASES: dict[str, tuple[str, list[dict[str, Any]], list[TemplateFacts], TemplateFacts | None, tuple[str, ...]]] = {
    "nobody knows it": ("en", [], [], None, ()),
    "the operator wrote it down": ("en", [EN], [], told("en", parameters=2), ("en",)),
    "its only language": ("", [EN], [], told("en", parameters=2), ("en",)),
    "a language that is not there": ("fr", [EN], [told("de")], None, ("de", "en")),
    "several, none named": ("", [EN, DE], [], None, ("de", "en")),
    "the only one that is approved": ("", [], [told("en"), told("de", "rejected")], told("en"), ("en",)),
    "none is approved": ("", [], [told("de", "rejected")], told("de", "rejected"), ("de",)),
    "an entry for any language": ("fr", [ANY], [], told("fr", parameters=2), ()),
    "the platform's number goes before": ("en", [EN], [told("en", "paused", 3)], told("en", "paused", 3), ("en",)),
    "a webhook tells of one language": ("fr", [], [told("de", "paused", None)], None, ()),
    "a webhook tells of a new one": ("de", [EN], [told("de", parameters=None)], told("de", parameters=None), ("en",)),
    "a webhook alone, no language named": ("", [], [told("de", "paused", None)], told("de", "paused", None), ()),
}  # fmt: skip


@pytest.mark.parametrize(("language", "configured", "listed", "facts", "languages"), CASES.values(), ids=CASES)
def test_what_is_known(
    language: str, configured: list[dict[str, Any]], listed: list[TemplateFacts], facts: TemplateFacts | None,
    languages: tuple[str, ...],
) -> None:  # fmt: skip
    adapter: Any = SimpleNamespace(name="pigeon", routing_keys=frozenset)
    settings: Any = SimpleNamespace(templates=configured)
    accounts = Accounts([BoundAccount("a", adapter, settings, {})])
    by_language = {("a", "hello"): {one.language: one for one in listed}} if listed else {}
    assert known(accounts, "a", Template("hello", language), by_language) == (facts, languages)
