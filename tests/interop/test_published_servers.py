"""The published command line and MCP servers do on our relay all that they can do on the published relay.

The same session is played to both relays, by the programs as they are published, and every answer is compared: the
same success, the same keys and types, the same values where neither time nor identity decides. Ours may hold more keys.
What fails on the published relay too (`init` and `whoami` of the command line crash by themselves) must fail on ours
alike. `PublishedRelay` serves test_seeded_network.py as well.
"""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from tests.peers import peer_python
from tests.relays import RunningRelay

pytestmark = pytest.mark.interop

_PATIENCE_S = 60.0
_SEEDS = {"requester": "11" * 32, "provider": "22" * 32, "verifier": "33" * 32}
_NEVER = "ab" * 32  # an id that nothing has
_TEXT = "separator \u2028 and \x85, 🦑, 日本語"
_CAP = "text.reverse.v1"

# What may differ, and why; the test fails when one of these is not met either.
DIFFERENCES = {"uptime_24h_pct": "a beat counts for 900 s here and for 300 s there"}


# ---------------------------------------------------------------------------------------------- the published relay

_LAUNCH = """
import sys, uvicorn, anp2_relay.server as server
from anp2_relay.storage import Storage
if sys.argv[2] == "unlimited":
    server.RATE_LIMIT_MAX_PER_IP = server.RATE_LIMIT_MAX_EVENTS = 10**9
uvicorn.run(server.create_app(Storage(sys.argv[1])), port=0, access_log=False)
"""
_LISTENS = re.compile(r"running on (http://\S+)")


@contextmanager
def PublishedRelay(folder: Path, *, unlimited: bool = False) -> Iterator[str]:
    """Run anp2-relay on a free port with its database in `folder`; gives its URL. `unlimited` lifts its rates."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "published.log"
    command = [str(peer_python("anp2-relay")), "-I", "-c", _LAUNCH, str(folder / "published.db")]
    with log.open("wb") as out:
        process = subprocess.Popen([*command, "unlimited" if unlimited else "as-it-is"], stderr=out)
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not (found := _LISTENS.search(log.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield found[1]
    finally:
        process.terminate()
        process.wait(20)


# ---------------------------------------------------------------------------------------------- what a session notes


class Tape:
    """The answers of one relay, with names for ids, times, nonces and signatures, so that two tapes can be compared."""

    def __init__(self, url: str) -> None:
        self.answers: dict[str, dict[str, Any]] = {}
        self.ids: dict[str, str] = {}  # name -> id
        self._url = url
        self._from = int(time.time()) - 2

    def note(self, name: str, ok: bool, value: Any) -> Any:
        """Keep an answer; the ids it brings get their name."""
        if ok and isinstance(value, dict) and isinstance(value.get("id"), str):
            self.ids[name] = value["id"]
        assert name not in self.answers, f"{name} twice"
        self.answers[name] = {"ok": ok, "value": value}
        return value

    def named(self) -> dict[str, dict[str, Any]]:
        """All answers, by now with every id of the session known."""
        names = {id_: f"<{name}>" for name, id_ in self.ids.items()}
        names[self._url] = "<relay>"
        pattern = re.compile("|".join(map(re.escape, names)))
        return {
            name: {"ok": answer["ok"], "value": self._tidy(answer["value"], names, pattern)}
            for name, answer in self.answers.items()
        }

    def _tidy(self, value: Any, names: dict[str, str], pattern: re.Pattern[str]) -> Any:
        match value:
            case dict():
                return {key: self._tidy(item, names, pattern) for key, item in value.items()}
            case ["nonce", str()]:
                return ["nonce", "<nonce>"]
            case list():
                rows = [self._tidy(item, names, pattern) for item in value]
                # rows of one second stand in the order of their ids, which say nothing
                return sorted(rows, key=json.dumps) if rows and isinstance(rows[0], dict) else rows
            case str():
                named = pattern.sub(lambda found: names[found[0]], value)
                return re.sub("[0-9a-f]{64}", "<id>", re.sub("[0-9a-f]{128}", "<sig>", named))
            case int() if not isinstance(value, bool) and self._from <= value <= time.time() + 2:
                return "<time>"
        return value


def compare(theirs: Any, ours: Any, where: str) -> Iterator[str]:
    """Yield what of `theirs` is missing or other in `ours`."""
    if type(theirs) is not type(ours):
        yield f"{where}: {theirs!r} there, {ours!r} here"
    elif isinstance(theirs, dict):
        for key in theirs:
            if key not in ours:
                yield f"{where}.{key}: missing here"
            elif key not in DIFFERENCES:
                yield from compare(theirs[key], ours[key], f"{where}.{key}")
            elif type(theirs[key]) is not type(ours[key]):
                yield f"{where}.{key}: another type here"
    elif isinstance(theirs, list):
        if len(theirs) != len(ours):
            yield f"{where}: {len(theirs)} there, {len(ours)} here: {theirs} {ours}"
        for number, (one, other) in enumerate(zip(theirs, ours, strict=False)):
            yield from compare(one, other, f"{where}[{number}]")
    elif theirs != ours:
        yield f"{where}: {theirs!r} there, {ours!r} here"


def play_to_both(folder: Path, session: Callable[[Tape, str, Path], None]) -> tuple[Tape, Tape]:
    """Play `session` to both relays at once and hold their tapes against each other."""
    with PublishedRelay(folder / "theirs") as their_url, RunningRelay(folder) as relay:
        tapes = Tape(their_url), Tape(relay.url)
        homes = folder / "home-there", folder / "home-here"
        for home in homes:
            home.mkdir()
        with ThreadPoolExecutor(2) as pool:
            for done in [
                pool.submit(session, *each) for each in zip(tapes, (their_url, relay.url), homes, strict=True)
            ]:
                done.result()
    theirs, ours = (tape.named() for tape in tapes)
    assert theirs.keys() == ours.keys()
    wrong = [line for name in theirs for line in compare(theirs[name], ours[name], name)]
    assert not wrong, "\n".join(wrong)
    return tapes


# ---------------------------------------------------------------------------------------------------- MCP servers


class StdioServer:
    """A published MCP server with an identity of its own, spoken to in lines of JSON-RPC."""

    def __init__(self, package: str, url: str, home: Path, who: str, tape: Tape) -> None:
        prefix = package.partition("-")[0].upper()
        own = {f"{prefix}_RELAY_URL": url}
        if who == "requester":
            own[f"{prefix}_KEY_FILE"] = str(home / "keys" / "requester.priv")
            (home / "keys").mkdir()
            (home / "keys" / "requester.priv").write_text(_SEEDS[who])
        elif who == "provider":
            own[f"{prefix}_PRIVATE_KEY"] = _SEEDS[who]
        # the verifier makes its key in the place where a user without settings has it: below HOME
        self.calls: set[str] = set()
        self._who, self._tape, self._tools = who, tape, f"{prefix.lower()}_"
        self._number = 0
        env = {name: value for name, value in os.environ.items() if not name.startswith(("ANP2", "ANPORIA"))}
        with (home / f"{who}.log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(peer_python(package).with_name(package))],
                env={**env, "HOME": str(home), **own},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        assert self._ask("initialize", hello)["serverInfo"]["name"] == self._tools.rstrip("_")
        self._send({"method": "notifications/initialized"})
        self.agent_id: str = self.call("get_stats")["your_agent_id"]
        self._tape.ids[self._who] = self.agent_id
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()  # how an MCP client ends its server
        assert self._process.wait(_PATIENCE_S) == 0
        self._process.stdout.close()

    def tools(self) -> set[str]:
        return {tool["name"].removeprefix(self._tools) for tool in self._ask("tools/list", {})["tools"]}

    def call(self, tool: str, note: str = "", /, **arguments: Any) -> Any:
        """Call a tool and note its answer; gives what a client reads from it, or None when it failed."""
        self.calls.add(tool)
        result = self._ask("tools/call", {"name": self._tools + tool, "arguments": arguments})
        said = [part["text"] for part in result["content"]]
        failed = result.get("isError", False)
        value: Any
        if failed:
            # the text of a refusal is the relay's own; its status is not
            value = re.findall(r"\b[45]\d\d\b", said[0]) or said
        else:
            value = result.get("structuredContent") or json.loads(said[0])
            value = value["result"] if isinstance(value, dict) and value.keys() == {"result"} else value
        self._tape.note(f"{self._who}.{note or tool}", not failed, value)
        return None if failed else value

    def _ask(self, method: str, params: dict[str, Any]) -> Any:
        self._number += 1
        self._send({"id": self._number, "method": method, "params": params})
        while True:
            line = self._lines.get(timeout=_PATIENCE_S)
            answer = json.loads(line)
            if answer.get("id") == self._number:
                return answer["result"]

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put(line)


def test_anp2_mcp_server_does_all_it_can(tmp_path: Path) -> None:
    theirs, ours = play_to_both(tmp_path, twenty_tools)
    # what must hold on either relay, so that two equal failures do not pass for a success
    for tape in (theirs, ours):
        failed = {name for name, answer in tape.answers.items() if not answer["ok"]}
        assert failed == {
            f"requester.{name}"
            for name in ("unknown_task", "bad_credit_id", "bad_beacon", "too_long", "bad_vote", "bad_credit_amount")
        }
        assert tape.answers["requester.settled"]["value"]["status"] == "paid"
        assert tape.answers["provider.credit_after"]["value"]["balance"] == 9
        assert tape.answers["requester.credit_after"]["value"]["balance"] == -10
        assert tape.answers["requester.cut"]["value"] and len(tape.answers["requester.cut"]["value"]) == 2
    for name in ("all_posts", "all_kinds"):
        times = [event["created_at"] for event in ours.answers[f"verifier.{name}"]["value"]]
        assert times == sorted(times, reverse=True)


def test_anporia_mcp_server_does_all_it_can(tmp_path: Path) -> None:
    _, ours = play_to_both(tmp_path, seven_tools)
    failed = {name for name, answer in ours.answers.items() if not answer["ok"]}
    assert failed == {"requester.too_long", "requester.bad_vote"}
    assert [event["content"] for event in ours.answers["requester.query"]["value"]] == [_TEXT]


def twenty_tools(tape: Tape, url: str, home: Path) -> None:
    """A task from request to payment among three agents, and all else that the server offers."""
    package = "anp2-mcp-server"
    with (
        StdioServer(package, url, home, "requester", tape) as requester,
        StdioServer(package, url, home, "provider", tape) as provider,
        StdioServer(package, url, home, "verifier", tape) as verifier,
    ):
        assert (home / ".anp2/key.priv").stat().st_mode & 0o777 == 0o600
        everybody = {"requester": requester, "provider": provider, "verifier": verifier}
        for who, server in everybody.items():
            server.call("register", name=f"The {who}", description="plays", model_family="none", languages=["ja"])
        offer = {"name": _CAP, "description": "reverses", "input": "text", "output": "text", "price": "0"}
        provider.call("declare_capability", capabilities=[offer, {"name": "text.upper.v1"}])
        provider.call("beat", latency_ms=12, notes="well")
        root = requester.call("post", content=_TEXT, topics=["mcp", "lobby"], lang="ja")["id"]
        requester.call("post", "plain_post", content="no tags")
        requester.call("post", "too_long", content="x" * 65_537)
        reply = provider.call(
            "reply", content="indeed", root_id=root, parent_id=root, parent_agent_id=requester.agent_id
        )
        verifier.call(
            "knowledge_claim",
            claim="squid are many",
            confidence=0.5,
            sources=[{"url": "https://example.org/"}],
            derived_from=[root, reply["id"]],
            topics=["mcp"],
        )
        verifier.call("trust_vote", target_agent_id=provider.agent_id, score=1, reason="was there")
        verifier.call("trust_vote", "withdrawn_vote", target_agent_id=provider.agent_id, score=0)
        requester.call("trust_vote", "bad_vote", target_agent_id=provider.agent_id, score=5)
        requester.call("beacon", intent="seek", about="reversal", ttl_sec=600, topics=["mcp"])
        requester.call("beacon", "bad_beacon", intent="shout", about="?")

        task = requester.call(
            "request_task",
            capability=_CAP,
            input={"text": "abc"},
            constraints={"deadline_unix": 4_000_000_000},
            reward={"currency": "credit", "amount": 10, "payment_method": "anp2_credit"},
        )["task_id"]
        requester.call(
            "request_task",
            "bad_credit_amount",
            capability=_CAP,
            input={},
            constraints={},
            reward={"currency": "credit", "amount": -1, "payment_method": "anp2_credit"},
        )
        about = {"task_id": task, "capability": _CAP}
        requester.call("get_task", "pending", task_id=task)
        requester.call("get_credit", "credit_before")
        accepted = provider.call(
            "accept_task",
            eta_unix=4_000_000_000,
            price_quote={"amount": 10, "currency": "credit"},
            terms_hash="00" * 32,
            requester_agent_id=requester.agent_id,
            **about,
        )
        provider.call("get_task", "accepted", task_id=task)
        result = provider.call(
            "submit_result",
            output={"text": "cba"},
            runtime_ms=3,
            accept_event_id=accepted["id"],
            requester_agent_id=requester.agent_id,
            **about,
        )
        verifier.call("get_task", "completed", task_id=task)
        verifier.call(
            "verify_task",
            verdict="passed",
            score=0.75,
            reasons=["reversed"],
            evidence_event_ids=[result["id"]],
            result_event_id=result["id"],
            provider_agent_id=provider.agent_id,
            **about,
        )
        verifier.call("get_task", "verified", task_id=task)
        requester.call(
            "release_payment",
            task_id=task,
            payment_proof_url="https://example.org/paid",
            amount="10",
            currency="credit",
            tx_hash="none",
            payment_method="anp2_credit",
        )
        requester.call("get_task", "settled", task_id=task)
        requester.call("get_task", "unknown_task", task_id=_NEVER)
        requester.call("get_credit", "credit_after")
        requester.call("get_credit", "credit_of_nobody", agent_id=_NEVER)
        requester.call("get_credit", "bad_credit_id", agent_id="zz")
        provider.call("get_credit", "credit_after")

        verifier.call("query", "all_posts")
        verifier.call("query", "all_kinds", kinds=[0, 1, 2, 4, 5, 6, 15, 50, 51, 52, 53, 54], limit=5000)
        verifier.call("query", "by_author", authors=[provider.agent_id], kinds=[2, 52])
        verifier.call("query", "by_topic", topic="mcp", kinds=[1, 5, 15])
        verifier.call("query", "too_late", since=4_000_000_000)
        verifier.call("query", "too_early", until=1_000_000_000)
        for name in ("capabilities", "agents", "rooms", "stats"):
            verifier.call(f"get_{name}", f"{name}_after")
        for server in (provider, requester):  # the last seen of the roster, whatever the second they came in
            time.sleep(1.1)
            server.call("post", "last_post", content="good night")
        requester.call("get_agents", "cut", limit=2)
        tools = verifier.tools()
        assert len(tools) == 20
        assert tools == set.union(*(server.calls for server in everybody.values()))


def seven_tools(tape: Tape, url: str, home: Path) -> None:
    """All that anporia-mcp-server offers; it has no profiles, so the roster names nobody."""
    package = "anporia-mcp-server"
    with (
        StdioServer(package, url, home, "requester", tape) as one,
        StdioServer(package, url, home, "verifier", tape) as other,
    ):
        assert (home / ".anporia/key.priv").stat().st_mode & 0o777 == 0o600
        one.call("post", content=_TEXT, topics=["mcp"], lang="ja")
        one.call("post", "too_long", content="x" * 65_537)
        one.call("trust_vote", target_agent_id=other.agent_id, score=-1, reason="rude")
        one.call("trust_vote", "bad_vote", target_agent_id="short", score=1)
        one.call("query", topic="mcp")
        other.call("query", "votes", kinds=[6], authors=[one.agent_id], since=1, until=4_000_000_000, limit=0)
        other.call("query", "nothing", topic="nobody-was-here")
        for name in ("capabilities", "agents", "rooms", "stats"):
            other.call(f"get_{name}", f"{name}_after")
        one.call("get_agents", "cut", limit=-3)
        tools = one.tools()
        assert len(tools) == 7
        assert tools == one.calls | other.calls


# ------------------------------------------------------------------------------------------------- the command line


def test_anp2_cli_does_all_it_can(tmp_path: Path) -> None:
    _, ours = play_to_both(tmp_path, command_line)
    crash = "error: AttributeError: 'Agent' object has no attribute 'pub_hex'"
    for name in ("init", "init again by force", "whoami", "join", "own balance"):
        assert ours.answers[name]["value"]["error"] == crash, "it crashes by itself, on any relay"
    failed = {name for name, answer in ours.answers.items() if not answer["ok"]}
    assert failed == {
        *("init", "init again", "init again by force", "whoami", "join", "own balance"),
        *("positioning", "balance of a bad id", "limit too large"),
    } | {f"{name}, plain" for name in ("positioning",)}
    # its `join` reads its own attribute only after both events are out
    assert [event["kind"] for event in ours.answers["what it said"]["value"]].count(4) == 1


def command_line(tape: Tape, url: str, home: Path) -> None:
    """Every sub-command, as JSON and, where it reads, as plain text too."""
    python = peer_python("anp2-cli")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ANP2", "ANPORIA"))}

    def run(name: str, *arguments: str, plain: bool = False) -> Any:
        options = ["--relay", url] if plain else ["--json", "--relay", url]
        done = subprocess.run(
            [python.with_name("anp2"), *options, *arguments],
            env={**env, "HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
        )
        commands.add(next(part for part in arguments if part in every_command))
        value: Any = {"code": done.returncode, "error": re.sub(": [{<].*", "", done.stderr.strip())}
        if name == "init again":
            value["error"] = value["error"].replace(str(home), "<home>")
        if done.returncode == 0:
            # plain text of an object has a line for each key, and ours may have more
            value = {"lines": min(len(done.stdout.splitlines()), 3)} if plain else json.loads(done.stdout)
        return tape.note(f"{name}, plain" if plain else name, done.returncode == 0, value)

    usage = subprocess.run([python.with_name("anp2"), "--help"], capture_output=True, text=True, env=env).stdout
    listed = re.search(r"\{([a-z,]+)\}", usage)
    assert listed
    every_command, commands = set(listed[1].split(",")), set[str]()

    run("init", "init")
    key = home / ".anp2/key.priv"
    assert key.stat().st_mode & 0o777 == 0o600
    run("init again", "init")
    run("init again by force", "init", "--force")
    key.write_text(_SEEDS["provider"])
    run("whoami", "whoami")
    run("join", "join", "--name", "CLI", "--description", "joins", "--model-family", "none", "--cap", _CAP)
    run("post", "post", _TEXT, "--topic", "cli")
    run("post without topic", "post", "plain")
    posts = run("query", "query", "--kind", "1")
    me = posts[0]["agent_id"]
    tape.ids["me"] = me
    run("what it said", "query", "--author", me, "--limit", "50")
    run("own vote", "trust", me, "--score", "1", "--reason", "I know me")
    run("vote", "trust", _NEVER, "--score", "-1")
    run("limit too large", "query", "--limit", "5000")
    run("by topic", "query", "--topic", "cli", "--limit", "1")
    run("own balance", "balance")
    run("balance", "balance", "--agent-id", me)
    run("balance of a bad id", "balance", "--agent-id", "zz")
    for name in ("capabilities", "agents", "stats", "positioning"):
        run(name, name)
        run(name, name, plain=True)
    run("query", "query", plain=True)
    other = home / "other/key.priv"
    run("another key", "--key", str(other), "post", "as somebody else")
    assert other.stat().st_mode & 0o777 == 0o600
    assert commands == every_command
