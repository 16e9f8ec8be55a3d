"""Task markets: requests that are accepted, done, judged and paid; after each step the relay must show what follows."""

from __future__ import annotations

import orjson
from locust import between, task

from ..chains import Chain, Step
from ..signer import Ware
from .recording import RECORDER, Said
from .visitor import Visitor

__all__ = ["Markets"]


class Markets(Visitor):
    """Play one task of kinds 50 to 55 through, paid in credit, and compare state and credit after each step."""

    weight = 2
    wait_time = between(0.1, 0.5)

    @task
    def chain(self) -> None:
        """One task, from request to end."""
        chain = Chain.from_json(orjson.loads(self.take(Ware.CHAIN)))
        tally = RECORDER.seen.chains
        wrong = ""
        for step in chain.steps:
            if not self.publish(Said.read(step.event), "POST /events (task)"):
                return
            found = self._found(chain, step)
            if found is None:
                return  # no answer to compare, which is counted elsewhere
            wrong = wrong or found
        tally.done += 1
        if wrong:
            tally.fault(f"{chain.variant}: {wrong}")
        self.finished()

    def _found(self, chain: Chain, step: Step) -> str | None:
        """Compare; gives what differs, or nothing, and None when it could not be asked."""
        name = "GET /task/{id}"
        answer = self.ask("GET", f"/task/{chain.task_id}", name, "task")
        task = None if answer is None else self.parsed(answer, name)
        if not isinstance(task, dict):
            return None
        if task.get("status") != step.status:
            return f"status {task.get('status')} instead of {step.status}"
        if step.event_id not in {event["id"] for event in task.get("events", [])}:
            return "an acknowledged event is not in its thread"
        for agent_id, credit in step.credits.items():
            name = "GET /agents/{id}/credit"
            answer = self.ask("GET", f"/agents/{agent_id}/credit", name, "task")
            shown = None if answer is None else self.parsed(answer, name)
            if shown is None:
                return None
            if shown != credit.shown(agent_id):
                return f"credit {shown} instead of {credit.shown(agent_id)}"
        return ""
