"""The customers of a demo that stays: they write now and then, and answer what an agent writes to them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from adapters.sandbox.meta_whatsapp import Customer
from adapters.sandbox.smtp import Delivered
from gateway.demo.scenario import by_mail, by_sms, by_whatsapp
from gateway.demo.transcript import Transcript
from gateway.demo.world import NotAsTold, World

T = TypeVar("T")
FIRST_AFTER_S, EVERY_S = 8.0, (20.0, 45.0)
ANSWER_AFTER_S = (2.0, 5.0)
NAMES = ("Finn Adler", "Gia Costa", "Hugo Lind", "Ida Novak", "Jon Salo", "Kim Tran", "Lea Marin", "Max Ober")
QUESTIONS = (
    "Where is my order? It was due yesterday.",
    "Do you have this in blue?",
    "The invoice has the old address on it.",
    "Can I still change the delivery date?",
    "The code you sent does not work.",
    "How do I return a gift?",
)
ANSWERS = (
    "Perfect, thank you!",
    "Ah, I see. Thanks!",
    "And until when?",
    "Great, that helps.",
    "Could you check once more?",
)


class Customers:
    """Everybody who writes while the demo stays."""

    def __init__(self, world: World, transcript: Transcript) -> None:
        self._world, self._out = world, transcript
        self._chance = random.Random()  # noqa: S311 - chatter, no secret
        self._seen = {"mail": len(world.mail.sends), "sms": len(world.sms.sends), "whatsapp": len(world.whatsapp.sends)}
        self._people = {key: one for one in (world.ben, world.cleo, world.dana) for key in (one.wa_id, one.user_id)}

    async def live(self) -> None:
        """Write and answer until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write())
            group.create_task(self._answer(group))

    async def _write(self) -> None:
        ways = (self._mails, self._texts, self._whatsapps)
        pause_s = FIRST_AFTER_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = self._chance.uniform(*EVERY_S)
            way, number = self._chance.choice(ways), self._chance.randrange(len(NAMES))
            await self._quietly(way(number, self._chance.choice(QUESTIONS)))

    async def _mails(self, number: int, words: str) -> None:
        name = NAMES[number]
        address = f"{name.split()[0].lower()}@customer.test"
        await by_mail(self._world, self._out, address, words, name=name, subject=words.rstrip("?."))

    async def _texts(self, number: int, words: str) -> None:
        await by_sms(self._world, self._out, f"+1202555012{number}", words)

    async def _whatsapps(self, number: int, words: str) -> None:
        await by_whatsapp(self._world, self._out, self._person(number, NAMES[number]), words)

    def _person(self, number: int, name: str) -> Customer:
        """One of those who write now and then, as WhatsApp knows them."""
        customer = Customer(f"1202555011{number}", f"US.10000000000000011{number}", name=name, reads=True)
        customer = self._people.setdefault(customer.wa_id, customer)
        self._people[customer.user_id] = customer
        return customer

    async def _answer(self, group: asyncio.TaskGroup) -> None:
        """Whoever an agent wrote to answers a little later."""
        world = self._world
        while True:
            await asyncio.sleep(0.5)
            for mail in self._new("mail", world.mail.sends):
                group.create_task(self._soon(partial(self._answer_mail, mail)))
            for sent in self._new("sms", world.sms.sends):
                group.create_task(self._soon(partial(by_sms, world, self._out, sent.to)))
            for sent in self._new("whatsapp", world.whatsapp.sends):
                if (customer := self._people.get(sent.to)) is not None:
                    group.create_task(self._soon(partial(by_whatsapp, world, self._out, customer)))

    async def _answer_mail(self, mail: Delivered, words: str) -> None:
        address = mail.recipients[0]
        await by_mail(self._world, self._out, address, words, name=address.partition("@")[0].title(), answers=mail)

    def _new(self, name: str, sends: list[T]) -> list[T]:
        fresh, self._seen[name] = sends[self._seen[name] :], len(sends)
        return fresh

    async def _soon(self, way: Callable[[str], Awaitable[object]]) -> None:
        await asyncio.sleep(self._chance.uniform(*ANSWER_AFTER_S))
        await self._quietly(way(self._chance.choice(ANSWERS)))

    @staticmethod
    async def _quietly(work: Awaitable[object]) -> None:
        """One customer's trouble is not another's."""
        try:
            await work
        except (NotAsTold, OSError):
            return
