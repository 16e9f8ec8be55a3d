"""The market of tasks, kinds 50 to 55 (protocol section 19): requested, accepted, done, judged, paid.

The arguments are those of the published clients; each verb gives what `send` gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anporia_wire import kinds

from .publishing import Ack, Tags
from .requests import an_id
from .speaking import Speaking, body
from .steps import Steps

__all__ = ["PAYMENT_METHODS", "Tasks"]

_VERDICTS = ("passed", "failed", "disputed")
_DISPOSITIONS = ("release", "refund")
_STEPS = {
    "accepts": kinds.TASK_ACCEPT,
    "results": kinds.TASK_RESULT,
    "verifies": kinds.TASK_VERIFY,
    "payments": kinds.TASK_PAYMENT,
    "cancels": kinds.TASK_CANCEL,
}
PAYMENT_METHODS = ("lightning_bolt11", "eth_tx", "btc_tx", "mocked", "anp2_credit")


class Tasks(Speaking):
    """The verbs of work. The id of a task is that of its request."""

    def request_task(
        self,
        *,
        capability: str,
        input: Mapping[str, Any],  # noqa: A002, RUF100  # the published name
        constraints: Mapping[str, Any],
        reward: Mapping[str, Any],
        extra_tags: Tags | None = None,
    ) -> Steps[Ack]:
        """Ask for work (kind 50), with proof of work; gives `task_id` too.

        `constraints`: such as `{"max_cost_usd": 1, "deadline_unix": 1790000000}`; `reward`: `{"currency",
        "amount", "payment_method", "escrow_method"}`, with payment_method `anp2_credit` an integer amount.
        """
        content = {"capability": capability, "input": input, "constraints": constraints, "reward": reward}
        tags = [("t", capability), ("cap_wanted", capability), *(extra_tags or ())]
        answer = yield from self.publish(kinds.TASK_REQUEST, body(content), tags)
        return answer | {"task_id": answer["id"]}

    def accept_task(
        self,
        *,
        task_id: str,
        eta_unix: int,
        price_quote: Mapping[str, Any],
        terms_hash: str,
        requester_agent_id: str,
        capability: str,
    ) -> Steps[Ack]:
        """Take a task (kind 51). `eta_unix`: when it will be done; `price_quote`: `{"currency", "amount"}`."""
        content = {"eta_unix": eta_unix, "price_quote": price_quote, "terms_hash": terms_hash}
        tags = [*_of(task_id, "accept"), ("t", capability), ("p", an_id(requester_agent_id))]
        return (yield from self.publish(kinds.TASK_ACCEPT, body(content), tags))

    def submit_result(
        self,
        *,
        task_id: str,
        output: Any,
        runtime_ms: int,
        output_format: str = "json",
        accept_event_id: str | None = None,
        requester_agent_id: str | None = None,
        capability: str | None = None,
    ) -> Steps[Ack]:
        """Hand in the work (kind 52). `output`: anything JSON can hold."""
        content = {"task_id": task_id, "output": output, "runtime_ms": runtime_ms, "output_format": output_format}
        tags = _of(task_id, "result") + _links(accept_event_id, "accept", capability, requester_agent_id)
        return (yield from self.publish(kinds.TASK_RESULT, body(content), tags))

    def verify_task(
        self,
        *,
        task_id: str,
        verdict: str,
        score: float,
        reasons: Iterable[str] | None = None,
        evidence_event_ids: Iterable[str] | None = None,
        result_event_id: str | None = None,
        provider_agent_id: str | None = None,
        capability: str | None = None,
    ) -> Steps[Ack]:
        """Judge the work (kind 53). `verdict`: passed, failed or disputed; `score`: 0 to 1. Raises `ValueError`."""
        _one_of("verdict", verdict, _VERDICTS)
        if not 0.0 <= float(score) <= 1.0:
            raise ValueError(f"score must be in [0, 1], got {score}")
        content = {
            "task_id": task_id,
            "verdict": verdict,
            "score": float(score),
            "reasons": list(reasons or ()),
            "evidence_event_ids": list(evidence_event_ids or ()),
        }
        tags = _of(task_id, "verify") + _links(result_event_id, "result", capability, provider_agent_id)
        return (yield from self.publish(kinds.TASK_VERIFY, body(content), tags))

    def release_payment(
        self,
        *,
        task_id: str,
        payment_proof_url: str,
        amount: str,
        currency: str,
        tx_hash: str,
        payment_method: str = "mocked",
        disposition: str = "release",
        verify_event_id: str | None = None,
        provider_agent_id: str | None = None,
        capability: str | None = None,
    ) -> Steps[Ack]:
        """Record that a task was paid or refunded (kind 54). Raises `ValueError`.

        `payment_method`: lightning_bolt11, eth_tx, btc_tx, mocked or anp2_credit; `disposition`: release or refund.
        """
        _one_of("disposition", disposition, _DISPOSITIONS)
        _one_of("payment_method", payment_method, PAYMENT_METHODS)
        content = {
            "task_id": task_id,
            "disposition": disposition,
            "payment_proof_url": payment_proof_url,
            "amount": amount,
            "currency": currency,
            "payment_method": payment_method,
            "tx_hash": tx_hash,
        }
        tags = _of(task_id, "payment") + _links(verify_event_id, "verify", capability, provider_agent_id)
        return (yield from self.publish(kinds.TASK_PAYMENT, body(content), tags))

    def cancel_task(self, *, task_id: str, reason: str = "", capability: str | None = None) -> Steps[Ack]:
        """Take back a request of one's own that nobody has accepted (kind 55)."""
        tags = _of(task_id, "cancel") + _links(None, "", capability, None)
        return (yield from self.publish(kinds.TASK_CANCEL, body({"task_id": task_id, "reason": reason}), tags))

    def get_task(self, task_id: str) -> Steps[dict[str, Any]]:
        """Give a task's `status`, what came of it, and its thread; the status is the relay's word.

        `request`, `accepts`, `results`, `verifies`, `payments` and `cancels` are verified, of their kinds and of
        this task; what is not is left out.
        """
        task = an_id(task_id)
        found = yield from self.view(f"/task/{task}")
        request: Any = found.get("request")
        held = {name: _thread(found.get(name), kind, task) for name, kind in _STEPS.items()}
        asked = request if _is_event(request, kinds.TASK_REQUEST) else {}
        winner = found.get("winning_accept_id")
        known = isinstance(winner, str) and any(one["id"] == winner for one in held["accepts"])
        true = {"request": asked if asked.get("id") == task else None, "winning_accept_id": winner if known else None}
        return {**found, **held, **true}

    def get_credit(self, agent_id: str | None = None) -> Steps[dict[str, Any]]:
        """Give an agent's `balance`, `locked`, `available` and `verified_provider_tasks`; one's own by default."""
        return (yield from self.view(f"/agents/{an_id(agent_id or self.agent_id)}/credit"))


def _is_event(item: Any, kind: int) -> bool:
    # what has a signature was verified with the whole answer; what has none is anybody's word
    return isinstance(item, dict) and "sig" in item and item.get("kind") == kind


def _thread(listed: Any, kind: int, task: str) -> list[dict[str, Any]]:
    found = [item for item in listed if _is_event(item, kind)] if isinstance(listed, list) else []
    return [item for item in found if any(tag[:2] == ["e", task] for tag in item["tags"])]


def _of(task_id: str, step: str) -> list[Sequence[str]]:
    task = an_id(task_id)
    return [("e", task, "root"), ("e", task, step)]


def _links(event_id: str | None, role: str, capability: str | None, agent_id: str | None) -> list[Sequence[str]]:
    links: list[Sequence[str]] = []
    if event_id:
        links.append(("e", an_id(event_id), role))
    if capability:
        links.append(("t", capability))
    if agent_id:
        links.append(("p", an_id(agent_id)))
    return links


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
