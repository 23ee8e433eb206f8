"""A gateway between simulated LINE, X and WeChat.

async with Chats.open(tmp_path) as chats:
    await chats.line.customer_writes(mika, "Hello")
    ticket = await chats.api.ticket()
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from adapters.sandbox.line import LineSimulator
from adapters.sandbox.wechat import WeChatSimulator
from adapters.sandbox.x import XSimulator
from gateway.control import create_key
from gateway.runtime import ROLES, Gateway
from tests.support.api import Api
from tests.support.world import PUBLIC_URL, TestClock, read

X_SECRETS = ("client", "client-secret-canary", "refresh-token-canary")


def config(line: LineSimulator, x: XSimulator, wechat: WeChatSimulator, *, more: str = "") -> str:
    """A `gateway.toml` with an account on each platform. `more` is added to [gateway]."""
    return f"""
[gateway]
public_url = "{PUBLIC_URL}"
listen = "127.0.0.1:0"
data_dir = "var"
{more}

[media]
allow_private_networks = true

[[accounts]]
id = "line"
adapter = "line"
channel_secret = "{line.channel_secret}"
bot_user_id = "{line.bot_user_id}"
token_kind = "stateless"
channel_id = "{line.issued.channel_id}"
api_base = "{line.url}"
data_base = "{line.data_base}"

[[accounts]]
id = "x"
adapter = "x"
user_id = "{x.world.own.id}"
consumer_key = "{x.consumer_key}"
consumer_secret = "{x.consumer_secret}"
access_token = "{x.access_token}"
access_token_secret = "{x.access_token_secret}"
oauth2 = {{ client_id = "{X_SECRETS[0]}", client_secret = "{X_SECRETS[1]}", refresh_token = "{X_SECRETS[2]}" }}
api_base = "{x.url}"

[[accounts]]
id = "wechat"
adapter = "wechat"
app_id = "{wechat.app_id}"
app_secret = "{wechat.app_secret}"
token = "{wechat.token}"
original_id = "{wechat.original_id}"
encoding_aes_key = "{wechat.encoding_aes_key}"
security = "secure"
api_base = "{wechat.api_base}"

[[accounts.templates]]
name = "parcel"
"""


@dataclass(slots=True)
class Chats:
    """Platforms, gateway and API client, all running."""

    directory: Path
    line: LineSimulator
    x: XSimulator
    wechat: WeChatSimulator
    clock: TestClock = field(default_factory=TestClock)
    gateway: Gateway = field(init=False)
    api: Api = field(init=False)

    @classmethod
    @asynccontextmanager
    async def platforms(cls, directory: Path, *, more: str = "") -> AsyncIterator[Chats]:
        """The platforms and a `gateway.toml` for them; no gateway yet."""
        x, wechat = XSimulator(oauth2=X_SECRETS), WeChatSimulator(mode="secure")
        async with LineSimulator() as line, x, wechat:
            chats = cls(directory, line, x, wechat)
            chats.file.write_text(config(line, x, wechat, more=more), "utf-8")
            yield chats

    @classmethod
    @asynccontextmanager
    async def open(cls, directory: Path) -> AsyncIterator[Chats]:
        """Everything up, until the block ends."""
        async with AsyncExitStack() as stack:
            chats = await stack.enter_async_context(cls.platforms(directory))
            await chats.start()
            stack.push_async_callback(chats.stop)
            yield chats

    @property
    def file(self) -> Path:
        """The configuration."""
        return self.directory / "gateway.toml"

    async def start(self) -> None:
        """Start the gateway in this process, and tell the platforms where it is."""
        self.gateway = await self.another()
        address = self.gateway.address
        self.line.webhook_url = f"{address}/webhooks/line"
        self.x.webhook_url = f"{address}/webhooks/x"
        self.wechat.webhook_url = f"{address}/webhooks/wechat"
        key = await create_key(self.gateway.core, {"name": "tests", "scope": "admin"})
        self.api = Api(address, key["key"])

    async def another(self) -> Gateway:
        """One more gateway with the same configuration (on PostgreSQL)."""
        gateway = Gateway(read(self.file), ROLES, clock=self.clock)
        await gateway.start()
        return gateway

    async def stop(self) -> None:
        """Stop the gateway; the platforms stay."""
        await self.api.close()
        await self.gateway.stop()
