"""A gateway with simulated platforms around it: WhatsApp, Twilio, and the mail servers of the world.

async with World.open(tmp_path) as world:
    await world.whatsapp.customer_writes(ann, "Hello")
    ticket = await world.api.ticket()
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from adapters._load import find
from adapters.sandbox.meta_whatsapp import Approved, Customer, MetaWhatsApp
from adapters.sandbox.smtp import MailWorld
from adapters.sandbox.twilio import ContentTemplate, TwilioSimulator
from config import settings as configuration
from config.settings import Settings
from gateway.control import create_key
from gateway.loading import settings_types
from gateway.runtime import ROLES, Gateway
from tests.support.api import Api

PUBLIC_URL = "https://support.shop.test"
SUPPORT, SALES = "support@shop.test", "sales@shop.test"
NUMBER = "+15550199999"
ANN = "+15550100001"
WHATSAPP_NUMBER = "+15550177777"  # of the account that reaches WhatsApp through Twilio
CONTENT_SID = "HX" + "0" * 31 + "1"


class TestClock:
    """The machine's clock, moved by `ahead`."""

    __test__ = False

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


def config(
    whatsapp: MetaWhatsApp, twilio: TwilioSimulator, mail: MailWorld, *, more: str = "", mail_more: str = "",
    sms_more: str = "",
) -> str:  # fmt: skip
    """A `gateway.toml` with an account on each simulated platform. `more` is added to [gateway], the rest to theirs."""
    return f"""
[gateway]
public_url = "{PUBLIC_URL}"
listen = "127.0.0.1:0"
data_dir = "var"
{more}

[smtp]
listen = "127.0.0.1:0"

[media]
allow_private_networks = true

[[accounts]]
id = "wa-main"
adapter = "whatsapp"
phone_number_id = "{whatsapp.phone_number_id}"
access_token = "{whatsapp.access_token}"
app_secret = "{whatsapp.app_secret}"
verify_token = "hello"
waba_id = "{whatsapp.waba_id}"
api_base = "{whatsapp.api_base}"

[[accounts.templates]]
name = "order_update"
language = "en"
parameters = 2

[[accounts]]
id = "sms-us"
adapter = "sms"
rate = 50
account_sid = "{twilio.account_sid}"
auth_token = "{twilio.auth_token}"
number = "{NUMBER}"
api_base = "{twilio.url}"
{sms_more}

[[accounts]]
id = "mail"
adapter = "email"
address = "{SUPPORT}"
name = "Shop Support"
smtp = {{ host = "127.0.0.1", port = {mail.port}, security = "none" }}
{mail_more}

[[accounts]]
id = "mail-sales"
adapter = "email"
address = "{SALES}"
smtp = {{ host = "127.0.0.1", port = {mail.port}, security = "none" }}

[[accounts]]
id = "wa-twilio"
adapter = "whatsapp"
provider = "twilio"
account_sid = "{twilio.account_sid}"
auth_token = "{twilio.auth_token}"
number = "{WHATSAPP_NUMBER}"
api_base = "{twilio.url}"

[[accounts.templates]]
name = "order_update"
language = "en"
parameters = 2
sid = "{CONTENT_SID}"
"""


def read(path: Path) -> Settings:
    """The settings of a file, with the adapters there are."""
    return configuration.load(path, settings_types(find()))


@dataclass(slots=True)
class World:
    """Platforms, gateway and API client, all running."""

    directory: Path
    whatsapp: MetaWhatsApp
    twilio: TwilioSimulator
    mail: MailWorld
    clock: TestClock = field(default_factory=TestClock)
    roles: tuple[str, ...] = ROLES
    gateway: Gateway = field(init=False)
    api: Api = field(init=False)

    @classmethod
    @asynccontextmanager
    async def open(cls, directory: Path, **more: str) -> AsyncIterator[World]:
        """Everything up, until the block ends. `more` is for `config`."""
        async with AsyncExitStack() as stack:
            world = await stack.enter_async_context(cls.platforms(directory, **more))
            await world.start()
            stack.push_async_callback(world.stop)
            yield world

    @classmethod
    @asynccontextmanager
    async def platforms(cls, directory: Path, **more: str) -> AsyncIterator[World]:
        """The platforms and a `gateway.toml` for them; no gateway yet."""
        twilio = TwilioSimulator(public_url=PUBLIC_URL, whatsapp_numbers=(WHATSAPP_NUMBER,))
        twilio.whatsapp.templates[CONTENT_SID] = ContentTemplate(CONTENT_SID, variables=2)
        async with MetaWhatsApp() as whatsapp, twilio, MailWorld() as mail:
            whatsapp.add_template(Approved("order_update", "en", parameters=2))
            world = cls(directory, whatsapp, twilio, mail)
            world.file.write_text(config(whatsapp, twilio, mail, **more), "utf-8")
            yield world

    @property
    def file(self) -> Path:
        """The configuration."""
        return self.directory / "gateway.toml"

    async def start(self) -> None:
        """Start the gateway in this process, and tell the platforms where it is."""
        self.gateway = Gateway(read(self.file), self.roles, clock=self.clock)
        await self.gateway.start()
        self.point(self.gateway.address)
        key = await create_key(self.gateway.core, {"name": "tests", "scope": "admin"})
        self.api = Api(self.gateway.address, key["key"])

    async def stop(self) -> None:
        """Stop the gateway; the platforms stay."""
        await self.api.close()
        await self.gateway.stop()

    def point(self, address: str) -> None:
        """Tell the platforms where the gateway listens."""
        self.whatsapp.webhook_url = f"{address}/webhooks/wa-main"
        self.twilio.webhook_url = f"{PUBLIC_URL}/webhooks/sms-us"
        self.twilio.whatsapp_url = f"{PUBLIC_URL}/webhooks/wa-twilio"
        self.twilio.local_url = address

    @property
    def smtp_port(self) -> int:
        """Where mail comes in."""
        assert self.gateway.smtp is not None
        return self.gateway.smtp.port

    def customer(self, name: str = "Ann Lee", wa_id: str = "4915112345601", **more: Any) -> Customer:
        """Somebody on WhatsApp."""
        return self.whatsapp.add_customer(Customer(wa_id, f"DE.{wa_id}", name, **more))

    async def mailed(self, sender: str = "ann@customer.test", to: str = SUPPORT, **mail: Any) -> None:
        """A customer's mail, received."""
        await self.mail.customer_writes(self.smtp_port, sender, to, **({"text": "Hello", "subject": "Help"} | mail))

    async def sent_to(self, platform: MetaWhatsApp | TwilioSimulator, count: int) -> None:
        """Wait until the platform has taken so many messages, and reported on them."""
        await eventually(lambda: len(platform.sends) >= count)
        await platform.settled()


async def eventually(holds: Any, timeout_s: float = 15.0) -> None:
    """Wait until `holds()` is true."""
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - what is awaited happens in sockets and other processes
            await asyncio.sleep(0.01)


def shown(message: Mapping[str, Any], *names: str) -> tuple[Any, ...]:
    """Some fields of what the API shows."""
    return tuple(message[name] for name in names)
