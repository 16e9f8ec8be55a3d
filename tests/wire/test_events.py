"""Events: every published vector through the checks in their order, and envelopes of every other shape."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anporia_wire import (
    MAX_INTEGER,
    BadId,
    BadSignature,
    Event,
    EventTooLarge,
    InvalidEvent,
    Keypair,
    MalformedEvent,
    event_id,
    kinds,
    pow,
)
from tests.wire.published import vectors
from tests.wire.samples import ALICE, NOW, integers, json_values, nasty, signed, tags_of_strangers

VALID = vectors("events_valid")
# `needs_storage_*` name events that must be stored before: those rules are the relay's
INVALID = [case for case in vectors("events_invalid") if not case["name"].startswith("needs_storage")]


def judge(given: object, now: int) -> None:
    """Every check of publishing that needs no storage, in the order published relays make them."""
    event = Event.parse(json.dumps(given))
    event.check_sizes()
    kinds.check_time(event, now)
    kinds.check_shape(event)
    event.check()
    pow.check(event)
    kinds.check_credit(event)


@pytest.mark.parametrize("case", VALID, ids=lambda case: case["name"])
def test_published_events_are_valid(case: dict[str, Any]) -> None:
    event = Event.from_mapping(case["event"])
    canonical = event.canonical()
    assert event_id(canonical) == case["canonical_sha256"] == event.id
    assert canonical.hex() == case.get("canonical_hex", canonical.hex())
    assert len(canonical) == case.get("canonical_len", len(canonical))
    event.check()
    keypair = Keypair.from_hex(case["private_key"])
    assert keypair.agent_id == case["agent_id"]
    assert Event.create(keypair, event.kind, event.content, event.tags, created_at=event.created_at) == event
    assert Event.parse(event.to_json()) == event
    assert json.loads(event.to_json()) == case["event"]
    if case["publishable"]:
        judge(case["event"], event.created_at)


def test_some_vectors_are_left_to_the_relay() -> None:
    left = {case["name"] for case in vectors("events_invalid")} - {case["name"] for case in INVALID}
    assert left == {"needs_storage_k9_unknown_target"}


@pytest.mark.parametrize("case", INVALID, ids=lambda case: case["name"])
def test_published_rejections(case: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent) as refused:
        judge(case["example"], case["now"])
    status = 422 if isinstance(refused.value, MalformedEvent) else 400
    assert status in case["status"]
    text = str(refused.value).lower()
    assert not case["reason_any"] or any(reason.lower() in text for reason in case["reason_any"]), text


@given(integers, integers, tags_of_strangers, nasty)
def test_serialising_and_parsing_is_the_identity(at: int, kind: int, tags: list[list[str]], content: str) -> None:
    event = Event.create(ALICE, kind, content, tags, created_at=at)
    event.check()
    assert Event.parse(event.to_json()) == event == Event.parse(event.to_json().decode())
    assert Event.from_mapping(event.to_dict()) == event
    assert list(json.loads(event.to_json())) == ["id", "agent_id", "created_at", "kind", "tags", "content", "sig"]


@given(json_values | st.fixed_dictionaries({}, optional=dict.fromkeys(signed().to_dict(), json_values)))
def test_any_json_is_read_or_refused(value: object) -> None:
    with pytest.raises(InvalidEvent):
        Event.from_mapping(value)


@given(st.sampled_from(sorted(signed().to_dict())), json_values)
def test_any_field_is_read_or_refused(name: str, value: object) -> None:
    with contextlib.suppress(InvalidEvent):
        Event.from_mapping({**signed().to_dict(), name: value}).check()


@given(
    st.sampled_from(sorted(signed().to_dict())),
    json_values
    | st.sampled_from(["A" * 64, "a " * 64, "a" * 63, "a" * 65, "a" * 128, ["a" * 64], True, 1.0, "1", 2**53]),
)
def test_the_short_look_sees_what_the_long_one_does(name: str, value: object) -> None:
    fields = {**signed(tags=[["t", "x"]]).to_dict(), "tags": [["t", "x"]], name: value}
    short = Event._plain(fields)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Event, "_plain", classmethod(lambda _cls, _value: None))
        try:
            long: Event | MalformedEvent = Event.from_mapping(fields)
        except MalformedEvent as exc:
            long = exc
    assert short is None or short == long
    if isinstance(long, Event) and long.to_dict() == {**fields, "tags": long.tags} and isinstance(fields["tags"], list):
        assert short == long  # nothing had to be put right


@given(st.binary(max_size=80))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedEvent):
        Event.parse(data)


def changed(**fields: object) -> dict[str, object]:
    return {**signed(1, "x", [["t", "y"]]).to_dict(), **fields}


@pytest.mark.parametrize("name", ["created_at", "kind"])
@pytest.mark.parametrize(
    ("given", "read"),
    [(5, 5), (5.0, 5), ("5", 5), ("005", 5), ("-0", 0), (-0.0, 0), (MAX_INTEGER, MAX_INTEGER), (0, 0)],
)
def test_lax_integers(name: str, given: object, read: int) -> None:
    number = getattr(Event.from_mapping(changed(**{name: given})), name)
    assert number == read and type(number) is int


@pytest.mark.parametrize("name", ["created_at", "kind"])
@pytest.mark.parametrize(
    "given",
    [
        True,
        False,
        None,
        1.5,
        "1.0",
        "1e3",
        "",
        " 1",
        "1 ",
        "+1",
        "1_0",
        "٣",
        "x",
        -1,
        "-1",
        -1.0,
        MAX_INTEGER + 1,
        str(MAX_INTEGER + 1),
        2.0**53,
        1e300,
        10**30,
        "9" * 18,
        "9" * 5000,
        math.nan,
        math.inf,
        [],
        {},
    ],
    ids=lambda given: repr(given)[:20],
)
def test_refused_integers(name: str, given: object) -> None:
    with pytest.raises(MalformedEvent) as refused:
        Event.from_mapping(changed(**{name: given}))
    assert [problem["loc"] for problem in refused.value.problems] == [["body", name]]


@pytest.mark.parametrize(
    ("fields", "loc"),
    [
        ({"tags": None}, ["body", "tags"]),
        ({"tags": {}}, ["body", "tags"]),
        ({"tags": "tt"}, ["body", "tags"]),
        ({"tags": [[], "t"]}, ["body", "tags", 1]),
        ({"tags": [["t", "x"], ["t", 1]]}, ["body", "tags", 1, 1]),
        ({"content": None}, ["body", "content"]),
        ({"content": 5}, ["body", "content"]),
        ({"content": ["x"]}, ["body", "content"]),
        ({"id": None}, ["body", "id"]),
        ({"id": "0" * 63}, ["body", "id"]),
        ({"id": "0" * 65}, ["body", "id"]),
        ({"id": "g" * 64}, ["body", "id"]),
        ({"agent_id": "٠" * 64}, ["body", "agent_id"]),
        ({"agent_id": "0" * 63 + "\n"}, ["body", "agent_id"]),
        ({"agent_id": "İ" + "0" * 62}, ["body", "agent_id"]),
        ({"sig": "0" * 64}, ["body", "sig"]),
        ({"sig": b"0" * 128}, ["body", "sig"]),
    ],
    ids=lambda part: str(part)[:30],
)
def test_bad_fields_are_named(fields: dict[str, object], loc: list[str | int]) -> None:
    with pytest.raises(MalformedEvent) as refused:
        Event.from_mapping(changed(**fields))
    assert [problem["loc"] for problem in refused.value.problems] == [loc]


def test_all_bad_fields_are_named_at_once() -> None:
    with pytest.raises(MalformedEvent) as refused:
        Event.parse('{"tags":5}')
    assert [problem["loc"][1] for problem in refused.value.problems] == [
        "id",
        "agent_id",
        "created_at",
        "kind",
        "tags",
        "sig",
    ]


@pytest.mark.parametrize("text", ["", "[]", "null", "5", '"x"', "{", "NaN", "\ufeff{}", "\ud800", "[" * 40 + "]" * 40])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(MalformedEvent):
        Event.parse(text)


def test_defaults_case_and_unknown_fields() -> None:
    event = signed()
    bare: dict[str, object] = {key: value for key, value in event.to_dict().items() if key not in ("tags", "content")}
    loud = {**bare, "id": event.id.upper(), "agent_id": event.agent_id.upper(), "sig": event.sig.upper(), "more": [1]}
    assert Event.from_mapping(bare) == Event.from_mapping(loud) == event
    twice = event.to_json().replace(b'"kind":1', b'"kind":7,"kind":1')
    assert Event.parse(twice) == event


def replaced(event: Event, **fields: Any) -> Event:
    return Event(**{**event.to_dict(), **fields})


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda e: {"content": "y"}, BadId),
        (lambda e: {"created_at": NOW + 1}, BadId),
        (lambda e: {"tags": ((),)}, BadId),
        (lambda e: {"sig": "0" * 128}, BadSignature),
        (lambda e: {"sig": signed(1, "z").sig}, BadSignature),
        (lambda e: {"content": "é" * 32_769}, EventTooLarge),
        (lambda e: {"tags": (("a",),) * 33}, EventTooLarge),
        (lambda e: {"tags": (("é" * 513,),)}, EventTooLarge),
        (lambda e: {"tags": (("a" * 1_000,) * 600,)}, EventTooLarge),
        (lambda e: {"content": "\ud800"}, MalformedEvent),
    ],
)
def test_intrinsic_rules(damage: Callable[[Event], dict[str, Any]], error: type[InvalidEvent]) -> None:
    event = signed(1, "x")
    with pytest.raises(error):
        replaced(event, **damage(event)).check()


def test_sizes_are_inclusive_and_in_bytes() -> None:
    signed(1, "é" * 32_768, [["v" * 1_024, "é" * 512]] * 32).check()
    with pytest.raises(EventTooLarge):
        signed(1, "é" * 32_768 + "x")


@pytest.mark.parametrize("tags", [["lobby"], "lobby", [["t"], "x"], [["t", 1]]])
def test_creating_refuses_a_string_for_a_tag(tags: Any) -> None:
    with pytest.raises(MalformedEvent):
        Event.create(ALICE, 1, "", tags, created_at=NOW)


@pytest.mark.parametrize("at", [-1, 1.5, True, "x", MAX_INTEGER + 1])
def test_creating_refuses_impossible_times(at: Any) -> None:
    with pytest.raises(MalformedEvent):
        Event.create(ALICE, 1, created_at=at)


def test_reading_tags() -> None:
    event = signed(1, "", [["t"], [], ["t", "a", "z"], ["T", "b"], ["t", ""], ["p", "c"]])
    assert event.tag_values("t") == ["a", ""]
    assert event.first_tag("t") == "a" and event.first_tag("p") == "c" and event.first_tag("e") is None
