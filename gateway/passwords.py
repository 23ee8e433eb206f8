"""Passwords: hashed by argon2id with the library's own parameters, checked in a thread, renewed when these change."""

from __future__ import annotations

import asyncio
import functools
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

LEAST, MOST = 12, 256  # characters (ASVS 5.0, 6.2)
_hasher = PasswordHasher()


@functools.cache
def _nobody() -> str:
    """What an unknown name is checked against: it takes as long. Made when first asked for, not with each command."""
    return _hasher.hash(secrets.token_urlsafe(16))


def problem(password: str, *names: str) -> str:
    """What is wrong with a new password, "" when nothing is. `names` are the person's own: they are no password."""
    if len(password) < LEAST:
        return f"at least {LEAST} characters"
    if len(password) > MOST:
        return f"at most {MOST} characters"
    if password.casefold() in {name.casefold() for name in names}:
        return "not the name or the address itself"
    return ""


def generate() -> str:
    """A password nobody can guess."""
    return secrets.token_urlsafe(15)


async def hashed(password: str) -> str:
    """What is stored of a password."""
    return await asyncio.to_thread(_hasher.hash, password)


async def fits(password: str, stored: str) -> bool:
    """Whether the password is the one that was stored; without a stored one never, and just as slowly."""
    return await asyncio.to_thread(_fits, password, stored)


def _fits(password: str, stored: str) -> bool:
    nobody = _nobody()  # whoever asks first, known or not, waits for it
    try:
        _hasher.verify(stored or nobody, password)
    except (VerificationError, InvalidHashError):
        return False
    return bool(stored)


def outdated(stored: str) -> bool:
    """Whether it was hashed with weaker parameters than today's."""
    return _hasher.check_needs_rehash(stored)
