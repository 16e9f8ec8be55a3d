"""A relay killed with SIGKILL under load, again and again: what it acknowledged is there, once, in its place."""

from __future__ import annotations

import http.client
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from random import Random

import orjson
import pytest

from anporia_wire import Event
from tests.e2e.traffic import NOT_RATED, Publisher, read_log, signed_events
from tests.relays import RELAY, RunningRelay

SINGLE_PUBLISHERS, BATCH_PUBLISHERS = 4, 2
EVENTS_A_ROUND = 3_000  # more than can be acknowledged before the latest kill
LATEST_KILL = 1_500  # acknowledgements after which a relay is killed at the latest
PATIENCE_S = 60.0


class Load:
    """Publishers at work on one relay until it dies; what was not acknowledged goes back to be sent again."""

    def __init__(self, url: str, waiting: deque[Event], rng: Random) -> None:
        self.acknowledged: list[str] = []
        self._url = url
        self._waiting = waiting
        self._more = threading.Condition()
        self._threads = [threading.Thread(target=self._publish, args=(1,)) for _ in range(SINGLE_PUBLISHERS)]
        self._threads += [
            threading.Thread(target=self._publish, args=(rng.randrange(2, 400),)) for _ in range(BATCH_PUBLISHERS)
        ]
        self._wrong: list[object] = []
        for thread in self._threads:
            thread.start()

    def wait_for(self, acknowledgements: int) -> None:
        with self._more:
            enough = self._more.wait_for(lambda: len(self.acknowledged) >= acknowledgements, PATIENCE_S)
        assert enough, f"{len(self.acknowledged)} acknowledgements in {PATIENCE_S:.0f} s; {self._wrong}"

    def join(self) -> None:
        for thread in self._threads:
            thread.join(PATIENCE_S)
        assert not self._wrong, self._wrong[0]

    def _publish(self, size: int) -> None:
        with Publisher(self._url) as publisher:
            while events := [event for _ in range(size) if (event := _next(self._waiting))]:
                try:
                    if size == 1:
                        answers = [publisher.post(events[0]).json]
                    else:
                        answers = publisher.batch(events)
                except (OSError, http.client.HTTPException):
                    self._waiting.extendleft(events)
                    return
                taken = [answer["id"] for answer in answers if answer.get("accepted")]
                if taken != [event.id for event in events]:
                    self._wrong.append(answers)
                with self._more:
                    self.acknowledged += taken
                    self._more.notify_all()


def _next(waiting: deque[Event]) -> Event | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


def test_nothing_acknowledged_is_lost(
    tmp_path: Path, counts: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    rng = Random(9)
    kills = counts(5, soak=200)
    relay = RunningRelay(tmp_path, env=NOT_RATED)
    waiting: deque[Event] = deque()
    log: list[str] = []  # id by seq, from 1
    where: dict[str, int] = {}
    acknowledged = unacknowledged = 0
    relay.start()
    for kill in range(1, kills + 1):
        waiting.extend(signed_events(EVENTS_A_ROUND - len(waiting), rng))
        load = Load(relay.url, waiting, rng)
        load.wait_for(rng.randrange(1, LATEST_KILL))
        time.sleep(rng.random() * 0.01)  # at any point of a transaction
        relay.kill9()
        load.join()
        relay.start()

        rows = read_log(relay.db, after=0 if kill == kills else len(log))
        if kill == kills:  # what had its place before still has it
            assert [orjson.loads(raw)["id"] for _, raw in rows[: len(log)]] == log
            rows = rows[len(log) :]
        assert [seq for seq, _ in rows] == list(range(len(log) + 1, len(log) + len(rows) + 1)), f"kill {kill}"
        new = [orjson.loads(raw)["id"] for _, raw in rows]
        log += new
        where |= dict(zip(new, range(len(log) - len(new) + 1, len(log) + 1), strict=True))
        assert len(where) == len(log), f"kill {kill}: an event stands twice in the log"
        lost = [id_ for id_ in load.acknowledged if id_ not in where]
        acknowledged += len(load.acknowledged)
        assert not lost, f"kill {kill}: {len(load.acknowledged)} acknowledged, {len(lost)} of them lost: {lost[:3]}"
        unacknowledged += len(set(new) - set(load.acknowledged))

        with Publisher(relay.url) as reader:
            for id_ in rng.sample(load.acknowledged, min(20, len(load.acknowledged))):
                answer = reader.get(f"/events/{id_}")
                assert (answer.status, answer.json["id"]) == (200, id_)
            assert reader.get("/health").json["events"] == len(log)
        if kills <= 5 or kill % 20 == 0 or kill == kills:
            done = subprocess.run([RELAY, "--db", relay.db, "verify"], capture_output=True, text=True)
            assert done.returncode == 0, f"kill {kill}: {done.stdout}"
    assert relay.stop() == 0
    if kills > 5:
        with capsys.disabled():
            print(
                f"\n{kills} kills: {acknowledged:,} acknowledged, 0 lost; {len(log):,} in the log,"
                f" {unacknowledged:,} of them stored though their acknowledgement was cut off"
            )
