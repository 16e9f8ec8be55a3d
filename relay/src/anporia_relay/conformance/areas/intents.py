"""Intents and delegations (sections 36 and 37); each check runs where GET / lists the feature."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from anporia_wire import Event, Keypair, intents

from ..check import Area
from ..probe import Probe, equal, expect, has, holds

AREA = Area("intents")

_ROW = (
    "intent_id", "agent_id", "created_at", "goal", "success_criteria", "steps", "deadline_unix", "parent", "assignee",
    "topics", "status", "step", "conflict", "overdue", "authority", "verdicts", "verified", "passes", "quorum",
)  # fmt: skip
_CRITERIA = [{"text": "it is there", "method": "look"}]


class _Story:
    """An intent told step by step, some minutes ago, a second each."""

    def __init__(self, probe: Probe, **more: Any) -> None:
        self._probe = probe
        self._at = probe.now() - 500
        self.author, self.verifier = probe.key(), probe.key()
        self.intent = self.tell(intents.declare_draft(goal="conformance", success_criteria=_CRITERIA, **more))

    def tell(self, draft: intents.Draft, by: Keypair | None = None) -> Event:
        kind, content, tags = draft
        self._at += 1
        return self._probe.said(kind, content, *map(list, tags), by=by or self.author, at=self._at)

    def status(self, status: str, prev: Event | None = None, by: Keypair | None = None) -> Event:
        follows = (prev or self.intent).id
        return self.tell(intents.status_draft(self.intent.id, status=status, prev=follows), by)

    def verdict(self, verdict: str, by: Keypair | None = None) -> Event:
        draft = intents.verify_draft(self.intent.id, self.author.agent_id, verdict=verdict, method="look")
        return self.tell(draft, by or self.verifier)

    def revoke(self, event: Event, by: Keypair | None = None) -> Event:
        return self.tell((9, "{}", [("e", event.id)]), by)

    def view(self, **params: object) -> dict[str, Any]:
        row: dict[str, Any] = self._probe.value(f"/intents/{self.intent.id}", **params)
        return row


@AREA.extension("intents")
def one_has_its_shape(probe: Probe) -> None:
    """GET /intents/{id} has the row's keys, `statuses`, and the events they follow from."""
    story = _Story(probe, topics=["conformance"])
    told = [story.intent.id, story.status("executing").id, story.verdict("passed").id]
    row = story.view()
    has(row, (*_ROW, "statuses", "events"), "the row")
    holds(set(told) <= {event["id"] for event in row["events"]}, "all its events", row["events"])
    equal((row["status"], row["verified"], row["passes"]), ("executing", None, None), "status, verified, passes")


@AREA.extension("intents")
def nobody_else_says_how_it_stands(probe: Probe) -> None:
    """Statuses and kinds 9 of others change nothing."""
    story = _Story(probe)
    story.status("completed", by=story.verifier)
    equal(story.view()["status"], "declared", "status")


@AREA.extension("intents")
def two_stories_are_a_conflict(probe: Probe) -> None:
    """Two statuses that follow on the same one are a conflict, and the later of one rank counts."""
    story = _Story(probe)
    first = story.status("executing")
    story.status("failed", first)
    equal(story.view()["conflict"], False, "conflict before")
    story.status("completed", first)
    row = story.view()
    equal((row["status"], row["conflict"]), ("completed", True), "status and conflict")


@AREA.extension("intents")
def a_status_never_falls_back(probe: Probe) -> None:
    """An intent that was completed stays so when its author says executing, or revokes the status."""
    story = _Story(probe)
    done = story.status("completed")
    story.status("executing", done)
    equal(story.view()["status"], "completed", "status")
    story.revoke(done)
    equal(story.view()["status"], "completed", "status after the revoke")


@AREA.extension("intents")
def verified_is_for_those_who_name_verifiers(probe: Probe) -> None:
    """`verified` counts the newest unrevoked verdicts of the reader's verifiers, never the author's."""
    story = _Story(probe)
    story.status("completed")
    story.verdict("passed", by=probe.key())
    story.verdict("passed", by=story.author)
    mine = story.verifier.agent_id
    both = f"{mine},{story.author.agent_id}"
    equal(story.view(verifiers=both)["verified"], False, "verified before")
    story.verdict("passed")
    row = story.view(verifiers=both)
    equal((row["verified"], row["passes"]), (True, 1), "verified and passes")
    equal(story.view(verifiers=both, quorum=2)["verified"], False, "verified by two")
    last = story.verdict("failed")
    equal(story.view(verifiers=mine)["verified"], False, "verified after the newer verdict")
    story.revoke(last, by=story.verifier)
    equal(story.view(verifiers=mine)["verified"], True, "verified after its revoke")


@AREA.extension("intents")
def withdrawn_is_final(probe: Probe) -> None:
    """A kind 9 of the author withdraws an intent, which is still shown."""
    story = _Story(probe)
    story.status("completed")
    story.revoke(story.intent)
    story.status("failed")
    equal(story.view()["status"], "withdrawn", "status")


@AREA.extension("intents")
def lists_are_filtered_and_paged(probe: Probe) -> None:
    """GET /intents filters by author, topic and status; following rel="next" gives each once, in order."""
    topic, author, now = probe.word(), probe.key(), probe.now()
    made: list[Event] = []
    for number in range(5):
        kind, content, tags = intents.declare_draft(goal=str(number), success_criteria=_CRITERIA, topics=[topic])
        made.append(probe.said(kind, content, *map(list, tags), by=author, at=now - 100 + number // 2))
    ids = [event.id for event in sorted(made, key=lambda event: (-event.created_at, event.id))]
    params: dict[str, str] = {"topic": topic, "author": author.agent_id.upper(), "status": "declared", "limit": "2"}
    seen: list[str] = []
    for _ in ids:
        answer = expect(probe.get("/intents", **params), "a page", 200)
        seen += [row["intent_id"] for row in answer.json()["intents"]]
        link = answer.headers.get("link", "")
        if not link:
            break
        params = dict(parse_qsl(urlsplit(link.partition(">")[0].lstrip("<")).query))
    equal(seen, ids, "ids of all pages")
    equal(probe.value("/intents", topic=topic, status="failed")["intents"], [], "failed ones")


@AREA.extension("intents")
def bad_questions_are_refused(probe: Probe) -> None:
    """An unknown intent is 404, a bad id 400, a parameter out of range 422."""
    probe.refused(f"/intents/{probe.unused_id()}", 404)
    probe.refused("/intents/ab", 400)
    for name, value in {"limit": 201, "quorum": 0, "status": "done", "author": "x", "verifiers": "x"}.items():
        probe.refused("/intents", 422, **{name: value})


@AREA.extension("intents")
def a_broken_shape_is_refused(probe: Probe) -> None:
    """Our schemas without what they must hold are 400; other schemas of these kinds are taken."""
    for kind, schema in intents.SCHEMAS.items():
        probe.rejects(probe.event(kind, {}, ["s", schema]))
        probe.publish(probe.event(kind, {}, ["s", probe.word()]))


@AREA.extension("intents")
def authority_follows_from_profile_and_delegation(probe: Probe) -> None:
    """Acts of a child are covered by its parent's kind 1503, by kind and date, until it is revoked."""
    parent, child, now = probe.key(), probe.key(), probe.now()
    kind, content, tags = intents.delegation_draft(child.agent_id, scope=[1500], expires_at=now)
    given = probe.said(kind, content, *map(list, tags), by=parent, at=now - 90)
    kind, content, tags = intents.declare_draft(goal="g", success_criteria=_CRITERIA)
    acts = [probe.said(kind, content, *map(list, tags), by=child, at=now - at) for at in (91, 80, 70)]

    def found() -> list[Any]:
        return [probe.value(f"/intents/{act.id}")["authority"] for act in acts]

    equal(found(), [None] * 3, "authority without a parent")
    probe.said(0, json.dumps({"name": "child", "parent": parent.agent_id}), by=child, at=now - 60)
    equal([one["reason"] for one in found()], ["no_delegation", None, None], "reasons")
    probe.said(9, "{}", ["e", given.id], by=parent, at=now - 75)
    equal([one["reason"] for one in found()], ["no_delegation", None, "revoked"], "reasons after the revoke")
    (row,) = probe.value(f"/agents/{parent.agent_id}/delegations")["given"]
    equal((row["id"], row["accepted"], row["active"]), (given.id, True, False), "the delegation's row")
