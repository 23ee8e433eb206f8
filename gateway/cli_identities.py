"""`gateway identities`: what another matching rule would merge, and merging it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from gateway.cli import command


async def run(parsed: argparse.Namespace) -> int:
    """Say what a matching rule would merge, or merge it."""
    if parsed.action == "apply":
        done = await command(parsed.config, "identities.apply", {})
        print(f"{done['merges']} contacts merged by {_rule_words(done)}; {done['conflicts']} new conflicts to decide")
        return 0
    names = [name for entry in parsed.attribute for name in entry.split(",")]
    found = await command(parsed.config, "identities.preview", {"attributes": names, "limit": parsed.limit})
    if parsed.json:
        print(json.dumps(found, indent=2))
        return 0
    for entry in found["contacts"]:
        why = ", ".join(f"{shared['attribute']} {shared['value']}" for shared in entry["because"])
        print(f"merge     {' '.join(entry['contacts'])} into {entry['into']}: {why}")
    for entry in found["contradictions"]:
        pair = f"{entry['contact_id']} and {entry['other_contact_id']}"
        print(f"conflict  {pair}: {entry['attribute']} {entry['value']}, but {entry['reason']}")
    print(
        f"{found['merges']} contacts would become part of another by {_rule_words(found)}; "
        f"{found['conflicts']} conflicts to decide; nothing was changed"
    )
    return 0


def _rule_words(found: Mapping[str, Any]) -> str:
    return ", ".join(found["attributes"]) or "platform ids alone"
