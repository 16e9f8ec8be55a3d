"""Every command against a real relay, once for people and once for programs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from rich.cells import cell_len

from anporia_client.cli import cli, main
from tests.client.cli.conftest import PROGRAM, Ran, Run, program
from tests.relays import RunningRelay

ID = "5a" * 32


def commands(group: click.Group = cli, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*before, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*before, name))


def leaves() -> set[str]:
    return {" ".join(path) for path, command in commands() if not isinstance(command, click.Group)}


class Both:
    """Runs a command for people and with --json, and keeps count of the commands that were seen."""

    def __init__(self, run: Run) -> None:
        self.run, self.seen = run, set[str]()

    def text(self, *args: str, stdin: str = "", code: int = 0) -> Ran:
        ran = self.run(*args, stdin=stdin)
        assert ran.code == code, ran
        assert ran.out or code, ran
        assert "\x1b" not in ran.out
        if args[0] not in ("up", "completion"):
            # a path is printed whole, and this one is as long as the folder of the tests
            lines = [line for line in ran.out.splitlines() if line not in args]
            assert [line for line in lines if cell_len(line) > 80] == []
        return ran

    def json(self, *args: str, stdin: str = "", code: int = 0) -> Ran:
        ran = self.run(*args, "--json", stdin=stdin)
        assert ran.code == code, ran
        assert ran.out.count("\n") == 1 and ran.out.isascii()
        _ = ran.json
        names = [name for name in leaves() if args[: len(name.split())] == tuple(name.split())]
        self.seen.update(names)
        return ran

    def __call__(self, *args: str, stdin: str = "") -> Ran:
        self.text(*args, stdin=stdin)
        return self.json(*args, stdin=stdin)


def test_every_command_for_people_and_for_programs(
    run: Run, relay: RunningRelay, other_key: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = Both(run)
    # the four commands that the published command crashes in, from nothing
    me = both("whoami").json["agent_id"]
    assert both("init").json["agent_id"] == me
    joined = both("join", "--name", "ada", "--capability", "x.y", "--language", "en").json
    assert joined["agent_id"] == me and joined["profile"] is None  # the run for people published it
    assert both("balance").json == both("credit", me).json
    # another agent: of two profiles of one second the one with the lower id counts
    said = ("profile", "--name", "eve", "--description", "who", "--key", str(tmp_path / "eve.key"))
    assert both(*said).json["profile"] is None

    post = both("post", "good tea", "--topic", "tea", "--lang", "en").json
    assert post["accepted"] and post["event"]["tags"] == [["t", "tea"], ["lang", "en"]]
    assert both("post", "-", "--topic", "tea", stdin="from a pipe\n").json["event"]["content"] == "from a pipe"
    reply = both("reply", post["id"], "I agree").json["event"]
    again = both("reply", reply["id"], "so do I").json["event"]
    assert again["tags"][:3] == [["e", post["id"], "root"], ["e", reply["id"], "reply"], ["p", me]]
    other = both("whoami", *other_key).json["agent_id"]
    assert both("beacon", "tea", "--intent", "seek", "--ttl", "60").json["accepted"]
    assert both("flag", post["id"], "--category", "spam", *other_key).json["accepted"]
    vote = both("trust", "vote", me, "-1", "--reason", "no", *other_key).json["event"]
    assert json.loads(vote["content"]) == {"score": -1, "reason": "no"}
    assert both("trust", "show", me).json["voter_count"] == 1
    gone = both("post", "a slip").json["id"]
    assert both("revoke", gone, "--reason", "slip").json["accepted"]
    assert both("send", "-", stdin=json.dumps(post["event"])).json[0]["accepted"]

    assert both("event", post["id"]).json == post["event"]
    found = both("query", "--topic", "tea", "--author", me, "--since", "1h", "--limit", "3").json
    assert {one["content"] for one in found} == {"good tea", "from a pipe"}
    assert both("query", "--mentions", me, "--kind", "reply", "--include-hidden", "--include-revoked").json
    everything = run("query", "--all", "--json").out.splitlines()
    assert len(everything) == len({json.loads(line)["id"] for line in everything}) >= 10
    assert both.text("query", "--all").out.count("\n") == 2 * len(everything) + 1
    assert both("search", "good", "tea").json[0]["content"] == "good tea"
    assert {one["agent_id"] for one in both("agents").json} >= {me, other}
    assert both("agent", me).json["name"] == "ada"
    assert "tea" in {one["room"] for one in both("rooms").json}
    assert "x.y" in {one["capability"] for one in both("capabilities").json}
    assert both("stats").json["total_events"] >= 10

    box = ["--outbox", str(tmp_path / "outbox.db")]
    both("dm", "send", other, "between us")
    assert both("dm", "read", "--with", me, *other_key).json[0]["text"] == "between us"
    # `completion` and `doctor` have tests of their own for what they say
    assert "_ANPORIA_COMPLETE" in both("completion", "zsh").json["script"]
    assert both("doctor").json["ok"]
    _market(both, other_key, tmp_path)
    _outbox(both, relay, box)
    _keys(both, tmp_path, monkeypatch)
    _passwords(both, monkeypatch)
    both.seen |= {"stream", "up"}  # each has a test of its own
    assert leaves() - both.seen == set()


def _market(both: Both, provider: list[str], tmp_path: Path) -> None:
    third = ["--key", str(tmp_path / "third.key")]
    both.json("whoami", *third)
    task = both("task", "request", "x.y", "do it", "--reward", "5", "--deadline", "1d").json["task_id"]
    both.run("whoami", *third)
    assert both.text("task", "submit", task, "done", *provider, code=1).err.startswith("anporia: this task is not")
    assert both.text("task", "verify", task, "passed", *third, code=1).err.startswith("anporia: nothing was handed in")
    assert task in [one["task_id"] for one in both("task", "list", "--capability", "x.y").json]
    assert both("task", "list", "--capability", "no.such").json == []
    own = both.text("task", "accept", task, code=1)  # it would be closed to everybody else
    assert own.err.startswith("anporia: this request is your own")
    unpaid = both.text("task", "release", task, code=1)
    assert unpaid.err.startswith("anporia: nothing was handed in yet")
    # `both` does it twice, and the second time makes no sense
    accept = both("task", "accept", task, "--eta", "2h", "--force", *provider).json["event"]
    assert json.loads(accept["content"])["price_quote"] == {"currency": "credit", "amount": 5}
    result = both("task", "submit", task, '{"x": 1}', "--force", *provider).json["event"]
    assert json.loads(result["content"])["output"] == {"x": 1}
    verdict = both("task", "verify", task, "passed", "--reason", "good", *third).json["event"]
    handed_in = [one["id"] for one in both("task", "show", task).json["results"]]
    assert result["id"] in handed_in and ["e", handed_in[-1], "result"] in verdict["tags"]
    assert json.loads(verdict["content"])["score"] == 1.0
    assert both.text("task", "release", task, *provider, code=1).err.startswith("anporia: only who requested")
    payment = both("task", "release", task, "--force").json["event"]
    assert ["e", verdict["id"], "verify"] in payment["tags"]
    shown = both("task", "show", task).json
    assert task not in [one["task_id"] for one in both("task", "list").json]
    assert task in [one["task_id"] for one in both("task", "list", "--all").json]
    assert shown["status"] == "paid" and shown["consensus"]["verdict"] == "passed"
    assert (
        both.text("task", "cancel", task, *provider, code=1).err == "anporia: only who requested a task can cancel it\n"
    )
    assert both.text("task", "cancel", task, code=1).err.startswith("anporia: somebody has accepted it")
    assert both("task", "cancel", task, "--reason", "late", "--force").json["accepted"]


def _outbox(both: Both, relay: RunningRelay, box: list[str]) -> None:
    both.text("outbox", "show", *box, code=1)  # there is none yet
    queued = both.json("post", "later", *box, "--relay", "http://127.0.0.1:9", "--timeout", "1")
    assert queued.json["queued"] and "waits in the outbox" in queued.err
    event = queued.json["id"]
    assert both("outbox", "show", *box).json[0]["event"]["id"] == event
    assert both.run("outbox", "send", *box, "--timeout", "1").code == 1
    assert both("outbox", "send", *box, "--relay", relay.url).json["waiting"] == 0  # nothing waits for this one
    both.text("outbox", "forget", event, *box)
    both.text("outbox", "forget", event, *box, code=1)
    again = both.json("post", "later", *box, "--relay", "http://127.0.0.1:9", "--timeout", "1").json["id"]
    assert both.json("outbox", "forget", again, *box).json == {"forgotten": again}


def test_an_outbox_delivers_when_its_relay_is_back(run: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    box, there = ["--outbox", str(tmp_path / "box.db")], ["--relay", f"http://127.0.0.1:{port}"]
    queued = run("post", "kept", "--json", "--timeout", "1", *box, *there)
    assert queued.code == 0 and not queued.json["accepted"]
    with RunningRelay(tmp_path, args=["--port", str(port)]):
        assert run("outbox", "send", "--json", *box).json == {"sent": 1, "waiting": 0, "refused": 0, "undelivered": []}
        assert run("event", queued.json["id"], *there).code == 0
        assert run("outbox", "show", *box).out == "the outbox is empty\n"


def _keys(both: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spare = ["--key", str(tmp_path / "spare.key")]
    both("key", "path", *spare)
    assert both.run("key", "show", *spare).code == 6
    both.text("key", "import", "-", *spare, stdin="11" * 32)
    twice = both.run("key", "import", "-", *spare, stdin="12" * 32)
    assert twice.code == 6 and "is not replaced" in twice.err
    both.json("key", "import", "-", "--key", str(tmp_path / "spare2.key"), stdin="12" * 32)
    assert both("key", "show", *spare).json["form"] == "plain"
    assert both("key", "export-public", *spare).json["algorithm"] == "ed25519"
    monkeypatch.setenv("ANPORIA_KEY_PASSPHRASE", "correct horse")
    assert both("key", "lock", *spare).json["outcome"] == "locked"  # again: with another passphrase, or the same
    assert both("key", "unlock", *spare).json["outcome"] == "unlocked"
    monkeypatch.delenv("ANPORIA_KEY_PASSPHRASE")
    assert both("key", "rotate", *spare).json["outcome"] == "already rotated"  # by the run for people


def _passwords(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[tuple[str, str], str] = {}
    monkeypatch.setattr(
        "anporia_client.keychain.set_", lambda service, user, word: kept.update({(service, user): word})
    )
    monkeypatch.setattr("anporia_client.keychain.delete", lambda service, user: kept.pop((service, user), None))
    both("login", "--user", "eve", stdin="opensesame\n")
    assert kept == {("anporia-relay:127.0.0.1", "eve"): "opensesame"}
    assert both.run("login", stdin="").code == 2
    both("logout", "--user", "eve")
    assert kept == {}


@pytest.mark.parametrize(
    ("path", "command"), list(commands()), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_help_teaches(path: tuple[str, ...], command: click.Command, run: Run) -> None:
    said = run(*path, "--help")
    assert said.code == 0 and not said.err
    assert [line for line in said.out.splitlines() if len(line) > 80] == []
    if not isinstance(command, click.Group):
        assert f"anporia {' '.join(path)}" in said.out.partition("Example")[2]


def test_the_help_of_all_says_the_exit_codes(run: Run) -> None:
    said = run("--help").out
    assert [f"  {code}  " in said for code in (0, 1, 2, 3, 4, 5, 6, 7, 130)] == [True] * 9
    assert run().code == 2 and run("task").code == 2
    assert run("--version").out.startswith("anporia 0.")


def test_a_stream_gives_each_event_a_line(relay: RunningRelay, run: Run) -> None:
    for options in ((), ("--json",)):
        following = subprocess.Popen(
            [*PROGRAM, "stream", "-v", "--topic", "flow", "--limit", "2", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(os.environ),
        )
        assert following.stderr is not None and following.stdout is not None
        assert b"subscribed" in following.stderr.readline()
        assert run("post", f"first{options}\n\x1b[31m", "--topic", "flow").code == 0
        assert run("post", f"second{options}", "--topic", "flow").code == 0
        out, _ = following.communicate(timeout=20)
        lines = out.decode().splitlines(keepends=True)
        assert len(lines) == 2 and (not options or all(json.loads(line)["id"] for line in lines))
        assert "first" in lines[0] and "second" in lines[1] and "\x1b" not in out.decode()
        assert following.returncode == 0


def test_options_stand_before_or_after(run: Run, relay: RunningRelay) -> None:
    assert run("--json", "stats").json.keys() == run("stats", "--json").json.keys()
    assert run("--relay", "http://127.0.0.1:9", "stats").code == 3
    assert run("task", "--json", "show", ID).json["error"]["code"] == "task_not_found"
    many = run("post", "to both", "--json", "--relay", relay.url, "--relay", "http://127.0.0.1:9").json
    assert many["relays"][relay.url] == {"accepted": True}
    missed = run("post", "x", "--quorum", "2", "--json", "--relay", relay.url, "--relay", "http://127.0.0.1:9")
    assert missed.code == 3 and missed.json["error"]["code"] == "quorum_missed" and missed.json["error"]["event"]["sig"]
    assert run("post", "x", "--quorum", "2").code == 2


def test_votes_ask_on_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anporia_client.cli.trust.on_terminal", lambda: True)
    refused = run("trust", "vote", ID, "1", stdin="n\n")
    assert refused.code == 130 and "permanent" in refused.err
    assert run("trust", "vote", ID, "1", stdin="y\n").code == 0
    assert run("trust", "vote", ID, "0", "--yes").code == 0
    assert run("trust", "vote", ID, "2").code == 2


def test_a_wrong_command_gets_a_hint(run: Run) -> None:
    assert run("pots").err == "anporia: there is no command 'pots'. Did you mean 'post'? See anporia --help\n"


def test_completion_completes(relay: RunningRelay) -> None:
    said = program(_ANPORIA_COMPLETE="bash_complete", COMP_WORDS="anporia po", COMP_CWORD="1")
    assert said.out.split() == ["plain,post"]


def test_main_is_what_the_script_calls() -> None:
    assert main(["completion", "bash"]) == 0
