"""A gateway with one account on one simulated platform, and nothing else.

async with open_page(tmp_path, FacebookPage()) as world:
    await world.platform.customer_writes(jo, "Hello")
    ticket = await world.api.ticket()
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from adapters._load import find
from adapters.sandbox._base import Platform
from adapters.sandbox.facebook import FacebookPage
from adapters.sandbox.instagram import InstagramAccount
from adapters.sandbox.line import LineSimulator
from config import settings as configuration
from gateway.control import create_key
from gateway.loading import settings_types
from gateway.runtime import Gateway
from tests.support.api import Api
from tests.support.world import TestClock


@dataclass(slots=True)
class Single:
    """A gateway with one account on one simulated platform."""

    platform: Any
    clock: TestClock
    gateway: Gateway
    api: Api

    def later(self, by: timedelta) -> None:
        """Let time pass for both sides."""
        self.clock.ahead += by
        self.platform.clock_ahead_s += by.total_seconds()


@asynccontextmanager
async def open_world(directory: Path, platform: Platform, hook: str, **account: Any) -> AsyncIterator[Single]:
    """The gateway and the platform, up; `hook` is the platform's setting that says where the gateway listens."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(platform)
        found, clock = find(), TestClock()
        tree = {
            "gateway": {"listen": "127.0.0.1:0", "public_url": "https://support.shop.test", "data_dir": "var"},
            "media": {"allow_private_networks": True},
            "accounts": [{"id": "main"} | {name: _value(value) for name, value in account.items()}],
        }
        settings = configuration.parse(tree, settings_types(found), base_dir=directory)
        gateway = Gateway(settings, found=found, clock=clock)
        await gateway.start()
        stack.push_async_callback(gateway.stop)
        setattr(platform, hook, f"{gateway.address}/webhooks/main")
        api = Api(gateway.address, (await create_key(gateway.core, {"name": "tests", "scope": "admin"}))["key"])
        stack.push_async_callback(api.close)
        yield Single(platform, clock, gateway, api)


def _value(value: Any) -> Any:
    """Addresses of a platform are known once it listens."""
    return value() if callable(value) else value


@asynccontextmanager
async def open_page(directory: Path, platform: FacebookPage, **account: Any) -> AsyncIterator[Single]:
    """A gateway with a Facebook Page."""
    async with open_world(
        directory, platform, "webhook_url", adapter="facebook", page_id=platform.page_id,
        access_token=platform.access_token, app_secret=platform.app_secret, verify_token="hello",
        api_base=lambda: platform.api_base, app_id=platform.app_id, **account,
    ) as world:  # fmt: skip
        yield world


@asynccontextmanager
async def open_instagram(directory: Path, platform: InstagramAccount, **account: Any) -> AsyncIterator[Single]:
    """A gateway with an Instagram account."""
    async with open_world(
        directory, platform, "webhook_url", adapter="instagram", instagram_id=platform.instagram_id,
        access_token=platform.access_token, app_secret=platform.app_secret, verify_token="hello",
        api_base=lambda: platform.api_base, **account,
    ) as world:  # fmt: skip
        yield world


@asynccontextmanager
async def open_line(directory: Path, platform: LineSimulator) -> AsyncIterator[Single]:
    """A gateway with an official account on LINE."""
    async with open_world(
        directory, platform, "webhook_url", adapter="line", channel_secret=platform.channel_secret,
        access_token=platform.access_token, bot_user_id=platform.bot_user_id, api_base=lambda: platform.url,
        data_base=lambda: platform.data_base,
    ) as world:  # fmt: skip
        yield world
