"""Files: taken as streams, given out so that no browser runs them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import update

from gateway import signed_urls
from gateway.store import uploads
from gateway.store.schema import attachments
from gateway.web.api.files import clean_filename, clean_media_type
from tests.web.conftest import Gateway

V1 = "/api/v1"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64


def form(
    content: bytes, filename: str = "picture.png", content_type: str = "image/png", name: str = "file"
) -> aiohttp.FormData:
    data = aiohttp.FormData(quote_fields=False)  # as browsers do
    data.add_field(name, content, filename=filename, content_type=content_type)
    return data


async def test_an_upload_is_on_disk_under_a_random_name(gateway: Gateway, tmp_path: Path) -> None:
    content = PNG + bytes(1_000_000)
    found = await gateway.ok("POST", f"{V1}/uploads", 201, data=form(content, "../../Ü:.png", "text/html; x=y"))
    assert found | {"filename": "Ü_.png", "media_type": "image/png", "size": len(content)} == found
    assert found["sha256"] == hashlib.sha256(content).hexdigest()
    row = await gateway.core.database.read(lambda c: uploads.load(c, found["id"]))
    assert row is not None
    assert (tmp_path / "media" / row["path"]).read_bytes() == content


async def test_what_is_no_upload_leaves_nothing_behind(gateway: Gateway, tmp_path: Path) -> None:
    assert (await gateway.call("POST", f"{V1}/uploads", data=form(b"x", name="picture"))).status == 422
    multipart = {"Content-Type": "multipart/form-data; boundary=b"}
    for body in (
        b"", b"--b--\r\n", b"rubbish", b"--b\r\n\r\nx",
        b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nno end of it',
        b'--b\r\nContent-Disposition: form-data; name="file"\r\nContent-Encoding: gzip\r\n\r\nx\r\n--b--\r\n',
    ):  # fmt: skip
        answer = await gateway.call("POST", f"{V1}/uploads", data=body, headers=multipart)
        assert 400 <= answer.status < 500, (body, answer)
    no_boundary = await gateway.call(
        "POST", f"{V1}/uploads", data=b"x", headers={"Content-Type": "multipart/form-data"}
    )
    assert (no_boundary.status, no_boundary.json["code"]) == (400, "malformed_body")
    assert [path for path in (tmp_path / "media").rglob("*") if path.is_file()] == []


async def test_an_empty_file_is_no_upload(gateway: Gateway, tmp_path: Path) -> None:
    answer = await gateway.call("POST", f"{V1}/uploads", data=form(b""))
    assert (answer.status, answer.json["code"]) == (422, "invalid_body")
    assert (answer.json["field"], answer.json["detail"]) == ("file", "the file is empty")
    assert [path for path in (tmp_path / "media").rglob("*") if path.is_file()] == []


async def stored(gateway: Gateway, content: bytes, media_type: str, filename: str) -> str:
    """An attachment of a customer's message that lies in the blob store; its id."""

    async def chunks() -> AsyncIterator[bytes]:
        yield content

    file = await gateway.core.blobs.write(chunks(), 10_000)
    ticket = await gateway.customer_writes(files=[{"url": "https://example.com/p"}])
    [message] = (await gateway.ok("GET", f"{V1}/tickets/{ticket['id']}/messages"))["items"]
    attachment_id = str(message["attachments"][0]["id"])
    values = {"state": "stored", "path": file.path, "media_type": media_type, "filename": filename}
    change = update(attachments).where(attachments.c.id == attachment_id).values(values)
    await gateway.core.database.write(lambda c: c.execute(change))
    return attachment_id


SERVED = {  # media type, file name -> Content-Type, Content-Disposition
    "a picture": ("image/png", "a.png", "image/png", "inline; filename=\"a.png\"; filename*=UTF-8''a.png"),
    "a page": ("text/html", "a.html", "text/html", "attachment; filename=\"a.html\"; filename*=UTF-8''a.html"),
    "a drawing": ("image/svg+xml", "", "image/svg+xml", "attachment; filename=\"file\"; filename*=UTF-8''file"),
    "nonsense": (
        "x\r\nX: y", 'Ä"\r\n.pdf', "application/octet-stream",
        "attachment; filename=\"____.pdf\"; filename*=UTF-8''%C3%84___.pdf",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SERVED)
async def test_files_are_given_out_harmless(gateway: Gateway, case: str) -> None:
    media_type, filename, shown, disposition = SERVED[case]
    attachment_id = await stored(gateway, PNG, media_type, filename)
    answer = await gateway.call("GET", f"{V1}/attachments/{attachment_id}")
    assert (answer.status, answer.body) == (200, PNG)
    assert answer.headers["Content-Type"] == shown
    assert answer.headers["Content-Disposition"] == disposition
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"


async def test_a_file_that_is_not_here_says_why(gateway: Gateway) -> None:
    attachment_id = await stored(gateway, PNG, "image/png", "a.png")
    path = f"{V1}/attachments/{attachment_id}"
    assert (await gateway.call("GET", path, key="")).status == 401
    assert (await gateway.call("GET", path, headers={"Range": "bytes=0-3"})).body == PNG[:4]
    change = update(attachments).values(state="failed", reason="404 at the platform")
    await gateway.core.database.write(lambda c: c.execute(change))
    answer = await gateway.call("GET", path)
    assert (answer.status, answer.json["detail"]) == (409, "404 at the platform")
    for value in ("../../etc/passwd", "aa/" + "0" * 32):
        gone = update(attachments).values(state="stored", path=value)
        await gateway.core.database.write(lambda c, gone=gone: c.execute(gone))  # type: ignore[misc]
        assert (await gateway.call("GET", path)).status == 404


async def test_a_platform_fetches_by_a_signed_address_for_a_while(gateway: Gateway) -> None:
    attachment_id = await stored(gateway, PNG, "image/png", "a.png")
    now = gateway.core.clock()
    token = signed_urls.make(gateway.core.tokens, attachment_id, now)
    answer = await gateway.call("GET", f"/media/{token}", key="")
    assert (answer.status, answer.body) == (200, PNG)
    old = signed_urls.make(gateway.core.tokens, attachment_id, now - timedelta(days=30))
    for wrong in (token[:-1] + ("0" if token[-1] != "0" else "1"), old, "x", "a.b.c", "%00.%00.%00"):
        assert (await gateway.call("GET", f"/media/{wrong}", key="")).status == 404


def test_names_and_types_are_cleaned() -> None:
    assert [clean_filename(name) for name in ("a/b\\c.txt", "..", "\u202egnp.exe", "x" * 300 + ".pdf", "")] == [
        "c.txt", "file", "_gnp.exe", "x" * 251 + ".pdf", "file",
    ]  # fmt: skip
    assert clean_media_type("Text/HTML; charset=x") == "text/html"
    assert clean_media_type("a b") == clean_media_type(None) == "application/octet-stream"
