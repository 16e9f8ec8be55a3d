"""POST /events, /events/batch and /events/dry-run over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from anporia_wire import Event, kinds, pow
from tests.relay.served import NOW, Served, head, keys, post, sign

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as served:
        yield served


def forged(event: Event) -> Event:
    return replace(event, sig="0" * 128)


# -- one event


def test_accepted_answer_is_what_published_relays_say(relay: Served) -> None:
    event = sign("hello")
    for _ in range(2):
        answer = relay.post("/events", event.to_json())
        assert (answer.status, answer.body) == (200, b'{"id":"%b","accepted":true}' % event.id.encode())
        assert answer.headers["content-type"] == "application/json"
    assert relay.get("/events").json() == [event.to_dict() | {"tags": []}]


def test_upper_case_hex_and_lenient_numbers_fold(relay: Served) -> None:
    event = sign("folded")
    fields = {**event.to_dict(), "id": event.id.upper(), "sig": event.sig.upper(), "agent_id": event.agent_id.upper()}
    fields |= {"created_at": f"{NOW}", "kind": 1.0, "surplus": [1, 2]}
    assert relay.post("/events", json.dumps(fields).encode()).json()["id"] == event.id
    assert relay.get(f"/events/{event.id.upper()}").body == event.to_json()


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/vnd.event+json", 200),
        ("text/plain", 422),
        ("application/cbor", 422),
        ("", 422),
    ],
)
def test_content_types(content_type: str, status: int, relay: Served) -> None:
    answer = relay.post("/events", sign(content_type).to_json(), {"Content-Type": content_type})
    assert (answer.status, answer.code) == (status, None if status == 200 else "malformed")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "malformed"),
        (b"[]", 422, "malformed"),
        (b"null", 422, "malformed"),
        (b"{", 422, "malformed"),
        (b"NaN", 422, "malformed"),
        (b"\xef\xbb\xbf{}", 422, "malformed"),
        (b'{"content":"\\ud800"}', 422, "malformed"),
        (b"[" * 100_000, 422, "malformed"),
        (b'{"kind":' + b"9" * 5_000 + b"}", 422, "malformed"),
        (b'{"kind":1e400}', 422, "malformed"),
        (b"\xff\xfe", 400, "bad_text"),
        (b'{"content":"\xff"}', 400, "bad_text"),
    ],
)
def test_bodies_that_are_no_event(body: bytes, status: int, code: str, relay: Served) -> None:
    for path in ("/events", "/events/dry-run"):
        answer = relay.post(path, body)
        assert (answer.status, answer.code) == (status, code)
        assert isinstance(answer.json()["detail"], list if status == 422 else str)
        assert len(answer.body) < 4_096  # never an echo of the whole question


def test_every_bad_field_is_named(relay: Served) -> None:
    fields = {"id": "xx", "agent_id": 5, "created_at": -1, "kind": True, "tags": [["a", 1]], "sig": "g" * 128}
    problems = relay.post("/events", json.dumps(fields).encode()).json()["detail"]
    assert [(p["type"], p["loc"]) for p in problems] == [
        ("string_too_short", ["body", "id"]),
        ("string_type", ["body", "agent_id"]),
        ("greater_than_equal", ["body", "created_at"]),
        ("int_type", ["body", "kind"]),
        ("string_type", ["body", "tags", 0, 1]),
        ("value_error", ["body", "sig"]),
    ]


def test_largest_event_passes_and_one_byte_more_does_not(relay: Served) -> None:
    def sized(extra: int) -> bytes:
        # U+0085 takes six bytes in a stream's frame: the largest event there is on the wire
        tags = [["x"] + ["\u0085" * 500] * 16 for _ in range(32)]
        blank = Event("0" * 64, keys(1).agent_id, NOW, 1, tuple(map(tuple, tags)), "", "0" * 128)
        room = 524_288 - len(blank.canonical())
        assert 0 < room < 65_536
        from tests.relay.test_pipeline import resigned

        return resigned(replace(blank, content="y" * (room + extra)), keys(1)).to_json()

    assert relay.post("/events", sized(1)).code == "too_large"
    assert relay.post("/events", sized(0)).status == 200


# -- a batch


def test_batch_answers_each_line_in_place(relay: Served) -> None:
    known, fresh, late = sign("known"), sign("fresh"), sign("late", at=NOW + 400)
    relay.publish(known)
    lines = [known.to_json(), b"", b"{broken", fresh.to_json(), b"  ", forged(sign("f")).to_json(), fresh.to_json(),
             b'{"id":5}', late.to_json(), sign("", kinds.BEAT).to_json(), b"\xff"]  # fmt: skip
    answer = relay.post("/events/batch", b"\r\n".join(lines) + b"\n", NDJSON)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
    said = answer.lines()
    assert [(line["id"], line.get("code")) for line in said] == [
        (known.id, None), (None, "malformed"), (fresh.id, None), (sign("f").id, "bad_signature"), (fresh.id, None),
        (None, "malformed"), (late.id, "bad_time"), (sign("", kinds.BEAT).id, None), (None, "malformed"),
    ]  # fmt: skip
    assert said[0] == {"id": known.id, "status": 200, "accepted": True, "duplicate": True}
    assert [line["duplicate"] for line in said if "duplicate" in line] == [True, False, True, False]
    assert said[3]["status"] == 400 and "bad signature" in said[3]["detail"]
    assert "accepted" not in said[3] and "retry_at" not in said[3]
    assert [event["content"] for event in relay.get("/events").json()] == sorted(
        ["known", "fresh"], key=lambda content: sign(content).id
    )


def test_batch_counts_each_event_and_says_when_to_retry(tmp_path: Path) -> None:
    with Served(tmp_path, agent_rate=3) as relay:
        said = relay.batch(*(sign(str(number)) for number in range(5)))
        assert [line["status"] for line in said] == [200, 200, 200, 429, 429]
        assert said[3]["retry_at"] == NOW + 61
        relay.steady += 61
        assert relay.batch(sign("3"))[0]["status"] == 200


def test_empty_batch(relay: Served) -> None:
    for body in (b"", b"\n\n \n"):
        answer = relay.post("/events/batch", body, NDJSON)
        assert (answer.status, answer.body) == (200, b"")


def test_batch_of_too_many_takes_nothing(relay: Served) -> None:
    lines = [sign(str(number)).to_json() for number in range(1_000)]
    answer = relay.post("/events/batch", b"\n".join([*lines, b"{}"]), NDJSON)
    assert (answer.status, answer.code) == (413, "batch_too_large")
    assert relay.get("/health").json()["events"] == 0
    assert {line["status"] for line in relay.post("/events/batch", b"\n\n".join(lines), NDJSON).lines()} == {200}
    assert relay.get("/health").json()["events"] == 1_000


@pytest.mark.parametrize("surplus", [1, 3_000_000])
def test_batch_of_too_many_bytes_takes_nothing(surplus: int, relay: Served) -> None:
    body = (sign("first").to_json() + b"\n").ljust(4 * 1024 * 1024 + surplus, b" ")
    answer = relay.post("/events/batch", body, NDJSON)
    assert (answer.status, answer.code) == (413, "body_too_large")
    assert relay.get("/health").json()["events"] == 0
    assert relay.post("/events/batch", body[: 4 * 1024 * 1024], NDJSON).lines()[0]["status"] == 200


def test_batch_of_only_newlines_is_no_burden(relay: Served) -> None:
    assert relay.post("/events/batch", b"\n" * (4 * 1024 * 1024), NDJSON).body == b""


# -- dry run


def test_dry_run_stores_nothing_and_explains(relay: Served) -> None:
    good = sign("dry", at=5)
    for path in ("/events/dry-run", "/api/events/dry-run"):
        said = relay.post(path, good.to_json()).json()
        assert said["hint"] and {**said, "hint": ""} == {
            "dry_run": True, "computed_id": good.id, "your_id": good.id, "id_matches": True, "signature_valid": True,
            "pow_required": False, "hint": "",
        }  # fmt: skip
    said = relay.post("/events/dry-run", replace(good, id="f" * 64).to_json()).json()
    assert (said["id_matches"], said["signature_valid"], said["computed_id"]) == (False, False, good.id)
    said = relay.post("/events/dry-run", forged(good).to_json()).json()
    assert (said["id_matches"], said["signature_valid"]) == (True, False)
    profile = pow.mine(keys(1), kinds.PROFILE, "{}", [], NOW)
    assert relay.post("/events/dry-run", profile.to_json()).json()["pow_required"] is True
    assert relay.get("/health").json()["events"] == 0


def test_dry_run_of_what_no_relay_takes(relay: Served) -> None:
    huge = {**sign().to_dict(), "content": "x" * 900_000, "tags": [["a"] * 5_000] * 3}
    assert relay.post("/events/dry-run", json.dumps(huge).encode()).json()["id_matches"] is False


def test_pipelined_events_are_answered_in_order(relay: Served) -> None:
    events = [sign(str(number)) for number in range(30)]
    wire = relay.wire().send(b"".join(post("/events", event.to_json()) for event in events) + head("GET", "/health"))
    assert [wire.answer().json()["id"] for _ in events] == [event.id for event in events]
    assert wire.answer().json()["events"] == 30
