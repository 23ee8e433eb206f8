"""How long a business may still write to an identity, as the API shows it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import RowMapping

from gateway import replies
from gateway.core import Core
from gateway.ids import micros, rfc3339
from gateway.web import types


def window_of(core: Core, identity: RowMapping) -> types.WindowView:
    """The window of an identity. A channel that is not configured any more has none."""
    channel = core.accounts.channel(identity["account"], identity["channel"])
    if channel is None:
        return types.WindowView(open=True)
    found = replies.window(channel, identity, core.clock())
    return types.WindowView(
        open=found.open, until=_shown(found.until), remaining=found.remaining, tag_until=_shown(found.tag_until)
    )


def _shown(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(micros(moment))
