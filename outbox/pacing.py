"""The pace of every account, kept with the store: what the claim takes, it writes down in the same transaction.

Alone, a sender reads once what was taken before it started, and then knows it. Beside others it reads it with each
claim, under a lock of the store, so that all of them together keep within the platform's limits.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from adapters import Pace
from normalizers.model import OutboundMessage
from outbox import limiter, measure
from outbox.limiter import Limiter, Slot, Spent
from outbox.ports import Directory, PaceOf, Parcel, recipient_of


class Pacing:
    """The slots of the configured accounts. `shared`: other senders take from them, too."""

    def __init__(self, accounts: Directory, pace_of: PaceOf, *, shared: bool) -> None:
        self._accounts, self._pace_of, self.shared = accounts, pace_of, shared
        self._limiter = Limiter()
        self._of: dict[tuple[str, str, bool], tuple[Slot, ...]] = {}
        self.loaded = False  # whether what was taken before the start is known

    def slots(self, account: str, channel: str, *, private: bool = False) -> tuple[Slot, ...]:
        """What a message of this channel takes from; `private`: a private answer to something public."""
        known = self._of.get((account, channel, private))
        if known is None:
            known = self._of[account, channel, private] = self._slots(account, channel, private)
        return known

    def _slots(self, account: str, channel: str, private: bool) -> tuple[Slot, ...]:
        pace = self._pace_of(account, channel)
        found = [Slot(f"{account}/{_short(pace.source)}", limiter.rate(pace), pace.unit == "segment")]
        if coarse := limiter.quotas(pace):
            found.append(Slot(f"{account}/{channel}/quota", coarse))
        bound = self._accounts.get(account)
        declared = bound.channels.get(channel) if bound is not None else None
        if private and declared is not None and declared.private_reply is not None:
            own = declared.private_reply.pace
            found.append(Slot(f"{account}/{channel}/private", limiter.rate(own) + limiter.quotas(own)))
        return tuple(found)

    # --- for the store ---

    def all_of(self, account: str) -> list[Slot]:
        """Everything messages of an account may take from."""
        bound = self._accounts.get(account)
        found: dict[str, Slot] = {}
        for channel in bound.channels if bound is not None else ():
            found.update((slot.key, slot) for slot in self.slots(account, channel, private=True))
        return list(found.values())

    def pair(self, parcel: Parcel) -> str:
        """The key of a parcel's account and recipient; "" where nothing limits how often one person is written to."""
        return self.pair_of(parcel.account, parcel.channel, parcel.message)

    def pair_of(self, account: str, channel: str, message: OutboundMessage) -> str:
        """The same before there is a parcel."""
        if self._pace_of(account, channel).pair_seconds <= 0:
            return ""
        return f"{account}/{channel}/to/{_short(recipient_of(message))}"

    def pair_free_at(self, pair: str, account: str, channel: str, now: datetime) -> datetime | None:
        """When the person of this key may get another message; None: now."""
        return self._limiter.pair_free_at(pair, self._pace_of(account, channel), now)

    def load(self, slots: Iterable[Slot], pairs: Iterable[str], kept: Mapping[str, str]) -> None:
        """What the store knows of these."""
        self._limiter.load(slots, pairs, kept)

    def spent(self, now: datetime) -> Sequence[Spent]:
        """What was taken since the last call, to be kept in the transaction that takes it."""
        return self._limiter.spent(now)

    # --- for the dispatcher ---

    def free(self, account: str, now: datetime) -> int:
        """The most that any channel of the account may send now."""
        return max((self._limiter.free(slots, now) for slots in self._by_channel(account)), default=0)

    def free_at(self, account: str, now: datetime) -> datetime:
        """When a channel of the account may send again."""
        return min((self._limiter.free_at(slots, now) for slots in self._by_channel(account)), default=now)

    def _by_channel(self, account: str) -> list[tuple[Slot, ...]]:
        bound = self._accounts.get(account)
        return [self.slots(account, channel) for channel in bound.channels] if bound is not None else []

    def person_free_at(self, parcel: Parcel, now: datetime) -> datetime | None:
        """When the person may get the parcel; None: now."""
        pair = self.pair(parcel)
        return self._limiter.pair_free_at(pair, self._pace(parcel), now) if pair else None

    def slots_free_at(self, parcel: Parcel, now: datetime) -> datetime:
        """When there is room again in all that the parcel takes from."""
        return self._limiter.free_at(self._parcel_slots(parcel), now)

    def take(self, parcel: Parcel, now: datetime) -> bool:
        """Take what sending the parcel costs; False when there is not enough."""
        slots = self._parcel_slots(parcel)
        segments = 1
        for slot in slots:
            if slot.segments:
                segments = measure.segments(parcel.message.text)
                break
        if not self._limiter.take(slots, segments, now):
            return False
        if pair := self.pair(parcel):
            self._limiter.take_pair(pair, self._pace(parcel), now)
        return True

    def _parcel_slots(self, parcel: Parcel) -> tuple[Slot, ...]:
        return self.slots(parcel.account, parcel.channel, private=parcel.message.visibility == "private")

    def _pace(self, parcel: Parcel) -> Pace:
        return self._pace_of(parcel.account, parcel.channel)


@functools.lru_cache(maxsize=4096)
def _short(words: str) -> str:
    """Stands for a source or a recipient in a key: of bounded length, and nobody's address."""
    return hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
