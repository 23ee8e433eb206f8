"""Messages of ours that come back without our id: by text and time, where the channel says so."""

from __future__ import annotations

from dataclasses import replace as with_
from datetime import timedelta

import pytest

from adapters import Channel
from adapters._instagram_facts import INSTAGRAM
from gateway.ids import micros
from gateway.intake.context import Rules
from gateway.intake.echoes import WITHIN
from gateway.intake.records import OnItsWay
from normalizers.model import Address, DeliveryUpdate, Echo, Person
from tests.intake.build import T0, TOKENS, Memory, wrote

MARA = Address("instagram", "igsid", "62000000007")
NOW, SECOND = micros(T0), 1_000_000


def memory(*parts: OnItsWay, channel: Channel = INSTAGRAM) -> Memory:
    """Mara has written to the account, and these messages are on their way to her."""
    found = Memory(Rules(lambda account, name: channel, TOKENS), account="ig")
    found.file(wrote("m1", MARA, on="instagram"))
    found.snapshot.on_their_way[found.identity(MARA.value).id] = list(parts)
    return found


def part(id: str = "part-1", words: str = "Yes.", unknown_at: int | None = None, account: str = "ig") -> OnItsWay:
    return OnItsWay(id, account, words, unknown_at)


def echo(id: str = "e1", text: str = "Yes.", **more: object) -> Echo:
    return Echo(id=id, at=T0, channel="instagram", recipient=Person((MARA,)), text=text, **more)  # type: ignore[arg-type]


OURS = {
    "one being sent": part(),
    "one whose answer was lost just now": part(unknown_at=NOW + SECOND),
    "one lost as long ago as can be": part(unknown_at=NOW - WITHIN),
    "blanks around it apart": part(words="Yes."),
}
NOT_OURS = {
    "other words": part(words="No."),
    "one lost too long ago": part(unknown_at=NOW - WITHIN - 1),
    "of another account": part(account="ig-2"),
    "a file without words": part(words=""),
}


@pytest.mark.parametrize("given", OURS.values(), ids=OURS)
def test_an_echo_proves_the_message_it_brings_back(given: OnItsWay) -> None:
    filed = memory(given)
    changes = filed.file(echo(text=" Yes. "))
    (receipt,) = (row.event for row in changes.receipts)
    assert receipt == DeliveryUpdate(
        id="e1:sent", at=T0, channel="instagram", status="sent", target="e1", ours="part-1"
    )
    assert changes.messages == []


@pytest.mark.parametrize("given", NOT_OURS.values(), ids=NOT_OURS)
def test_what_does_not_fit_was_written_elsewhere(given: OnItsWay) -> None:
    changes = memory(given).file(echo(text=given.words if not given.words else "Yes."))
    assert changes.receipts == []
    assert len(changes.messages) == 1


def test_each_message_is_proven_once() -> None:
    filed = memory(part("part-1"), part("part-2"))
    changes = filed.file(echo("e1"), echo("e2"), echo("e3"))
    ours = [row.event.ours for row in changes.receipts if isinstance(row.event, DeliveryUpdate)]
    assert ours == ["part-1", "part-2"]
    assert [message["external_id"] for message in changes.messages] == ["e3"]


def test_only_where_the_platform_does_not_hand_our_id_back() -> None:
    changes = memory(part(), channel=with_(INSTAGRAM, echoes_by_text=False)).file(echo())
    assert changes.receipts == []
    assert len(changes.messages) == 1


def test_an_edit_in_the_app_proves_nothing() -> None:
    changes = memory(part()).file(echo(action="edited", target="gone"))
    assert changes.receipts == []


def test_the_time_allowed_is_ten_minutes() -> None:
    assert timedelta(microseconds=WITHIN) == timedelta(minutes=10)
