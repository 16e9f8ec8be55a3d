"""Hostile events in the log: no question is answered 500, and nobody else's answers change.

Most go past the door into the store, as an import or an older relay's database may bring them: the views
must not count on rules of publishing. Some go through the door too, which takes or refuses them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from anporia_relay import snapshot
from anporia_relay.http import Route
from anporia_wire import AnporiaError, Event, pow
from anporia_wire.intents import SCHEMAS
from anporia_wire.kinds import INTENT_DECLARE
from anporia_wire.views import Views
from tests.fuzz import acts, folding, poison
from tests.fuzz.bystanders import Answered, Bystanders, ask, ask_all, until_searchable
from tests.relay.served import NOW, Served, keys

ROOT = Path(__file__).resolve().parents[2]
BATCH = 20
PER_RELAY = 5_000  # events; then a fresh one, or answers grow too large to ask for often
POISONERS = [keys(number) for number in range(1_000, 1_040)]
ACTING = POISONERS[20:26]  # few, so that they speak of each other
BEACONING = POISONERS[:20]  # 20 beacons each: more agents than this crowd others out, which no content has part in
_KEYS = {key.agent_id: key for key in POISONERS}
CLIENT_ERRORS = frozenset({400, 404, 410, 422})


class Poisoner:
    """Pours hostile events into a relay and asks it hostile questions."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.bystanders = Bystanders()
        self.statuses: Counter[str] = Counter()
        self.published = self.stored = self.asked = 0
        self.routes = [r for r in served.relay.router.routes if r.method == "GET" and r.path != "/stream"]
        near = [f"{id_}0" for id_ in self.bystanders.ids] + [id_.upper() for id_ in self.bystanders.ids if "a" in id_]
        self.ids = [*(key.agent_id for key in POISONERS), *near, "f" * 64, keys(99).agent_id]
        self.stage = acts.Stage([key.agent_id for key in ACTING])
        self.acts: dict[str, Event] = {}
        served.run(self.bystanders.move_in(served))
        self.before = self.answers()

    def answers(self) -> dict[str, Any]:
        return self.served.run(self.bystanders.answers(self.served))

    def events(self, choose: poison.Choices) -> list[Event]:
        """Give some events; whoever comes later may refer to those before."""
        found: list[Event] = []
        while not choose.ended and len(found) < BATCH:
            kind, at = choose.pick(poison.KINDS), poison.created_at(choose)
            if kind in acts.KINDS and choose.below(4):
                agent, content, tags = acts.act(choose, kind, self.stage, self.ids)
                by = _KEYS[agent]
            else:
                by, tags = choose.pick(BEACONING if kind == 15 else POISONERS), poison.tags(choose, self.ids)
                content = poison.content(choose, kind, self.ids)
            with contextlib.suppress(AnporiaError):  # what has no canonical form has no id
                if kind in (0, 50) and choose.below(4) == 0:
                    event = pow.mine(by, kind, content, tags[:30], at)
                else:
                    event = Event.create(by, kind, content, tags, created_at=at)
                found.append(event)
                self.ids.append(event.id)
                self.stage.take(event)
                if kind in SCHEMAS:
                    self.acts[event.id] = event
        del self.ids[: len(self.ids) - 500 if len(self.ids) > 500 else 0]
        return found

    def pour(self, events: list[Event]) -> None:
        """Publish at the door what it takes, and store the rest past it; beats are never stored."""
        for line in self.served.batch(*events) if events else []:
            assert line["status"] < 500, line
            self.published += line["status"] == 200
        appended = self.served.run(self.served.relay.store.append(events))
        self.stored += sum(one.new for one in appended)

    def ask(self, questions: list[tuple[Route, str, str]]) -> None:
        answers = self.served.run(ask_all(self.served, [(path, query) for _, path, query in questions]))
        for (route, path, query), answer in zip(questions, answers, strict=True):
            self.check(route, f"{path}?{query}", answer)

    def check(self, route: Route, question: str, answer: Answered) -> None:
        self.asked += 1
        self.statuses[f"{route.path} {answer.status}"] += 1
        assert answer.status == 200 or answer.status in CLIENT_ERRORS, (question, answer.status, answer.body[:300])
        if answer.content_type == "application/json":
            said = answer.json()
            assert answer.status == 200 or "detail" in said
        else:
            assert route.path in ("/docs", "/metrics"), question

    def ask_every_route(self, choose: poison.Choices) -> None:
        agents, events = [key.agent_id for key in POISONERS], [id_ for id_ in self.ids[-100:] if id_ != id_.upper()]
        acting = [*self.stage.agents, *agents[:2]]
        declared = self.stage.said[INTENT_DECLARE]
        about_of = {
            "/home": agents,
            "/intents": acting,
            "/intents/{intent_id}": [id_ for id_, _ in declared if self.acts[id_].created_at <= NOW] or events,
            "/agents/{agent_id}/delegations": acting,
        }
        for route in self.routes:
            about = about_of.get(route.path, agents if "{agent_id}" in route.path else events)
            plain = poison.plain_question(choose, route, about)
            self.ask([(route, *plain), (route, *poison.question(choose, route, self.ids))])

    def check_harmless(self) -> None:
        """Nobody else's answers changed; and see `check_views`."""
        self.served.run(until_searchable(self.served))
        self.check_views()
        assert self.answers() == self.before

    def check_views(self) -> None:
        """The state can be written, and read again as the same; scores are worked out in finite time."""
        views: Views = self.served.relay.views
        assert views.seq == self.served.relay.store.last_seq

        def read(one: Views) -> bytes:
            return poison.read_all(one, self.ids, self.acts)

        state, answers = self.served.call(lambda: (orjson.dumps(views.snapshot()), read(views)))
        restored = Views.restore(orjson.loads(state))
        assert orjson.dumps(restored.snapshot()) == state
        assert read(restored) == answers


def hypothesis_run(examples: int) -> Callable[..., Callable[..., None]]:
    return settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def test_poison_harms_nobody(tmp_path: Path, counts: Callable[..., int], caplog: pytest.LogCaptureFixture) -> None:
    wanted = counts(2_000, soak=100_000)
    for number in range(0, wanted, PER_RELAY):
        folder = tmp_path / str(number)
        folder.mkdir()
        with Served(folder) as served:
            poisoned = Poisoner(served)
            pour_all(poisoned, min(wanted, PER_RELAY))
            poisoned.check_harmless()
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def pour_all(poisoned: Poisoner, wanted: int) -> None:
    @hypothesis_run(wanted // BATCH + 1)
    @given(st.binary(min_size=1_600, max_size=1_600), st.binary(min_size=500, max_size=500))
    def run(events: bytes, questions: bytes) -> None:
        poisoned.pour(poisoned.events(poison.Choices(events)))
        poisoned.ask_every_route(poison.Choices(questions))
        if random.Random(events).random() < 0.05:
            poisoned.check_harmless()

    run()
    assert poisoned.published > 0 and poisoned.stored > 0 and poisoned.asked >= wanted
    assert poisoned.stored + poisoned.published >= wanted * 3 // 4  # the rest were the same twice
    reached = {line.rpartition(" ")[0] for line in poisoned.statuses if line.endswith(" 200")}
    assert reached == {route.path for route in poisoned.routes}


def test_any_order_and_circles(counts: Callable[..., int]) -> None:
    """Whatever the order, the answers are the same; and what names each other in a circle is read in finite time."""
    rng = random.Random(8)
    for _ in range(counts(20, soak=5_000)):
        folding.try_views(folding.events(poison.Choices(rng.randbytes(1_200))))


def test_searches_of_hostile_text(tmp_path: Path, counts: Callable[..., int]) -> None:
    """Of any text at all: found, nothing found, or refused as a question; in both orders, and counted."""
    rng = random.Random(6)
    alphabet = st.characters(exclude_categories=["Cs"]) | st.sampled_from('"*-+^:(){}\\\x00 ²本日\u0301ORANDNEAR')
    with Served(tmp_path) as served:
        poisoned = Poisoner(served)
        for _ in range(5):
            poisoned.pour(poisoned.events(poison.Choices(rng.randbytes(1_600))))
        served.run(until_searchable(served))
        listed, counted = (next(r for r in poisoned.routes if r.path == path) for path in ("/events", "/events/count"))

        @hypothesis_run(counts(1_000, soak=50_000))
        @given(st.text(alphabet, max_size=60) | st.sampled_from(poison.ODD_TEXTS), st.sampled_from(["time", "rank"]))
        def run(text: str, order: str) -> None:
            q = quote(text, safe="")
            poisoned.ask([(listed, "/events", f"q={q}&order={order}&limit=3"), (counted, "/events/count", f"q={q}")])

        run()


def test_the_poisoned_log_starts_again(tmp_path: Path, counts: Callable[..., int]) -> None:
    """A relay that stops writes its state, and one that starts reads it: the same, whatever the log holds."""
    rng = random.Random(5)
    with Served(tmp_path) as served:
        first = Poisoner(served)
        for _ in range(counts(10, soak=200)):
            served.run(served.relay.store.append(first.events(poison.Choices(rng.randbytes(1_600)))))
        path = snapshot.path_of(served.config.db)
        served.run(snapshot.write(served.relay.store, served.relay.views, path))
        written = served.call(served.relay.views.snapshot)
    with Served(tmp_path) as again:
        assert orjson.dumps(again.call(again.relay.views.snapshot)) == orjson.dumps(written)
        assert again.run(first.bystanders.answers(again)) == first.before
        assert again.run(ask(again, "/beacons")).status == 200


@pytest.mark.soak
@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="atheris is not made for this platform")
def test_guided_by_coverage(tmp_path: Path) -> None:
    """Two minutes of `atheris_views`, from a corpus of random bytes; what broke is shown as the bytes that do it."""
    rng = random.Random(7)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(200):
        (corpus / str(number)).write_bytes(rng.randbytes(rng.choice([50, 150, 300, 600])))
    limits = ["-runs=20000", "-max_len=800", "-len_control=0", "-timeout=20", f"-artifact_prefix={tmp_path}/"]
    command = [sys.executable, "-m", "tests.fuzz.atheris_views", str(corpus), *limits]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1_200)
    broke = [path.read_bytes().hex() for path in tmp_path.glob("*-*")]
    assert done.returncode == 0 and not broke, (broke, done.stderr[-3_000:])
    assert "Done 20" in done.stderr
