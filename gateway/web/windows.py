"""How long a business may still write to an identity, as the API shows it."""

from __future__ import annotations

from sqlalchemy import RowMapping

from gateway import replies
from gateway.core import Core
from gateway.web import plans, types


def window_of(core: Core, identity: RowMapping) -> types.WindowView:
    """The window of an identity. A channel that is not configured any more has none."""
    channel = core.accounts.channel(identity["account"], identity["channel"])
    if channel is None:
        return types.WindowView(open=True)
    return plans.window(replies.window(channel, identity, core.clock()))
