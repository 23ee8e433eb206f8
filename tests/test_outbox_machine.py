"""States x receipts x crashes against a small model: whatever happens in whatever order, the promises hold.

At most one delivery without a key, exactly one effect with one; "sent" only when the platform has it; nothing stays in
`sending` once its sender is dead; a conversation arrives in its order, save for what was unknown.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway import replies
from gateway.ids import micros, new_id
from gateway.replies import ReplyRequest, RequestError, Submitted
from gateway.store import receipts, schema
from gateway.tickets import Actor
from normalizers.model import DeliveryUpdate, PlatformError
from outbox.dispatcher import Dispatcher
from tests.pigeon import KEYED, OPEN, World, world

AGENT = Actor("agent", "u1", "Bo")
FORWARD = {  # state -> what may be seen of a part after one step of the machine, whatever happened in between
    "queued": {"queued", "held", "sending", "sent", "delivered", "read", "failed", "unknown", "cancelled"},
    "held": {"queued", "held", "sending", "sent", "delivered", "read", "failed", "unknown", "cancelled"},
    "sending": {"queued", "held", "sending", "sent", "delivered", "read", "failed", "unknown", "cancelled"},
    "sent": {"sent", "delivered", "read", "failed"},
    "delivered": {"delivered", "read"},
    "read": {"read"},
    # by a person's word it goes again; by the platform's it has arrived after all
    "failed": {"failed", "queued", "sending", "sent", "delivered", "read", "unknown", "held"},
    "unknown": {"unknown", "queued", "held", "sending", "sent", "delivered", "read", "failed"},
    "cancelled": {"cancelled", "sent", "delivered", "read"},  # a receipt of an earlier try tells that it was too late
}
BY_HAND = {"queued", "sending", "held", "unknown"}  # a failed one comes back into these only when somebody says so
RANK = {"sent": 1, "delivered": 2, "read": 3}
FAULTS = ("reset", "reset_after_accept", "500", "500_after_accept", "garbage", "half", "429")
CHANNELS = {"open": OPEN, "keyed": KEYED}


class Outbox(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.directory = tempfile.TemporaryDirectory()
        self.words: dict[str, list[str]] = {}  # ticket -> what was said, in order
        self.channel: dict[str, str] = {}  # message -> channel
        self.resent: set[str] = set()  # messages somebody decided to send again
        self.strange: set[str] = set()  # messages whose place in the order is excused
        self.states: dict[str, str] = {}  # part -> state after the last step
        self.heard: dict[str, set[str]] = {}  # part -> what the platform has reported of it

    def do(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    @initialize()
    def begin(self) -> None:
        self.loft: World = self.do(self.stack.enter_async_context(world(Path(self.directory.name))))
        self.tickets = {self.do(self.loft.ticket(channel)): channel for channel in ("open", "open", "keyed")}
        self.dispatcher: Dispatcher = self.loft.dispatcher()

    def teardown(self) -> None:
        if hasattr(self, "loft"):
            self.do(self.dispatcher.abandon())
        self.do(self.stack.aclose())
        self.directory.cleanup()
        self.loop.close()

    # --- what can happen ---

    def say(self, which: int) -> None:
        ticket = list(self.tickets)[which]
        said = self.words.setdefault(ticket, [])
        word = f"{which}-{len(said)}"
        answer = self.do(replies.submit(self.loft.core, ticket, ReplyRequest(text=word), AGENT))
        assert isinstance(answer, Submitted)
        said.append(word)
        self.channel[answer.message_id] = self.tickets[ticket]

    @rule(
        to=st.lists(st.integers(0, 2), min_size=1, max_size=3),
        faults=st.lists(st.sampled_from(FAULTS), max_size=3),
        seconds=st.sampled_from([0, 1, 6, 121]),
    )
    def converse(self, to: list[int], faults: list[Any], seconds: int) -> None:
        """Agents write, the platform has its troubles, time goes by."""
        for which in to:
            self.say(which)
        for fault in faults:
            self.loft.platform.fail_next(fault)
        self.do(self.loft.run(self.dispatcher))
        self.loft.platform._faults.clear()
        self.wait_for(seconds)

    @rule(code=st.sampled_from(["rain", "gone", "busy"]))
    def send_refused(self, code: str) -> None:
        self.loft.platform.refuse_next(429 if code == "busy" else 400, code)
        self.do(self.loft.run(self.dispatcher))
        self.loft.platform.refusals.clear()

    @rule(which=st.integers(0, 2), arrives=st.booleans())
    def crash(self, which: int, arrives: bool) -> None:
        """The sender dies between the commit and the answer; the platform may have got it."""
        self.say(which)

        async def die() -> None:
            self.loft.platform.gate = asyncio.Event()
            await self.dispatcher.round()
            if arrives:
                self.loft.platform.gate.set()
                await asyncio.sleep(0.005)
            await self.dispatcher.abandon()
            self.loft.platform.gate.set()
            self.loft.platform.gate = None

        self.do(die())
        self.dispatcher = self.loft.dispatcher()
        self.do(self.dispatcher.recover())

    @rule(seconds=st.sampled_from([60, 700, 3700]))
    def wait_for(self, seconds: int) -> None:
        self.loft.clock.forward(seconds=seconds)
        self.do(self.dispatcher.keep())
        self.do(self.loft.run(self.dispatcher))

    @precondition(lambda self: self.channel)
    @rule(data=st.data(), status=st.sampled_from(["sent", "delivered", "read", "failed"]), copies=st.integers(1, 2))
    def report(self, data: Any, status: Any, copies: int) -> None:
        """The platform reports on something it has: it never lies, but repeats itself and keeps no order."""
        if not self.loft.platform.sends:
            return
        taken = data.draw(st.sampled_from(self.loft.platform.sends))
        rows = self.do(self.loft.rows(schema.outbox, schema.outbox.c.id == taken.ours))
        channel = CHANNELS[rows[0].channel]
        error = PlatformError("gone") if status == "failed" else None
        update = DeliveryUpdate(
            id=new_id(), at=self.loft.clock(), status=status, target=taken.external_id, ours=taken.ours, error=error
        )
        self.heard.setdefault(taken.ours, set()).add(status)
        now = micros(self.loft.clock())
        self.do(self.loft.core.database.write(lambda c: receipts.apply(c, "loft", channel, [update] * copies, now)))

    @precondition(lambda self: self.channel)
    @rule(data=st.data(), what=st.sampled_from(["retry", "leave", "cancel"]))
    def decide(self, data: Any, what: str) -> None:
        message = data.draw(st.sampled_from(sorted(self.channel)))
        before = self.do(self.loft.status(message))
        allowed = {"retry": ("failed", "unknown"), "leave": ("unknown",), "cancel": ("queued", "held")}[what]
        earlier = message in self.resent  # what somebody decided before still stands
        if what == "retry":
            self.resent.add(message)
        try:
            self.do(getattr(replies, what)(self.loft.core, message, AGENT))
        except RequestError:
            if before not in allowed and what == "retry" and not earlier:
                self.resent.discard(message)
            assert before not in allowed
            return
        assert before in allowed

    # --- what must hold ---

    @invariant()
    def promises(self) -> None:
        if not hasattr(self, "loft"):
            return
        parts = self.do(self.loft.rows(schema.outbox))
        taken: dict[str, int] = {}
        for send in self.loft.platform.sends:
            taken[send.ours] = taken.get(send.ours, 0) + 1
        for part in parts:
            arrivals = taken.get(part.id, 0)
            if part.message_id not in self.resent:
                assert arrivals <= 1, "sent twice"
            if part.state in ("sent", "delivered", "read"):
                assert arrivals, "said to be sent, and the platform never got it"
            assert part.state != "sending" or self.dispatcher.busy, "nobody is sending it"
            self.legal(part)
        states: dict[str, str] = {}
        for part in parts:
            states.setdefault(part.message_id, part.state)
        for message in self.do(self.loft.rows(schema.messages)):
            assert message.status == states[message.id]
            if message.status in ("unknown", "failed", "cancelled"):
                self.strange.add(message.text)
        self.resumed()
        for ticket, said in self.words.items():
            excused = self.strange | {
                m.text for m in self.do(self.loft.rows(schema.messages, schema.messages.c.id.in_(self.resent)))
            }
            arrived = [s.payload["text"] for s in self.loft.platform.sends if s.payload["text"] in said]
            first = [word for word in dict.fromkeys(arrived) if word not in excused]
            assert first == sorted(first, key=said.index), "out of order"
            assert self.tickets[ticket]

    def legal(self, part: Any) -> None:
        """One part against the table of what may follow what, and against what the platform has reported."""
        before = self.states.get(part.id, "queued")
        assert part.state in FORWARD[before], f"{before} -> {part.state}"
        if before == "failed" and part.state in BY_HAND:
            assert part.message_id in self.resent, f"{before} -> {part.state}, and nobody asked for it"
        heard = self.heard.get(part.id, set())
        furthest = max((RANK[status] for status in heard if status in RANK), default=0)
        assert RANK.get(part.state, 0) <= max(furthest, 1), "further than the platform ever said"
        if "read" in heard and part.message_id not in self.resent:
            assert part.state in ("read", "delivered", "sent", "failed"), "known to have arrived"
        self.states[part.id] = part.state

    def resumed(self) -> None:
        """Every try is finished but those under way, and has a word for what became of it."""
        for attempt in self.do(self.loft.rows(schema.attempts)):
            assert attempt.finished_at is not None or self.dispatcher.busy
            assert attempt.finished_at is None or attempt.outcome in (
                "sent", "retry", "throttle", "failed", "unknown", "held",
            )  # fmt: skip


_DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"
Outbox.TestCase.settings = settings(
    max_examples=300 if _DEEP else 15, stateful_step_count=50 if _DEEP else 20, deadline=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
TestPropertyOutbox = Outbox.TestCase
