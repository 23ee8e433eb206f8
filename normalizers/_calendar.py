"""What an invitation says, for a mail that holds nothing else to read. Source: RFC 5545, 5546."""

from __future__ import annotations

import re

LINES_MAX = 2000
VALUE_MAX = 500  # characters
_WORDS = {"REQUEST": "Invitation", "CANCEL": "Cancelled", "REPLY": "Answer to an invitation", "COUNTER": "Proposal"}
_ANSWERS = {"ACCEPTED": "accepted", "DECLINED": "declined", "TENTATIVE": "accepted tentatively"}
_MOMENT = re.compile(r"(\d{4})(\d{2})(\d{2})(?:T(\d{2})(\d{2})\d{0,2}(Z?))?")
_ESCAPED = re.compile(r"\\(.)")


def summary(text: str) -> str:
    """The first event in a few lines, "" when there is none."""
    found: dict[str, tuple[str, str]] = {}
    inside = False
    for line in text.replace("\r\n", "\n").replace("\n ", "").replace("\n\t", "").split("\n")[:LINES_MAX]:
        head, _, value = line.partition(":")
        name, _, parameters = head.partition(";")
        name = name.strip().upper()
        if name == "BEGIN" and value.strip().upper() == "VEVENT":
            inside = True
        elif name == "END" and value.strip().upper() == "VEVENT":
            break
        elif inside or name == "METHOD":
            found.setdefault(name, (value.strip()[:VALUE_MAX], parameters))
    if not inside:
        return ""
    method = found.get("METHOD", ("", ""))[0].upper()
    lines = [f"{_WORDS.get(method, 'Event')}: {_plain(found.get('SUMMARY', ('', ''))[0])}"]
    if begins := _moment(*found.get("DTSTART", ("", ""))):
        ends = _moment(*found.get("DTEND", ("", "")))
        lines.append(f"When: {begins}" + (f" to {ends}" if ends else ""))
    if place := _plain(found.get("LOCATION", ("", ""))[0]):
        lines.append(f"Where: {place}")
    answer = re.search(r"PARTSTAT=([A-Z-]+)", found.get("ATTENDEE", ("", ""))[1].upper())
    if method == "REPLY" and answer is not None:
        lines.append(f"Answer: {_ANSWERS.get(answer[1], answer[1].lower())}")
    return "\n".join(lines)


def _plain(value: str) -> str:
    return " ".join(_ESCAPED.sub(lambda match: " " if match[1] in "nN" else match[1], value).split())


def _moment(value: str, parameters: str) -> str:
    """2026-05-12 10:00 with its zone as it was written."""
    match = _MOMENT.match(value)
    if match is None:
        return ""
    day = f"{match[1]}-{match[2]}-{match[3]}"
    zone = re.search(r"TZID=\"?([^;\"]{1,60})", parameters)
    words = " UTC" if match[6] else f" ({zone[1]})" if zone is not None else ""
    return f"{day} {match[4]}:{match[5]}{words}" if match[4] else day
