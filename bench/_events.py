"""Signed events for the benches of publishing: honest ones, forged ones, ones with a wrong id, and their requests."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence

import orjson

from anporia_wire import Event, Keypair
from bench._load import http_post

__all__ = ["BATCH_EVENTS", "PER_AUTHOR", "batches", "forged", "posts", "signed_events", "wrong_id"]

PER_AUTHOR = 50  # of the 60 a minute that both relays allow
BATCH_EVENTS = 500  # as in the design's measurements
ORDER = 2**252 + 27742317777372353535851937790883648493  # of Ed25519's group (RFC 8032, section 5.1)


def signed_events(count: int, per_author: int = PER_AUTHOR) -> list[bytes]:
    """Sign kind-1 events of about 500 bytes with a fresh date."""
    now = int(time.time())
    events = []
    for at in range(count):
        if at % per_author == 0:
            author = Keypair.generate()
        content = f"observation {at}: " + "the quick brown fox watches the relay " * 4
        events.append(Event.create(author, 1, content[:150], [["t", f"room{at % 20}"], ["lang", "en"]], created_at=now))
    return [event.to_json() for event in events]


def posts(events: Sequence[bytes]) -> list[bytes]:
    """Make a request of each event."""
    return [http_post("/events", raw) for raw in events]


def batches(events: Sequence[bytes], size: int = BATCH_EVENTS) -> list[bytes]:
    """Make NDJSON requests of so many events each."""
    bodies = [b"\n".join(events[at : at + size]) for at in range(0, len(events), size)]
    return [http_post("/events/batch", body, "application/x-ndjson") for body in bodies]


def forged(events: Sequence[bytes], seed: int = 1) -> list[bytes]:
    """Give the events with signatures that do not hold, in four ways that take turns.

    A flipped bit in either half, random bytes, and a signature of the same author under another event. All keep the
    scalar below the group's order, since one above it is refused for nothing: each costs a whole verification.
    """
    draw = random.Random(seed)
    spoiled = []
    for at, raw in enumerate(events):
        event = orjson.loads(raw)
        signature = bytearray.fromhex(event["sig"])
        way = at % 4
        if way == 0:
            signature[draw.randrange(32)] ^= 1 << draw.randrange(8)
        elif way == 1:
            signature[32 + draw.randrange(16)] ^= 1 << draw.randrange(8)  # the low half: it stays below the order
        elif way == 2:
            signature[:] = draw.randbytes(32) + draw.randrange(ORDER).to_bytes(32, "little")
        else:
            other = orjson.loads(events[at - 1])
            signature[:] = bytes.fromhex(other["sig"])
        spoiled.append(orjson.dumps({**event, "sig": signature.hex()}))
    return spoiled


def wrong_id(events: Sequence[bytes]) -> list[bytes]:
    """Give the events under ids that are not theirs: refused after all that comes before the signature."""
    return [orjson.dumps({**orjson.loads(raw), "id": os.urandom(32).hex()}) for raw in events]
