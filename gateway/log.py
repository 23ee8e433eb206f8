"""Logs as JSON lines: an event's name and our own ids. No text of a message, no handle, no token."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime

from aiohttp.http_exceptions import BadHttpMessage

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_SECRET = re.compile(
    r"(?i)(bearer\s+|basic\s+|access_token=|appsecret_proof=|secret=|token=|password=|sha(?:1|256)=|gw_)[^\s\"'&,;]+"
)
_ADDRESS = re.compile(r"[^\s<>@\"']+@[^\s<>@\"']+\.[A-Za-z]{2,}")
_PHONE = re.compile(r"(?<![\w.-])\+\d{7,15}\b")
QUIET = ("aiohttp.access", "aiosmtpd", "mail.log", "alembic", "asyncio")  # of other packages: warnings are enough


def redact(text: str) -> str:
    """The text without what looks like a credential, a mail address or a phone number."""
    return _PHONE.sub("[phone]", _ADDRESS.sub("[mail]", _SECRET.sub(r"\1***", text)))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: at, level, event, logger, and what `extra` gave. Everything is redacted."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": redact(record.getMessage()),
            "logger": record.name,
        }
        for name, value in record.__dict__.items():
            if name not in _STANDARD:
                line[name if name not in line else f"{name}_"] = redact(value) if isinstance(value, str) else value
        if record.exc_info:
            line["traceback"] = redact(self._frames(record))
        return json.dumps(line, default=lambda value: redact(str(value)), ensure_ascii=False)

    def _frames(self, record: logging.LogRecord) -> str:
        """Where it went wrong, and the kind of error: its words may quote what a customer wrote."""
        kind, _, trace = record.exc_info or (None, None, None)
        frames: list[str] = []
        while trace is not None:
            code = trace.tb_frame.f_code
            frames.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} {code.co_qualname}")
            trace = trace.tb_next
        return " > ".join(frames[-12:]) + (f" > {kind.__name__}" if kind else "")


class CallersFault(logging.Filter):
    """A request that is no HTTP is no error of ours: anybody can send one, as often as they like."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, BadHttpMessage):
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args, record.exc_info = "web.no_http", (), None
            record.error = type(error).__name__
            return logging.getLogger().isEnabledFor(logging.INFO)
        return True


def configure(level: str = "INFO") -> None:
    """Send all logs to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("flufl.bounce").setLevel(logging.CRITICAL)  # writes of every mail that none of its readers likes
    logging.getLogger("aiohttp.server").addFilter(CallersFault())
