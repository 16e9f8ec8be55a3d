"""Bindings: nothing is downgraded, in any order; two keys are a conflict that only an address resolves."""

from __future__ import annotations

import json
import sys
from itertools import permutations
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anporia_wire import Event, InvalidKey, pq
from anporia_wire.pq import Standing
from anporia_wire.views import Bindings
from anporia_wire.views.bindings import MAX_KEYS
from tests.wire.hybrids import A_FALSE, A, B, Hybrid
from tests.wire.samples import ALICE, NOW, nasty, unsigned

POST = A.event(1, "words", [("t", "lobby")])
STRIPPED = A.stripped(POST)
TRUE, FALSE = A.binding(), A_FALSE.binding()
MANY = [Hybrid(ALICE, 20 + number) for number in range(3 * MAX_KEYS)]
NONE, AGENT = "0" * 64, ALICE.agent_id


def view_of(*events: Event, addresses: tuple[str, ...] = ()) -> Bindings:
    """Fold events; the same in every order of up to five, after a repetition, and from a snapshot."""
    view = Bindings(addresses)
    for event in events:
        view.apply(event)
    written = orjson.dumps(view.snapshot())
    for order in permutations(events) if len(events) <= 5 else [tuple(reversed(events))]:
        other = Bindings(addresses)
        for event in (*order, *order):
            other.apply(event)
        assert orjson.dumps(other.snapshot()) == written
    again = Bindings.restore(json.loads(written), addresses)
    assert orjson.dumps(again.snapshot()) == written
    return again


def test_without_a_binding_nothing_is_known() -> None:
    view = view_of(POST, STRIPPED, B.binding())
    assert view.standing(POST) is view.standing(STRIPPED) is Standing.UNBOUND
    assert view.read(AGENT) == {"agent_id": AGENT, "addresses": [], "conflict": False}
    assert view.key(AGENT) is None


@pytest.mark.parametrize("binding", [TRUE, A.binding(kind=1510), A.binding(at=NOW + 10**6)])
def test_a_stripped_event_is_classical_whatever_came_first(binding: Event) -> None:
    view = Bindings()
    assert view.standing(STRIPPED) is Standing.UNBOUND
    view.apply(STRIPPED)
    view.apply(binding)
    for at in (0, NOW, NOW + 10**9):
        assert view.standing(A.stripped(A.event(at=at))) is Standing.CLASSICAL
        assert view.standing(A.event(at=at)) is Standing.HYBRID
    assert view.standing(STRIPPED) is view.standing(STRIPPED, A.address) is Standing.CLASSICAL
    assert view.standing(POST) is view.standing(POST, A.address) is Standing.HYBRID
    assert view.standing(binding) is Standing.HYBRID


@pytest.mark.parametrize(
    "event",
    [
        A_FALSE.event(1, "words"),
        A.plain(1, "other words", POST.tags),
        A.plain(1, "words", [*POST.tags, ("t", "x")]),
        A.event(context=b""),
    ],
)
def test_an_event_with_an_invalid_second_signature_is_classical(event: Event) -> None:
    event.check()
    assert view_of(TRUE).standing(event) is Standing.CLASSICAL


def test_one_agents_binding_says_nothing_of_another() -> None:
    view = view_of(TRUE)
    assert view.standing(B.event()) is view.standing(B.plain()) is Standing.UNBOUND


def test_two_keys_are_a_conflict_that_an_address_resolves() -> None:
    view = view_of(TRUE, FALSE)
    forged = A_FALSE.event(1, "words")
    assert view.standing(POST) is view.standing(forged) is Standing.CONFLICT
    assert view.standing(STRIPPED) is Standing.CLASSICAL  # whichever key is right
    assert view.standing(POST, A.address) is Standing.HYBRID
    assert view.standing(forged, A.address) is Standing.CLASSICAL
    assert view.standing(STRIPPED, A.address) is Standing.CLASSICAL
    assert view.standing(forged, A_FALSE.address) is Standing.HYBRID
    assert view.read(AGENT) == {
        "agent_id": AGENT,
        "addresses": sorted([A.address, A_FALSE.address]),
        "conflict": True,
    }
    assert view.key(AGENT) is None and view.key(AGENT, A.address) == A.public


def test_who_has_the_address_is_not_fooled_while_the_binding_is_withheld() -> None:
    for view in (view_of(), view_of(FALSE)):
        assert view.standing(A_FALSE.event(1, "words"), A.address) is Standing.UNBOUND
        assert view.standing(POST, A.address) is Standing.UNBOUND
        assert view.standing(STRIPPED, A.address) is Standing.CLASSICAL


def test_a_binding_is_final() -> None:
    later = A.plain(0, "{}", at=NOW + 10)
    revoked = A.plain(9, '{"reason":"x"}', [("e", TRUE.id)], at=NOW + 20)
    view = view_of(TRUE, later, revoked)
    assert view.standing(STRIPPED) is Standing.CLASSICAL and view.standing(POST) is Standing.HYBRID


def test_what_is_not_signed_with_its_own_key_binds_nothing() -> None:
    view = view_of(
        A.plain(0, "{}", [A.key_tag]), A.event(0, "{}", [A_FALSE.key_tag]), A.plain(0, "{}", B.binding().tags)
    )
    assert view.standing(POST) is Standing.UNBOUND and view.snapshot() == []


def test_an_agents_keys_are_bounded_and_given_addresses_are_never_crowded_out() -> None:
    bindings = [one.binding() for one in MANY]
    addresses = sorted(one.address for one in MANY)
    assert view_of(*bindings).read(AGENT)["addresses"] == addresses[:MAX_KEYS]
    last = max(MANY, key=lambda one: one.address)
    view = view_of(*bindings, addresses=(last.address,))
    assert view.read(AGENT)["addresses"] == [*addresses[:MAX_KEYS], last.address]
    assert view.standing(last.event(), last.address) is Standing.HYBRID
    # without the address given at the start it fails closed
    assert view_of(*bindings).standing(last.event(), last.address) is Standing.UNBOUND


def test_verifying_is_not_done_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    view = Bindings()
    loaded: list[bytes] = []  # each verification loads its key
    load = pq._load

    def counting(public_key: bytes) -> Any:
        loaded.append(public_key)
        return load(public_key)

    monkeypatch.setattr(pq, "_load", counting)
    for event in (POST, STRIPPED, TRUE, A.binding(at=NOW + 1), TRUE, A.binding(kind=1510)):
        view.apply(event)
    assert loaded == [A.public]
    view.standing(POST)
    assert loaded == [A.public, A.public]
    view.standing(STRIPPED)
    for one in sorted(MANY, key=lambda one: one.address):
        view.apply(one.binding())
    before = len(loaded)
    assert before <= 2 + MAX_KEYS  # of those that would not be kept none was looked at
    view.standing(POST)
    view.standing(STRIPPED, A.address)
    assert len(loaded) == before


@pytest.mark.parametrize("address", ["", "x", A.address.upper(), A.address + "0"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidKey):
        Bindings([address])
    for view in (Bindings(), view_of(TRUE)):
        with pytest.raises(InvalidKey):
            view.standing(POST, address)
        with pytest.raises(InvalidKey):
            view.key(AGENT, address)


def test_the_view_says_at_the_start_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.mldsa", None)
    monkeypatch.delattr("cryptography.hazmat.primitives.asymmetric.mldsa")
    with pytest.raises(pq.PqUnavailable):
        Bindings()


POOL = [
    *(one.binding(at=NOW + number % 3) for number, one in enumerate(MANY)),
    *(A.binding(), A.binding(at=NOW - 5), A_FALSE.binding(), B.binding(), B.binding(kind=1510), B.event(), POST),
    *(STRIPPED, A.plain(0, "{}"), B.plain(0, "{}", A.binding().tags), A.event(0, "{}", [A_FALSE.key_tag])),
    A.plain(9, "{}", [("e", TRUE.id)]),
]


@given(events=st.lists(st.sampled_from(POOL), max_size=20), data=st.data(), given=st.booleans())
def test_the_state_is_a_function_of_the_set(events: list[Event], data: Any, given: bool) -> None:
    addresses = (max(one.address for one in MANY),) if given else ()
    one, other = Bindings(addresses), Bindings(addresses)
    for event in events:
        one.apply(event)
    for event in data.draw(st.permutations([*set(events), *events[:3]])):
        other.apply(event)
    assert orjson.dumps(one.snapshot()) == orjson.dumps(other.snapshot())
    restored = Bindings.restore(orjson.loads(orjson.dumps(other.snapshot())), addresses)
    for event in (POST, STRIPPED, B.event(1, "x"), MANY[0].event()):
        for address in (None, A.address, NONE):
            assert one.standing(event, address) is restored.standing(event, address)


hostile_tags = st.lists(
    st.sampled_from([*TRUE.tags, *POST.tags]) | st.lists(nasty | st.just("pq_key"), max_size=6), max_size=6
)


@given(kind=st.sampled_from([0, 1, 1510]), tags=hostile_tags, content=nasty)
def test_nothing_a_stranger_writes_raises(kind: int, tags: list[list[str]], content: str) -> None:
    view = Bindings()
    event = unsigned(kind, content, tags, agent=AGENT)
    view.apply(event)
    assert view.snapshot() == [] and view.standing(event) is Standing.UNBOUND
    view.apply(TRUE)
    assert view.standing(event) is Standing.CLASSICAL
