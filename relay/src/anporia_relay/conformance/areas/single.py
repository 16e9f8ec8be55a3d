"""GET /events/{id}: one event by its id."""

from __future__ import annotations

from ..check import Area
from ..probe import Probe, equal, holds

AREA = Area("single")


@AREA.core("9")
def known_id_is_200(probe: Probe) -> None:
    """A stored event is answered as its envelope."""
    event = probe.said(1, "one")
    equal(probe.value(f"/events/{event.id}"), event.to_dict() | {"tags": []}, "event")


@AREA.core("9")
def upper_case_id_is_the_same(probe: Probe) -> None:
    """The id in the path may be in upper case."""
    event = probe.said()
    equal(probe.value(f"/events/{event.id.upper()}")["id"], event.id, "id")


@AREA.core("9")
def unknown_id_is_404(probe: Probe) -> None:
    """An id of no event is 404 with a detail."""
    answer = probe.refused(f"/events/{probe.unused_id()}", 404)
    holds(isinstance(answer.detail, str), "a text as detail", answer.text)


@AREA.core("9")
def sixty_four_letters_are_404(probe: Probe) -> None:
    """64 characters that are no hex name no event: 404."""
    probe.refused(f"/events/{'z' * 64}", 404)


@AREA.core("9")
def short_id_is_400(probe: Probe) -> None:
    """63 characters are no id: 400."""
    probe.refused(f"/events/{'a' * 63}", 400)


@AREA.core("9")
def long_id_is_400(probe: Probe) -> None:
    """65 characters are no id: 400."""
    probe.refused(f"/events/{'a' * 65}", 400)


@AREA.core("9")
def prefix_is_no_id(probe: Probe) -> None:
    """The beginning of an id is not the event."""
    probe.refused(f"/events/{probe.said().id[:16]}", 400)


@AREA.core("13")
def beat_is_404(probe: Probe) -> None:
    """A beat is taken but not kept as an event."""
    probe.refused(f"/events/{probe.said(11, {'latency_ms': 1}).id}", 404)


@AREA.core("9")
def revoked_is_410(probe: Probe) -> None:
    """A revoked event is 410 with a detail."""
    key = probe.key()
    event = probe.said(by=key)
    probe.said(9, {"reason": "conformance"}, ["e", event.id], by=key)
    answer = probe.refused(f"/events/{event.id}", 410)
    holds(isinstance(answer.detail, str), "a text as detail", answer.text)


@AREA.core("9")
def a_revoke_stays_readable(probe: Probe) -> None:
    """The revoke itself is an event like any other: 200."""
    key = probe.key()
    event = probe.said(by=key)
    revoke = probe.said(9, {"reason": "conformance"}, ["e", event.id], by=key)
    equal(probe.value(f"/events/{revoke.id}")["kind"], 9, "kind")
