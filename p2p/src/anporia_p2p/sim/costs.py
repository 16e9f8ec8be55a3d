"""What real packets cost on this processor, measured now: the service time of simulated nodes."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

from ..mix.packets import Leg, SphinxPackets
from ..sphinx import MAX_HOPS, REPLY_BLOCK_BYTES
from .flights import Costs

__all__ = ["measure"]

_ROUNDS = 200  # a tenth of a second; the median of so many moves by a few per cent


def measure(rounds: int = _ROUNDS) -> tuple[Costs, float]:
    """Measure unwrapping and building packets of five hops, and making a reply block; medians, in seconds.

    Gives the costs, and that of a reply block.
    """
    packets = SphinxPackets()
    private = packets.private(os.urandom(32))
    path = [Leg(os.urandom(32), private.public) for _ in range(MAX_HOPS)]
    packet = packets.build(path, b"")
    block, _, _ = packets.make_reply_block(path)
    assert len(block) == REPLY_BLOCK_BYTES
    unwrap = _median(lambda: private.open(packet).unwrap(), rounds)
    build = _median(lambda: packets.build(path, b""), rounds // 2)
    reply_block = _median(lambda: packets.make_reply_block(path), rounds // 2)
    return Costs(unwrap, build), reply_block


def _median(action: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(max(1, rounds)):
        started = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)
