"""The log on standard error: lines for people, or JSON for machines. Text from outside is escaped and capped."""

import json
import logging
import sys
import time
from datetime import UTC, datetime

_LIMIT = 4000
_ESCAPED = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0)) if code not in (0x09, 0x0A)} | {
    code: f"\\u{code:04x}" for code in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}


def escaped(text: str) -> str:
    """`text` with C0, C1 and bidirectional control characters made visible, capped in length."""
    return text[:_LIMIT].translate(_ESCAPED)


class TextFormatter(logging.Formatter):
    """`12:03:44 docker.io/library/alpine:3.20  miss  …`; below INFO and above it, the level is said."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        text = f"{stamp} {level}{escaped(record.getMessage()).replace(chr(10), ' ')}"
        if record.exc_info:
            text += "\n" + escaped(self.formatException(record.exc_info))
        return text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the record's `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:_LIMIT],
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            entry.update(fields)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)[: 4 * _LIMIT]
        return json.dumps(entry)


def set_up(*, as_json: bool) -> None:
    """Send this process's log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)


def human(size: float) -> str:
    """Bytes in docker's units: powers of 1000, four digits."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:.4g}{unit}"
        size /= 1000
    return f"{size:.4g}PB"
