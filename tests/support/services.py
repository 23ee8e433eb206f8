"""What a test needs beside Python: there, or said loudly to be missing."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip the test, with the reason in the summary; with REQUIRE_SERVICES=1 fail it instead."""
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
