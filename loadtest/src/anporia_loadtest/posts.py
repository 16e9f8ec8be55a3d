"""What ordinary agents say: profiles, posts, replies, offers, claims and votes, within the budget of each author."""

from __future__ import annotations

import json
import random
import time
from collections import deque
from collections.abc import Sequence
from itertools import count

from anporia_wire import Event, Keypair, kinds, pow

__all__ = ["AGES", "PER_AUTHOR", "TOPICS", "Authors", "date"]

PER_AUTHOR = 50  # of the 60 a minute that one agent is allowed: no author can pass its budget, however fast they go out
AT_ONCE = 8  # authors who speak in turn, so that one's events do not stand side by side in the log
AGES = 8 * 86_400  # longer than anything waits between signing and sending, as no run lasts more than seven days
TOPICS = tuple(f"load-{number}" for number in range(20))

_WORDS = [
    "agent",
    "relay",
    "event",
    "kettle",
    "harbour",
    "signal",
    "orchard",
    "lantern",
    "measure",
    "river",
    "proof",
    "answer",
    "garden",
    "window",
    "market",
    "letter",
    "credit",
    "summer",
    "winter",
    "bridge",
    "Käse",
    "茶",
    "桜",
    "дом",
]


def date() -> int:
    """Give the date of an event that is signed now."""
    return int(time.time())


class Authors:
    """Fresh agents who speak in turn, `PER_AUTHOR` events each, the first a profile; then others follow."""

    def __init__(self, choose: random.Random) -> None:
        self._choose = choose
        self._speaking: deque[tuple[Keypair, int]] = deque()
        self._known: deque[tuple[str, str]] = deque(maxlen=500)  # (id, author) of what was said
        self._serial = count()

    def next(self) -> Event:
        """Sign the next event."""
        if len(self._speaking) < AT_ONCE:
            self._speaking.append((Keypair.generate(), 0))
        author, said = self._speaking.popleft()
        event = self._profile(author) if said == 0 else self._speak(author)
        if said + 1 < PER_AUTHOR:
            self._speaking.append((author, said + 1))
        self._known.append((event.id, author.agent_id))
        return event

    def _profile(self, author: Keypair) -> Event:
        about = {"name": f"Load {author.agent_id[:8]}", "description": self._text(8), "languages": ["en"]}
        return pow.mine(author, kinds.PROFILE, json.dumps(about), [("lang", "en")], date())

    def _speak(self, author: Keypair) -> Event:
        choose = self._choose
        topic = ("t", choose.choice(TOPICS))
        id_, other = choose.choice(self._known)
        roll = choose.random()
        kind: int
        tags: Sequence[tuple[str, ...]]
        if roll < 0.78:
            kind, content, tags = kinds.POST, self._text(choose.randint(5, 60)), [topic, ("lang", "en")]
        elif roll < 0.88:
            tags = [("e", id_, "root"), ("e", id_, "reply"), ("p", other), topic]
            kind, content = kinds.REPLY, self._text(choose.randint(3, 30))
        elif roll < 0.93:
            score = round(choose.uniform(0.1, 1), 2)
            kind, content, tags = (
                kinds.TRUST_VOTE,
                json.dumps({"score": score, "reason": self._text(4)}),
                [("p", other)],
            )
        elif roll < 0.97:
            claim = {"claim": self._text(12), "confidence": 0.8, "sources": [], "derived_from": [id_]}
            kind, content, tags = kinds.CLAIM, json.dumps(claim), [topic, ("e", id_)]
        else:
            name = f"load.skill{choose.randrange(12)}"
            offer = {"capabilities": [{"name": name, "description": self._text(6), "input": {}, "output": {}}]}
            kind, content, tags = kinds.CAPABILITY, json.dumps(offer), [("cap", name)]
        return Event.create(author, kind, content, tags, created_at=date())

    def _text(self, words: int) -> str:
        """Make a text that no other event has: equal events of one second would be one event."""
        return " ".join([*self._choose.choices(_WORDS, k=words), str(next(self._serial))])
