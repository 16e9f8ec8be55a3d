"""Each line of the verdict passes when all is well, and fails for the one thing it is about."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from anporia_loadtest import Observations, judge
from anporia_loadtest.observations import Latency, Memory
from anporia_loadtest.verdict import Mark, memory_bound
from tests.loadtest.observed import good_log, good_memory, good_run

Spoil = Callable[[Observations], object]

SPOILED: dict[str, tuple[str, Spoil]] = {
    "a 5xx": ("server errors", lambda seen: seen.server_errors.fault("500 internal")),
    "another answer": ("answers", lambda seen: seen.answers.fault("GET /stats: no JSON")),
    "a broken stream": ("streams", lambda seen: seen.stream_faults.fault("ended by the relay")),
    "a forged event taken": ("forged events", lambda seen: seen.forgeries.fault("200 instead of 400 bad_signature")),
    "nonsense taken": ("other misdeeds", lambda seen: seen.misdeeds.fault("200 instead of 422 malformed")),
    "a flood not refused": ("floods", lambda seen: seen.floods.fault("61 events passed within 0.2 s")),
    "another credit": ("tasks", lambda seen: seen.chains.fault("paid: status pending instead of paid")),
    "slow to take": ("publishing", lambda seen: seen.latencies.update(publish=Latency(9, 1, 2, 250.1, 300))),
    "slow to give": ("reading", lambda seen: seen.latencies.update(read=Latency(9, 1, 2, 250.1, 300))),
    "a user that broke": ("users", lambda seen: seen.exceptions.append("1 times KeyError")),
}


def failed(seen: Observations) -> list[str]:
    verdict = judge(seen, good_log(), good_memory(), 250)
    assert verdict.ok is not any(line.mark is Mark.FAILED for line in verdict.lines)
    return [line.name for line in verdict.lines if line.mark is Mark.FAILED]


def test_a_run_without_fault_is_right() -> None:
    verdict = judge(good_run(), good_log(), good_memory(), 250)
    assert verdict.ok and verdict.notes == []
    assert {line.mark for line in verdict.lines} == {Mark.OK}


@pytest.mark.parametrize("what", SPOILED)
def test_one_fault_fails_its_line_and_no_other(what: str) -> None:
    line, spoil = SPOILED[what]
    seen = good_run()
    spoil(seen)
    assert failed(seen) == [line]


@pytest.mark.parametrize(
    ("publish_ms", "memory", "summary"),
    [
        (20, 60, "The relay was right."),
        (251, 60, "The relay was right, but slower than asked."),
        (20, 9_000, "The relay was right, but larger than allowed."),
        (251, 9_000, "The relay was right, but slower than asked and larger than allowed."),
    ],
)
def test_slow_or_large_is_not_wrong(publish_ms: float, memory: int, summary: str) -> None:
    seen = good_run()
    seen.latencies["publish"] = seen.latencies["read"] = Latency(9, 1, 2, publish_ms, 300)
    took = good_memory()._replace(peak=memory * 2**20)
    verdict = judge(seen, good_log(), took, 250)
    assert (verdict.right, verdict.summary) == (True, summary)
    assert verdict.ok is (summary == "The relay was right.")
    seen.answers.fault("GET /stats: no JSON")
    verdict = judge(seen, good_log(), took, 250)
    assert (verdict.ok, verdict.right, verdict.summary) == (False, False, "The relay was NOT right.")


def test_a_lost_acknowledgement_fails_and_is_named() -> None:
    log = good_log()
    log.missing, log.unlisted = ["ab" * 32], 1
    verdict = judge(good_run(), log, good_memory(), 250)
    (line,) = [line for line in verdict.lines if line.mark is Mark.FAILED]
    assert (line.name, line.examples) == ("acknowledged events", ["ab" * 32])
    assert line.text == "1 of 500 missing, 1 of them to be had by id"


@pytest.mark.parametrize("fault", ["gaps", "repeats", "strays"])
def test_a_gap_a_repetition_or_a_stray_frame_fails_the_streams(fault: str) -> None:
    log = good_log()
    log.streams.fault(fault, "7 never came")
    verdict = judge(good_run(), log, good_memory(), 250)
    assert [line.name for line in verdict.lines if line.mark is Mark.FAILED] == ["streams"]


def test_a_log_that_cannot_be_read_proves_nothing() -> None:
    log = good_log()
    log.error = "the log could not be read: 500"
    marks = {line.name: line.mark for line in judge(good_run(), log, good_memory(), 250).lines}
    assert marks["acknowledged events"] is marks["streams"] is Mark.FAILED


def test_a_run_that_published_nothing_is_no_success() -> None:
    log = good_log()
    log.acknowledged = 0
    assert not judge(good_run(), log, good_memory(), 250).ok


def test_memory_is_bound_by_what_is_stored_and_unknown_elsewhere() -> None:
    start, events = 40 * 2**20, 10_000
    bound = memory_bound(Memory(start, 0, 0, events))
    assert start < bound < start + 2**30

    def mark(memory: Memory | None) -> Mark:
        (line,) = [line for line in judge(good_run(), good_log(), memory, 250).lines if line.name == "memory"]
        return line.mark

    assert mark(Memory(start, bound, start, events)) is Mark.OK
    assert mark(Memory(start, bound + 1, start, events)) is Mark.FAILED
    assert mark(None) is Mark.UNTRIED


def test_what_was_not_tried_is_said_and_is_no_fault() -> None:
    verdict = judge(Observations(acknowledged=500), good_log(), None, 250)
    marks = {line.name: line.mark for line in verdict.lines}
    assert verdict.ok and marks["floods"] is marks["tasks"] is marks["forged events"] is Mark.UNTRIED


def test_a_limit_per_address_is_explained_and_is_no_fault() -> None:
    seen = good_run()
    seen.limited = {"rate_peer": 12}
    verdict = judge(seen, good_log(), None, 250)
    assert verdict.ok and verdict.summary == "The relay was right, as far as it was tested."
    assert "rate_peer" in verdict.notes[0] and "ANPORIA_RATE_EXEMPT" in verdict.notes[0]


def test_a_generator_at_its_limits_says_so() -> None:
    seen = good_run()
    seen.generator_busy, seen.waited_for_signer = 0.97, 400
    assert len(judge(seen, good_log(), None, 250).notes) == 2
    assert len(judge(seen, good_log(), None, 250, busy=0.8).notes) == 3


def test_one_is_no_plural() -> None:
    seen = good_run()
    seen.forgeries.done = seen.chains.done = seen.flooded = 1
    said = {line.name: line.text for line in judge(seen, good_log(), None, 250).lines}
    assert said["forged events"] == "1 refused with its code"
    assert said["other misdeeds"] == "all 30 refused with their code"
    assert said["tasks"].startswith("1 chain,") and " 1 event answered" in said["floods"]


def test_observations_come_back_from_json_as_they_went() -> None:
    seen = good_run()
    seen.answers.fault("one")
    assert Observations.from_json(json.loads(json.dumps(seen.to_json()))) == seen


def test_latencies_are_summed_up() -> None:
    assert Latency.of([]) == Latency(0, 0, 0, 0, 0)
    assert Latency.of(float(ms) for ms in range(1, 1_001)) == Latency(1_000, 501, 951, 991, 1_000)
