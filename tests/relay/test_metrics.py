"""Figures for Prometheus: they parse, and they move with what happens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.relay.served import NOW, Served, sign, until


def figures(relay: Served) -> dict[str, float]:
    answer = relay.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        assert family.documentation
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_counters_move(tmp_path: Path) -> None:
    with Served(tmp_path) as relay:
        before = figures(relay)
        assert (before["anporia_events_accepted_total"], before["anporia_subscribers"]) == (0, 0)
        event = sign("a")
        relay.publish(event, event, sign("", 11))
        relay.batch(sign("b"), event, replace(sign("c"), sig="0" * 128), sign("late", at=NOW + 999))
        relay.get("/nowhere")
        relay.get("/events?limit=0")
        stream = relay.stream()
        after = figures(relay)
        moved = {
            "anporia_events_accepted_total": 3,
            "anporia_events_duplicate_total": 2,
            "anporia_refused_total{code=bad_signature}": 1,
            "anporia_refused_total{code=bad_time}": 1,
            "anporia_refused_total{code=not_found}": 1,
            "anporia_refused_total{code=invalid_filter}": 1,
            "anporia_requests_total{status=404}": 1,
            "anporia_subscribers": 1,
            "anporia_log_seq": 2,
            "anporia_verify_batch_sum": 6,
            "anporia_commit_batch_sum": 4,
        }
        for name, change in moved.items():
            assert after[name] - before.get(name, 0) == change, name
        assert (after["anporia_verify_queue"], after["anporia_commit_queue"]) == (0, 0)
        stream.reset()
        assert until(lambda: figures(relay)["anporia_subscribers"] == 0)


def test_what_is_refused_before_its_header_is_read_counts(tmp_path: Path) -> None:
    with Served(tmp_path) as relay:
        answer = relay.get("/", {"X-Long": "x" * 17_000})
        assert answer.status == 431
        assert figures(relay)["anporia_refused_total{code=header_too_large}"] == 1


def test_labels_are_few_whatever_strangers_send(tmp_path: Path) -> None:
    with Served(tmp_path) as relay:
        for number in range(50):
            relay.get(f"/nowhere{number}")
            relay.get(f"/events?kinds=x{number}")
            relay.post("/events", b"{%d" % number)
        assert len(figures(relay)) < 150


def test_damaged_rows_are_counted(tmp_path: Path) -> None:
    with Served(tmp_path, search=False) as relay:
        relay.publish(sign("spoilt"))

        async def spoil() -> None:
            await relay.relay.store._writer.execute(
                "UPDATE events SET raw = CAST(replace(CAST(raw AS TEXT), 'spoilt', 'SPOILT') AS BLOB)"
            )
            await relay.relay.store._writer.commit()

        relay.run(spoil())
        relay.get("/events")
        assert figures(relay)["anporia_damaged_rows_total"] == 1
