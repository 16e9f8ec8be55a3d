"""The bench of the anonymous network runs, and gives a figure for every goal. What they are is for the bench."""

from __future__ import annotations

from bench.p2p import ANONYMITY, figures, primitives


def test_there_is_a_figure_for_every_goal() -> None:
    found = {figure.name: figure for figure in figures(1, quick=True)}
    goals = {name for name, figure in found.items() if figure.goal is not None}
    assert goals >= {"packet", "of it header", "unwrap / its primitives", "build, 5 hops", "reply block, 5 hops"}
    assert goals >= {"fast: one way, mean", "fast: one way, p95", "10 % dead mixes: heard within 5 tries"}
    assert goals >= {f"{title}: bits, mean" for title, _, _, goal in ANONYMITY if goal is not None}
    assert len([name for name in goals if name.startswith("who speaks")]) == 4
    assert all(figure.runs for figure in found.values())
    assert found["packet"].met and found["of it header"].met


def test_the_primitives_are_those_of_one_unwrap() -> None:
    assert list(primitives(1)) == [
        "X25519",
        "ML-KEM-768",
        "SHA3-256",
        "HKDF",
        "HMAC of the header",
        "ChaCha20 of the header",
        "LIONESS",
    ]
