"""Signing in a process of its own, so that neither keys nor proof of work ever hold up those who send.

Run as `python -m anporia_loadtest.signer SEED RATE`: each line `WHAT COUNT` that comes in is answered by so many lines
`WHAT VALUE`, each dated as it is signed. `what` is one of the names of `Ware`.
"""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum

import orjson

from .chains import make_chain
from .deeds import make_deed, make_flood
from .posts import Authors

__all__ = ["Signer", "Ware"]


class Ware(StrEnum):
    """What can be asked for."""

    POST = "post"
    ONCE = "once"  # a post of an author who says nothing else
    CHAIN = "chain"
    DEED = "deed"
    FLOOD = "flood"


class Signer:
    """Makes the wares. `rate`: events a minute that the relay allows an agent."""

    def __init__(self, seed: str, rate: int) -> None:
        choose = random.Random(seed)
        authors = Authors(choose)
        self._makers: dict[Ware, Callable[[], bytes]] = {
            Ware.POST: lambda: authors.next().to_json(),
            Ware.ONCE: lambda: Authors(choose).next().to_json(),
            Ware.CHAIN: lambda: orjson.dumps(make_chain(choose).to_json()),
            Ware.DEED: lambda: orjson.dumps(make_deed(choose).to_json()),
            Ware.FLOOD: lambda: orjson.dumps(make_flood(rate).to_json()),
        }

    def make(self, ware: Ware, count: int) -> Iterator[bytes]:
        """Give `count` wares of one sort, each signed when it is asked for."""
        maker = self._makers[ware]
        for _ in range(count):
            yield maker()


def serve(seed: str, rate: int) -> None:
    """Answer demands on stdin until it ends."""
    signer = Signer(seed, rate)
    for line in sys.stdin.buffer:
        ware, count = line.split()
        name = Ware(ware.decode())
        for made in signer.make(name, int(count)):
            sys.stdout.buffer.write(b"%b %b\n" % (ware, made))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asked; this process ends with its stdin
    try:
        serve(sys.argv[1], int(sys.argv[2]))
    except BrokenPipeError:
        sys.stdout = None
