"""What every part of the gateway is given: made once in `runtime.py`, never reached for as a global."""

from __future__ import annotations

from dataclasses import dataclass

from config.settings import Settings
from gateway.accounts import Accounts
from gateway.blobs import Blobs
from gateway.bus import Bus
from gateway.ids import Clock
from gateway.metrics import Metrics
from gateway.store.engine import Database
from gateway.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Core:
    """The shared services of one process."""

    settings: Settings
    database: Database
    accounts: Accounts
    bus: Bus
    clock: Clock
    tokens: Tokens
    blobs: Blobs
    metrics: Metrics
