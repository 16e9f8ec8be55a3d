"""Charts of what the benches found, as PNG: drawn from the rows of `build/bench.json`, so that a page can be made anew.

Each is left out when its figures are not among the rows, or failed. Colours are Okabe and Ito's, which the
colour-blind tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PARTS", "draw"]

BLUE, ORANGE, GREEN, SKY, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#999999", "#333333"
WIDTH, HEIGHT, DPI = 8.0, 4.0, 160  # inches; text of 11 points reads well where the picture is 800 pixels wide
PARTS = {"signature": BLUE, "Python": SKY, "kernel": ORANGE, "SQLite": GREEN, "rest": GREY}

Row = Mapping[str, Any]


def draw(folder: Path, rows: Sequence[Row]) -> list[Path]:
    """Draw each chart for which there are figures; gives the files."""
    import matplotlib as mpl

    mpl.use("Agg")  # no window, and no display needed
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    valid = [row for row in rows if "median" in row]
    drawn = []
    ink = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    style: Any = {"font.size": 11, "axes.spines.top": False, "axes.spines.right": False, **ink}
    for name, (height, picks, paint) in _CHARTS.items():
        if not (picked := [row for row in valid if picks(row)]):
            continue
        with plt.rc_context(style):
            figure, axes = plt.subplots(figsize=(WIDTH, height), layout="constrained")
            paint(axes, picked)
            path = folder / f"{name}.png"
            # nothing of the day and the version in the file: what did not change gives the same bytes
            figure.savefig(path, dpi=DPI, metadata={"Software": None})
            plt.close(figure)
        drawn.append(path)
    return drawn


def _published(axes: Axes, rows: Sequence[Row]) -> None:
    # from the bottom up: theirs, then ours, each with the largest on top
    order = sorted(rows, key=lambda row: (row["whose"] == "ours", float(row["median"])))
    names = {"batch": "batches of 500", "batch, one core": "batches of 500, one core"}
    names |= {"batch, each its own author": "batches, new authors", "POST, each its own author": "POST, new authors"}
    labels = [names.get(row["bar"], row["bar"].replace("published", "POST")) for row in order]
    for whose, colour, label in (("ours", BLUE, "this relay"), ("published", ORANGE, "published relay")):
        places = [place for place, row in enumerate(order) if row["whose"] == whose]
        if places:
            axes.barh(places, [order[place]["median"] for place in places], color=colour, label=label)
    axes.set_yticks(range(len(order)), labels)
    axes.set_xscale("log")
    axes.set_xlim(100, max(row["median"] for row in order) * 2)
    _numbers(axes, [(row["median"], place) for place, row in enumerate(order)])
    axes.set_xlabel("events accepted a second (logarithmic)")
    axes.legend(loc="lower right", frameon=False)


def _numbers(axes: Axes, ends: Sequence[tuple[float, float]]) -> None:
    """Write each bar's length at its end."""
    for value, place in ends:
        axes.annotate(f"{value:,.0f}", (value, place), (4, 0), textcoords="offset points", va="center")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _growth(axes: Axes, rows: Sequence[Row]) -> None:
    for way, colour, mark in (("POST", BLUE, "o"), ("batch", ORANGE, "s")):
        own = sorted((row for row in rows if row["way"] == way), key=lambda row: int(row["stored"]))
        if own:
            label = {"POST": "POST, 128 connections", "batch": "batches of 500, 8 connections"}[way]
            _line(axes, [row["stored"] for row in own], own, colour, mark, label)
    axes.set_xscale("log")
    sizes = sorted({int(row["stored"]) for row in rows})
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("events stored (logarithmic)")
    axes.set_ylabel("server CPU, µs an event")
    axes.legend(frameon=False)


def _latency(axes: Axes, rows: Sequence[Row]) -> None:
    for series, colour, mark in (("p50", BLUE, "o"), ("p99", ORANGE, "s")):
        own = sorted((row for row in rows if row["series"] == series), key=lambda row: int(row["offered"]))
        if own:
            _line(axes, [row["offered"] for row in own], own, colour, mark, series)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    rates = sorted({int(row["offered"]) for row in rows})
    axes.set_xticks(rates, [f"{rate:,}" for rate in rates], rotation=0)
    axes.tick_params(axis="x", labelsize=10)
    axes.set_xlabel("events offered a second, over 64 connections")
    axes.set_ylabel("ms until acknowledged (logarithmic)")
    axes.legend(frameon=False)


def _line(axes: Axes, places: Sequence[float], rows: Sequence[Row], colour: str, mark: str, label: str) -> None:
    """Draw medians as a line, and from the lowest to the highest run as a shade."""
    axes.plot(places, [row["median"] for row in rows], color=colour, marker=mark, label=label)
    low, high = [min(row["runs"]) for row in rows], [max(row["runs"]) for row in rows]
    axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)


def _deliveries(axes: Axes, rows: Sequence[Row]) -> None:
    order = sorted(rows, key=lambda row: float(row["median"]))
    names = {"flat out": "events in batches", "flat out, singly": "one event at a time"}
    labels = [str(row["name"]).removesuffix(": deliveries") for row in order]
    values = [float(row["median"]) for row in order]
    axes.barh(range(len(order)), values, color=BLUE, height=0.5)
    axes.set_yticks(range(len(order)), [names.get(label, label) for label in labels])
    axes.set_xlim(0, max(values) * 1.15)
    _numbers(axes, [(value, place) for place, value in enumerate(values)])
    axes.set_xlabel("deliveries a second")


def _shares(axes: Axes, rows: Sequence[Row]) -> None:
    ways = list(dict.fromkeys(str(row["way"]) for row in rows))[::-1]
    left = dict.fromkeys(ways, 0.0)
    for part, colour in PARTS.items():
        widths = {row["way"]: math.fsum(row["us"]) / len(row["us"]) for row in rows if row["part"] == part}
        own = [way for way in ways if way in widths]
        axes.barh(own, [widths[way] for way in own], 0.5, [left[way] for way in own], color=colour, label=part)
        for way in own:
            if widths[way] >= 3:  # below that the number does not fit
                middle, ink = left[way] + widths[way] / 2, INK if colour in (SKY, GREY) else "white"
                axes.annotate(f"{widths[way]:.0f}", (middle, way), ha="center", va="center", color=ink)
            left[way] += widths[way]
    axes.set_xlabel("server CPU, µs an event")
    axes.legend(frameon=False, ncols=len(PARTS), loc="upper center", bbox_to_anchor=(0.5, 1.25))


# by file: how high, which rows, and what is made of them
_CHARTS: dict[str, tuple[float, Callable[[Row], bool], Callable[[Axes, Sequence[Row]], None]]] = {
    "published": (HEIGHT, lambda row: row.get("chart") == "published", _published),
    "growth": (HEIGHT, lambda row: row.get("chart") == "growth", _growth),
    "latency": (HEIGHT, lambda row: row.get("chart") == "latency", _latency),
    # by their names, which stand in bench/fanout.py
    "deliveries": (2.0, lambda row: row.get("bench") == "fanout" and row["name"].endswith(": deliveries"), _deliveries),
    "cpu": (2.6, lambda row: row.get("chart") == "cpu", _shares),
}
