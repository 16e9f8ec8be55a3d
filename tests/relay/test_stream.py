"""The live stream: frames, filters, resuming, and readers that do not read."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anporia_relay import fanout, hub
from anporia_relay.app import Relay
from anporia_relay.express import Express
from anporia_relay.fanout import LiveStream
from anporia_relay.hub import CUT_SLOW, Hub, Subscriber, frame
from anporia_store import Committed
from anporia_wire import Event, Filter, kinds
from tests.relay.served import NOW, Served, Wire, head, keys, post, sign, until

_FRAME = re.compile(rb"id: ([0-9a-f]{8})-(\d+)\ndata: ([^\r\n]*)\n\n")


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as served:
        yield served


def frames(wire: Wire, count: int) -> list[tuple[int, dict[str, Any]]]:
    """Read so many frames, and no more than that, strictly."""
    found: list[tuple[int, dict[str, Any]]] = []
    while len(found) < count:
        chunk = wire.chunk()
        if chunk == b": ping\n\n":
            continue
        assert _FRAME.sub(b"", chunk) == b"", chunk[:200]
        found += [(int(seq), json.loads(data)) for _, seq, data in _FRAME.findall(chunk)]
    assert len(found) == count
    return found


def texts(wire: Wire, count: int) -> list[str]:
    return [event["content"] for _, event in frames(wire, count)]


# -- frames


def test_greeting_headers_and_frames(relay: Served) -> None:
    wire = relay.wire().send(head("GET", "/stream", {"Origin": "https://a.example"}))
    lines = wire.stream_head().decode().lower().split("\r\n")
    assert lines[0] == "http/1.1 200 ok"
    for header in ("content-type: text/event-stream; charset=utf-8", "cache-control: no-cache", "x-accel-buffering: no",
                   "access-control-allow-origin: *", "vary: origin"):  # fmt: skip
        assert lines.count(header) == 1
    database = relay.get("/").json()["database_id"]
    assert f"anporia-place: {database}-0" in lines
    assert wire.chunk() == b": connected\n\n"
    event = sign("hello", 1, ["t", "room"])
    relay.publish(event)
    again = relay.wire().send(head("GET", "/stream", {}))
    assert f"anporia-place: {database}-1" in again.stream_head().decode().lower().split("\r\n")
    assert wire.chunk() == b"id: %b-1\ndata: %b\n\n" % (database.encode(), event.to_json())


def test_only_new_stored_events_in_order(relay: Served) -> None:
    wire = relay.stream("/api/stream")
    first = sign("first")
    relay.publish(first, sign("beat", kinds.BEAT), first, sign("lobby", 1, ["t", kinds.LOBBY]))
    relay.batch(*(sign(f"{number}", at=NOW - number) for number in range(20)), first)
    got = frames(wire, 22)
    assert [seq for seq, _ in got] == list(range(1, 23))
    assert [event["content"] for _, event in got] == ["first", "lobby", *map(str, range(20))]


def test_line_separators_of_python_are_escaped(relay: Served) -> None:
    content = "a\u2028b\u2029c\u0085d\x0b\x0c\x1c\x1d\x1ee\r\nf \u2027\u202a\u0084é"
    wire = relay.stream()
    relay.publish(sign(content, 1, ["t", content]))
    chunk = wire.chunk()
    assert len(chunk.decode().splitlines()) == 3  # id, data, blank: as httpx reads it
    assert b"\\u2028b\\u2029c\\u0085d" in chunk
    found = _FRAME.fullmatch(chunk)
    assert found and Event.parse(found[3]) == sign(content, 1, ["t", content])


def test_escaping_keeps_the_event() -> None:
    for backslashes in range(5):
        for sign_ in "\u2028\u2029\u0085":
            event = sign("\\" * backslashes + sign_ + '"')
            data = frame("0" * 8, 1, event.to_json()).split(b"data: ")[1]
            assert Event.parse(data.strip()) == event


def test_ping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "PING_S", 0.15)
    with Served(tmp_path) as relay:
        wire = relay.stream()
        started = time.monotonic()
        assert [wire.chunk(), wire.chunk()] == [b": ping\n\n"] * 2
        assert time.monotonic() - started > 0.25
        relay.publish(sign("x"))
        while (chunk := wire.chunk()) == b": ping\n\n":
            pass
        assert _FRAME.fullmatch(chunk)


# -- filters


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["a", "b", "c", "end"]),
        ("t=room", ["a", "end"]),
        ("kinds=2,1", ["a", "b", "end"]),
        ("kind=5", ["c", "end"]),
        (f"authors={keys(2).agent_id.upper()},nobody", ["b", "end"]),
        ("p=P&unknown=1", ["c", "end"]),
        ("t=room&kinds=1&p=&authors=", ["a", "end"]),
    ],
)
def test_filters(query: str, expected: list[str], relay: Served) -> None:
    wire = relay.stream(f"/stream?{query}")
    relay.publish(sign("a", 1, ["t", "room"]), sign("b", 2, by=2), sign("c", 5, ["p", "P"]))
    relay.publish(sign("end", 5 if "kind=5" in query else 1, ["t", "room"], ["p", "P"], by=2))
    assert texts(wire, len(expected)) == expected


@pytest.mark.parametrize(
    "name", ["since", "until", "limit", "cursor", "as_of", "include_revoked", "include_hidden", "branch"]
)
def test_parameters_of_events_are_refused(name: str, relay: Served) -> None:
    answer = relay.get(f"/stream?{name}=1")
    assert (answer.status, answer.code) == (422, "invalid_filter")
    assert answer.json()["detail"][0]["loc"] == ["query", name]
    assert relay.subscribers() == 0


def test_bad_filter(relay: Served) -> None:
    assert relay.get("/stream?kinds=x").code == "invalid_filter"
    assert relay.subscribers() == 0


# -- resuming


def test_resume_gives_what_live_would_have_given(relay: Served) -> None:
    database = relay.get("/").json()["database_id"]
    events = [sign(str(n), (1, 2, 5)[n % 3], ["t", kinds.LOBBY if n % 5 == 0 else "room"]) for n in range(60)]
    live = relay.stream("/stream?kinds=1,5")
    relay.publish(*events[:30], sign("", kinds.REVOKE, ["e", events[3].id]), *events[30:])
    expected = frames(live, 40)
    for after in (0, 1, 17, 60):
        resumed = relay.stream("/stream?kinds=1,5", {"Last-Event-ID": f"{database}-{after}"})
        rest = [item for item in expected if item[0] > after]
        assert frames(resumed, len(rest)) == rest
    end = relay.stream("/stream", {"Last-Event-ID": f"{database}-{61}"})
    relay.publish(sign("after"))
    assert texts(end, 1) == ["after"]


def test_resume_without_gap_while_events_arrive(
    tmp_path: Path, counts: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams that break off and resume see each event once, in order, whenever they come."""
    monkeypatch.setattr("anporia_relay.routes.stream._REPLAY_ROWS", 7)
    resumes = counts(50)
    with Served(tmp_path) as relay, relay.one_wire() as writer:
        database = relay.get("/").json()["database_id"]
        expected, last = 0, 0
        for round_ in range(resumes):
            burst = [sign(f"{round_} {number}") for number in range(12)]
            wire = relay.wire().send(head("GET", "/stream", {"Last-Event-ID": f"{database}-{last}"}))
            writer.send(b"".join(post("/events", event.to_json()) for event in burst))
            wire.stream_head()
            assert wire.chunk() == b": connected\n\n"
            for _ in burst:
                assert writer.answer().status == 200
            expected += len(burst)
            stop_at = expected - round_ % 9  # leave some for the next one
            while last < stop_at:
                for _, seq, _ in _FRAME.findall(wire.chunk()):
                    assert int(seq) == last + 1
                    last += 1
            wire.reset() if round_ % 2 else wire.close()
        assert until(lambda: relay.subscribers() == 0)


@pytest.mark.parametrize(
    "place",
    [
        "x",
        "-",
        "-1",
        "1",
        "{db}",
        "{db}-",
        "{db}--1",
        "{db}-1x",
        "{db}-+1",
        "{db}-1.0",
        "{db}-\u00b2",
        "{db}-" + "9" * 19,
        "00000000-0",
        "{DB}-0",
        "{db}-2",
        "{db} -0",
        "{db}-0-0",
        "\u00e9",
    ],
)
def test_places_that_are_none(place: str, relay: Served) -> None:
    relay.publish(sign("only"))
    database = relay.get("/").json()["database_id"]
    if database.isdigit() and "{DB}" in place:
        return
    asked = place.replace("{db}", database).replace("{DB}", database.upper())
    answer = relay.get("/stream", {"Last-Event-ID": asked})
    assert (answer.status, answer.code) == (400, "bad_cursor")
    assert relay.subscribers() == 0


def test_empty_place_is_none(relay: Served) -> None:
    relay.publish(sign("before"))
    wire = relay.stream("/stream", {"Last-Event-ID": " "})
    relay.publish(sign("after"))
    assert texts(wire, 1) == ["after"]


def test_place_before_the_oldest_row_is_gone(relay: Served) -> None:
    relay.publish(*(sign(str(number)) for number in range(5)))
    database = relay.get("/").json()["database_id"]

    def forget() -> None:
        relay.relay.store.first_seq = 4

    relay.call(forget)
    answer = relay.get("/stream", {"Last-Event-ID": f"{database}-2"})
    assert (answer.status, answer.code) == (410, "cursor_gone")
    assert f"{database}-3" in answer.json()["detail"]
    assert [seq for seq, _ in frames(relay.stream("/stream", {"Last-Event-ID": f"{database}-3"}), 2)] == [4, 5]


def test_damaged_row_ends_a_replay_instead_of_leaving_a_gap(relay: Served) -> None:
    relay.publish(sign("good"), sign("spoilt"))

    async def spoil() -> None:
        await relay.relay.store._writer.execute(
            "UPDATE events SET raw = CAST(replace(CAST(raw AS TEXT), 'spoilt', 'SPOILT') AS BLOB)"
        )
        await relay.relay.store._writer.commit()

    relay.run(spoil())
    database = relay.get("/").json()["database_id"]
    wire = relay.stream("/stream", {"Last-Event-ID": f"{database}-0"})
    assert b": cut, the log is damaged here" in wire.chunk()
    assert wire.chunk() == b"" and wire.at_end()
    assert until(lambda: relay.subscribers() == 0)


# -- readers that do not read


def big(number: int) -> Event:
    return sign(str(number).ljust(60_000), 1, by=number + 1)


def test_slow_reader_is_cut_and_told_while_others_go_on(relay: Served) -> None:
    slow = relay.wire(receive_buffer=4_096).send(head("GET", "/stream"))
    fast = relay.stream()
    assert until(lambda: relay.subscribers() == 2)
    published = 0
    while relay.subscribers() == 2:
        relay.publish(*(big(number) for number in range(published, published + 5)))
        published += 5
        assert [seq for seq, _ in frames(fast, 5)] == list(range(published - 4, published + 1))
        assert published < 1_000
    while slow.more():
        pass
    assert slow.buffer.endswith(b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(CUT_SLOW), CUT_SLOW)) or (
        b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(CUT_SLOW), CUT_SLOW) in slow.buffer[-100:]
    )
    whole = _FRAME.findall(re.sub(rb"\r\n[0-9a-f]+\r\n", b"", slow.buffer))
    assert [int(seq) for _, seq, _ in whole] == list(range(1, len(whole) + 1)) and len(whole) < published
    relay.publish(sign("still here"))
    assert texts(fast, 1) == ["still here"]
    assert b"anporia_subscribers_cut_total 1.0" in relay.get("/metrics").body


def test_reader_that_takes_nothing_for_long_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MAX_BEHIND_S", 0.2)
    monkeypatch.setattr(hub, "MAX_BEHIND_BYTES", 10**9)
    monkeypatch.setattr("anporia_relay.server.LINGER_S", 0.1)
    with Served(tmp_path) as relay:
        relay.wire(receive_buffer=4_096).send(head("GET", "/stream"))
        assert until(lambda: relay.subscribers() == 1)
        for start in range(0, 100, 10):
            relay.publish(*(big(number) for number in range(start, start + 10)))
        assert until(lambda: relay.subscribers() == 0)
        # a reader that still does not read is not waited for
        assert until(lambda: not relay.call(lambda: relay.door.connections))
        assert not relay.call(lambda: relay.server.server_state.tasks)


def test_a_fault_while_streaming_ends_streams_instead_of_leaving_a_gap(
    relay: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = relay.stream()

    def fail(*_args: object) -> bytes:
        raise RuntimeError("a fault")

    with monkeypatch.context() as patched:
        patched.setattr(hub, "frame", fail)
        relay.publish(sign("missed"))
    while wire.more():
        pass
    assert hub.CUT_FAULT in wire.buffer
    relay.publish(sign("heard"))
    resumed = relay.stream(headers={"Last-Event-ID": f"{relay.relay.store.database_id}-0"})
    assert texts(resumed, 2) == ["missed", "heard"]


def test_one_huge_event_cuts_nobody(relay: Served) -> None:
    """Escapes make one event a frame of 1.4 MB, more than a reader may be behind."""
    wire = relay.stream()
    event = sign("", 1, *[["x"] + ["\u0085" * 500] * 15 for _ in range(32)])
    relay.publish(event)
    assert Event.parse(json.dumps(frames(wire, 1)[0][1])) == event
    relay.publish(sign("after"))
    assert texts(wire, 1) == ["after"]


def test_one_large_commit_cuts_nobody(relay: Served) -> None:
    wires = [relay.stream() for _ in range(5)]
    events = [sign(str(number).ljust(3_900)) for number in range(900)]  # 3.9 MB, committed together
    relay.batch(*events)
    for wire in wires:
        assert [seq for seq, _ in frames(wire, 900)] == list(range(1, 901))


def test_subscriber_limit(tmp_path: Path) -> None:
    with Served(tmp_path, max_subscribers=3) as relay:
        wires = [relay.stream() for _ in range(3)]
        answer = relay.get("/stream")
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "subscribers_full", "30")
        wires[0].reset()
        assert until(lambda: relay.subscribers() == 2)
        relay.stream()


# -- clients that leave


def test_nothing_stays_of_clients_that_left(relay: Served) -> None:
    relay.publish(*(sign(str(number)) for number in range(300)))
    database = relay.get("/").json()["database_id"]
    for number in range(60):
        headers = {"Last-Event-ID": f"{database}-0"} if number % 2 else {}
        wire = Wire(relay.port).send(head("GET", "/stream", headers))
        if number % 3:
            wire.stream_head()
        wire.reset() if number % 4 < 2 else wire.close()
    assert until(lambda: relay.subscribers() == 0)
    assert until(lambda: not relay.call(lambda: relay.server.server_state.tasks))
    assert b"anporia_subscribers 0.0" in relay.get("/metrics").body


def test_stream_asked_for_behind_an_unread_answer(relay: Served) -> None:
    """It may begin only after its client has left; found as a subscriber that stayed for ever."""
    relay.publish(*(big(number) for number in range(200)))
    wire = Wire(relay.port, receive_buffer=4_096)
    wire.send(head("GET", "/events?limit=200") + head("GET", "/stream"))
    assert until(lambda: relay.subscribers() == 1)
    wire.reset()
    assert until(lambda: relay.subscribers() == 0)
    assert until(lambda: not relay.call(lambda: relay.server.server_state.tasks))


def test_request_behind_a_stream_is_never_answered_into_it(relay: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "PING_S", 0.1)  # the relay does not read on, so only writing finds out who has left
    wire = relay.wire().send(head("GET", "/stream") + head("GET", "/health"))
    wire.stream_head()
    assert wire.chunk() == b": connected\n\n"
    relay.publish(sign("a"))
    assert texts(wire, 1) == ["a"]
    wire.reset()
    assert until(lambda: relay.subscribers() == 0)


def test_garbage_behind_a_stream_ends_it(relay: Served) -> None:
    wire = relay.stream().send(b"\x00\x00\r\n\r\n")
    assert wire.at_end()
    assert until(lambda: relay.subscribers() == 0)


def test_farewell(relay: Served) -> None:
    wire = relay.stream()
    relay.call(relay.relay.end_streams)
    assert (wire.chunk(), wire.chunk(), wire.at_end()) == (b": bye, the relay is stopping\n\n", b"", True)
    answer = relay.get("/stream")
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "stopping", "5")


# -- the hub by itself


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def committed(*events: Event, first: int = 1) -> list[Committed]:
    return [Committed(first + at, event, event.to_json()) for at, event in enumerate(events)]


def live(hub_: Hub, filter_: Filter | None = None) -> Subscriber:
    subscriber = hub_.admit(filter_ or Filter())
    hub_.go_live(subscriber)
    return subscriber


def test_hub_cuts_by_bytes_at_the_next_commit() -> None:
    clock = Clock()
    hub_ = Hub("0" * 8, 10, clock)
    stuck, quick = live(hub_), live(hub_)
    woken: list[str] = []
    stuck.wake = lambda: woken.append("stuck")
    hub_.publish(committed(*(big(number) for number in range(30))))
    assert not stuck.cut and woken == ["stuck"]
    while data := b"".join(quick.take()):
        assert len(data) < 2 * hub.MAX_WRITE_BYTES
        quick.wrote(len(data), clock.now)
    assert quick.behind == 0
    hub_.publish(committed(sign("one more"), first=31))
    assert [stuck.cut, quick.cut, len(hub_)] == [hub.chunk(CUT_SLOW), None, 1]
    assert woken == ["stuck", "stuck"] and stuck.take() == []
    assert b"\r\nid: 00000000-31\n" in quick.take()[0]


def test_hub_cuts_by_time_and_not_who_is_taking() -> None:
    clock = Clock()
    hub_ = Hub("0" * 8, 10, clock)
    stuck, slow = live(hub_), live(hub_)
    hub_.publish(committed(*(big(number) for number in range(10))))
    for _ in range(31):
        clock.now += 1
        slow.wrote(10, clock.now)
        hub_.tick()
    assert (stuck.cut, slow.cut) == (hub.chunk(CUT_SLOW), None)


def test_hub_pings_only_who_hears_nothing() -> None:
    clock = Clock()
    hub_ = Hub("0" * 8, 10, clock)
    quiet, busy = live(hub_, Filter(kinds=frozenset({5}))), live(hub_)
    for seq in range(1, 16):
        clock.now += 1
        hub_.publish(committed(sign(str(seq)), first=seq))
        busy.wrote(len(b"".join(busy.take())), clock.now)
        hub_.tick()
    assert (quiet.take(), busy.take()) == ([hub.chunk(hub.PING)], [])


def test_hub_delivers_to_others_while_it_cuts_one() -> None:
    hub_ = Hub("0" * 8, 1_000, Clock())
    subscribers = [live(hub_) for _ in range(100)]
    subscribers[50].wake = lambda: hub_.leave(subscribers[51])  # leaving from within must not break the round
    subscribers[10].wake = lambda: hub_.leave(subscribers[9])
    hub_.publish(committed(sign("a"), sign("b")))
    assert sum(b"".join(subscriber.take()).count(b"data: ") for subscriber in subscribers) >= 198


def test_a_failing_subscriber_does_not_keep_the_acknowledgement(relay: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Relay, _: object) -> None:
        raise RuntimeError("a view is broken")

    monkeypatch.setattr(type(relay.relay.views), "apply", fail)
    wire = relay.stream()
    relay.publish(sign("kept"))
    assert texts(wire, 1) == ["kept"]


# -- many readers


def test_each_of_many_readers_hears_everything_once_and_in_order(relay: Served) -> None:
    """Some do not read for a while, some never do, and some leave in the middle."""
    late = [relay.wire(receive_buffer=4_096).send(head("GET", "/stream")) for _ in range(10)]
    never = [relay.wire(receive_buffer=4_096).send(head("GET", "/stream")) for _ in range(10)]
    leaving = [relay.stream() for _ in range(50)]
    readers = [relay.stream() for _ in range(300)]
    assert until(lambda: relay.subscribers() == 370)
    with relay.one_wire() as writer:
        count = 0
        for round_ in range(5):
            burst = [sign(f"{round_} {n}".ljust(1_500)) for n in range(12)]
            writer.send(b"".join(post("/events", event.to_json()) for event in burst))
            for wire in leaving[round_ * 10 : round_ * 10 + 10]:
                wire.reset()
            for _ in burst:
                assert writer.answer().status == 200
            count += len(burst)
    expected = list(range(1, count + 1))
    for wire in late:
        wire.stream_head()
        assert wire.chunk() == b": connected\n\n"
    for wire in readers + late:
        assert [seq for seq, _ in frames(wire, count)] == expected
    for wire in never:
        wire.reset()
    assert until(lambda: relay.subscribers() == 310)


def test_an_acknowledgement_does_not_wait_for_all_readers(relay: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "A_TURN", 1)
    wires = [relay.stream() for _ in range(100)]
    done: list[str] = []
    write, write_answer = LiveStream.write, Express.write

    def written(stream: LiveStream) -> None:
        done.append("frame")
        write(stream)

    def answered(*args: Any, **options: Any) -> bytes:
        done.append("answer")
        return write_answer(*args, **options)

    monkeypatch.setattr(LiveStream, "write", written)
    monkeypatch.setattr(Express, "write", answered)
    event = sign("a")
    with relay.one_wire() as writer:
        for _ in range(2):  # the second takes the short way
            done.clear()
            assert writer.ask(post("/events", event.to_json())).status == 200
            event = sign("b")
    for wire in wires:
        assert texts(wire, 2) == ["a", "b"]
    assert done.count("answer") == 1 and done.count("frame") <= 200
    assert done.index("answer") < len(done) - 50


def test_what_comes_meanwhile_goes_out_with_the_same_write(relay: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    wires = [relay.stream() for _ in range(40)]
    served: list[LiveStream] = []
    write = LiveStream.write
    committed_ = [committed(sign(str(n)), first=n + 1) for n in range(5)]

    def written(stream: LiveStream) -> None:
        served.append(stream)
        write(stream)

    def publish() -> None:
        for one in committed_:
            relay.relay.hub.publish(one)

    monkeypatch.setattr(LiveStream, "write", written)
    relay.call(publish)
    for wire in wires:
        assert texts(wire, 5) == list("01234")
    assert len(served) == len(set(served)) == 40


def test_writing_goes_on_after_a_pause(relay: Served) -> None:
    slow = relay.wire(receive_buffer=4_096).send(head("GET", "/stream"))
    fast = relay.stream()
    assert until(lambda: relay.subscribers() == 2)
    published = 0
    while not relay.call(lambda: any(c.flow.write_paused for c in relay.door.connections)):
        relay.publish(*(sign(f"{published} {n}".ljust(20_000), by=n + 1) for n in range(4)))
        published += 4
        assert published < 2_000
    relay.publish(*(sign(f"more {n}") for n in range(5)))
    published += 5
    slow.stream_head()
    assert slow.chunk() == b": connected\n\n"
    for wire in (slow, fast):
        assert [seq for seq, _ in frames(wire, published)] == list(range(1, published + 1))
    assert relay.subscribers() == 2


def test_readers_share_the_bytes() -> None:
    hub_ = Hub("0" * 8, 10, Clock())
    first, second, other = live(hub_), live(hub_), live(hub_, Filter(kinds=frozenset({5})))
    hub_.publish(committed(sign("a"), sign("b", 5)))
    mine, yours = first.take(), second.take()
    assert len(mine) == 2 and all(one is two for one, two in zip(mine, yours, strict=True))
    assert other.take()[0] is mine[1]


def test_a_fault_of_one_socket_ends_only_its_stream(relay: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found as streams that all fell silent, with nobody told."""
    monkeypatch.setattr(fanout, "A_TURN", 3)
    wires = [relay.stream() for _ in range(20)]
    write = LiveStream.write
    failed: list[LiveStream] = []

    def fail(stream: LiveStream) -> None:
        if not failed:
            failed.append(stream)
            raise RuntimeError("a fault")
        write(stream)

    monkeypatch.setattr(LiveStream, "write", fail)
    relay.publish(sign("a"))
    assert until(lambda: relay.subscribers() == 19)
    relay.publish(sign("b"))
    heard = 0
    for wire in wires:
        with contextlib.suppress(EOFError):
            assert texts(wire, 2) == ["a", "b"]
            heard += 1
    assert heard == 19
