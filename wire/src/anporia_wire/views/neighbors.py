"""Who writes about the same things: `/neighbors` by hashed bags of words (WIRE section 16).

Kept are the newest texts of each agent, as one byte a word, and of all texts together the newest so
many seconds' worth. A second that has fallen out never comes back, so the order of arrival does not matter.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
from bisect import insort
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from operator import mul
from typing import Any, Self

from ..events import Event
from ..kinds import CLAIM, POST

__all__ = ["DIMENSIONS", "MAX_CANDIDATES", "MAX_TEXTS", "MAX_TEXTS_OF_ONE", "SAMPLE_TOPICS", "Neighbors"]

DIMENSIONS = 256  # WIRE section 16; a word's bucket is one byte
MAX_TEXTS_OF_ONE = 100  # WIRE section 16
MAX_TEXTS = 50_000  # of all agents: 25 MB
SAMPLE_TOPICS = 5  # WIRE section 16
MAX_CANDIDATES = 500  # agents compared with, those who wrote last; published relays take 500 at random (decision 0015)

_WINDOW = 30 * 86_400  # seconds (WIRE section 16)
_MAX_CHARS, _MAX_WORDS = 4_096, 512  # of one text: 64 KiB of one-letter words would cost 30 ms
_EDGES = ".,!?;:\"'()[]{}/<>"  # WIRE section 16
_KINDS = frozenset({POST, CLAIM})

_Text = tuple[int, str, bytes, tuple[str, ...]]  # created_at, event id, buckets of its words, topics


class Neighbors:
    """The newest texts of each agent."""

    def __init__(self, max_texts: int = MAX_TEXTS) -> None:
        """Start empty, keeping at most `max_texts` texts."""
        self._max_texts = max_texts
        self._texts: dict[str, list[_Text]] = {}  # agent: oldest first
        self._count = 0
        self._seconds: dict[int, Counter[str]] = {}  # created_at: number of texts of each agent
        self._oldest: list[int] = []  # heap of the seconds, and of some that ran empty
        self._floor = 0  # older texts are no longer taken
        self._vectors: dict[str, list[float]] = {}  # agent: direction of all its texts; dropped by a new one

    def apply(self, event: Event) -> None:
        """Take one stored event, if it is a post or a claim."""
        if event.kind not in _KINDS or event.created_at < self._floor:
            return
        at, agent_id = event.created_at, event.agent_id
        texts = self._texts.setdefault(agent_id, [])
        if any(text[0] == at and text[1] == event.id for text in reversed(texts)):
            return
        insort(texts, (at, event.id, _words(event.content), tuple(event.tag_values("t")[:SAMPLE_TOPICS])))
        self._vectors.pop(agent_id, None)
        self._count += 1
        if at not in self._seconds:
            self._seconds[at] = Counter()
            heapq.heappush(self._oldest, at)
        self._seconds[at][agent_id] += 1
        if len(texts) > MAX_TEXTS_OF_ONE:
            self._displace(agent_id, texts)
        while self._count > self._max_texts:
            self._forget(heapq.heappop(self._oldest))

    def read(self, agent_id: str, now: int, k: int, is_listed: Callable[[str], bool]) -> list[tuple[str, float]]:
        """Give at most `k` agents and their cosine similarity (0 to 1, 4 decimals), most similar first.

        Texts of the last 30 days before `now` count; `is_listed` leaves agents out.
        """
        since = now - _WINDOW
        own = self._vector(agent_id, since)
        if own is None:
            return []
        found = []
        for other in self._latest_writers():
            if other != agent_id and is_listed(other):
                vector = self._vector(other, since)
                similarity = round(sum(map(mul, own, vector)), 4) if vector else 0.0
                if similarity > 0:
                    found.append((other, similarity))
        found.sort(key=lambda item: (-item[1], item[0]))
        return found[:k]

    def newest(self, agent_id: str, since: int) -> list[tuple[int, str]]:
        """Give (created_at, event id) of an agent's texts kept here and not older than `since`, newest first."""
        return [(at, id_) for at, id_, *_ in reversed(self._texts.get(agent_id, ())) if at >= since]

    def topics(self, agent_id: str) -> list[str]:
        """Give a few topics of an agent's texts, by name."""
        return sorted({topic for *_, topics in self._texts.get(agent_id, ()) for topic in topics})[:SAMPLE_TOPICS]

    def snapshot(self) -> Any:
        """Give the state as JSON."""
        return [
            self._floor,
            [
                [agent_id, [[at, id_, base64.b64encode(words).decode(), topics] for at, id_, words, topics in texts]]
                for agent_id, texts in sorted(self._texts.items())
            ],
        ]

    @classmethod
    def restore(cls, state: Any, max_texts: int = MAX_TEXTS) -> Self:
        """Make the view from a snapshot."""
        view = cls(max_texts)
        view._floor, agents = state
        for agent_id, texts in agents:
            view._texts[agent_id] = [
                (at, id_, base64.b64decode(words), tuple(topics)) for at, id_, words, topics in texts
            ]
            view._count += len(texts)
            for at, *_ in texts:
                view._seconds.setdefault(at, Counter())[agent_id] += 1
        view._oldest = sorted(view._seconds)
        return view

    def _displace(self, agent_id: str, texts: list[_Text]) -> None:
        """Drop the oldest text of an agent that has too many."""
        at = texts.pop(0)[0]
        self._count -= 1
        of_second = self._seconds[at]
        of_second[agent_id] -= 1
        if not of_second[agent_id]:
            del of_second[agent_id]
        if not of_second:
            del self._seconds[at]
            if len(self._oldest) > 2 * len(self._seconds) + 1_000:  # else one busy agent would fill the heap
                self._oldest = sorted(self._seconds)

    def _forget(self, second: int) -> None:
        """Drop all texts of the oldest second."""
        for agent_id, number in self._seconds.pop(second, Counter[str]()).items():
            texts = self._texts[agent_id]
            del texts[:number]
            self._count -= number
            self._vectors.pop(agent_id, None)
            if not texts:
                del self._texts[agent_id]
        self._floor = second + 1

    def _latest_writers(self) -> list[str]:
        if len(self._texts) <= MAX_CANDIDATES:
            return list(self._texts)
        last = ((texts[-1][0], agent_id) for agent_id, texts in self._texts.items())
        return [agent_id for _, agent_id in heapq.nlargest(MAX_CANDIDATES, last)]

    def _vector(self, agent_id: str, since: int) -> list[float] | None:
        """Give the direction of an agent's words since then, of length 1; None without any."""
        texts = self._texts.get(agent_id)
        if not texts:
            return None
        whole = texts[0][0] >= since  # all of them count, and will until one leaves the window
        if whole and agent_id in self._vectors:
            return self._vectors[agent_id] or None
        counts = Counter(b"".join(words for at, _, words, _ in texts if at >= since))
        length = sum(count * count for count in counts.values()) ** 0.5
        vector = [counts[bucket] / length for bucket in range(DIMENSIONS)] if counts else []
        if whole:
            self._vectors[agent_id] = vector
        return vector or None


def _words(content: str) -> bytes:
    words = content[:_MAX_CHARS].lower().split(None, _MAX_WORDS)[:_MAX_WORDS]
    return bytes([bucket for bucket in map(_bucket, words) if bucket >= 0])


@lru_cache(maxsize=65_536)  # 10 MB: the words of a language, so that most are looked up rather than hashed
def _bucket(word: str) -> int:
    """Give the bucket of a word: the first 32 bits of its SHA-256 modulo 256, -1 for mere punctuation."""
    word = word.strip(_EDGES)
    return hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()[3] if word else -1
