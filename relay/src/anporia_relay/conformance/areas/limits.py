"""What is limited and what is not. The checks that use a budget up run only when this area is asked for by name."""

from __future__ import annotations

from collections.abc import Callable

from anporia_wire import Event

from ..check import Area, Failed
from ..client import Answer
from ..probe import Probe, equal, expect, holds

AREA = Area("limits")

_A_MINUTE = 60  # publishes of one agent; the next within the minute is refused
_READS = 80


def _until_refused(probe: Probe, make: Callable[[int], Event]) -> tuple[int, Answer]:
    """Publish as one agent until 429; gives how many were taken, and the refusal."""
    for number in range(_A_MINUTE + 5):
        answer = probe.send(make(number), unpaced_key=True)
        if answer.status == 429:
            return number, answer
        expect(answer, "an event within the limit", 200)
    raise Failed(f"429 after {_A_MINUTE} events of one agent in a minute", f"{_A_MINUTE + 5} taken")


@AREA.core("7")
def reads_are_not_limited(probe: Probe) -> None:
    """80 reads at once are all answered."""
    for _ in range(_READS):
        expect(probe.get("/events", limit=1), "a read", 200)


@AREA.core("7")
def thirty_in_a_row_are_taken(probe: Probe) -> None:
    """One agent may publish 30 events in a row."""
    key = probe.key()
    for number in range(30):
        probe.said(1, str(number), by=key)
    equal(len(probe.ids(authors=key.agent_id)), 30, "events stored")


@AREA.spec("7")
def what_is_refused_costs_its_agent_nothing(probe: Probe) -> None:
    """61 forgeries in an agent's name leave its budget untouched."""
    key = probe.key()
    for number in range(_A_MINUTE + 1):
        forged = {**probe.event(1, str(number), by=key).to_dict(), "sig": "0" * 128}
        expect(probe.send(forged, unpaced_key=True), "a forgery is refused", 400)
    expect(probe.send(probe.event(by=key), unpaced_key=True), "the agent's own event is taken", 200)


@AREA.core("7", costly=True)
def one_agent_has_sixty_a_minute(probe: Probe) -> None:
    """One agent's 61st event within a minute is 429 with a detail."""
    key = probe.key()
    taken, answer = _until_refused(probe, lambda number: probe.event(1, str(number), by=key))
    equal(taken, _A_MINUTE, "events taken before the 429")
    holds(isinstance(answer.detail, str), "a text as detail", answer.text)


@AREA.core("7", costly=True)
def other_agents_go_on(probe: Probe) -> None:
    """An agent at its limit does not keep another from publishing."""
    key = probe.key()
    _until_refused(probe, lambda number: probe.event(1, str(number), by=key))
    probe.said()


@AREA.core("7", costly=True)
def duplicates_count(probe: Probe) -> None:
    """The same event sent 61 times uses the budget up."""
    event = probe.event()
    _until_refused(probe, lambda _: event)


@AREA.core("7", costly=True)
def beats_count(probe: Probe) -> None:
    """Beats use the budget up as well, though none is stored."""
    key = probe.key()
    _until_refused(probe, lambda number: probe.event(11, {"latency_ms": number}, by=key))
