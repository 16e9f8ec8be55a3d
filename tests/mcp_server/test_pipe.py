"""One pipe: both eras on it in either order, many calls at once, and nothing there that is no message."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

from tests.mcp_server.host import SERVER, environment
from tests.mcp_server.pipe import CLIENT, MODERN, Pipe
from tests.mcp_server.sessions import hanging_relay, until
from tests.relays import RunningRelay


def test_a_probe_of_the_new_era_then_a_handshake_of_the_old(open_relay: RunningRelay, tmp_path: Path) -> None:
    """As Claude Code and Copilot do it; and back, as no host is known to."""
    with Pipe(open_relay.url, tmp_path) as pipe:
        assert MODERN in pipe.asked("server/discover", modern=True)["supportedVersions"]
        assert pipe.initialize()["protocolVersion"] == "2025-11-25"
        listed = pipe.asked("tools/list")["tools"]
        assert pipe.asked("tools/list", modern=True)["tools"] == listed
        mine = pipe.call("anporia_get_stats")["your_agent_id"]
        assert pipe.call("anporia_get_stats", modern=True)["your_agent_id"] == mine
        # what cancels goes to the era that was asked
        for modern in (True, False):
            arguments = {"name": "anporia_stream", "arguments": {"topic": "nothing", "wait_seconds": 50}}
            waiting = pipe.ask("tools/call", arguments, modern=modern)
            time.sleep(0.3)
            pipe.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": waiting}})
            assert pipe.call("anporia_get_stats", modern=modern)["your_agent_id"] == mine
        began = time.monotonic()
        assert pipe.close() == 0
        assert time.monotonic() - began < 5


def test_a_handshake_then_calls_of_the_new_era(open_relay: RunningRelay, tmp_path: Path) -> None:
    with Pipe(open_relay.url, tmp_path) as pipe:
        pipe.initialize()
        posted = pipe.call("anporia_post", content="old", topics=["eras"])
        assert pipe.call("anporia_query", modern=True, topic="eras")["events"][0]["id"] == posted["id"]
        assert MODERN in pipe.asked("server/discover", modern=True)["supportedVersions"]
        # requests of both eras with one id at once: each gets its own answer
        for modern in (True, False):
            pipe.ask("ping" if not modern else "tools/list", modern=modern, id_="same")
        both = [pipe.answer("same")["result"], pipe.answer("same")["result"]]
        assert sorted("tools" in one for one in both) == [False, True]


def test_many_calls_at_once_and_lines_that_are_no_messages(open_relay: RunningRelay, tmp_path: Path) -> None:
    with Pipe(open_relay.url, tmp_path, "-vv") as pipe:
        pipe.send(b"not JSON\n")
        pipe.send(b"\n")
        pipe.send(b"\xff\xfe\x00\n")
        pipe.send(b'[{"jsonrpc": "2.0"}]\n')
        pipe.send(b'{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 99}}\n')
        pipe.send(b'{"jsonrpc": "2.0", "id": 77, "result": {}}\n')
        pipe.initialize()
        waiting = [
            pipe.ask("tools/call", {"name": "anporia_stream", "arguments": {"topic": "x", "wait_seconds": 1}})
            for _ in range(20)
        ]
        quick = [
            pipe.ask("tools/call", {"name": "anporia_query", "arguments": {"limit": 1}}, modern=bool(n % 2))
            for n in range(40)
        ]
        pipe.send(b"} garbage in the middle\n")
        began = time.monotonic()
        assert all("result" in pipe.answer(id_) for id_ in quick)
        assert all("result" in pipe.answer(id_) for id_ in waiting)
        assert time.monotonic() - began < 20, "they waited for each other"
        unknown = pipe.answer(pipe.ask("tools/call", {"name": "no_such\u202etool"}))["result"]
        assert unknown["isError"] and 'There is no tool "no_such<U+202E>tool" here.' in unknown["content"][0]["text"]
        assert pipe.answer(pipe.ask("no/such/method"))["error"]["code"] == -32601


def test_a_call_that_hangs_blocks_nothing_and_ends_with_the_pipe(tmp_path: Path) -> None:
    with hanging_relay() as url, Pipe(url, tmp_path) as pipe:
        pipe.initialize()
        hanging = [pipe.ask("tools/call", {"name": "anporia_get_rooms"}, modern=modern) for modern in (True, False) * 5]
        assert len(pipe.asked("tools/list")["tools"]) > 10
        assert pipe.asked("prompts/list", modern=True)["prompts"]
        assert "must be" in pipe.call("anporia_query", limit=0)
        began = time.monotonic()
        assert pipe.close() == 0
        assert time.monotonic() - began < 5
        assert not any(json.loads(line).get("id") in hanging and "result" in json.loads(line) for line in pipe.lines)
        assert "Traceback" not in pipe.stderr


def test_what_was_published_is_acknowledged_to_a_host_that_leaves(open_relay: RunningRelay, tmp_path: Path) -> None:
    with Pipe(open_relay.url, tmp_path) as pipe:
        pipe.initialize()
        posts = [
            pipe.ask("tools/call", {"name": "anporia_post", "arguments": {"content": f"last words {n}"}})
            for n in range(3)
        ]
        assert pipe.close() == 0
        assert all(pipe.answer(id_)["result"]["structuredContent"]["accepted"] for id_ in posts)


def test_a_host_that_is_gone_altogether_ends_it_quietly(open_relay: RunningRelay, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [str(SERVER)], env=environment(open_relay.url, tmp_path),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdout.close()
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    process.stdin.write(json.dumps(hello).encode() + b"\n")
    process.stdin.close()
    assert process.wait(15) == 0
    said = process.stderr.read().decode()
    process.stderr.close()
    assert "Traceback" not in said and "listen" not in said


def test_print_by_others_does_not_reach_standard_output(open_relay: RunningRelay, tmp_path: Path) -> None:
    """From the interpreter's start on, from threads, from programs we start, and past Python's own objects."""
    chatty = (
        "import atexit, os, subprocess, sys, threading\n"
        "def talk():\n"
        "    print('stray', flush=True)\n"
        "    os.write(1, b'stray\\n')\n"
        "    subprocess.run(['echo', 'stray'])\n"
        "import anporia_mcp_server.tools.reading as reading\n"
        "real = reading.notice\n"
        "def notice(session):\n"
        "    talk()\n"
        "    return real(session)\n"
        "reading.notice = notice\n"
    )
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/sitecustomize.py").write_text(chatty)
    with Pipe(open_relay.url, tmp_path, env={"PYTHONPATH": str(tmp_path / "lib")}) as pipe:
        pipe.initialize()
        assert "events" in pipe.call("anporia_query", limit=1)
        assert "events" in pipe.call("anporia_query", modern=True, limit=1)
        until(lambda: pipe.stderr.count("stray") >= 6)
        assert not any(b"stray" in line for line in pipe.lines)


def test_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    with hanging_relay() as url, Pipe(url, tmp_path) as pipe:
        pipe.initialize()
        pipe.ask("tools/call", {"name": "anporia_get_rooms"})
        time.sleep(0.2)
        pipe.process.send_signal(signal.SIGINT)
        assert pipe.process.wait(5) == 0
        assert "Traceback" not in pipe.stderr
