"""What the server may cost a host, counted, and what seed 004 promises of its first seven tools."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from anporia_client import Agent, Keypair
from tests.mcp_server.host import environment, over_stdio
from tests.relays import RunningRelay

MOST_LIST = 14_000  # bytes of the default tools: some 3,500 tokens that every conversation carries
MOST_DESCRIPTION = 2_048  # characters, where Claude Code cuts
MOST_QUERY = 25_000  # bytes of 50 short posts: hosts warn at some 10,000 tokens

# Not needed to shake hands, and heavy, or a part that other commands are for. Not among them: httpx2, starlette and
# uvicorn, which the SDK imports whatever it serves, and our compiled kernels, which the wire takes where they are.
LATER = frozenset({"httpx", "httpcore", "jsonschema", "keyring", "pygments", "rich", "uvloop"})
LATER_OF_OURS = ("anporia_client.cli", "anporia_mcp_server.commands", "anporia_mcp_server.server.http")
NEVER = frozenset({"anporia_relay", "anporia_store"})

# what every request of the new era says
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}

REQUIRED = object()
_NOBODY = "http://127.0.0.1:9"  # no relay is there, and none is asked


@dataclass(frozen=True, slots=True)
class Promised:
    """A tool of the seed's section 2. `inputs`: type and default; `outputs`: fields of the answer, `rows` of each."""

    says: str
    inputs: Mapping[str, tuple[str, object]] = field(default_factory=dict)
    outputs: frozenset[str] = frozenset()
    rows: tuple[str, frozenset[str]] = ("", frozenset())
    reads: bool = True


SEED: dict[str, Promised] = {
    "anporia_post": Promised(
        "Publish a public status post (kind 1) to the Anporia network as your agent identity. Use this when the user "
        "explicitly asks you to post, or when you want to share an observation/insight with other AI agents on the "
        "network.",
        {"content": ("string", REQUIRED), "topics": ("array", []), "lang": ("string", None)},
        frozenset({"id", "agent_id", "accepted"}),
        reads=False,
    ),
    "anporia_query": Promised(
        "Query events from the Anporia relay. Filter by kind, author, topic, or time window.",
        {
            "kinds": ("array", [1]),
            "authors": ("array", []),
            "topic": ("string", None),
            "since": ("integer", None),
            "until": ("integer", None),
            "limit": ("integer", 50),
        },
        rows=("events", frozenset()),  # whole envelopes, which test_a_query_gives_whole_envelopes looks at
    ),
    "anporia_get_capabilities": Promised(
        "Get a list of capabilities declared by agents on the Anporia network. Use this to discover what other AIs can "
        "do (translate, summarize, data lookup, etc.).",
        rows=("capabilities", frozenset({"agent_id", "name", "description", "input", "output", "price"})),
    ),
    "anporia_get_agents": Promised(
        "List agents currently known to the Anporia relay (those with a kind 0 profile).",
        {"limit": ("integer", 100)},
        rows=("agents", frozenset({"agent_id", "name", "description", "model_family", "languages"})),
    ),
    "anporia_get_rooms": Promised(
        "List active topic rooms (aggregated by recent activity).",
        rows=("rooms", frozenset({"topic", "event_count", "last_active"})),
    ),
    "anporia_trust_vote": Promised(
        "Cast a trust vote (kind 6) for another agent. Score in {-1, 0, +1}. -1 = malicious/spam, 0 = neutral/retract, "
        "+1 = trusted. Use sparingly — votes are public, signed, permanent.",
        {"target_agent_id": ("string", REQUIRED), "score": ("integer", REQUIRED), "reason": ("string", "")},
        frozenset({"id", "accepted"}),
        reads=False,
    ),
    "anporia_get_stats": Promised(
        "Get aggregate statistics from the Anporia relay.",
        {},
        frozenset({"total_events", "total_agents", "events_last_1h", "relay_url", "your_agent_id"}),
    ),
}


class Answers:
    """What one server said. `raw_lists`: its tools for either era; `imported`: when it had answered `initialize`."""

    def __init__(self, home: Path, *args: str) -> None:
        env = environment(_NOBODY, home, {"ANPORIA_AUTO_PROFILE": "0"})
        imports = home / "imports"
        command = [sys.executable, "-X", "importtime", "-m", "anporia_mcp_server", *args]
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        with (
            imports.open("w") as log,
            subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log) as process,
        ):
            assert process.stdin is not None and process.stdout is not None

            def ask(method: str, params: Mapping[str, Any]) -> bytes:
                line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
                process.stdin.write(line.encode() + b"\n")  # type: ignore[union-attr]
                process.stdin.flush()  # type: ignore[union-attr]
                return process.stdout.readline()  # type: ignore[union-attr]

            self.hello = json.loads(ask("initialize", hello))["result"]
            self.imported = {line.rpartition("|")[2].strip() for line in imports.read_text().splitlines()}
            process.stdin.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
            self.raw_lists = [ask("tools/list", {}), ask("tools/list", {"_meta": ENVELOPE})]
            process.stdin.close()
        self.tools: dict[str, dict[str, Any]] = {
            tool["name"]: tool for tool in json.loads(self.raw_lists[0])["result"]["tools"]
        }


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Ask a server that was started as most are."""
    return Answers(tmp_path_factory.mktemp("usual"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Ask one that offers all it has."""
    return Answers(tmp_path_factory.mktemp("whole"), "--tools", "all")


# ------------------------------------------------------------------------------------------------------- what it costs


def test_the_list_of_tools_is_small(usual: Answers) -> None:
    assert [len(raw) for raw in usual.raw_lists if not 10_000 < len(raw) <= MOST_LIST] == []


def test_no_text_is_cut_by_a_host(whole: Answers) -> None:
    for tool in whole.tools.values():
        assert 0 < len(tool["description"]) < MOST_DESCRIPTION, tool["name"]
    assert 0 < len(whole.hello["instructions"]) < MOST_DESCRIPTION


def test_shaking_hands_loads_no_more_than_it_needs(usual: Answers) -> None:
    assert {"mcp", "anporia_mcp_server.server.stdio"} <= usual.imported  # the list is one of modules indeed
    tops = {name.partition(".")[0] for name in usual.imported}
    assert tops & (LATER | NEVER) == set()
    assert {name for name in usual.imported if name.startswith(LATER_OF_OURS)} == set()


async def test_a_query_of_fifty_short_posts_is_small(tmp_path: Path) -> None:
    with RunningRelay(tmp_path, env={"ANPORIA_AGENT_RATE": "0"}) as relay:
        with Agent(Keypair.generate(), relay.url) as agent:
            agent.declare_profile(name="somebody", description="posts")
            for number in range(50):
                agent.post(f"a short post, number {number}, about this and that", topics=["tea"])
        async with over_stdio(relay.url, tmp_path) as host:
            result = await host.client.call_tool("anporia_query", {"topic": "tea"})
    text = result.content[0].text  # type: ignore[union-attr]
    assert len(json.loads(text)["events"]) == 50
    assert len(text.encode()) <= MOST_QUERY


# ----------------------------------------------------------------------------------------------- what every tool says


def test_every_tool_tells_a_host_what_it_takes_gives_and_does(whole: Answers) -> None:
    assert len(whole.tools) == 31
    for name, tool in whole.tools.items():
        takes, gives, hints = tool["inputSchema"], tool["outputSchema"], tool["annotations"]
        assert takes["type"] == "object", name
        assert all(about["description"] for about in takes["properties"].values()), name
        assert gives["type"] == "object" and gives["properties"], name
        assert isinstance(hints["readOnlyHint"], bool), name
        assert hints["readOnlyHint"] is True or isinstance(hints["destructiveHint"], bool), name


# ----------------------------------------------------------------------------------- what the seed promises of seven


def test_the_seven_tools_stand_first_under_their_names(usual: Answers) -> None:
    assert list(usual.tools)[:7] == list(SEED)


@pytest.mark.parametrize("name", SEED)
def test_a_tool_takes_what_the_seed_says(usual: Answers, name: str) -> None:
    schema, promised = usual.tools[name]["inputSchema"], SEED[name].inputs
    # what ours takes beyond the seed may be left out
    assert set(schema.get("required", ())) == {one for one, (_, default) in promised.items() if default is REQUIRED}
    for one, (kind, default) in promised.items():
        about = schema["properties"][one]
        if "enum" in about:
            assert all(type(value) is {"integer": int, "string": str}[kind] for value in about["enum"])
        else:
            assert about["type"] == kind
        # an argument without a default is null when it is left out
        assert about.get("default") == (None if default is REQUIRED else default), one


def test_ranges_and_choices_are_the_seeds(usual: Answers) -> None:
    query = usual.tools["anporia_query"]["inputSchema"]["properties"]
    assert (query["limit"]["minimum"], query["limit"]["maximum"]) == (1, 1_000)
    assert query["kinds"]["items"] == {"type": "integer", "minimum": 0}
    assert query["authors"]["items"] == {"type": "string"}
    vote = usual.tools["anporia_trust_vote"]["inputSchema"]["properties"]
    assert vote["score"]["enum"] == [-1, 0, 1]
    assert usual.tools["anporia_post"]["inputSchema"]["properties"]["topics"]["items"] == {"type": "string"}


@pytest.mark.parametrize("name", SEED)
def test_a_tool_gives_what_the_seed_says(usual: Answers, name: str) -> None:
    gives, promised = usual.tools[name]["outputSchema"]["properties"], SEED[name]
    assert promised.outputs <= gives.keys()
    rows, fields = promised.rows
    if rows:
        assert gives[rows]["type"] == "array"
        assert fields <= gives[rows]["items"].get("properties", {}).keys()


@pytest.mark.parametrize("name", SEED)
def test_a_tool_says_what_the_seed_says(usual: Answers, name: str) -> None:
    assert SEED[name].says in usual.tools[name]["description"]
    assert usual.tools[name]["annotations"]["readOnlyHint"] is SEED[name].reads


def test_the_vote_warns(usual: Answers) -> None:
    said = usual.tools["anporia_trust_vote"]["description"]
    assert "Use sparingly" in said and "public, signed, permanent" in said
    assert usual.tools["anporia_trust_vote"]["annotations"]["destructiveHint"] is True


async def test_a_query_gives_whole_envelopes(tmp_path: Path) -> None:
    with RunningRelay(tmp_path) as relay, Agent(Keypair.generate(), relay.url) as agent:
        posted = agent.post("whole", topics=["tea"], lang="en")
        exact = agent.get_event(posted["id"])
        async with over_stdio(relay.url, tmp_path) as host:
            answer = await host.call("anporia_query", topic=None, since=None, until=None, authors=[agent.agent_id])
    assert [{name: event.get(name) for name in exact} for event in answer["events"]] == [exact]
