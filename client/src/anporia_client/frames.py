r"""Server-sent events, however they are cut into chunks, by the rules of the HTML standard.

Lines end at `\n`, `\r\n` and `\r` and nowhere else: published relays send U+2028 raw, and readers
that split lines there lose those events.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import BadAnswer

__all__ = ["Frame", "SseParser"]

MAX_FRAME = 4 * 1024 * 1024  # an event is at most 512 KiB, and each byte may be sent as \uXXXX

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event. `id`: where to resume, "" if the relay never named one; `type`: mostly "message"."""

    id: str
    type: str
    data: bytes


class SseParser:
    """Turns bytes into frames."""

    def __init__(self) -> None:
        self._partial: list[bytes] = []  # the pieces of a line that has not ended
        self._size = 0  # bytes held for the frame under way
        self._after_cr = False
        self._started = False
        self._id = b""
        self._type = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[Frame]:
        """Take the next bytes; gives the frames they complete. Raises `BadAnswer` for one above 4 MiB."""
        if self._after_cr and chunk:
            # this line ended with the last chunk already, so that no frame waits for a byte to come
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        *lines, rest = _LINE_END.split(chunk)
        frames: list[Frame] = []
        for line in lines:
            self._hold(line)
            whole = b"".join(self._partial)
            self._partial.clear()
            if not self._started:
                self._started, whole = True, whole.removeprefix(_BOM)
            if whole:
                self._field(whole)
            else:
                frames += self._dispatch()
        self._hold(rest)
        return frames

    def _hold(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > MAX_FRAME:
            raise BadAnswer(f"the relay sent a frame of more than {MAX_FRAME} bytes")
        if piece:
            self._partial.append(piece)

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"id" and b"\0" not in value:
            self._id = value
        elif name == b"event":
            self._type = value
        elif not self._data:
            self._size = 0  # comments keep a quiet stream open for days: they must not add up

    def _dispatch(self) -> list[Frame]:
        given, data, type_ = bool(self._data), b"\n".join(self._data), self._type or b"message"
        self._data.clear()
        self._type, self._size = b"", 0
        # Without a data line there is no event; the id counts all the same.
        return [Frame(self._id.decode("utf-8", "replace"), type_.decode("utf-8", "replace"), data)] if given else []
