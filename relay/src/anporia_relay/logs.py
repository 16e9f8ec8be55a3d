"""Log lines: one event a line on stderr, `time level message key=value`; never a key, password or content."""

from __future__ import annotations

import logging
import sys

__all__ = ["set_up"]

_PLAIN = frozenset(vars(logging.makeLogRecord({})))


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        extra = {k: v for k, v in vars(record).items() if k not in _PLAIN and k not in ("message", "asctime")}
        pairs = "".join(f" {key}={_quoted(str(value))}" for key, value in extra.items())
        line = (
            f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S%z')} {record.levelname.lower()} {record.getMessage()}{pairs}"
        )
        # An exception's text may hold what a stranger sent: indented and escaped it cannot pass for a line of ours.
        trace = self.formatException(record.exc_info).splitlines() if record.exc_info else []
        return "\n".join([line, *("  " + _escaped(part) for part in trace)])


def _quoted(text: str) -> str:
    # What a stranger sent must not be able to look like another line or another key.
    safe = _escaped(text).replace('"', '\\"')
    return f'"{safe}"' if any(c in safe for c in ' "=') else safe


def _escaped(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")


def set_up(level: int = logging.INFO) -> None:
    """Send the relay's log to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    root = logging.getLogger("anporia")
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False
