"""How long a client waits for a simulated platform."""

from __future__ import annotations

import pytest

BRIEF_S, LONG_S = 1.0, 30.0


def patience_s(request: pytest.FixtureRequest) -> float:
    """Briefly where the test's name speaks of an answer that comes late or never, else as the product does: a busy
    machine must not look like a silent platform."""
    return BRIEF_S if any(word in request.node.name for word in ("timeout", "slow")) else LONG_S
