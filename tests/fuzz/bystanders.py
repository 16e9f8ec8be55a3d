"""Honest agents of whom no poison speaks, and all that a relay answers about them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import unquote

from anporia_wire import Event, intents
from tests.relay.served import NOW, Served, keys, sign

__all__ = ["Answered", "Bystanders", "ask", "ask_all"]

# of the graph or the clock rather than of the agent
_OF_ALL = frozenset({"computed_at", "iterations"})

ALICE, BOB, CAROL, VOTERS, FRIENDS = 1, 2, 3, (4, 5, 6), range(10, 22)
PARENT, CHILD, OLD, NEW = 30, 31, 32, 33
_TEXT = "quarterly lighthouse maintenance requires patient keepers lamp oil brass polish storm shutters"


@dataclass(frozen=True)
class Answered:
    """One answer of the relay."""

    status: int
    content_type: str
    body: bytes

    def json(self) -> Any:
        """Read it strictly: NaN is no JSON."""
        return json.loads(self.body, parse_constant=_refuse)


async def ask(served: Served, path: str, query: str = "") -> Answered:
    """Put one question to the application itself, on the relay's thread: sockets are tested elsewhere."""
    sent: list[Mapping[str, Any]] = []

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"relay")],
        "client": ("127.0.0.1", 1),
    }
    await served.relay(scope, receive, send)
    headers = dict(sent[0]["headers"])
    return Answered(sent[0]["status"], headers[b"content-type"].decode(), b"".join(m["body"] for m in sent[1:]))


async def ask_all(served: Served, questions: list[tuple[str, str]]) -> list[Answered]:
    """Put one question after the other."""
    return [await ask(served, *question) for question in questions]


class Bystanders:
    """Alice translates, Bob asked her to, Carol judged it; three vote for her, twelve write about the same things.

    Alice also reached an intent, part of which a child did in its parent's name; it withdrew another, and one key
    followed on another.
    """

    def __init__(self) -> None:
        alice = keys(ALICE).agent_id
        post = sign(_TEXT, 1, ["t", "bystanders only"], by=ALICE, at=NOW - 50)
        claim = sign(json.dumps({"derived_from": [post.id]}), 5, ["e", post.id], by=BOB, at=NOW - 49)
        reward = {"payment_method": "anp2_credit", "amount": 1_000}
        request = sign(json.dumps({"capability": "bystander.translate", "reward": reward}), 50, by=BOB, at=NOW - 48)
        said = {"task_id": request.id}
        task = ["e", request.id, "root"]
        offer = {"name": "bystander.translate", "constraints": {"p95_latency_ms": 40}, "pricing": {"amount": 1}}
        self.post, self.claim, self.request = post, claim, request
        self.beacon = sign('{"intent":"offer","ttl_sec":86400}', 15, ["t", "bystanders only"], by=ALICE, at=NOW + 300)
        self.events: list[Event] = [
            sign('{"name":"Alice","description":"an honest translator"}', 0, by=ALICE, at=NOW - 60),
            sign(json.dumps({"capabilities": [offer]}), 4, ["cap", "bystander.translate"], by=ALICE, at=NOW - 59),
            *(sign('{"score":0.5,"reason":"good"}', 6, ["p", alice], by=voter, at=NOW - 58) for voter in VOTERS),
            *(sign(f"{_TEXT} {friend % 3}", 1, ["t", "bystanders only"], by=friend, at=NOW - 57) for friend in FRIENDS),
            post,
            claim,
            request,
            sign("", 51, task, by=ALICE, at=NOW - 47),
            sign(json.dumps({**said, "output": "done"}), 52, task, by=ALICE, at=NOW - 46),
            sign(json.dumps({**said, "verdict": "passed", "score": 1}), 53, task, by=CAROL, at=NOW - 45),
            sign(json.dumps({**said, "disposition": "release"}), 54, task, by=BOB, at=NOW - 44),
            sign('{"reason":"reads well"}', 8, ["p", alice], by=BOB, at=NOW - 43),
            self.beacon,
        ]
        parent, child = keys(PARENT).agent_id, keys(CHILD).agent_id
        whole, part, dropped, *acts = self._acts()
        self.events += [whole, part, dropped, *acts]
        self.ids = [
            post.id,
            claim.id,
            request.id,
            whole.id,
            part.id,
            alice,
            child,
            parent,
            keys(BOB).agent_id,
            keys(CAROL).agent_id,
        ]
        self.questions = [
            *((f"/agents/{keys(one).agent_id}", "") for one in (ALICE, BOB, CAROL, *VOTERS)),
            *((f"/agents/{keys(one).agent_id}/credit", "") for one in (ALICE, BOB, CAROL)),
            *((f"/agents/{alice}/{what}", "") for what in ("trust_received", "health")),
            *((f"/trust/{keys(one).agent_id}", "") for one in (ALICE, BOB, *VOTERS)),
            (f"/task/{request.id}", ""),
            ("/capabilities/search", "cap=bystander.translate"),
            (f"/neighbors/{alice}", "k=10"),
            (f"/neighbors/{alice}", "method=co-occurrence"),
            (f"/copresence/{alice}", "window=1d"),
            ("/home", f"agent_id={alice}"),
            (f"/onboarding/{alice}", ""),
            (f"/citations/{post.id}", ""),
            (f"/citations/{claim.id}", "direction=outgoing"),
            *((f"/events/{event.id}", "") for event in self.events),
            (f"/events/{post.id}/flags", ""),
            (f"/history/{alice}", "kind=1"),
            (f"/subscriptions/{keys(BOB).agent_id}", ""),
            (f"/dms/{alice}", ""),
            *((f"/intents/{one.id}", f"verifiers={keys(CAROL).agent_id}") for one in (whole, part, dropped)),
            ("/intents", f"author={alice}&events=true"),
            ("/intents", f"parent={whole.id}&verifiers={keys(CAROL).agent_id},{alice}&quorum=2"),
            ("/intents", f"assignee={child}&status=executing"),
            ("/intents", "topic=bystanders%20only"),
            *((f"/agents/{keys(one).agent_id}/delegations", "") for one in (ALICE, PARENT, CHILD, OLD, NEW)),
            ("/events", f"authors={alice}"),
            ("/events", "q=lighthouse"),
            ("/events/count", f"authors={alice},{keys(BOB).agent_id}"),
        ]

    @staticmethod
    def _acts() -> list[Event]:
        """Give the three intents, and then what was said about them and in whose name."""
        alice, parent, child = (keys(one).agent_id for one in (ALICE, PARENT, CHILD))
        criteria = [{"text": "the lamp burns", "method": "seen"}]
        topics = ["bystanders only"]
        whole = _said(ALICE, -40, intents.declare_draft(goal="light", success_criteria=criteria, topics=topics))
        part = _said(
            CHILD,
            -39,
            intents.declare_draft(
                goal="oil", success_criteria=criteria, parent=whole.id, assignee=child, deadline_unix=NOW + 5
            ),
        )
        dropped = _said(CHILD, -39, intents.declare_draft(goal="paint", success_criteria=criteria))
        first = _said(ALICE, -38, intents.status_draft(whole.id, status="executing", prev=whole.id))
        delegation = intents.delegation_draft(child, scope=[1500, 1501], expires_at=NOW + 86_400)
        return [
            *(whole, part, dropped, first),
            _said(ALICE, -37, intents.status_draft(whole.id, status="completed", prev=first.id, evidence="seen")),
            _said(CAROL, -36, intents.verify_draft(whole.id, alice, verdict="passed", method="seen")),
            _said(CHILD, -36, intents.verify_draft(whole.id, alice, verdict="failed", method="heard")),
            _said(CHILD, -38, intents.status_draft(part.id, status="executing", prev=part.id)),
            sign("{}", 9, ["e", dropped.id], by=CHILD, at=NOW - 35),
            sign(
                json.dumps({"name": "a child", "description": "of its parent", "parent": parent}),
                0,
                by=CHILD,
                at=NOW - 60,
            ),
            _said(PARENT, -50, delegation),
            old := _said(PARENT, -55, delegation),
            sign("{}", 9, ["e", old.id], by=PARENT, at=NOW - 52),
            *(
                sign(json.dumps({role: named}), 1504, ["s", intents.SCHEMAS[1504]], ["p", named], by=by, at=NOW - 40)
                for role, by, named in (
                    ("successor", OLD, keys(NEW).agent_id),
                    ("predecessor", NEW, keys(OLD).agent_id),
                )
            ),
        ]

    async def move_in(self, served: Served) -> None:
        """Publish what they have to say, past the door."""
        await served.relay.store.append(self.events)
        await until_searchable(served)

    async def answers(self, served: Served) -> dict[str, Any]:
        """Give all that is answered about them, scores worked out anew."""
        for _ in served.relay.views.trust.refresh(int(served.now)):
            pass
        found = await ask_all(served, self.questions)
        beacons = (await ask(served, "/beacons")).json()["beacons"]
        answers = {
            f"{path}?{query}": _own(one.json()) for (path, query), one in zip(self.questions, found, strict=True)
        }
        return {**answers, "beacon": [one for one in beacons if one["id"] == self.beacon.id]}


async def until_searchable(served: Served) -> None:
    """Wait until the search index holds the whole log."""
    index = served.relay.store.index
    assert index
    while index.seq < served.relay.store.last_seq:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def _said(by: int, after: int, draft: intents.Draft) -> Event:
    kind, content, tags = draft
    return sign(content, kind, *map(list, tags), by=by, at=NOW + after)


def _own(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {key: _own(one) for key, one in answer.items() if key not in _OF_ALL}
    return [_own(one) for one in answer] if isinstance(answer, list) else answer


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
