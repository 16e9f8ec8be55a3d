"""An event stream as it comes over a socket, cut anywhere: head, chunks, frames. Sans-IO."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BadStream", "Frame", "StreamReader"]


class BadStream(Exception):
    """What came is no event stream."""


class Frame(NamedTuple):
    """One event: its place in the log, and its bytes."""

    place: str
    data: bytes

    @property
    def number(self) -> int:
        """The place as a number."""
        return int(self.place.rpartition("-")[2])


class StreamReader:
    """Fed with what a socket gives, it gives frames. `status`, `headers`: once the head is there."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.comments: list[str] = []
        self.ended = False
        self._raw = b""
        self._text = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes, give the frames they complete. Raises `BadStream`."""
        self._raw += data
        if not self.status and not self._head():
            return []
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            self._dechunk()
        else:
            self._text, self._raw = self._text + self._raw, b""
        *blocks, self._text = self._text.split(b"\n\n")
        return [frame for block in blocks if (frame := self._frame(block)) is not None]

    def _head(self) -> bool:
        head, found, rest = self._raw.partition(b"\r\n\r\n")
        if not found:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        try:
            self.status = int(first.split()[1])
        except (IndexError, ValueError):
            raise BadStream(f"no HTTP: {first[:60]!r}") from None
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()
        self._raw = rest
        return True

    def _dechunk(self) -> None:
        while not self.ended:
            size, found, rest = self._raw.partition(b"\r\n")
            if not found:
                return
            try:
                length = int(size.split(b";")[0], 16)
            except ValueError:
                raise BadStream(f"no chunk: {size[:60]!r}") from None
            if len(rest) < length + 2:
                return
            self._text += rest[:length]
            self._raw = rest[length + 2 :]
            self.ended = length == 0

    def _frame(self, block: bytes) -> Frame | None:
        place, data = "", b""
        for line in block.split(b"\n"):
            if line.startswith(b"id: "):
                place = line[4:].decode("latin-1")
            elif line.startswith(b"data: "):
                data += line[6:]
            elif line.startswith(b":"):
                self.comments.append(line[1:].decode("utf-8", "replace").strip())
        if not data:
            return None
        if not place.rpartition("-")[2].isdigit():
            raise BadStream(f"a frame without its place: {block[:60]!r}")
        return Frame(place, data)
