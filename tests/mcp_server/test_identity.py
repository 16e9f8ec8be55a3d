"""Which key counts, made once and kept from others; what cannot be used ends the start with one line."""

from __future__ import annotations

import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from anporia_client import Keypair, identity, keyfile
from anporia_mcp_server import cli
from anporia_mcp_server.settings import BadSetting
from tests.mcp_server.host import over_stdio
from tests.mcp_server.pipe import ended
from tests.relays import RunningRelay

_NOBODY = "http://127.0.0.1:9"
_MADE = re.compile(r"new identity created: ([0-9a-f]{64}) \(key in (.+)\)")


def a_key(file: Path, mode: int = 0o600) -> Keypair:
    keypair = Keypair.generate()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.write_text(keypair.seed.hex())
    file.chmod(mode)
    return keypair


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_the_variable_counts_before_the_file_it_names_and_that_before_the_default(
    open_relay: RunningRelay, tmp_path: Path
) -> None:
    """Each is taken away in turn; an empty variable counts as unset (settled 14)."""
    direct, named = Keypair.generate(), a_key(tmp_path / "elsewhere/agent.key")
    default = a_key(tmp_path / ".anporia/key.priv")
    all_of_them = {"ANPORIA_PRIVATE_KEY": direct.seed.hex(), "ANPORIA_KEY_FILE": str(tmp_path / "elsewhere/agent.key")}
    for env, expected in (
        (all_of_them, direct),
        (all_of_them | {"ANPORIA_PRIVATE_KEY": ""}, named),
    ):
        async with over_stdio(open_relay.url, tmp_path, env=env) as host:
            assert (await host.call("anporia_get_stats"))["your_agent_id"] == expected.agent_id
    assert (
        identity.resolve({"ANPORIA_PRIVATE_KEY": "", "ANPORIA_KEY_FILE": ""}, home=tmp_path).agent_id
        == default.agent_id
    )


def test_four_at_once_on_a_fresh_home_have_one_key_of_one_owner(tmp_path: Path) -> None:
    home = tmp_path / "not/there"  # as in a container
    with ThreadPoolExecutor(4) as at_once:
        ends = list(at_once.map(lambda _: ended(_NOBODY, home), range(4)))
    assert [code for code, _ in ends] == [0] * 4
    made = [found for _, said in ends if (found := _MADE.search(said))]
    assert len(made) == 1, ends
    folder = home / ".anporia"
    assert sorted(path.name for path in folder.iterdir()) == ["key.priv", "mcp"], "and nothing half made beside it"
    assert made[0][1] == keyfile.read(folder / "key.priv").agent_id
    assert made[0][2] == str(folder / "key.priv")
    assert (mode_of(folder), mode_of(folder / "key.priv"), mode_of(folder / "mcp")) == (0o700, 0o600, 0o700)
    assert {mode_of(file) for file in (folder / "mcp").iterdir()} == {0o600}


def test_the_folder_of_limits_is_the_owners_too_where_the_key_is_elsewhere(tmp_path: Path) -> None:
    code, said = ended(_NOBODY, tmp_path, env={"ANPORIA_PRIVATE_KEY": "ab" * 32})
    assert (code, said) == (0, "")
    assert (mode_of(tmp_path / ".anporia"), mode_of(tmp_path / ".anporia/mcp")) == (0o700, 0o700)


def test_a_key_file_that_others_can_read_is_warned_about_and_used(tmp_path: Path) -> None:
    file = tmp_path / ".anporia/key.priv"
    keypair = a_key(file, 0o644)
    code, said = ended(_NOBODY, tmp_path)
    assert code == 0
    assert f"WARNING: key file {file} has mode 0644; others can read it. Run: chmod 600 {file}" in said
    assert keypair.seed.hex() not in said and mode_of(file) == 0o644


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("abc123", "ANPORIA_PRIVATE_KEY must be 64 hex characters (got 6)."),
        ("ab" * 33, "ANPORIA_PRIVATE_KEY must be 64 hex characters (got 66)."),
    ],
)
def test_a_bad_key_in_the_variable_ends_the_start(tmp_path: Path, value: str, text: str) -> None:
    code, said = ended(_NOBODY, tmp_path, env={"ANPORIA_PRIVATE_KEY": value})
    assert code == 2
    assert text.rstrip(".") in said and said.count("\n") == 1
    assert value not in said and "Traceback" not in said
    assert not (tmp_path / ".anporia").exists()


def test_a_sealed_key_needs_its_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfile, "_PASSES", 1)
    monkeypatch.setattr(keyfile, "_MEM_KIB", 8)
    file = tmp_path / ".anporia/key.priv"
    keyfile.create(file, passphrase="correct horse")
    code, said = ended(_NOBODY, tmp_path)
    assert code == 2 and "ANPORIA_KEY_PASSPHRASE" in said and said.count("\n") == 1
    code, said = ended(_NOBODY, tmp_path, env={"ANPORIA_KEY_PASSPHRASE": "wrong pony"})
    assert code == 2 and "Traceback" not in said and "wrong pony" not in said and said.count("\n") == 1
    assert ended(_NOBODY, tmp_path, env={"ANPORIA_KEY_PASSPHRASE": "correct horse"}) == (0, "")


def test_a_key_file_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    file = tmp_path / "agent.key"
    file.write_text("secret text of something else")
    code, said = ended(_NOBODY, tmp_path, env={"ANPORIA_KEY_FILE": str(file)})
    assert code == 2 and said.count("\n") == 1 and "Traceback" not in said
    assert str(file) in said and "secret" not in said
    assert file.read_text() == "secret text of something else"


def test_no_key_is_made_for_a_start_that_fails(tmp_path: Path) -> None:
    code, said = ended(_NOBODY, tmp_path, "--tools", "cor")
    assert code == 2 and said.startswith('anporia-mcp: there is no toolset or tool "cor"') and said.count("\n") == 1
    assert not (tmp_path / ".anporia").exists()
    for args in (["--allow", "ab"], ["--tools", ","]):
        with pytest.raises(BadSetting):
            cli._settings(cli.command.make_context("x", args).params)


def test_a_file_of_limits_that_is_no_such_file_stops_nobody(tmp_path: Path) -> None:
    keypair = a_key(tmp_path / ".anporia/key.priv")
    (tmp_path / ".anporia/mcp").mkdir()
    (tmp_path / f".anporia/mcp/{keypair.agent_id}.db").write_bytes(b"not a database" * 100)
    code, said = ended(_NOBODY, tmp_path)
    assert code == 0 and "limits are kept in memory only, for this process" in said
