"""The shape that each kind must have, one named check for each form that is taken and each that is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..check import Area, Body
from ..probe import Probe, equal

AREA = Area("kinds")

_ID, _P, _E = "ab" * 32, ["p", "ab" * 32], ["e", "ab" * 32]
_NONCE = ["nonce", "cd" * 24]
_COSIGN = [["cosign", _ID, "ef" * 64]] * 3
_POINT = {"checkpoint_id": "c1", "state_hash": "0" * 64, "event_count": 5, "as_of": 1}
_BEACON = {"intent": "seek", "about": "conformance", "ttl_sec": 60}
_ACT = {"act": "freeze_network", "reason": "conformance"}
_SWITCH = {"trigger": "dead_man_switch", "new_stewards": ["a", "b"], "multisig_threshold": 2}
_SENT = {"type": "sent", "chain": "bitcoin", "tx_hash": "00"}
_ANY = {"note": "conformance"}

Tag = list[str]
Row = tuple[int, str, str, Any, Sequence[Tag]]


def _without(value: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: kept for key, kept in value.items() if key != name}


# kind, level, what is odd or plain about it, content, tags
_TAKEN: list[Row] = [
    (1, "core", "text", "a post", ()),
    (2, "core", "reply", "a reply", [["e", _ID, "root"], ["e", _ID, "reply"]]),
    (3, "spec", "one-recipient-one-nonce", "AAAA", [_P, _NONCE]),
    (3, "spec", "upper-case-hex", "AAAA", [["p", _ID.upper()], ["nonce", "CD" * 24]]),
    (4, "core", "offers", {"capabilities": [{"name": "conf.none"}]}, [["cap", "conf.none"]]),
    (5, "core", "claim", {"claim": "water is wet", "confidence": 1, "sources": []}, ()),
    (6, "core", "score", {"score": 0.5, "reason": "x"}, [_P]),
    (6, "core", "least-score", {"score": -1}, [_P]),
    (6, "core", "greatest-score", {"score": 1}, [_P]),
    (6, "core", "no-score", {"reason": "x"}, [_P]),
    (6, "core", "plain-text", "a vote in words", [_P]),
    (6, "core", "no-target", {"score": 1}, ()),
    *(
        (7, "core", category, {"category": category}, [_E])
        for category in ("spam", "disinfo", "harassment", "injection", "impersonation", "other")
    ),
    (8, "spec", "reason-and-target", {"reason": "x"}, [_P]),
    (10, "spec", "relay", {"url": "https://relay.invalid", "preferred_branch": "main"}, ()),
    (
        10,
        "spec",
        "branches-a-list",
        {"url": "https://relay.invalid", "preferred_branch": "main", "served_branches": []},
        (),
    ),
    (12, "spec", "three-cosigners", _POINT, _COSIGN),
    *(
        (15, "core", f"intent-{intent}", {**_BEACON, "intent": intent}, ())
        for intent in ("seek", "offer", "present", "warn")
    ),
    (15, "core", "ttl-of-a-second", {**_BEACON, "ttl_sec": 1}, ()),
    (15, "core", "ttl-of-a-day", {**_BEACON, "ttl_sec": 86_400}, ()),
    (16, "spec", "address", {"addresses": [{"chain": "bitcoin", "address": "x"}]}, ()),
    (16, "spec", "lnurl", {"addresses": [{"chain": "lightning", "lnurl": "x"}]}, ()),
    (17, "spec", "sent", _SENT, [_P]),
    (17, "spec", "lightning-without-hash", {"type": "sent", "chain": "Lightning"}, [_P]),
    (17, "spec", "ack", {"type": "ack", "chain": "bitcoin"}, [_P]),
    (17, "spec", "verification", {"type": "verification", "chain": "bitcoin"}, [_P, ["verified_by_external", "x"]]),
    (21, "spec", "reason-and-time", {"reason": "x", "effective_at": 5}, ()),
    (31, "spec", "two-stewards", _SWITCH, ()),
    *((kind, "core", "anything", _ANY, ()) for kind in (14, 22, 40, 51, 52, 53, 54, 55, 100, 999)),
    (1000, "spec", "one-schema", _ANY, [["s", "conf.v1"]]),
    (1999, "spec", "one-schema", _ANY, [["s", "conf.v1"]]),
    (2000, "spec", "anything", _ANY, ()),
    (30023, "spec", "anything", _ANY, ()),
]

_REFUSED: list[Row] = [
    (3, "spec", "no-recipient", "AAAA", [_NONCE]),
    (3, "spec", "two-recipients", "AAAA", [_P, _P, _NONCE]),
    (3, "spec", "short-recipient", "AAAA", [["p", "ab"], _NONCE]),
    (3, "spec", "no-nonce", "AAAA", [_P]),
    (3, "spec", "short-nonce", "AAAA", [_P, ["nonce", "cd"]]),
    (3, "spec", "empty", "", [_P, _NONCE]),
    (6, "core", "score-above-one", {"score": 1.01}, [_P]),
    (6, "core", "score-below-minus-one", {"score": -2}, [_P]),
    (6, "core", "score-a-boolean", {"score": True}, [_P]),
    (6, "core", "score-a-text", {"score": "1"}, [_P]),
    (6, "core", "score-null", {"score": None}, [_P]),
    (6, "core", "score-nan", '{"score":NaN}', [_P]),
    (6, "core", "score-infinite", '{"score":1e400}', [_P]),
    (7, "core", "unknown-category", {"category": "boring"}, [_E]),
    (7, "core", "no-category", {"reason": "x"}, [_E]),
    (7, "core", "no-target", {"category": "spam"}, ()),
    (7, "core", "short-target", {"category": "spam"}, [["e", "ab"]]),
    (7, "core", "plain-text", "spam", [_E]),
    (8, "spec", "no-reason", {}, [_P]),
    (8, "spec", "no-target", {"reason": "x"}, ()),
    (8, "spec", "two-targets", {"reason": "x"}, [_P, _P]),
    (8, "spec", "short-target", {"reason": "x"}, [["p", "ab"]]),
    (9, "core", "no-target", {"reason": "x"}, ()),
    (9, "core", "short-target", {"reason": "x"}, [["e", "ab"]]),
    (10, "spec", "no-url", {"preferred_branch": "main"}, ()),
    (10, "spec", "no-branch", {"url": "https://relay.invalid"}, ()),
    (10, "spec", "branches-no-list", {"url": "x", "preferred_branch": "main", "served_branches": "main"}, ()),
    *((12, "spec", f"no-{name.replace('_', '-')}", _without(_POINT, name), _COSIGN) for name in _POINT),
    (12, "spec", "count-negative", {**_POINT, "event_count": -1}, _COSIGN),
    (12, "spec", "hash-short", {**_POINT, "state_hash": "00"}, _COSIGN),
    (12, "spec", "two-cosigners", _POINT, _COSIGN[:2]),
    (12, "spec", "short-cosign-tags", _POINT, [["cosign", "x"]] * 3),
    (13, "spec", "no-checkpoint", {"reason": "x"}, [_E]),
    (13, "spec", "no-reason", {"target_checkpoint": "c1"}, [_E]),
    (13, "spec", "no-target", {"target_checkpoint": "c1", "reason": "x"}, ()),
    (13, "spec", "unknown-target", {"target_checkpoint": "c1", "reason": "x"}, [_E]),
    (15, "core", "unknown-intent", {**_BEACON, "intent": "shout"}, ()),
    (15, "core", "no-intent", _without(_BEACON, "intent"), ()),
    (15, "core", "no-ttl", _without(_BEACON, "ttl_sec"), ()),
    (15, "core", "ttl-zero", {**_BEACON, "ttl_sec": 0}, ()),
    (15, "core", "ttl-above-a-day", {**_BEACON, "ttl_sec": 86_401}, ()),
    (15, "core", "ttl-a-text", {**_BEACON, "ttl_sec": "60"}, ()),
    (15, "core", "ttl-a-fraction", {**_BEACON, "ttl_sec": 60.5}, ()),
    (15, "core", "plain-text", "seek", ()),
    (16, "spec", "no-addresses", {}, ()),
    (16, "spec", "empty-addresses", {"addresses": []}, ()),
    (16, "spec", "address-without-chain", {"addresses": [{"address": "x"}]}, ()),
    (16, "spec", "chain-without-address", {"addresses": [{"chain": "bitcoin"}]}, ()),
    (17, "spec", "unknown-type", {**_SENT, "type": "lent"}, [_P]),
    (17, "spec", "no-chain", _without(_SENT, "chain"), [_P]),
    (17, "spec", "sent-without-hash", _without(_SENT, "tx_hash"), [_P]),
    (17, "spec", "no-recipient", _SENT, ()),
    (17, "spec", "two-recipients", _SENT, [_P, _P]),
    (17, "spec", "verification-by-nobody", {"type": "verification", "chain": "bitcoin"}, [_P]),
    (21, "spec", "no-reason", {"effective_at": 5}, ()),
    (21, "spec", "time-a-text", {"reason": "x", "effective_at": "now"}, ()),
    (30, "spec", "unknown-act", {**_ACT, "act": "dance"}, ()),
    (30, "spec", "no-reason", _without(_ACT, "reason"), ()),
    (31, "spec", "unknown-trigger", {**_SWITCH, "trigger": "boredom"}, ()),
    (31, "spec", "one-steward", {**_SWITCH, "new_stewards": ["a"]}, ()),
    (31, "spec", "threshold-zero", {**_SWITCH, "multisig_threshold": 0}, ()),
    (31, "spec", "threshold-above-their-number", {**_SWITCH, "multisig_threshold": 3}, ()),
    (1000, "spec", "no-schema", _ANY, ()),
    (1500, "spec", "two-schemas", _ANY, [["s", "conf.v1"], ["s", "conf.v2"]]),
    (1999, "spec", "no-schema", _ANY, ()),
]


def _taken(row: Row) -> Body:
    kind, _, _, content, tags = row

    def body(probe: Probe) -> None:
        event = probe.said(kind, content, *tags)
        equal(probe.value(f"/events/{event.id}")["kind"], kind, "kind of what is stored")

    return body


def _refused(row: Row) -> Body:
    kind, _, _, content, tags = row

    def body(probe: Probe) -> None:
        probe.rejects(probe.event(kind, content, *tags))

    return body


for _row in _TAKEN:
    AREA.add(
        f"{_row[0]}-{_row[2]}-taken", _row[1], "5", f"Kind {_row[0]} of this form ({_row[2]}) is taken.", _taken(_row)
    )
for _row in _REFUSED:
    AREA.add(
        f"{_row[0]}-{_row[2]}-refused", _row[1], "5", f"Kind {_row[0]} of this form ({_row[2]}) is 400.", _refused(_row)
    )


@AREA.spec("5")
def rollback_of_a_stored_checkpoint_taken(probe: Probe) -> None:
    """Kind 13 that names a stored kind 12 is taken."""
    point = probe.said(12, _POINT, *_COSIGN)
    probe.said(13, {"target_checkpoint": "c1", "reason": "conformance"}, ["e", point.id])


@AREA.spec("5")
def rollback_of_another_kind_refused(probe: Probe) -> None:
    """Kind 13 that names a stored event of another kind is 400."""
    post = probe.said()
    probe.rejects(probe.event(13, {"target_checkpoint": "c1", "reason": "x"}, ["e", post.id]))


@AREA.spec("5")
def sovereign_act_of_a_stranger_is_inert_or_403(probe: Probe) -> None:
    """Kind 30 by anybody is stored and inert, or 403 where the relay knows its sovereigns."""
    answer = probe.send(probe.event(30, _ACT))
    if answer.status not in (200, 403):
        probe.rejects(probe.event(30, _ACT), 200, 403)
    probe.said()
