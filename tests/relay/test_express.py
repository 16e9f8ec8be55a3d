"""The short way of POST /events against the parser's: the same bytes must get the same answers, whatever comes how."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import random
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anporia_relay import express, server
from anporia_relay.express import Express, ExpressConnection, Head
from anporia_relay.pipeline import internal
from anporia_relay.server import MAX_PIPELINED, Connection
from anporia_store import Appended
from anporia_wire import Event
from tests.relay.served import PATIENCE_S, Answer, Served, Wire, head, post, sign, until

JSON = b"Content-Type: application/json\r\n"
EVENT = sign("known")
KNOWN = post("/events", EVENT.to_json())
HEALTH = head("GET", "/health")


@dataclass
class Pair:
    """A relay with the short way and one without, which are told the same."""

    short: Served
    plain: Served

    def same(self, *requests: Sequence[bytes]) -> bytes:
        """Send requests, each in these pieces and when the one before is answered, to both; give what both say."""
        said = [talk(relay, requests) for relay in (self.short, self.plain)]
        assert said[0] == said[1], (said, requests)
        return said[0][0]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folders = [tmp_path_factory.mktemp(name) for name in ("short", "plain")]
    with Served(folders[0], search=False) as short, Served(folders[1], express=False, search=False) as plain:
        for relay in (short, plain):
            relay.call(lambda relay=relay: setattr(relay.server.server_state, "default_headers", [(b"date", b"now")]))  # type: ignore[misc]
        yield Pair(short, plain)


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as served:
        yield served


def connection_of(relay: Served, wire: Wire) -> Connection:
    port = wire.socket.getsockname()[1]

    def find() -> Connection | None:
        return next((c for c in relay.door.connections if c.client and c.client[1] == port), None)

    assert until(lambda: relay.call(find))
    return cast("Connection", relay.call(find))


def express_of(relay: Served) -> Express:
    with relay.one_wire() as wire:
        return cast("ExpressConnection", connection_of(relay, wire)).express


async def feed(connection: Connection, pieces: Sequence[bytes]) -> None:
    """Let a connection read exactly these pieces, and wait until nothing is left to do but read more."""
    deadline = time.monotonic() + PATIENCE_S
    for piece in pieces:
        while connection.flow.read_paused and not connection.transport.is_closing():
            assert time.monotonic() < deadline, "reading is never resumed"
            await asyncio.sleep(0.0005)
        if connection.transport.is_closing():
            return
        connection.data_received(piece)
        await asyncio.sleep(0)
    while not quiet(connection):
        assert time.monotonic() < deadline, "an answer is missing"
        await asyncio.sleep(0.0005)


def quiet(connection: Connection) -> bool:
    if connection.transport.is_closing():
        return True
    if isinstance(connection, ExpressConnection) and connection._waits:
        return False
    cycle: Any = connection.cycle
    answered = cycle is None or cycle.response_complete
    return answered or (connection._reading == "body" and cycle is connection._running and not cycle.body)


def talk(relay: Served, requests: Sequence[Sequence[bytes]]) -> tuple[bytes, bool]:
    """Give all that is answered, and whether the connection was closed for it."""
    with relay.one_wire() as wire:
        connection = connection_of(relay, wire)
        for pieces in requests:
            relay.run(feed(connection, pieces))
        closed = relay.call(connection.transport.is_closing)
        with contextlib.suppress(OSError):
            wire.socket.shutdown(socket.SHUT_WR)
        while wire.more():
            pass
        return wire.buffer, closed


def split(data: bytes, *at: int) -> list[bytes]:
    places = [0, *sorted(at), len(data)]
    return [piece for a, b in pairwise(places) if (piece := data[a:b])]


def answers(data: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+) ", data)]


def learn(relay: Served, *requests: bytes) -> None:
    for request in requests or (KNOWN,):
        with relay.one_wire() as wire:
            wire.ask(request)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bodies that took the short way."""
    bodies: list[bytes] = []
    real = Express.publish

    def publish(self: Express, connection: ExpressConnection, head_: Head, body: bytes) -> None:
        bodies.append(body)
        real(self, connection, head_, body)

    monkeypatch.setattr(Express, "publish", publish)
    return bodies


@contextlib.contextmanager
def held_store(relay: Served) -> Iterator[Callable[[], None]]:
    """Commits wait until the function given is called."""
    gate, store = asyncio.Event(), relay.relay.store
    real = store.append

    async def append(events: Sequence[Event]) -> list[Appended]:
        await gate.wait()
        return await real(events)

    def open_() -> None:
        relay.call(gate.set)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(store, "append", append)
        try:
            yield open_
        finally:
            open_()


def pending(relay: Served, count: int = 1) -> bool:
    """Wait until so many events are under way the short way."""
    return until(
        lambda: relay.call(lambda: sum(getattr(c, "_head", None) is not None for c in relay.door.connections)) == count
    )


# -- the same bytes, the same answers

FORGED = replace(EVENT, sig=f"{int(EVENT.sig[0], 16) ^ 1:x}{EVENT.sig[1:]}")
BODIES = [
    EVENT.to_json(),
    sign("another").to_json(),
    sign("large".ljust(20_000)).to_json(),
    sign("for the parser only".ljust(50_000)).to_json().ljust(70_000),
    FORGED.to_json(),
    replace(EVENT, id="0" * 64).to_json(),
    b"",
    b"{",
    b"[]",
    b'{"id":1}',
    b"\xff\xfe",
    b"[" * 5_000,
    b" " * 100,
]

LENGTHS: list[Callable[[int], str]] = [
    *[lambda n: f"Content-Length: {n}\r\n"] * 4,
    lambda n: f"content-LENGTH:{n}\r\n",
    lambda n: f"Content-Length: {n:09}\r\n",
    lambda n: f"Content-Length: {n} \r\n",
    lambda n: f"Content-Length: \t{n}\r\n",
    lambda n: f"Content-Length: +{n}\r\n",
    lambda n: f"Content-Length: -{n}\r\n",
    lambda n: f"Content-Length: {n}, {n}\r\n",
    lambda n: f"Content-Length: {n}\r\nContent-Length: {n}\r\n",
    lambda n: f"Content-Length: {n}\r\nContent-Length: {n + 1}\r\n",
    lambda n: f"Content-Length: {n + 1}\r\nContent-Length: {n}\r\n",
    lambda n: f"Content-Length: {n}\r\nTransfer-Encoding: chunked\r\n",
    lambda _: "Content-Length: 99999999999999999999999\r\n",
    lambda _: "Content-Length:\r\n",
    lambda _: "Content-Length: 5e1\r\n",
]
EXTRAS = [
    *[b""] * 4,
    b"Host: relay\r\n",
    b"Origin: https://a.example\r\n",
    b"X-Forwarded-For: 203.0.113.1\r\n",
    b"X-Forwarded-For: 203.0.113.1\r\nX-Forwarded-For: 203.0.113.2\r\n",
    b"X-Forwarded-For: \xff, :::\r\n",
    b"Authorization: Basic YTpi\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: close\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"Upgrade: h2c\r\n",
    b"X: y\r\n folded\r\n",
    b"X: y\n",
    b"X: \x00\r\n",
    b"X: \xff\r\n",
    b"X : y\r\n",
    b"X\r\n",
    b": y\r\n",
    b"X: y\r\r\n",
    b"X: " + b"a" * 1_000 + b"\r\n",
    b"X: " + b"a" * 3_000 + b"\r\n",
    b"Content-Type: text/plain\r\n",
    b"X: POST /events HTTP/1.1\r\n",
]
STARTS = [
    *[b"POST /events HTTP/1.1\r\n"] * 6,
    b"POST /api/events HTTP/1.1\r\n",
    b"POST /events?dry=1 HTTP/1.1\r\n",
    b"POST http://relay/events HTTP/1.1\r\n",
    b"POST /events/ HTTP/1.1\r\n",
    b"POST /%65vents HTTP/1.1\r\n",
    b"POST //events HTTP/1.1\r\n",
    b"POST /events HTTP/1.0\r\n",
    b"POST  /events HTTP/1.1\r\n",
    b"POST /events HTTP/2.0\r\n",
    b"POST /events\r\n",
    b"post /events HTTP/1.1\r\n",
    b"PUT /events HTTP/1.1\r\n",
    b"\r\nPOST /events HTTP/1.1\r\n",
    b"\nPOST /events HTTP/1.1\r\n",
]
TYPES = [*[JSON] * 5, b"content-type:application/ld+json; a=b\r\n", b"Content-Type: text/plain\r\n", b"", JSON + JSON]


def request(start: bytes, type_: bytes, length: Callable[[int], str], extra: bytes, body: bytes) -> bytes:
    return start + extra + type_ + length(len(body)).encode() + b"\r\n" + body


REQUESTS = st.one_of(
    st.builds(
        request,
        st.sampled_from(STARTS),
        st.sampled_from(TYPES),
        st.sampled_from(LENGTHS),
        st.sampled_from(EXTRAS),
        st.sampled_from(BODIES),
    ),
    st.sampled_from([KNOWN, HEALTH]),
)


@given(st.lists(st.tuples(REQUESTS, st.lists(st.integers(0, 600), max_size=3)), min_size=1, max_size=5))
def test_conversations(pair: Pair, said: list[tuple[bytes, list[int]]]) -> None:
    """Each request twice, so that the second may be known; in pieces the second time."""
    pair.same(*([one] for one, _ in said), *(split(one, *at) for one, at in said))


@pytest.mark.parametrize("extra", sorted(set(EXTRAS)))
def test_each_header(pair: Pair, extra: bytes) -> None:
    for body in (EVENT.to_json(), b"{", FORGED.to_json()):
        one = request(STARTS[0], JSON, LENGTHS[0], extra, body)
        for _ in range(3):  # also on connections of their own
            pair.same([one], [one], [one])


@pytest.mark.parametrize("length", LENGTHS[4:])
def test_each_length(pair: Pair, length: Callable[[int], str]) -> None:
    one = request(STARTS[0], JSON, length, b"", EVENT.to_json())
    for _ in range(2):
        pair.same([one], [one])


@pytest.mark.parametrize("start", sorted(set(STARTS)))
def test_each_request_line(pair: Pair, start: bytes) -> None:
    for extra in (b"", b"Origin: null\r\n"):
        one = request(start, JSON, LENGTHS[0], extra, EVENT.to_json())
        for _ in range(2):
            pair.same([one], [one])


def test_cut_at_every_place(pair: Pair) -> None:
    whole = post("/events", FORGED.to_json(), {"Origin": "null"})
    data = pair.same([whole], *(split(whole, at) for at in range(1, len(whole))))
    assert answers(data) == [400] * len(whole)


def test_byte_by_byte(pair: Pair) -> None:
    end = KNOWN.index(b"\r\n\r\n") + 4
    data = pair.same(
        [KNOWN], list(map(bytes, zip(KNOWN, strict=True))), [KNOWN[:end], *split(KNOWN[end:], *range(300))]
    )
    assert answers(data) == [200] * 3


def test_pipelined(pair: Pair, counts: Callable[..., int]) -> None:
    rng = random.Random(7)
    pool = [
        KNOWN,
        HEALTH,
        head("GET", "/nowhere"),
        *(post("/events", body) for body in BODIES),
        *(post("/events", body, {"Origin": "x"}) for body in BODIES),
        head("POST", "/events", {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
        + b"2\r\n{}\r\n0\r\n\r\n",
    ]
    for round_ in range(counts(40)):
        some = [KNOWN] if round_ % 4 == 0 else rng.sample(pool, 1 + round_ % 6)
        requests = [rng.choice(some) for _ in range(rng.choice([2, 3, 10, MAX_PIPELINED]))]
        requests += [post("/events", sign(f"{round_}").to_json())]
        data = b"".join(requests)
        cuts = [rng.randrange(len(data)) for _ in range(rng.choice([0, 0, 1, 5]))]
        said = pair.same([KNOWN], split(data, *cuts))
        assert len(answers(said)) == len(requests) + 1


def test_last_of_a_pipeline_closes(pair: Pair) -> None:
    closing = post("/events", EVENT.to_json(), {"Connection": "close"})
    data = pair.same([KNOWN], [KNOWN * 3 + closing + KNOWN])
    assert answers(data) == [200] * 5 and data.count(b"connection: close") == 1


def test_counters(tmp_path: Path) -> None:
    """Requests by status, events and refusals by code."""
    figures = []
    for short in (True, False):
        folder = tmp_path / str(short)
        folder.mkdir()
        with Served(folder, express=short, agent_rate=4) as relay, relay.one_wire() as wire:
            bodies = [*BODIES, *(sign(f"{n}").to_json() for n in range(5)), sign("", 7).to_json(), EVENT.to_json()]
            for body in bodies * 2:
                wire.ask(post("/events", body))
                wire.ask(post("/events", body, {"Origin": "x"}))
            wire.send(KNOWN).reset()
            text = b""
            until(lambda: not relay.call(lambda: len(relay.door.connections)))
            text = relay.get("/metrics").body
            figures.append(sorted(re.findall(rb"anporia_(?:requests|events|refused)\w*_total\S* .*", text)))
    assert figures[0] == figures[1] and len(figures[0]) > 8


# -- that it is taken


def test_http_client_takes_it(relay: Served, taken: list[bytes]) -> None:
    client = http.client.HTTPConnection("127.0.0.1", relay.port)
    for number in range(5):
        client.request("POST", "/events", sign(str(number)).to_json(), {"Content-Type": "application/json"})
        assert client.getresponse().read()
    client.close()
    assert len(taken) == 4


def test_httpx_takes_it(relay: Served, taken: list[bytes]) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{relay.port}", trust_env=False) as client:
        for number in range(5):
            body = sign(str(number)).to_json()
            assert client.post("/api/events", content=body, headers={"content-type": "application/json"}).is_success
    assert len(taken) == 4


@pytest.mark.parametrize("pause", [0.0, 0.03])  # in between, the second lets the relay's clock tick
def test_header_and_body_in_writes_of_their_own(pause: float, relay: Served, taken: list[bytes]) -> None:
    wire = relay.wire()
    start = (
        b"POST /events HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nAccept-Encoding: identity\r\nContent-Length: %d\r\n"
        b"User-Agent: python-urllib3/2.5.0\r\ncontent-type: application/json\r\n\r\n"
    )
    wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for number in range(10):
        body = sign(str(number)).to_json()
        wire.send(start % len(body))
        time.sleep(pause)
        assert wire.ask(body).json()["id"] == sign(str(number)).id
    assert len(taken) == 9 if not pause else len(taken) <= 9


@pytest.mark.parametrize("extra", [b"", b"Origin: x\r\n", b"X-Forwarded-For: 203.0.113.1\r\n", b"Accept: */*\r\n"])
def test_it_is_taken_from_the_second_on(extra: bytes, relay: Served, taken: list[bytes]) -> None:
    one = request(STARTS[0], JSON, LENGTHS[0], extra, EVENT.to_json())
    for _ in range(3):
        assert relay.wire().ask(one).status == 200
    assert taken == [EVENT.to_json()] * 2


@pytest.mark.parametrize(
    ("one", "status"),
    [
        (request(STARTS[0], JSON, LENGTHS[0], extra, EVENT.to_json()), 200)
        for extra in (b"Connection: close\r\n", b"X: " + b"a" * 3_000 + b"\r\n", b"X-A: 1\r\nX-A: 1\r\n")
    ]
    + [
        (request(b"POST /events?a HTTP/1.1\r\n", JSON, LENGTHS[0], b"", EVENT.to_json()), 200),
        (request(b"POST /events HTTP/1.0\r\n", JSON, LENGTHS[0], b"", EVENT.to_json()), 200),
        (request(STARTS[0], b"", LENGTHS[0], b"", EVENT.to_json()), 422),
        (request(STARTS[0], JSON, LENGTHS[0], b"", b" " * 65_537), 422),
        (request(b"POST /events/batch HTTP/1.1\r\n", JSON, LENGTHS[0], b"", EVENT.to_json()), 200),
    ],
)
def test_what_is_out_of_the_ordinary_is_never_learned(one: bytes, status: int, relay: Served) -> None:
    for _ in range(2):
        assert relay.wire().ask(one).status == status
    assert not express_of(relay)._heads


def test_no_more_than_so_many_are_known(relay: Served, monkeypatch: pytest.MonkeyPatch, taken: list[bytes]) -> None:
    monkeypatch.setattr(express, "MAX_HEADS", 3)
    known = express_of(relay)
    for round_ in range(3):
        for number in range(7):
            answer = relay.wire().ask(post("/events", EVENT.to_json(), {"X": f"{number} {round_ % 2}"}))
            assert answer.status == 200 and len(known._heads) <= 3
    assert not taken


def test_a_header_forgotten_while_its_body_comes(relay: Served) -> None:
    learn(relay)
    known = express_of(relay)
    wire = relay.wire()
    connection = connection_of(relay, wire)
    relay.run(feed(connection, [KNOWN[:-10]]))
    relay.call(known._heads.clear)
    relay.run(feed(connection, [KNOWN[-10:-5], KNOWN[-5:] + KNOWN]))
    assert [wire.answer().status for _ in range(2)] == [200, 200]


# -- one request hidden in another


def test_a_request_in_a_body_is_a_body(relay: Served, taken: list[bytes]) -> None:
    hidden = post("/events", sign("hidden").to_json())
    outer = post("/events", hidden)
    wire = relay.wire()
    assert [wire.ask(outer).code for _ in range(3)] == ["malformed"] * 3
    end = outer.index(b"\r\n\r\n") + 4
    relay.run(feed(connection_of(relay, wire), [outer[:end], hidden, outer[: end - 4], outer[end - 4 : end], hidden]))
    assert [wire.answer().code for _ in range(2)] == ["malformed"] * 2
    assert taken and set(taken) == {hidden}
    assert relay.get("/health").json()["events"] == 0


def test_more_body_than_announced_is_the_next_request(relay: Served) -> None:
    learn(relay)
    for surplus in (b"x", b"{}", b"\x00" * 9, b"GET / HTTP/9.9\r\n\r\n"):
        wire = relay.wire().send(KNOWN + surplus + b"\r\n\r\n" + KNOWN)
        assert wire.answer().status == 200
        while wire.more():
            pass
        assert set(answers(wire.buffer)) <= {400}
    wire = relay.wire().send(KNOWN + b"\r\n" + HEALTH)
    assert [wire.answer().status for _ in range(2)] == [200, 200]


def test_less_body_than_announced_takes_the_next_bytes(relay: Served) -> None:
    short = KNOWN[:-5] + KNOWN
    learn(relay)
    wire = relay.wire().send(short)
    assert (wire.answer().code, wire.answer().status) == ("malformed", 400)
    assert wire.at_end()


@pytest.mark.parametrize(
    "inside", [b"GET /health HTTP/1.1\r\nX: ", b"POST /nowhere HTTP/1.1\r\nA: b\r\nX", b"P", b"GET /"]
)
def test_a_known_header_within_another_is_none(pair: Pair, inside: bytes) -> None:
    """The parser had begun that request in the read that ended the one before; found as a request out of nothing."""
    pair.same([KNOWN])
    pair.same([HEALTH + inside], [KNOWN], [b"\r\n\r\n"])


def test_nothing_is_learned_from_the_end_of_another_header(relay: Served) -> None:
    """Found as a length, or a right password, that others had never sent."""
    raw = b"POST /events HTTP/1.1\r\nHost: victim\r\n\r\n"
    wire = relay.wire()
    start = b"POST /events HTTP/1.1\r\nContent-Length: 5\r\n" + JSON + b"X: "
    relay.run(feed(connection_of(relay, wire), [HEALTH + start]))
    relay.run(feed(connection_of(relay, wire), [raw + b"12345"]))
    assert [wire.answer().status, wire.answer().status] == [200, 422]
    assert express_of(relay).find(raw) is None


# -- much at once


def test_refusals_by_the_thousand_in_one_read(relay: Served) -> None:
    """Each is answered at once; found as a recursion without end."""
    bad = request(STARTS[0], JSON, LENGTHS[0], b"", b"")
    learn(relay, bad)
    wire = relay.wire()
    relay.run(feed(connection_of(relay, wire), [bad * 2_000 + HEALTH]))
    assert [wire.answer().status for _ in range(2_001)] == [422] * 2_000 + [200]


def test_others_are_served_in_between(relay: Served) -> None:
    bad = request(STARTS[0], JSON, LENGTHS[0], b"", b"")
    learn(relay, bad)
    greedy, modest = (connection_of(relay, relay.wire()) for _ in range(2))

    async def both() -> int:
        greedy.data_received(bad * 500)
        modest.data_received(HEALTH)
        for _ in range(20):
            await asyncio.sleep(0)
        assert modest.cycle.response_complete
        return len(cast("ExpressConnection", greedy)._held) // len(bad)

    assert relay.run(both()) > 400


def test_who_takes_no_answers_is_not_read_on(relay: Served) -> None:
    """Found as answers without end in memory."""
    bad = request(STARTS[0], JSON, LENGTHS[0], b"", b"")
    learn(relay, bad)
    wire = relay.wire(receive_buffer=4_096)
    connection = cast("ExpressConnection", connection_of(relay, wire))

    async def pour() -> int:
        sent = 0
        while sent < 100_000:
            if connection.flow.read_paused:
                before = connection.transport.get_write_buffer_size()
                await asyncio.sleep(0.02)
                if before and connection.transport.get_write_buffer_size() == before:
                    break
            else:
                connection.data_received(bad * 500)
                sent += 500
                await asyncio.sleep(0)
        return sent

    sent = relay.run(pour())
    assert sent < 100_000
    assert relay.call(connection.transport.get_write_buffer_size) < 200_000
    assert 0 < len(relay.call(lambda: connection._held)) <= 500 * len(bad)
    for _ in range(sent):
        assert wire.answer().status == 422
    assert wire.ask(HEALTH).status == 200


def test_what_is_kept_is_bounded_while_an_answer_is_due(relay: Served) -> None:
    learn(relay)
    wire = relay.wire()
    connection = cast("ExpressConnection", connection_of(relay, wire))
    with held_store(relay):
        wire.send(KNOWN)
        assert pending(relay)
        wire.socket.settimeout(0.2)
        with pytest.raises(OSError):  # noqa: PT012
            for _ in range(1_000):
                wire.send(KNOWN * 200)
        assert relay.call(lambda: len(connection._held)) <= 512 * 1024
        assert relay.call(lambda: connection.flow.read_paused)
        wire.reset()
    assert until(lambda: relay.call(lambda: connection not in relay.door.connections))


# -- ends


def test_half_close_behind_a_request(relay: Served) -> None:
    learn(relay)
    for count in (1, 2, 30):
        wire = relay.wire().send(KNOWN * count)
        wire.socket.shutdown(socket.SHUT_WR)
        assert [wire.answer().status for _ in range(count)] == [200] * count
        assert wire.at_end()


def test_half_close_while_the_answer_is_due(pair: Pair) -> None:
    said: list[Answer] = []
    for relay in (pair.short, pair.plain):
        with held_store(relay) as let_go, relay.one_wire() as wire:
            wire.send(KNOWN)
            connection = connection_of(relay, wire)
            assert until(lambda: relay.call(lambda: not quiet(connection)))  # noqa: B023
            wire.socket.shutdown(socket.SHUT_WR)
            time.sleep(0.05)
            let_go()
            said.append(wire.answer())
            assert wire.at_end()
    assert said[0] == said[1] and said[0].headers["connection"] == "close"


def test_half_close_within_a_request(relay: Served) -> None:
    learn(relay)
    for at in (10, len(KNOWN) - 700, len(KNOWN) - 1):
        wire = relay.wire().send(KNOWN[:at])
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.at_end()


def test_reset_while_the_answer_is_due(relay: Served) -> None:
    learn(relay)
    events = [sign(f"reset {n}") for n in range(10)]
    assert {len(event.to_json()) for event in events} == {len(events[0].to_json())}
    learn(relay, post("/events", sign("reset x").to_json()))
    with held_store(relay) as let_go:
        for event in events:
            wire = relay.wire().send(post("/events", event.to_json()))
            assert pending(relay)
            wire.reset()
            assert pending(relay, 0)
        let_go()
        assert until(lambda: relay.call(lambda: relay.relay.store.last_seq) == 12)
    assert until(lambda: b"anporia_events_accepted_total 12.0" in relay.get("/metrics").body)
    assert not relay.call(lambda: relay.relay.pipeline._tasks)


@pytest.mark.parametrize("step", [0, 1])
def test_slow_body(step: int, relay: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that stops, and one that drips: each byte is no new deadline."""
    learn(relay)
    for name in ("BODY_S", "LINGER_S"):
        monkeypatch.setattr(server, name, 0.2)
    for before in (b"", HEALTH):
        wire = relay.wire()
        if before:
            wire.ask(before)
        end = KNOWN.index(b"\r\n\r\n") + 4
        wire.send(KNOWN[:end])
        started = time.monotonic()
        with contextlib.suppress(OSError):
            for at in range(end, end + 60 * step):
                wire.send(KNOWN[at : at + 1])
                time.sleep(0.01)
                if wire.socket.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK):
                    break
        answer = wire.answer()
        assert (answer.status, answer.code) == (408, "timeout")
        assert wire.at_end()
        assert 0.15 < time.monotonic() - started < 2


def test_pieces_do_not_move_the_deadline(tmp_path: Path) -> None:
    with Served(tmp_path, tick_s=60) as relay:
        learn(relay)
        connection = cast("ExpressConnection", connection_of(relay, relay.wire()))
        relay.run(feed(connection, [KNOWN[:-20]]))
        since = connection._since
        time.sleep(0.02)
        relay.run(feed(connection, [KNOWN[-20:-10]]))
        assert connection._since == since and connection._held == KNOWN[:-10]
        relay.call(lambda: connection.expire(since + 1))
        assert connection._since == since and not connection._held
        relay.run(feed(connection, [KNOWN[-10:]]))
        assert connection._reading == "nothing"


def test_idle_connections_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(express, "IDLE_S", 0.3)
    monkeypatch.setattr(server, "IDLE_S", 0.3)
    with Served(tmp_path) as relay:
        learn(relay)
        first, then, never = relay.wire(), relay.wire(), relay.wire()
        for _ in range(4):
            assert first.ask(KNOWN).status == 200
            assert then.ask(HEALTH).status == then.ask(KNOWN).status == 200
            time.sleep(0.15)
        assert first.ask(KNOWN).status == first.ask(HEALTH).status == 200
        with held_store(relay) as let_go:
            never.send(KNOWN)
            assert pending(relay)
            assert first.at_end() and then.at_end()
            time.sleep(0.4)
            let_go()
            assert never.answer().status == 200
        assert never.at_end()


def test_shutdown_answers_what_is_under_way(relay: Served) -> None:
    learn(relay)
    with held_store(relay) as let_go:
        alone, several, whole = relay.wire().send(KNOWN), relay.wire().send(KNOWN * 3), relay.wire()
        partial = relay.wire().send(KNOWN[:-5])
        idle = relay.wire()
        assert whole.ask(HEALTH).status == 200
        assert pending(relay, 2)
        assert until(lambda: relay.call(lambda: sum(c._reading == "body" for c in relay.door.connections)) == 1)
        connection_of(relay, idle)

        def shutdown() -> None:
            for connection in list(relay.door.connections):
                connection.shutdown()

        relay.call(shutdown)
        assert idle.at_end() and whole.at_end()
        let_go()
        for wire, count in ((alone, 1), (several, 3), (partial.send(KNOWN[-5:]), 1)):
            got = [wire.answer() for _ in range(count)]
            assert [one.status for one in got] == [200] * count
            assert got[-1].headers["connection"] == "close"
            assert wire.at_end()
    assert until(lambda: not relay.call(lambda: relay.door.connections))


def test_answers_nobody_waits_for(relay: Served) -> None:
    """A tick that finds a connection gone; an answer too many."""
    learn(relay)
    wire = relay.wire()
    connection = cast("ExpressConnection", connection_of(relay, wire))
    relay.run(feed(connection, [KNOWN]))
    assert wire.answer().status == 200
    relay.run(feed(connection, [KNOWN[:-5]]))
    assert connection._held or connection._reading == "body"
    wire.reset()
    assert until(lambda: connection.gone)

    def late() -> None:
        connection._held = connection._held or b"x"
        connection.expire(connection.loop.time() + 1_000)
        connection._go_on()
        connection.answer(internal())

    relay.call(late)


def test_a_fault_is_answered(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.same([KNOWN])

    def fail(_body: bytes) -> Event:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(express, "parse_event", fail)
        patched.setattr("anporia_relay.routes.publish.parse_event", fail)
        data = pair.same([KNOWN], [KNOWN], [HEALTH])
    assert answers(data) == [500, 500, 200]
    assert answers(pair.same([KNOWN])) == [200]


# -- who asks


def basic(text: str) -> dict[str, str]:
    import base64

    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


def test_private_relay(tmp_path: Path, taken: list[bytes]) -> None:
    with Served(tmp_path, auth_user="u", auth_password="right") as relay:
        body = EVENT.to_json()
        right, wrong = post("/events", body, basic("u:right")), post("/events", body, basic("u:wrong"))
        assert len(right) == len(wrong)
        none, lower = post("/events", body), post("/events", body, {"authorization": basic("u:right")["Authorization"]})
        known = express_of(relay)
        for one in (none, wrong, none, wrong):
            assert relay.wire().ask(one).status == 401
        assert not known._heads
        wire = relay.wire()
        for one, status in ((right, 200), (right, 200), (wrong, 401), (none, 401), (right, 200), (lower, 200)) * 2:
            assert wire.ask(one).status == status
        twice = post("/events", body, basic("u:right")).replace(b"Host: relay", b"authorization: Basic eA==")
        assert {relay.wire().ask(twice).status for _ in range(3)} == {relay.wire().ask(twice).status}
        assert all(b"Authorization: " in raw or b"authorization: " in raw for raw in known._heads)
        assert len(known._heads) == 2 and len(taken) == 6


@pytest.mark.parametrize("trusted", [True, False])
def test_who_is_behind_a_proxy(trusted: bool, tmp_path: Path, taken: list[bytes]) -> None:
    """One who is known by its header is still one, and each other another."""
    more: dict[str, Any] = {} if trusted else {"trusted_proxies": ()}
    codes: list[list[str | None]] = []
    for short in (True, False):
        folder = tmp_path / str(short)
        folder.mkdir()
        with Served(folder, express=short, peer_rate=2, **more) as relay, relay.one_wire() as wire:
            said = []
            for number in range(12):
                body = sign(f"{number:02}", by=number + 1).to_json()
                whose = f"10.0.0.9, 203.0.113.{number % 3}"
                said.append(wire.ask(post("/events", body, {"X-Forwarded-For": whose})).code)
            codes.append(said)
    assert codes[0] == codes[1]
    assert codes[0] == [None] * (6 if trusted else 2) + ["rate_peer"] * (6 if trusted else 10)
    assert len(taken) == 9
