"""Bits against latency: the profiles, and what each would be with other delays."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..mix.profiles import PROFILES, Profile
from .outcome import Outcome, gigabytes_a_day
from .scenario import Scenario, simulate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FACTORS", "Point", "draw", "sweep"]

FACTORS = (0.03, 0.1, 0.2, 0.4, 0.7, 1.0, 2.0)  # of a profile's delay; 1 is the profile itself
_FLIGHTS = 25_000  # a point is worth: some hundred messages, one or two seconds of work
_COLOURS = {"fast": "#D55E00", "balanced": "#0072B2", "slow": "#009E73"}  # Okabe and Ito's, told apart by all
_INK = "#333333"


@dataclass(frozen=True, slots=True)
class Point:
    """One simulation of the curve: seconds one way and bits, on average; bits that all but a twentieth have."""

    profile: str
    factor: float
    seconds: float
    bits: float
    low_bits: float
    max_bits: float


def sweep(scenario: Scenario, progress: Callable[[float], None] = lambda done: None) -> list[Point]:
    """Simulate all profiles, each with its delay and others, for as long as each needs; the rest as in `scenario`."""
    points: list[Point] = []
    orders = [(profile, factor) for profile in PROFILES.values() for factor in FACTORS]
    for done, (profile, factor) in enumerate(orders):
        one = replace(profile, mean_delay=profile.mean_delay * factor)
        minutes = _FLIGHTS / (profile.packets_per_second * scenario.nodes) / 60

        def within(part: float, done: int = done) -> None:
            progress((done + part) / len(orders))

        outcome = simulate(replace(scenario, profile=one, minutes=minutes), within)
        if outcome.bits and outcome.latencies:
            points.append(_point(factor, outcome))
    return points


def _point(factor: float, outcome: Outcome) -> Point:
    bits = sorted(outcome.bits)
    seconds = statistics.fmean(outcome.latencies) / 1e3
    return Point(outcome.profile.name, factor, seconds, statistics.fmean(bits), bits[len(bits) // 20], outcome.max_bits)


def draw(points: Sequence[Point], title: str, file: Path) -> None:
    """Draw the points of `sweep` as a PNG. Raises `OSError` where the file cannot be written."""
    import matplotlib as mpl

    mpl.use("Agg")  # no window, and no display needed
    import matplotlib.pyplot as plt

    ink = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), _INK)
    style: Any = {"font.size": 11, "axes.spines.top": False, "axes.spines.right": False, **ink}
    with plt.rc_context(style):
        # inches; text of 11 points reads well where the picture is 800 pixels wide
        figure, axes = plt.subplots(figsize=(8.0, 4.6), layout="constrained")
        for name, colour in _COLOURS.items():
            own = [point for point in points if point.profile == name]
            if own:
                _draw_profile(axes, PROFILES[name], own, colour)
        if points:
            axes.axhline(points[0].max_bits, color="#999999", linestyle=":", linewidth=1)
            axes.annotate(
                f"nothing known: {points[0].max_bits:.2f} bits",
                (0.0, points[0].max_bits),
                xycoords=("axes fraction", "data"),
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=9,
            )
        axes.set_xscale("log")
        axes.set_ylim(bottom=0.0, top=max((point.max_bits for point in points), default=1.0) * 1.12)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("one way, on average (seconds)")
        axes.set_ylabel("uncertainty about the author (bits)")
        how = "line: mean; shade: down to the worst twentieth of the messages; dot: the profile"
        axes.set_title(f"{title}\n{how}", loc="left", fontsize=10)
        costs = "what each node sends a day, and receives as much"
        axes.legend(title=costs, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=3, fontsize=9)
        # nothing of the day and the version in the file: what did not change gives the same bytes
        figure.savefig(file, format="png", dpi=160, metadata={"Software": None})
        plt.close(figure)


def _draw_profile(axes: Axes, profile: Profile, points: Sequence[Point], colour: str) -> None:
    ordered = sorted(points, key=lambda point: point.seconds)
    seconds = [point.seconds for point in ordered]
    cost = f"{profile.name}: {gigabytes_a_day(profile.packets_per_second):.3g} GB"
    axes.plot(seconds, [point.bits for point in ordered], color=colour, linewidth=1.8, label=cost)
    axes.fill_between(
        seconds, [point.low_bits for point in ordered], [point.bits for point in ordered], color=colour, alpha=0.12
    )
    for point in ordered:
        if point.factor == 1.0:
            axes.plot(point.seconds, point.bits, "o", color=colour, markersize=8)
            axes.annotate(
                f"{profile.name}\n{point.bits:.2f} bits",
                (point.seconds, point.bits),
                xytext=(10, -30),
                textcoords="offset points",
                fontsize=9,
            )
