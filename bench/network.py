"""A large network on disk, for benches of reading: `python -m bench.network FILE [--events N]` fills a database.

2,000 agents, 500 topics; of every hundred events 84 are posts and replies, one a vote, ten belong to tasks,
the rest are claims, flags, follows, beacons and declarations. The newest is of now, five a second before it.
Unsigned: reading does not verify. Ids are right, so the log passes every check but that of signatures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from anporia_store import SqliteStore
from anporia_wire import Event, event_id, kinds

__all__ = ["AGENTS", "TOPICS", "WORDS", "Network", "fill"]

SEED = 20261122
AGENTS = [random.Random(n).randbytes(32).hex() for n in range(2_000)]
TOPICS = [f"topic-{n}" for n in range(500)]
RATE = 5  # events a second

# words as languages have them: the n-th is used in proportion to 1/n (Zipf)
_SYLLABLES = ("ka", "to", "mi", "re", "su", "no", "la", "ve", "shi", "pol", "dan", "ur", "ig", "ost")
WORDS = [f"{a}{b}{c}" for a in _SYLLABLES for b in _SYLLABLES for c in _SYLLABLES]
_CUMULATIVE = list(accumulate(1 / n for n in range(1, len(WORDS) + 1)))
_CAPABILITIES = [f"skill{n // 10}.part{n % 10}" for n in range(200)]
_TASKS = 50  # one event in fifty asks for something, and four more follow it
_VOTES = 100


class Network:
    """Draws events in the order of their dates; what later ones refer to is remembered."""

    def __init__(self, count: int, newest: int) -> None:
        self.count = count
        self.tasks: list[str] = []
        self.posts: list[str] = []
        self._draw = random.Random(SEED)
        self._newest = newest
        self._follow_ups: list[tuple[int, str, list[tuple[str, ...]], str]] = []  # kind, content, tags, agent

    def events(self) -> Iterator[Event]:
        """Give all events, oldest first."""
        for number in range(self.count):
            at = self._newest - (self.count - 1 - number) // RATE
            if number < len(AGENTS):
                yield self._event(kinds.PROFILE, json.dumps({"name": f"agent {number}"}), [], AGENTS[number], at)
            elif self._follow_ups:
                kind, content, tags, agent = self._follow_ups.pop(0)
                event = self._event(kind, content, tags, agent, at)
                yield event
            else:
                yield self._one(number, at)

    def _one(self, number: int, at: int) -> Event:
        draw, agent = self._draw, self._draw.choice(AGENTS)
        if number % _TASKS == 0:
            return self._task(agent, at)
        if number % _VOTES == 1:
            score = draw.choice([1, 1, 1, 0.5, -1])
            tags = [("p", draw.choice(AGENTS))]
            return self._event(kinds.TRUST_VOTE, json.dumps({"score": score, "reason": "met"}), tags, agent, at)
        text = " ".join(draw.choices(WORDS, cum_weights=_CUMULATIVE, k=25))
        tags = [("t", draw.choice(TOPICS)), ("lang", "en")]
        place = number % 100
        if place == 2:
            offers = [{"name": name, "description": text} for name in draw.sample(_CAPABILITIES, 3)]
            caps = [("cap", str(offer["name"])) for offer in offers]
            return self._event(kinds.CAPABILITY, json.dumps({"capabilities": offers}), caps, agent, at)
        if place == 3 and self.posts:
            cited = draw.choice(self.posts)
            return self._event(
                kinds.CLAIM, json.dumps({"claim": text, "derived_from": [cited]}), [*tags, ("e", cited)], agent, at
            )
        if place == 4 and self.posts:
            flagged = [("e", draw.choice(self.posts))]
            return self._event(kinds.FLAG, json.dumps({"category": "spam"}), flagged, agent, at)
        if place == 5:
            follow = [("p", draw.choice(AGENTS))]
            return self._event(kinds.SUBSCRIBE, json.dumps({"reason": "reads well"}), follow, agent, at)
        if place == 6:
            said = {"intent": "seek", "ttl_sec": 3_600, "about": text}
            return self._event(kinds.BEACON, json.dumps(said), tags[:1], agent, at)
        event = self._event(kinds.POST, text, tags, agent, at)
        if len(self.posts) < 20_000:
            self.posts.append(event.id)
        return event

    def _task(self, requester: str, at: int) -> Event:
        capability = self._draw.choice(_CAPABILITIES)
        reward = {"payment_method": "anp2_credit", "amount": self._draw.randrange(100)}
        body = {"capability": capability, "constraints": {"deadline_unix": at + 86_400}, "reward": reward}
        request = self._event(
            kinds.TASK_REQUEST, json.dumps(body), [("t", capability), ("cap_wanted", capability)], requester, at
        )
        self.tasks.append(request.id)
        provider, verifier = self._draw.sample(AGENTS, 2)
        thread: list[tuple[str, ...]] = [("e", request.id, "root"), ("p", requester)]
        of_task = {"task_id": request.id}
        steps = [
            (kinds.TASK_ACCEPT, "{}", thread, provider),
            (kinds.TASK_RESULT, json.dumps({**of_task, "output": "done"}), thread, provider),
            (kinds.TASK_VERIFY, json.dumps({**of_task, "verdict": "passed", "score": 0.9}), thread, verifier),
            (kinds.TASK_PAYMENT, json.dumps({**of_task, "disposition": "release"}), thread, requester),
        ]
        self._follow_ups += steps[: self._draw.randrange(5)]
        return request

    def _event(self, kind: int, content: str, tags: Sequence[tuple[str, ...]], agent: str, at: int) -> Event:
        blank = Event("", agent, at, kind, tuple(tags), content, "")
        return Event(event_id(blank.canonical()), agent, at, kind, blank.tags, content, self._draw.randbytes(64).hex())


async def fill(path: Path, count: int, newest: int | None = None) -> Network:
    """Write so many events into a new database."""
    network = Network(count, int(time.time()) if newest is None else newest)
    store = await SqliteStore.open(path)
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("filling", total=count)
        batch: list[Event] = []
        for event in network.events():
            batch.append(event)
            if len(batch) == 1_000:
                await store.append(batch)
                bar.advance(task, len(batch))
                batch = []
        await store.append(batch)
    await store.close()
    return network


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--events", type=int, default=1_000_000)
    arguments = parser.parse_args()
    asyncio.run(fill(arguments.file, arguments.events))
