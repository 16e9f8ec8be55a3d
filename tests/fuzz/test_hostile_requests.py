"""Hostile requests over real sockets: never a 500, never a stack trace, and the relay answers afterwards.

Requests come from hypothesis (paths, queries, headers, bodies) and from mutated bytes of valid ones. Connections
are kept as long as the relay keeps them, as an attacker would.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, example, given, seed, settings
from hypothesis import strategies as st

from anporia_relay.errors import STATUS
from anporia_wire import Event, pow
from tests.relay.served import Answer, Wire, head, keys, sign
from tests.relays import RunningRelay

ROUTES = (
    *("/", "/health", "/metrics", "/openapi.json", "/docs", "/events", "/events/batch", "/events/dry-run"),
    *("/events/count", "/agents", "/rooms", "/capabilities", "/capabilities/search", "/stats", "/trust_graph"),
    *("/beacons", "/home", "/welcome"),
)
BEHIND_AN_ID = (
    *("/events/{}", "/events/{}/flags", "/history/{}", "/agents/{}", "/agents/{}/health", "/agents/{}/credit"),
    *("/agents/{}/trust_received", "/trust/{}", "/task/{}", "/citations/{}", "/subscriptions/{}", "/dms/{}"),
    *("/copresence/{}", "/neighbors/{}", "/recommendations/{}", "/onboarding/{}"),
)
NAMES = (
    *("kinds", "kind", "authors", "t", "p", "since", "until", "limit", "cursor", "as_of", "order", "branch"),
    *("include_hidden", "include_revoked", "name", "cap", "q", "min_trust", "max_latency_ms", "max_price_usd"),
    *("supported_language", "tag", "extension_uri", "sort_by", "include_conflicts", "agent_id", "key", "k"),
    *("method", "window", "direction", "min_score"),
)


class Attacker:
    """Sends one request after another; what comes back is looked at closely."""

    def __init__(self, relay: RunningRelay) -> None:
        self.relay = relay
        self.port = int(relay.url.rpartition(":")[2])
        self.wire: Wire | None = None
        self.statuses: Counter[int] = Counter()

    def send(self, data: bytes, *, whole: bool = True) -> Answer | None:
        """Send a request; None when there is no answer to wait for. `whole`: exactly one answer must come."""
        wire = self.wire = self.wire or Wire(self.port)
        try:
            wire.send(data)
            if not whole:  # half a request waits for its other half
                wire.socket.settimeout(0.03)
            answer = wire.answer(to_head=data.startswith(b"HEAD "))
        except (OSError, EOFError):
            self.close()
            assert not whole or len(data) > 100_000, data[:300]
            return None
        self.check(answer)
        if not whole or answer.headers.get("connection") == "close":
            self.drain()
        return answer

    def check(self, answer: Answer) -> None:
        self.statuses[answer.status] += 1
        assert answer.status < 500, answer
        if answer.status >= 400:
            assert STATUS.get(answer.code or "") == answer.status, answer
            if answer.body:
                assert answer.json().keys() >= {"detail"}
        elif answer.headers.get("content-type") == "application/json" and answer.body:
            answer.json()
        assert len(answer.body) < 200_000

    def drain(self) -> None:
        """Read what else comes until the relay closes."""
        assert self.wire
        wire = self.wire
        with contextlib.suppress(TimeoutError):
            while wire.more():
                pass
        for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", wire.buffer):
            assert int(status) < 500
        self.close()

    def close(self) -> None:
        if self.wire:
            self.wire.close()
        self.wire = None


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRelay]:
    free = {f"ANPORIA_{name}_RATE": "0" for name in ("AGENT", "PEER", "BAD_EVENT")}
    with RunningRelay(tmp_path_factory.mktemp("fuzz"), env=free) as running:
        yield running


@pytest.fixture
def attacker(relay: RunningRelay) -> Iterator[Attacker]:
    found = Attacker(relay)
    yield found
    found.close()
    # whatever has happened: it lives, it takes events, nothing is left over, and it has nothing to complain of
    assert relay.running
    event = sign("still here", at=int(time.time()))
    wire = Wire(found.port)
    body = event.to_json()
    start = head("POST", "/events", {"Content-Type": "application/json", "Content-Length": str(len(body))})
    assert wire.ask(start + body).status == 200
    assert wire.ask(head("GET", f"/events/{event.id}")).body == body
    metrics = wire.ask(head("GET", "/metrics")).body
    wire.close()
    assert b"\nanporia_subscribers 0.0\n" in metrics
    assert b"\nanporia_verify_queue 0.0\n" in metrics and b"\nanporia_commit_queue 0.0\n" in metrics
    assert [line for line in relay.stderr.splitlines() if " ready " not in line] == []


def hypothesis_run(examples: int) -> Callable[..., Callable[..., None]]:
    return settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


texts = st.text(max_size=12) | st.sampled_from(
    [
        "",
        "0",
        "-1",
        "1e999",
        "NaN",
        "9" * 25,
        "\x00",
        "\ud7ff",
        "%",
        "%zz",
        "a" * 64,
        "A" * 64,
        "true",
        "1,2",
        ",",
        "' OR 1=1 --",
        "../..",
        "x" * 3_000,
        "\u2028",
        "\r\nX: y",
        "[]",
        "{}",
        "AAAAAAAAAAAAAAAAAAAAAA",
        "trust",
        "price",
    ]
)
segments = texts | st.sampled_from([keys(1).agent_id, "f" * 64])
paths = st.one_of(
    st.sampled_from(ROUTES),
    st.builds(lambda shape, id_: shape.replace("{}", quote(id_, safe="")), st.sampled_from(BEHIND_AN_ID), segments),
    st.builds(lambda parts: "/" + "/".join(quote(part, safe="%") for part in parts), st.lists(texts, max_size=5)),
)
queries = st.lists(st.tuples(st.sampled_from(NAMES) | texts, texts | st.integers().map(str)), max_size=6).map(
    lambda pairs: "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs)
)
header_values = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60)
headers = st.dictionaries(
    st.sampled_from(
        [
            "Origin",
            "X-Forwarded-For",
            "Authorization",
            "Accept",
            "Cookie",
            "Access-Control-Request-Method",
            "Forwarded",
            "Access-Control-Request-Headers",
            "Last-Event-ID",
            "Range",
            "If-None-Match",
            "X-Junk",
            "Content-Type",
            "User-Agent",
        ]
    ),
    header_values,
    max_size=5,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
envelopes = st.fixed_dictionaries(
    {},
    optional={
        "id": json_values | st.just("0" * 64),
        "agent_id": json_values | st.just(keys(1).agent_id),
        "created_at": json_values | st.integers(0, 2**53),
        "kind": json_values | st.integers(0, 60),
        "tags": json_values | st.lists(st.lists(texts, max_size=4), max_size=5),
        "content": json_values,
        "sig": json_values | st.just("0" * 128),
    },
)
bodies = st.one_of(
    st.binary(max_size=200),
    json_values.map(lambda value: json.dumps(value).encode()),
    envelopes.map(lambda value: json.dumps(value).encode()),
    st.lists(envelopes, max_size=5).map(lambda values: b"\n".join(json.dumps(value).encode() for value in values)),
    st.integers(1, 2_000).map(lambda depth: b"[" * depth),
)


def test_requests_of_all_shapes(attacker: Attacker, counts: Callable[..., int]) -> None:
    @seed(20_261_121)
    @hypothesis_run(counts(800, soak=200_000))
    @given(
        st.sampled_from(["GET", "GET", "POST", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"]),
        st.sampled_from(["", "/api"]), paths, queries, headers, bodies,
    )  # fmt: skip
    # what hypothesis draws changes with the constants of all modules: one of each status is certain
    @example("GET", "", "/events", "", {}, b"")
    @example("GET", "", "/events", "limit=0", {}, b"")
    @example("GET", "", "/events/1", "", {}, b"")
    @example("GET", "", "/nowhere", "", {}, b"")
    @example("PUT", "", "/events", "", {}, b"")
    def run(method: str, prefix: str, path: str, query: str, extra: dict[str, str], body: bytes) -> None:
        if method == "POST":
            extra = {"Content-Type": "application/json", **extra}
        elif method in ("GET", "HEAD"):
            body = b""
        if body:
            extra = {**extra, "Content-Length": str(len(body))}
        attacker.send(head(method, f"{prefix}{path}?{query}", extra) + body)

    run()
    assert {200, 400, 404, 405, 422} <= attacker.statuses.keys()


def test_events_of_all_shapes(attacker: Attacker, counts: Callable[..., int]) -> None:
    """Well signed, so that they reach the store and every view."""
    now = int(time.time())
    rng = random.Random(1)

    @seed(20_261_121)
    @hypothesis_run(counts(300, soak=50_000))
    @given(
        st.integers(1, 60) | st.sampled_from([0, 1_500, 2**53 - 1]),
        texts
        | json_values.map(json.dumps)
        | json_values.map(lambda value: json.dumps({"capabilities": [value], "name": value})),
        st.lists(
            st.lists(texts | st.sampled_from(["t", "p", "e", "cap", "s", "pow", "nonce", "lobby"]), max_size=4),
            max_size=6,
        ),
        st.sampled_from(["/events", "/events/batch", "/api/events/dry-run"]),
    )
    def run(kind: int, content: str, tags: list[list[str]], path: str) -> None:
        try:
            if kind == 0:
                event = pow.mine(keys(rng.randrange(1, 9)), kind, content, tags[:5], now)
            else:
                event = sign(content, kind, *tags, by=rng.randrange(1, 9), at=now)
        except ValueError:
            return
        except Exception:
            event = sign("", at=now)
        body = event.to_json()
        attacker.send(head("POST", path, {"Content-Type": "application/json", "Content-Length": str(len(body))}) + body)

    run()
    for path in (
        "/agents",
        "/rooms",
        "/capabilities",
        "/capabilities/search?cap=x",
        "/stats",
        f"/agents/{keys(1).agent_id}",
    ):
        answer = attacker.send(head("GET", path))
        assert answer is not None and answer.status == 200


def mutate(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at, what = rng.randrange(len(out) or 1), rng.randrange(6)
        if what == 0 and out:
            out[at] = rng.randrange(256)
        elif what == 1:
            out[at:at] = rng.randbytes(rng.randrange(1, 4))
        elif what == 2:
            del out[at : at + rng.randrange(1, 20)]
        elif what == 3:
            out[at:at] = rng.choice(
                [b"\r\n", b"\x00", b'"', b"\\", b"{", b"[", b"\xff", b"\xed\xa0\x80", b"1e999", b": ", b"0" * 30]
            )
        elif what == 4 and out:
            end = at + rng.randrange(1, 40)
            out[at:at] = out[at:end]
        else:
            end = min(len(out), at + 8)
            out[at:end] = bytes(reversed(out[at:end]))
    return bytes(out)


def test_mutated_bodies(attacker: Attacker, counts: Callable[..., int]) -> None:
    """One changed byte anywhere: refused, or it meant the same. Never stored as something that was not signed."""
    rng = random.Random(2)
    now = int(time.time())
    originals = [sign(f"mutant {n}", n % 5 + 1, ["t", "é\u2028"], ["p", "x"], by=n + 20, at=now) for n in range(40)]
    known = {event.id: event for event in originals}
    for number in range(counts(500, soak=200_000)):
        event = originals[number % len(originals)]
        body = mutate(rng, event.to_json())
        path = rng.choice(["/events", "/events", "/events/batch", "/events/dry-run"])
        answer = attacker.send(
            head("POST", path, {"Content-Type": "application/json", "Content-Length": str(len(body))}) + body
        )
        if answer is not None and answer.status == 200 and b'"accepted":true' in answer.body:
            assert all(line["id"] in known for line in answer.lines() if line.get("accepted"))
    assert {200, 400, 422} <= attacker.statuses.keys()
    wire = Wire(attacker.port)
    for row in wire.ask(
        head("GET", f"/events?limit=1000&since={now}&authors={','.join(e.agent_id for e in originals)}")
    ).json():
        assert Event.parse(json.dumps(row)) == known[row["id"]]
        Event.parse(json.dumps(row)).check()
    wire.close()


def test_mutated_requests(attacker: Attacker, counts: Callable[..., int]) -> None:
    """Mutated anywhere, so that request line, header and framing break too."""
    rng = random.Random(3)
    body = sign("mutated request", at=int(time.time())).to_json()
    chunked = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (100, body[:100], len(body) - 100, body[100:])
    wholes = [
        head("POST", "/events", {"Content-Type": "application/json", "Content-Length": str(len(body))}) + body,
        head("POST", "/events", {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}) + chunked,
        head("GET", "/events?kinds=1&limit=10", {"Origin": "https://a.example", "Accept": "*/*"}),
        head("GET", "/health", {"Connection": "Upgrade", "Upgrade": "websocket"}),
        head("GET", "/health") * 3,
    ]
    for _ in range(counts(400, soak=100_000)):
        attacker.send(mutate(rng, rng.choice(wholes)), whole=False)
    assert {200, 400} <= attacker.statuses.keys()


def test_streams_that_come_and_go(attacker: Attacker, counts: Callable[..., int]) -> None:
    rng = random.Random(4)
    for number in range(counts(100, soak=5_000)):
        query = rng.choice(["", "?kinds=1", "?t=%00", "?authors=x", "?kinds=x", "?since=1"])
        extra = rng.choice([{}, {"Last-Event-ID": rng.choice(["x", "0" * 8 + "-1", "\xff", "-"])}])
        request = head("GET", f"/stream{query}", extra)
        wire = Wire(attacker.port).send(mutate(rng, request) if number % 3 == 0 else request)
        if number % 2:
            wire.socket.settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                wire.more()
            assert not wire.buffer.startswith(b"HTTP/1.1 5")
        wire.reset() if number % 4 == 0 else wire.close()
    deadline = time.monotonic() + 20
    while True:
        with_metrics = Wire(attacker.port)
        left = b"\nanporia_subscribers 0.0\n" in with_metrics.ask(head("GET", "/metrics")).body
        with_metrics.close()
        if left:
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)
