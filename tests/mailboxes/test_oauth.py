"""Mailboxes that take tokens instead of passwords: where the token comes from, and how the server is told."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from adapters import Http, MailboxTrouble, SendError
from adapters._http import new_session
from adapters._imap import Imap, ImapMailbox
from adapters._mail_oauth2 import MailTokens, OAuth2
from adapters._media import MediaClient
from adapters._tokens import InProcessTokens
from adapters.email import Settings
from config.secret import Secret

# --- the token --------------------------------------------------------------------------------------------------------


class Provider:
    """An authorization server: a refresh token works once (as Microsoft's do)."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.valid = "refresh-1"

    async def token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append(form)
        if form["grant_type"] == "client_credentials":
            return web.json_response({"access_token": "app-token", "expires_in": 3600})
        if form.get("refresh_token") != self.valid:
            return web.json_response({"error": "invalid_grant"}, status=400)
        self.valid = f"refresh-{len(self.asked) + 1}"
        body: dict[str, Any] = {"access_token": f"access-{len(self.asked)}", "refresh_token": self.valid}
        return web.json_response(body | {"expires_in": 300})  # soon over: the next call renews it


@pytest.fixture
async def provider() -> AsyncIterator[tuple[Provider, str, Http]]:
    found = Provider()
    app = web.Application()
    app.router.add_post("/token", found.token)
    session, media = new_session(), MediaClient(allow_private=True, max_bytes=1)
    async with TestServer(app) as server:
        url = str(server.make_url("/token"))
        yield found, url, Http(session, (url,), media)
    await media.aclose()
    await session.close()


async def test_the_newest_refresh_token_is_used(provider: tuple[Provider, str, Http]) -> None:
    found, url, http = provider
    settings = OAuth2(url, "client", Secret("s3cret"), Secret("refresh-1"), "imap offline_access")
    tokens = MailTokens("mail", settings, http, InProcessTokens())
    assert await tokens.current() == "access-1"
    await asyncio.sleep(1.1)
    assert await tokens.current() == "access-2"
    assert [form["refresh_token"] for form in found.asked] == ["refresh-1", "refresh-2"]
    assert found.asked[0] == {
        "client_id": "client", "client_secret": "s3cret", "scope": "imap offline_access",
        "grant_type": "refresh_token", "refresh_token": "refresh-1",
    }  # fmt: skip


async def test_an_application_for_itself(provider: tuple[Provider, str, Http]) -> None:
    _, url, http = provider
    tokens = MailTokens("mail", OAuth2(url, "client", Secret("s3cret")), http, InProcessTokens())
    assert await tokens.current() == "app-token"


async def test_a_consent_that_is_gone_needs_a_person(provider: tuple[Provider, str, Http]) -> None:
    _, url, http = provider
    tokens = MailTokens("mail", OAuth2(url, "client", None, Secret("old")), http, InProcessTokens())
    with pytest.raises(SendError) as raised:
        await tokens.current()
    assert (raised.value.error_class, raised.value.code) == ("auth", "invalid_grant")


# --- the login --------------------------------------------------------------------------------------------------------


class Server:
    """As much of an IMAP server as a login by token needs; it takes the token "good" only."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK ready\r\n")
        while line := await reader.readline():
            tag, _, command = line.strip().partition(b" ")
            name = command.split(b" ")[0].upper()
            if name == b"AUTHENTICATE":
                writer.write(b"+ \r\n")
                self.heard.append(base64.b64decode(await reader.readline()))
                if b"Bearer good" in self.heard[-1]:
                    writer.write(tag + b" OK in\r\n")
                else:
                    writer.write(b"+ " + base64.b64encode(b'{"status":"401"}') + b"\r\n")
                    self.heard.append((await reader.readline()).strip())
                    token = self.heard[-2].partition(b"Bearer ")[2].strip(b"\x01")
                    writer.write(tag + b" NO [AUTHENTICATIONFAILED] what is " + token + b"\r\n")
            elif name == b"CAPABILITY":
                writer.write(b"* CAPABILITY IMAP4rev1 AUTH=XOAUTH2\r\n" + tag + b" OK done\r\n")
            elif name in (b"SELECT", b"EXAMINE"):
                writer.write(b"* 0 EXISTS\r\n* OK [UIDVALIDITY 9] x\r\n* OK [UIDNEXT 4] x\r\n" + tag + b" OK done\r\n")
            elif name == b"LOGOUT":
                writer.write(b"* BYE\r\n" + tag + b" OK done\r\n")
                break
            else:
                writer.write(tag + b" OK done\r\n")
        writer.close()


@pytest.mark.parametrize("token", ["good", "a-token-of-old"])
async def test_login_by_token(token: str) -> None:
    server = Server()

    async def give() -> str:
        return token

    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        oauth2 = OAuth2("http://127.0.0.1:1/token", "client", Secret("s"))
        mailbox = ImapMailbox(Imap("127.0.0.1", "ann@x.test", port, "none", oauth2=oauth2), give)
        await mailbox.prepare()
        try:
            if token == "good":
                opened = await asyncio.to_thread(mailbox.open)
                assert (opened.validity, opened.following) == (9, 4)
                assert server.heard == [b"user=ann@x.test\x01auth=Bearer good\x01\x01"]
            else:
                with pytest.raises(MailboxTrouble) as raised:
                    await asyncio.to_thread(mailbox.open)
                assert raised.value.kind == "auth"
                assert "what is ***" in raised.value.detail
                assert token not in str(raised.value)
                assert server.heard[1] == b""  # an empty answer to the reason, then the server says no
        finally:
            await asyncio.to_thread(mailbox.close)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "neither password nor token": ({}, "password"),
    "both": ({"password": Secret("a"), "oauth2": OAuth2("https://a.test/t", "c", Secret("s"))}, "password"),
    "nowhere to move to": ({"password": Secret("a"), "after": "move"}, "move_to"),
    "a folder for nothing": ({"password": Secret("a"), "move_to": "Done"}, "move_to"),
    "too seldom": ({"password": Secret("a"), "poll_s": 1741.0}, "poll_s"),
    "a port": ({"password": Secret("a"), "port": 70000}, "port"),
}


@pytest.mark.parametrize(("settings", "key"), WRONG.values(), ids=WRONG)
def test_wrong_settings(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=f"^{key}: "):
        Imap("h", "u", **settings)


def test_tokens_come_from_one_host_only() -> None:
    oauth2 = OAuth2("https://login.test/t", "c", Secret("s"))
    assert Settings("a@b.test", imap=Imap("h", "u", oauth2=oauth2)).data_base == "https://login.test/t"
    assert Settings("a@b.test").data_base == ""
    with pytest.raises(ValueError, match=r"^token_url: "):
        OAuth2("login.test", "c", Secret("s"))
