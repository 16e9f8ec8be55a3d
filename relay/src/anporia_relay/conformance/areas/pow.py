"""Proof of work: kinds 0 and 50 need it, kind 6 may claim it, no other kind is judged by it."""

from __future__ import annotations

from collections.abc import Sequence

from anporia_wire import Event
from anporia_wire.pow import leading_zero_bits, mine

from ..check import Area, Body
from ..probe import Probe, equal, holds

AREA = Area("pow")

_TASK = '{"capability":"conf.none","input":{}}'

# what is wrong with it, the tags; none of them takes luck: a valid claim is 12 to 24 bits
_WRONG: list[tuple[str, Sequence[Sequence[str]]]] = [
    ("no-claim", ()),
    ("a-claim-without-value", [("pow",)]),
    ("a-claim-in-words", [("pow", "twelve")]),
    ("a-negative-claim", [("pow", "-1")]),
    ("a-claim-above-256", [("pow", "257")]),
    ("a-claim-of-25-bits", [("pow", "25")]),
    ("an-empty-claim", [("pow", "")]),
]


def _drawn(probe: Probe, kind: int, tags: Sequence[Sequence[str]], content: str, *, zero_bits: range) -> Event:
    """Sign events until one's id begins with so many zero bits."""
    key, at = probe.key(), probe.now()
    for number in range(10**6):
        event = Event.create(key, kind, content, [*tags, ("n", str(number))], created_at=at)
        if leading_zero_bits(event.id) in zero_bits:
            return event
    raise AssertionError("luck has its limits")


def _refused(kind: int, content: str, tags: Sequence[Sequence[str]]) -> Body:
    def body(probe: Probe) -> None:
        answer = probe.rejects(_drawn(probe, kind, tags, content, zero_bits=range(12)))
        holds(str(answer.detail).startswith("PoW: "), "a detail that begins with 'PoW: '", answer.text)

    return body


for _kind, _content in ((0, "{}"), (50, _TASK)):
    for _name, _tags in _WRONG:
        _claim = f"Kind {_kind} with {_name.replace('-', ' ')} is 400, the detail begins with 'PoW: '."
        AREA.add(f"{_kind}-{_name}-refused", "core", "6", _claim, _refused(_kind, _content, _tags))


def _mined(probe: Probe, kind: int, content: str, bits: int, *tags: Sequence[str]) -> Event:
    return mine(probe.key(), kind, content, tags, probe.now(), bits)


@AREA.core("6")
def profile_of_12_bits_taken(probe: Probe) -> None:
    """A profile mined to 12 bits is taken."""
    probe.publish(_mined(probe, 0, "{}", 12))


@AREA.core("6")
def profile_of_14_bits_taken(probe: Probe) -> None:
    """More bits than needed are taken."""
    probe.publish(_mined(probe, 0, "{}", 14))


@AREA.core("6")
def task_of_12_bits_taken(probe: Probe) -> None:
    """A task request mined to 12 bits is taken."""
    probe.publish(_mined(probe, 50, _TASK, 12))


@AREA.core("6")
def a_claim_of_11_bits_refused(probe: Probe) -> None:
    """A profile that claims 11 bits is 400, even if its id has 12."""
    probe.rejects(_drawn(probe, 0, [("pow", "11")], "{}", zero_bits=range(12, 257)))


@AREA.core("6")
def unmet_claim_refused(probe: Probe) -> None:
    """A profile that claims 20 bits and has fewer is 400."""
    probe.rejects(_drawn(probe, 0, [("pow", "20")], "{}", zero_bits=range(12, 20)))


@AREA.core("6")
def nonce_tag_is_not_needed(probe: Probe) -> None:
    """What counts is the id: it may be varied by anything."""
    probe.publish(_drawn(probe, 0, [("pow", "12")], "{}", zero_bits=range(12, 257)))


@AREA.core("6")
def first_claim_counts(probe: Probe) -> None:
    """Of two pow tags the first counts."""
    probe.publish(_drawn(probe, 0, [("pow", "12"), ("pow", "99")], "{}", zero_bits=range(12, 257)))
    probe.rejects(_drawn(probe, 0, [("pow", "99"), ("pow", "12")], "{}", zero_bits=range(12, 257)))


@AREA.core("6")
def vote_without_claim_taken(probe: Probe) -> None:
    """A trust vote needs no proof."""
    probe.publish(_drawn(probe, 6, [("p", probe.unused_id())], '{"score":1}', zero_bits=range(12)))


@AREA.core("6")
def vote_with_met_claim_taken(probe: Probe) -> None:
    """A trust vote may claim proof that it has."""
    probe.publish(_mined(probe, 6, '{"score":1}', 12, ("p", probe.unused_id())))


@AREA.core("6")
def vote_with_unmet_claim_refused(probe: Probe) -> None:
    """A trust vote that claims proof it has not is 400; its detail has no prefix."""
    answer = probe.rejects(_drawn(probe, 6, [("pow", "20")], '{"score":1}', zero_bits=range(20)))
    equal(str(answer.detail).startswith("PoW: "), False, "detail begins with 'PoW: '")


@AREA.core("6")
def vote_with_malformed_claim_refused(probe: Probe) -> None:
    """A trust vote with a pow tag in words is 400."""
    probe.rejects(_drawn(probe, 6, [("pow", "lots")], '{"score":1}', zero_bits=range(257)))


@AREA.core("6")
def other_kinds_are_not_judged(probe: Probe) -> None:
    """A post with a senseless pow tag is taken."""
    probe.publish(_drawn(probe, 1, [("pow", "lots")], "", zero_bits=range(257)))
