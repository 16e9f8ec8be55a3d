"""What the users of one run share: the stock of signed events, what was said lately, and what was seen."""

from __future__ import annotations

import json
import os
import time
from array import array
from collections import OrderedDict, deque
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple

import orjson

from ..observations import Latency, Observations, StreamSeen
from ..run import ACKNOWLEDGED, OBSERVED, STATUS
from ..stock import Stock
from ..verdict import LIMITS_OF_AN_ADDRESS

__all__ = ["RECORDER", "Recorder", "Said"]

_RECENT = 2_000
_SENT = 20_000


class Said(NamedTuple):
    """An event as it goes out, and what readers ask for it by."""

    raw: bytes
    id: str
    agent_id: str
    kind: int
    topic: str

    @classmethod
    def read(cls, raw: bytes) -> Said:
        """Read a signed event."""
        event = orjson.loads(raw)
        topic = next((tag[1] for tag in event["tags"] if tag[0] == "t"), "")
        return cls(raw, event["id"], event["agent_id"], event["kind"], topic)


class Recorder:
    """One for the process: users are made by locust and find it here."""

    def __init__(self) -> None:
        self.stock: Stock | None = None
        self.folder: Path | None = None
        self.seed = ""
        self.agent_rate = 60
        self.features: frozenset[str] = frozenset()
        self.only_loopback = True
        self.begin()

    def begin(self) -> None:
        """Start anew: a web UI may run several tests."""
        self.seen = Observations()
        self.recent: deque[Said] = deque(maxlen=_RECENT)
        self.stopping = False
        self._present: dict[str, int] = {}
        self._sent: OrderedDict[str, float] = OrderedDict()
        self._latencies: dict[str, array[float]] = {}
        self._started, self._cpu = time.perf_counter(), time.process_time()
        self._seconds = 0.0
        self._users = 0
        self._file: TextIOWrapper | None = None
        if self.folder is not None:
            self._file = (self.folder / ACKNOWLEDGED).open("w")

    def joined(self, name: str) -> int:
        """Count a user; gives its number."""
        self._users += 1
        self._present[name] = self._present.get(name, 0) + 1
        self.seen.users[name] = max(self.seen.users.get(name, 0), self._present[name])
        return self._users

    def left(self, name: str) -> None:
        """Count a user that stopped."""
        self._present[name] -= 1

    def finished(self, name: str) -> None:
        """Count a task of a class of users."""
        self.seen.did[name] = self.seen.did.get(name, 0) + 1

    def limited(self, code: str) -> bool:
        """Say whether a refusal is for the address all of this comes from, and count it if so."""
        if code not in LIMITS_OF_AN_ADDRESS:
            return False
        self.seen.limited[code] = self.seen.limited.get(code, 0) + 1
        return True

    def took(self, group: str, milliseconds: float) -> None:
        """Note how long something took."""
        self._latencies.setdefault(group, array("d")).append(milliseconds)

    def answered(self, status: int) -> None:
        """Count an answer of any kind; 0 is none."""
        self.seen.answers.done += 1
        self.seen.statuses[str(status)] = self.seen.statuses.get(str(status), 0) + 1

    def sending(self, id_: str) -> None:
        """Note when an event goes out; streams measure from there."""
        self._sent[id_] = time.perf_counter()
        if len(self._sent) > _SENT:
            self._sent.popitem(last=False)

    def sent_at(self, id_: str) -> float | None:
        """Say when an event went out."""
        return self._sent.get(id_)

    def acknowledged(self, id_: str) -> None:
        """Note a promise of the relay."""
        self.seen.acknowledged += 1
        if self._file is not None:
            self._file.write(f"{id_} {time.time():.3f}\n")

    def listening(self, stream: StreamSeen) -> None:
        """Keep a stream for the verdict."""
        self.seen.streams.append(stream)

    def stop(self) -> None:
        """Tell those who listen that it ends: they hear the rest and leave."""
        self.stopping = True
        self._seconds = time.perf_counter() - self._started
        self.seen.generator_busy = round((time.process_time() - self._cpu) / max(self._seconds, 0.001), 3)

    def finish(self, exceptions: list[str]) -> None:
        """Write everything for who judges it."""
        seen = self.seen
        seen.seconds = round(self._seconds, 3)
        seen.latencies = {group: Latency.of(times) for group, times in self._latencies.items()}
        seen.exceptions = exceptions
        seen.waited_for_signer = self.stock.waited if self.stock is not None else 0
        if self._file is not None:
            self._file.close()
        if self.folder is not None:
            (self.folder / OBSERVED).write_text(json.dumps(seen.to_json()))

    def status(self, state: str, *, part: float = 0.0) -> None:
        """Tell whoever watches how it goes."""
        if self.folder is None:
            return
        about: dict[str, object] = {"state": state, "part": part}
        if state == "running":
            seen = self.seen
            faults = seen.answers.faults + seen.server_errors.faults + seen.forgeries.faults + seen.misdeeds.faults
            about |= {"elapsed": time.perf_counter() - self._started, "users": sum(self._present.values())}
            about |= {"requests": seen.answers.done, "faults": faults}
        new = self.folder / f"{STATUS}.new"
        new.write_text(json.dumps(about))
        os.replace(new, self.folder / STATUS)


RECORDER = Recorder()
