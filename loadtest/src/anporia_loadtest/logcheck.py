"""After the run: is every acknowledged event in the log, and did every stream give just what the log holds?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from anporia_wire import AnporiaError, Event, Filter

from .frames import BadStream, StreamReader
from .observations import StreamSeen, counted
from .target import Target, TargetError, next_page

__all__ = [
    "DELIVERED_WITHIN_S",
    "LogCheck",
    "StreamsCheck",
    "check_log",
    "check_streams",
    "place_now",
    "read_acknowledged",
]

DELIVERED_WITHIN_S = 2.0  # what was acknowledged so long before a stream was left must have come on it
_SILENCE_S = 20.0
_LOOK_UP = 1_000  # missing ones that are asked for one by one
_EXAMPLES = 5


@dataclass(slots=True)
class StreamsCheck:
    """All streams together. `gaps`: frames that should have come and did not; `strays`: the reverse."""

    frames: int = 0
    gaps: int = 0
    repeats: int = 0
    strays: int = 0
    examples: list[str] = field(default_factory=list)

    def fault(self, kind: str, text: str) -> None:
        """Count one fault of a kind."""
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.examples) < _EXAMPLES:
            self.examples.append(text)


@dataclass(slots=True)
class LogCheck:
    """What the relay's log says. `missing`: acknowledged, and in no list; `error`: why it could not be read."""

    acknowledged: int = 0
    missing: list[str] = field(default_factory=list)
    unlisted: int = 0  # of the missing, so many are there when they are asked for by id
    streams: StreamsCheck = field(default_factory=StreamsCheck)
    error: str = ""


def read_acknowledged(file: Path) -> dict[str, float]:
    """Read what was noted of each acknowledged event: its id, and when the answer came."""
    noted: dict[str, float] = {}
    for line in file.read_text().splitlines():
        id_, _, at = line.partition(" ")
        noted.setdefault(id_, float(at))
    return noted


def check_log(
    target: Target, acknowledged: Mapping[str, float], streams: Sequence[StreamSeen], start: str, since: int
) -> LogCheck:
    """Read the relay's log and hold it against the run. `start`: the place in the log at which the run began."""
    check = LogCheck(len(acknowledged))
    try:
        gone = set(acknowledged)
        for id_ in _listed(target, since):
            gone.discard(id_)
        check.missing = sorted(gone)
        check.unlisted = sum(target.get(f"/events/{id_}").status == 200 for id_ in check.missing[:_LOOK_UP])
        if streams:
            check.streams = check_streams(_replayed(target, start), streams, acknowledged)
    except (TargetError, OSError, BadStream, AnporiaError, ValueError, KeyError, TypeError) as exc:
        check.error = f"the log could not be read: {str(exc) or type(exc).__name__}"
    return check


def check_streams(
    log: Iterable[tuple[int, Event]], streams: Sequence[StreamSeen], acknowledged: Mapping[str, float]
) -> StreamsCheck:
    """Hold streams against the log (place and event, in order)."""
    found = StreamsCheck(frames=sum(len(stream.numbers) for stream in streams))
    watched = [(stream, Filter.parse(stream.query), set(stream.numbers)) for stream in streams]
    for stream, _, numbers in watched:
        if len(numbers) != len(stream.numbers):
            found.fault("repeats", f"{counted(len(stream.numbers) - len(numbers), 'frame')} of a stream came twice")
        elif stream.numbers != sorted(stream.numbers):
            found.fault("strays", "frames of a stream came out of order")
    for number, event in log:
        for stream, wanted, numbers in watched:
            came = number in numbers
            numbers.discard(number)
            if number <= stream.start or not wanted.matches(event):
                if came:
                    found.fault("strays", f"{number} was not for the stream {stream.query}")
            elif not came:
                last = stream.numbers[-1] if stream.numbers else stream.start
                due = acknowledged.get(event.id, float("inf")) <= stream.left_at - DELIVERED_WITHIN_S
                if number < last or due:
                    found.fault("gaps", f"{number} never came on the stream {stream.query or 'of all'}")
    for _, _, numbers in watched:
        for number in sorted(numbers):
            found.fault("strays", f"{number} is not in the log")
    return found


def _listed(target: Target, since: int) -> Iterator[str]:
    """Give the ids of all events dated from `since` on, as any reader gets them, page by page."""
    query = f"since={since}&limit=1000&include_hidden=true&include_revoked=true"
    while query:
        answer = target.get(f"/events?{query}")
        if answer.status != 200:
            raise TargetError(f"/events answered {answer.status} {answer.code}".strip())
        for event in orjson.loads(answer.body):
            yield event["id"]
        query = next_page(answer.headers.get("link", ""))


def _replayed(target: Target, start: str, clock: Callable[[], float] = time.monotonic) -> Iterator[tuple[int, Event]]:
    """Give the log from a place on, through a stream that resumes there, up to what is the log's end now."""
    with target.dial(_SILENCE_S) as connection:
        end = int(place_now(target).rpartition("-")[2])
        connection.sendall(target.head("GET", "/stream", {"Last-Event-ID": start}))
        reader, at = StreamReader(), int(start.rpartition("-")[2])
        quiet_since = clock()
        while at < end:
            data = connection.recv(262_144)
            if not data or clock() - quiet_since > _SILENCE_S:
                raise TargetError(f"the stream ended at {at} of {end} {' '.join(reader.comments[1:])}".strip())
            for frame in reader.feed(data):
                quiet_since = clock()
                at = frame.number
                yield at, Event.from_mapping(orjson.loads(frame.data))
            if reader.status not in (0, 200):
                raise TargetError(f"/stream answered {reader.status}")


def place_now(target: Target) -> str:
    """Ask where the log ends: a stream says where it begins. Raises `TargetError`."""
    try:
        with target.dial(_SILENCE_S) as connection:
            connection.sendall(target.head("GET", "/stream", {}))
            reader = StreamReader()
            while not reader.status and (data := connection.recv(65_536)):
                reader.feed(data)
    except (OSError, BadStream) as exc:
        raise TargetError(f"{target.url}/stream gives no answer: {str(exc) or type(exc).__name__}") from None
    place = reader.headers.get("anporia-place", "")
    if reader.status != 200 or not place.rpartition("-")[2].isdigit():
        raise TargetError(f"{target.url}/stream answered {reader.status} without its place")
    return place
