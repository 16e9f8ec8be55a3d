"""The readers with which streams are measured: what they count, what they notice; and that the benches run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from bench._streams import Frames

ROOT = Path(__file__).resolve().parent.parent
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nAnporia-Place: 5f-ab-9\r\n\r\n"
CONNECTED, PING = b": connected\n\n", b": ping\n\n"


def frame(seq: int, topic: str = "a") -> bytes:
    """Make a frame whose text holds what might be taken for a frame."""
    event = {"id": f"{seq:064x}", "tags": [["t", topic]], "content": "id: x-7\ndata: {}\n\n"}
    return f"id: 5f-ab-{seq}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n".encode()


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


def read(pieces: Iterable[bytes], *, contiguous: bool = True, every_id: bool = False, needle: bytes = b"") -> Frames:
    frames = Frames(contiguous=contiguous, every_id=every_id, needle=needle)
    given = sum(frames.feed(piece) for piece in pieces)
    assert given == frames.count
    return frames


@pytest.mark.parametrize("every_id", [False, True])
def test_frames_are_counted_wherever_reads_and_chunks_cut_them(every_id: bool) -> None:
    torn = frame(12)
    stream = HEAD + chunked(
        CONNECTED, frame(10) + frame(11), torn[:8], torn[8:100], torn[100:-1], torn[-1:] + PING, PING, frame(13)
    )
    for at in range(len(stream) + 1):
        frames = read([stream[:at], stream[at:]], every_id=every_id)
        assert (frames.count, frames.place, frames.fault, frames.ended) == (4, 13, "", False)
    frames = read((stream[at : at + 1] for at in range(len(stream))), every_id=every_id)
    assert (frames.count, frames.place, frames.fault) == (4, 13, "")


def test_a_stream_has_started_with_its_first_comment() -> None:
    frames = read([HEAD])
    assert not frames.started
    frames.feed(chunked(CONNECTED))
    assert frames.started


def test_an_answer_without_chunks_is_read_too() -> None:
    stream = b"HTTP/1.0 200 OK\r\nanporia-place: ab-9\r\n\r\n" + CONNECTED + frame(10) + frame(11)
    for at in range(len(stream) + 1):
        frames = read([stream[:at], stream[at:]])
        assert (frames.count, frames.place, frames.fault) == (2, 11, "")


@pytest.mark.parametrize("every_id", [False, True])
@pytest.mark.parametrize(
    "seqs", [[11], [10, 12], [10, 10], [10, 11, 11], [10, 12, 11], [11, 10], [9, 10]], ids=lambda seqs: str(seqs)
)
def test_gaps_duplicates_and_reorderings_are_faults(seqs: list[int], every_id: bool) -> None:
    in_one_chunk = HEAD + chunked(CONNECTED, b"".join(map(frame, seqs)))
    assert read([in_one_chunk], every_id=every_id).fault
    assert read([HEAD, *(chunked(frame(seq)) for seq in seqs)], every_id=every_id).fault


def test_only_looking_at_each_id_tells_of_two_in_the_middle_that_changed_places() -> None:
    stream = HEAD + chunked(b"".join(map(frame, [10, 12, 11, 13])))
    assert not read([stream]).fault
    assert read([stream], every_id=True).fault


def test_with_a_filter_there_may_be_gaps_but_nothing_else() -> None:
    needle = b'["t","a"]'
    assert not read([HEAD, chunked(frame(10), frame(14) + frame(20))], contiguous=False, needle=needle).fault
    assert read([HEAD, chunked(frame(14) + frame(10))], contiguous=False, needle=needle).fault
    assert read([HEAD, chunked(frame(10), frame(11, "b"))], contiguous=False, needle=needle).fault


def test_the_end_and_its_reason_are_seen() -> None:
    frames = read([HEAD, chunked(CONNECTED, frame(10), b": cut, slow reader\n\n"), b"0\r\n\r\n"])
    assert (frames.count, frames.ended, frames.comment) == (1, True, b": cut, slow reader")


def test_a_refusal_is_a_fault() -> None:
    assert read([b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}"]).fault


FANOUT = [
    "flat out: deliveries",
    "flat out: server CPU a delivery",
    "flat out, singly: deliveries",
    "flat out, singly: server CPU a delivery",
    *(f"{rate}/s: {what}, {share}" for rate in (20, 100) for what in ("acknowledged", "delivered after that")
      for share in ("p50", "p99")),
    "cost of an event, bystanders / none",
]  # fmt: skip
CROWDS = [
    "streams with a filter each: memory, each",
    "streams with a filter each: the whole relay",
    "streams with a filter each: connecting all",
    "stopped readers: memory grown",
    *(f"stopped readers: others' {what}, p99 with / without" for what in ("POST", "delivery")),
    *(f"{who}: {what}" for who in ("idle", "half-open")
      for what in ("memory, each", "memory grown while they stay", "others' POST, p99 with / without")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), [("fanout", FANOUT), ("crowds", CROWDS)])
def test_the_benches_run(tmp_path: Path, name: str, expected: list[str]) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", f"bench.{name}", "--quick", "--runs", "1", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())["figures"]
    assert [row["name"] for row in rows] == expected
    # how fast is for the benches; that every delivery came, once, in order and where it belongs, is for a test
    assert [row["name"] for row in rows if row["failures"]] == []
