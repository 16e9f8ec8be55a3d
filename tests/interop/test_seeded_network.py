"""One network of agents, played to the published relay and to ours: every read route that both have answers alike.

An answer that is not equal must belong to one of `DIFFERENCES`; each of those says why, and is recognised by working
out what our answer has to be from the events alone, not by looking away. The report counts, for each route, what was
equal, what differed as listed and what nobody explained; one of the last kind fails the test.

Rows of equal rank (the same second, the same score) stand in any order in a published relay, so ties are compared as
sets. The published relay is slow (each listing works out all trust anew), so single events are sampled.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from anporia_wire import Event
from tests.interop.seeded_network import CAPS, DAY, TOPICS, Network, Votes, generate
from tests.interop.test_published_servers import PublishedRelay
from tests.relays import RunningRelay

pytestmark = pytest.mark.interop

SEED = 20_261
HALF_LIFE_S = 30 * DAY
TREASURY = "53f0e3e0485ccdf48ba1854908a8460e13fe0e078d9066ac65aa2b597c9d7916"
SINGLE_EVENTS = 1_500  # looked up one by one; the published relay needs some milliseconds for each
TRUST_PATIENCE_S = 90.0
STATUSES = {"pending", "accepted", "completed", "verified", "disputed", "paid", "refunded", "cancelled"}
STATUSES |= {"timed_out", "unknown"}

Answer = Any
Trust = dict[str, float]  # agent id -> weighted score


# --------------------------------------------------------------------------------------- asking both the same question


@dataclass(frozen=True)
class Pair:
    """What both said to one question, and when: between `began` and `ended`."""

    route: str
    path: str
    params: dict[str, Any]
    theirs: Answer
    ours: Answer
    began: int
    ended: int
    took: tuple[float, float] = (0.0, 0.0)  # seconds, theirs and ours

    @property
    def subject(self) -> str:
        return self.path.split("/")[2]

    @property
    def tolerance(self) -> float:
        """How far numbers may lie apart: decay goes on, and ours may have worked out its trust some seconds ago."""
        worked_out = self.ours.get("computed_at", self.began) if isinstance(self.ours, dict) else self.began
        drift = (self.ended - min(worked_out, self.began) + 2) * 10 * math.log(2) / HALF_LIFE_S
        if self.route == "/recommendations/{id}":
            drift += (self.ended - self.began + 1) / 3600  # a rank falls with the hours since
        return 1e-6 + drift


class Both:
    def __init__(self, theirs: str, ours: str) -> None:
        self._clients = [httpx.Client(base_url=url, timeout=120) for url in (theirs, ours)]

    def __enter__(self) -> Both:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()

    def ask(self, route: str, subject: str = "", **params: Any) -> Pair:
        path, began = route.replace("{id}", subject), int(time.time())
        said: list[Answer] = []
        clock = [time.perf_counter()]
        for client in self._clients:
            answer = client.get(path, params=params)
            clock.append(time.perf_counter())
            # of a refusal the status counts, its text is the relay's own
            said.append(answer.json() if answer.status_code == 200 else {"status": answer.status_code})
        took = clock[1] - clock[0], clock[2] - clock[1]
        return Pair(route, path, params, said[0], said[1], began, math.ceil(time.time()), took)

    def publish(self, events: list[Event]) -> None:
        """Play the events to both at once."""
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(self._one_by_one, events), pool.submit(self._in_batches, events)]:
                done.result()

    def _one_by_one(self, events: list[Event]) -> None:
        for event in events:
            answer = self._clients[0].post(
                "/events", content=event.to_json(), headers={"content-type": "application/json"}
            )
            assert answer.status_code == 200, (event, answer.text)

    def _in_batches(self, events: list[Event]) -> None:
        for first in range(0, len(events), 500):
            lines = b"\n".join(event.to_json() for event in events[first : first + 500])
            answer = self._clients[1].post(
                "/events/batch", content=lines, headers={"content-type": "application/x-ndjson"}
            )
            refused = [line for line in answer.text.splitlines() if not json.loads(line).get("accepted")]
            assert answer.status_code == 200 and not refused, (answer.text[:500], refused[:3])


# ------------------------------------------------------------------------------------------------------ what is equal


def unlike(theirs: Any, ours: Any, tolerance: float, where: str = "") -> Iterator[str]:
    """Yield where `ours` lacks or changes something of `theirs`; further keys are no difference."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key, value in theirs.items():
            if key in ours:
                yield from unlike(value, ours[key], tolerance, f"{where}.{key}")
            else:
                yield f"{where}.{key}: {value!r} there, missing here"
    elif isinstance(theirs, Rows) and isinstance(ours, Rows):
        for problem in (*theirs.problems, *ours.problems):
            yield f"{where}: {problem}"
        for key in [*theirs.rows, *(key for key in ours.rows if key not in theirs.rows)]:
            if key not in ours.rows or key not in theirs.rows:
                yield f"{where}[{key}]: only {'there' if key in theirs.rows else 'here'}"
            else:
                yield from unlike(theirs.rows[key], ours.rows[key], tolerance, f"{where}[{key}]")
    elif isinstance(theirs, list) and isinstance(ours, list):
        if len(theirs) != len(ours):
            yield f"{where}: {len(theirs)} there, {len(ours)} here"
        for number, (one, other) in enumerate(zip(theirs, ours, strict=False)):
            yield from unlike(one, other, tolerance, f"{where}[{number}]")
    elif isinstance(theirs, bool) or isinstance(ours, bool) or not isinstance(theirs, (int, float)):
        if theirs is not ours and theirs != ours:
            yield f"{where}: {theirs!r} there, {ours!r} here"
    elif not isinstance(ours, (int, float)) or not math.isclose(theirs, ours, rel_tol=tolerance, abs_tol=tolerance):
        yield f"{where}: {theirs!r} there, {ours!r} here"


@dataclass
class Rows:
    """Ranked rows by name, so that ties have no order; `problems` says where they are not in order."""

    rows: dict[str, Any]
    problems: list[str] = field(default_factory=list)


Rank = Callable[[Any], Any]


def ranked(rows: list[Any], name: Rank, rank: Rank | None = None, limit: int | None = None) -> Rows:
    """Take rows apart; of a list cut at `limit`, the rows that tie with the last one are left out."""
    ranks = [rank(row) if rank else 0 for row in rows]
    named = {str(name(row)): row for row in rows}
    problems = [] if len(named) == len(rows) else ["a row twice"]
    if ranks != sorted(ranks):
        problems.append("out of order")
    if rank and limit is not None and len(rows) == limit:
        named = {str(name(row)): row for row, value in zip(rows, ranks, strict=True) if value != ranks[-1]}
    return Rows(named, problems)


def newest(row: Any) -> Any:
    return -row["created_at"]


def by(key: str) -> Rank:
    return lambda row: row[key]


def most(key: str) -> Rank:
    return lambda row: -row[key]


def of(key: str, name: Rank, rank: Rank | None = None, default: int | None = None) -> Callable[[Answer, Pair], Any]:
    """Tell how the list below `key` of a route is to be read."""

    def read(answer: Answer, pair: Pair) -> Any:
        limit = pair.params.get("limit", pair.params.get("k", default))
        return {**answer, key: ranked(answer[key], name, rank, limit)}

    return read


def _onboarding(answer: Answer, _: Pair) -> Any:
    neighbours = ranked(answer["neighbors"], by("agent_id"), most("sim"), 10)
    return {**answer, "neighbors": neighbours, "feed": ranked(answer["feed"], by("id"), newest, 20)}


def _offers(answer: Answer, pair: Pair) -> Any:
    def rank(row: Any) -> Any:
        match pair.params.get("sort_by"):
            case "latency":
                return (row["metadata"].get("constraints") or {}).get("p95_latency_ms", math.inf)
            case "price":
                return (row["metadata"].get("pricing") or {}).get("amount", math.inf)
        return -row["trust_score"]

    name: Rank = lambda row: (row["name"], row["provider_agent_id"])  # noqa: E731
    return {**answer, "results": ranked(answer["results"], name, rank, pair.params.get("limit", 50))}


# how each route's answer is read before the two are held against each other; others are taken as they stand
READ: dict[str, Callable[[Answer, Pair], Any]] = {
    "/events": lambda answer, pair: ranked(answer, by("id"), newest, pair.params.get("limit", 100)),
    "/events/{id}/flags": of("flags", by("id"), newest),
    "/agents": of("agents", by("agent_id"), most("last_seen")),
    "/rooms": of("rooms", by("room"), most("last_at")),
    "/capabilities": of("capabilities", by("capability"), lambda row: (-row["providers"], -row["last_declared"])),
    "/capabilities/search": _offers,
    "/trust/{id}": of("votes", by("voter")),
    "/trust_graph": of("agents", by("agent_id"), most("weighted_score")),
    "/citations/{id}": lambda answer, pair: {
        **answer,
        "citations": ranked(
            answer["citations"], by("id"), newest if pair.params.get("direction") != "outgoing" else None, 200
        ),
    },
    "/beacons": of("beacons", by("id"), newest),
    "/subscriptions/{id}": of("follows", by("target"), most("at")),
    "/dms/{id}": of("dms", by("id"), newest, 100),
    "/copresence/{id}": of("neighbors", by("agent_id"), most("score"), 50),
    "/neighbors/{id}": of("neighbors", by("agent_id"), most("sim"), 20),
    "/recommendations/{id}": of("feed", lambda row: row["event"]["id"], most("rank"), 20),
    "/onboarding/{id}": _onboarding,
}


OWN_WORDS = ("method", "next_steps", "note")  # texts for people: each relay has its own


def read(route: str, answer: Answer, pair: Pair) -> Any:
    """Read an answer as its route wants."""
    if isinstance(answer, dict):
        answer = {key: type(value).__name__ if key in OWN_WORDS else value for key, value in answer.items()}
    return READ[route](answer, pair) if route in READ else answer


# ------------------------------------------------------------------------------- what our answers must be, from events


class World:
    """The network as our rules see it, worked out once more in the plainest way."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.events = network.stored
        owner = {event.id: event.agent_id for event in self.events}
        self.revoked = {
            target
            for event in network.of_kinds(9)
            for target in event.tag_values("e")
            if owner.get(target) == event.agent_id
        }
        self.flaggers: dict[str, set[str]] = {}
        for flag in network.of_kinds(7):
            for target in flag.tag_values("e"):
                self.flaggers.setdefault(target, set()).add(flag.agent_id)
        self.beats: dict[str, list[int]] = {}
        for beat in network.of_kinds(11):
            self.beats.setdefault(beat.agent_id, []).append(beat.created_at)
        self.theirs: Trust = {}
        self.ours: Trust = {}
        self.neighbours: dict[str, list[str]] = {}  # by co-presence, as both relays have it

    def newest_of_kind(self, kind: int) -> list[Event]:
        """The newest event of a kind by each agent."""
        events = sorted(self.network.of_kinds(kind), key=lambda event: event.created_at)
        return list({event.agent_id: event for event in events}.values())

    def hidden_by_trust(self, event: Event, trust: Trust) -> bool:
        return event.kind != 7 and sum(max(0.0, trust.get(a, 0.0)) for a in self.flaggers.get(event.id, ())) >= 1.0

    def listing(self, params: dict[str, Any], trust: Trust, *, published: bool = False) -> list[str]:
        """The ids of `/events`: ours keeps the lobby apart and fills its pages, `published` does neither."""
        kinds = {int(kind) for kind in params["kinds"].split(",")} if params.get("kinds") else None
        authors = params["authors"].split(",") if params.get("authors") else None
        topic, whole = params.get("t"), "as_of" in params
        until = params.get("as_of", params.get("until", math.inf))
        found = [
            event
            for event in self.events
            if (kinds is None or event.kind in kinds)
            and (authors is None or event.agent_id in authors)
            and (topic is None or topic in event.tag_values("t"))
            and params.get("since", -math.inf) <= event.created_at <= until
            and (published or kinds or topic or "lobby" not in event.tag_values("t"))
            and (
                whole
                or (event.id not in self.revoked and (event.kind == 7 or len(self.flaggers.get(event.id, ())) < 3))
            )
        ]
        found.sort(key=lambda event: (-event.created_at, event.id))
        limit = params.get("limit", 100)
        if published:
            found = found[:limit]
        return [event.id for event in found if whole or not self.hidden_by_trust(event, trust)][:limit]

    def trust_at(self, now: int) -> dict[str, dict[str, Any]]:
        """Our trust: trust.v1 over the newest vote of each pair that is not revoked, if it is not 0 or for oneself."""
        newest_vote: dict[tuple[str, str], Event] = {}
        for vote in sorted(self.network.of_kinds(6), key=lambda event: (event.created_at, event.id)):
            if vote.id not in self.revoked:
                for target in set(vote.tag_values("p")):
                    newest_vote[vote.agent_id, target] = vote
        counted = {
            pair: (vote, score) for pair, vote in newest_vote.items() if pair[0] != pair[1] and (score := _score(vote))
        }
        reach = Counter(voter for voter, _ in counted)
        targets: dict[str, list[tuple[str, Event, float]]] = {}
        for (voter, target), (vote, score) in counted.items():
            decayed = score * 2 ** (-max(0, now - vote.created_at) / HALF_LIFE_S)
            targets.setdefault(target, []).append((voter, vote, decayed))
        trust: Trust = {}
        passes = 0
        while passes < 20:
            passes += 1
            weight = {
                voter: math.sqrt(max(0.0, trust.get(voter, 0.0) + 1)) * min(1, reach[voter] / 3) for voter in reach
            }
            after = {t: sum(weight[voter] * decayed for voter, _, decayed in votes) for t, votes in targets.items()}
            change = max(abs(after[t] - trust.get(t, 0.0)) for t in after)
            trust = after
            if change < 1e-4:
                break
        out = {}
        for target, votes in targets.items():
            bits = [int(declared) for _, vote, _ in votes if (declared := vote.first_tag("pow"))]
            work = math.tanh(sum(2**n for n in bits) / 65_536) if bits else 1.0
            out[target] = {
                "agent_id": target,
                "score_in": sum(decayed for _, _, decayed in votes),
                "raw_score": sum(decayed for _, _, decayed in votes),
                "weighted_score": trust[target] * work,
                "voter_count": len(votes),
                "sybil_factor_pow": work,
                "iterations": passes,
                "votes": Rows(
                    {
                        voter: {"voter": voter, "score": _score(vote), "created_at": vote.created_at}
                        for voter, vote, _ in votes
                    }
                ),
            }
        return out

    def credit(self, agent: str, now: int) -> dict[str, Any]:
        """Our credit: WIRE's derivation over all task events, whether revoked or hidden since or not."""
        balance = locked = standing = 0
        parsed = [(event, _object(event.content)) for event in self.network.of_kinds(51, 52, 53, 55)]
        accepted = {event.first_tag("e") for event, _ in parsed if event.kind == 51}
        for request in self.network.of_kinds(50):
            body = _object(request.content)
            if body["reward"]["payment_method"] != "anp2_credit":
                continue
            amount, requester = int(body["reward"]["amount"]), request.agent_id
            mine = [(event, said) for event, said in parsed if said.get("task_id") == request.id]
            results = sorted((event.created_at, event.id, event.agent_id) for event, _ in mine if event.kind == 52)
            provider = results[0][2] if results else None
            verdicts = {
                said.get("verdict")
                for event, said in mine
                if event.kind == 53 and event.agent_id not in (requester, provider, TREASURY)
            } & {"passed", "failed"}
            deadline = body["constraints"].get("deadline_unix")
            late = isinstance(deadline, (int, float)) and deadline < now and not results
            cancelled = request.id not in accepted and any(e.kind == 55 and e.agent_id == requester for e, _ in mine)
            if verdicts == {"passed"} and provider:
                fee = amount // 10
                balance += (provider == agent) * (amount - fee) - (requester == agent) * amount
                balance += (agent == TREASURY) * fee
                standing += provider == agent != requester and amount > 0
            elif not (verdicts and verdicts != {"passed"}) and not cancelled and not late:
                locked += (requester == agent) * amount
        return {
            "agent_id": agent,
            "balance": balance,
            "locked": locked,
            "available": balance - locked,
            "verified_provider_tasks": standing,
        }

    def feed(self, pair: Pair, neighbours: list[str], trust: Trust, *, published: bool) -> list[tuple[str, float]]:
        """The ids and ranks of `/recommendations`, before they are ordered."""
        k, now = pair.params.get("k", 20), pair.began
        query = {"kinds": "1,5", "since": now - DAY, "limit": k * 6, "authors": ",".join(neighbours)}
        events = {event.id: event for event in self.events}
        topics = {
            tag[1]
            for beacon in self.network.of_kinds(15)
            if beacon.agent_id == pair.subject and beacon.created_at + _object(beacon.content)["ttl_sec"] >= now
            if published or beacon.id not in self.revoked
            for tag in beacon.tags
            if tag[0] in ("t", "cap_wanted")
        }
        cited: Counter[str] = Counter()
        for id_ in self.listing({"kinds": "5", "limit": 500}, trust, published=published):
            named = _object(events[id_].content).get("derived_from") or []
            for source in [named] if isinstance(named, str) else named:
                cited[source] += max(0.0, trust.get(events[id_].agent_id, 0.0))  # type: ignore[assignment]
        seen: Counter[str] = Counter()
        out = []
        for id_ in self.listing(query, trust, published=published):
            event = events[id_]
            base = max(0.1, trust.get(event.agent_id, 0.1)) / max(1.0, (now - event.created_at) / 3600)
            boost = (
                2.0 if any(tag[0] in ("t", "cap") and tag[1] in topics for tag in event.tags if len(tag) > 1) else 1.0
            )
            rank = base * 0.5 ** seen[event.agent_id] * boost * (1 + math.tanh(cited[id_]))
            seen[event.agent_id] += 1
            out.append((id_, rank))
        return sorted(out, key=lambda row: -row[1])[:k]


def _object(content: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _score(vote: Event) -> float:
    score = _object(vote.content).get("score", 0)
    return float(score) if isinstance(score, (int, float)) and not isinstance(score, bool) else 0.0


# ------------------------------------------------------------------------------------------------- listed differences


@dataclass(frozen=True)
class Difference:
    """A way in which our answers differ on purpose; `holds` says whether ours is then just what it must be."""

    name: str
    routes: tuple[str, ...]
    why: str
    holds: Callable[[World, Pair], bool]
    by_votes: bool = False  # it must not come up where both count every vote alike


def _lists_by_our_rules(world: World, pair: Pair) -> bool:
    ids = [event["id"] for event in pair.ours]
    theirs = world.listing(pair.params, world.theirs, published=True)
    known = set(theirs) ^ {event["id"] for event in pair.theirs}  # only a tie at the end may differ
    last = pair.theirs[-1]["created_at"] if pair.theirs else 0
    at = {event.id: event.created_at for event in world.events}
    return ids == world.listing(pair.params, world.ours) and all(at[id_] <= last for id_ in known)


def _history_by_our_rules(world: World, pair: Pair) -> bool:
    kind, limit = pair.params.get("kind", 0), pair.params.get("limit", 100)
    own = [e for e in world.events if e.agent_id == pair.subject and e.kind == kind]
    shown = [e for e in own if len(world.flaggers.get(e.id, ())) < 3 and not world.hidden_by_trust(e, world.ours)]
    newest = sorted(shown, key=lambda e: (-e.created_at, e.id))[:limit]
    return [row["id"] for row in pair.ours["history"]] == [e.id for e in reversed(newest)]


def _lobby_apart(world: World, pair: Pair) -> bool:
    return not pair.params.keys() & {"kinds", "t"} and _lists_by_our_rules(world, pair)


def _hides_by_our_trust(world: World, pair: Pair) -> bool:
    other = world.listing(pair.params, world.theirs)
    return other != world.listing(pair.params, world.ours) and _lists_by_our_rules(world, pair)


def _votes_count_once(world: World, pair: Pair) -> bool:
    expected = world.trust_at(pair.ours.get("computed_at", pair.began))
    ours = READ[pair.route](pair.ours, pair)
    if pair.route == "/trust_graph":
        rows = {id_: {**row, "votes": None, "iterations": None} for id_, row in ours["agents"].rows.items()}
        wanted = {
            id_: {key: row.get(key) for key in row if key in ours["agents"].rows[id_]} for id_, row in expected.items()
        }
        return (
            not ours["agents"].problems
            and rows.keys() == wanted.keys()
            and not list(unlike(wanted, rows, pair.tolerance))
        )
    nobody = {"score_in": 0.0, "weighted_score": 0.0, "voter_count": 0, "sybil_factor_pow": 1.0, "votes": Rows({})}
    row = expected.get(pair.subject, nobody)
    return not list(unlike({key: value for key, value in row.items() if key in ours}, ours, pair.tolerance))


def _beats_count_longer(world: World, pair: Pair) -> bool:
    """Nothing differs but liveness, and that is what 1,800 s and buckets of 900 s give."""
    single = pair.route != "/agents"
    theirs = [pair.theirs] if single else sorted(pair.theirs["agents"], key=by("agent_id"))
    ours = [pair.ours] if single else sorted(pair.ours["agents"], key=by("agent_id"))
    for there, here in zip(theirs, ours, strict=True):
        beats = world.beats.get(here["agent_id"], [])
        fits = set()
        for now in range(pair.began - 1, pair.ended + 2):
            day = {(now - at) // 900 for at in beats if now - at < DAY}
            week = {(now - at) // 900 for at in beats if now - at < 7 * DAY}
            healthy = any(now - at <= 1800 for at in beats)
            fits.add((healthy, round(100 * len(day) / 96, 2), round(100 * len(week) / 672, 2)))
        liveness = ("is_healthy", "uptime_24h_pct", "uptime_7d_pct")
        said = [here.get(key) for key in liveness]
        if not any(all(one in (None, other) for one, other in zip(said, fit, strict=True)) for fit in fits):
            return False
        if any(unlike({key: there[key] for key in there if key not in liveness}, here, pair.tolerance)):
            return False
    return True


def _credit_stays(world: World, pair: Pair) -> bool:
    return bool(pair.ours == world.credit(pair.subject, pair.began))


def _balance_stays(world: World, pair: Pair) -> bool:
    theirs = {**pair.theirs, "credit_balance": world.credit(pair.subject, pair.began)["balance"]}
    return _beats_count_longer(
        world, Pair(pair.route, pair.path, pair.params, theirs, pair.ours, pair.began, pair.ended)
    )


def _only_sent(world: World, pair: Pair) -> bool:
    query = {"limit": 100, **pair.params, "kinds": "3", "authors": pair.subject}
    ids = [event["id"] for event in pair.ours["dms"]]
    return ids == world.listing(query, world.ours) and pair.ours["count"] == len(ids)


def _conflicts_shown(world: World, pair: Pair) -> bool:
    names = [{(row["name"], row["provider_agent_id"]) for row in said["results"]} for said in (pair.theirs, pair.ours)]
    asked = pair.ours["query"]["include_conflicts"] is True and "include_conflicts" not in pair.params
    return asked and names[0] <= names[1] and _offers_by_our_trust(world, pair, all_rows=False)


def _offers_by_our_trust(world: World, pair: Pair, *, all_rows: bool = True) -> bool:
    rows = _offers(pair.ours, pair)["results"]
    scores = [row["trust_score"] for row in pair.ours["results"]]
    highest = max(scores, default=0.0)
    for row in pair.ours["results"]:
        trust = world.ours.get(row["provider_agent_id"], 0.0)
        if not math.isclose(row["trust_score"], trust, rel_tol=1e-4, abs_tol=1e-4):
            return False
        wanted = trust / (highest + 1) if highest > 0 else 0.0
        if "sort_by" not in pair.params and not math.isclose(row["score"], wanted, rel_tol=1e-4, abs_tol=1e-4):
            return False
    if not all_rows:
        return not rows.problems
    if pair.theirs["query"] != pair.ours["query"]:
        return False
    if "min_trust" in pair.params:
        names = {
            str((offer["name"], event.agent_id))
            for event in world.newest_of_kind(4)
            for offer in _object(event.content).get("capabilities", [])
            if world.ours.get(event.agent_id, 0.0) >= pair.params["min_trust"]
        }
        return not rows.problems and rows.rows.keys() == names
    drop = ("trust_score", *(() if "sort_by" in pair.params else ("score",)))
    bare = [
        {str(name): {key: row[key] for key in row if key not in drop} for name, row in said.items()}
        for said in (_offers(pair.theirs, pair)["results"].rows, rows.rows)
    ]
    return not rows.problems and bare[0].keys() == bare[1].keys() and not list(unlike(bare[0], bare[1], pair.tolerance))


def _cites_unrevoked(world: World, pair: Pair) -> bool:
    events = {event.id: event for event in world.events if event.id not in world.revoked}
    if pair.params.get("direction") == "outgoing":
        source = events.get(pair.subject)
        named = (source and _object(source.content).get("derived_from")) or []
        wanted = {id_ for id_ in ([named] if isinstance(named, str) else named) if id_ in events}
    else:
        wanted = {id_ for id_, event in events.items() if event.kind == 5 and pair.subject in event.tag_values("e")}
    said = [row for row in pair.theirs["citations"] if row["id"] in wanted]
    theirs = {**pair.theirs, "count": len(wanted), "citations": said}
    known = len(said) == len(wanted)
    return known and not list(unlike(read(pair.route, theirs, pair), read(pair.route, pair.ours, pair), 0))


def _live_and_unrevoked(world: World, pair: Pair) -> bool:
    live = {
        beacon.id
        for beacon in world.network.of_kinds(15)
        if beacon.created_at + _object(beacon.content)["ttl_sec"] >= pair.began and beacon.id not in world.revoked
    }
    ours = read(pair.route, pair.ours, pair)["beacons"]
    known = {beacon["id"]: beacon for beacon in pair.theirs["beacons"]}
    wanted = Rows({id_: known[id_] for id_ in live})
    return pair.ours["count"] == len(live) and not list(unlike(wanted, ours, 0))


def _follows_unrevoked(world: World, pair: Pair) -> bool:
    latest: dict[str, Event] = {}
    for event in sorted(world.network.of_kinds(8), key=lambda event: event.created_at):
        if event.agent_id == pair.subject and event.id not in world.revoked:
            latest[event.tag_values("p")[0]] = event
    wanted = {target: {"target": target, "at": event.created_at, "id": event.id} for target, event in latest.items()}
    ours = read(pair.route, pair.ours, pair)["follows"]
    return pair.ours["count"] == len(latest) and not list(unlike(Rows(wanted), ours, 0))


def _feed_by_our_trust(world: World, pair: Pair) -> bool:
    neighbours = world.neighbours[pair.subject]
    for said, trust, published in ((pair.theirs, world.theirs, True), (pair.ours, world.ours, False)):
        expected = world.feed(pair, neighbours, trust, published=published)
        ranks = [row["rank"] for row in said["feed"]]
        if len(ranks) != len(expected) or ranks != sorted(ranks, reverse=True):
            return False
        if not all(math.isclose(rank, other, rel_tol=2e-3) for rank, (_, other) in zip(ranks, expected, strict=True)):
            return False
        given, wanted = {row["event"]["id"] for row in said["feed"]}, {id_ for id_, _ in expected}
        if len(given - wanted) > 1:  # two of nearly the same rank may change places at the end
            return False
    return True


def _onboarding_by_our_trust(world: World, pair: Pair) -> bool:
    neighbours = Pair(
        "/neighbors/{id}",
        pair.path,
        {"k": 10},
        {"neighbors": pair.theirs["neighbors"]},
        {"neighbors": pair.ours["neighbors"]},
        pair.began,
        pair.ended,
    )
    authors = [row["agent_id"] for row in pair.ours["neighbors"]]
    query = {"kinds": "1,5", "since": pair.began - DAY, "limit": 20, "authors": ",".join(authors)}
    theirs, ours = (
        {key: value for key, value in read("", said, pair).items() if key not in ("neighbors", "feed")}
        for said in (pair.theirs, pair.ours)
    )
    if any(unlike(theirs, ours, 0)) or not _topics_of_texts(world, neighbours):
        return False
    return [event["id"] for event in pair.ours["feed"]] == world.listing(query, world.ours)


def _topics_of_texts(world: World, pair: Pair) -> bool:
    """Nothing differs but the sample of topics, and that comes from posts and claims alone."""
    for row in pair.ours["neighbors"]:
        texts = [event for event in world.network.of_kinds(1, 5) if event.agent_id == row["agent_id"]]
        texts = sorted(texts, key=lambda event: event.created_at)[-100:]
        wanted = sorted({topic for event in texts for topic in event.tag_values("t")})[:5]
        if "sample_topics" in row and row["sample_topics"] != wanted:
            return False
    bare = [
        {**said, "neighbors": [{**row, "sample_topics": []} for row in said["neighbors"]]}
        for said in (pair.theirs, pair.ours)
    ]
    theirs, ours = (read(pair.route, said, pair) for said in bare)
    return not list(unlike(theirs, ours, pair.tolerance))


_TRUST = (
    "the newest vote of each pair counts, 0 withdraws it, oneself counts nothing: trust differs, and what rests on it"
)
_FEED = f"{_TRUST}; what is hidden is left out before the newest are taken; revoked beacons are over"
DIFFERENCES = [
    Difference(
        "the lobby is kept apart",
        ("/events",),
        "posts to the lobby are left out where neither kinds nor topic is asked for; so has it the newer repository",
        _lobby_apart,
    ),
    Difference(
        "hidden by our trust",
        ("/events",),
        "what trusted agents flag is hidden on both, but trust differs, see below",
        _hides_by_our_trust,
        by_votes=True,
    ),
    Difference(
        "pages are filled",
        ("/events",),
        "0.1.0 hides what trusted agents flagged after it has cut the page, which comes short; ties are cut by id here",
        _lists_by_our_rules,
    ),
    Difference(
        "histories are filled",
        ("/history/{id}",),
        "as pages are: what trusted agents flagged is left out before the newest are taken",
        _history_by_our_rules,
    ),
    Difference("newest vote per pair", ("/trust/{id}", "/trust_graph"), _TRUST, _votes_count_once, by_votes=True),
    Difference(
        "beats count for half an hour",
        ("/agents", "/agents/{id}", "/agents/{id}/health"),
        "published 0.1.0 has 300 s; its repository and ours have 1,800 s and buckets of 900 s",
        _beats_count_longer,
    ),
    Difference(
        "a settled credit stays (balance)",
        ("/agents/{id}",),
        "revoking or hiding events of a task rewrites credit there and does not here",
        _balance_stays,
    ),
    Difference("a settled credit stays", ("/agents/{id}/credit",), "as above", _credit_stays),
    Difference("messages sent only", ("/dms/{id}",), "published 0.1.0 adds those received", _only_sent),
    Difference("conflicts shown", ("/capabilities/search",), "include_conflicts is true by default", _conflicts_shown),
    Difference("offers by our trust", ("/capabilities/search",), _TRUST, _offers_by_our_trust, by_votes=True),
    Difference(
        "revoked citations are gone",
        ("/citations/{id}",),
        "what its author revoked neither cites nor is cited here; published 0.1.0 goes on showing its content",
        _cites_unrevoked,
    ),
    Difference(
        "revoked beacons are over",
        ("/beacons",),
        "a beacon that its author revoked is not live here; published 0.1.0 shows it to its end",
        _live_and_unrevoked,
    ),
    Difference(
        "revoked follows are over",
        ("/subscriptions/{id}",),
        "the latest kind 8 that is not revoked counts here, the latest of all there",
        _follows_unrevoked,
    ),
    Difference("feed by our rules", ("/recommendations/{id}",), _FEED, _feed_by_our_trust),
    Difference("feed of a newcomer by our rules", ("/onboarding/{id}",), _FEED, _onboarding_by_our_trust),
    Difference(
        "topics sampled from texts",
        ("/neighbors/{id}",),
        "published 0.1.0 samples the topics of all events of an agent, tasks too",
        _topics_of_texts,
    ),
]


# --------------------------------------------------------------------------------------------------------- the report


class Report:
    def __init__(self, world: World, votes: Votes) -> None:
        self.world, self.votes = world, votes
        self.counts: dict[str, Counter[str]] = {}
        self.took: dict[str, list[float]] = {}
        self.statuses: set[str] = set()  # of tasks, as published
        self.unexplained: list[str] = []

    def check(self, pair: Pair) -> None:
        count = self.counts.setdefault(pair.route, Counter())
        for number, seconds in enumerate(pair.took):
            self.took.setdefault(pair.route, [0.0, 0.0])[number] += seconds
        if pair.route == "/task/{id}" and "task_id" in pair.theirs:
            self.statuses.add(pair.theirs["status"])
        refused = [isinstance(said, dict) and said.keys() == {"status"} for said in (pair.theirs, pair.ours)]
        try:
            if any(refused):
                theirs, ours = (
                    said["status"] if no else 200 for said, no in zip((pair.theirs, pair.ours), refused, strict=True)
                )
                found = [] if theirs == ours else [f"{theirs} there, {ours} here"]
            else:
                theirs, ours = (read(pair.route, said, pair) for said in (pair.theirs, pair.ours))
                found = list(unlike(theirs, ours, pair.tolerance))
            if not found:
                count["equal"] += 1
                return
            if not any(refused):
                for difference in DIFFERENCES:
                    if difference.by_votes and self.votes == "plain":
                        continue
                    if pair.route in difference.routes and difference.holds(self.world, pair):
                        count[difference.name] += 1
                        return
        except (KeyError, TypeError, AttributeError) as error:
            found = [f"another shape: {error!r}: {json.dumps(pair.ours)[:300]}"]
        count["UNEXPLAINED"] += 1
        if count["UNEXPLAINED"] <= 4:
            self.unexplained.append(f"{pair.path} {pair.params}: " + "; ".join(one[:200] for one in found[:4]))

    def text(self) -> str:
        lines = []
        for route, count in self.counts.items():
            listed = {name: n for name, n in count.items() if name not in ("equal", "UNEXPLAINED")}
            said = "".join(f", {n} x {name!r}" for name, n in listed.items())
            theirs, ours = (1000 * seconds / count.total() for seconds in self.took[route])
            known = f"{count['equal']:5} equal, {count['UNEXPLAINED']:3} unexplained"
            lines.append(f"{route:24} {known} ({theirs:6.1f} ms there, {ours:5.1f} ms here){said}")
        total = sum(count.total() for count in self.counts.values())
        equal = sum(count["equal"] for count in self.counts.values())
        lines.append(f"{total} answers, {equal} equal; unexplained (the first of each route):")
        return "\n".join([*lines, *(f"  {line}" for line in self.unexplained)])


def event_filters(network: Network, count: int) -> Iterator[dict[str, Any]]:
    """What `/events` is asked: each filter alone, then `count` random combinations of them."""
    choose = random.Random(SEED)
    now, agents = network.now, network.agents
    alone: list[dict[str, Any]] = [{}, {"limit": 1}, {"limit": 1000}, {"t": "nobody"}, {"kinds": "11"}]
    yield from [*alone, {"authors": "00" * 32}, {"limit": 0}, {"since": "x"}]
    yield from (
        {"kinds": str(kind), "limit": 1000} for kind in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 50, 51, 52, 53, 54, 55)
    )
    yield from ({"t": topic, "limit": 200} for topic in TOPICS)
    yield from ({"authors": agent, "limit": 500} for agent in agents[:10])
    yield from ({"as_of": now - DAY * n, "limit": 300} for n in range(7))
    for _ in range(count):
        params: dict[str, Any] = {"limit": choose.choice([3, 20, 100, 250])}
        if choose.random() < 0.6:
            params["kinds"] = ",".join(choose.sample(["0", "1", "2", "3", "5", "6", "7", "9", "15", "50", "53"], 3))
        if choose.random() < 0.4:
            params["authors"] = ",".join(choose.sample(agents, min(len(agents), choose.randint(1, 8))))
        if choose.random() < 0.3:
            params["t"] = choose.choice(TOPICS)
        if choose.random() < 0.4:
            params["since"] = now - choose.randint(0, 7 * DAY)
        if choose.random() < 0.4:
            params[choose.choice(["until", "until", "as_of"])] = now - choose.randint(0, 7 * DAY)
        yield params


def offer_filters() -> Iterator[dict[str, Any]]:
    yield {"limit": 200}
    yield {"include_conflicts": "true", "min_trust": 0.5, "limit": 200}
    for shown in ("true", "false"):
        yield {"include_conflicts": shown, "limit": 200}
        yield from ({"include_conflicts": shown, "cap": cap, "limit": 200} for cap in [*CAPS, "text", "tex", ""])
        for sort_by in ("latency", "price"):
            yield {"include_conflicts": shown, "sort_by": sort_by, "limit": 200}
        yield {"include_conflicts": shown, "max_latency_ms": 120, "limit": 200}
        yield {"include_conflicts": shown, "max_price_usd": 0.5, "limit": 200}
        yield {"include_conflicts": shown, "supported_language": "de", "limit": 200}
        yield {"include_conflicts": shown, "tag": "fast", "extension_uri": "https://example.org/pay", "limit": 200}
    yield from (
        {name: bad} for name, bad in [("limit", 0), ("sort_by", "x"), ("max_latency_ms", "x"), ("min_trust", "")]
    )


def questions(world: World, both: Both) -> Iterator[Pair]:
    """Ask everything both relays can be asked."""
    network, choose = world.network, random.Random(SEED)
    for params in event_filters(network, 150):
        yield both.ask("/events", **params)
    some = choose.sample(network.stored, min(SINGLE_EVENTS, len(network.stored)))
    for id_ in dict.fromkeys([*(event.id for event in some), *sorted(world.revoked), "00" * 32, "zz"]):
        yield both.ask("/events/{id}", id_)
    for id_ in [*sorted(world.flaggers), "00" * 32, "zz"]:
        yield both.ask("/events/{id}/flags", id_)
    for route in ("/agents", "/rooms", "/capabilities", "/stats", "/beacons", "/trust_graph"):
        yield both.ask(route)
    for params in offer_filters():
        yield both.ask("/capabilities/search", **params)
    for id_ in [*network.scripts, *(event.id for event in network.of_kinds(1)[:20]), "00" * 32, "zz"]:
        yield both.ask("/task/{id}", id_)
    claims = choose.sample(network.of_kinds(5), min(150, len(network.of_kinds(5))))
    for id_ in [*(tag for claim in claims for tag in claim.tag_values("e")), *(e.id for e in claims), "00" * 32, "zz"]:
        yield both.ask("/citations/{id}", id_)
        yield both.ask("/citations/{id}", id_, direction="outgoing")
    yield both.ask("/citations/{id}", claims[0].id, direction="sideways")
    for agent in [*network.agents, TREASURY, "00" * 32, "zz"]:
        for route in (
            "/agents/{id}",
            "/agents/{id}/health",
            "/agents/{id}/credit",
            "/trust/{id}",
            "/subscriptions/{id}",
        ):
            yield both.ask(route, agent)
        yield both.ask("/history/{id}", agent)
        yield both.ask("/history/{id}", agent, kind=4)
        yield both.ask("/history/{id}", agent, kind=1, limit=30)
        yield both.ask("/dms/{id}", agent)
        yield both.ask("/dms/{id}", agent, limit=3, since=network.now - 3 * DAY)
        yield both.ask("/copresence/{id}", agent)
        yield both.ask("/copresence/{id}", agent, window="24h", limit=5)
        yield both.ask("/neighbors/{id}", agent)
        yield both.ask("/neighbors/{id}", agent, method="co-occurrence", k=7)
        yield both.ask("/recommendations/{id}", agent)
        yield both.ask("/onboarding/{id}", agent)
    refused: list[tuple[str, dict[str, Any]]] = [
        ("/copresence/{id}", {"window": "7m"}),
        ("/copresence/{id}", {"window": "week"}),
        ("/copresence/{id}", {"limit": 0}),
        ("/neighbors/{id}", {"k": 101}),
        ("/neighbors/{id}", {"method": "magic"}),
        ("/recommendations/{id}", {"k": 0}),
        ("/dms/{id}", {"limit": 501}),
        ("/history/{id}", {"limit": 0}),
    ]
    for route, params in refused:
        yield both.ask(route, network.agents[0], **params)


@pytest.mark.parametrize(
    ("agents", "events", "votes"),
    [
        pytest.param(20, 1_500, "plain", id="votes-both-count-alike"),
        pytest.param(50, 10_000, "any", id="10000-events"),
    ],
)
def test_both_relays_answer_alike(
    agents: int, events: int, votes: Votes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    network = generate(SEED, int(time.time()), agents=agents, events=events, votes=votes)
    unlimited = {"ANPORIA_AGENT_RATE": "0", "ANPORIA_PEER_RATE": "0"}
    with (
        PublishedRelay(tmp_path / "theirs", unlimited=True) as theirs,
        RunningRelay(tmp_path, env=unlimited) as ours,
        Both(theirs, ours.url) as both,
    ):
        both.publish(network.events)
        played = time.monotonic() - started
        world = World(network)
        know_trust(world, both)
        report = Report(world, votes)
        for pair in questions(world, both):
            report.check(pair)
    with capsys.disabled():
        took = time.monotonic() - started
        print(
            f"\n{len(network.events)} events of {agents} agents, {votes} votes:",
            f"played in {played:.0f} s, all {took:.0f} s",
        )
        print(report.text())
    assert report.statuses == STATUSES, f"no task is {STATUSES - report.statuses}"
    assert not report.unexplained, report.text()


def know_trust(world: World, both: Both) -> None:
    """Learn the trust by which each relay hides and ranks, once ours has worked out that of everything published."""
    deadline, published = time.monotonic() + TRUST_PATIENCE_S, int(time.time())
    while True:
        graph = both.ask("/trust_graph")
        if graph.ours.get("computed_at", published) >= published or time.monotonic() > deadline:
            break
        time.sleep(1)
    for trust, said in ((world.theirs, graph.theirs), (world.ours, graph.ours)):
        trust.update({row["agent_id"]: row["weighted_score"] for row in said.get("agents", [])})
    for agent in [*world.network.agents, TREASURY, "00" * 32]:
        together = both.ask("/copresence/{id}", agent, window="14d", limit=50).theirs
        world.neighbours[agent] = [row["agent_id"] for row in together["neighbors"]]
