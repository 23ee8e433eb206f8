"""`gateway contacts`: contacts to files and back."""

from __future__ import annotations

import argparse
import sys

from gateway.cli import command
from gateway.transfer import format_of


async def run(parsed: argparse.Namespace) -> int:
    """Write contacts to a file, or take them from one; exit code 1 when a row was refused."""
    path = parsed.file.resolve()
    form = parsed.format or format_of(path.name)
    if parsed.action == "export":
        columns = [name.strip() for name in parsed.columns.split(",") if name.strip()]
        await command(parsed.config, "contacts.export", {"path": str(path), "format": form, "columns": columns})
        print(f"wrote {parsed.file}")
        return 0
    arguments = {"path": str(path), "format": form, "mode": parsed.mode, "dry_run": parsed.dry_run}
    report = await command(parsed.config, "contacts.import", arguments)
    for row in report["items"]:
        if row["outcome"] == "refused":
            print(f"row {row['row']}: {row['field']}: {row['reason']} ({row['code']})", file=sys.stderr)
    counts = ", ".join(f"{report[name]} {name}" for name in ("created", "updated", "unchanged", "refused"))
    print(f"{report['rows']} rows: {counts}" + ("" if report["applied"] else "; nothing was written"))
    return 1 if report["refused"] else 0
