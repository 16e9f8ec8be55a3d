"""`key`: locked and unlocked, never shown by mistake, never replaced by accident, rotated without losing either key."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from anporia_client import identity, rotation
from anporia_client.agent import Agent
from tests.client.cli.conftest import Run

SEED = "11" * 32


@pytest.fixture
def key_file(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A key of its own, which counts for every command."""
    file = tmp_path / "own" / "key.priv"
    monkeypatch.setenv("ANPORIA_KEY_FILE", str(file))
    assert run("whoami").code == 0
    return file


def whoami(run: Run) -> str:
    return str(run("whoami", "--json").json["agent_id"])


def rotations(run: Run, author: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run("query", "--kind", "1504", "--author", author, "--json").json
    return found


def test_locked_it_says_who_it_is_and_signs_with_the_passphrase(
    run: Run, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = whoami(run)
    assert run("key", "lock").code == 2  # nobody to ask for a passphrase
    monkeypatch.setenv("ANPORIA_KEY_PASSPHRASE", "correct horse")
    locked = run("key", "lock", "--json")
    assert locked.code == 0 and locked.json["agent_id"] == me
    monkeypatch.delenv("ANPORIA_KEY_PASSPHRASE")
    said = run("whoami", "--json")
    assert (said.json["agent_id"], said.json["form"]) == (me, "sealed") and said.err == ""
    assert run("query").code == 0 and run("credit").code == 0  # reading needs no key
    assert run("post", "hi", "--json").json["error"]["code"] == "key_locked"
    assert run("doctor").code == 0
    monkeypatch.setenv("ANPORIA_KEY_PASSPHRASE", "wrong")
    assert run("post", "hi").code == 6 and run("doctor").code == 1
    monkeypatch.setenv("ANPORIA_KEY_PASSPHRASE", "correct horse")
    assert run("post", "hi", "--json").json["event"]["agent_id"] == me
    assert run("key", "unlock").code == 0
    assert key_file.read_text().strip() not in run("key", "show").out
    monkeypatch.delenv("ANPORIA_KEY_PASSPHRASE")
    assert run("post", "plain again").code == 0


def test_a_passphrase_is_asked_for_on_a_terminal(run: Run, key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anporia_client.cli.keys.on_terminal", lambda: True)
    monkeypatch.setattr("anporia_client.cli.session.on_terminal", lambda: True)
    monkeypatch.setattr("click.prompt", lambda text, **_: "asked for")
    assert run("key", "lock").code == 0
    assert run("post", "hi").code == 0
    assert key_file.read_text().startswith("anporia-key:v1:argon2id:")


def test_the_private_key_is_shown_on_a_terminal_only(run: Run, key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = key_file.read_text()
    for args in (("key", "show", "--private"), ("key", "show", "--private", "--json")):
        refused = run(*args, stdin="y\n")
        assert refused.code == 2 and seed not in refused.out + refused.err
    monkeypatch.setattr("anporia_client.cli.keys.on_terminal", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert run("key", "show", "--private", stdin="n\n").code == 130
    shown = run("key", "show", "--private", stdin="y\n")
    assert shown.code == 0 and seed in shown.out


def test_import_takes_a_locked_file_too(
    run: Run, key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANPORIA_KEY_PASSPHRASE", "correct horse")
    assert run("key", "lock").code == 0
    me, other = whoami(run), ["--key", str(tmp_path / "other" / "key")]
    assert run("key", "import", str(key_file), "--json", *other).json["agent_id"] == me
    assert run("post", "from the copy", "--json", *other).json["event"]["agent_id"] == me
    assert run("key", "import", "-", *other, stdin=SEED).code == 6
    assert run("key", "import", "-", "--key", str(tmp_path / "none"), stdin="no key").code == 6
    assert run("key", "import", "-", "--key", str(tmp_path / "sealed"), stdin=SEED).code == 0
    assert (tmp_path / "sealed").read_text().startswith("anporia-key:v1:argon2id:")


def test_rotation_is_signed_by_both(run: Run, key_file: Path) -> None:
    old = whoami(run)
    said = run("key", "rotate", "--json")
    assert said.code == 0, said
    new = whoami(run)
    assert said.json["old"] == old != new == said.json["new"]
    (announced,), (confirmed,) = rotations(run, old), rotations(run, new)
    assert json.loads(announced["content"]) == {"successor": new}
    assert json.loads(confirmed["content"]) == {"predecessor": old}
    assert announced["tags"] == [["s", rotation.SCHEMA], ["p", new]]
    assert confirmed["tags"] == [["s", rotation.SCHEMA], ["p", old]]
    retired = Path(said.json["retired"])
    assert retired.exists() and retired.parent == key_file.parent
    # a script that did not see the end and runs it again
    again = run("key", "rotate", "--json")
    assert again.json["outcome"] == "already rotated" and whoami(run) == new
    assert run("key", "rotate", "--again", "--json").json["old"] == new


@pytest.mark.parametrize("step", ["begin", "announce", "announced", "confirm", "confirmed", "finish", "finished"])
def test_rotation_interrupted_anywhere_goes_on(
    step: str, run: Run, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = whoami(run)
    with monkeypatch.context() as patch:
        _interrupt(patch, step)
        assert run("key", "rotate").code == 130
    assert whoami(run) == old or step == "finished"
    said = run("key", "rotate", "--json")
    assert said.code == 0, said
    new = whoami(run)
    assert new != old and said.json["new"] == new
    assert [rotation.named(event, "successor") for event in rotations(run, old)] == [new]
    assert [rotation.named(event, "predecessor") for event in rotations(run, new)] == [old]
    assert not Path(f"{key_file}.next").exists()
    assert len(list(key_file.parent.glob("*.retired"))) == 1


def _interrupt(patch: pytest.MonkeyPatch, step: str) -> None:
    """Press Ctrl-C before or after one of the steps."""
    publish: Any = vars(Agent)["publish"]
    begin, finish = identity.begin_rotation, identity.finish_rotation
    role = {"announce": "successor", "announced": "successor"}.get(step, "predecessor")

    def publishing(self: Agent, kind: int, content: str, tags: Any) -> Any:
        if step in ("announce", "confirm") and role in content:
            raise KeyboardInterrupt
        ack = publish(self, kind, content, tags)
        if step in ("announced", "confirmed") and role in content:
            raise KeyboardInterrupt
        return ack

    def beginning(*args: Any, **more: Any) -> Any:
        made = begin(*args, **more)
        if step == "begin":
            raise KeyboardInterrupt
        return made

    def finishing(path: Any) -> Any:
        if step == "finish":
            raise KeyboardInterrupt
        finish(path)
        if step == "finished":
            raise KeyboardInterrupt

    patch.setattr(Agent, "publish", publishing)
    patch.setattr(identity, "begin_rotation", beginning)
    patch.setattr(identity, "finish_rotation", finishing)


def test_what_cannot_be_rotated(run: Run, key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("key", "rotate", "--relay", "http://127.0.0.1:9").code == 3
    assert not Path(f"{key_file}.next").exists()
    lost = run("key", "rotate", "--key", str(key_file.parent / "lost"))
    assert lost.code == 6 and "gone for good" in lost.err
    assert "gone for good" in " ".join(run("key", "rotate", "--help").out.split())
    monkeypatch.setenv("ANPORIA_PRIVATE_KEY", SEED)
    refused = run("key", "rotate", "--json")
    assert refused.code == 6 and refused.json["error"]["code"] == "key_in_environment"
    assert run("key", "path").code == 6 and run("key", "lock").code == 6
    assert run("whoami", "--json").json["source"] == "ANPORIA_PRIVATE_KEY"
    assert run("key", "show").code == 0 and run("key", "export-public").code == 0


def test_a_key_names_one_successor(run: Run, key_file: Path) -> None:
    old = whoami(run)
    with Agent(key_file.read_text(), os.environ["ANPORIA_RELAY_URL"]) as agent:
        agent.publish(*rotation.announced("5a" * 32))
    refused = run("key", "rotate", "--json")
    assert refused.code == 6 and refused.json["error"]["code"] == "already_named"
    assert whoami(run) == old and not Path(f"{key_file}.next").exists()
    assert run("key", "rotate", "--again").code == 0


def test_what_names_nobody() -> None:
    kind, content, tags = rotation.announced("5a" * 32)
    event = {"kind": kind, "content": content, "tags": [list(tag) for tag in tags]}
    assert rotation.named(event, "successor") == "5a" * 32
    assert rotation.named(event, "predecessor") is None
    others: list[dict[str, Any]] = [
        {"kind": 1},
        {"tags": []},
        {"content": "["},
        {"content": "[]"},
        {"content": '{"successor": 5}'},
    ]
    for other in others:
        assert rotation.named({**event, **other}, "successor") is None
