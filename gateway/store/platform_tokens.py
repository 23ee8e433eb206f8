"""Access tokens of platforms as rows: sealed text, a version, and a lease for the one who fetches the next."""

from __future__ import annotations

from sqlalchemy import Connection, RowMapping, or_, select, update

from gateway.store.many import insert_ignore
from gateway.store.schema import platform_tokens


def load(connection: Connection, name: str) -> RowMapping | None:
    """The row of a token, if there is one; `sealed` is empty while none was kept."""
    statement = select(platform_tokens).where(platform_tokens.c.name == name)
    return connection.execute(statement).mappings().first()


def save(connection: Connection, name: str, sealed: str, renew_at: int, version: int, now: int) -> bool:
    """Keep a token in the place of the one with this version (0: none was kept). False when there is a newer one."""
    _ensure(connection, name)
    statement = (
        update(platform_tokens)
        .where(platform_tokens.c.name == name, platform_tokens.c.version == version)
        .values(sealed=sealed, renew_at=renew_at, version=version + 1, saved_at=now)
    )
    return connection.execute(statement).rowcount > 0


def lease(connection: Connection, name: str, owner: str, now: int, until: int) -> bool:
    """Become the one who fetches the next token; False while another is."""
    _ensure(connection, name)
    free = or_(platform_tokens.c.lease_until.is_(None), platform_tokens.c.lease_until <= now)
    statement = (
        update(platform_tokens).where(platform_tokens.c.name == name, free).values(owner=owner, lease_until=until)
    )
    return connection.execute(statement).rowcount > 0


def release(connection: Connection, name: str, owner: str) -> None:
    """Let others fetch; nothing when the lease has passed to another."""
    statement = update(platform_tokens).where(platform_tokens.c.name == name, platform_tokens.c.owner == owner)
    connection.execute(statement.values(owner="", lease_until=None))


def _ensure(connection: Connection, name: str) -> None:
    insert_ignore(connection, platform_tokens, [{"name": name, "owner": ""}])
