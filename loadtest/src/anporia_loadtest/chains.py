"""Task chains, kinds 50 to 55 paid in credit, and what the relay must show after each step (protocol, 19 and 20)."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

from anporia_wire import Event, Keypair, kinds, pow

from .posts import AGES, date

__all__ = ["VARIANTS", "Chain", "Credit", "Step", "make_chain"]

VARIANTS = ("paid", "failed", "disputed", "cancelled", "late")
_METHOD = "anp2_credit"


class Credit(NamedTuple):
    """What an agent has: `GET /agents/{id}/credit`."""

    balance: int
    locked: int
    standing: int

    def shown(self, agent_id: str) -> dict[str, Any]:
        """Give the answer as it must be."""
        return {
            "agent_id": agent_id,
            "balance": self.balance,
            "locked": self.locked,
            "available": self.balance - self.locked,
            "verified_provider_tasks": self.standing,
        }


class Step(NamedTuple):
    """One event of a chain, and what follows from it."""

    event: bytes
    event_id: str
    status: str
    credits: Mapping[str, Credit]


class Chain(NamedTuple):
    """A task from request to end, signed ahead."""

    variant: str
    task_id: str
    steps: Sequence[Step]

    def to_json(self) -> dict[str, Any]:
        """Give plain values."""
        steps = [
            [s.event.decode(), s.event_id, s.status, {a: list(c) for a, c in s.credits.items()}] for s in self.steps
        ]
        return {"variant": self.variant, "task_id": self.task_id, "steps": steps}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read back what `to_json` gave."""
        steps = [
            Step(e.encode(), id_, at, {a: Credit(*c) for a, c in had.items()}) for e, id_, at, had in value["steps"]
        ]
        return cls(value["variant"], value["task_id"], steps)


def make_chain(choose: random.Random) -> Chain:
    """Sign a chain of fresh agents, so that their credit is what this one task makes of it."""
    variant = choose.choices(VARIANTS, (6, 2, 1, 1, 1))[0]
    return _Maker(variant, choose.randint(1, 5_000)).make()


class _Maker:
    def __init__(self, variant: str, amount: int) -> None:
        self.variant, self.amount = variant, amount
        self.requester, self.provider, self.verifier = (Keypair.generate() for _ in range(3))
        self.steps: list[Step] = []

    def make(self) -> Chain:
        request = self._request()
        self.task = request.id
        nothing, locked = Credit(0, 0, 0), Credit(0, self.amount, 0)
        if self.variant == "late":
            self._then(request, "timed_out", requester=nothing)
            return self._chain()
        self._then(request, "pending", requester=locked)
        if self.variant == "cancelled":
            cancel = self._sign(self.requester, kinds.TASK_CANCEL, {"reason": "load"}, ("cancel", self.task))
            self._then(cancel, "cancelled", requester=nothing)
            return self._chain()
        accept = self._sign(self.provider, kinds.TASK_ACCEPT, {"eta_unix": date() + AGES}, ("accept", self.task))
        self._then(accept, "accepted", requester=locked, provider=nothing)
        result = self._sign(self.provider, kinds.TASK_RESULT, {"output": "done"}, ("result", self.task))
        self._then(result, "completed", requester=locked, provider=nothing)
        said = {"paid": "passed"}.get(self.variant, self.variant)
        verdict = self._sign(self.verifier, kinds.TASK_VERIFY, {"verdict": said, "score": 0.9}, ("verify", self.task))
        fee = self.amount // 10
        if self.variant == "paid":
            ends = {"requester": Credit(-self.amount, 0, 0), "provider": Credit(self.amount - fee, 0, 1)}
            status, disposition, after = "verified", "release", "paid"
        elif self.variant == "failed":
            ends = {"requester": nothing, "provider": nothing}
            status, disposition, after = "verified", "refund", "refunded"
        else:  # a verdict "disputed" says nothing about credit: it stays locked
            ends = {"requester": locked, "provider": nothing}
            status, disposition, after = "disputed", "refund", "refunded"
        self._then(verdict, status, **ends, verifier=nothing)
        payment = {"disposition": disposition, "payment_method": _METHOD, "amount": self.amount, "currency": "credit"}
        self._then(self._sign(self.requester, kinds.TASK_PAYMENT, payment, ("payment", self.task)), after, **ends)
        return self._chain()

    def _request(self) -> Event:
        deadline = date() + (-3_600 if self.variant == "late" else AGES)
        content = {
            "capability": "load.echo",
            "input": {"text": "kettle"},
            "constraints": {"deadline_unix": deadline},
            "reward": {"currency": "credit", "amount": self.amount, "payment_method": _METHOD},
        }
        tags = [("t", "load.echo"), ("cap_wanted", "load.echo")]
        return pow.mine(self.requester, kinds.TASK_REQUEST, json.dumps(content), tags, date())

    def _sign(self, by: Keypair, kind: int, content: dict[str, Any], mark: tuple[str, str]) -> Event:
        other = self.requester if by is self.provider else self.provider
        tags = [("e", self.task, "root"), ("e", mark[1], mark[0]), ("t", "load.echo"), ("p", other.agent_id)]
        return Event.create(by, kind, json.dumps({"task_id": self.task, **content}), tags, created_at=date())

    def _then(self, event: Event, status: str, **credits: Credit) -> None:
        ids = {role: getattr(self, role).agent_id for role in credits}
        self.steps.append(Step(event.to_json(), event.id, status, {ids[role]: had for role, had in credits.items()}))

    def _chain(self) -> Chain:
        return Chain(self.variant, self.task, self.steps)
