"""Mail from the SMTP receiver into the store: which account a recipient belongs to, and keeping the raw bytes."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.core import Core
from gateway.ids import micros, new_id
from gateway.intake.worker import TOPIC
from gateway.store.tickets import to_json
from normalizers._mime_text import address_forms, canonical, domain_of

MAIL_ADAPTER = "email"  # the adapter whose accounts the SMTP receiver serves


def delivery_row(core: Core, account: str, source: str, envelope: dict[str, str], raw: bytes) -> dict[str, Any]:
    """A mail as a delivery to be kept."""
    return {
        "id": new_id(),
        "account": account,
        "source": source,
        "url": "",
        "headers": to_json(envelope),
        "query": "{}",
        "body": raw,
        "received_at": micros(core.clock()),
    }


class Mailroom:
    """Takes mails for all accounts whose addresses are served here."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def resolve(self, recipient: str) -> str | None:
        """The account of a recipient: by the address, else by its domain. A plus tag is part of no address."""
        address = canonical(recipient)
        for form in address_forms(address):
            found = self._core.accounts.named(MAIL_ADAPTER, form)
            if found:
                return found[0].id
        return self._postmaster_of(domain_of(address)) if address.startswith("postmaster@") else None

    def _postmaster_of(self, domain: str) -> str | None:
        """The account that reads the postmaster's mail, which every mail server must take (RFC 5321, 4.5.1).

        The first one with an address at the domain; for the name of the receiver itself, where nobody has one, the
        first of all.
        """
        serving = [account for account in self._core.accounts if account.adapter.name == MAIL_ADAPTER]
        at_domain = (a for a in serving if any(domain_of(key) == domain for key in a.adapter.routing_keys()))
        smtp = self._core.settings.smtp
        by_default = serving if smtp is not None and domain == smtp.hostname.lower() else ()
        found = next(iter((*at_domain, *by_default)), None)
        return found.id if found is not None else None

    async def keep(self, account: str, envelope: dict[str, str], raw: bytes) -> None:
        """Keep one mail; returns once it is durable. Raises `StoreUnavailable` or `TimeoutError` when it cannot be."""
        row = delivery_row(self._core, account, "smtp", envelope, raw)
        async with asyncio.timeout(self._core.settings.limits.commit_timeout_s * 10):  # a sender waits for minutes
            await self._core.database.keep(row)
        self._core.metrics.deliveries.labels(account, "kept").inc()
        self._core.bus.wake(TOPIC)
