"""The client beside the published `anp2-client` 0.2.1: `./dev bench client [--runs 7]`, a minute.

Import, memory, CPU of signing and publishing an event, and mining one, in fresh processes that take turns. Both
talk to one relay of ours, without limits, and both have their bytecode ready.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.peers import peer_python
from tests.relays import RunningRelay

# what a program does, with the client's module as `client`; each prints one number
MEASURES = {
    "import, ms": """
import time
started = time.perf_counter()
import {module}
print((time.perf_counter() - started) * 1e3)
""",
    "import, an agent and its first post, ms": """
import time
started = time.perf_counter()
import {module} as client
client.Agent(client.generate_keypair()[0], relay_url={url!r}).post("hello")
print((time.perf_counter() - started) * 1e3)
""",
    "memory after that, MB": """
import {module} as client
client.Agent(client.generate_keypair()[0], relay_url={url!r}).post("hello")
# not ru_maxrss, which a child begins with at its parent's
print(int(next(line for line in open("/proc/self/status") if "VmRSS" in line).split()[1]) / 1024)
""",
    "signing and publishing, CPU us an event": """
import time
import {module} as client
agent = client.Agent(client.generate_keypair()[0], relay_url={url!r})
agent.post("hello")
started = time.process_time()
for number in range(500):
    agent.post(f"a post of usual length, number {{number}}, about this and that", tags=[("t", "tea")])
print((time.process_time() - started) / 500 * 1e6)
""",
    "mining 12 bits, ms": """
import time
import {module} as client
agent = client.Agent("01" * 32, relay_url={url!r})
agent.declare_profile(name="first", description="")
started = time.process_time()
for number in range(40):
    agent.declare_profile(name=f"miner {{number}}", description="the same forty profiles for each")
print((time.process_time() - started) / 40 * 1e3)
""",
}


def installed(folder: Path) -> Path:
    """Install the client as users do, from its sources into an environment of its own; gives its Python.

    The development environment has more on its path, which every import walks through.
    """
    home, uv = folder / "ours", Path(sys.executable).with_name("uv")
    python, wanted = str(home / "bin/python"), ["-c", "constraints.txt", "./wire", "./client"]
    if uv.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
        subprocess.run([str(uv), "pip", "install", "-q", "--python", python, *wanted], check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True)
    return Path(python)


def measured(python: Path, module: str, program: str, url: str, cache: str) -> float:
    """Run a program in a fresh process; gives what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANPORIA", "PYTHON"))}
    command = [str(python), "-X", f"pycache_prefix={cache}", "-c", program.format(module=module, url=url)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Measure in turns, and print medians with their spread."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        RunningRelay(Path(folder), env={"ANPORIA_AGENT_RATE": "0", "ANPORIA_PEER_RATE": "0"}) as relay,
    ):
        clients = {
            "anporia_client": (installed(Path(folder)), "anporia_client"),
            "anp2-client": (peer_python("anp2-client"), "anp2_client"),
        }
        results: dict[str, dict[str, list[float]]] = {name: {client: [] for client in clients} for name in MEASURES}
        turns = [(name, client) for name in MEASURES for _ in range(args.runs + 1) for client in clients]
        for name, client in track(turns, "measuring", console=Console(stderr=True), transient=True):
            python, module = clients[client]
            value = measured(python, module, MEASURES[name], relay.url, f"{folder}/{client}")
            results[name][client].append(value)
    kept = {
        name: {client: values[1:] for client, values in row.items()} for name, row in results.items()
    }  # one to warm
    if args.json:
        sys.stdout.write(json.dumps(kept) + "\n")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("", *clients, "ratio"):
        table.add_column(column, justify="right" if column else "left")
    for name, row in kept.items():
        ours, theirs = (row[client] for client in clients)
        table.add_row(name, *(spread(values) for values in (ours, theirs)), f"{median(theirs) / median(ours):.1f}")
    Console(width=100).print(table)


def spread(values: list[float]) -> str:
    """Give the median with the least and the most."""
    digits = 0 if median(values) >= 100 else 1
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


if __name__ == "__main__":
    main()
