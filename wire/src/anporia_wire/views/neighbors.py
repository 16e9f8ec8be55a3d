"""Who writes about the same things: `/neighbors` by hashed bags of words (WIRE section 16).

Kept are the newest texts of each agent, as one byte a word, and of all texts together the newest so many
seconds' worth. A second that has fallen out never comes back, so the order of arrival does not matter.
Words are hashed when somebody asks, or little by little (`settle`): while thousands of texts a second
arrive, most are displaced before.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
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
_MAX_KEPT_CHARS = 64  # of a word that is remembered: longer ones are no words of a language
_EDGES = ".,!?;:\"'()[]{}/<>"  # WIRE section 16
_KINDS = frozenset({POST, CLAIM})

# created_at, event id, buckets of its words or the text while nobody asked for them, topics
_Text = tuple[int, str, bytes | str, tuple[str, ...]]


class Neighbors:
    """The newest texts of each agent."""

    def __init__(self, max_texts: int = MAX_TEXTS) -> None:
        """Start empty, keeping at most `max_texts` texts."""
        self._max_texts = max_texts
        self._texts: dict[str, list[_Text]] = {}  # agent: oldest first
        self._count = 0
        self._seconds: dict[int, dict[str, int]] = {}  # created_at: number of texts of each agent
        self._oldest: list[int] = []  # heap of the seconds, and of some that ran empty
        self._floor = 0  # older texts are no longer taken
        self._unread: dict[str, None] = {}  # agents with texts whose words were not hashed yet, in order
        self._writers: list[str] | None = None  # who wrote last; dropped by a new text
        # agent: how many texts are left out, the direction of the rest; dropped by a new text
        self._vectors: dict[str, tuple[int, tuple[float, ...]]] = {}

    def apply(self, event: Event) -> None:
        """Take one stored event, if it is a post or a claim."""
        if event.kind not in _KINDS or event.created_at < self._floor:
            return
        at, agent_id = event.created_at, event.agent_id
        texts = self._texts.setdefault(agent_id, [])
        place = bisect_left(texts, (at, event.id))
        if place < len(texts) and texts[place][1] == event.id:
            return
        topics = [tag[1] for tag in event.tags if len(tag) > 1 and tag[0] == "t"]
        texts.insert(place, (at, event.id, event.content[:_MAX_CHARS], tuple(topics[:SAMPLE_TOPICS])))
        self._unread[agent_id] = None
        self._vectors.pop(agent_id, None)
        self._writers = None
        self._count += 1
        of_second = self._seconds.get(at)
        if of_second is None:
            of_second = self._seconds[at] = {}
            heapq.heappush(self._oldest, at)
        of_second[agent_id] = of_second.get(agent_id, 0) + 1
        if len(texts) > MAX_TEXTS_OF_ONE:
            self._displace(agent_id, texts)
        while self._count > self._max_texts:
            self._forget(heapq.heappop(self._oldest))

    def read(self, agent_id: str, now: int, k: int, is_listed: Callable[[str], bool]) -> list[tuple[str, float]]:
        """Give at most `k` agents and their cosine similarity (0 to 1, 4 decimals), most similar first.

        Texts of the last 30 days before `now` count, once `settle` has hashed them; `is_listed` leaves agents out.
        """
        since = now - _WINDOW
        own = self._vector(agent_id, since)
        if own is None:
            return []
        found = []
        for other in self._latest_writers():
            if other != agent_id and is_listed(other):
                vector = self._vector(other, since)
                # of vectors of length 1 the distance tells the cosine, and is worked out in C
                similarity = round(1 - math.dist(own, vector) ** 2 / 2, 4) if vector else 0.0
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

    def settle(self, most: int) -> bool:
        """Hash about so many words of texts that wait for it (5,000 take 1 to 4 ms); say whether none is left."""
        while self._unread and most > 0:
            agent_id = next(iter(self._unread))
            texts = self._texts[agent_id]
            for place in range(len(texts) - 1, -1, -1):
                at, id_, words, topics = texts[place]
                if isinstance(words, str):
                    texts[place] = (at, id_, _words(words), topics)
                    most -= len(texts[place][2]) + 1
                    self._vectors.pop(agent_id, None)
                    if most <= 0:
                        return False
            del self._unread[agent_id]
        return not self._unread

    def snapshot(self) -> Any:
        """Give the state as JSON."""
        while not self.settle(1_000_000):
            pass
        return [
            self._floor,
            [[agent_id, [_listed(text) for text in texts]] for agent_id, texts in sorted(self._texts.items())],
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
                of_second = view._seconds.setdefault(at, {})
                of_second[agent_id] = of_second.get(agent_id, 0) + 1
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
        for agent_id, number in self._seconds.pop(second, {}).items():
            texts = self._texts[agent_id]
            del texts[:number]
            self._count -= number
            self._vectors.pop(agent_id, None)
            if not texts:
                del self._texts[agent_id]
                self._unread.pop(agent_id, None)
        self._floor = second + 1

    def _latest_writers(self) -> list[str]:
        if self._writers is None:
            last = ((texts[-1][0], agent_id) for agent_id, texts in self._texts.items())
            self._writers = [agent_id for _, agent_id in heapq.nlargest(MAX_CANDIDATES, last)]
        return self._writers

    def _vector(self, agent_id: str, since: int) -> tuple[float, ...] | None:
        """Give the direction of an agent's words since then, of length 1; None without any."""
        texts = self._texts.get(agent_id, ())
        first = bisect_left(texts, (since,))
        known = self._vectors.get(agent_id)
        if known is None or known[0] != first:  # the window has left one more behind
            counts = Counter(b"".join(words for _, _, words, _ in texts[first:] if isinstance(words, bytes)))
            length = sum(count * count for count in counts.values()) ** 0.5
            known = (first, tuple(counts[bucket] / length for bucket in range(DIMENSIONS)) if counts else ())
            self._vectors[agent_id] = known
        return known[1] or None


def _listed(text: _Text) -> list[Any]:
    at, id_, words, topics = text
    return [at, id_, base64.b64encode(words if isinstance(words, bytes) else _words(words)).decode(), topics]


def _words(content: str) -> bytes:
    words = content.lower().split(None, _MAX_WORDS)
    return b"".join(map(_bucket, words[:_MAX_WORDS]))


def _bucket(word: str) -> bytes:
    """Give the bucket of a word: the first 32 bits of its SHA-256 modulo 256; nothing for mere punctuation."""
    return _known_bucket(word) if len(word) <= _MAX_KEPT_CHARS else _hashed(word)


def _hashed(word: str) -> bytes:
    word = word.strip(_EDGES)
    return hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()[3:4] if word else b""


# 10 MB: the words of a language, so that most are looked up rather than hashed
_known_bucket = lru_cache(maxsize=65_536)(_hashed)
