"""Intake on both stores, for tests that bring none of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.intake.test_worker import Intake, at_rest
from tests.support.postgres import address_for


@pytest.fixture(params=["embedded", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def intake(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Intake]:
    url = address_for(request)
    gateway = f'[gateway]\ndatabase = "{url}"\nsecret_key = "of these tests only"\n' if url else ""
    async with at_rest(tmp_path, gateway) as made:
        yield made
