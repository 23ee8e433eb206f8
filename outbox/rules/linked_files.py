"""Files too large to travel leave as addresses in the text, where the channel takes text beside them."""

from __future__ import annotations

from adapters import too_large, with_links
from normalizers.model import OutboundMessage
from outbox.facts import Facts
from outbox.rules.content import files_of
from outbox.rules.declare import rule
from outbox.verdict import ALLOW, Change, Verdict, change


@rule("change", source="the adapter's limits", kept="files beyond the channel's size would not leave at all")
def linked_files(message: OutboundMessage, facts: Facts) -> Verdict | Change:
    """What is beyond the channel's size leaves as a link; a file without an address is left to the rule `media`."""
    limits = facts.channel.limits
    if not limits.links or limits.total_bytes is None or not (files := files_of(message)):
        return ALLOW
    linked = too_large(files, limits.total_bytes)
    if not linked:
        return ALLOW
    names = ", ".join(file.filename for file in linked)
    return change("linked_files", f"sent as a link: {names}", with_links(message, linked), source=limits.source)
