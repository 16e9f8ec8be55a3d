"""Logs whose ids are no hashes, so that events may name those to come: chains that are circles."""

from __future__ import annotations

import random

import orjson

from anporia_wire import Event
from anporia_wire.intents import SCHEMAS
from anporia_wire.kinds import DELEGATION, INTENT_DECLARE, KEY_ROTATION, PROFILE
from anporia_wire.views import Health, Views
from tests.fuzz import acts, poison
from tests.relay.served import NOW

__all__ = ["events", "try_views"]

_MOST = 24
_EVENTS = [f"{number:064x}" for number in range(1, _MOST + 1)]
_AGENTS = [f"{number:064x}" for number in range(0xA0, 0xA5)]
_IDS = [*_EVENTS, *_AGENTS]
_OWN = frozenset({PROFILE, INTENT_DECLARE, DELEGATION, KEY_ROTATION})  # what anybody may say


def events(choose: poison.Choices, most: int = _MOST) -> list[Event]:
    """Give some events of five agents, who know of each other and of what each is going to say."""
    stage = acts.Stage(_AGENTS)
    plan: list[tuple[str, int, str]] = []
    for id_ in _EVENTS[:most]:
        kind, agent = choose.pick(acts.KINDS if choose.below(2) else poison.KINDS), choose.pick(_AGENTS)
        plan.append((id_, kind, agent))
        if kind in acts.KINDS:
            stage.said[kind].append((id_, agent))
    found: list[Event] = []
    for id_, kind, planned in plan:
        if choose.ended:
            break
        at, by = poison.created_at(choose), planned
        if kind in acts.KINDS and choose.below(4):
            author, content, tags = acts.act(choose, kind, stage, _IDS)
            by = planned if kind in _OWN else author
        else:
            content, tags = poison.content(choose, kind, _IDS), poison.tags(choose, _IDS)
        found.append(Event(id_, by, at, kind, tuple(map(tuple, tags)), content, "0" * 128))
    return found


def try_views(log: list[Event]) -> None:
    """Fold them in three orders, read all, write the state and read it again."""
    health, said = Health(), {event.id: event for event in log if event.kind in SCHEMAS}
    for event in log:
        health.apply(Event(event.id, event.agent_id, event.created_at, 11, event.tags, event.content, event.sig))
    numbered = list(enumerate(log, start=1))
    views = _folded(numbered)
    state, answers = orjson.dumps(views.snapshot()), poison.read_all(views, _IDS, said)
    restored = Views.restore(orjson.loads(state))
    shuffled = random.Random(len(state)).sample(numbered, len(numbered))
    for other in (_folded(numbered[::-1]), _folded(shuffled), restored):
        assert orjson.dumps(other.snapshot()) == state and poison.read_all(other, _IDS, said) == answers
    orjson.dumps([views.roster.read(health, NOW, "a"), [views.roster.detail(agent, health, NOW) for agent in _AGENTS]])
    orjson.dumps([health.read(agent, NOW) for agent in _AGENTS])


def _folded(log: list[tuple[int, Event]]) -> Views:
    views = Views()
    for seq, event in log:
        views.apply(seq, event)
    return views
