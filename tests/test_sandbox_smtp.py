"""The simulated customers: what they send is what real ones do, all the way through receiver and normaliser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiosmtplib
import msgspec
import pytest

from adapters._smtp_client import Smtp
from adapters.email import EmailAdapter, Settings
from adapters.sandbox.smtp import Delivered, MailWorld
from config.settings import SmtpSettings
from gateway.smtp import SmtpReceiver
from normalizers.email import normalize
from normalizers.model import (
    Account,
    Address,
    DeliveryUpdate,
    Event,
    InboundMessage,
    MailHeaders,
    OutboundMessage,
    Received,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
REPLY = OutboundMessage(
    id="m1",
    key="k1",
    account="mail",
    channel="email",
    to=(Address("email", "email", "ann@customer.test", "everywhere"),),
    text="Which colour?",
    html="<p>Which colour?</p>",
    mail=MailHeaders(
        subject="Lamp",
        message_id="<t.abc@shop.test>",
        in_reply_to="<c1@customer.test>",
        references=("<c1@customer.test>",),
        reply_to="support+tseal@shop.test",
        envelope_sender="support+bseal@shop.test",
    ),
)


@dataclass
class Desk:
    """Receiver, normaliser and adapter of one account, without a core between them."""

    world: MailWorld
    receiver: SmtpReceiver
    adapter: EmailAdapter
    events: list[Event] = field(default_factory=list)

    async def reply(self, **changes: object) -> Delivered:
        await self.adapter.send(msgspec.structs.replace(REPLY, **changes))
        return self.world.sends[-1]

    def message(self) -> InboundMessage:
        event = self.events[-1]
        assert isinstance(event, InboundMessage)
        return event


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with MailWorld() as world:
        settings = Settings("support@shop.test", smtp=Smtp("127.0.0.1", world.port, "none"))
        adapter = EmailAdapter(Account("mail", "email"), settings, None)  # type: ignore[arg-type]
        events: list[Event] = []

        async def keep(_account: str, headers: dict[str, str], raw: bytes) -> None:
            events.extend(normalize(Received(raw, headers, {}, NOW, adapter.account)))

        receiver = SmtpReceiver(
            SmtpSettings(listen="127.0.0.1:0"), lambda a: "mail" if a.endswith("@shop.test") else None, keep
        )
        await receiver.start()
        yield Desk(world, receiver, adapter, events)
        await receiver.stop(drain_s=1)


async def test_a_customer_writes(desk: Desk) -> None:
    written = await desk.world.customer_writes(
        desk.receiver.port,
        "ann@customer.test",
        "support@shop.test",
        name="Ann",
        subject="Lämp",
        text="It is dark.",
        html="<p>It is <b>dark</b>.</p>",
        cc=["bob@customer.test"],
        attachments=[("bill.pdf", "application/pdf", b"%PDF")],
    )
    message = desk.message()
    assert written.answer == "250 2.0.0 stored"
    assert message.id.startswith(f"{written.message_id}#")
    assert (message.subject, message.text, message.html) == ("Lämp", "It is dark.", "<p>It is <b>dark</b>.</p>")
    assert [a.filename for a in message.attachments] == ["bill.pdf"]
    assert [a.value for a in message.recipients] == ["bob@customer.test"]


async def test_a_customer_answers_our_mail(desk: Desk) -> None:
    ours = await desk.reply()
    await desk.world.customer_writes(
        desk.receiver.port, "ann@customer.test", "support@shop.test", text="Blue.", html="<p>Blue.</p>", reply_to=ours
    )
    message = desk.message()
    assert (message.text, message.subject) == ("Blue.", "Re: Lamp")
    assert "Which colour?" in message.full_text
    assert message.thread.tokens == ("seal",)
    assert message.thread.references == ("t.abc@shop.test", "c1@customer.test")


async def test_an_absence_note(desk: Desk) -> None:
    await desk.world.out_of_office(desk.receiver.port, "ann@customer.test", await desk.reply())
    message = desk.message()
    assert (message.automatic, message.context and message.context.reply_to) == ("ooo", "t.abc@shop.test")
    assert "null_sender" in message.flags


async def test_a_bounce_and_a_delay(desk: Desk) -> None:
    ours = await desk.reply()
    await desk.world.bounce(desk.receiver.port, ours)
    await desk.world.bounce(desk.receiver.port, ours, action="delayed", status="4.4.1", detail="no route")
    told = [
        (e.status, e.target, e.tokens, e.error and e.error.code) for e in desk.events if isinstance(e, DeliveryUpdate)
    ]
    assert told == [
        ("failed", "t.abc@shop.test", ("seal",), "5.1.1"),
        ("queued", "t.abc@shop.test", ("seal",), "4.4.1"),
    ]


async def test_our_own_mail_coming_back_is_seen_as_a_loop(desk: Desk) -> None:
    ours = await desk.reply()
    await desk.world.hand_over(desk.receiver.port, "ann@customer.test", ["support@shop.test"], ours.raw)
    assert desk.message().automatic == "own_loop"


async def test_the_receiver_refuses_strangers(desk: Desk) -> None:
    with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
        await desk.world.customer_writes(desk.receiver.port, "ann@customer.test", "who@else.test", text="Hi")


async def test_a_repeat_after_a_lost_answer_is_the_same_mail(desk: Desk) -> None:
    desk.world.fail_next("drop_after_dot")
    with pytest.raises(Exception, match="connection-lost"):
        await desk.adapter.send(msgspec.structs.replace(REPLY, id="019a9e00-0000-7000-8000-000000000000"))
    await desk.reply(id="019a9e00-0000-7000-8000-000000000000")
    first, second = desk.world.sends_of("t.abc@shop.test")
    assert first.raw == second.raw


async def test_a_slow_server_and_a_recipient_taken_again(desk: Desk) -> None:
    desk.world.fail_next("slow")
    desk.world.refuse("ann@customer.test")
    desk.world.refuse("ann@customer.test", "")
    await desk.reply()
    assert len(desk.world.sends) == 1


def test_unknown_faults_are_refused() -> None:
    with pytest.raises(ValueError, match="no fault named"):
        MailWorld().fail_next("sulk")  # type: ignore[arg-type]
