"""What is known of the templates messages are to be made from: told by the platform, written down by the operator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, select

from gateway.accounts import Accounts
from gateway.store.schema import templates
from normalizers.model import Template
from outbox.facts import TemplateFacts

Told = Mapping[tuple[str, str], Mapping[str, TemplateFacts]]
"""By account and name: what the platform told of the template in each language."""


def told(connection: Connection, wanted: Iterable[tuple[str, Template]]) -> Told:
    """What the platform told of the templates of accounts."""
    names = {(account, template.name) for account, template in wanted}
    if not names:
        return {}
    statement = select(templates).where(
        templates.c.account.in_({account for account, _ in names}), templates.c.name.in_({name for _, name in names})
    )
    found: dict[tuple[str, str], dict[str, TemplateFacts]] = {}
    for row in connection.execute(statement):
        facts = TemplateFacts(row.name, row.language, row.status, row.category, row.parameters)
        found.setdefault((row.account, row.name), {})[row.language] = facts
    return found


def known(
    accounts: Accounts, account: str, wanted: Template, told: Told
) -> tuple[TemplateFacts | None, tuple[str, ...]]:
    """What is known of a template in its language, and the languages it is there in as far as the catalogue is whole.

    Without a language it is the only one there is.
    """
    listed = told.get((account, wanted.name), {})
    configured = {str(entry.get("language", "")): entry for entry in accounts.templates(account, wanted.name)}
    languages = _languages(configured, listed)
    if not wanted.language and len(languages) > 1:
        return None, languages
    language = wanted.language or (languages[0] if len(languages) == 1 else "")
    entry = configured.get(language, configured.get(""))
    facts = listed.get(language)
    if facts is None and not language and not languages:
        facts = next(iter(listed.values()), None)
    if entry is not None:
        facts = _together(wanted.name, language, entry, facts)
    return facts, languages


def _languages(configured: Mapping[str, Any], listed: Mapping[str, TemplateFacts]) -> tuple[str, ...]:
    """Those the operator wrote down or the platform's list has, the approved ones where there are; () when any may be.

    What only a webhook told of, without the number of texts, says nothing of the others.
    """
    found = {*configured, *(language for language, facts in listed.items() if facts.parameters is not None)}
    if "" in found:
        return ()
    approved = {language for language in found if language not in listed or listed[language].approved}
    return tuple(sorted(approved or found))


def _together(name: str, language: str, entry: Mapping[str, Any], facts: TemplateFacts | None) -> TemplateFacts:
    """The operator's words, where the platform told nothing else."""
    count = entry.get("parameters")
    parameters = len(count) if isinstance(count, list | tuple) else count if isinstance(count, int) else None
    return TemplateFacts(
        name,
        language,
        facts.status if facts else str(entry.get("status", "approved")),
        (facts.category if facts else "") or str(entry.get("category", "")),
        facts.parameters if facts and facts.parameters is not None else parameters,
    )
