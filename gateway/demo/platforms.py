"""The demo's platforms, one entry each: the simulator, our account on it, and the strangers who write while it stays.

A further platform is a further class and its line in `Platforms`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar

from adapters.sandbox.facebook import Customer as FacebookCustomer
from adapters.sandbox.facebook import FacebookPage
from adapters.sandbox.instagram import Customer as InstagramCustomer
from adapters.sandbox.instagram import InstagramAccount
from adapters.sandbox.line import LineSimulator
from adapters.sandbox.line import User as LineUser
from adapters.sandbox.meta_whatsapp import Approved, Customer, MetaWhatsApp
from adapters.sandbox.smtp import Delivered, MailWorld
from adapters.sandbox.twilio import TwilioSimulator
from adapters.sandbox.wechat import Follower, WeChatSimulator
from adapters.sandbox.x import User as XUser
from adapters.sandbox.x import XSimulator
from gateway.runtime import Gateway

SUPPORT = "support@shop.test"
SMS_NUMBER = "+12025550199"
VERIFY_TOKEN = "demo-handshake"  # noqa: S105 - known to both sides of a simulation
TEMPLATE = Approved("order_update", "en", 2)
NAMES = ("Finn Adler", "Gia Costa", "Hugo Lind", "Ida Novak", "Jon Salo", "Kim Tran", "Lea Marin", "Max Ober")

Said: TypeAlias = tuple[str, str]
"""On which channel somebody wrote, and who it was as people would call them."""


class Simulator(Protocol):
    """What every simulated platform can do. `sends`: what it took from us, the oldest first."""

    sends: Any

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


S = TypeVar("S", bound=Simulator)


class Place(ABC, Generic[S]):
    """One platform. Strangers are numbers below `len(NAMES)`; the same number is the same person each time."""

    id: ClassVar[str]  # of our account
    adapter: ClassVar[str]

    def __init__(self, simulator: S) -> None:
        self.simulator = simulator

    @property
    @abstractmethod
    def ours(self) -> tuple[Said, ...]:
        """Its channels, each with what we are called there."""

    @abstractmethod
    def account(self) -> Mapping[str, Any]:
        """The account's settings, once the simulator listens."""

    def connect(self, gateway: Gateway) -> None:
        """Tell the platform where the gateway is."""
        self.simulator.webhook_url = f"{gateway.address}/webhooks/{self.id}"  # type: ignore[attr-defined]

    @abstractmethod
    async def writes(self, number: int, words: str) -> Said:
        """A stranger writes."""

    @abstractmethod
    async def answers(self, sent: Any, words: str) -> Said | None:
        """Who got `sent` answers; None when nobody did."""


class Mail(Place[MailWorld]):
    """A mail server of our own, and the world's."""

    id, adapter = "support-mail", "email"
    ours = (("email", SUPPORT),)
    port = 0  # where customers' mail arrives

    def account(self) -> Mapping[str, Any]:
        relay = {"host": "127.0.0.1", "port": self.simulator.port, "security": "none"}
        return {"address": SUPPORT, "name": "Shop Support", "smtp": relay}

    def connect(self, gateway: Gateway) -> None:
        assert gateway.smtp is not None
        self.port = gateway.smtp.port

    async def writes(self, number: int, words: str) -> Said:
        name = NAMES[number]
        return await self.mails(f"{_handle(number)}@customer.test", words, name=name, subject=words.rstrip("?."))

    async def answers(self, sent: Delivered, words: str) -> Said:
        address = sent.recipients[0]
        return await self.mails(address, words, name=address.partition("@")[0].title(), reply_to=sent)

    async def mails(self, sender: str, text: str, *, name: str, **more: Any) -> Said:
        """Somebody writes a mail, or answers one of ours (`reply_to`)."""
        await self.simulator.customer_writes(self.port, sender, SUPPORT, name=name, text=text, **more)
        return "email", name


class Sms(Place[TwilioSimulator]):
    """A number at Twilio."""

    id, adapter = "sms-us", "sms"
    ours = (("sms", SMS_NUMBER),)

    def account(self) -> Mapping[str, Any]:
        it = self.simulator
        return {"account_sid": it.account_sid, "auth_token": it.auth_token, "number": SMS_NUMBER, "api_base": it.url,
                "rate": 20}  # fmt: skip

    async def writes(self, number: int, words: str) -> Said:
        return await self.texts(f"+1202555012{number}", words)

    async def answers(self, sent: Any, words: str) -> Said:
        return await self.texts(sent.to, words)

    async def texts(self, sender: str, words: str) -> Said:
        """Somebody writes a text message."""
        await self.simulator.customer_writes(words, sender=sender)
        return "sms", sender


class WhatsApp(Place[MetaWhatsApp]):
    """A number of the Cloud API."""

    id, adapter = "wa-main", "whatsapp"

    def __init__(self, simulator: MetaWhatsApp) -> None:
        super().__init__(simulator)
        self.people: dict[str, Customer] = {}  # by phone number and by user id
        simulator.add_template(TEMPLATE)

    @property
    def ours(self) -> tuple[Said, ...]:
        return (("whatsapp", f"+{self.simulator.own_number}"),)

    def account(self) -> Mapping[str, Any]:
        it = self.simulator
        template = {"name": TEMPLATE.name, "language": TEMPLATE.language, "parameters": TEMPLATE.parameters}
        return {"phone_number_id": it.phone_number_id, "access_token": it.access_token, "app_secret": it.app_secret,
                "verify_token": VERIFY_TOKEN, "api_base": it.api_base, "templates": [template]}  # fmt: skip

    async def writes(self, number: int, words: str) -> Said:
        wa_id = f"1202555011{number}"
        known = self.people.get(wa_id) or Customer(wa_id, f"US.1000000000000{wa_id[-4:]}", NAMES[number], reads=True)
        return await self.chats(known, words)

    async def answers(self, sent: Any, words: str) -> Said | None:
        customer = self.people.get(sent.to)
        return await self.chats(customer, words) if customer is not None else None

    async def chats(self, customer: Customer, words: str) -> Said:
        """Somebody writes, and is remembered."""
        self.people[customer.wa_id] = self.people[customer.user_id] = customer
        await self.simulator.customer_writes(customer, words)
        return "whatsapp", customer.name


class Line(Place[LineSimulator]):
    """An official account."""

    id, adapter = "line-shop", "line"
    ours = (("line", "@sandbox"),)

    def account(self) -> Mapping[str, Any]:
        it = self.simulator
        return {"channel_secret": it.channel_secret, "bot_user_id": it.bot_user_id, "access_token": it.access_token,
                "api_base": it.url, "data_base": it.data_base}  # fmt: skip

    async def writes(self, number: int, words: str) -> Said:
        return await self.chats(f"U{number:032x}", words, NAMES[number])

    async def answers(self, sent: Any, words: str) -> Said:
        return await self.chats(sent.to, words)

    async def chats(self, user_id: str, words: str, name: str = "") -> Said:
        """Somebody writes; `name` for who is new."""
        user = self.simulator.users.get(user_id) or LineUser(user_id, name)
        await self.simulator.customer_writes(user, words)
        return "line", user.name


class Facebook(Place[FacebookPage]):
    """A Page: Messenger, and the comments below its posts. The app may use the human-agent tag."""

    id, adapter = "fb-page", "facebook"
    ours = (("facebook", "The Shop"), ("messenger", "The Shop"))

    def __init__(self, simulator: FacebookPage) -> None:
        super().__init__(simulator)
        simulator.behaviour.human_agent = True
        self.post = simulator.page_post("New in: the blue jacket")

    def account(self) -> Mapping[str, Any]:
        it = self.simulator
        return {"page_id": it.page_id, "access_token": it.access_token, "app_secret": it.app_secret,
                "verify_token": VERIFY_TOKEN, "api_base": it.api_base, "app_id": it.app_id,
                "human_agent": True}  # fmt: skip

    async def writes(self, number: int, words: str) -> Said:
        stranger = FacebookCustomer(f"771000000{number}", NAMES[number], commenter=f"441000000{number}", reads=True)
        known = self.simulator.customers.get(stranger.id, stranger)
        return await (self.comments(known, words) if number % 2 else self.chats(known, words))

    async def answers(self, sent: Any, words: str) -> Said | None:
        it = self.simulator
        if "recipient" in sent.payload:
            return await self.chats(it.customers[sent.to], words)
        author = it.comments[sent.to].author
        found = next((one for one in it.customers.values() if (one.commenter or one.id) == author), None)
        return await self.comments(found, words, sent.external_id) if found is not None else None

    async def chats(self, customer: FacebookCustomer, words: str) -> Said:
        """Somebody writes on Messenger."""
        await self.simulator.customer_writes(customer, words)
        return "messenger", customer.name

    async def comments(self, customer: FacebookCustomer, words: str, parent: str = "") -> Said:
        """Somebody writes below our post, or below a comment."""
        await self.simulator.customer_comments(customer, words, self.post, parent)
        return "facebook", customer.name


class Instagram(Place[InstagramAccount]):
    """A professional account: direct messages, and the comments below its pictures."""

    id, adapter = "ig-shop", "instagram"

    def __init__(self, simulator: InstagramAccount) -> None:
        super().__init__(simulator)
        self.picture = simulator.media()

    @property
    def ours(self) -> tuple[Said, ...]:
        return (("instagram", f"@{self.simulator.handle}"),)

    def account(self) -> Mapping[str, Any]:
        it = self.simulator
        return {"instagram_id": it.instagram_id, "access_token": it.access_token, "app_secret": it.app_secret,
                "verify_token": VERIFY_TOKEN, "api_base": it.api_base, "app_id": it.app_id}  # fmt: skip

    async def writes(self, number: int, words: str) -> Said:
        stranger = InstagramCustomer(f"6200000001{number}", NAMES[number], _handle(number), reads=True)
        known = self.simulator.customers.get(stranger.id, stranger)
        return await (self._comments(known, words) if number % 2 else self.chats(known, words))

    async def answers(self, sent: Any, words: str) -> Said | None:
        it = self.simulator
        if "recipient" in sent.payload:
            return await self.chats(it.customers[sent.to], words)
        customer = it.customers.get(it.comments[sent.to].author)
        parent = it.comments[sent.external_id].parent
        return await self._comments(customer, words, parent) if customer is not None else None

    async def chats(self, customer: InstagramCustomer, words: str) -> Said:
        """Somebody writes a direct message."""
        await self.simulator.customer_writes(customer, words)
        return "instagram", customer.name

    async def _comments(self, customer: InstagramCustomer, words: str, parent: str = "") -> Said:
        await self.simulator.customer_comments(customer, words, self.picture, parent)
        return "instagram_comment", customer.name


class X(Place[XSimulator]):
    """An account with direct messages."""

    id, adapter = "x-help", "x"

    @property
    def ours(self) -> tuple[Said, ...]:
        handle = f"@{self.simulator.world.own.username}"
        return ("x", handle), ("x_dm", handle)

    def account(self) -> Mapping[str, Any]:
        it = self.simulator
        return {"user_id": it.world.own.id, "consumer_key": it.consumer_key, "consumer_secret": it.consumer_secret,
                "access_token": it.access_token, "access_token_secret": it.access_token_secret,
                "api_base": it.url}  # fmt: skip

    async def writes(self, number: int, words: str) -> Said:
        stranger = XUser(f"80000000000000001{number}", _handle(number), NAMES[number])
        return await (self.mentions(stranger, words) if number % 2 else self.chats(stranger, words))

    async def answers(self, sent: Any, words: str) -> Said | None:
        world = self.simulator.world
        if "reply" not in sent.payload:
            user = world.users.get(sent.to)
            return await self.chats(user, words) if user is not None else None
        return await self.mentions(world.users[world.posts[sent.to].author], words, reply_to=sent.external_id)

    async def chats(self, user: XUser, words: str) -> Said:
        """Somebody writes a direct message."""
        await self.simulator.customer_writes(user, words)
        return "x_dm", user.name

    async def mentions(self, user: XUser, words: str, *, reply_to: str = "") -> Said:
        """Somebody calls us in public, by our handle."""
        handle = f"@{self.simulator.world.own.username}"
        text = words if handle in words else f"{handle} {words}"
        await self.simulator.customer_mentions(user, text, reply_to=reply_to)
        return "x", user.name


class WeChat(Place[WeChatSimulator]):
    """An official account. The platform tells nobody's name; only the story knows them."""

    id, adapter = "wechat-cn", "wechat"

    def __init__(self, simulator: WeChatSimulator) -> None:
        super().__init__(simulator)
        self.names: dict[str, str] = {}

    @property
    def ours(self) -> tuple[Said, ...]:
        return (("wechat", self.simulator.original_id),)

    def account(self) -> Mapping[str, Any]:
        it = self.simulator
        return {"app_id": it.app_id, "app_secret": it.app_secret, "token": it.token, "original_id": it.original_id,
                "encoding_aes_key": it.encoding_aes_key, "security": "secure", "api_base": it.api_base}  # fmt: skip

    async def writes(self, number: int, words: str) -> Said:
        return await self.chats(f"oDemoStranger00000000000000{number}", words, NAMES[number])

    async def answers(self, sent: Any, words: str) -> Said:
        return await self.chats(sent.to, words)

    async def chats(self, openid: str, words: str, name: str = "") -> Said:
        """Somebody writes; `name` for who is new."""
        known = self.names.setdefault(openid, name)
        await self.simulator.customer_writes(self.simulator.world.followers.get(openid) or Follower(openid), words)
        return "wechat", known


@dataclass(frozen=True, slots=True)
class Platforms:
    """All of them."""

    mail: Mail = field(default_factory=lambda: Mail(MailWorld()))
    sms: Sms = field(default_factory=lambda: Sms(TwilioSimulator(numbers=(SMS_NUMBER,))))
    whatsapp: WhatsApp = field(default_factory=lambda: WhatsApp(MetaWhatsApp()))
    line: Line = field(default_factory=lambda: Line(LineSimulator()))
    facebook: Facebook = field(default_factory=lambda: Facebook(FacebookPage()))
    instagram: Instagram = field(default_factory=lambda: Instagram(InstagramAccount()))
    x: X = field(default_factory=lambda: X(XSimulator()))
    wechat: WeChat = field(default_factory=lambda: WeChat(WeChatSimulator(mode="secure")))

    def __iter__(self) -> Iterator[Place[Any]]:
        return (getattr(self, one.name) for one in fields(self))


def _handle(number: int) -> str:
    return NAMES[number].partition(" ")[0].lower()
