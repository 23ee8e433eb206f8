"""How many messages of ours left since a person's last word: kept only where a channel's window limits them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from sqlalchemy import Connection, bindparam, update

from gateway.store.many import run_many
from gateway.store.schema import identities
from outbox.ports import Parcel

Counts = Callable[[Parcel], bool]
"""Whether a message counts in its person's window once it has left, or may have."""

_USED = (
    update(identities)
    .where(identities.c.id == bindparam("b_id"))
    .values(window_used=identities.c.window_used + bindparam("b_count"))
)


def count(connection: Connection, identity_ids: Iterable[str], by: int = 1) -> None:
    """One more message for each of these people, or with -1 one less: an identity counts as often as it is named."""
    counts = [{"b_id": id_, "b_count": by * times} for id_, times in sorted(Counter(identity_ids).items())]
    if counts:
        run_many(connection, ("window used",), lambda: _USED, counts)
