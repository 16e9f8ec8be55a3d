"""The sans-IO core against a scripted relay, in virtual time: what is accepted is there, once.

Nothing here waits or connects: the steps' effects are carried out by a model of the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anporia_client import (
    AnporiaError,
    Event,
    NoAnswer,
    Outbox,
    OutcomeUnknown,
    RateLimited,
    RelayError,
    RelayTimeout,
    RelayUnreachable,
    Request,
    Response,
)
from anporia_client.core import Clock
from anporia_client.follow import Follower, Seen
from anporia_client.letters import Letters
from anporia_client.steps import Local, Send, Steps, Together, Wait
from anporia_wire import Filter
from tests.wire.samples import ALICE, NOW, signed

URLS = ("http://one.test", "http://two.test", "http://three.test")
TIMEOUT_S = 15.0

# what happens to one request: what the relay does with it, and what comes back
TROUBLES = ("refused", "lost before", "lost after", "slow before", "slow after", "429", "429 unsaid", "502 before",
            "502 after", "503", "500", "garbled after")  # fmt: skip
ON_OUR_SIDE = ("ok", *TROUBLES)


class Model:
    """One relay and the way to it: what is stored there, and what happens to each request to come."""

    def __init__(
        self, url: str, script: Sequence[str], *, batch: bool = False, bad: frozenset[str] = frozenset()
    ) -> None:
        self.url = url
        self.stored: list[str] = []
        self.sent: set[str] = set()  # ids that left our side
        self.bad = bad  # contents it refuses for good
        self.batch = batch
        self._script = iter(script)

    def take(self, request: Request, timeout: float) -> tuple[float, Response | RelayError]:
        """Give the seconds that a request takes, and its outcome."""
        if request.method == "GET":
            features = {"features": ["batch"], "limits": {"max_batch_events": 3}} if self.batch else {}
            return 0.01, Response(200 if features else 404, {}, orjson.dumps(features))
        what = next(self._script, "ok")
        events = [Event.parse(line) for line in (request.body or b"").splitlines()]
        if what == "refused":
            return 0.01, RelayUnreachable("refused", self.url)
        self.sent.update(event.id for event in events)
        good = [event for event in events if event.content not in self.bad]
        if what in ("ok", "lost after", "slow after", "502 after", "garbled after"):
            self.stored += [event.id for event in good if event.id not in self.stored]
        if what.startswith("lost"):
            return min(0.2, timeout), NoAnswer("cut", self.url)
        if what.startswith("slow"):
            return timeout, RelayTimeout("slow", self.url)
        if what == "429":
            return 0.01, Response(429, {"retry-after": "20", "anporia-code": "rate_agent"}, b"{}")
        if what == "429 unsaid":
            return 0.01, Response(429, {}, b"{}")
        if what.startswith("502"):
            return 0.1, Response(502, {}, b"<html>")
        if what in ("503", "500"):
            code = {"503": "stopping", "500": "internal"}[what]
            return 0.01, Response(int(what), {"anporia-code": code}, b"{}")
        if what == "garbled after":
            return 0.1, Response(200, {}, b"<html>")
        if request.path == "/events/batch":
            lines = [
                {"id": event.id, "status": 200, "accepted": True, "duplicate": False}
                if event in good
                else {"id": event.id, "status": 400, "code": "bad_shape", "detail": "no"}
                for event in events
            ]
            return 0.01, Response(200, {}, b"\n".join(map(orjson.dumps, lines)))
        (event,) = events
        if not good:
            return 0.01, Response(400, {"anporia-code": "bad_shape"}, b"{}")
        return 0.01, Response(200, {}, orjson.dumps({"id": event.id, "accepted": True}))


class World:
    """Carries steps out in virtual time. Several relays are asked one after the other, each from the same moment on."""

    def __init__(self, *models: Model, outbox: Outbox | None = None, quorum: int = 1) -> None:
        self.models = models
        self.now = 1_000.0
        clock = Clock(wall=lambda: NOW + self.now - 1_000, steady=lambda: self.now)
        self.core = Letters(ALICE, [one.url for one in models], timeout=TIMEOUT_S, quorum=quorum, clock=clock)
        self.core.outbox = outbox

    def run(self, steps: Steps[Any]) -> Any:
        value: Any = None
        error: AnporiaError | None = None
        for _ in range(100_000):
            try:
                effect = steps.send(value) if error is None else steps.throw(error)
            except StopIteration as done:
                return done.value
            value = error = None
            try:
                value = self._perform(effect)
            except AnporiaError as exc:
                error = exc
        raise AssertionError("these steps never end")

    def _perform(self, effect: Any) -> Any:
        match effect:
            case Send(at, request, timeout):
                assert timeout > 0
                took, outcome = self.models[at].take(request, timeout)
                assert took <= timeout + 1e-6
                self.now += took
                if isinstance(outcome, RelayError):
                    raise outcome
                return outcome
            case Wait(seconds):
                assert seconds >= 0
                self.now += seconds
            case Local(call):
                return call()
            case Together(steps, _, _):
                began, ends, results = self.now, [self.now], []
                for one in steps:
                    self.now = began
                    try:
                        results.append(self.run(one))
                    except AnporiaError as exc:
                        results.append(exc)
                    ends.append(self.now)
                self.now = max(ends)
                return results
        return None


scripts = st.lists(st.sampled_from(ON_OUR_SIDE), max_size=12)


@given(scripts)
def test_an_event_is_sent_until_its_fate_is_known(script: list[str]) -> None:
    model = Model(URLS[0], script)
    world = World(model)
    event = signed(content="x")
    began = world.now
    try:
        answer = world.run(world.core.send(event))
    except OutcomeUnknown as exc:
        assert event.id in model.sent, "nothing was sent, and it says that nobody knows"
        assert exc.event == event and exc.url == model.url
    except RelayUnreachable as exc:
        assert event.id not in model.stored and exc.event == event
    except RelayError as exc:
        assert exc.event == event
    else:
        assert answer["accepted"] is True and answer["id"] == event.id
        assert model.stored == [event.id]
    assert world.now - began <= TIMEOUT_S + 0.2, "the deadline went by"
    # whatever became of it: the same again settles it
    assert World(Model(URLS[0], [])).run(world.core.send(event))["accepted"]
    settled = Model(URLS[0], [])
    settled.stored = model.stored
    assert World(settled).run(World(settled).core.send(event))["accepted"]
    assert settled.stored == [event.id]


def _may_be_stored(script: Sequence[str]) -> tuple[Model, RelayError]:
    model = Model(URLS[0], script)
    world = World(model)
    with pytest.raises(RelayError) as caught:
        world.run(world.core.send(signed(content="x")))
    assert len(model.stored) == 1
    return model, caught.value


@pytest.mark.parametrize("last", ["429", "429 unsaid", "garbled after", "500", "503"])
def test_what_may_be_stored_is_never_said_not_to_be(last: str) -> None:
    _, error = _may_be_stored(["lost after", *[last] * 1_000])
    assert isinstance(error, OutcomeUnknown), repr(error)


def test_a_garbled_acknowledgement_is_asked_for_again() -> None:
    model = Model(URLS[0], ["garbled after"])
    world = World(model)
    assert world.run(world.core.send(signed(content="x")))["accepted"]


@given(scripts, st.integers(1, 8), st.booleans(), st.sampled_from([None, 5.0, 40.0]), st.booleans())
def test_many_events_are_each_answered_truly(
    script: list[str], count: int, batch: bool, timeout: float | None, some_bad: bool
) -> None:
    bad = frozenset({"1", "4"} if some_bad else ())
    model = Model(URLS[0], script, batch=batch, bad=bad)
    world = World(model)
    began = world.now
    given_ = world.run(world.core.publish_many([(1, str(number)) for number in range(count)], timeout=timeout))
    assert [one["event"]["content"] for one in given_] == [str(number) for number in range(count)]
    for one in given_:
        if one["accepted"]:
            assert one["id"] in model.stored
        else:
            assert one["code"]
            if one["event"]["content"] in bad and one["code"] == "bad_shape":
                assert one["id"] not in model.stored
    assert len(model.stored) == len(set(model.stored))
    if timeout is not None:
        assert world.now - began <= timeout + 1.0 + 0.2 * count


def test_a_part_that_was_taken_is_not_said_to_be_unsent() -> None:
    model = Model(URLS[0], ["ok", "refused"], batch=True)
    world = World(model)
    big = "x" * 60_000
    # two megabytes fill a request: forty of these need two
    model_limits = {"features": ["batch"], "limits": {"max_batch_events": 100}}
    world.core.relays[0].info = model_limits
    given_ = world.run(world.core.publish_many([(1, f"{number}{big}") for number in range(40)], timeout=5))
    assert 0 < len(model.stored) < 40
    for one in given_:
        assert one["accepted"] == (one["id"] in model.stored), one["code"]


@pytest.fixture
def boxes(tmp_path: Path) -> Iterator[Any]:
    made: list[Outbox] = []

    def make() -> Outbox:
        made.append(Outbox(tmp_path / f"{len(made)}.outbox"))
        return made[-1]

    yield make
    for one in made:
        one.close()


@given(st.data())
def test_an_outbox_loses_nothing_and_keeps_the_order(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    relays = data.draw(st.integers(1, 3))
    bad = frozenset(data.draw(st.sets(st.sampled_from("0123"), max_size=2)))
    models = [Model(url, data.draw(scripts), bad=bad) for url in URLS[:relays]]
    outbox = Outbox(tmp_path_factory.mktemp("box") / "outbox")
    world = World(*models, outbox=outbox, quorum=data.draw(st.integers(1, relays)))
    ids: list[str] = []
    refused: set[str] = set()
    try:
        for number in range(data.draw(st.integers(1, 4))):
            event = signed(content=str(number), at=NOW + number)
            ids.append(event.id)
            if event.content in bad:
                refused.add(event.id)
            began = world.now
            try:
                answer = world.run(world.core.send(event))
            except RelayError as exc:
                assert event.content in bad and exc.event == event
            else:
                assert answer["accepted"] is not answer.get("queued", False)
                if answer["accepted"]:
                    took = sum(1 for model in models if event.id in model.stored)
                    assert took >= world.core.quorum
            assert world.now - began <= TIMEOUT_S + 0.2
        for _ in range(8):
            world.run(world.core.drain())
        for model in models:
            assert model.stored == [id_ for id_ in ids if id_ not in refused], "lost, twice or out of order"
        left = outbox.undelivered()
        assert {(one.id, one.relay) for one in left} == {(id_, url) for id_ in refused for url in URLS[:relays]}
        assert all(one.code == "bad_shape" for one in left)
    finally:
        outbox.close()


def test_a_refused_event_sent_again_is_not_called_accepted(boxes: Any) -> None:
    model = Model(URLS[0], [], bad=frozenset({"bad"}))
    world = World(model, outbox=boxes())
    event = signed(content="bad")
    with pytest.raises(RelayError):
        world.run(world.core.send(event))
    try:
        answer = world.run(world.core.send(event))
    except RelayError:
        return
    assert not answer["accepted"] and model.stored == []


def test_an_event_sent_again_to_a_further_relay_gets_there(boxes: Any) -> None:
    box = boxes()
    down = Model(URLS[0], ["refused"] * 99)
    event = signed(content="x")
    assert World(down, outbox=box).run(World(down, outbox=box).core.send(event))["queued"]
    other = Model(URLS[1], [])
    world = World(Model(URLS[0], ["refused"] * 99), other, outbox=box, quorum=1)
    answer = world.run(world.core.send(event))
    assert answer["accepted"] is (event.id in other.stored)
    assert other.stored == [event.id]


def test_publish_many_says_what_is_queued(boxes: Any) -> None:
    world = World(Model(URLS[0], ["refused"] * 99), outbox=boxes())
    for one in world.run(world.core.publish_many([(1, "a"), (1, "b")], timeout=5)):
        assert one["accepted"] is False and one["queued"] is True


@pytest.mark.parametrize("retry_after", ["999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_nobody_is_made_to_wait_for_years(retry_after: str) -> None:
    world = World(Model(URLS[0], []))
    error = RateLimited(429, "rate_agent", "no", NOW + 10**9, URLS[0])
    assert world.core.pause(error, 1) <= 86_400


# -------------------------------------------------------------------------------------------- streams, without sockets

SSE = Response(200, {"content-type": "text/event-stream"}, b"")


def _follower(seen: Seen | None = None, url: str = URLS[0]) -> Follower:
    return Follower(
        url, Filter(), last_event_id=None, reconnect=True, patient=False, keep_invalid=False,
        seen=seen or Seen(), drop=lambda *_: None,
    )  # fmt: skip


def test_a_quiet_plain_stream_misses_nothing_of_a_long_cut() -> None:
    follower = _follower()
    assert follower.opened(SSE, NOW) == []
    list(follower.feed(b": connected\n\n"))
    follower.ended(NoAnswer("cut"), NOW + 10)
    gaps = follower.opened(SSE, NOW + 3_610)  # back after an hour
    assert all(gap.since is not None and gap.since <= NOW + 10 for gap in gaps)


def test_a_relay_that_is_far_behind_repeats_nothing() -> None:
    seen = Seen(several=True)
    ids = [f"{number:064x}" for number in range(25_000)]
    assert all(seen.first(id_) for id_ in ids)
    # the other relay comes back and resumes from where it was: the same 25,000 again
    assert not any(seen.first(id_) for id_ in ids)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_cuts_at_any_byte_lose_and_repeat_nothing(numbers: list[int], random: Any) -> None:
    """A relay with places: after each cut it goes on from the place asked for."""
    events = [signed(content=str(number), at=NOW + at) for at, number in enumerate(numbers)]
    follower = _follower()
    got: list[str] = []
    for cuts in range(200):
        place = follower.request().headers.get("last-event-id", "d-0")
        assert follower.opened(SSE, NOW) == [] or not got
        after = int(place.partition("-")[2])
        rest = b": connected\n\n" + b"".join(
            b"id: d-%d\ndata: %s\n\n" % (at, event.to_json()) for at, event in enumerate(events[after:], after + 1)
        )
        end = random.randrange(len(rest) + 1) if cuts < 100 else len(rest)
        while rest[:end]:
            size = random.randrange(1, 400)
            got += [event["id"] for _, event in follower.feed(rest[: min(size, end)]) if event]
            rest, end = rest[min(size, end) :], end - min(size, end)
        if len(got) == len(events):
            break
        assert follower.ended(NoAnswer("cut"), NOW) is not None
    assert got == [event.id for event in events]
