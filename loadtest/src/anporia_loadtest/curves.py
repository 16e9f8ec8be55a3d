"""How many users there are at a moment of a run: pure, so that they can be looked at without running anything."""

from __future__ import annotations

import math

__all__ = ["SHAPES", "users_at", "usual_seconds"]

SHAPES = ("steady", "ramp", "spike", "soak")

_TIDE_S = 300.0  # of a soak


def usual_seconds(shape: str) -> int:
    """Give how long a run of this shape lasts when nobody says."""
    return 1_800 if shape == "soak" else 60


def users_at(shape: str, elapsed: float, seconds: float, users: int) -> int:
    """Give the number of users, 1 to `users`.

    steady: all the time all; ramp: up over four fifths of the time, then held; spike: a fifth of them, all from 40 to
    60 % of the time, then a fifth again; soak: a tide of five minutes between two thirds and all.
    """
    part = min(1.0, max(0.0, elapsed / seconds))
    share = 1.0
    if shape == "ramp":
        share = part / 0.8
    elif shape == "spike":
        share = 1.0 if 0.4 <= part < 0.6 else 0.2
    elif shape == "soak":
        share = 5 / 6 - math.cos(2 * math.pi * elapsed / _TIDE_S) / 6
    return max(1, min(users, math.ceil(users * share - 1e-9)))
