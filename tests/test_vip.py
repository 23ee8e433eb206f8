"""What a VIP's ticket gets: priorities only rise, a group that is set stays, each change says why."""

from __future__ import annotations

import pytest

from gateway.vip import VipPolicy, promote

CASES = {  # name -> (policy, priority and group before, priority and group that change)
    "raised": (VipPolicy("high"), ("normal", ""), ("high", None)),
    "never lowered": (VipPolicy("high"), ("urgent", ""), (None, None)),
    "as high already": (VipPolicy("high"), ("high", ""), (None, None)),
    "a low one is raised all the way": (VipPolicy("urgent"), ("low", ""), ("urgent", None)),
    "nothing is raised by the lowest": (VipPolicy("low"), ("low", ""), (None, None)),
    "routed": (VipPolicy("normal", "Care"), ("normal", ""), (None, "Care")),
    "a group that is set stays": (VipPolicy("high", "Care"), ("normal", "Sales"), ("high", None)),
    "both": (VipPolicy("urgent", "Care"), ("normal", ""), ("urgent", "Care")),
}


@pytest.mark.parametrize(("policy", "before", "after"), CASES.values(), ids=CASES)
def test_promotions(policy: VipPolicy, before: tuple[str, str], after: tuple[str | None, str | None]) -> None:
    found = promote(policy, *before, "the person is a VIP")
    assert (found.priority, found.group) == after
    names = [name for name, value in zip(("priority", "group"), after, strict=True) if value is not None]
    assert [entry.kind for entry in found.entries] == [f"ticket.{name}_changed" for name in names]
    assert all(entry.data["why"] == "the person is a VIP" for entry in found.entries)
