"""CRMs: what is asked and written, what every answer means, and what an answer changes of a contact."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import SendError
from adapters._http import new_session
from adapters._media import MediaClient
from config.people import CrmSettings
from config.secret import Secret
from config.settings import ConfigError, parse
from gateway.crm import Answer, Crm, Key, clients_of
from gateway.crm.decide import Person, filled, keys_of
from gateway.crm.hubspot import HubSpot
from gateway.crm.model import Question
from gateway.ids import system_clock
from gateway.standard_webhooks import headers
from tests.support.crm import FakeCrm, FakeHubSpot
from tests.support.signing import verify_standard_webhook
from tests.web.schema import problems

SECRET = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
MAIL = Key("email", "email", ("ann@example.com", "a@example.com"))
PHONE = Key("phone", "phone", ("+4915112345678",))


def question(*keys: Key, fields: tuple[str, ...] = ("tier",), errand: str = "e1") -> Question:
    return Question(errand, 1_795_341_600_000_000, "c1", keys, fields, {"ticket_id": "t1"})


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with new_session() as found:
        yield found


def client(session: aiohttp.ClientSession, settings: CrmSettings) -> Crm:
    media = MediaClient(allow_private=False, max_bytes=1)
    return clients_of((settings,), session, media, system_clock)[settings.id]


def generic(url: str, **more: Any) -> CrmSettings:
    return CrmSettings("crm", "http", url=url, secret=(Secret(SECRET),), **({"attributes": {"tier": "tier"}} | more))


def hubspot(url: str, **more: Any) -> CrmSettings:
    return CrmSettings("hs", "hubspot", api_base=url, token=Secret("pat-test"), **more)


# --- the open contract ---


def test_the_signature_is_the_one_of_the_specification() -> None:
    """The vector of the project's own page on downstream systems, and an independent check."""
    body = b'{"type":"message.received","timestamp":"2026-11-22T10:00:00Z","data":{"id":"m_1"}}'
    now = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
    found = headers((Secret(SECRET),), "msg_01TESTVECTOR", body, now)
    assert found["webhook-timestamp"] == "1795341600"
    assert found["webhook-signature"] == "v1,ZyjacFuPsiVj2NSoLWuhq4fQa7JHJXI5CHieV7T0Pt8="
    other = "whsec_" + "QUFB" * 8
    both = headers((Secret(other), Secret(SECRET)), "m", body, now)
    assert all(verify_standard_webhook(s, both, body, now=now.timestamp()) for s in (SECRET, other))
    assert not verify_standard_webhook(SECRET, both, body + b" ", now=now.timestamp())


async def test_a_look_up_says_who_and_what_for(session: aiohttp.ClientSession) -> None:
    async with FakeCrm(records={"c-1": {"email": "a@example.com", "tier": "gold"}}) as crm:
        found = await client(session, generic(crm.url)).lookup(question(PHONE, MAIL))
        assert found == Answer(1, "c-1", {"email": "a@example.com", "tier": "gold"})
        assert crm.calls == [
            ("/lookup", {
                "type": "contact.lookup", "timestamp": "2026-11-22T10:00:00.000Z",
                "data": {
                    "contact_id": "c1",
                    "keys": [
                        {"attribute": "phone", "name": "phone", "values": ["+4915112345678"]},
                        {"attribute": "email", "name": "email", "values": ["ann@example.com", "a@example.com"]},
                    ],
                    "fields": ["tier"], "about": {"ticket_id": "t1"},
                },
            })
        ]  # fmt: skip
        assert (await client(session, generic(crm.url)).lookup(question(PHONE, errand="e2"))).matches == 0
        crm.records |= {"c-2": {"email": "a@example.com"}}
        assert (await client(session, generic(crm.url)).lookup(question(MAIL, errand="e3"))).matches == 2


async def test_a_write_done_twice_is_done_once(session: aiohttp.ClientSession) -> None:
    async with FakeCrm(records={"c-1": {"email": "a@example.com"}}) as crm:
        speaker = client(session, generic(crm.url, token=Secret("bearer-1")))
        crm.faults.append("reset_after")
        with pytest.raises(SendError) as lost:
            await speaker.write(question(MAIL), "c-1", {"tier": "gold", "note": None}, "Kim")
        assert lost.value.error_class == "unknown"
        assert await speaker.write(question(MAIL), "c-1", {"tier": "gold", "note": None}, "Kim") == Answer(
            1, "c-1", {"email": "a@example.com", "tier": "gold", "note": None}
        )
        assert crm.applied == 1
        assert crm.calls[0] == crm.calls[1]  # the same bytes under the same key
        data = crm.calls[0][1]["data"]
        assert (data["id"], data["changes"], data["by"]) == ("c-1", {"tier": "gold", "note": None}, "Kim")
        assert {sent["webhook-id"] for sent in crm.headers} == {"e1"}
        assert crm.headers[0]["Authorization"] == "Bearer bearer-1"


FAULTS = {  # fault -> (class, code, wait)
    "429": ("throttle", "429", 7.0),
    "503": ("throttle", "503", 9.0),
    "500": ("unknown", "500", None),
    "401": ("auth", "401", None),
    "409": ("permanent", "409", None),
    "garbage": ("unknown", "unreadable", None),
    "wrong shape": ("permanent", "bad-answer", None),
    "timeout": ("unknown", "timeout", None),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_goes_wrong_has_its_class(session: aiohttp.ClientSession, fault: Any) -> None:
    async with FakeCrm() as crm:
        crm.faults.append(fault)
        more = {"timeout_s": 0.3} if fault == "timeout" else {}
        with pytest.raises(SendError) as found:
            await client(session, generic(crm.url, **more)).lookup(question(MAIL))
        assert (found.value.error_class, found.value.code, found.value.retry_after_s) == FAULTS[fault]
        assert SECRET not in str(found.value)


ANSWERS = {  # answer -> the place that is wrong
    "[]": "$:", "{}": "$.matches:", '{"matches": true}': "$.matches:", '{"matches": -1}': "$.matches:",
    '{"matches": 1}': "$.id:", '{"matches": 1, "id": ""}': "$.id:", '{"matches": 1, "id": 7}': "$.id:",
    '{"matches": 1, "id": "x", "fields": []}': "$.fields:",
    json.dumps({"matches": 1, "id": "x" * 256}): "$.id:",
    json.dumps({"matches": 1, "id": "x", "fields": {str(n): 1 for n in range(501)}}): "$.fields:",
}  # fmt: skip


@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_wrong_answer_is_told_where_it_is_wrong(session: aiohttp.ClientSession, answer: str) -> None:
    from gateway.crm.http import answer_of

    with pytest.raises(SendError) as found:
        answer_of(json.loads(answer))
    assert found.value.detail.startswith(ANSWERS[answer])


# --- HubSpot ---


async def test_hubspot_is_searched_key_by_key(session: aiohttp.ClientSession) -> None:
    async with FakeHubSpot(records={"101": {"email": "a@example.com", "tier": "gold"}}) as hub:
        speaker = client(session, hubspot(hub.url, attributes={"tier": "tier"}))
        assert await speaker.lookup(question(PHONE, MAIL)) == Answer(1, "101", {"tier": "gold"})
        searched = [body["filterGroups"][0]["filters"][0] for _, body in hub.calls]
        assert [(one["propertyName"], one["value"]) for one in searched] == [
            ("phone", "+4915112345678"), ("email", "ann@example.com"), ("email", "a@example.com")
        ]  # fmt: skip
        assert hub.calls[0][1] == {
            "filterGroups": [{"filters": [{"propertyName": "phone", "operator": "EQ", "value": "+4915112345678"}]}],
            "properties": ["tier"], "limit": 2,
        }  # fmt: skip
        hub.records["102"] = {"email": "ann@example.com"}
        hub.records["103"] = {"email": "ann@example.com"}
        assert (await speaker.lookup(question(MAIL))).matches == 2
        assert (await speaker.lookup(question(PHONE))).matches == 0


async def test_hubspot_is_written_by_id_and_found_again_when_the_record_was_merged(
    session: aiohttp.ClientSession,
) -> None:
    async with FakeHubSpot(records={"101": {"email": "a@example.com"}}) as hub:
        speaker = client(session, hubspot(hub.url))
        assert (await speaker.write(question(MAIL), "101", {"note": "tea"}, "Kim")).id == "101"
        assert [call for call, _ in hub.calls] == ["PATCH /crm/v3/objects/contacts/101"]
        assert hub.records["101"]["note"] == "tea"
        hub.records["200"] = hub.records.pop("101")
        assert (await speaker.write(question(MAIL), "101", {"note": None}, "Kim")).id == "200"
        assert hub.records["200"]["note"] == ""  # HubSpot empties a property by an empty text
        assert (await speaker.write(question(PHONE), "101", {"note": "x"}, "Kim")).matches == 0
        await speaker.probe()


HUB_FAULTS = FAULTS | {"401": ("auth", "BROKEN", None), "500": ("unknown", "BROKEN", None),
                       "409": ("permanent", "BROKEN", None)}  # fmt: skip


@pytest.mark.parametrize("before", [0, 60, 85, 92, 98, 285, 298])
async def test_hubspots_words_do_not_give_our_token_away(session: aiohttp.ClientSession, before: int) -> None:
    """Wherever the words are cut off, no half of it is left standing."""
    async with FakeHubSpot(quotes="x" * before + "{sent} is no token for this") as hub:
        for call in (
            client(session, hubspot(hub.url)).lookup(question(MAIL)),
            client(session, hubspot(hub.url)).write(question(MAIL), "101", {"tier": "gold"}, "Bo"),
            client(session, hubspot(hub.url)).probe(),
        ):
            with pytest.raises(SendError) as error:
                await call
            for shown in (error.value.code, error.value.detail, str(error.value)):
                assert "pat-" not in shown
        assert "Bearer ***" in error.value.detail or before > 280


@pytest.mark.parametrize("fault", HUB_FAULTS)
async def test_hubspots_faults_have_their_class(session: aiohttp.ClientSession, fault: Any) -> None:
    async with FakeHubSpot() as hub:
        hub.faults.append(fault)
        more = {"timeout_s": 0.3} if fault == "timeout" else {}
        with pytest.raises(SendError) as found:
            await client(session, hubspot(hub.url, **more)).lookup(question(MAIL))
        assert (found.value.error_class, found.value.code, found.value.retry_after_s) == HUB_FAULTS[fault]
        assert "pat-test" not in repr(found.value)


async def test_a_wrong_token_is_told_apart(session: aiohttp.ClientSession) -> None:
    async with FakeHubSpot(token="another") as hub:
        speaker = client(session, hubspot(hub.url))
        assert isinstance(speaker, HubSpot)
        with pytest.raises(SendError) as found:
            await speaker.probe()
        assert (found.value.error_class, found.value.code) == ("auth", "INVALID_AUTHENTICATION")


async def test_nobody_else_is_asked(session: aiohttp.ClientSession) -> None:
    """An address that does not exist is `retry`: certainly nothing was done."""
    with pytest.raises(SendError) as found:
        await client(session, generic("http://127.0.0.1:1")).lookup(question(MAIL))
    assert found.value.error_class == "retry"
    await asyncio.sleep(0)


# --- what an answer changes ---

PLAIN = {"kind": "custom", "type": "text", "choices": [], "managed_by": "crm", "editable": False}
CATALOGUE = {
    "tier": {**PLAIN, "name": "tier", "type": "choice", "choices": ["gold", "silver"]},
    "note": {**PLAIN, "name": "note", "editable": True},
}
MAPPED = CrmSettings(
    "crm", "http", url="http://x", secret=(Secret(SECRET),), editable=("note",),
    attributes={"tier": "t", "note": "n", "vip": "v", "name": "fullname", "organization": "company"},
    lookup=("city", "email", "number", "handle"),
)  # fmt: skip
NOBODY_KNOWN = {"name": "", "language": "", "organization": "", "vip": False}


def person(**more: Any) -> Person:
    return Person("c1", NOBODY_KNOWN | more.pop("fields", {}), **more)


FILLED = {  # name -> (person, told, unsent, changes, refused)
    "what the CRM says": (person(), {"t": "gold", "n": 7}, (), {"tier": "gold", "note": "7"}, []),
    "what it does not mention stays": (person(attributes={"tier": "gold"}), {}, (), {}, []),
    "what is so already": (person(attributes={"tier": "gold"}), {"t": "gold"}, (), {}, []),
    "nothing there": (person(attributes={"tier": "gold"}), {"t": None}, (), {"tier": None}, []),
    "an empty text is nothing": (person(), {"t": "", "n": ""}, (), {}, []),
    "no choice": (person(), {"t": "lead"}, (), {}, ["tier"]),
    "no value at all": (person(), {"n": {"a": 1}, "t": ["gold"]}, (), {}, ["tier", "note"]),
    "too long": (person(), {"n": "x" * 10_001}, (), {}, ["note"]),
    "with NUL": (person(), {"n": "a\0"}, (), {}, ["note"]),
    "an agent's word not sent yet": (person(attributes={"note": "a"}), {"n": "b"}, {"note"}, {}, []),
    "a VIP": (person(), {"v": "TRUE"}, (), {"vip": True}, []),
    "no VIP any more": (person(fields={"vip": True}), {"v": False}, (), {"vip": False}, []),
    "perhaps a VIP": (person(), {"v": "perhaps"}, (), {}, ["vip"]),
    "a name where there is none": (person(), {"fullname": "Ann"}, (), {"name": "Ann"}, []),
    "a name that is there stays": (person(fields={"name": "Annie"}), {"fullname": "Ann"}, (), {}, []),
    "a name too long": (person(), {"fullname": "x" * 501}, (), {}, ["name"]),
}


@pytest.mark.parametrize(("who", "told", "unsent", "changes", "refused"), FILLED.values(), ids=FILLED)
def test_answers_fill(who: Person, told: Any, unsent: Any, changes: dict[str, Any], refused: list[str]) -> None:
    found, not_taken = filled(who, MAPPED, told, CATALOGUE, unsent)
    assert found == changes
    assert [one.attribute for one in not_taken] == refused
    assert all(one.reason for one in not_taken)


SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = SCALAR | st.lists(SCALAR, max_size=3) | st.dictionaries(st.text(max_size=5), SCALAR, max_size=3)


@given(st.dictionaries(st.sampled_from(["t", "n", "v", "fullname", "company", "x"]), JSON))
def test_no_answer_gets_past_the_definitions(told: dict[str, Any]) -> None:
    changes, refused = filled(person(), MAPPED, told, CATALOGUE, ())
    assert changes.keys() <= MAPPED.attributes.keys()
    assert changes.get("tier") in (None, "gold", "silver")
    assert all(isinstance(value, str | bool | None) for value in changes.values())
    assert not changes.keys() & {one.attribute for one in refused}


def test_people_are_looked_up_by_what_is_proven() -> None:
    who = person(
        attributes={"number": "7"},
        values=[("email", "a@x.example", "attested"), ("email", "claimed@x.example", "claimed"),
                ("phone", "+491511", "attested")],
        profiles=[{"city": "Oslo", "handle": "ann", "verified": True}, {"city": "Bergen"}],
    )  # fmt: skip
    assert keys_of(who, MAPPED) == [
        Key("city", "city", ("Oslo", "Bergen")), Key("email", "email", ("a@x.example",)),
        Key("number", "number", ("7",)), Key("handle", "handle", ("ann",)),
    ]  # fmt: skip
    trusting = CrmSettings("c", "http", url="http://x", secret=(Secret(SECRET),), lookup=("email",), trust_claims=True)
    assert keys_of(who, trusting) == [Key("email", "email", ("a@x.example", "claimed@x.example"))]
    assert keys_of(person(), MAPPED) == []


# --- the configuration ---

GOOD = {"id": "crm", "kind": "http", "url": "https://crm.example", "secret": SECRET, "attributes": {"tier": "t"}}
WRONG = {  # name -> (changes, place)
    "no id": ({"id": None}, "crm[0].id"),
    "a kind nobody knows": ({"kind": "soap"}, "crm[0].kind"),
    "no secret": ({"secret": None}, "crm[0].secret"),
    "a short secret": ({"secret": "whsec_AQID"}, "crm[0].secret"),
    "no whsec": ({"secret": "x" * 40}, "crm[0].secret"),
    "no url": ({"url": None}, "crm[0].url"),
    "a url with a user": ({"url": "https://a:b@crm.example"}, "crm[0].url"),
    "ftp": ({"url": "ftp://crm.example"}, "crm[0].url"),
    "no token": ({"kind": "hubspot"}, "crm[0].token"),
    "no key for a look-up": ({"kind": "hubspot", "token": "t", "lookup": ["city"]}, "crm[0].keys.city"),
    "editable and not managed": ({"editable": ["note"]}, "crm[0].editable"),
    "a name is never managed": ({"attributes": {"name": "n"}, "editable": ["name"]}, "crm[0].editable"),
    "identity from a CRM": ({"attributes": {"email": "e"}}, "crm[0].attributes.email"),
    "a bad attribute name": ({"attributes": {"A b": "e"}}, "crm[0].attributes.A b"),
    "two from one": ({"attributes": {"a": "t", "b": "t"}}, "crm[0].attributes.b"),
    "no text": ({"attributes": {"a": 7}}, "crm[0].attributes.a"),
    "an unknown status": ({"write_back_on": ["done"]}, "crm[0].write_back_on"),
    "an unknown key": ({"colour": "red"}, "crm[0].colour"),
    "no look-up": ({"lookup": []}, "crm[0].lookup"),
    "no time": ({"timeout_s": 0}, "crm[0].timeout_s"),
}


@pytest.mark.parametrize(("changes", "place"), WRONG.values(), ids=WRONG)
def test_faults_name_their_place(changes: dict[str, Any], place: str) -> None:
    block = {name: value for name, value in (GOOD | changes).items() if value is not None}
    with pytest.raises(ConfigError) as found:
        parse({"crm": [block]}, {}, environ={})
    assert place in [fault.key for fault in found.value.faults], found.value.faults
    assert SECRET not in str(found.value)


def test_ids_and_managed_attributes_are_told_apart() -> None:
    with pytest.raises(ConfigError) as found:
        parse({"crm": [GOOD, GOOD | {"id": "other"}, GOOD | {"attributes": {}}]}, {}, environ={})
    assert [str(fault) for fault in found.value.faults] == [
        "crm[1].attributes.tier: is managed by 'crm' already", "crm[2].id: 'crm' is taken by crm[0]"
    ]  # fmt: skip
    settings = parse({"crm": [GOOD], "vip": {"priority": "urgent", "group": "Care"}}, {}, environ={})
    assert (settings.crm[0].managed, settings.vip.group) == (("tier",), "Care")
    assert SECRET not in repr(settings)
    with pytest.raises(ConfigError, match=r"vip\.priority: must be one of"):
        parse({"vip": {"priority": "top"}}, {}, environ={})


# --- the published schema ---

SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "crm.schema.json").read_text("utf-8"))
PAGE = (Path(__file__).parents[1] / "docs" / "crm.md").read_text("utf-8")


def fits(value: Any, name: str) -> list[str]:
    return problems(value, SCHEMA["$defs"][name], SCHEMA)


async def test_what_is_sent_is_what_the_schema_says(session: aiohttp.ClientSession) -> None:
    async with FakeCrm(records={"c-1": {"email": "a@example.com", "tier": "gold"}}) as crm:
        speaker = client(session, generic(crm.url))
        await speaker.lookup(question(MAIL, PHONE))
        await speaker.write(question(MAIL, errand="e2"), "", {"tier": None}, "Kim")
        await speaker.probe()
        assert [fits(body, path.removeprefix("/")) for path, body in crm.calls] == [[], [], []]
        assert [fits(answer, "answer") for answer in crm.seen.values()] == [[], [], []]


def test_the_examples_of_the_page_fit_the_schema() -> None:
    examples = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.S)]
    kinds = [
        {"contact.lookup": "lookup", "contact.upsert": "upsert"}.get(one.get("type"), "answer") for one in examples
    ]
    assert kinds == ["lookup", "answer", "upsert"]
    assert [fits(one, kind) for one, kind in zip(examples, kinds, strict=True)] == [[], [], []]
    assert fits({"matches": -1}, "answer")
