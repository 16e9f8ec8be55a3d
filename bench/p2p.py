"""The anonymous network: packets against their primitives, and simulated networks; ten minutes.

Bits and latencies are virtual, from `anporia_p2p.sim` with the costs of real packets as measured at the start of the
run; each run is another seed. `--plot FILE.png` draws bits against latency (half a minute more), `--table FILE.md`
writes the tables for docs/p2p.md.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from anporia_p2p.mix.messages import MAX_TRIES
from anporia_p2p.mix.profiles import PROFILES, Profile
from anporia_p2p.sim.activity import watch
from anporia_p2p.sim.costs import measure
from anporia_p2p.sim.curve import draw, sweep
from anporia_p2p.sim.flights import Costs
from anporia_p2p.sim.outcome import LINKED, Outcome
from anporia_p2p.sim.scenario import Scenario, simulate
from anporia_p2p.sphinx import HEADER_BYTES, PACKET_BYTES
from anporia_p2p.sphinx.geometry import BETA_BYTES, BLOCK_BYTES, PAYLOAD_BYTES
from bench._alone import alone, progress
from bench._figures import Figure, markdown

NODES = 50
FLIGHTS = 100_000  # packets on links a simulation: 36 messages an author in the fast profile
QUICK_FLIGHTS = 1_500
DEAD_WARM_UP = 0.0  # seconds of loops before the first message: without health data the retries have to do it
WINDOWS = 300  # times half of 20 nodes, of each kind: half of them judge, so that chance is 0.018

# (title, profile, further settings, goal of the mean bits); the goals are those of the issue, in bits of 5.6
ANONYMITY: tuple[tuple[str, str, dict[str, float | bool], float | None], ...] = (
    ("fast", "fast", {}, 4.5),
    ("balanced", "balanced", {}, 5.0),
    ("slow", "slow", {}, None),
    ("fast, 20 % corrupt", "fast", {"corrupt": 0.2}, 4.2),
    ("balanced, 20 % corrupt", "balanced", {"corrupt": 0.2}, None),
    ("fast, told what ends where", "fast", {"told": True}, None),
    ("balanced, told what ends where", "balanced", {"told": True}, None),
)


def primitives(rounds: int) -> dict[str, float]:
    """Time what one unwrap is made of, each called as plainly as the libraries allow: medians, in us."""
    key = os.urandom(32)
    x25519, mlkem = X25519PrivateKey.generate(), MLKEM768PrivateKey.generate()
    peer = X25519PrivateKey.generate().public_key().public_bytes_raw()
    _, ciphertext = mlkem.public_key().encapsulate()
    header, beta, right = os.urandom(HEADER_BYTES - 16), bytes(BETA_BYTES + BLOCK_BYTES), bytes(PAYLOAD_BYTES - 32)

    def chacha20(data: bytes) -> bytes:
        return Cipher(ChaCha20(key, bytes(16)), None).encryptor().update(data)

    def lioness() -> None:
        for _ in range(2):
            chacha20(right)
            hmac.digest(key, right, "sha256")

    def expand() -> None:
        for _ in range(7):  # 208 bytes of keys in blocks of 32
            hmac.digest(key, bytes(50), "sha256")

    parts: dict[str, Callable[[], object]] = {
        "X25519": lambda: x25519.exchange(X25519PublicKey.from_public_bytes(peer)),
        "ML-KEM-768": lambda: mlkem.decapsulate(ciphertext),
        "SHA3-256": lambda: hashlib.sha3_256(bytes(134)).digest(),
        "HKDF": expand,
        "HMAC of the header": lambda: hmac.digest(key, header, "sha256"),
        "ChaCha20 of the header": lambda: chacha20(beta),
        "LIONESS": lioness,
    }
    return {name: _median(action, rounds) for name, action in parts.items()}


def _median(action: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        started = time.perf_counter_ns()
        action()
        taken.append((time.perf_counter_ns() - started) / 1e3)
    return statistics.median(taken)


def packets(runs: int, quick: bool) -> tuple[list[Figure], Costs]:
    """Measure packets; gives the costs too, as the medians of all runs."""
    unwraps, builds, blocks, sums = [], [], [], []
    for _ in progress(range(runs), "packets"):
        rounds = 50 if quick else 1_000
        costs, block = measure(rounds)
        sums.append(sum(primitives(rounds).values()))
        unwraps.append(1e6 * costs.unwrap)
        builds.append(1e3 * costs.build)
        blocks.append(1e3 * block)
    ratios = [unwrap / total for unwrap, total in zip(unwraps, sums, strict=True)]
    costs = Costs(statistics.median(unwraps) / 1e6, statistics.median(builds) / 1e3)
    return [
        Figure("packet", "bytes", [float(PACKET_BYTES)], PACKET_BYTES),
        Figure("of it header", "bytes", [float(HEADER_BYTES)], HEADER_BYTES),
        Figure("unwrap", "us", unwraps),
        Figure("unwrap / its primitives", "times", ratios, 1.3),
        Figure("build, 5 hops", "ms", builds, 1.5),
        Figure("reply block, 5 hops", "ms", blocks, 1.2),
    ], costs


def simulated(runs: int, quick: bool, costs: Costs) -> list[Figure]:
    """Simulate each setting with each seed."""
    found: list[Figure] = []
    for title, name, settings, goal in progress(ANONYMITY, "networks"):
        profile = PROFILES[name]
        outcomes = [_simulate(profile, seed, quick, costs, settings) for seed in range(1, runs + 1)]
        found += _anonymity(title, outcomes, goal)
        if not settings:
            found += _linked(title, outcomes)
            found += _latency(title, outcomes)
    return found


def _simulate(profile: Profile, seed: int, quick: bool, costs: Costs, settings: dict[str, float | bool]) -> Outcome:
    flights = QUICK_FLIGHTS if quick else FLIGHTS
    minutes = flights / (profile.packets_per_second * NODES) / 60
    order = Scenario(NODES, profile, seed, minutes, costs)
    return simulate(replace(order, **settings))  # type: ignore[arg-type]  # mypy does not see into the dictionary


def _anonymity(title: str, outcomes: Sequence[Outcome], goal: float | None) -> list[Figure]:
    figures = [outcome.as_dict()["h_user_bits"] for outcome in outcomes]
    note = f"of {figures[0]['max_possible']:.2f}; surprise {statistics.median(f['surprise'] for f in figures):.2f}"
    return [
        Figure(f"{title}: bits, mean", "bits", [f["mean"] for f in figures], goal, more_is_better=True, note=note),
        Figure(f"{title}: bits, least", "bits", [f["min"] for f in figures]),
    ]


def _linked(title: str, outcomes: Sequence[Outcome]) -> list[Figure]:
    """What is left when several events are known to be of one author."""
    found = []
    for count in LINKED:
        runs = [left for outcome in outcomes if (left := outcome.linked_bits(count)) is not None]
        if runs:
            found.append(Figure(f"{title}: bits left after {count} events of one key", "bits", runs))
    return found


def _latency(title: str, outcomes: Sequence[Outcome]) -> list[Figure]:
    figures = [outcome.as_dict() for outcome in outcomes]
    fast = title == "fast"
    return [
        Figure(f"{title}: one way, mean", "ms", [f["latency_ms"]["mean"] for f in figures], 220 if fast else None),
        Figure(f"{title}: one way, p95", "ms", [f["latency_ms"]["p95"] for f in figures], 400 if fast else None),
        Figure(f"{title}: a node, each way", "GB a day", [f["gigabytes_a_day"] for f in figures]),
        Figure(f"{title}: on all links", "MB a message", [f["bytes_per_delivery"] / 1e6 for f in figures]),
    ]


def dead_mixes(runs: int, quick: bool, costs: Costs) -> list[Figure]:
    """A tenth of the mixes is known and does not answer."""
    shares, first = [], []
    for seed in progress(range(1, runs + 1), "dead mixes"):
        settings: dict[str, float | bool] = {"dead": 0.1, "observed": False, "warm_up": DEAD_WARM_UP, "load": 0.3}
        outcome = _simulate(PROFILES["fast"], seed, quick, costs, settings)
        heard = outcome.heard_by_try
        shares.append(100 * sum(heard.values()) / len(outcome.letters))
        first.append(100 * heard[1] / len(outcome.letters))
    return [
        Figure(f"10 % dead mixes: heard within {MAX_TRIES} tries", "%", shares, 99.9, more_is_better=True),
        Figure("10 % dead mixes: heard in the first", "%", first),
    ]


def observed(quick: bool) -> list[Figure]:
    """Who speaks, by counting packets."""
    windows = 2 if quick else WINDOWS
    shares = watch(20, PROFILES["balanced"], 1, windows, window=100.0)
    # several thresholds are tried, so that the best of them is chance's best too
    return [Figure(f"who speaks, by {name}", "advantage", [share], 0.05) for name, share in shares.items()]


def figures(runs: int, quick: bool) -> list[Figure]:
    """Measure all."""
    of_packets, costs = packets(runs, quick)
    return [
        *of_packets,
        *simulated(runs, quick, costs),
        *dead_mixes(runs, quick, costs),
        *observed(quick),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--table", type=Path)
    own, rest = parser.parse_known_args()
    sys.argv[1:] = rest

    def measured(runs: int, quick: bool, events: int | None) -> list[Figure]:
        found = figures(runs, quick)
        if own.table:
            own.table.write_text(markdown("Measured", found))
        if own.plot:
            costs, _ = measure()
            points = sweep(Scenario(NODES, PROFILES["fast"], 1, 1.0, costs))
            draw(points, f"{NODES} nodes, all honest: an observer of all links", own.plot)
        return found

    alone("The anonymous network", __doc__, measured, FLIGHTS)
