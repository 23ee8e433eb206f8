"""Contacts to files and back: what is written is read as the same, and a broken file is told where it is broken."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from gateway.ids import micros, new_id
from gateway.store import attributes as definitions
from gateway.store.many import insert_many
from gateway.store.people_views import ContactFilter
from gateway.store.schema import contact_values, contacts, metadata
from gateway.tickets import Actor
from gateway.transfer import columns_of, contact_chunks, run
from tests.web.conftest import Answered, Gateway, make_core, running

V1 = "/api/v1"
EXPORT, IMPORT = f"{V1}/contacts/export", f"{V1}/contacts/import"


@pytest.fixture
async def matching(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that matches people by their mail address."""
    async with running(tmp_path, matching=("email",)) as found:
        yield found


async def send(gateway: Gateway, content: bytes | str, query: str = "", name: str = "people.csv") -> Answered:
    form = aiohttp.FormData()
    raw = content.encode() if isinstance(content, str) else content
    form.add_field("file", io.BytesIO(raw), filename=name, content_type="application/octet-stream")
    return await gateway.call("POST", f"{IMPORT}?{query}", data=form)


async def report(gateway: Gateway, content: bytes | str, query: str = "", name: str = "people.csv") -> dict[str, Any]:
    answer = await send(gateway, content, query, name)
    assert answer.status == 200, answer.body
    return dict(answer.json)


def outcomes(found: dict[str, Any]) -> list[tuple[int, str, str, str]]:
    return [(item["row"], item["outcome"], item["field"], item["code"]) for item in found["items"]]


async def everything(gateway: Gateway) -> dict[str, list[Any]]:
    def job(connection: Any) -> dict[str, list[Any]]:
        tables = (table for table in metadata.sorted_tables if table.name != "api_keys")
        return {table.name: [tuple(row) for row in connection.execute(select(table))] for table in tables}

    return await gateway.core.database.read(job)


async def some_people(gateway: Gateway) -> None:
    await gateway.customer_writes("Hello", name="=HYPERLINK(1)", profile={"city": "Oslo"})
    ticket = await gateway.customer_writes("Hi", "+4917099999999", "echo-b", name='Ann, "the" Lee')
    await gateway.ok("POST", f"{V1}/attributes", 201, json={"name": "plan", "type": "choice", "choices": ["a", "b"]})
    changes = {"vip": True, "tags": ["-1", "x,y"], "attributes": {"plan": "a", "email": ["a@b.example", "c@d.example"]}}
    await gateway.ok("PATCH", f"{V1}/contacts/{ticket['contact_id']}", json=changes)


async def test_an_export_has_every_contact_and_no_formula(gateway: Gateway) -> None:
    await some_people(gateway)
    answer = await gateway.call("GET", EXPORT)
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    header, *rows = csv.reader(io.StringIO(answer.body.decode(), newline=""), strict=True)
    assert header == [
        "id", "name", "language", "organization", "tags", "vip", "created_at", "last_seen_at", "email", "phone", "plan"
    ]  # fmt: skip
    assert [dict(zip(header, row, strict=True))["name"] for row in rows] == ["'=HYPERLINK(1)", 'Ann, "the" Lee']
    second = dict(zip(header, rows[1], strict=True))
    assert second["tags"] == '["-1", "x,y"]'
    assert (second["email"], second["phone"]) == ('["a@b.example", "c@d.example"]', "'+4917099999999")
    assert not [cell for row in rows for cell in row if cell[:1] in tuple("=+-@\t\r\0") and cell]


async def test_an_export_has_the_columns_and_filters_asked_for(gateway: Gateway) -> None:
    await some_people(gateway)
    answer = await gateway.call("GET", f"{EXPORT}?columns=name,city&attribute.city=Oslo&bom=true")
    assert answer.body.decode() == "\ufeffname,city\r\n'=HYPERLINK(1),Oslo\r\n"
    answer = await gateway.call("GET", f"{EXPORT}?format=jsonl&columns=name,tags,plan,email&vip=true")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert [json.loads(line) for line in answer.body.splitlines()] == [
        {"name": 'Ann, "the" Lee', "tags": ["-1", "x,y"],
         "attributes": {"plan": "a", "email": ["a@b.example", "c@d.example"]}}
    ]  # fmt: skip
    for query in ("columns=name,nope", "columns=name,name", "format=xlsx", "vip=maybe", "limit=5"):
        answer = await gateway.call("GET", f"{EXPORT}?{query}")
        assert (answer.status, answer.json["code"]) == (400, "invalid_parameter"), query


async def test_an_export_is_for_those_who_may_and_shows_what_they_see(gateway: Gateway) -> None:
    await some_people(gateway)
    for path, method in ((EXPORT, "GET"), (IMPORT, "POST")):
        answer = await gateway.call(method, path, key=await gateway.make_key("agent", "agent"))
        assert (answer.status, answer.json["code"]) == (403, "forbidden")
    limited = await gateway.make_key("b", "admin", ["echo-b"])
    answer = await gateway.call("GET", EXPORT, key=limited)
    assert b"+4917099999999" in answer.body
    assert b"HYPERLINK" not in answer.body
    form = aiohttp.FormData()
    form.add_field("file", b"name\r\nX\r\n", filename="x.csv")
    answer = await gateway.call("POST", IMPORT, key=limited, data=form)
    assert answer.status == 403  # an import sees everybody


async def test_more_than_one_page_is_exported_whole(gateway: Gateway) -> None:
    rows = [{"id": new_id(), "name": f"n{n}", "created_at": 1, "last_seen_at": 1} for n in range(1203)]
    await gateway.core.database.write(lambda connection: insert_many(connection, contacts, rows))
    answer = await gateway.call("GET", f"{EXPORT}?columns=name")
    assert answer.body.decode().split() == ["name", *(f"n{n}" for n in range(1203))]


async def test_what_was_exported_is_imported_as_unchanged(gateway: Gateway) -> None:
    await some_people(gateway)
    before = await everything(gateway)
    for form in ("csv", "jsonl"):
        for columns in ("", "&columns=id,name,city,plan,attribute.email"):
            content = (await gateway.call("GET", f"{EXPORT}?format={form}{columns}")).body
            found = await report(gateway, content, f"format={form}&dry_run=true")
            assert outcomes(found) == [(n + (form == "csv"), "unchanged", "", "") for n in (1, 2)], found
            again = await report(gateway, content, f"format={form}")
            assert (again["unchanged"], again["applied"]) == (2, True)
    assert await everything(gateway) == before


async def test_rows_make_and_change_contacts(matching: Gateway) -> None:
    gateway = matching
    await some_people(gateway)
    people = (
        "name,email,phone,plan,vip,tags\r\nAnn Lee,A@B.example,,b,,\r\n"
        "New One,new@x.example,'+4917012345678,,true,gold\r\n"
    )
    dry = await report(gateway, people, "dry_run=true")
    assert [item[1] for item in outcomes(dry)] == ["updated", "created"]
    assert (dry["applied"], dry["items"][1]["contact_id"]) == (False, "")
    before = await everything(gateway)
    await report(gateway, people, "dry_run=true&mode=all")
    assert await everything(gateway) == before
    # Ann has two addresses: naming one of them alone would take the other away
    found = await report(gateway, people.replace("A@B.example", '"[""a@b.example"", ""c@d.example""]"'))
    assert [item[1] for item in outcomes(found)] == ["updated", "created"]
    ann = (await gateway.ok("GET", f"{V1}/contacts?attribute.email=a@b.example"))["items"][0]
    assert (ann["name"], ann["attributes"]["plan"], ann["vip"], ann["tags"]) == ("Ann Lee", "b", True, ["-1", "x,y"])
    new = await gateway.ok("GET", f"{V1}/contacts/{found['items'][1]['contact_id']}")
    assert (new["vip"], new["tags"], new["attributes"]["phone"]) == (True, ["gold"], "+4917012345678")
    assert {(v["name"], v["source"], v["by"]) for v in new["values"]} == {
        ("email", "import", "tests"), ("phone", "import", "tests"), ("vip", "import", "tests")
    }  # fmt: skip

    def evidence(connection: Any) -> set[str]:
        own = contact_values.c.contact_id == new["id"]
        return set(connection.execute(select(contact_values.c.evidence).where(own)).scalars())

    assert await gateway.core.database.read(evidence) == {"authenticated"}
    again = await report(gateway, people.replace("A@B.example", '"[""a@b.example"", ""c@d.example""]"'))
    assert again["unchanged"] == 2


async def test_each_broken_row_is_named_and_the_others_go_on(matching: Gateway) -> None:
    gateway = matching
    await some_people(gateway)
    (ann,) = (await gateway.ok("GET", f"{V1}/contacts?attribute.plan=a"))["items"]
    rows = [
        "id,name,email,phone,plan,vip,tags,city",
        ",Good,g@x.example,,a,,,",
        ",Bad plan,p@x.example,,z,,,",
        ",Bad mail,nobody,,,,,",
        ",Bad vip,v@x.example,,,perhaps,,",
        f"{'0' * 32},Nobody,,,,,,",
        ",Too few,x@x.example",
        f"{ann['id']},Ann,,+491700000,,,,",
        ",Twice,G@X.example,,,,,",
        ",City,c@x.example,,,,,Oslo",
        ",Tags,t@x.example,,,,[1],",
        ",,,,,,,",
        f",{'n' * 501},n@x.example,,,,,",
        "",
        ",Also good,,,b,,,",
    ]
    found = await report(gateway, "\n".join(rows))
    assert outcomes(found) == [
        (2, "created", "", ""),
        (3, "refused", "plan", "unknown_choice"),
        (4, "refused", "email", "invalid_value"),
        (5, "refused", "vip", "wrong_type"),
        (6, "refused", "id", "unknown_contact"),
        (7, "refused", "", "broken_row"),
        (8, "refused", "phone", "attested_value"),
        (9, "refused", "email", "duplicate_row"),
        (10, "refused", "city", "read_only_attribute"),
        (11, "refused", "tags", "invalid_value"),
        (12, "refused", "", "broken_row"),
        (13, "refused", "name", "invalid_value"),
        (15, "created", "", ""),
    ]
    assert "row 2" in found["items"][7]["reason"]
    assert all(item["reason"] for item in found["items"] if item["outcome"] == "refused")
    names = {entry["name"] for entry in (await gateway.ok("GET", f"{V1}/contacts"))["items"]}
    assert {"Good", "Also good"} <= names
    assert not names & {"Bad plan", "Bad mail", "Bad vip", "City"}  # no half of a row


async def test_all_or_none(matching: Gateway) -> None:
    gateway = matching
    people = "name,email\r\nOne,one@x.example\r\nTwo,two\r\n"
    before = await everything(gateway)
    found = await report(gateway, people, "mode=all")
    assert (found["applied"], found["refused"], found["created"]) == (False, 1, 1)
    assert await everything(gateway) == before
    found = await report(gateway, people.replace("two\r", "two@x.example\r"), "mode=all")
    assert (found["applied"], found["created"]) == (True, 2)


async def test_json_lines_say_more(matching: Gateway) -> None:
    gateway = matching
    await some_people(gateway)
    (ann,) = (await gateway.ok("GET", f"{V1}/contacts?attribute.plan=a"))["items"]
    lines = [
        json.dumps({"id": ann["id"], "vip": False, "attributes": {"plan": None, "email": "a@b.example"}}),
        '{"name": "A", "name": "B"}',
        '{"name": ',
        "[1]",
        '{"nmae": "A"}',
        '{"name": 7}',
        '{"name": "A\\u0000"}',
        '{"name": "A\\ud800"}',
        '{"name": "A", "attributes": {"plan": 1}}',
        '{"name": "A", "attributes": {"email": [1]}}',
        '{"name": "A", "attributes": {"nope": "x"}}',
        '{"vip": "yes"}',
        '{"id": 7}',
        '{"name": "A", "attributes": {"plan": ' + "[" * 5000 + "]" * 5000 + "}}",
    ]
    found = await report(gateway, "\n".join(lines), name="people.jsonl")
    assert outcomes(found) == [
        (1, "updated", "", ""),
        (2, "refused", "name", "broken_row"),
        (3, "refused", "", "broken_row"),
        (4, "refused", "", "broken_row"),
        (5, "refused", "nmae", "unknown_attribute"),
        (6, "refused", "name", "invalid_value"),
        (7, "refused", "name", "invalid_value"),
        (8, "refused", "name", "invalid_value"),
        (9, "refused", "plan", "wrong_type"),
        (10, "refused", "email", "wrong_type"),
        (11, "refused", "nope", "unknown_attribute"),
        (12, "refused", "vip", "invalid_value"),
        (13, "refused", "id", "wrong_type"),
        (14, "refused", found["items"][13]["field"], found["items"][13]["code"]),
    ]
    changed = await gateway.ok("GET", f"{V1}/contacts/{ann['id']}")
    assert (changed["vip"], changed["attributes"]) == (False, {"phone": "+4917099999999", "email": "a@b.example"})


BROKEN = {  # name -> (content, field, words of the detail)
    "empty": (b"", "file", "empty"),
    "unknown column": (b"name,nope\r\nA,b\r\n", "nope", "row 1"),
    "doubled column": (b"name,email,name\r\n", "name", "twice"),
    "doubled under two names": (b"email,attribute.email\r\n", "attribute.email", "twice"),
    "nameless column": (b"name,\r\n", "file", "column 2 has no name"),
    "semicolons": (b"name;email\r\nA;b\r\n", "file", "semicolons"),
    "UTF-16": ("name\r\nA\r\n".encode("utf-16"), "file", "UTF-16"),
    "Latin-1": ("name\r\nJos\u00e9\r\n".encode("latin-1"), "file", "not UTF-8"),
    "a cell of 10 MB": (b"name,note,email\r\nA," + b"x" * 10_000_000 + b",a@b.example\r\n", "note", "row 2"),
    "a cell a little too long": (b"name,note,email\r\nA," + b"x" * 140_000 + b",a@b.example\r\n", "note", "row 2"),
    "a quote never closed": (b'name,note\r\nA,b\r\nC,"d\r\n', "note", "row 3"),
    "a stray quote": (b'name,note\r\nA,"b"c\r\n', "note", "row 2"),
}


@pytest.mark.parametrize(("content", "field", "words"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_file_changes_nothing(gateway: Gateway, content: bytes, field: str, words: str) -> None:
    await gateway.ok("POST", f"{V1}/attributes", 201, json={"name": "note"})
    before = await everything(gateway)
    answer = await send(gateway, content)
    assert (answer.status, answer.json["code"], answer.json["field"]) == (422, "broken_file", field), answer.body
    assert words in answer.json["detail"]
    assert len(answer.json["detail"]) < 500
    assert await everything(gateway) == before


async def test_a_nul_and_a_byte_order_mark(gateway: Gateway) -> None:
    found = await report(gateway, b"\xef\xbb\xbfname,tags\r\nA\0b,\r\nGood,x\r\n")
    assert outcomes(found) == [(2, "refused", "name", "invalid_value"), (3, "created", "", "")]


async def test_what_is_no_form_or_too_large_is_refused(gateway: Gateway) -> None:
    answer = await gateway.call("POST", IMPORT, data=b"name\r\n", headers={"Content-Type": "text/csv"})
    assert (answer.status, answer.json["code"]) == (415, "unsupported_media_type")
    for query in ("mode=some", "mode=", "dry_run=1", "dry_run=", "dry_run", "format=xls"):
        assert (await send(gateway, "name\r\nA\r\n", query)).json["code"] == "invalid_parameter"
    rows = b"name\r\n" + b"A\r\n" * 2001
    answer = await send(gateway, rows, "mode=all")
    assert (answer.status, answer.json["code"]) == (422, "broken_file")
    assert not list((gateway.core.settings.data_dir / "media").rglob("*.part"))
    assert not [path for path in (gateway.core.settings.data_dir / "media").rglob("*") if path.is_file()]


async def test_a_claimed_address_is_not_proven_by_a_file(matching: Gateway) -> None:
    """An address somebody only claimed to have goes out and comes in again without becoming evidence."""
    gateway = matching
    contact_id = (await gateway.customer_writes("Hello"))["contact_id"]
    identity = (await gateway.ok("GET", f"{V1}/contacts/{contact_id}"))["identities"][0]["id"]
    claim = {"id": new_id(), "contact_id": contact_id, "identity_id": identity, "attribute": "email",
             "value": "claimed@x.example", "evidence": "claimed", "at": micros(gateway.core.clock())}  # fmt: skip
    await gateway.core.database.write(lambda connection: insert_many(connection, contact_values, [claim]))
    content = (await gateway.call("GET", EXPORT)).body
    assert b"claimed@x.example" in content
    assert (await report(gateway, content))["unchanged"] == 1

    def evidence(connection: Any) -> dict[str, str]:
        mail = contact_values.c.attribute == "email"
        rows = connection.execute(select(contact_values.c.value, contact_values.c.evidence).where(mail))
        return {row.value: row.evidence for row in rows}

    assert await gateway.core.database.read(evidence) == {"claimed@x.example": "claimed"}
    assert (await report(gateway, f"id,email\r\n{contact_id},real@x.example\r\n"))["updated"] == 1
    assert await gateway.core.database.read(evidence) == {"real@x.example": "authenticated"}


# --- whatever people are called ---

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
SHARP = st.sampled_from(["=1", "+", "-", "@a", "\t", "\r\n", "'", "'=", '"', ",", "[", "[]", "null", "true", " "])
WORD = st.builds(str.__add__, SHARP, TEXT) | TEXT
VALUES = {"note": WORD.filter(bool), "plan": st.sampled_from(["a", "=b"])}
PERSON = st.fixed_dictionaries(
    {
        "name": WORD,
        "organization": WORD,
        "tags": st.lists(WORD, max_size=3, unique=True),
        "vip": st.booleans(),
        "attributes": st.fixed_dictionaries({}, optional=VALUES),
    }
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PERSON, min_size=1, max_size=6))
async def test_a_dry_run_of_what_was_exported_says_that_nothing_changes(
    tmp_path: Path, people: list[dict[str, Any]]
) -> None:
    core = make_core(tmp_path)
    try:
        now = micros(core.clock())
        plan = {"name": "plan", "title": "", "kind": "custom", "type": "choice", "choices": ["a", "=b"], "position": 4,
                "visible": True, "unique_value": False}  # fmt: skip
        note = {**plan, "name": "note", "type": "text", "choices": []}

        def job(connection: Any) -> None:
            for entry in (plan, note):
                definitions.store(connection, entry)
            for person in people:
                row = {"id": new_id(), "created_at": now, "last_seen_at": now, **person}
                row |= {name: json.dumps(row[name]) for name in ("tags", "attributes")}
                connection.execute(insert(contacts), [row])

        await core.database.write(job)
        columns = columns_of([], await core.database.read(definitions.catalogue))
        for form in ("csv", "jsonl"):
            file = tmp_path / f"people.{form}"
            chunks = contact_chunks(core, ContactFilter(), None, columns, form)
            file.write_bytes(b"".join([chunk async for chunk in chunks]))
            found = await run(core, file, form, mode="each", dry_run=True, actor=Actor("agent", "", "me"))
            assert [item.outcome for item in found.items] == ["unchanged"] * len(people), found.items
    finally:
        await core.database.stop()
