"""Answers kept as bytes: fresh when cheap, and at most a twentieth of a core when not."""

from __future__ import annotations

from anporia_relay.cached import Cached


class Clock:
    """A wall clock and what the thread has used; making an answer takes `price`."""

    def __init__(self, price: float) -> None:
        self.now = self.used = 0.0
        self.made = 0
        self.price = price

    def make(self) -> bytes:
        self.made += 1
        self.used += self.price
        self.now += self.price
        return b"%d" % self.made


def cached(clock: Clock) -> Cached[bytes]:
    return Cached(lambda: clock.now, lambda: clock.used)


def test_nothing_is_made_twice_for_one_version() -> None:
    clock = Clock(price=1.0)
    answer = cached(clock)
    assert [answer.get("a", clock.make) for _ in range(3)] == [b"1"] * 3
    clock.now += 1_000
    assert answer.get("a", clock.make) == b"1"


def test_what_is_cheap_is_always_of_the_version_asked_for() -> None:
    clock = Clock(price=0.004)
    answer = cached(clock)
    assert [answer.get(version, clock.make) for version in range(5)] == [b"1", b"2", b"3", b"4", b"5"]


def test_what_is_costly_is_late_by_twenty_times_its_cost() -> None:
    clock = Clock(price=0.1)
    answer = cached(clock)
    assert answer.get(1, clock.make) == b"1"
    clock.now += 1.9
    assert answer.get(2, clock.make) == b"1"
    clock.now += 0.2
    assert answer.get(2, clock.make) == b"2"
    assert answer.get(3, clock.make) == b"2"


def test_waiting_for_a_core_makes_nothing_costly() -> None:
    clock = Clock(price=0.001)
    answer = cached(clock)

    def slow() -> bytes:
        clock.now += 5
        return clock.make()

    assert answer.get(1, slow) == b"1"
    assert answer.get(2, slow) == b"2"


def test_an_answer_that_fails_leaves_the_last_one() -> None:
    clock = Clock(price=0.001)
    answer = cached(clock)
    answer.get(1, clock.make)

    def fail() -> bytes:
        raise ValueError

    for _ in range(2):
        try:
            answer.get(2, fail)
        except ValueError:
            continue
        raise AssertionError
    assert answer.get(1, clock.make) == b"1"
