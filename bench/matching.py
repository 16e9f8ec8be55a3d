"""Matching and verifying, compiled against pure: `python bench/matching.py`, about a minute.

The mix of filters, chosen to look like a relay's streams (one filter is one subscription):

* 50 % follow 1 to 19 authors (10 on average), half of them only kinds 0 and 1, a fifth with `since`;
* 25 % wait for events that mention one agent (`p`), a third of them only kind 1;
* 19.9 % watch one topic (`t`) of 2,000, half of them only kind 1;
* 5 % watch one to three of 200 rare kinds;
* 0.1 % take everything.

10,000 agents; who writes, who is followed and who is mentioned has weight 1 / (rank + 100), so a few are
popular. Events: 70 % kind 1, 10 % kind 0, the rest rare kinds; none to three `t` tags, none to two `p` tags.
Everything comes from one seed. Each figure is the median of five runs, with the lowest and highest.
"""

from __future__ import annotations

import hashlib
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from anporia_cython_ext import FilterSet, verify, verify_many
from anporia_wire import _kernels_py as pure
from anporia_wire.events import Event
from anporia_wire.filters import Filter
from anporia_wire.keys import Keypair

SEED = 20261121
RUNS = 5
RUN_SECONDS = 0.2  # long enough that a run's timer error vanishes, short enough for the whole in a minute
AGENTS = [hashlib.sha256(b"agent %d" % n).hexdigest() for n in range(10_000)]
WEIGHTS = [1 / (rank + 100) for rank in range(len(AGENTS))]
TOPICS = [f"topic-{n}" for n in range(2_000)]
RARE_KINDS = range(1_000, 1_200)
NOW = 1_790_000_000
BATCH = 500  # events of one NDJSON request in the design's measurements


def make_filter(rng: random.Random) -> Filter:
    share = rng.random()
    if share < 0.5:
        return Filter(
            authors=frozenset(rng.choices(AGENTS, WEIGHTS, k=rng.randint(1, 19))),
            kinds=frozenset({0, 1}) if rng.random() < 0.5 else None,
            since=NOW - 3600 if rng.random() < 0.2 else None,
        )
    if share < 0.75:
        (agent,) = rng.choices(AGENTS, WEIGHTS)
        return Filter(p=agent, kinds=frozenset({1}) if rng.random() < 1 / 3 else None)
    if share < 0.949:
        return Filter(t=rng.choice(TOPICS), kinds=frozenset({1}) if rng.random() < 0.5 else None)
    if share < 0.999:
        return Filter(kinds=frozenset(rng.choices(RARE_KINDS, k=rng.randint(1, 3))))
    return Filter()


def make_event(rng: random.Random) -> Event:
    share = rng.random()
    tags = [("t", copied(rng.choice(TOPICS))) for _ in range(rng.randint(0, 3))]
    tags += [("p", copied(agent)) for agent in rng.choices(AGENTS, WEIGHTS, k=rng.randint(0, 2))]
    (author,) = rng.choices(AGENTS, WEIGHTS)
    kind = 1 if share < 0.7 else 0 if share < 0.8 else rng.choice(RARE_KINDS)
    # Matching reads neither id, content nor signature.
    return Event("0" * 64, copied(author), NOW, kind, tuple(tags), "", "0" * 128)


def copied(text: str) -> str:
    """Give an equal string that is another object: a parsed event shares none with a filter."""
    return text.encode().decode()


def rates(work: Callable[[], int]) -> list[float]:
    """Give operations per second of `RUNS` runs; `work` does some and says how many."""
    out = []
    for _ in range(RUNS):
        done, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < RUN_SECONDS:
            done += work()
        out.append(done / spent)
    return out


def matcher(filters: FilterSet | pure.FilterSet, events: Sequence[Event]) -> Callable[[], int]:
    def work() -> int:
        for event in events:
            filters.match(event)
        return len(events)

    return work


def shown(runs: Sequence[float]) -> str:
    return f"{statistics.median(runs):,.0f} ({min(runs):,.0f}-{max(runs):,.0f})"


def matching() -> None:
    print(f"{'filters':>7} {'matches':>7} {'pure loop, events/s':>25} {'FilterSet, events/s':>32} {'ratio':>5}")
    for count in (1_000, 10_000, 100_000):
        rng = random.Random(SEED)
        compiled, looped = FilterSet(), pure.FilterSet()
        for key in range(count):
            filter_ = make_filter(rng)
            compiled.add(key, filter_)
            looped.add(key, filter_)
        events = [make_event(rng) for _ in range(2_000)]
        some = events[: 200_000 // count]  # of the slow loop, about 50 ms at a time
        for event in some:
            assert Counter(compiled.match(event)) == Counter(looped.match(event)), event
        matches = statistics.mean(len(compiled.match(event)) for event in events)
        slow, fast = rates(matcher(looped, some)), rates(matcher(compiled, events))
        ratio = statistics.median(fast) / statistics.median(slow)
        print(f"{count:>7,} {matches:>7.1f} {shown(slow):>25} {shown(fast):>32} {ratio:>5,.0f}")


def verifying() -> None:
    keypair = Keypair(bytes(32))
    messages = [hashlib.sha256(b"message %d" % n).digest() for n in range(BATCH)]
    batch = [(bytes.fromhex(keypair.agent_id), message, keypair.sign(message)) for message in messages]

    def single(one: Callable[[bytes, bytes, bytes], bool]) -> Callable[[], int]:
        return lambda: sum(one(*item) for item in batch)

    def two_threads(many: Callable[[Sequence[tuple[bytes, bytes, bytes]]], list[bool]]) -> Callable[[], int]:
        def work() -> int:
            threads = [threading.Thread(target=many, args=(batch,)) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return 2 * BATCH

        return work

    print(f"\n{'signatures/s':<28} {'pure (PyNaCl)':>25} {'compiled':>25}")
    for name, slow, fast in (
        ("verify, one by one", single(pure.verify), single(verify)),
        (f"verify_many, {BATCH}", lambda: len(pure.verify_many(batch)), lambda: len(verify_many(batch))),
        (f"verify_many, {BATCH}, 2 threads", two_threads(pure.verify_many), two_threads(verify_many)),
    ):
        was, is_ = rates(slow), rates(fast)
        print(f"{name:<28} {shown(was):>25} {shown(is_):>25}")


if __name__ == "__main__":
    matching()
    verifying()
