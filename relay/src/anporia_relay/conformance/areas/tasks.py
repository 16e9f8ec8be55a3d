"""GET /task/{id}: a task's thread and the status that follows from it, one named check for each story."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anporia_wire import Event

from ..check import Area, Body
from ..probe import Probe, equal, expect, has, near

AREA = Area("tasks")


class Thread:
    """A task told step by step: each verb publishes one event, a second after the one before."""

    def __init__(self, probe: Probe, *, amount: object = None, **constraints: object) -> None:
        self._probe = probe
        self._at = probe.now() - 500
        self.capability = f"conf.{probe.word()}"
        self.requester, self.provider, self.verifier = probe.key(), probe.key(), probe.key()
        content: dict[str, Any] = {"capability": self.capability, "input": {}, "constraints": constraints}
        if amount is not None:
            content["reward"] = {"currency": "credit", "amount": amount, "payment_method": "anp2_credit"}
        self.request = self._tell(50, content, self.requester, ["t", self.capability], ["cap_wanted", self.capability])

    @property
    def id(self) -> str:
        return self.request.id

    def accept(self, by: Any = None, *, before: bool = False) -> Event:
        return self._tell(51, {}, by or self.provider, *self._tags("accept"), back=before)

    def result(self, by: Any = None) -> Event:
        content = {"task_id": self.id, "output": {"text": "done"}}
        return self._tell(52, content, by or self.provider, *self._tags("result"))

    def verdict(self, verdict: str, by: Any = None, *, score: float = 1.0) -> Event:
        content = {"task_id": self.id, "verdict": verdict, "score": score, "reasons": []}
        return self._tell(53, content, by or self._probe.key(), *self._tags("verify"))

    def payment(self, disposition: str, by: Any = None) -> Event:
        content = {"task_id": self.id, "disposition": disposition, "payment_method": "mocked"}
        return self._tell(54, content, by or self.requester, *self._tags("payment"))

    def cancel(self, by: Any = None) -> Event:
        return self._tell(
            55, {"task_id": self.id, "reason": "conformance"}, by or self.requester, *self._tags("cancel")
        )

    def view(self) -> dict[str, Any]:
        answer: dict[str, Any] = self._probe.value(f"/task/{self.id}")
        return answer

    def _tags(self, role: str) -> list[list[str]]:
        return [["e", self.id, "root"], ["e", self.id, role], ["t", self.capability]]

    def _tell(self, kind: int, content: object, by: Any, *tags: list[str], back: bool = False) -> Event:
        self._at += 1
        return self._probe.said(kind, content, *tags, by=by, at=self._at - (60 if back else 0))


Story = Callable[[Thread], object]


def _pass_deadline(probe: Probe) -> dict[str, object]:
    return {"deadline_unix": probe.now() - 100}


def _nothing(_: Thread) -> None:
    pass


def _cancelled_late(task: Thread) -> None:
    task.accept()
    task.cancel()


def _completed(task: Thread) -> None:
    task.accept()
    task.result()


def _result_of_another(task: Thread) -> None:
    task.accept()
    task.result(task.verifier)


def _verdicts(*verdicts: str) -> Story:
    def story(task: Thread) -> None:
        _completed(task)
        for verdict in verdicts:
            task.verdict(verdict)

    return story


def _judged_by_requester(task: Thread) -> None:
    _completed(task)
    task.verdict("passed", task.requester)


def _judged_by_provider(task: Thread) -> None:
    _completed(task)
    task.verdict("passed", task.provider)


def _paid(*dispositions: str) -> Story:
    def story(task: Thread) -> None:
        _verdicts("passed")(task)
        for disposition in dispositions:
            task.payment(disposition)

    return story


def _story(tell: Story, status: str, *, late: bool = False) -> Body:
    def body(probe: Probe) -> None:
        task = Thread(probe, **(_pass_deadline(probe) if late else {}))
        tell(task)
        equal(task.view()["status"], status, "status")

    return body


_STORIES: list[tuple[str, str, Story, str, bool]] = [
    ("request-alone-is-pending", "A request alone is pending.", _nothing, "pending", False),
    ("accept-makes-accepted", "An accept makes it accepted.", Thread.accept, "accepted", False),
    ("result-makes-completed", "A result by who accepted makes it completed.", _completed, "completed", False),
    (
        "result-of-a-stranger-changes-nothing",
        "A result by who did not accept changes nothing.",
        _result_of_another,
        "accepted",
        False,
    ),
    ("passed-makes-verified", "A verdict by a third makes it verified.", _verdicts("passed"), "verified", False),
    ("failed-makes-verified", "A verdict of failure is a verdict.", _verdicts("failed"), "verified", False),
    (
        "most-verdicts-win",
        "Two passed and one failed: verified.",
        _verdicts("passed", "failed", "passed"),
        "verified",
        False,
    ),
    ("a-tie-is-disputed", "One passed, one failed: disputed.", _verdicts("passed", "failed"), "disputed", False),
    ("disputed-makes-disputed", "The verdict disputed makes it so.", _verdicts("disputed"), "disputed", False),
    (
        "unknown-verdict-changes-nothing",
        "A verdict that means nothing changes nothing.",
        _verdicts("superb"),
        "completed",
        False,
    ),
    (
        "requester-is-no-verifier",
        "The requester's own verdict does not count.",
        _judged_by_requester,
        "completed",
        False,
    ),
    ("provider-is-no-verifier", "The provider's own verdict does not count.", _judged_by_provider, "completed", False),
    ("release-makes-paid", "A release makes it paid.", _paid("release"), "paid", False),
    ("refund-makes-refunded", "A refund makes it refunded.", _paid("refund"), "refunded", False),
    ("last-payment-counts", "Of release and refund the later counts.", _paid("release", "refund"), "refunded", False),
    ("cancel-makes-cancelled", "The requester's cancel makes it cancelled.", Thread.cancel, "cancelled", False),
    (
        "cancel-after-accept-is-too-late",
        "A cancel after the accept changes nothing.",
        _cancelled_late,
        "accepted",
        False,
    ),
    (
        "stranger-cannot-cancel",
        "A cancel by anybody else changes nothing.",
        lambda t: t.cancel(t.verifier),
        "pending",
        False,
    ),
    ("deadline-ends-pending", "A request past its deadline is timed_out.", _nothing, "timed_out", True),
    (
        "deadline-ends-accepted",
        "An accept without a result past the deadline is timed_out.",
        Thread.accept,
        "timed_out",
        True,
    ),
    ("deadline-spares-completed", "A result stays completed past the deadline.", _completed, "completed", True),
]

for _name, _claim, _tell, _status, _late in _STORIES:
    AREA.add(_name, "core", "12", _claim, _story(_tell, _status, late=_late))


def _whole(probe: Probe) -> tuple[Thread, list[Event]]:
    """A thread with two accepts, the later-published one older, two verdicts and a payment."""
    task = Thread(probe)
    told = [task.request, task.accept(), task.accept(task.verifier), task.result(), task.verdict("passed", score=1.0)]
    told += [task.verdict("passed", score=0.5), task.payment("release")]
    return task, told


@AREA.core("12")
def has_its_shape(probe: Probe) -> None:
    """The answer has eleven keys."""
    task, _ = probe.once(_whole)
    names = "task_id status request accepts winning_accept_id results verifies payments cancels consensus events"
    answer = task.view()
    has(answer, names.split(), "a task")
    equal((answer["task_id"], answer["request"]["id"]), (task.id, task.id), "task_id and request")


@AREA.core("12")
def events_stand_in_order(probe: Probe) -> None:
    """`events` holds the whole thread, oldest first."""
    task, told = probe.once(_whole)
    equal([row["id"] for row in task.view()["events"]], [event.id for event in told], "ids")


@AREA.core("12")
def thread_holds_replies(probe: Probe) -> None:
    """Any event with an e tag to the task is in its thread."""
    task = Thread(probe)
    reply = probe.said(2, "any questions?", ["e", task.id, "root"])
    equal({row["id"] for row in task.view()["events"]}, {task.id, reply.id}, "ids")


@AREA.core("12")
def earliest_accept_wins(probe: Probe) -> None:
    """The accept with the least created_at wins, whichever came first."""
    task = Thread(probe)
    late, early = task.accept(), task.accept(task.verifier, before=True)
    answer = task.view()
    equal(answer["winning_accept_id"], early.id, "winning_accept_id")
    equal([row["id"] for row in answer["accepts"]], [early.id, late.id], "accepts")


@AREA.core("12")
def results_are_the_providers(probe: Probe) -> None:
    """`results` holds the winner's alone."""
    task = Thread(probe)
    task.accept()
    task.result(task.verifier)
    result = task.result()
    equal([row["id"] for row in task.view()["results"]], [result.id], "results")


@AREA.core("12")
def consensus_has_its_shape(probe: Probe) -> None:
    """`consensus` is {verdict, score, verifier_count}: the mean score of who counted."""
    task, _ = probe.once(_whole)
    consensus = task.view()["consensus"]
    has(consensus, ("verdict", "score", "verifier_count"), "consensus")
    equal((consensus["verdict"], consensus["verifier_count"]), ("passed", 2), "verdict and verifier_count")
    near(consensus["score"], 0.75, "score")


@AREA.core("12")
def without_verdict_no_consensus(probe: Probe) -> None:
    """Before any verdict `consensus` and `winning_accept_id` are null."""
    answer = Thread(probe).view()
    equal((answer["consensus"], answer["winning_accept_id"]), (None, None), "consensus and winning_accept_id")


@AREA.core("12")
def orphan_references_are_unknown(probe: Probe) -> None:
    """A task whose request the relay has not is `unknown`, its request null."""
    missing = probe.unused_id()
    probe.said(51, {}, ["e", missing, "root"], ["e", missing, "accept"])
    answer = probe.value(f"/task/{missing}")
    equal(answer["request"], None, "request")
    # an accept without a request: the accept decides, or that nothing is known does
    expect(probe.get(f"/task/{missing}"), "an orphan thread", 200)
    equal(answer["status"] in ("unknown", "accepted"), True, "status is unknown or accepted")


@AREA.core("12")
def unknown_task_is_404(probe: Probe) -> None:
    """An id with no thread is 404."""
    probe.refused(f"/task/{probe.unused_id()}", 404)


@AREA.core("12")
def short_id_is_400(probe: Probe) -> None:
    """What is no id is 400."""
    probe.refused("/task/abc", 400)


@AREA.spec("12")
def revoking_does_not_rewrite_a_thread(probe: Probe) -> None:
    """A revoked accept still counts: a thread is what was said."""
    task = Thread(probe)
    accept = task.accept()
    probe.said(9, "", ["e", accept.id], by=task.provider)
    equal(task.view()["status"], "accepted", "status")


@AREA.spec("12")
def deadline_may_be_a_text(probe: Probe) -> None:
    """A deadline in a numeric string counts."""
    task = Thread(probe, deadline_unix=str(probe.now() - 100))
    equal(task.view()["status"], "timed_out", "status")
