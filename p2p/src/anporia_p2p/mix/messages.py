"""What this node publishes, until it hears it back from the network: the only acknowledgement there is.

    submitted -> queued -> sent (in a slot) -> heard
                   ^            |
                   +- silent  <-+   after three times the usual latency; five tries, then failed

An event is the same however often it arrives, so trying again does no harm.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import QueueFull
from .profiles import Profile

__all__ = ["MAX_MESSAGES", "MAX_QUEUED", "MAX_TRIES", "Message", "Messages"]

MAX_TRIES = 5  # with 10 % dead mixes and no health data 99.9 % are heard by then (./dev bench p2p)
MAX_QUEUED = 32  # packets that wait for a slot: in the slow profile 200 s of slots, less than a mix key's grace
MAX_MESSAGES = 256  # unheard at once
_PATIENCE = 3.0  # times the usual latency


@dataclass(slots=True)
class Message:
    """One event on its way out. `entered`, `passed`: guards and other mixes that its next copy is to avoid."""

    id: bytes
    body: bytes
    tries: int = 0
    unsent: int = 0
    due: float = math.inf
    entered: set[bytes] = field(default_factory=set)
    passed: set[bytes] = field(default_factory=set)

    def use(self, mixes: Sequence[bytes]) -> None:
        """Note the path of a copy. The guards, which are few, are used in turn: when each was, all may be again."""
        if mixes[0] in self.entered:
            self.entered.clear()
        self.entered.add(mixes[0])
        self.passed.update(mixes[1:])

    @property
    def copies(self) -> int:
        """How many to send in the next try: one at first, then two."""
        return 1 if self.tries == 0 else 2


class Messages:
    """All messages of a node that it has not heard yet."""

    def __init__(self, profile: Profile) -> None:
        self._patience = _PATIENCE * profile.expected_latency
        # a copy that finds no slot, for want of cover to stand in for, is as silent as one that was lost
        self._unsent_patience = self._patience + 2 * MAX_QUEUED / profile.payload_rate
        self._unheard: dict[bytes, Message] = {}
        self._due: list[tuple[float, int, Message]] = []
        self._waits = 0

    def __len__(self) -> int:
        return len(self._unheard)

    def submit(self, id_: bytes, body: bytes) -> Message | None:
        """Begin to publish a body; None if it is under way already. Raises `QueueFull`."""
        if id_ in self._unheard:
            return None
        if len(self._unheard) >= MAX_MESSAGES:
            raise QueueFull(f"{MAX_MESSAGES} messages are not yet heard: wait for some of them")
        message = self._unheard[id_] = Message(id_, body)
        return message

    def trying(self, now: float, message: Message, copies: int) -> None:
        """Count a try of so many copies in the queue; with none, where there is no path, patience begins at once."""
        message.tries += 1
        message.unsent = copies
        self._wait(now + (self._unsent_patience if copies else self._patience), message)

    def sent(self, now: float, id_: bytes) -> None:
        """Note that a copy left; the patience begins with the last."""
        message = self._unheard.get(id_)
        if message is not None:
            message.unsent -= 1
            if message.unsent == 0:
                self._wait(now + self._patience, message)

    def heard(self, id_: bytes) -> int | None:
        """Finish a message; gives in which try it was heard, or None for one that is not under way."""
        message = self._unheard.pop(id_, None)
        self._forget_past()
        return None if message is None else message.tries

    def silent(self, now: float) -> list[Message]:
        """Give the messages whose try has gone unheard; those with `MAX_TRIES` behind them have failed."""
        silent = []
        while self._due and self._due[0][0] <= now:
            message = heapq.heappop(self._due)[2]
            silent.append(message)
            if message.tries >= MAX_TRIES:
                del self._unheard[message.id]
            self._forget_past()
        return silent

    def deadline(self) -> float:
        """Say when patience ends next; infinity when nothing is awaited."""
        return self._due[0][0] if self._due else math.inf

    def _wait(self, until: float, message: Message) -> None:
        self._waits += 1
        message.due = until
        heapq.heappush(self._due, (until, self._waits, message))
        self._forget_past()

    def _forget_past(self) -> None:
        """Drop what was awaited of messages that were heard meanwhile, or are now awaited until another time."""
        while self._due:
            due, _, message = self._due[0]
            # the same, not only one of the same id: it may have been heard, and published once more
            if self._unheard.get(message.id) is message and message.due == due:
                return
            heapq.heappop(self._due)
