"""Stopping under load: nothing acknowledged is lost, streams are told, and nobody can hold the relay up."""

from __future__ import annotations

import re
import secrets
import signal
import threading
import time
from collections.abc import Callable
from os import kill
from pathlib import Path

import pytest

from anporia_wire import Event
from tests.relay.served import Wire, head, post, sign
from tests.relays import RunningRelay

FREE = {f"ANPORIA_{name}_RATE": "0" for name in ("AGENT", "PEER", "BAD_EVENT")}


def port_of(relay: RunningRelay) -> int:
    return int(relay.url.rpartition(":")[2])


class Load:
    """Publishers that each wait for an acknowledgement before the next event, until the connection ends."""

    def __init__(self, port: int, publishers: int) -> None:
        self.name = secrets.token_hex(4)  # a restart takes less than a second: what is said again is not streamed
        self.acknowledged: list[str] = []
        self.odd: list[object] = []
        self.now = int(time.time())
        self._threads = [threading.Thread(target=self._publish, args=(port, number)) for number in range(publishers)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _publish(self, port: int, number: int) -> None:
        wire = Wire(port)
        try:
            for count in range(1_000_000):
                event = sign(f"{self.name} {number} {count}", by=number + 1, at=self.now)
                answer = wire.ask(post("/events", event.to_json()))
                if answer.status != 200:
                    self.odd.append(answer)
                    return
                self.acknowledged.append(event.id)
                if answer.headers.get("connection") == "close":
                    return
        except (OSError, EOFError):
            pass
        finally:
            wire.close()


def stop_under_load(relay: RunningRelay, seconds: float) -> list[str]:
    stream = Wire(port_of(relay)).send(head("GET", "/stream"))
    stream.stream_head()
    # Read all along: what a reader has not taken when the relay stops may be lost to its stream.
    reader = threading.Thread(target=lambda: all(iter(stream.more, b"")))
    reader.start()
    load = Load(port_of(relay), 6)
    time.sleep(seconds)
    started = time.monotonic()
    assert relay.stop() == 0
    took = time.monotonic() - started
    load.join()
    assert took < 10
    assert load.odd == []
    reader.join(30)
    stream.close()
    assert stream.buffer.endswith(b": bye, the relay is stopping\n\n\r\n0\r\n\r\n"), stream.buffer[-200:]
    streamed = set(re.findall(rb'data: {"id":"([0-9a-f]{64})"', stream.buffer))
    assert len(load.acknowledged) > 20
    assert len(streamed) >= len(load.acknowledged) - 12  # all but what the farewell overtook
    return load.acknowledged


def test_nothing_acknowledged_is_lost(tmp_path: Path, counts: Callable[..., int]) -> None:
    with RunningRelay(tmp_path, env=FREE) as relay:
        everything: list[str] = []
        for round_ in range(counts(2, soak=60)):
            if not relay.running:
                relay.start()
            everything += stop_under_load(relay, 0.3 + round_ % 5 * 0.05)
        assert "Traceback" not in relay.stderr
        relay.start()
        wire = Wire(port_of(relay))
        for id_ in everything:
            assert wire.ask(head("GET", f"/events/{id_}")).status == 200
        wire.close()


def test_a_kill_loses_nothing_acknowledged(tmp_path: Path, counts: Callable[..., int]) -> None:
    with RunningRelay(tmp_path, env=FREE) as relay:
        everything: list[str] = []
        for _ in range(counts(2, soak=60)):
            if not relay.running:
                relay.start()
            load = Load(port_of(relay), 6)
            time.sleep(0.3)
            relay.kill9()
            load.join()
            everything += load.acknowledged
        assert len(everything) > 20
        relay.start()
        wire = Wire(port_of(relay))
        for id_ in everything:
            assert wire.ask(head("GET", f"/events/{id_}")).status == 200
        wire.close()


def big(number: int) -> Event:
    return sign(str(number).ljust(60_000), by=number + 1, at=int(time.time()))


def test_clients_that_stand_still_cannot_hold_it_up(tmp_path: Path) -> None:
    """A stopped reader of a stream, one of a large answer, idle ones, half a header, half a body."""
    with RunningRelay(tmp_path, env=FREE) as relay:
        port = port_of(relay)
        wires = [Wire(port, receive_buffer=4_096).send(head("GET", "/stream")) for _ in range(3)]
        time.sleep(0.1)
        writer = Wire(port)
        for number in range(60):
            assert writer.ask(post("/events", big(number).to_json())).status == 200
        wires.append(Wire(port, receive_buffer=4_096).send(head("GET", "/events?limit=1000")))
        wires.append(Wire(port).send(b"GET /hea"))
        wires.append(Wire(port))
        wires.append(Wire(port).send(head("GET", "/stream") + head("GET", "/health")))
        time.sleep(0.2)
        started = time.monotonic()
        assert relay.stop() == 0
        assert time.monotonic() - started < 9
        for wire in (*wires, writer):
            wire.close()
        assert "Traceback" not in relay.stderr


def test_new_connections_are_refused_while_what_has_begun_is_finished(tmp_path: Path) -> None:
    with RunningRelay(tmp_path, env=FREE) as relay:
        port, event = port_of(relay), sign("slow", at=int(time.time()))
        whole = post("/events", event.to_json())
        slow = Wire(port).send(whole[:-10])
        idle = Wire(port)
        assert idle.ask(head("GET", "/health")).status == 200
        kill(relay.pid, signal.SIGTERM)
        assert idle.at_end()
        with pytest.raises(OSError):  # noqa: PT012
            for _ in range(100):
                wire = Wire(port)
                wire.close()
                time.sleep(0.02)
        answer = slow.send(whole[-10:]).answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        slow.close()
        idle.close()
        assert relay.stop() == 0
        relay.start()
        wire = Wire(port_of(relay))
        assert wire.ask(head("GET", f"/events/{event.id}")).status == 200
        wire.close()


def test_interrupt_and_two_signals(tmp_path: Path) -> None:
    with RunningRelay(tmp_path) as relay:
        kill(relay.pid, signal.SIGINT)
        kill(relay.pid, signal.SIGTERM)
        assert relay.stop() == 0
        assert "Traceback" not in relay.stderr
        assert " info stopped " in relay.stderr
