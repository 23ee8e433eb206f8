"""Any CRM, over the open contract of `docs/crm.md`: two calls, signed like webhooks, under the errand's id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from adapters import Http
from config.people import CrmSettings
from gateway.crm.answers import bad_answer, checked_fields, checked_id, succeeded
from gateway.crm.model import NOBODY, Answer, Question
from gateway.ids import Clock, micros, rfc3339
from gateway.standard_webhooks import headers


def body_of(kind: str, question: Question, **more: Any) -> bytes:
    """The request's body: the same over all tries."""
    keys = [{"attribute": key.attribute, "name": key.name, "values": list(key.values)} for key in question.keys]
    data = {"contact_id": question.contact_id, "keys": keys, **more, "about": dict(question.about)}
    return msgspec.json.encode({"type": kind, "timestamp": rfc3339(question.at), "data": data})


def answer_of(tree: Any) -> Answer:
    """The answer to either call. Raises `SendError` with the place of what is wrong."""
    if not isinstance(tree, dict):
        raise bad_answer("$", "must be an object")
    matches = tree.get("matches")
    if not isinstance(matches, int) or isinstance(matches, bool) or matches < 0:
        raise bad_answer("$.matches", "must be a whole number, 0 or more")
    if matches != 1:
        return Answer(matches) if matches else NOBODY
    return Answer(1, checked_id(tree.get("id"), "$.id"), checked_fields(tree.get("fields", {}), "$.fields"))


class HttpCrm:
    """A CRM that speaks the contract."""

    def __init__(self, settings: CrmSettings, http: Http, clock: Clock) -> None:
        self._settings, self._http, self._clock = settings, http, clock

    async def lookup(self, question: Question) -> Answer:
        """See `Crm`."""
        return await self._call("lookup", "contact.lookup", question, fields=list(question.fields))

    async def write(self, question: Question, remote_id: str, changes: Mapping[str, str | None], by: str) -> Answer:
        """See `Crm`."""
        more = {"id": remote_id or None, "changes": dict(changes), "by": by}
        return await self._call("upsert", "contact.upsert", question, **more)

    async def probe(self) -> None:
        """A look-up of nobody, which the contract says must be answered."""
        now = self._clock()
        await self.lookup(Question(f"probe-{int(now.timestamp())}", micros(now), "", ()))

    async def _call(self, path: str, kind: str, question: Question, **more: Any) -> Answer:
        body = body_of(kind, question, **more)
        answer = await self._http.request(
            "POST",
            f"{self._settings.base}/{path}",
            headers=headers(self._settings.secret, question.errand, body, self._clock()),
            json=body,
            bearer=self._settings.token.reveal(),
        )
        succeeded(answer)
        return answer_of(answer.json())
