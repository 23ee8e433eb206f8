"""How long a business may still write to an identity, as the API shows it."""

from __future__ import annotations

from sqlalchemy import RowMapping

from gateway import replies
from gateway.core import Core
from gateway.web import show, types


def window_of(core: Core, identity: RowMapping) -> types.WindowView:
    """The window of an identity. A channel that is not configured any more has none."""
    channel = core.accounts.channel(identity["account"], identity["channel"])
    return (
        types.WindowView(open=True) if channel is None else show.window(replies.window(channel, identity, core.clock()))
    )
