"""A network made from a seed: agents, and the events of a week that any relay of ANP2 v0.1 accepts, oldest first.

`generate(seed, now)` gives the same network each time for equal arguments. Every time is drawn before anything is
built, then the events are made in the order of time, so that each may refer to those before it. No event lies so close
to an edge (a window of 24 hours, a deadline, the end of a beacon) that reading it `MARGIN_S` later could change what a
view says. One agent never says two things in the same second; different agents sometimes do.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from anporia_wire import Event, Keypair, dm, pow

DAY = 86_400
MARGIN_S = 1_800
OLDEST_S = int(6.8 * DAY)

Votes = Literal["plain", "any"]
Tags = list[list[str]]

TOPICS = ["lobby", "ml", "rust", "日本語", "squid", "market", "weather", "poetry", "sql", "Ünïcode", "a b", "zk"]
CAPS = ["text.translate.v1", "text.translate", "text.summarise.v1", "image.caption.v1", "data.clean.v2", "math.prove"]
_WORDS = "the relay signs each event and nobody can change it; squid, proofs (and poems!) are welcome: 東京 naïve 42 ok"

# A task plays one of these scripts; "r" is the requester, "p" the provider, "q" another one, "v" and "w" verifiers, "s"
# a stranger. Every path of a task's status, and those where status and credit disagree, are among them.
SCRIPTS: dict[str, list[tuple[str, str]]] = {
    "pending": [],
    "timed out": [],
    "accepted": [("p", "accept")],
    "accepted late": [("p", "accept")],
    "accepted twice": [("p", "accept"), ("q", "accept"), ("q", "result"), ("p", "result")],
    "completed": [("p", "accept"), ("p", "result")],
    "result without accept": [("p", "result")],
    "result by a stranger": [("p", "accept"), ("s", "result")],
    "passed": [("p", "accept"), ("p", "result"), ("v", "passed")],
    "passed twice": [("p", "accept"), ("p", "result"), ("v", "passed"), ("w", "passed")],
    "passed twice, failed once": [("p", "accept"), ("p", "result"), ("v", "passed"), ("w", "passed"), ("s", "failed")],
    "failed": [("p", "accept"), ("p", "result"), ("v", "failed")],
    "disputed by a tie": [("p", "accept"), ("p", "result"), ("v", "passed"), ("w", "failed")],
    "disputed by a verdict": [("p", "accept"), ("p", "result"), ("v", "disputed")],
    "verdict of no meaning": [("p", "accept"), ("p", "result"), ("v", "perhaps")],
    "verified by itself": [("p", "accept"), ("p", "result"), ("p", "passed"), ("r", "passed")],
    "verdict before the result": [("p", "accept"), ("v", "passed")],
    "paid": [("p", "accept"), ("p", "result"), ("v", "passed"), ("r", "release")],
    "refunded": [("p", "accept"), ("p", "result"), ("v", "failed"), ("r", "refund")],
    "paid, then refunded": [("p", "accept"), ("p", "result"), ("v", "passed"), ("r", "release"), ("r", "refund")],
    "paid by a stranger": [("p", "accept"), ("s", "release")],
    "cancelled": [("r", "cancel")],
    "cancelled by a stranger": [("s", "cancel")],
    "cancelled, then accepted": [("r", "cancel"), ("p", "accept")],
    "cancelled too late": [("p", "accept"), ("r", "cancel")],
    "own task": [("r", "accept"), ("r", "result"), ("v", "passed")],
    "passed, then revoked": [("p", "accept"), ("p", "result"), ("v", "passed"), ("r", "revoke")],
    "open, then revoked": [("p", "accept"), ("r", "revoke")],
    "passed, the verdict revoked": [("p", "accept"), ("p", "result"), ("v", "passed"), ("v", "revoke")],
}


@dataclass(frozen=True)
class Network:
    """What was generated; `events` stand in the order in which they are to be published."""

    now: int
    agents: list[str]
    events: list[Event]
    scripts: dict[str, str]  # task id -> its script

    def of_kinds(self, *kinds: int) -> list[Event]:
        return [event for event in self.events if event.kind in kinds]

    @property
    def stored(self) -> list[Event]:
        """Everything but the beats, which no relay stores."""
        return [event for event in self.events if event.kind != 11]


def generate(seed: int, now: int, *, agents: int = 50, events: int = 10_000, votes: Votes = "any") -> Network:
    """Make the network. `votes="plain"` leaves out what our trust counts otherwise than published relays do:
    votes repeated, withdrawn, revoked or for oneself.
    """
    return _Maker(seed, now, agents, events, votes).network()


class _Maker:
    def __init__(self, seed: int, now: int, agents: int, events: int, votes: Votes) -> None:
        self.random = random.Random(f"anporia {seed} {agents} {events} {votes}")
        self.now, self.wanted, self.votes = now, events, votes
        self.keys = [Keypair(hashlib.sha256(f"agent {seed} {n}".encode()).digest()) for n in range(agents)]
        self.made: list[Event] = []
        self.pairs: list[tuple[Keypair, str]] = []
        self.scripts: dict[str, str] = {}
        self.plans: list[tuple[int, int, Keypair, Callable[[Keypair, int], Event | None]]] = []
        self.busy: set[tuple[str, int]] = set()

    def network(self) -> Network:
        self._plan_all()
        for at, _, who, make in sorted(self.plans, key=lambda plan: plan[:2]):
            event = make(who, at)
            if event is not None:
                self.made.append(event)
        return Network(self.now, [key.agent_id for key in self.keys], self._arrival(), self.scripts)

    # ------------------------------------------------------------------------------------------------- planning

    def _plan_all(self) -> None:
        share = self.wanted / 100
        for key in self.keys:  # the first profile and offer of each; some have more, and the newest counts
            self._at(key, self._time(OLDEST_S, OLDEST_S - DAY // 2), self._profile)
            if self.random.random() < 0.8:
                self._at(key, self._time(), self._capability)
        for count, make in [
            (0.5, self._profile),
            (0.5, self._capability),
            (6, self._vote),
            (4, self._message),
            (3, self._flag),
            (2, self._subscribe),
            (2, self._revoke),
        ]:
            for _ in range(int(count * share)):
                self._at(self._someone(), self._time(), make)
        for _ in range(int(2 * share)):
            self._beacon()
        for _ in range(int(3 * share)):
            self._beat()
        names = list(SCRIPTS)
        for number in range(int(3 * share)):
            self._task(names[number % len(names)])
        for _ in range(8):
            self._at(self._someone(), self._time(), self._orphan)
        while len(self.plans) < self.wanted:
            make = self.random.choices([self._post, self._reply, self._claim], [55, 25, 20])[0]
            who, at = self._someone(), self._time()
            if self.plans and self.random.random() < 0.1:
                at = self.plans[-1][0]  # the same second as something else
            self._at(who, at, make)

    def _time(self, oldest: int = OLDEST_S, newest: int = 2 * MARGIN_S) -> int:
        return self.now - self.random.randint(newest, oldest)

    def _at(self, who: Keypair, at: int, make: Callable[[Keypair, int], Event | None]) -> int:
        """Plan it for the first second from `at` on that is free for `who` and far from the edge of a window."""
        while (who.agent_id, at) in self.busy or abs(self.now - at - DAY) < MARGIN_S:
            at += MARGIN_S * 2 if abs(self.now - at - DAY) < MARGIN_S else 1
        self.busy.add((who.agent_id, at))
        self.plans.append((at, len(self.plans), who, make))
        return at

    def _arrival(self) -> list[Event]:
        """Mostly in the order of time; a tenth comes up to an hour late. A revoke comes after what it revokes."""
        keys: dict[str, float] = {}
        for event in self.made:
            late = self.random.random() * 3600 if self.random.random() < 0.1 else 0.0
            targets = [keys[value] for value in event.tag_values("e") if event.kind == 9 and value in keys]
            keys[event.id] = max([event.created_at + late, *(key + 0.001 for key in targets)])
        return sorted(self.made, key=lambda event: keys[event.id])

    # -------------------------------------------------------------------------------------------- what they say

    def _someone(self, *but: Keypair) -> Keypair:
        return self.random.choice([key for key in self.keys if key not in but])

    def _recent(self, *kinds: int, by: Keypair | None = None) -> Event | None:
        found: list[Event] = []
        for event in reversed(self.made):
            if event.kind in kinds and (by is None or event.agent_id == by.agent_id):
                found.append(event)
                if len(found) == 60:
                    break
        return self.random.choice(found) if found else None

    def _text(self) -> str:
        words = _WORDS.split()
        return " ".join(self.random.choice(words) for _ in range(self.random.randint(3, 14)))

    def _topics(self, who: Keypair, most: int = 2) -> Tags:
        # each agent keeps to some topics, so that not everybody meets everybody
        first = self.keys.index(who) % len(TOPICS)
        own = (TOPICS + TOPICS)[first : first + 4]
        return [["t", topic] for topic in self.random.sample(own, self.random.randint(0, most))]

    def _create(self, who: Keypair, at: int, kind: int, content: object, tags: Sequence[Sequence[str]]) -> Event:
        text = content if isinstance(content, str) else json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        if kind in (0, 50):
            return pow.mine(who, kind, text, tags, at)
        return Event.create(who, kind, text, tags, created_at=at)

    def _profile(self, who: Keypair, at: int) -> Event:
        number = self.keys.index(who)
        if number == 2:
            return self._create(who, at, 0, "a profile that is no JSON", [])
        body: dict[str, object] = {"name": f"Agent {number} 🦑", "description": self._text(), "languages": ["ja"]}
        if number % 10 == 3:
            body["discoverability"] = "invite_only"
        elif number % 10 == 5:
            body["discoverability"] = "topic_only"
        if number == 4:
            body["name"] = 7
        return self._create(who, at, 0, body, [])

    def _capability(self, who: Keypair, at: int) -> Event:
        offers = []
        for name in self.random.sample(CAPS, self.random.randint(1, 3)):
            offer: dict[str, object] = {"name": name, "description": self._text()}
            if self.random.random() < 0.6:
                languages = self.random.sample(["ja", "en", "de"], 2)
                latency = self.random.choice([50, 120, 800])
                offer["constraints"] = {"p95_latency_ms": latency, "supported_languages": languages}
            if self.random.random() < 0.6:
                currency = self.random.choice(["USD", "USD", "EUR"])
                offer["pricing"] = {"amount": self.random.choice([0, 0.01, 2.5]), "currency": currency}
            if self.random.random() < 0.5:
                offer["tags"] = self.random.sample(["fast", "cheap", "good"], 2)
                offer["extensions"] = [{"uri": "https://example.org/pay"}, "junk"]
            if self.random.random() < 0.5:
                offer["version"] = "2.0"
            offers.append(offer)
        content: object = {"capabilities": offers} if self.random.random() < 0.95 else "no JSON"
        return self._create(who, at, 4, content, [["cap", str(offer["name"])] for offer in offers])

    def _post(self, who: Keypair, at: int) -> Event:
        return self._create(who, at, 1, self._text(), [*self._topics(who), ["lang", "en"]])

    def _reply(self, who: Keypair, at: int) -> Event:
        parent = self._recent(1, 2, 5)
        if parent is None:
            return self._post(who, at)
        root = next(iter(parent.tag_values("e")), parent.id)
        return self._create(
            who, at, 2, self._text(), [["e", root, "root"], ["e", parent.id, "reply"], ["p", parent.agent_id]]
        )

    def _claim(self, who: Keypair, at: int) -> Event:
        sources = [event.id for event in (self._recent(1, 2, 5) for _ in range(self.random.randint(0, 2))) if event]
        derived: object = sources[0] if len(sources) == 1 and self.random.random() < 0.3 else sources
        body = {"claim": self._text(), "confidence": 0.5, "sources": [], "derived_from": derived}
        named = [["e", id_, "derived"] for id_ in dict.fromkeys(sources) if self.random.random() < 0.7]
        return self._create(who, at, 5, body, [*self._topics(who), *named])

    def _message(self, who: Keypair, at: int) -> Event:
        to = self._someone().agent_id
        content, nonce = dm.seal(who, to, self._text().encode(), self.random.randbytes(24))
        return self._create(who, at, 3, content, [["p", to], ["nonce", nonce]])

    def _vote(self, who: Keypair, at: int) -> Event | None:
        target = self._someone(who).agent_id
        content: object = {"score": self.random.choice([1, 1, 1, 0.5, 0.25, -1, -0.75, 1.0]), "reason": "met"}
        tags: Tags = []
        if self.votes == "plain":
            if (who, target) in self.pairs:
                return self._post(who, at)
        else:
            chance = self.random.random()
            if chance < 0.35 and (own := [pair for pair in self.pairs if pair[0] is who]):
                target = self.random.choice(own)[1]  # again: repeated, or turned about
            elif chance < 0.4:
                target = who.agent_id
            elif chance < 0.5:
                content = {"score": 0, "reason": "never mind"}
            elif chance < 0.53:
                content = self.random.choice(["no JSON", "[1]", {"reason": "no score"}])
            elif chance < 0.55:
                tags.append(["p", self._someone(who).agent_id])
        self.pairs.append((who, target))
        tags.insert(0, ["p", target])
        if self.random.random() < 0.1:
            bits = self.random.choice([12, 12, 13])
            return pow.mine(who, 6, json.dumps(content) if isinstance(content, dict) else str(content), tags, at, bits)
        return self._create(who, at, 6, content, tags)

    def _flag(self, who: Keypair, at: int) -> Event | None:
        """Flag what somebody flagged before, more often than not, so that some events get over the limit of three."""
        earlier = self._recent(7)
        kinds = (1, 1, 1, 2, 2, 5, 5, 3, 7, 52, 50, 0, 4)
        target = self._recent(self.random.choice(kinds)) or self._recent(1)
        named = target.id if target else None
        if earlier and self.random.random() < 0.6:
            named = earlier.first_tag("e")
        if named is None:
            return self._post(who, at)
        category = self.random.choice(["spam", "disinfo", "harassment", "injection", "impersonation", "other"])
        return self._create(who, at, 7, {"category": category, "reason": self._text()}, [["e", named]])

    def _subscribe(self, who: Keypair, at: int) -> Event:
        target = self._someone(who).agent_id
        return self._create(who, at, 8, {"reason": self._text()}, [["p", target], *self._topics(who, 1)])

    def _revoke(self, who: Keypair, at: int) -> Event | None:
        kinds = (1, 1, 1, 2, 2, 5, 5, 3, 7, 8, 9, 15, 0, 4, *([6, 6] if self.votes == "any" else []))
        target = self._recent(self.random.choice(kinds), by=who)
        if target is None:
            return self._post(who, at)
        tags = [["e", target.id]]
        if (other := self._recent(1)) and self.random.random() < 0.2:
            tags.append(["e", other.id])  # counts only if it is an own event too
        return self._create(who, at, 9, {"reason": "wrong"}, tags)

    def _beacon(self) -> None:
        live = self.random.random() < 0.3
        # a live one ends an hour or more from now, a dead one ended an hour or more ago
        ttl = DAY if live else self.random.choice([60, 600, 3600])
        at = self._time(DAY - 3 * MARGIN_S, 2 * MARGIN_S) if live else self._time(newest=4 * MARGIN_S)
        intent = self.random.choice(["seek", "offer", "present", "warn"])

        def make(who: Keypair, at: int) -> Event:
            wanted = [["cap_wanted", self.random.choice(CAPS)]] if intent == "seek" else []
            body = {"intent": intent, "about": self._text(), "ttl_sec": ttl}
            return self._create(who, at, 15, body, [*self._topics(who), *wanted])

        self._at(self._someone(), at, make)

    def _beat(self) -> None:
        latency = self.random.choice([5, 12.5, 80, -1, "fast"])
        content: object = {"status": "ok", "latency_ms": latency, "notes": ""}
        if self.random.random() < 0.1:
            content = "junk"
        at = self._time(newest=60 if self.random.random() < 0.3 else 2 * MARGIN_S)
        self._at(self._someone(), at, lambda who, at: self._create(who, at, 11, content, [["cap", "meta.health.v1"]]))

    def _orphan(self, who: Keypair, at: int) -> Event:
        """Accept a task that nobody has posted, or give its result."""
        nothing, kind = self.random.randbytes(32).hex(), 51 + len(self.scripts) % 2
        self.scripts[nothing] = "orphan"
        body = {"eta_unix": at} if kind == 51 else {"task_id": nothing, "output": "?"}
        return self._create(who, at, kind, body, [["e", nothing, "root"]])

    # -------------------------------------------------------------------------------------------------------- tasks

    def _task(self, script: str) -> None:
        steps = SCRIPTS[script]
        roles = dict(zip("rpqvws", self.random.sample(self.keys, 6), strict=True))
        cap = self.random.choice(CAPS)
        ids: dict[str, str] = {}  # step -> id, filled while time goes by
        start = self._time(newest=2 * MARGIN_S + 5 * 3600)
        amount: object = self.random.choice([10, 10, 25, 7, 0, "12", 9.9])
        method = self.random.choice(["anp2_credit"] * 4 + ["mocked"])
        deadline: object = self.random.choice([None, start + 600, self.now + 10 * DAY, str(start + 600), "soon"])
        if script == "timed out":
            deadline = start + 600
        elif script == "accepted late":
            deadline = str(start + 600)
        elif script in ("pending", "accepted"):
            deadline = self.now + 10 * DAY
        constraints = {} if deadline is None else {"deadline_unix": deadline}

        def request(who: Keypair, at: int) -> Event:
            reward = {"currency": "credit", "amount": amount, "payment_method": method}
            body = {"capability": cap, "input": {"text": self._text()}, "constraints": constraints, "reward": reward}
            event = self._create(who, at, 50, body, [["t", cap], ["cap_wanted", cap]])
            ids["task"] = event.id
            self.scripts[event.id] = script
            return event

        def step(role: str, verb: str) -> Callable[[Keypair, int], Event]:
            def make(who: Keypair, at: int) -> Event:
                kind, body, extra = self._step(verb, ids, role)
                tags = (
                    extra if kind == 9 else [["e", ids["task"], "root"], ["e", ids["task"], verb], *extra, ["t", cap]]
                )
                event = self._create(who, at, kind, body, tags)
                ids[role + verb] = event.id
                return event

            return make

        at = self._at(roles["r"], start, request)
        for role, verb in steps:
            at = self._at(roles[role], at + self.random.randint(1, 2400), step(role, verb))

    def _step(self, verb: str, ids: dict[str, str], role: str) -> tuple[int, object, Tags]:
        task = ids["task"]
        match verb:
            case "accept":
                return 51, {"eta_unix": self.now, "price_quote": {"amount": 10}, "terms_hash": ""}, []
            case "result":
                return 52, {"task_id": task, "output": self._text(), "runtime_ms": 3, "output_format": "text"}, []
            case "release" | "refund":
                return 54, {"task_id": task, "disposition": verb, "amount": "10", "payment_method": "mocked"}, []
            case "cancel":
                return 55, {"task_id": task, "reason": "no longer"}, []
            case "revoke":
                return 9, {"reason": "regret"}, [["e", task if role == "r" else ids[role + "passed"]]]
            case _:
                score = self.random.choice([0, 0.25, 0.5, 1, None])
                return 53, {"task_id": task, "verdict": verb, "score": score, "reasons": []}, []
