"""Delegations: who is whose child, which acts were covered, and which key follows on which."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest

from anporia_wire import Event, Keypair, intents
from anporia_wire.views import Delegations, Revocations, Successors
from anporia_wire.views import delegations as view_of_delegations
from tests.wire.samples import ALICE, BOB, CAROL, NOW, signed

PARENT, CHILD, STRANGER = ALICE, BOB, CAROL


def profile(by: Keypair = CHILD, parent: object = PARENT.agent_id, at: int = NOW - 100) -> Event:
    return signed(0, json.dumps({"name": "x", "parent": parent}), by=by, at=at)


def delegation(
    scope: list[int | str], until: int = NOW + 100, by: Keypair = PARENT, to: Keypair = CHILD, at: int = NOW - 50
) -> Event:
    kind, content, tags = intents.delegation_draft(to.agent_id, scope=scope, expires_at=until)
    return signed(kind, content, tags, by=by, at=at)


def revoke(of: Event, by: Keypair = PARENT, at: int = NOW) -> Event:
    return signed(9, "{}", [["e", of.id]], by=by, at=at)


def act(kind: int = 1, *tags: list[str], at: int = NOW) -> Event:
    return signed(kind, "{}", tags, by=CHILD, at=at)


def view_of(*events: Event) -> Delegations:
    revocations, successors = Revocations(), Successors()
    view = Delegations(revocations, successors)
    for event in events:
        revocations.apply(event)
        successors.apply(event)
        view.apply(event)
    return view


def authority(of: Event, *events: Event) -> dict[str, Any] | None:
    """Judge an act; the same in every order, after a repetition, and from a snapshot."""
    first = view_of(*events).authority(of)
    for order in permutations(events):
        revocations = Revocations()
        for event in events:
            revocations.apply(event)
        view = view_of(*order, *order)
        assert view.authority(of) == first
        state = json.loads(json.dumps(view.snapshot()))
        again = Delegations.restore(state, revocations, Successors())
        assert again.authority(of) == first and json.loads(json.dumps(again.snapshot())) == state
    return first


def reason(of: Event, *events: Event) -> str | None:
    found = authority(of, profile(), *events)
    assert found is not None and found["parent"] == PARENT.agent_id
    assert found["delegated"] is (found["reason"] is None)
    return str(found["reason"]) if found["reason"] else None


def test_covered() -> None:
    given = delegation([1])
    assert authority(act(), profile(), given) == {
        "parent": PARENT.agent_id, "delegated": True, "reason": None, "delegation_id": given.id,
    }  # fmt: skip


def test_a_stranger_makes_nobody_a_child() -> None:
    assert authority(act(), delegation([1], by=STRANGER)) is None
    assert reason(act(), delegation([1], by=STRANGER)) == "no_delegation"


@pytest.mark.parametrize("parent", [None, 5, "x", "AB" * 32, CHILD.agent_id, [PARENT.agent_id]])
def test_what_names_no_parent(parent: object) -> None:
    assert authority(act(), profile(parent=parent), delegation([1])) is None


def test_the_newest_profile_counts() -> None:
    assert authority(act(), profile(), profile(parent=None, at=NOW - 99)) is None
    assert reason(act(), profile(parent=None, at=NOW - 101)) == "no_delegation"


def test_reasons_and_their_bounds() -> None:
    given = delegation([1], until=NOW)
    assert reason(act()) == "no_delegation"
    assert reason(act(2), given) == "out_of_scope"
    assert reason(act(at=NOW), given) is None, "expires_at is inclusive"
    assert reason(act(at=NOW + 1), given) == "expired"
    assert reason(act(at=NOW - 50), given) is None, "and so is its own date"
    assert reason(act(at=NOW - 51), given) == "no_delegation"
    assert reason(act(at=NOW - 2), given, revoke(given, at=NOW - 1)) is None
    assert reason(act(at=NOW - 1), given, revoke(given, at=NOW - 1)) == "revoked"
    assert reason(act(at=NOW), given, revoke(given, at=NOW + 9), revoke(given, at=NOW)) == "revoked", "the earliest"
    assert reason(act(), given, revoke(given, by=STRANGER)) is None
    # the most telling of several
    assert reason(act(at=NOW + 1), given, delegation([2])) == "expired"
    taken = delegation([1])
    assert reason(act(at=NOW + 1), given, taken, revoke(taken)) == "revoked"
    assert reason(act(at=NOW + 1), given, delegation([1])) is None


def test_a_capability_covers_work_that_is_tagged_with_it() -> None:
    given = delegation(["translate"])
    for kind in (50, 51, 55, 1500, 1501, 1502):
        for tag in ("t", "cap", "cap_wanted"):
            assert reason(act(kind, [tag, "translate"]), given) is None
        assert reason(act(kind, ["t", "other"]), given) == "out_of_scope"
    for kind in (1, 4, 6, 1503):
        assert reason(act(kind, ["t", "translate"]), given) == "out_of_scope"
    assert reason(act(50, ["t", "50"]), delegation(["50"])) is None
    assert reason(act(50), delegation(["50"])) == "out_of_scope"


def test_a_child_may_always_say_who_it_is_and_take_back() -> None:
    assert reason(act(0)) is None and reason(act(9)) is None
    assert reason(act(9), delegation([1])) is None


def test_what_was_given_and_received() -> None:
    mine, other = delegation([1, 1, "x"]), delegation([2], by=STRANGER, at=NOW)
    view = view_of(profile(), mine, other, revoke(mine, at=NOW + 1))
    row = {
        "id": mine.id, "parent": PARENT.agent_id, "child": CHILD.agent_id, "scope": [1, "x"], "created_at": NOW - 50,
        "expires_at": NOW + 100, "revoked_at": NOW + 1, "accepted": True, "active": True,
    }  # fmt: skip
    assert view.read(PARENT.agent_id, NOW) == {
        "agent_id": PARENT.agent_id, "parent": None, "successor": None, "given": [row], "received": [],
    }  # fmt: skip
    received = view.read(CHILD.agent_id, NOW + 1)
    assert received["parent"] == PARENT.agent_id and received["given"] == []
    assert received["received"][0] == {**row, "active": False}, "the parent's first, though it is older"
    assert (received["received"][1]["parent"], received["received"][1]["accepted"]) == (STRANGER.agent_id, False)
    assert view.read("ab" * 32, NOW)["received"] == []


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_of_delegations, "MAX_DELEGATIONS", 3)
    monkeypatch.setattr(view_of_delegations, "MAX_LISTED", 2)
    given = [delegation([1], until=n, at=NOW - 50 + n) for n in range(5)]
    view = view_of(profile(), *given)
    assert view.snapshot() == view_of(*reversed(given), profile()).snapshot()
    assert [row["id"] for row in view.read(CHILD.agent_id, NOW)["received"]] == [given[4].id, given[3].id]


def rotation(role: str, named: Keypair, by: Keypair, at: int = NOW) -> Event:
    tags = [["s", intents.SCHEMAS[1504]], ["p", named.agent_id]]
    return signed(1504, json.dumps({role: named.agent_id}), tags, by=by, at=at)


def test_a_successor_needs_both_halves() -> None:
    announced, confirmed = rotation("successor", BOB, ALICE), rotation("predecessor", ALICE, BOB)
    assert view_of(announced).read(ALICE.agent_id, NOW)["successor"] is None
    assert view_of(confirmed).read(ALICE.agent_id, NOW)["successor"] is None
    for order in permutations([announced, confirmed, revoke(announced)]):
        view = view_of(*order, *order)
        assert view.read(ALICE.agent_id, NOW)["successor"] == BOB.agent_id
        assert view.read(BOB.agent_id, NOW)["successor"] is None


def test_the_earliest_confirmed_successor_counts() -> None:
    later = [rotation("successor", CAROL, ALICE, NOW + 1), rotation("predecessor", ALICE, CAROL, NOW - 9)]
    first = [rotation("successor", BOB, ALICE), rotation("predecessor", ALICE, BOB)]
    for order in permutations([*later, *first]):
        assert view_of(*order).read(ALICE.agent_id, NOW)["successor"] == BOB.agent_id
    assert view_of(*later, first[0]).read(ALICE.agent_id, NOW)["successor"] == CAROL.agent_id, "BOB never confirmed"
