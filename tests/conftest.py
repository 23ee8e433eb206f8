"""What all tests share: the services they need, started once, and how thorough the property tests are."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.dovecot import Dovecot
from tests.support.postgres import Postgres
from tests.support.redis import RedisServer
from tests.support.services import missing

settings.register_profile("quick", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fuzz", max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL of the tests' own, on a local socket."""
    try:
        server = Postgres.start(tmp_path_factory.mktemp("postgres"))
    except (ImportError, OSError, RuntimeError) as error:
        missing(f"PostgreSQL cannot be started: {type(error).__name__}: {error}")
    with server:
        yield server


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis of this test's own, which it may kill."""
    try:
        server = RedisServer.start()
    except (OSError, RuntimeError) as error:
        missing(f"Redis cannot be started, the bus of several processes is not tested: {error}")
    with server:
        yield server


@pytest.fixture(scope="session")
def dovecot() -> Iterator[Dovecot]:
    """An IMAP server of the tests' own; every test takes a user name of its own."""
    try:
        server = Dovecot.start()
    except (OSError, RuntimeError) as error:
        missing(f"Dovecot cannot be started, mailboxes are not tested: {error}")
    with server:
        yield server
