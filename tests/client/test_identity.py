"""The key file: one key whoever comes first, for its owner's eyes only, never replaced, never shown."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from anporia_client import IdentityError
from anporia_client.identity import load_or_create
from anporia_wire import InvalidKey

SEED = "ab" * 32


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_key_is_made_once_and_read_after(tmp_path: Path) -> None:
    file = tmp_path / "fresh/agent.key"
    old = os.umask(0)
    try:
        keypair = load_or_create(file)
    finally:
        os.umask(old)
    assert (mode(file), mode(file.parent)) == (0o600, 0o700)
    assert file.read_text() == keypair.seed.hex()
    assert load_or_create(str(file)).agent_id == keypair.agent_id
    assert os.listdir(file.parent) == ["agent.key"]


def test_the_home_folder_has_a_short_name() -> None:
    keypair = load_or_create("~/.anporia/key.priv")
    assert Path(os.environ["HOME"], ".anporia/key.priv").read_text() == keypair.seed.hex()


def test_files_of_published_clients_are_read(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(f"  {SEED.upper()}\r\n".encode())
    assert load_or_create(file).seed.hex() == SEED
    assert file.read_bytes() == f"  {SEED.upper()}\r\n".encode()


@pytest.mark.parametrize("content", ["not a key at all", SEED[:-1], SEED + "00", "g" * 64, "ü" * 32, "\0" * 64])
def test_what_is_no_key_is_neither_replaced_nor_shown(tmp_path: Path, content: str) -> None:
    file = tmp_path / "key"
    file.write_text(content)
    with pytest.raises(InvalidKey) as caught:
        load_or_create(file)
    assert str(file) in str(caught.value) and content not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    assert file.read_text() == content


def test_an_empty_file_is_given_a_moment_then_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anporia_client.identity._HALF_WRITTEN_S", 0.05)
    file = tmp_path / "key"
    file.touch()
    with pytest.raises(InvalidKey):
        load_or_create(file)


def test_what_cannot_be_read_or_made_has_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(SEED)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path, tmp_path / "file/key", tmp_path / "dangling"):
        with pytest.raises(IdentityError, match="key file"):
            load_or_create(path)
    with pytest.raises(IdentityError):
        load_or_create("~no-such-user-here/key")


def test_a_key_others_can_read_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "key"
    file.write_text(SEED)
    file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        load_or_create(file)
    assert "chmod 600" in caplog.text and SEED not in caplog.text


def no_link(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_a_disk_without_links_works_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_link)
    file = tmp_path / "key"
    assert load_or_create(file).agent_id == load_or_create(file).agent_id
    assert mode(file) == 0o600 and os.listdir(tmp_path) == ["key"]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def fsync(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", no_link)
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(IdentityError, match="No space left"):
        load_or_create(tmp_path / "key")
    assert os.listdir(tmp_path) == []


RACER = """
import os, sys, time
{before}
from anporia_client.identity import load_or_create
print("here", flush=True)
sys.stdin.readline()
print(load_or_create(sys.argv[1]).agent_id)
"""


@pytest.mark.parametrize("before", ["", "del os.link"], ids=["links", "no links"])
def test_processes_at_once_end_with_one_key(tmp_path: Path, before: str, counts: Callable[..., int]) -> None:
    for round_ in range(counts(2, soak=50)):
        file = tmp_path / f"{round_}/new/key"
        command = [sys.executable, "-c", RACER.format(before=before), str(file)]
        racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(8)]
        for racer in racers:
            assert racer.stdout and racer.stdout.readline() == "here\n"
        for racer in racers:  # all are past their imports: now
            assert racer.stdin
            racer.stdin.write("\n")
            racer.stdin.flush()
        found = {racer.communicate(timeout=30)[0] for racer in racers}
        assert [racer.returncode for racer in racers] == [0] * 8
        assert found == {load_or_create(file).agent_id + "\n"}
        assert os.listdir(file.parent) == ["key"] and mode(file) == 0o600


def test_systems_without_fcntl_have_keys_too(tmp_path: Path) -> None:
    program = """
import sys
sys.modules.update(fcntl=None, uvloop=None, pwd=None, grp=None)
import anporia_client
print(anporia_client.Agent.load_or_create(sys.argv[1]).agent_id)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "key")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.stderr, done.stdout) == ("", load_or_create(tmp_path / "key").agent_id + "\n")
