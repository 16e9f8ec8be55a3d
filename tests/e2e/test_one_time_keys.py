"""Keys that speak once cost an attacker nothing: a million of them (./dev soak) must not exhaust the relay."""

from __future__ import annotations

import asyncio
import json
import random
import urllib.request
from collections.abc import Callable
from pathlib import Path

from anporia_store import SqliteStore
from anporia_wire import Event, event_id
from tests.relays import RunningRelay
from tests.wire.samples import NOW

BASE_MB = 160  # of a relay with nothing in it, its caches, and what one answer of 10,000 rows takes
BYTES_A_KEY = 700  # twice what docs/relay.md states for a million, since dictionaries grow by doubling


async def fill(path: Path, count: int) -> None:
    draw = random.Random(1)
    store = await SqliteStore.open(path)
    for start in range(0, count, 1_000):
        batch = []
        for number in range(start, min(start + 1_000, count)):
            tags = (("t", "room"),)
            blank = Event("", draw.randbytes(32).hex(), NOW + number // 300, 1, tags, f"hello {number}", "")
            id_ = event_id(blank.canonical())
            batch.append(Event(id_, blank.agent_id, blank.created_at, 1, tags, blank.content, "0" * 128))
        await store.append(batch)
    await store.close()


def test_keys_that_speak_once(tmp_path: Path, counts: Callable[..., int]) -> None:
    count = counts(12_000, soak=1_000_000)
    asyncio.run(fill(tmp_path / "relay.db", count))
    with RunningRelay(tmp_path) as relay:
        seen: set[str] = set()
        url: str | None = f"{relay.url}/agents"
        while url and len(seen) < 30_000:
            with urllib.request.urlopen(url) as answer:
                rows = json.loads(answer.read())["agents"]
                link = answer.headers.get("Link", "")
            assert len(rows) <= 10_000
            seen |= {row["agent_id"] for row in rows}
            url = relay.url + link.partition("<")[2].partition(">")[0] if link else None
        assert len(seen) == min(count, 30_000)
        for path in ("/stats", "/rooms", f"/copresence/{next(iter(seen))}", f"/neighbors/{next(iter(seen))}"):
            with urllib.request.urlopen(relay.url + path) as answer:
                assert answer.status == 200
        status = Path(f"/proc/{relay.pid}/status").read_text()
        resident = int(next(line for line in status.splitlines() if "VmRSS" in line).split()[1]) / 1024
        assert resident < BASE_MB + count * BYTES_A_KEY / 1024 / 1024, f"{resident:.0f} MB"
