"""Shapes of load, for locust. Steady is locust's own `--users` for `--run-time`."""

from __future__ import annotations

import time
from typing import Any

from locust import LoadTestShape

from ..curves import users_at, usual_seconds

__all__ = ["BY_NAME", "Ramp", "Shape", "Soak", "Spike"]


class Shape(LoadTestShape):
    """Follows one of the curves, between `--users` and `--run-time`."""

    abstract = True
    use_common_options = True
    name = ""

    def tick(self) -> tuple[int, float] | None:
        """Say how many users there are to be now, and how fast to get there; None ends the run."""
        assert self.runner is not None
        options: Any = self.runner.environment.parsed_options
        users, seconds = options.num_users or 50, options.run_time or usual_seconds(self.name)
        elapsed = time.perf_counter() - self.start_time
        if elapsed >= seconds:
            return None
        return users_at(self.name, elapsed, seconds, users), float(max(10, users))


class Ramp(Shape):
    """Ever more users, up to all."""

    name = "ramp"


class Spike(Shape):
    """A fifth of the users, then all at once, then a fifth again."""

    name = "spike"


class Soak(Shape):
    """A tide, for long runs."""

    name = "soak"


BY_NAME = {shape.name: shape for shape in (Ramp, Spike, Soak)}
