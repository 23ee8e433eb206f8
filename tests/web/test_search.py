"""The search follows what it indexes: everything that is said, told, edited, merged, hidden and erased."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, func, select

from gateway.control import rebuild_search
from gateway.store.schema import search_entries
from gateway.web import cursors
from tests.web.conftest import Gateway

V1 = "/api/v1"


async def numbers(gateway: Gateway, words: str, **more: Any) -> list[int]:
    found = await gateway.ok("GET", f"{V1}/tickets", params={"q": words}, **more)
    return [ticket["number"] for ticket in found["items"]]


async def people(gateway: Gateway, words: str, **more: Any) -> list[str]:
    found = await gateway.ok("GET", f"{V1}/contacts", params={"q": words}, **more)
    return [contact["id"] for contact in found["items"]]


async def entries(gateway: Gateway) -> int:
    return int(
        await gateway.core.database.read(
            lambda c: c.execute(select(func.count()).select_from(search_entries)).scalar_one()
        )
    )


async def test_what_is_said_and_told_is_found(gateway: Gateway) -> None:
    ann = await gateway.customer_writes(
        "the purple bicycle", "+4915112345678", name="Ann Ärger", profile={"city": "Köln", "username": "ann_k"}
    )
    bob = await gateway.customer_writes("荷物番号はどこですか", "+33612345678", "echo-b", name="花子")
    path, contact = f"{V1}/tickets/{ann['id']}", f"{V1}/contacts/{ann['contact_id']}"
    await gateway.ok("POST", f"{path}/replies", 202, json={"text": "Your zebra is on its way"})
    await gateway.ok("POST", f"{path}/replies", 202, json={"text": "a walrus, perhaps", "visibility": "note"})
    await gateway.ok("PATCH", path, json={"subject": "Giraffes", "tags": ["okapi"], "fields": {"order": "A-77"}})
    await gateway.ok("POST", f"{V1}/attributes", 201, json={"name": "plan"})
    told = {
        "organization": "Löwen GmbH",
        "attributes": {"plan": "platinum", "email": "Ann@Example.com"},
        "tags": ["gold"],
    }
    await gateway.ok("PATCH", contact, json=told)
    for words in (
        "purple", "PURPLE bic", '"purple bicycle"', "zebra", "walrus", "giraffes", "okapi", "a-77", "ann arger",
        "@ann_k", "ann_k", "koln", "0151 12345678", "+49 (151) 1234-5678", "lowen", "platinum", "ann@example.com",
        "gold", "#1", "echo-a", "ann giraffes",
    ):  # fmt: skip
        assert await numbers(gateway, words) == [1], words
    for words in ("荷物", "物番号", "花子", "花", "0033 6 12345678", "echo-b"):
        assert await numbers(gateway, words) == [2], words
    for words in ("urple", "purple zebra", '"bicycle purple"', "the bicycle purplex", "#3", "%", "荷番"):
        assert await numbers(gateway, words) == [], words
    for words in ("purple", "ann_k", "koln", "platinum", "example.com", "lowen", "0151-12345678"):
        assert await people(gateway, words) == [ann["contact_id"]], words
    assert await people(gateway, "番号") == [bob["contact_id"]]
    await gateway.ok("PATCH", contact, json={"organization": "", "attributes": {"plan": None}})
    for words in ("lowen", "platinum"):
        assert (await numbers(gateway, words), await people(gateway, words)) == ([], []), words


async def test_an_emoji_is_found_alone_and_so_are_digits_within_a_word(gateway: Gateway) -> None:
    ann = await gateway.customer_writes("👍🏽", "+4915100000001", name="Ann 🦊")
    await gateway.customer_writes("where is DE4711X ❤️?", "+4915100000002")
    await gateway.customer_writes("what a day ☀️", "+4915100000003")
    for words, found in {
        "👍": [1],
        "👍🏿": [1],
        "🦊": [1],
        "❤": [2],
        "❤️": [2],
        "☀": [3],
        "😀": [],
        "4711": [2],
    }.items():
        assert await numbers(gateway, words) == found, words
    assert await people(gateway, "🦊") == [ann["contact_id"]]


async def test_who_is_described_comes_before_who_wrote_it_and_pages_follow(gateway: Gateway) -> None:
    wrote = [await gateway.customer_writes(f"A rose, {n}", f"+491510000000{n}", name=f"Guest {n}") for n in range(5)]
    rose = await gateway.customer_writes("Hello, a rose too", "+4915100000009", name="Rose")
    await gateway.customer_writes("a rose again", "+4915100000001")
    described, *others = await people(gateway, "rose")
    assert described == rose["contact_id"]
    assert others == [wrote[n]["contact_id"] for n in (4, 3, 2, 1, 0)]
    paged: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await gateway.ok("GET", f"{V1}/contacts", params={"q": "rose", "limit": "2", **cursor})
        paged += [contact["id"] for contact in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert paged == [described, *others]
    found: list[int] = []
    cursor = {}
    while True:
        page = await gateway.ok("GET", f"{V1}/tickets", params={"q": "rose", "limit": "2", **cursor})
        found += [ticket["number"] for ticket in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert found == [6, 5, 4, 3, 2, 1]
    one = await gateway.ok("GET", f"{V1}/tickets", params={"q": "rose", "contact": wrote[1]["contact_id"]})
    assert [ticket["number"] for ticket in one["items"]] == [2]
    await gateway.ok("PATCH", f"{V1}/tickets/{wrote[2]['id']}", json={"status": "solved"})
    solved = await gateway.ok("GET", f"{V1}/tickets", params={"q": "rose", "status": "solved"})
    assert [ticket["number"] for ticket in solved["items"]] == [3]
    for path in ("tickets", "contacts"):
        answer = await gateway.call("GET", f"{V1}/{path}", params={"q": "rose", "cursor": "abc"})
        assert (answer.status, answer.json["code"]) == (400, "invalid_cursor")
        for beyond in (2**63 - 1, -(2**63)):  # one of ours in form, and of no place there is
            page = await gateway.ok("GET", f"{V1}/{path}", params={"q": "rose", "cursor": cursors.make(beyond)})
            assert (len(page["items"]) > 0) is (beyond > 0)


async def test_a_merge_and_its_undoing_move_what_is_found(gateway: Gateway) -> None:
    ann = await gateway.customer_writes("apple", "+4915100000001", name="Ann")
    other = await gateway.customer_writes("banana", "+4915100000002", "echo-b", name="Kirsche")
    await gateway.ok("POST", f"{V1}/contacts/{other['contact_id']}/merge", json={"into": ann["contact_id"]})
    assert await people(gateway, "banana") == [ann["contact_id"]]
    assert await people(gateway, "kirsche") == [ann["contact_id"]]
    assert await numbers(gateway, "kirsche") == [2, 1]
    limited = await gateway.make_key("a", "admin", ["echo-a"])
    assert await numbers(gateway, "kirsche", key=limited) == []  # an identity of an account that is hidden
    assert await people(gateway, "banana", key=limited) == []
    assert await people(gateway, "0151 00000002", key=limited) == []
    assert await people(gateway, "ann", key=limited) == [ann["contact_id"]]
    contact = await gateway.ok("GET", f"{V1}/contacts/{ann['contact_id']}")
    identity = next(one["id"] for one in contact["identities"] if one["account"] == "echo-b")
    await gateway.ok("POST", f"{V1}/contacts/{ann['contact_id']}/unmerge", json={"identity": identity})
    assert await people(gateway, "kirsche") == [other["contact_id"]]
    assert await people(gateway, "banana") == [other["contact_id"]]
    assert await numbers(gateway, "kirsche") == [2]


async def test_what_is_erased_is_found_no_more(gateway: Gateway) -> None:
    ann = await gateway.customer_writes("a secret of Ann's", "+4915100000001", name="Ann")
    await gateway.customer_writes("Hello", "+4915100000002", name="Bob")
    before = await entries(gateway)
    await gateway.ok("POST", f"{V1}/tickets/{ann['id']}/replies", 202, json={"text": "the answer"})
    await gateway.ok("DELETE", f"{V1}/contacts/{ann['contact_id']}", 204)
    for words in ("secret", "ann", "answer", "0151 00000001", "#1"):
        assert (await numbers(gateway, words), await people(gateway, words)) == ([], []), words
    assert await entries(gateway) < before
    left = await gateway.core.database.read(lambda c: list(c.execute(select(search_entries.c.words)).scalars()))
    assert not [said for said in left if "secret" in said or "00000001" in said]


@pytest.mark.parametrize("loss", ["all", "stale"])
async def test_the_index_is_made_again(gateway: Gateway, loss: str) -> None:
    await gateway.customer_writes("purple", "+4915112345678", name="Ann")
    await gateway.customer_writes("orange", "+4915112345679", name="Bob")
    whole = await entries(gateway)
    if loss == "all":
        await gateway.core.database.write(lambda c: c.execute(delete(search_entries)))
        assert await numbers(gateway, "purple") == []
    else:
        row = {"id": 77 << 20, "ref": "f" * 32, "account": "", "words": " purple "}
        await gateway.core.database.write(lambda c: c.execute(search_entries.insert(), [row]))
    counted = await rebuild_search(gateway.core, {})
    assert counted == {"contacts": 2, "tickets": 2, "messages": 2, "removed": 0 if loss == "all" else 1}
    assert await entries(gateway) == whole
    for words, number in (("purple", 1), ("orange", 2), ("bob", 2), ("0151 12345678", 1)):
        assert await numbers(gateway, words) == [number]
    assert len(await people(gateway, "purple")) == 1
