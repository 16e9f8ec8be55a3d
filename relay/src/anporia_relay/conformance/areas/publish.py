"""POST /events: what taking an event means, when it may be from, and in which order it is judged."""

from __future__ import annotations

from ..check import Area
from ..probe import ENVELOPE, Probe, equal, holds

AREA = Area("publish")

_FUTURE_S = 300  # the protocol's window, both ends inclusive
_PAST_S = 604_800
_SLACK_S = 40  # what a slow way and clocks that differ may use up


@AREA.core("3")
def answer_has_two_keys(probe: Probe) -> None:
    """A taken event is answered {"id", "accepted": true}, nothing else."""
    event = probe.event()
    equal(probe.publish(event).json(), {"id": event.id, "accepted": True}, "answer")


@AREA.core("3")
def is_readable_at_once(probe: Probe) -> None:
    """The very next GET /events/{id} has it."""
    event = probe.said(1, "at once")
    equal(probe.value(f"/events/{event.id}")["content"], "at once", "content")


@AREA.core("3")
def is_listed_at_once(probe: Probe) -> None:
    """The very next GET /events has it."""
    event = probe.said()
    equal(probe.ids(authors=event.agent_id), [event.id], "events of its author")


@AREA.core("8")
def comes_back_as_sent(probe: Probe) -> None:
    """What is read is the seven fields that were sent."""
    event = probe.said(1, "as sent", ["t", "x"], ["p", "y", "z"])
    row = probe.value(f"/events/{event.id}")
    equal(row, {**event.to_dict(), "tags": [["t", "x"], ["p", "y", "z"]]}, "event")
    equal(sorted(row), sorted(ENVELOPE), "keys")


@AREA.core("3")
def duplicate_is_answered_the_same(probe: Probe) -> None:
    """The same event again is 200 with the same body."""
    event = probe.event()
    first = probe.publish(event).json()
    equal(probe.publish(event).json(), first, "second answer")


@AREA.core("3")
def duplicate_is_stored_once(probe: Probe) -> None:
    """The same event again is not stored again."""
    event = probe.said()
    probe.publish(event)
    equal(probe.ids(authors=event.agent_id), [event.id], "events of its author")


@AREA.core("3")
def refused_is_not_stored(probe: Probe) -> None:
    """What is refused is not stored."""
    event = probe.event(7, {"category": "none of these"}, ["e", probe.unused_id()])
    probe.rejects(event)
    probe.refused(f"/events/{event.id}", 404)
    equal(probe.ids(authors=event.agent_id, kinds=7), [], "events of its author")


@AREA.core("3")
def near_future_is_taken(probe: Probe) -> None:
    """`created_at` up to 300 s ahead is taken."""
    probe.said(at=probe.now() + _FUTURE_S - _SLACK_S)


@AREA.core("3")
def far_future_is_refused(probe: Probe) -> None:
    """`created_at` more than 300 s ahead is 400."""
    probe.rejects(probe.event(at=probe.now() + _FUTURE_S + _SLACK_S))


@AREA.core("3")
def last_week_is_taken(probe: Probe) -> None:
    """`created_at` up to 604,800 s back is taken."""
    probe.said(at=probe.now() - _PAST_S + _SLACK_S)


@AREA.core("3")
def older_than_a_week_is_refused(probe: Probe) -> None:
    """`created_at` more than 604,800 s back is 400."""
    probe.rejects(probe.event(at=probe.now() - _PAST_S - _SLACK_S))


@AREA.core("3")
def milliseconds_are_refused(probe: Probe) -> None:
    """`created_at` in milliseconds lies far ahead and is 400."""
    probe.rejects(probe.event(at=probe.now() * 1000))


@AREA.core("3")
def one_author_may_say_many_things_at_once(probe: Probe) -> None:
    """Events of one second by one author are all kept."""
    key, at = probe.key(), probe.now()
    said = {probe.said(1, str(number), by=key, at=at).id for number in range(5)}
    equal(set(probe.ids(authors=key.agent_id)), said, "events of the author")


@AREA.core("3")
def same_text_by_two_authors_is_two_events(probe: Probe) -> None:
    """The same content by two authors is two events."""
    topic, at = probe.word(), probe.now()
    said = {probe.said(1, "same", ["t", topic], at=at).id for _ in range(2)}
    equal(set(probe.ids(t=topic)), said, "events on the topic")


@AREA.spec("3")
def envelope_is_judged_before_time(probe: Probe) -> None:
    """A malformed event that is too old as well is 422."""
    probe.rejects({**probe.event(at=probe.now() - 2 * _PAST_S).to_dict(), "content": 5}, 422)


@AREA.spec("3")
def size_is_judged_before_time(probe: Probe) -> None:
    """An event with too many tags that is too old as well is refused for its tags."""
    event = probe.forge(probe.key(), 1, "", [("x", "y")] * 33, probe.now() - 2 * _PAST_S)
    answer = probe.rejects(event)
    holds("created_at" not in str(answer.detail), "a detail about the tags", answer.text)


@AREA.spec("3")
def time_is_judged_before_shape(probe: Probe) -> None:
    """A flag of no category that is too old as well is refused for its time."""
    answer = probe.rejects(probe.event(7, {}, at=probe.now() - 2 * _PAST_S))
    holds("created_at" in str(answer.detail), "a detail about created_at", answer.text)


@AREA.spec("3")
def shape_is_judged_before_id(probe: Probe) -> None:
    """A flag of no category with a wrong id as well is refused for its shape."""
    answer = probe.rejects({**probe.event(7, {}).to_dict(), "id": probe.unused_id()})
    holds("mismatch" not in str(answer.detail), "a detail about the flag", answer.text)


@AREA.spec("3")
def id_is_judged_before_signature(probe: Probe) -> None:
    """An event with a wrong id and a wrong signature is refused for its id."""
    answer = probe.rejects({**probe.event().to_dict(), "id": probe.unused_id(), "sig": "0" * 128})
    holds("signature" not in str(answer.detail), "a detail about the id", answer.text)


@AREA.spec("3")
def signature_is_judged_before_proof(probe: Probe) -> None:
    """A profile without proof of work and with a wrong signature is refused for its signature."""
    event = probe.forge(probe.key(), 0, "{}", [])
    answer = probe.rejects({**event, "sig": "0" * 128})
    holds(not str(answer.detail).startswith("PoW"), "a detail about the signature", answer.text)
