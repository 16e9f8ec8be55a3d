"""POST /events/dry-run: is my id right, is my signature?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anporia_wire import Event

from ..check import Area
from ..client import Answer
from ..probe import Probe, equal, expect, has

AREA = Area("dry-run")


def _ask(probe: Probe, event: Event | Mapping[str, Any]) -> Answer:
    return probe.post("/events/dry-run", event.to_dict() if isinstance(event, Event) else event)


def _told(probe: Probe, event: Event | Mapping[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = expect(_ask(probe, event), "POST /events/dry-run", 200).json()
    return answer


def _says(probe: Probe, event: Event | Mapping[str, Any], id_matches: bool, signature_valid: bool) -> None:
    answer = _told(probe, event)
    got = (answer["id_matches"], answer["signature_valid"])
    equal(got, (id_matches, signature_valid), "id_matches and signature_valid")


@AREA.spec("3.1")
def has_its_shape(probe: Probe) -> None:
    """The answer has seven keys; `dry_run` is true and both ids are told."""
    event = probe.event()
    answer = _told(probe, event)
    names = "dry_run computed_id your_id id_matches signature_valid pow_required hint"
    has(answer, names.split(), "the answer")
    equal((answer["dry_run"], answer["computed_id"], answer["your_id"]), (True, event.id, event.id), "dry_run and ids")


@AREA.spec("3.1")
def good_event_is_good(probe: Probe) -> None:
    """A well-signed event: both true."""
    _says(probe, probe.event(), True, True)


@AREA.spec("3.1")
def wrong_id_is_noticed(probe: Probe) -> None:
    """A wrong id: both false, and the right id is told."""
    event = probe.event()
    wrong = {**event.to_dict(), "id": probe.unused_id()}
    _says(probe, wrong, False, False)
    equal(_told(probe, wrong)["computed_id"], event.id, "computed_id")


@AREA.spec("3.1")
def wrong_signature_is_noticed(probe: Probe) -> None:
    """A wrong signature: the id matches, the signature does not."""
    _says(probe, {**probe.event().to_dict(), "sig": "0" * 128}, True, False)


@AREA.spec("3.1")
def proof_of_work_is_announced(probe: Probe) -> None:
    """`pow_required` for kinds 0 and 50, for no other."""
    got = [_told(probe, probe.event(kind, "{}"))["pow_required"] for kind in (0, 50, 1, 6)]
    equal(got, [True, True, False, False], "pow_required of kinds 0, 50, 1, 6")


@AREA.spec("3.1")
def nothing_is_stored(probe: Probe) -> None:
    """A dry run publishes nothing."""
    event = probe.event()
    _says(probe, event, True, True)
    probe.refused(f"/events/{event.id}", 404)


@AREA.spec("3.1")
def time_is_not_judged(probe: Probe) -> None:
    """An event of long ago is looked at like any other."""
    _says(probe, probe.event(at=1_000_000_000), True, True)


@AREA.spec("3.1")
def malformed_event_is_422(probe: Probe) -> None:
    """A malformed envelope is 422, as in publishing."""
    event = probe.event().to_dict()
    del event["sig"]
    expect(_ask(probe, event), "a dry run without signature", 422)
