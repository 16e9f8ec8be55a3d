"""`install`: shown first, done once, and nothing of others touched."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from anporia_mcp_server.commands.clients import Machine
from anporia_mcp_server.settings import auto_profile_wanted
from tests.client.cli.conftest import Ran
from tests.mcp_server.commands.conftest import Run

RELAY = "http://127.0.0.1:8080"
PROGRAM = str(Path(sys.executable).parent / "anporia-mcp-server")
posix = pytest.mark.skipif(sys.platform == "win32", reason="modes, links and scripts of POSIX")


def test_it_is_shown_and_needs_a_yes(run: Run, home: Path) -> None:
    shown = run("install", "cursor", "--relay", RELAY)
    assert shown.code == 2 and "--yes" in shown.err and not (home / ".cursor").exists()
    assert f'+   "command": "{PROGRAM}"' in shown.out and str(home / ".cursor" / "mcp.json") in shown.out
    assert "anporia-mcp login --relay" in shown.out
    dry = run("install", "cursor", "--relay", RELAY, "--dry-run")
    assert dry.code == 0 and "--dry-run" in dry.out and not (home / ".cursor").exists()
    said = run("install", "cursor", "--json").json
    assert said["error"]["code"] == "not_confirmed" and not said["applied"] and said["action"] == "add"


def test_asked_on_a_terminal(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("anporia_mcp_server.commands.install"), "on_terminal", lambda: True)
    no = run("install", "cursor", stdin="n\n")
    assert no.code == 1 and no.err.endswith("anporia-mcp: nothing was changed\n") and not (home / ".cursor").exists()
    assert run("install", "cursor").code == 130  # as with Ctrl-C
    assert run("install", "cursor", stdin="y\n").code == 0
    assert json.loads((home / ".cursor" / "mcp.json").read_text())["mcpServers"]["anporia"]["command"] == PROGRAM


def test_twice_is_once_and_remove_gives_the_file_back(run: Run, folder: Path) -> None:
    file = folder / ".mcp.json"
    text = '{\n\t"mcpServers": {\n\t\t"x": {"command": "y", "args": [1,2]}\n\t}\n}'
    file.write_text(text)
    install = ("install", "claude-code", "--scope", "project", "--yes", "--json")
    first = run(*install, "--relay", RELAY).json
    assert first["applied"] and first["action"] == "add" and first["backup"] is None
    assert json.loads(file.read_text())["mcpServers"]["anporia"] == {
        "type": "stdio",
        "command": PROGRAM,
        "args": [],
        "env": {"ANPORIA_RELAY_URL": RELAY, "ANPORIA_RELAY_PASSWORD": "${ANPORIA_RELAY_PASSWORD:-}"},
    }
    again = run(*install, "--relay", RELAY).json
    assert again["action"] == "none" and not again["applied"]
    changed = run(*install, "--read-only", "--tools", "core,tasks").json  # the relay of before stays
    assert changed["action"] == "replace" and changed["entry"]["env"]["ANPORIA_RELAY_URL"] == RELAY
    assert changed["entry"]["args"] == ["--read-only", "--tools", "core,tasks"]
    assert run(*install, "--remove").json["action"] == "remove" and file.read_text() == text
    assert run(*install, "--remove").json["action"] == "none"
    assert list(folder.iterdir()) == [file]  # what lies in a project is committed


def test_the_first_state_is_kept_and_that_is_said_once(run: Run, home: Path) -> None:
    file = home / ".cursor" / "mcp.json"
    file.parent.mkdir()
    file.write_text('{"mcpServers": {}}')
    backup = file.with_name("mcp.json.anporia-backup")
    first = run("install", "cursor", "--yes")
    assert first.code == 0 and str(backup) in first.out and backup.read_text() == '{"mcpServers": {}}'
    for more in (["--read-only"], ["--remove"]):
        said = run("install", "cursor", "--yes", *more)
        assert said.code == 0 and "backup" not in said.out and backup.read_text() == '{"mcpServers": {}}'


def test_that_the_public_relay_is_public_is_said_before_asking(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for args in ([], ["--relay", "https://anporia.com/api/"]):
        said = run("install", "cursor", "--dry-run", *args).out
        assert "https://anporia.com/api" in said and "public for good" in said and "first profile" in said
    assert "first profile" not in run("install", "cursor", "--dry-run", "--read-only").out
    (home / ".cursor").mkdir()
    for value, wanted in (("0", False), ("no", False), ("1", True)):
        env = {"ANPORIA_AUTO_PROFILE": value}
        old = {"command": PROGRAM, "env": env}
        (home / ".cursor" / "mcp.json").write_text(json.dumps({"mcpServers": {"anporia": old}}))
        assert ("first profile" in run("install", "cursor", "--dry-run").out) is wanted
        assert auto_profile_wanted(env) is wanted
    monkeypatch.setenv("ANPORIA_RELAY_URL", RELAY)
    assert "for good" not in run("install", "cursor", "--yes").out
    monkeypatch.delenv("ANPORIA_RELAY_URL")
    assert "for good" not in run("install", "cursor", "--read-only", "--dry-run").out  # the entry of before names one


def test_a_relay_that_is_no_address_is_not_written(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for given, advice in (
        ("127.0.0.1:8080", "Did you mean http://127.0.0.1:8080 ?"),
        ("", "such as"),
        ("x", "such as"),
    ):
        said = run("install", "cursor", "--yes", "--relay", given)
        assert said.code == 2 and not said.out and said.err.count("\n") == 1
        assert said.err.startswith("anporia-mcp: --relay ") and advice in said.err
    monkeypatch.setenv("ANPORIA_RELAY_URL", "127.0.0.1:8080")
    said = run("install", "cursor", "--yes")
    assert said.code == 2 and said.err.startswith("anporia-mcp: ANPORIA_RELAY_URL has no scheme")
    assert not (home / ".cursor").exists()
    monkeypatch.delenv("ANPORIA_RELAY_URL")
    (home / ".cursor").mkdir()
    old = {"command": PROGRAM, "env": {"ANPORIA_RELAY_URL": "127.0.0.1:8080"}}
    (home / ".cursor" / "mcp.json").write_text(json.dumps({"mcpServers": {"anporia": old}}))
    said = run("install", "cursor", "--yes", "--read-only")
    assert said.code == 2 and "--relay replaces" in said.err
    assert run("install", "cursor", "--yes", "--relay", RELAY).code == 0


def test_without_keyring_the_variables_are_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anporia_client.keychain.available", lambda: False)
    for client in ("cursor", "codex"):
        said = run("install", client, "--dry-run", "--relay", RELAY).out
        assert "ANPORIA_RELAY_PASSWORD_FILE" in said and "anporia-mcp login" not in said
    project = run("install", "claude-code", "--scope", "project", "--dry-run").out
    assert "ANPORIA_RELAY_PASSWORD where claude" in project and "anporia-mcp login" not in project


def test_what_the_server_shall_show_and_ask_stands_in_its_arguments(run: Run) -> None:
    some = ["--trusted-only", "--min-trust", "2", "--allow", "ab" * 32, "--allow", "cd" * 32, "--confirm", "writes"]
    assert run("install", "cursor", "--yes", "--json", *some).json["entry"]["args"] == some
    for wrong in (["--min-trust", "much"], ["--allow", "ab"], ["--confirm", "all"], ["--tools", "nonsense"]):
        said = run("install", "cursor", "--yes", *wrong)
        assert said.code == 2 and said.err.count("\n") == 1
        assert said.err.startswith("anporia-mcp: ") and (wrong[0] in said.err or wrong[1] in said.err)


def test_this_program_is_named(run: Run) -> None:
    assert run("--relay", RELAY, "install", "cursor", "--dry-run").code == 0
    assert run("install", "--nonsense").err.startswith("anporia-mcp: No such option")
    assert run("install", "--nonsense").err.endswith("See anporia-mcp install --help\n")
    assert run("install", "--help").out.startswith("Usage: anporia-mcp install ")


@posix
def test_help_bears_the_name_it_was_called_by() -> None:
    for name in ("anporia-mcp", "anporia-mcp-server"):
        done = subprocess.run(
            [str(Path(PROGRAM).with_name(name)), "--help"], capture_output=True, text=True, timeout=60
        )
        assert done.stdout.startswith(f"Usage: {name} [OPTIONS]")
    command = [PROGRAM, "--relay", RELAY, "install", "cursor", "--dry-run"]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).returncode == 0


def test_nothing_is_removed_where_no_client_is_named(run: Run) -> None:
    assert "No client" in run("install", "--remove").err
    assert run("install", "vscode", "--scope", "project", "--name", "mine", "--yes").code == 0
    said = run("install", "--remove", "--yes")
    assert said.code == 2 and not said.out and "vscode --scope project --name mine" in said.err
    assert run("install", "vscode", "--scope", "project", "--name", "mine", "--yes", "--json").json["action"] == "none"


def test_vscode_asks_for_the_password_of_a_relay_elsewhere(run: Run, folder: Path, home: Path) -> None:
    assert run("install", "vscode", "--scope", "project", "--yes", "--relay", RELAY).code == 0
    assert "inputs" not in json.loads((folder / ".vscode" / "mcp.json").read_text())
    assert run("install", "vscode", "--yes", "--relay", "https://relay.example").code == 0
    [made] = home.rglob("mcp.json")
    assert json.loads(made.read_text())["inputs"][0]["password"] is True


def test_codex(run: Run, home: Path) -> None:
    (home / ".codex").mkdir()
    (home / ".codex" / "config.toml").write_text('# mine\nmodel = "x"\n')
    shown = run("install", "codex", "--yes", "--relay", RELAY)
    assert shown.code == 0 and f'  + env = {{ ANPORIA_RELAY_URL = "{RELAY}" }}\n' in shown.out
    assert "  + [mcp_servers.anporia]\n" in shown.out
    assert (home / ".codex" / "config.toml").read_text() == (
        '# mine\nmodel = "x"\n\n[mcp_servers.anporia]\n'
        f'command = "{PROGRAM}"\nargs = []\nenv = {{ ANPORIA_RELAY_URL = "{RELAY}" }}\n'
    )


def test_a_file_with_comments_is_left_alone(run: Run, folder: Path) -> None:
    file = folder / ".vscode" / "mcp.json"
    file.parent.mkdir()
    file.write_text('{\n  // mine\n  "servers": {},\n}\n')
    said = run("install", "vscode", "--scope", "project", "--yes")
    assert said.code == 1 and str(file) in said.err and file.read_text().startswith("{\n  // mine")
    assert json.loads(said.out)["servers"]["anporia"]["command"] == PROGRAM
    assert run("install", "vscode", "--scope", "project", "--yes", "--json").json["error"]["code"] == "not_plain"
    assert not file.with_name("mcp.json.anporia-backup").exists()


@pytest.mark.parametrize("inputs", ["{}", '{"a": 1}', "true", "null"])
def test_inputs_that_are_no_list_are_left_alone(inputs: str, run: Run, folder: Path) -> None:
    file = folder / ".vscode" / "mcp.json"
    file.parent.mkdir()
    text = f'{{"inputs": {inputs}}}'
    file.write_text(text)
    said = run("install", "vscode", "--scope", "project", "--yes")
    assert said.code == 1 and "no list" in said.err and "stands above" in said.err and file.read_text() == text
    assert json.loads(said.out)["inputs"][0]["id"] == "anporia-relay-password"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ({"command": "their\x1b[2Jserver"}, "their\\x1b["),
        ({"url": "http://x"}, "not one of ours"),
        ({"command": "uvx", "args": ["anporia-mcp-server"]}, "package of others"),
        ("nonsense", "not one of ours"),
    ],
)
def test_an_entry_of_others_is_left_alone(run: Run, home: Path, entry: object, word: str) -> None:
    file = home / ".cursor" / "mcp.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"mcpServers": {"anporia": entry}}))
    for more in ([], ["--remove"]):
        said = run("install", "cursor", "--yes", *more)
        assert said.code == 1 and "--name" in said.err and word in said.err and "\x1b" not in said.err
    assert json.loads(file.read_text()) == {"mcpServers": {"anporia": entry}}
    assert run("install", "cursor", "--yes", "--name", "anporia-2").code == 0
    assert json.loads(file.read_text())["mcpServers"].keys() == {"anporia", "anporia-2"}


def test_a_password_that_stood_there_is_never_shown(run: Run, home: Path) -> None:
    file = home / ".cursor" / "mcp.json"
    file.parent.mkdir()
    entry = {"command": "anporia-mcp-server", "env": {"ANPORIA_RELAY_PASSWORD": "opensesame"}}
    file.write_text(json.dumps({"mcpServers": {"anporia": entry}}))
    for more in (["--dry-run"], ["--dry-run", "--json"], ["--yes"]):
        said = run("install", "cursor", *more)
        assert said.code == 0 and "opensesame" not in said.out + said.err
    assert "opensesame" in file.read_text()


@posix
def test_mode_and_link_stay(run: Run, home: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.json"
    real.write_bytes(b'\xef\xbb\xbf{"mcpServers": {}}\r\n')
    real.chmod(0o600)
    link = home / ".cursor" / "mcp.json"
    link.parent.mkdir()
    link.symlink_to(real)
    assert run("install", "cursor", "--yes").code == 0
    assert link.is_symlink() and real.stat().st_mode & 0o777 == 0o600
    assert real.read_bytes().startswith(b"\xef\xbb\xbf{") and b"anporia-mcp-server" in real.read_bytes()
    assert (link.parent / "mcp.json.anporia-backup").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dotfiles.json", "home", "project"]


@posix
def test_no_copy_can_be_read_by_others_even_for_a_moment(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = home / ".cursor" / "mcp.json"
    file.parent.mkdir()
    file.write_text('{"mcpServers": {}}')
    file.chmod(0o600)
    modes: list[int] = []
    really = os.open

    def opened(path: str, flags: int, mode: int = 0o777, **more: int | None) -> int:
        made = really(path, flags, mode, **more)
        if flags & os.O_CREAT and Path(path).parent == file.parent:
            modes.append(os.fstat(made).st_mode & 0o777)
        return made

    monkeypatch.setattr("os.open", opened)
    before = os.umask(0)
    try:
        assert run("install", "cursor", "--yes").code == 0
    finally:
        os.umask(before)
    assert modes == [0o600, 0o600]  # the backup and the file itself
    assert {one.stat().st_mode & 0o777 for one in file.parent.iterdir()} == {0o600}


@posix
def test_a_folder_that_takes_no_file(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr("os.fsync", refused)
    said = run("install", "cursor", "--yes")
    assert said.code == 1 and "Permission denied" in said.err and list((home / ".cursor").iterdir()) == []


def test_a_file_that_changed_meanwhile(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = home / ".cursor" / "mcp.json"
    file.parent.mkdir()
    module = importlib.import_module("anporia_mcp_server.commands.install")

    def meanwhile() -> bool:
        file.write_text('{"mcpServers": {"new": {}}}')
        return True

    monkeypatch.setattr(module, "on_terminal", meanwhile)
    said = run("install", "cursor", stdin="y\n")
    assert said.code == 1 and "just now" in said.err and json.loads(file.read_text())["mcpServers"] == {"new": {}}


def test_wrong_use(run: Run, folder: Path) -> None:
    def failed(*args: str) -> str:
        said: Ran = run("install", *args)
        assert said.code in (1, 2) and not said.out
        return said.err

    assert "no projects" in failed("claude-desktop", "--scope", "project")
    assert "--name" in failed("cursor", "--name", "a b")
    assert "toolset" in failed("cursor", "--tools", "nonsense")
    assert "no program" in failed("cursor", "--command", str(folder / "none"))
    assert "known again" in failed("cursor", "--command", sys.executable)
    assert "opensesame" not in failed("cursor", "--relay", "https://me:opensesame@relay.example")
    assert "once" in failed("cursor", "--relay", RELAY, "--relay", "http://127.0.0.1:1")
    if sys.platform.startswith("linux"):
        assert "no Claude Desktop" in failed("claude-desktop")


def test_another_program_and_another_key(run: Run, home: Path, folder: Path) -> None:
    said = run("install", "cursor", "--yes", "--json", "--command", PROGRAM, "--key", "my.key").json
    assert said["entry"] == {
        "type": "stdio",
        "command": PROGRAM,
        "args": [],
        "env": {"ANPORIA_KEY_FILE": str(folder / "my.key")},
    }
    assert not (folder / "my.key").exists()


def test_claude_desktop_on_a_mac(run: Run, home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mac = Machine("darwin", home, folder, {})
    monkeypatch.setattr(Machine, "here", lambda: mac)
    assert run("install", "claude-desktop", "--yes", "--relay", RELAY).code == 0
    file = home / "Library" / "Application Support" / "Claude" / "claude_desktop_config.json"
    entry = {"command": PROGRAM, "args": [], "env": {"ANPORIA_RELAY_URL": RELAY}}
    assert json.loads(file.read_text()) == {"mcpServers": {"anporia": entry}}


def test_half_a_character_is_no_reason_to_end_badly(run: Run, home: Path) -> None:
    file = home / ".cursor" / "mcp.json"
    file.parent.mkdir()
    text = '{"mcpServers": {"anporia": {"command": "anporia-mcp", "note": "\\ud800"}}}'
    file.write_text(text)
    said = run("install", "cursor", "--yes")
    assert said.code == 1 and "mistake" not in said.err and file.read_text() == text
    assert run("install", "cursor", "--remove", "--dry-run").code == 0
    assert run("install", "cursor", "--remove", "--dry-run", "--json").code == 0


def test_without_a_client_they_are_listed(run: Run, home: Path) -> None:
    assert run("install", "cursor", "--yes").code == 0
    listed = {(one["client"], one["scope"]): one for one in run("install", "--json").json}
    assert listed["cursor", "user"]["servers"] == ["anporia"] and listed["codex", "user"]["servers"] == []
    shown = run("install")
    assert shown.code == 0 and "claude-code" in shown.out and "anporia-mcp install CLIENT" in shown.out


_CLAUDE = """#!/bin/sh
printf '%s\\n' "$*" >> "{log}"
case "$*" in *fails*) echo "no such luck" >&2; exit 3;; esac
"""


@posix
def test_claude_code_is_told_by_its_own_program(run: Run, home: Path, folder: Path) -> None:
    without = run("install", "claude-code", "--relay", RELAY, "--yes")
    line = f"claude mcp add anporia --scope user -e ANPORIA_RELAY_URL={RELAY} -- {PROGRAM}"
    assert without.code == 1 and line in without.out and "not on the PATH" in without.err
    claude, log = folder / "bin" / "claude", folder / "log"
    claude.parent.mkdir()
    claude.write_text(_CLAUDE.format(log=log))
    claude.chmod(0o755)
    assert run("install", "claude-code", "--relay", RELAY, "--yes").code == 0
    assert log.read_text() == f"{line.removeprefix('claude ')}\n" and not (home / ".claude.json").exists()
    entry = {"type": "stdio", "command": "/old/anporia-mcp", "env": {"ANPORIA_RELAY_PASSWORD": "opensesame"}}
    kept = json.dumps({"mcpServers": {"anporia": entry, "theirs": {"command": "x"}}, "numStartups": 3})
    (home / ".claude.json").write_text(kept)
    log.unlink()
    said = run("install", "claude-code", "--relay", RELAY, "--yes")
    assert said.code == 0 and "opensesame" not in said.out + log.read_text() and "left out" in said.out
    assert "anporia-mcp login" in said.out and "is lost" not in said.out
    assert log.read_text().splitlines() == ["mcp remove anporia --scope user", line.removeprefix("claude ")]
    assert (home / ".claude.json").read_text() == kept
    assert run("install", "claude-code", "--name", "theirs", "--yes").code == 1
    assert run("install", "claude-code", "--remove", "--yes").code == 0
    failed = run("install", "claude-code", "--name", "fails", "--yes", "--json")
    assert failed.code == 1 and "no such luck" in failed.json["error"]["message"]


_REMOVER = f"""#!{sys.executable}
import json, pathlib, sys
with open({{log!r}}, "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
file = pathlib.Path({{file!r}})
if sys.argv[2] == "add":
    sys.exit("no such luck")
held = json.loads(file.read_text())
del held["mcpServers"][sys.argv[3]]
file.write_text(json.dumps(held))
"""


def claude_with(home: Path, folder: Path, script: str, entry: dict[str, object]) -> Path:
    """Put a program `claude` on the path, and an entry into its file; gives the log of its calls."""
    claude, file, log = folder / "bin" / "claude", home / ".claude.json", folder / "log"
    claude.parent.mkdir()
    claude.write_text(script.format(log=str(log), file=str(file)))
    claude.chmod(0o755)
    file.write_text(json.dumps({"mcpServers": {"anporia": entry}, "numStartups": 3}))
    file.chmod(0o600)
    return log


@posix
@pytest.mark.parametrize("as_json", [False, True])
def test_an_entry_that_claude_removed_and_did_not_add_can_be_restored(
    as_json: bool, run: Run, home: Path, folder: Path
) -> None:
    env = {"ANPORIA_RELAY_URL": RELAY, "OPENAI_API_KEY": "sk-1", "HTTPS_PROXY": "http://me:hunter2@proxy"}
    entry = {"type": "stdio", "command": "/old/anporia-mcp", "args": ["--read-only"], "env": env, "timeout": 5}
    log = claude_with(home, folder, _REMOVER, entry)
    before = (home / ".claude.json").read_text()
    backup = home / ".claude.json.anporia-backup"
    backup.write_text("of an earlier change")
    said = run("install", "claude-code", "--yes", *(["--json"] if as_json else []))
    assert said.code == 1 and [line.split()[1] for line in log.read_text().splitlines()] == ["remove", "add"]
    assert "anporia" not in json.loads((home / ".claude.json").read_text())["mcpServers"]
    assert backup.read_text() == before and backup.stat().st_mode & 0o777 == 0o600
    assert "was removed" in said.err and "no such luck" in said.err and str(backup) in said.err
    assert "sk-1" not in said.out + said.err and "hunter2" not in said.out + said.err
    if as_json:
        assert said.json["error"]["code"] == "claude_failed" and not said.json["applied"]
        assert said.json["backup"] == str(backup) and said.json["removed"]["args"] == ["--read-only"]
        assert said.json["removed"]["timeout"] == 5
    else:
        assert "To have it back" in said.out and '"command": "/old/anporia-mcp"' in said.out
    # the backup outlives the next try, which finds no entry
    assert run("install", "claude-code", "--yes").code == 1 and backup.read_text() == before


@posix
def test_what_claudes_command_line_must_not_hold_is_left_out_and_named(run: Run, home: Path, folder: Path) -> None:
    env = {
        "ANPORIA_RELAY_URL": RELAY,
        "ANPORIA_KEY_FILE": "/k",
        "HTTPS_PROXY": "http://me:hunter2@proxy",
        "OPENAI_API_KEY": "sk-1",
        "PLAIN": "plain-value",
    }
    entry = {"type": "stdio", "command": "/old/anporia-mcp", "args": [], "env": env, "timeout": 5, "alwaysLoad": True}
    log = claude_with(home, folder, _CLAUDE, entry)
    said = run("install", "claude-code", "--yes")
    assert said.code == 0 and ".anporia-backup" in said.out and "leave that alone" not in said.out
    added = log.read_text().splitlines()[1]
    assert added == f"mcp add anporia --scope user -e ANPORIA_RELAY_URL={RELAY} -e ANPORIA_KEY_FILE=/k -- {PROGRAM}"
    assert "HTTPS_PROXY, OPENAI_API_KEY, PLAIN" in said.out and "is lost" in said.out
    assert "timeout, alwaysLoad" in said.out
    assert not any(value in said.out + said.err for value in ("hunter2", "sk-1", "plain-value"))
    reply = run("install", "claude-code", "--dry-run", "--json").json
    assert reply["entry"]["env"] == {"ANPORIA_RELAY_URL": RELAY, "ANPORIA_KEY_FILE": "/k"}
    assert "timeout" not in reply["entry"] and len(reply["notes"]) == 3


@posix
def test_a_relay_with_a_password_is_not_left_out_but_refused(run: Run, home: Path, folder: Path) -> None:
    entry: dict[str, object] = {"command": "anporia-mcp", "env": {"ANPORIA_RELAY_URL": "http://me:hunter2@${HOST}"}}
    log = claude_with(home, folder, _CLAUDE, entry)
    said = run("install", "claude-code", "--yes")
    assert said.code == 2 and "--relay replaces" in said.err and "hunter2" not in said.out + said.err
    assert not log.exists()
    assert run("install", "claude-code", "--yes", "--relay", RELAY).code == 0 and "hunter2" not in log.read_text()


def test_without_what_only_posix_has(home: Path, folder: Path) -> None:
    script = (
        "import sys\n"
        "for name in ('fcntl', 'pwd', 'grp', 'termios', 'resource'): sys.modules[name] = None\n"
        "from anporia_client.cli import run\n"
        "from anporia_mcp_server.commands import PROGRAM, program\n"
        "sys.exit(run(program, PROGRAM, sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", script, "install", "cursor", "--yes"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ}, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (home / ".cursor" / "mcp.json").exists()
