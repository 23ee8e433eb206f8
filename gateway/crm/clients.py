"""From `[[crm]]` blocks to CRMs that can be asked."""

from __future__ import annotations

from collections.abc import Sequence

import aiohttp

from adapters import Http
from adapters._media import MediaClient
from config.people import CrmSettings
from gateway.crm.http import HttpCrm
from gateway.crm.hubspot import HubSpot
from gateway.crm.model import Crm
from gateway.ids import Clock


def clients_of(
    crms: Sequence[CrmSettings], session: aiohttp.ClientSession, media: MediaClient, clock: Clock
) -> dict[str, Crm]:
    """A client for each block, by its id; each reaches its own host and no other."""
    found: dict[str, Crm] = {}
    for settings in crms:
        http = Http(session, (settings.base,), media, timeout_s=settings.timeout_s)
        found[settings.id] = HttpCrm(settings, http, clock) if settings.kind == "http" else HubSpot(settings, http)
    return found
