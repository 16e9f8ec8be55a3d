"""Kind 7: what flags do, and GET /events/{id}/flags."""

from __future__ import annotations

from anporia_wire import Event, Keypair

from ..check import Area
from ..probe import Probe, equal, has

AREA = Area("flags")

_HIDES = 3  # distinct agents


def _flag(probe: Probe, event: Event, by: Keypair | None = None, at: int = 0) -> Event:
    return probe.said(7, {"category": "spam", "reason": "conformance"}, ["e", event.id], by=by, at=at)


def _flagged(probe: Probe) -> tuple[str, Event, list[Event]]:
    topic = probe.word()
    event = probe.said(1, "flagged", ["t", topic])
    equal(probe.ids(t=topic), [event.id], "events on the topic before the flags")
    start = probe.now() - 30
    return topic, event, [_flag(probe, event, at=start + number) for number in range(_HIDES)]


@AREA.spec("9")
def list_has_its_shape(probe: Probe) -> None:
    """The answer is {event_id, flag_count, flags}."""
    _, event, _ = probe.once(_flagged)
    answer = probe.value(f"/events/{event.id}/flags")
    has(answer, ("event_id", "flag_count", "flags"), "flags")
    equal((answer["event_id"], answer["flag_count"]), (event.id, _HIDES), "event_id and flag_count")


@AREA.spec("9")
def rows_have_their_shape(probe: Probe) -> None:
    """Each flag is {id, agent_id, created_at, payload}, the payload parsed."""
    _, event, _ = probe.once(_flagged)
    for row in probe.value(f"/events/{event.id}/flags")["flags"]:
        has(row, ("id", "agent_id", "created_at", "payload"), "a flag")
        equal(row["payload"], {"category": "spam", "reason": "conformance"}, "payload")


@AREA.spec("9")
def newest_comes_first(probe: Probe) -> None:
    """Flags stand newest first."""
    _, event, flags = probe.once(_flagged)
    got = [row["id"] for row in probe.value(f"/events/{event.id}/flags")["flags"]]
    equal(got, [flag.id for flag in reversed(flags)], "ids of the flags")


@AREA.spec("9")
def unknown_event_has_none(probe: Probe) -> None:
    """An id of no event has no flags, which is no error."""
    equal(probe.value(f"/events/{probe.unused_id()}/flags")["flags"], [], "flags")


@AREA.spec("9")
def short_id_is_400(probe: Probe) -> None:
    """What is no id is 400."""
    probe.refused("/events/abc/flags", 400)


@AREA.core("9")
def three_agents_hide(probe: Probe) -> None:
    """An event flagged by three agents is in no list."""
    topic, _, _ = probe.once(_flagged)
    equal(probe.ids(t=topic), [], "events on its topic")


@AREA.core("9")
def hidden_is_served_by_id(probe: Probe) -> None:
    """A hidden event is still served by its id."""
    _, event, _ = probe.once(_flagged)
    equal(probe.value(f"/events/{event.id}")["id"], event.id, "id")


@AREA.core("9")
def two_agents_do_not_hide(probe: Probe) -> None:
    """Two flags hide nothing."""
    topic = probe.word()
    event = probe.said(1, "", ["t", topic])
    for _ in range(_HIDES - 1):
        _flag(probe, event)
    equal(probe.ids(t=topic), [event.id], "events on its topic")


@AREA.core("9")
def one_agent_does_not_hide(probe: Probe) -> None:
    """Three flags of one agent count as one."""
    topic, key = probe.word(), probe.key()
    event = probe.said(1, "", ["t", topic])
    for number in range(_HIDES):
        _flag(probe, event, key, probe.now() - number)
    equal(probe.ids(t=topic), [event.id], "events on its topic")


@AREA.core("9")
def flags_are_never_hidden(probe: Probe) -> None:
    """A flag that is flagged three times stays listed."""
    flag = _flag(probe, probe.said())
    for _ in range(_HIDES):
        _flag(probe, flag)
    equal(probe.ids(authors=flag.agent_id), [flag.id], "events of the flagger")


@AREA.core("5")
def target_may_be_unknown(probe: Probe) -> None:
    """A flag may name an event the relay has not, and is counted."""
    missing = probe.unused_id()
    probe.said(7, {"category": "spam"}, ["e", missing])
    equal(probe.value(f"/events/{missing}/flags")["flag_count"], 1, "flag_count")


@AREA.spec("9")
def as_of_shows_what_is_hidden(probe: Probe) -> None:
    """`as_of` shows hidden events too."""
    topic, event, _ = probe.once(_flagged)
    equal(probe.ids(t=topic, as_of=probe.now() + 60), [event.id], "events on its topic")


@AREA.spec("9")
def trusted_agent_hides_alone(probe: Probe) -> None:
    """Flaggers whose trust sums to 1.0 hide an event, however few they are."""
    judge, topic = probe.key(), probe.word()
    event = probe.said(1, "", ["t", topic])
    for _ in range(2):  # two voters of three targets each: the judge's weighted score is close to 2
        voter = probe.key()
        for target in (judge.agent_id, probe.unused_id(), probe.unused_id()):
            probe.said(6, {"score": 1}, ["p", target], by=voter)
    equal(probe.ids(t=topic), [event.id], "events on the topic before the flag")
    _flag(probe, event, judge)
    probe.soon(lambda: probe.ids(t=topic), lambda got: equal(got, [], "events on the topic after it"))
