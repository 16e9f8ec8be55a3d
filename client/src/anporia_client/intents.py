"""Intents and delegations, kinds 1500 to 1503 (protocol sections 36 and 37): declared, worked on, judged by others.

What a relay says of them is not believed: answers are worked out in `standing.py`, from events that verify.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import Any

from anporia_wire import Event, intents

from .errors import QuorumMissed
from .evidence import Evidence
from .publishing import Ack
from .reading import each
from .requests import an_id
from .standing import Standing
from .steps import Alone, Steps

__all__ = ["Intents"]

MAX_VERIFIERS = 64  # of one question: as many ids as fit into a request's address
MAX_LIMIT = 200  # rows of a list (protocol section 36)

_MOST_SAID = 1_000  # intents of which the agent's own last word is remembered, some kB each
_AHEAD_S = 240  # how far dates of one busy second may run ahead: relays take 300 s, and their clocks are not ours
_HORIZON_S = 600  # own words dated so far ahead count for what is said next: what relays took, by any clock


class Intents(Evidence):
    """The verbs of intents. The id of an intent is that of its declaration.

    An intent is a dict with `intent_id`, `agent_id` (its author), `created_at`, `goal`, `success_criteria`, `steps`,
    `deadline_unix`, `parent`, `assignee`, `topics`, `status` (declared, executing, completed, failed or withdrawn),
    `step`, `conflict` (its author told two stories), `overdue`, `authority` (as `check_authority` gives it),
    `verdicts` (each verifier's newest), `verified` and `passes` (None without `verifiers`) and `quorum`.
    """

    def declare_intent(
        self,
        *,
        goal: str,
        success_criteria: Iterable[Mapping[str, Any]],
        steps: Iterable[Mapping[str, Any]] | None = None,
        deadline_unix: int | None = None,
        parent: str | None = None,
        assignee: str | None = None,
        topics: Iterable[str] | str = (),
    ) -> Steps[Ack]:
        """Say what one means to reach (kind 1500), and how others can tell; gives `intent_id` too.

        `success_criteria`: 1 to 32 dicts with `text`, `method` and perhaps `expected`; `steps`: up to 64 dicts with
        `name` and `action`; `parent`: the intent this is a part of; `assignee`: the agent that shall do it.
        Raises `ValueError` naming the field that is not as it must be.
        """
        draft = intents.declare_draft(
            goal=goal,
            success_criteria=success_criteria,
            steps=steps,
            deadline_unix=deadline_unix,
            parent=an_id(parent) if parent else None,
            assignee=an_id(assignee) if assignee else None,
            topics=each(topics),
        )
        answer = yield from self.publish(*draft)
        return answer | {"intent_id": answer["id"]}

    def update_intent(
        self,
        intent_id: str,
        *,
        status: str,
        step: str | None = None,
        evidence: str | None = None,
        prev: str | None = None,
    ) -> Steps[Ack]:
        """Say how one's own intent stands (kind 1501). `status`: executing, completed or failed.

        The last two are final. `step`: the name of the step; `evidence`: a text, such as an event's id; `prev`: the
        status that this follows on, found by itself: also among what this agent said, whatever relays show. One
        agent's calls take turns. Several a second are dated one second after the other. Raises `ValueError` for an
        intent of somebody else, and for one that is finished.
        """
        intent, named = an_id(intent_id), an_id(prev) if prev else None

        def steps() -> Steps[Ack]:
            standing = yield from self._with_own_word(intent)
            row = self._own(standing, intent)
            if row["status"] in intents.FINAL:
                raise ValueError(f"this intent is finished: {row['status']}")
            follows = named or standing.intents.head(intent, self._horizon())
            draft = intents.status_draft(
                intent, status=status, step=step, evidence=evidence, prev=follows, topics=row["topics"]
            )
            latest = max((one["created_at"] for one in row["statuses"]), default=0)
            # of one rank the last decides; those that end an intent count for more, whatever their date
            return (yield from self._say(intent, draft, latest + (status not in intents.FINAL)))

        answer: Ack = yield Alone(steps())
        return answer

    def withdraw_intent(self, intent_id: str, *, reason: str = "") -> Steps[Ack]:
        """Give up an intent of one's own (kind 9), for good. Raises `ValueError` for one of somebody else."""
        intent = an_id(intent_id)
        self._own((yield from self.intent_events(intent)), intent)
        return (yield from self.revoke(intent, reason=reason))

    def verify_intent(
        self, intent_id: str, *, verdict: str, method: str, reason: str = "", evidence_hash: str | None = None
    ) -> Steps[Ack]:
        """Judge another agent's intent (kind 1502); of one verifier the newest verdict counts.

        `verdict`: passed or failed; `method`: how it was tested; `evidence_hash`: SHA-256 of what was seen, in hex.
        One agent's calls take turns; several a second are dated one second after the other. Raises `ValueError` for
        an intent of one's own.
        """
        intent, seen = an_id(intent_id), an_id(evidence_hash) if evidence_hash else None

        def steps() -> Steps[Ack]:
            standing = yield from self._with_own_word(intent, (self.agent_id,))
            row = self._row(standing, intent, self._horizon(), (self.agent_id,))
            if row["agent_id"] == self.agent_id:
                raise ValueError("nobody verifies an intent of its own")
            draft = intents.verify_draft(
                intent,
                row["agent_id"],
                verdict=verdict,
                method=method,
                reason=reason,
                evidence_hash=seen,
                topics=row["topics"],
            )
            own = [one["created_at"] for one in row["verdicts"] if one["agent_id"] == self.agent_id]
            return (yield from self._say(intent, draft, max(own, default=-1) + 1))

        answer: Ack = yield Alone(steps())
        return answer

    def get_intent(
        self, intent_id: str, *, verifiers: Iterable[str] | str = (), quorum: int = 1
    ) -> Steps[dict[str, Any]]:
        """Give how an intent stands, worked out here from verified events; also `statuses` and these `events`.

        `verifiers`: agents whose verdicts one trusts; `verified` is True once the intent is completed, without
        `conflict`, and the newest verdicts of at least `quorum` of them are "passed". Raises `RelayRefused` for an
        intent that is not there; a plain ANP2 relay says so of one that was withdrawn.
        """
        intent, trusted = an_id(intent_id), _trusted(verifiers, quorum)
        standing = yield from self.intent_events(intent, trusted)
        row = self._row(standing, intent, self._now(), trusted, quorum)
        return row | {"events": standing.behind(intent, row)}

    def list_intents(
        self,
        *,
        author: str | None = None,
        assignee: str | None = None,
        parent: str | None = None,
        topic: str | None = None,
        status: str | None = None,
        verifiers: Iterable[str] | str = (),
        quorum: int = 1,
        limit: int = 50,
    ) -> Steps[list[dict[str, Any]]]:
        """Give the newest intents, 1 to 200, that meet all conditions; `verifiers` and `quorum` as in `get_intent`.

        Plain ANP2 relays do not show those that were withdrawn.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise ValueError(f"limit must be 1 to {MAX_LIMIT}, got {limit}")
        trusted = _trusted(verifiers, quorum)
        ids = {"author": author, "assignee": assignee, "parent": parent}
        wanted = {name: an_id(id_) for name, id_ in ids.items() if id_} | ({"topic": topic} if topic else {})
        if status:
            wanted["status"] = _one_of("status", status, ("declared", *intents.STATUSES, "withdrawn"))
        standing = yield from self.intents_events(wanted, limit, trusted)
        return standing.listed(wanted, self._now(), limit, trusted, quorum)

    def delegate(self, child: str, *, scope: Iterable[int | str], expires_at: int) -> Steps[Ack]:
        """Let another agent act in one's name (kind 1503), once its profile names one as `parent`.

        `scope`: kinds, and names of capabilities, which cover tasks and intents tagged with them; `expires_at`: Unix
        seconds, inclusive. Revoke that event to end it earlier. Raises `ValueError`.
        """
        draft = intents.delegation_draft(an_id(child), scope=scope, expires_at=expires_at)
        return (yield from self.publish(*draft))

    def get_delegations(self, agent_id: str | None = None) -> Steps[dict[str, Any]]:
        """Give an agent's `parent`, its `successor` after a change of keys, and delegations `given` and `received`.

        One's own by default. Each is `{"id", "parent", "child", "scope", "created_at", "expires_at", "revoked_at",
        "accepted", "active"}`; accepted: the child's profile names the parent; active: accepted and in force now.
        """
        agent = an_id(agent_id or self.agent_id)
        standing = yield from self.delegation_events(agent)
        return standing.delegations.read(agent, self._now())

    def check_authority(self, event: Mapping[str, Any]) -> Steps[dict[str, Any] | None]:
        """Say whether an act was delegated to its author; None when the author is nobody's child.

        Gives `{"parent", "delegated", "reason", "delegation_id"}`; `reason` is None, or why not: no_delegation,
        out_of_scope, expired or revoked. Acts are judged by the date they bear. Raises `InvalidEvent` for an event
        that does not verify.
        """
        return (yield from self.check_authorities([event]))[0]

    def check_authorities(self, events: Iterable[Mapping[str, Any]]) -> Steps[list[dict[str, Any] | None]]:
        """Say of each of several acts what `check_authority` says of one; asked for all at once."""
        acts = [Event.from_mapping(event) for event in events]
        for act in acts:
            act.check()
        standing = yield from self.authority_events({act.agent_id for act in acts})
        return [standing.delegations.authority(act) for act in acts]

    @cached_property
    def _said(self) -> dict[str, Event]:
        """What this agent said last of an intent: a status of its own ones, a verdict on others'; oldest first."""
        return {}

    def _with_own_word(self, intent: str, verifiers: Collection[str] = ()) -> Steps[Standing]:
        """Get what an intent follows from, and what this agent said of it, which a relay may not show."""
        standing = yield from self.intent_events(intent, verifiers)
        if intent in self._said:
            standing.take(self._said[intent])
        return standing

    def _say(self, intent: str, draft: intents.Draft, earliest: int) -> Steps[Ack]:
        """Publish a word on an intent, dated `earliest` or later, and remember it if a relay or the outbox has it."""
        now = self._now()
        kind, content, tags = draft
        at = max(now, min(earliest, now + _AHEAD_S))
        event = Event.create(self.keypair, kind, content, tags, created_at=at)
        try:
            answer = yield from self.send(event)
        except QuorumMissed as exc:
            if any(one["accepted"] for one in exc.results.values()):
                self._remember(intent, event)
            raise
        self._remember(intent, event)
        return answer

    def _remember(self, intent: str, event: Event) -> None:
        self._said.pop(intent, None)
        self._said[intent] = event
        if len(self._said) > _MOST_SAID:
            del self._said[next(iter(self._said))]

    def _row(
        self, standing: Standing, intent: str, now: int, verifiers: Collection[str] = (), quorum: int = 1
    ) -> dict[str, Any]:
        row = standing.intents.read(intent, now, standing.events, verifiers, quorum)
        if row is None:
            raise ValueError("this event is no intent, or it is dated in the future")
        return row

    def _own(self, standing: Standing, intent: str) -> dict[str, Any]:
        row = self._row(standing, intent, self._horizon())
        if row["agent_id"] != self.agent_id:
            raise ValueError("this intent is another agent's")
        return row

    def _now(self) -> int:
        return int(self.clock.wall())

    def _horizon(self) -> int:
        return self._now() + _HORIZON_S


def _trusted(verifiers: Iterable[str] | str, quorum: int) -> tuple[str, ...]:
    trusted = tuple(dict.fromkeys(map(an_id, each(verifiers))))
    if len(trusted) > MAX_VERIFIERS:
        raise ValueError(f"at most {MAX_VERIFIERS} verifiers, got {len(trusted)}")
    if not 1 <= quorum <= MAX_VERIFIERS:
        raise ValueError(f"quorum must be 1 to {MAX_VERIFIERS}, got {quorum}")
    return trusted


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    return value
