"""How long to wait before asking again."""

from __future__ import annotations

import random

__all__ = ["backoff"]

_FIRST_S = 0.25  # a relay that restarts is back within a second or two
_LONGEST_S = 30.0  # by then a person has noticed, and one request in 30 s burdens nobody


def backoff(attempt: int) -> float:
    """Give seconds to wait before attempt number `attempt`, 1 and up: doubling to 30, with jitter.

    So that the agents a relay lost at one moment do not all come back at another.
    """
    ceiling = min(_LONGEST_S, _FIRST_S * 2.0 ** min(attempt, 16))
    return random.uniform(ceiling / 4, ceiling)
