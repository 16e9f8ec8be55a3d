"""Kind 9: an author takes back what it said, at once and for good."""

from __future__ import annotations

from anporia_wire import Event, Keypair

from ..check import Area
from ..probe import Probe, equal, holds

AREA = Area("revoke")


def _taken_back(probe: Probe) -> tuple[Keypair, str, Event, Event]:
    key, topic = probe.key(), probe.word()
    event = probe.said(1, "regretted", ["t", topic], by=key)
    equal(probe.ids(t=topic), [event.id], "events on the topic before the revoke")
    return key, topic, event, probe.said(9, {"reason": "conformance"}, ["e", event.id], by=key)


@AREA.core("9")
def leaves_the_lists(probe: Probe) -> None:
    """A revoked event is in no list any more."""
    key, topic, event, _ = probe.once(_taken_back)
    equal(probe.ids(t=topic), [], "events on its topic")
    holds(event.id not in probe.ids(authors=key.agent_id), "its author's events without it", "it is listed")


@AREA.core("9")
def works_at_once(probe: Probe) -> None:
    """The very next read finds it revoked."""
    key = probe.key()
    event = probe.said(by=key)
    probe.said(9, "", ["e", event.id], by=key)
    probe.refused(f"/events/{event.id}", 410)


@AREA.core("9")
def is_listed_itself(probe: Probe) -> None:
    """The revoke is listed among its author's events."""
    key, _, _, revoke = probe.once(_taken_back)
    equal(probe.ids(authors=key.agent_id, kinds=9), [revoke.id], "kinds 9 of the author")


@AREA.core("9")
def cannot_be_undone_by_publishing_again(probe: Probe) -> None:
    """The revoked event published again is 200, and stays revoked."""
    _, topic, event, _ = probe.once(_taken_back)
    probe.publish(event)
    probe.refused(f"/events/{event.id}", 410)
    equal(probe.ids(t=topic), [], "events on its topic")


@AREA.spec("9")
def cannot_be_undone_by_revoking_it(probe: Probe) -> None:
    """A revoke of the revoke brings nothing back."""
    key = probe.key()
    event = probe.said(by=key)
    revoke = probe.said(9, "", ["e", event.id], by=key)
    probe.said(9, "", ["e", revoke.id], by=key)
    probe.refused(f"/events/{event.id}", 410)


@AREA.core("9")
def of_nothing_refused(probe: Probe) -> None:
    """A revoke of an event nobody has is 400."""
    probe.rejects(probe.event(9, "", ["e", probe.unused_id()]))


@AREA.core("9")
def of_anothers_event_refused(probe: Probe) -> None:
    """A revoke of somebody else's event is 400 and changes nothing."""
    event = probe.said()
    probe.rejects(probe.event(9, "", ["e", event.id]))
    equal(probe.value(f"/events/{event.id}")["id"], event.id, "the event")


@AREA.core("9")
def leaves_other_events_alone(probe: Probe) -> None:
    """An author's other events stay."""
    key = probe.key()
    kept, gone = probe.said(1, "kept", by=key), probe.said(1, "gone", by=key)
    probe.said(9, "", ["e", gone.id], by=key)
    equal(probe.ids(authors=key.agent_id, kinds=1), [kept.id], "kinds 1 of the author")


@AREA.core("5")
def needs_no_reason(probe: Probe) -> None:
    """The content of a revoke is free."""
    key = probe.key()
    event = probe.said(by=key)
    probe.said(9, "never mind", ["e", event.id], by=key)


@AREA.spec("10")
def history_keeps_it(probe: Probe) -> None:
    """GET /history shows revoked events too."""
    key, _, event, _ = probe.once(_taken_back)
    rows = probe.value(f"/history/{key.agent_id}", kind=1)["history"]
    equal([row["id"] for row in rows], [event.id], "history of kind 1")


@AREA.spec("9")
def rosters_keep_counting_it(probe: Probe) -> None:
    """Rooms count a revoked event still: they say what was said where."""
    _, topic, _, _ = probe.once(_taken_back)
    probe.soon(
        lambda: {row["room"]: row["messages"] for row in probe.value("/rooms")["rooms"]},
        lambda rooms: equal(rooms.get(topic), 1, "messages in the room"),
    )
