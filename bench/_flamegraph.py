"""A flame graph as an SVG that shows the whole in a page: stacks from the bottom up, as wide as the share they took."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape

__all__ = ["Stacks", "read", "svg"]

Stacks = Mapping[tuple[str, ...], int]

WIDTH, ROW, MARGIN, TOP = 1_200, 17, 10, 34
LEAST = 0.003  # of all samples: narrower frames hold no letter, and only make the file large
LETTER = 6.8  # pixels of a letter of 11 px, on average
# Okabe and Ito's colours, lightened so that black text reads on them
COLOURS = {"ours": "#8cc5e8", "python": "#cfe6f4", "native": "#f0c28c", "thread": "#dddddd"}
# frames that say nothing: without a name, inlined from headers of CPython and libuv, or the plumbing of uvloop
_NOISE = re.compile(
    r"^0x[0-9a-f]+ |^\[unknown\]|\((object|abstract|queue|pycore_\w+)\.h|\((loop|loop-watcher|core|async)\.c"
)
# a thread that waits uses no CPU; py-spy cannot tell when it reads native stacks
_WAITING = re.compile(r"SimpleQueue_get|acquire_lock_timed|epoll_p?wait|cond_timedwait|take_gil")
# the last of these is where the work of a thread begins
_BEGIN = re.compile(r"uv_run |Runner\.run \(asyncio|_worker \(concurrent|_connection_worker_thread \(aiosqlite")
_THREADS = {"MainThread": "event loop", "verify": "verifier threads", "_connection_worker": "store threads"}
_LINE = re.compile(r":\d+\)$")


@dataclass(slots=True)
class _Frame:
    samples: int = 0
    above: dict[str, _Frame] = field(default_factory=dict)


def read(raw: str) -> Counter[tuple[str, ...]]:
    """Read collapsed stacks, as py-spy's `--threads --format raw` writes them: frames with semicolons, and a count.

    What stands below the work itself is the same for all, and left out; so are line numbers and threads that wait.
    """
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in raw.splitlines():
        text, _, count = line.rpartition(" ")
        if _WAITING.search(text):
            continue
        thread, *frames = text.split(";")
        name = next((name for part, name in _THREADS.items() if part in thread), "other threads")
        begin = max((at for at, frame in enumerate(frames) if _BEGIN.match(frame)), default=-1) + 1
        kept = [_LINE.sub(")", frame) for frame in frames[begin:] if not _NOISE.search(frame)]
        if kept:  # nothing but nameless addresses of the C library: it waits for a lock
            once = (frame for frame, before in zip(kept, ["", *kept], strict=False) if frame != before)
            stacks[(name, *once)] += int(count)
    return stacks


def svg(stacks: Stacks, title: str) -> str:
    """Draw stacks; hovering over a frame shows its name and share."""
    root = _Frame()
    for stack, count in stacks.items():
        frame = root
        frame.samples += count
        for name in stack:
            frame = frame.above.setdefault(name, _Frame())
            frame.samples += count
    boxes = list(_boxes(root, root.samples, 0.0, 0))
    height = TOP + (max((row for *_, row in boxes), default=0) + 1) * ROW + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-size="11" '
            'font-family="sans-serif">',
            "<style>" + "".join(f".{kind}{{fill:{fill}}}" for kind, fill in COLOURS.items()),
            "rect{stroke:#fff;stroke-width:.5}</style>",
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            f'<text x="{MARGIN}" y="20" font-size="15">{escape(title)}</text>',
            *_legend(),
            *(_drawn(*box, height) for box in boxes),
            "</svg>\n",
        ]
    )


def _boxes(frame: _Frame, total: int, left: float, row: int) -> Iterator[tuple[str, float, float, int]]:
    """Give name, left, width (of 1) and row of all that is wide enough to see."""
    for name, child in sorted(frame.above.items()):
        width = child.samples / total
        if width >= LEAST:
            yield name, left, width, row
            yield from _boxes(child, total, left, row + 1)
        left += width


def _drawn(name: str, left: float, width: float, row: int, height: int) -> str:
    scale = WIDTH - 2 * MARGIN
    x, wide, y = MARGIN + left * scale, width * scale, height - MARGIN - (row + 1) * ROW
    short = name.partition(" (")[0]
    shown = short if len(short) * LETTER < wide else short[: max(0, int(wide / LETTER) - 1)]
    text = f'<text x="{x + 2:.1f}" y="{y + 12}">{escape(shown)}</text>' if len(shown) > 2 else ""
    about = f"<title>{escape(name)}: {width:.1%}</title>"
    box = f'<rect class="{_kind(name, row)}" x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{ROW}"/>'
    return f"<g>{about}{box}{text}</g>"


def _kind(name: str, row: int) -> str:
    if not row:
        return "thread"
    if "(anporia_" in name:
        return "ours"
    return "python" if ".py)" in name or "(<" in name else "native"


def _legend() -> Iterator[str]:
    texts = {"ours": "this repository", "python": "other Python", "native": "compiled"}
    for place, (kind, text) in enumerate(texts.items()):
        x = WIDTH - 330 + place * 110
        yield f'<rect class="{kind}" x="{x}" y="10" width="12" height="12"/><text x="{x + 16}" y="20">{text}</text>'
