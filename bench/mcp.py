"""The MCP server beside the SDK's least one and the published two: `./dev bench mcp [--runs 7]`, two minutes.

From the start until a host has its answer, memory, the bytes of the list of tools, and calls when all is warm. Each
start is a fresh process, in turns; one relay of ours, without limits, serves them all. Every server has its bytecode
ready, as after the first start at a user: each keeps it in a folder of its own, which a first round fills, uncounted.

Only tools that read are called: anporia_post takes 30 events a minute. "hello" answers without any relay, and its
query with 50 rows of an id and a text. The published servers know neither server/discover nor HTTP.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles

from rich.console import Console
from rich.progress import track
from rich.table import Table

from anporia_client import Agent, Keypair
from bench._mcp_hosts import HttpHost, StdioHost, paced
from tests.peers import ROOT, peer_python
from tests.relays import RunningRelay

POSTS = 60  # some more than a query of 50 takes
AUTHORS = 3
WARMING = 20  # calls that are not counted: imports, connections, names of authors

_INITIALIZE = "initialize"
_DISCOVER = "server/discover"
_FIRST = "first result"
_MEMORY = "resident, MB"
_BYTES = "tools/list, bytes"
_READY = re.compile(r"ready url=(\S+)")

# Goals for ours, each as the most it may be. Hosts cut a catalogue of tools that is much larger; 10 ms are not felt.
LEAST_SERVER_RATIO = 1.15
GOALS = {_MEMORY: 80.0, _BYTES: 14_000.0}
WARM_GOAL = 10.0

Samples = dict[str, dict[str, list[float]]]


@dataclass(frozen=True, slots=True)
class Server:
    """A program; `tools`: its get_stats and its query; `http`: how it is told to serve that, on a free port."""

    name: str
    command: tuple[str, ...]
    tools: tuple[str, str]
    modern: bool = False
    http: tuple[str, ...] = ()


def installed(folder: Path) -> Path:
    """Install our server as users do, from its sources into an environment of its own; gives its folder of programs.

    The development environment has more on its path, which every import walks through.
    """
    home, uv = folder / "ours", Path(sys.executable).with_name("uv")
    wanted = ["-c", "constraints.txt", "./wire", "./client", "./mcp_server"]
    if uv.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
        command = [str(uv), "pip", "install", "-q", "--python", f"{home}/bin/python", *wanted]
    else:
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        command = [f"{home}/bin/python", "-m", "pip", "install", "-q", *wanted]
    subprocess.run(command, check=True, cwd=ROOT)
    return home / "bin"


def servers(folder: Path) -> list[Server]:
    """Give those that can be measured: the published ones only where ./dev interop made their environments."""
    programs = installed(folder)
    hello = (str(programs / "python"), "-P", str(ROOT / "bench" / "_hello.py"))
    ours = (str(programs / "anporia-mcp-server"),)
    found = [
        Server("hello", hello, ("hello_stats", "hello_query"), True, ("http",)),
        Server("ours", ours, ("anporia_get_stats", "anporia_query"), True, ("--http", "--port", "0")),
    ]
    for name, prefix in (("anp2-mcp-server", "anp2"), ("anporia-mcp-server", "anporia")):
        if any((ROOT / ".peers").glob(f"{name}-*/complete")):
            program = str(peer_python(name).with_name(name))
            found.append(Server(name, (program,), (f"{prefix}_get_stats", f"{prefix}_query")))
    return found


def environment(server: Server, relay_url: str, folder: Path) -> dict[str, str]:
    """Give what a server is started with: a home of its own, the relay, and a place for its bytecode."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANPORIA", "ANP2", "PYTHON"))}
    home = folder / f"{server.name}-home"
    home.mkdir(exist_ok=True)
    relay = {"ANPORIA_RELAY_URL": relay_url, "ANP2_RELAY_URL": relay_url}
    return {**kept, **relay, "HOME": str(home), "PYTHONPYCACHEPREFIX": str(folder / f"{server.name}-bytecode")}


def start(server: Server, environment: Mapping[str, str], results: Samples) -> None:
    """Start one server two or three times, and note what each start took."""
    stats, query = server.tools

    def note(name: str, value: float) -> None:
        results.setdefault(name, {}).setdefault(server.name, []).append(value)

    with StdioHost(server.command, environment) as host:
        host.initialize()
        note(_INITIALIZE, host.since_start * 1e3)
    if server.modern:
        with StdioHost(server.command, environment) as host:
            host.discover()
            note(_DISCOVER, host.since_start * 1e3)
    with StdioHost(server.command, environment) as host:
        host.initialize()
        host.call(stats, {})
        note(_FIRST, host.since_start * 1e3)
        host.ask("tools/list", {})
        note(_BYTES, host.received)
        for _ in range(5):
            host.call(stats, {})
            host.call(query, {"limit": 50})
        note(_MEMORY, host.resident)


def call(server: Server, environment: Mapping[str, str], calls: int, results: Samples) -> None:
    """Call the tools of one server over and over, when they are warm."""

    def note(what: str, took: list[float]) -> None:
        for name, value in (("p50", median(took)), ("p99", quantiles(took, n=100)[98])):
            results.setdefault(f"{what} {name}", {}).setdefault(server.name, []).append(value)

    def ask(host: StdioHost | HttpHost, over: str) -> None:
        stats, query = partial(host.call, server.tools[0], {}), partial(host.call, server.tools[1], {"limit": 50})
        for what, question in (("get_stats", stats), ("query 50", query)):
            paced(question, WARMING)
            note(f"{over} {what}", paced(question, calls))

    with StdioHost(server.command, environment) as host:
        host.initialize()
        ask(host, "stdio")
    if server.http:
        with over_http(server, environment) as url, HttpHost(url) as caller:
            ask(caller, "HTTP")


@contextmanager
def over_http(server: Server, environment: Mapping[str, str]) -> Iterator[str]:
    """Run a server over HTTP; gives its address."""
    command = [*server.command, *server.http]
    with subprocess.Popen(command, env=dict(environment), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            found = next(found for line in process.stderr if (found := _READY.search(line)))
            yield found[1]
        finally:
            process.terminate()
            process.stderr.read()


def filled(url: str) -> None:
    """Put agents and short posts on the relay."""
    for number in range(AUTHORS):
        with Agent(Keypair.generate(), url) as agent:
            agent.declare_profile(name=f"author {number}", description="posts")
            for post in range(POSTS // AUTHORS):
                agent.post(f"a short post, number {post}, about this and that", topics=["tea"])


def measured(runs: int, calls: int) -> Samples:
    """Measure all servers in turns; the first round only warms what is on disk."""
    results: Samples = {}
    with (
        tempfile.TemporaryDirectory() as name,
        RunningRelay(Path(name), env={"ANPORIA_AGENT_RATE": "0", "ANPORIA_PEER_RATE": "0"}) as relay,
    ):
        folder = Path(name)
        filled(relay.url)
        found = servers(folder)
        turns = [(server, number) for number in range(runs + 1) for server in found]
        for server, number in track(turns, "measuring", console=Console(stderr=True), transient=True):
            env = environment(server, relay.url, folder)
            noted: Samples = results if number else {}
            start(server, env, noted)
            call(server, env, calls, noted)
    return results


def main() -> None:
    """Measure, and print medians with their spread; what misses its goal is marked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--calls", type=int, default=200, help="warm calls of each tool, per run")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    results = measured(args.runs, args.calls)
    if args.json:
        sys.stdout.write(json.dumps(results) + "\n")
        return
    names = list(results[_INITIALIZE])
    table = Table(box=None, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column("ms, median (range)", no_wrap=True)
    for name in names:
        table.add_column(name.removesuffix("-mcp-server"), justify="right", no_wrap=True)
    for what, row in results.items():
        table.add_row(what, *(spread(row[name]) if name in row else "-" for name in names))
    console = Console(width=80)
    console.print(table)
    for miss in missed(results):
        console.print(f"misses its goal: {miss}")


def missed(results: Samples) -> list[str]:
    """Say which goals ours misses."""
    goals = {what: GOALS.get(what, WARM_GOAL if " p50" in what else None) for what in results}
    goals[_INITIALIZE] = LEAST_SERVER_RATIO * median(results[_INITIALIZE]["hello"])
    found = [(what, median(results[what]["ours"]), goal) for what, goal in goals.items() if goal is not None]
    return [f"{what}: {value:.1f}, at most {goal:.1f}" for what, value, goal in found if value > goal]


def spread(values: list[float]) -> str:
    """Give the median with the least and the most."""
    digits = 0 if median(values) >= 30 else 1
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{median(values):.{digits}f} ({low}-{high})"


if __name__ == "__main__":
    main()
