"""HubSpot's contacts, over its CRM API v3 with the token of a private app.

Source: HubSpot developer documentation, "Search the CRM", "Contacts", "API usage guidelines" (v3). What is marked
(unverified) was not confirmed at HubSpot itself. Scopes: crm.objects.contacts.read, and .write to write back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from adapters import Http, HttpAnswer, SendError
from adapters._errors import hide
from config.people import CrmSettings
from config.secret import Secret
from gateway.crm.answers import bad_answer, checked_fields, checked_id, succeeded
from gateway.crm.model import NOBODY, Answer, Question

CONTACTS = "/crm/v3/objects/contacts"
SEARCHES_MAX = 5  # of one look-up: the search has a limit of its own, of a few requests a second (unverified)
DAILY_WAIT_S = 3600.0  # when the day's calls are used up and no Retry-After says how long (unverified)


def search_body(name: str, value: str, fields: Sequence[str]) -> bytes:
    """A search for the contacts whose property `name` equals `value`. Two are enough to know that it is not one."""
    filters = [{"propertyName": name, "operator": "EQ", "value": value}]
    return msgspec.json.encode({"filterGroups": [{"filters": filters}], "properties": list(fields), "limit": 2})


def found_of(tree: Any) -> Answer:
    """What a search answered. Raises `SendError` with the place of what is wrong."""
    if not isinstance(tree, dict):
        raise bad_answer("$", "must be an object")
    total, results = tree.get("total"), tree.get("results")
    if not isinstance(total, int) or isinstance(total, bool) or not isinstance(results, list):
        raise bad_answer("$", "must have total and results")
    if total != 1 or len(results) != 1:
        return Answer(max(total, len(results))) if results else NOBODY
    if not isinstance(results[0], dict):
        raise bad_answer("$.results[0]", "must be an object")
    fields = checked_fields(results[0].get("properties", {}), "$.results[0].properties")
    return Answer(1, checked_id(results[0].get("id"), "$.results[0].id"), fields)


class HubSpot:
    """HubSpot as a CRM. Setting properties twice is setting them once, so that no key is needed."""

    def __init__(self, settings: CrmSettings, http: Http) -> None:
        self._settings, self._http = settings, http

    async def lookup(self, question: Question) -> Answer:
        """See `Crm`. One search for each value, in order, until one finds somebody."""
        values = [(key.name, value) for key in question.keys for value in key.values]
        for name, value in values[:SEARCHES_MAX]:
            answer = await self._call("POST", f"{CONTACTS}/search", search_body(name, value, question.fields))
            found = found_of(answer.json())
            if found.matches:
                return found
        return NOBODY

    async def write(self, question: Question, remote_id: str, changes: Mapping[str, str | None], by: str) -> Answer:
        """See `Crm`. An empty text empties a property."""
        if remote_id:
            try:
                return await self._set(remote_id, changes)
            except SendError as error:
                if error.code != "OBJECT_NOT_FOUND":
                    raise
        found = await self.lookup(question)  # never known, or merged into another since
        return await self._set(found.id, changes) if found.matches == 1 else found

    async def _set(self, remote_id: str, changes: Mapping[str, str | None]) -> Answer:
        body = msgspec.json.encode({"properties": {name: value or "" for name, value in changes.items()}})
        answer = await self._call("PATCH", f"{CONTACTS}/{quote(remote_id, safe='')}", body)
        tree = answer.json()
        return Answer(1, checked_id(tree.get("id") if isinstance(tree, dict) else None, "$.id"))

    async def probe(self) -> None:
        """See `Crm`."""
        await self._call("GET", f"{CONTACTS}?limit=1", None)

    async def _call(self, method: str, path: str, body: bytes | None) -> HttpAnswer:
        answer = await self._http.request(
            method, self._settings.base + path, json=body, bearer=self._settings.token.reveal()
        )
        if not 200 <= answer.status < 300:
            _refuse(answer, self._settings.token)
        return answer


def _refuse(answer: HttpAnswer, token: Secret) -> None:
    """Raise what HubSpot's error means: `{"status": "error", "category", "message", "policyName"}`.

    The token is cut from its words before they are shortened: half of it would not be known again.
    """
    told = answer.json_or_empty()
    code = hide(str(told.get("category") or told.get("errorType") or ""), (token,))[:100]
    if answer.status == 404:
        raise SendError("permanent", "OBJECT_NOT_FOUND", "there is no such contact")
    try:
        succeeded(answer, code, hide(str(told.get("message", "")), (token,))[:300])
    except SendError as error:
        if error.error_class == "throttle" and error.retry_after_s is None and told.get("policyName") == "DAILY":
            error.retry_after_s = DAILY_WAIT_S
        raise
