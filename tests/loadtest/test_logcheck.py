"""Streams held against the log: what should have come, what came, and what is due."""

from __future__ import annotations

from anporia_loadtest.logcheck import StreamsCheck, check_streams
from anporia_loadtest.observations import StreamSeen
from anporia_wire import Event, Keypair

KEY = Keypair(b"7" * 32)
LOG = [
    (number, Event.create(KEY, 1, str(number), [("t", "ab"[number % 2])], created_at=1_000)) for number in range(1, 11)
]
ODD = [1, 3, 5, 7, 9]


def check(numbers: list[int], *, start: int = 0, left_at: float = 100.0, acked_at: float = 50.0) -> StreamsCheck:
    stream = StreamSeen({"t": "b"}, start, numbers, left_at)
    return check_streams(LOG, [stream], {event.id: acked_at for _, event in LOG})


def faults(found: StreamsCheck) -> tuple[int, int, int]:
    return found.gaps, found.repeats, found.strays


def test_a_stream_that_gave_what_matches_is_right() -> None:
    assert faults(check(ODD)) == (0, 0, 0)
    assert faults(check([5, 7, 9], start=4)) == (0, 0, 0)


def test_a_frame_left_out_is_a_gap() -> None:
    found = check([1, 3, 7, 9])
    assert faults(found) == (1, 0, 0) and found.examples[0].startswith("5 never came")


def test_what_was_acknowledged_well_before_the_end_is_due() -> None:
    assert faults(check([1, 3, 5])) == (2, 0, 0)
    assert faults(check([1, 3, 5], acked_at=99.0)) == (0, 0, 0)
    assert faults(check([1, 3, 5], left_at=0.0)) == (0, 0, 0)


def test_a_frame_that_comes_twice_or_out_of_order_or_for_others_is_a_fault() -> None:
    assert faults(check([1, 3, 3, 5, 7, 9])) == (0, 1, 0)
    assert faults(check([1, 5, 3, 7, 9])) == (0, 0, 1)
    assert faults(check([1, 2, 3, 5, 7, 9])) == (0, 0, 1)
    assert faults(check([*ODD, 77])) == (0, 0, 1)
    assert faults(check(ODD, start=4)) == (0, 0, 2)
