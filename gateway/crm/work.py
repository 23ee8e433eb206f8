"""CRM errands: wanted when a conversation begins and when a status changes, done by the errand worker."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

import msgspec
from sqlalchemy import Connection, select

from adapters import SendError
from config.people import CrmSettings
from gateway.bus import LiveEvent
from gateway.core import Core
from gateway.crm.decide import Person, Refused, filled, keys_of
from gateway.crm.model import Answer, Crm, Key, Question
from gateway.errands import TOPIC
from gateway.ids import micros
from gateway.store import attributes as definitions
from gateway.store import crm as store
from gateway.store import errands, merging, people
from gateway.store import tickets as ticket_store
from gateway.store.dialect import StoreUnavailable
from gateway.store.editing import Editing, edit_contact
from gateway.store.errands import Errand
from gateway.store.people_errors import PeopleError
from gateway.store.schema import contact_values, identities
from gateway.tickets import Actor, Entry
from gateway.vip import vip_policy

log = logging.getLogger(__name__)

LOOKUP, WRITE = "crm.lookup", "crm.write"
LOOKUP_FOR = timedelta(hours=1) // timedelta(microseconds=1)  # after that the agent has helped without
EVERY_S = 1.0  # how often edits are held against changes of status


class Begun(msgspec.Struct, frozen=True):
    """A ticket we made ourselves."""

    id: str
    contact_id: str
    channel: str
    account: str


class NewTicket(Protocol):
    """What must be known of a ticket just made."""

    @property
    def id(self) -> str: ...
    @property
    def contact_id(self) -> str: ...
    @property
    def channel(self) -> str: ...
    @property
    def account(self) -> str: ...


def want_lookups(
    connection: Connection, crms: Sequence[CrmSettings], tickets: Collection[NewTicket], now: int
) -> list[str]:
    """Have the people of new tickets looked up, once the transaction is through; the CRMs that are to be woken."""
    rows = [
        errands.wanted(
            LOOKUP, crm.id, f"contact:{ticket.contact_id}", ticket.id,
            {"contact_id": ticket.contact_id, "ticket_id": ticket.id, "channel": ticket.channel,
             "account": ticket.account},
            now, subject=ticket.contact_id, expires_at=now + LOOKUP_FOR,
        )
        for crm in crms for ticket in tickets if not crm.channels or ticket.channel in crm.channels
    ]  # fmt: skip
    errands.want(connection, rows)
    return sorted({row["target"] for row in rows})


def want_writes(connection: Connection, crm: CrmSettings, now: int) -> int:
    """Have the CRM told of edits whose people's tickets changed their status since; how many people those are."""
    by_contact: dict[str, list[Any]] = {}
    for edit in store.due(connection, crm):
        by_contact.setdefault(edit["living"], []).append(edit)
    rows = []
    for contact_id, edits in by_contact.items():
        newest = max(edits, key=lambda edit: int(edit["at"]))
        payload = {
            "contact_id": contact_id, "ticket_id": newest["ticket_id"], "by": newest["by"],
            "changes": {edit["attribute"]: edit["value"] for edit in sorted(edits, key=lambda edit: int(edit["at"]))},
        }  # fmt: skip
        key = f"{contact_id}:{newest['at']}:{len(edits)}"
        rows.append(errands.wanted(WRITE, crm.id, f"contact:{contact_id}", key, payload, now, subject=contact_id))
        for edit in edits:
            store.taken_up(connection, crm.id, edit)
    errands.want(connection, rows)
    return len(rows)


class CrmWorker:
    """Does the errands of CRMs, and notices when one is wanted by a change of status."""

    def __init__(self, core: Core, clients: Mapping[str, Crm]) -> None:
        self._core, self._clients = core, clients
        self._settings = {crm.id: crm for crm in core.settings.crm}

    @property
    def editable(self) -> list[CrmSettings]:
        """Those that are told of edits."""
        return [crm for crm in self._core.settings.crm if crm.editable]

    async def watch(self) -> None:
        """Until cancelled: edits and changes of status become errands."""
        while self.editable:
            try:
                await self.sweep()
            except StoreUnavailable:
                pass  # the next round does it
            except Exception:
                log.exception("crm.sweep_failed")
            await asyncio.sleep(EVERY_S)

    async def sweep(self) -> int:
        """Once; how many errands that made."""
        made = 0
        for crm in self.editable:
            if not await self._core.database.read(functools.partial(store.any_edit, crm=crm.id)):
                continue
            now = micros(self._core.clock())
            wanted = await self._core.database.write(functools.partial(want_writes, crm=crm, now=now))
            if wanted:
                self._core.bus.wake(f"{TOPIC}.{crm.id}")
            made += wanted
        return made

    async def do(self, errand: Errand) -> None:
        """A look-up or a write. Raises `SendError`."""
        crm, client = self._settings[errand.target], self._clients[errand.target]
        person = await self._core.database.read(lambda connection: person_of(connection, errand.subject))
        if person is None:
            return  # erased since
        remote_id = await self._core.database.read(lambda connection: store.linked(connection, crm.id, person.id))
        if errand.kind == LOOKUP:
            await self._look_up(errand, crm, client, person)
        else:
            await self._write(errand, crm, client, person, remote_id)

    def _question(self, errand: Errand, person: Person, keys: Sequence[Key], fields: Sequence[str]) -> Question:
        about: dict[str, Any] = {
            name: errand.payload[name] for name in ("ticket_id", "channel", "account") if name in errand.payload
        }
        return Question(errand.id, errand.created_at, person.id, keys, fields, about)

    async def _look_up(self, errand: Errand, crm: CrmSettings, client: Crm, person: Person) -> None:
        keys = keys_of(person, crm)
        if not keys:
            return
        answer = await client.lookup(self._question(errand, person, keys, list(crm.attributes.values())))
        now = micros(self._core.clock())

        def job(connection: Connection) -> bool:
            return self._fill(connection, errand, crm, answer, now)

        if answer.matches and await self._core.database.write(job):
            self._tell(errand, person)

    def _fill(self, connection: Connection, errand: Errand, crm: CrmSettings, answer: Answer, now: int) -> bool:
        """Write down what the CRM knows; whether that changed the contact."""
        ticket_id, actor = errand.payload["ticket_id"], Actor("system", crm.id, crm.id)
        if answer.matches > 1:
            entry = Entry("crm.ambiguous", actor, {"crm": crm.id, "matches": answer.matches})
            ticket_store.log(connection, ticket_id, [entry], now)
            return False
        person = person_of(connection, errand.subject)
        if person is None:
            return False
        store.link(connection, crm.id, person.id, answer.id, now)
        catalogue = definitions.catalogue(connection, self._core.settings.crm)
        unsent = store.unsent(connection, crm.id, person.id)
        changes, refused = filled(person, crm, answer.fields, catalogue, unsent)
        done: list[str] = []
        for name, value in changes.items():
            if (problem := self._edit(connection, person.id, crm, name, value, actor, now)) is None:
                done.append(name)
            else:
                refused.append(Refused(name, problem))
        if done or refused:
            data = {"crm": crm.id, "filled": done, "refused": [msgspec.structs.asdict(one) for one in refused]}
            ticket_store.log(connection, ticket_id, [Entry("crm.looked_up", actor, data)], now)
        return bool(done)

    def _edit(
        self, connection: Connection, contact_id: str, crm: CrmSettings, name: str, value: Any, actor: Actor, now: int
    ) -> str | None:
        """Set one attribute; why it could not be set, or None."""
        settings = self._core.settings
        own = name == "vip" or name in definitions.FIELDS
        editing = Editing("crm", crm.id, settings.crm, vip_policy(settings))
        try:
            changes = {name: value} if own else {"attributes": {name: value}}
            edit_contact(connection, contact_id, changes, actor, now,
                         matching=settings.gateway.matching_attribute, editing=editing)  # fmt: skip
        except PeopleError as error:
            return error.detail
        return None

    async def _write(self, errand: Errand, crm: CrmSettings, client: Crm, person: Person, remote_id: str) -> None:
        keys = keys_of(person, crm)
        told: dict[str, str | None] = errand.payload["changes"]
        changes = {crm.attributes[name]: value for name, value in told.items() if name in crm.attributes}
        if not changes:
            return
        answer = Answer(0)
        if keys or remote_id:
            question = self._question(errand, person, keys, list(changes))
            answer = await client.write(question, remote_id, changes, errand.payload["by"])
        now, actor = micros(self._core.clock()), Actor("system", crm.id, crm.id)
        data: dict[str, Any] = {"crm": crm.id, "attributes": sorted(told)}
        if answer.matches == 1:
            entry = Entry("crm.told", actor, data)
        else:
            why = "the CRM knows nobody like this" if not answer.matches else "the CRM knows several like this"
            entry = Entry("crm.not_told", actor, data | {"why": why})

        def job(connection: Connection) -> None:
            if answer.matches == 1:
                store.link(connection, crm.id, person.id, answer.id, now)
            ticket_store.log(connection, errand.payload["ticket_id"], [entry], now)

        await self._core.database.write(job)

    def _tell(self, errand: Errand, person: Person) -> None:
        account = errand.payload.get("account", "")
        self._core.bus.publish([LiveEvent("contact.updated", {"contact_id": person.id}, account)])


def person_of(connection: Connection, contact_id: str) -> Person | None:
    """A contact, or the one it was merged into, as CRMs see it; None when it was erased."""
    living = store.living(connection, contact_id)
    if living is None:
        return None
    row = merging.load(connection, living)
    values = select(contact_values.c.attribute, contact_values.c.value, contact_values.c.evidence).where(
        contact_values.c.contact_id == living, contact_values.c.attribute.in_(people.VALUES)
    )
    told = select(identities.c.profile, identities.c.handle).where(identities.c.contact_id == living)
    return Person(
        living,
        {name: row[name] for name in ("name", "language", "organization")} | {"vip": bool(row["vip"])},
        msgspec.json.decode(row["attributes"]),
        [tuple(found) for found in connection.execute(values.order_by(contact_values.c.at))],
        [
            msgspec.json.decode(found.profile) | ({"handle": found.handle} if found.handle else {})
            for found in connection.execute(told.order_by(identities.c.id))
        ],
    )


async def probe(client: Crm, timeout_s: float) -> SendError | None:
    """What is wrong with a CRM, or None."""
    try:
        async with asyncio.timeout(timeout_s):
            await client.probe()
    except SendError as error:
        return error
    except TimeoutError:
        return SendError("retry", "timeout", "it does not answer")
    return None
