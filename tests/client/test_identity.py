"""Who am I: one key whoever comes first, in the order of the seed, warned about where others reach it, never shown.

Rotation puts another in its place in steps of which none loses a key.
"""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import keyring
import pytest

from anporia_client import identity, keyfile
from anporia_client.errors import IdentityError, KeyLocked
from anporia_client.identity import begin_rotation, finish_rotation, load_or_create, public_id, resolve
from anporia_wire import InvalidKey, Keypair
from tests.client.test_keychain import Memory

SEED = "ab" * 32
OTHER = "cd" * 32
PASS = "correct horse"
AGENT, OTHER_AGENT = Keypair.from_hex(SEED).agent_id, Keypair.from_hex(OTHER).agent_id


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2 at its least, for cost is not the point here."""
    monkeypatch.setattr(keyfile, "_PASSES", 1)
    monkeypatch.setattr(keyfile, "_MEM_KIB", 8)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def written(path: Path, text: str = SEED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


# load_or_create


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
    monkeypatch.setattr("anporia_client.keyfile._HALF_WRITTEN_S", 0.05)
    file = tmp_path / "key"
    file.touch()
    with pytest.raises(InvalidKey, match="empty"):
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
    file = written(tmp_path / "key")
    file.chmod(0o644)
    for _ in range(2):  # at each start
        caplog.clear()
        load_or_create(file)
        said = f"key file {file} has mode 0644; others can read it. Run: chmod 600 {file}"
        assert [(r.levelno, r.getMessage()) for r in caplog.records] == [(logging.WARNING, said)]
    file.chmod(0o600)
    caplog.clear()
    load_or_create(file)
    assert caplog.records == []


def test_a_disk_without_links_works_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    file = tmp_path / "key"
    assert load_or_create(file).agent_id == load_or_create(file).agent_id
    assert mode(file) == 0o600 and os.listdir(tmp_path) == ["key"]


def test_the_winner_of_a_race_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "key")
    monkeypatch.setattr(os.path, "lexists", lambda _: False)  # as it was a moment ago
    assert load_or_create(file).seed.hex() == SEED


# resolve


def test_the_order_is_that_of_the_seed(tmp_path: Path) -> None:
    file = written(tmp_path / "mine", OTHER)
    default = written(tmp_path / ".anporia/key.priv", "ef" * 32)
    variables = {"ANPORIA_PRIVATE_KEY": f" {SEED.upper()}\n", "ANPORIA_KEY_FILE": str(file)}
    first = resolve(variables, home=tmp_path)
    assert (first.keypair.seed.hex(), first.agent_id) == (SEED, AGENT)
    assert (first.source, first.path, first.created) == ("ANPORIA_PRIVATE_KEY", None, False)
    second = resolve({**variables, "ANPORIA_PRIVATE_KEY": ""}, home=tmp_path)
    assert (second.keypair.seed.hex(), second.source, second.path) == (OTHER, "ANPORIA_KEY_FILE", file)
    third = resolve(dict.fromkeys(variables, ""), home=tmp_path)
    assert (third.source, third.path, third.created) == ("~/.anporia/key.priv", default, False)
    assert third.keypair.seed.hex() == "ef" * 32


def test_the_process_and_its_home_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    made = resolve()
    home = Path(os.environ["HOME"])
    assert (made.path, made.created) == (home / ".anporia/key.priv", True)
    again = resolve()
    assert (again.agent_id, again.created) == (made.agent_id, False)
    monkeypatch.setenv("ANPORIA_KEY_FILE", "~/other/key")
    assert resolve().path == home / "other/key"
    monkeypatch.setenv("ANPORIA_PRIVATE_KEY", SEED)
    assert resolve().agent_id == AGENT


@pytest.mark.parametrize("name", ["~/other/key", "~\\other/key"])
def test_home_may_be_given(tmp_path: Path, name: str) -> None:
    found = resolve({"ANPORIA_KEY_FILE": name}, home=tmp_path)
    assert found.path == tmp_path / "other/key" and found.path.exists()


def test_without_a_home_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(IdentityError, match=r"home directory. Set ANPORIA_KEY_FILE or ANPORIA_PRIVATE_KEY$"):
        resolve({})


def test_creating_can_be_left_out(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="there is no key file"):
        resolve({}, home=tmp_path, create=False)
    assert os.listdir(tmp_path) == []
    made = resolve({}, home=tmp_path)
    assert resolve({}, home=tmp_path, create=False).agent_id == made.agent_id


def test_a_new_identity_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = resolve({}, home=tmp_path)
    resolve({}, home=tmp_path)
    said = f"new identity created: {made.agent_id} (key in {tmp_path / '.anporia/key.priv'})"
    assert [record.getMessage() for record in caplog.records] == [said]
    assert mode(tmp_path / ".anporia") == 0o700


def test_a_passphrase_seals_what_is_made_and_opens_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    variables = {"ANPORIA_KEY_PASSPHRASE": PASS}
    made = resolve(variables, home=tmp_path)
    assert made.path and keyfile.header(made.path).form == "sealed"
    assert resolve(variables, home=tmp_path).keypair.seed == made.keypair.seed
    assert resolve({}, home=tmp_path, passphrase=PASS).keypair.seed == made.keypair.seed
    assert load_or_create(made.path, passphrase=PASS).seed == made.keypair.seed
    assert public_id(made.path) == made.agent_id
    for wrong in ({}, {"ANPORIA_KEY_PASSPHRASE": ""}, {"ANPORIA_KEY_PASSPHRASE": PASS + "x"}):
        with pytest.raises(KeyLocked) as caught:
            resolve(wrong, home=tmp_path)
        assert PASS not in "".join(traceback.format_exception(caught.value, limit=0))
    assert PASS not in caplog.text


def test_a_plain_file_needs_no_passphrase(tmp_path: Path) -> None:
    file = written(tmp_path / "key")
    found = resolve({"ANPORIA_KEY_FILE": str(file), "ANPORIA_KEY_PASSPHRASE": PASS})
    assert found.keypair.seed.hex() == SEED and file.read_text() == SEED
    assert public_id(file) == AGENT


@pytest.mark.parametrize(
    ("value", "got"),
    [("secret", "6"), (" ", "0"), (SEED + "00", "66"), ("z" * 64, "64, some of them not hex"), ("ü" * 3, "3")],
)
def test_a_variable_that_is_no_key_is_not_repeated(value: str, got: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InvalidKey) as caught:
        resolve({"ANPORIA_PRIVATE_KEY": value})
    assert str(caught.value) == f"ANPORIA_PRIVATE_KEY must be 64 hex characters (got {got})."
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    if value.strip():
        assert value not in "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caplog.text


def test_no_text_shows_a_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    made = resolve({}, home=tmp_path)
    assert made.path
    made.path.chmod(0o644)
    for found in (made, resolve({"ANPORIA_PRIVATE_KEY": SEED}), resolve({}, home=tmp_path)):
        assert found.agent_id in repr(found)
        assert found.keypair.seed.hex() not in repr(found) + str(found) + caplog.text


def test_a_program_without_logging_shows_it_on_stderr(tmp_path: Path) -> None:
    program = "import anporia_client.identity as i; print(i.resolve().agent_id)"
    env = {**os.environ, "HOME": str(tmp_path)}
    for round_ in range(2):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, env=env)
        agent_id = public_id(tmp_path / ".anporia/key.priv")
        said = f"new identity created: {agent_id} (key in {tmp_path}/.anporia/key.priv)\n"
        assert (done.stdout, done.stderr) == (agent_id + "\n", "" if round_ else said)


RACER = """
import os, sys
{before}
from anporia_client.identity import resolve
print("here", flush=True)
sys.stdin.readline()
found = resolve(home=sys.argv[1])
print(found.agent_id, int(found.created))
"""


@pytest.mark.parametrize(("before", "many"), [("", 20), ("del os.link", 8)], ids=["links", "no links"])
def test_processes_at_once_end_with_one_key(tmp_path: Path, before: str, many: int, counts: Callable[..., int]) -> None:
    for round_ in range(counts(1, soak=50)):
        home = tmp_path / f"{round_}"
        command = [sys.executable, "-c", RACER.format(before=before), str(home)]
        pipe = subprocess.PIPE
        racers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(many)]
        for racer in racers:
            assert racer.stdout and racer.stdout.readline() == "here\n"
        for racer in racers:  # all are past their imports: now
            assert racer.stdin
            racer.stdin.write("\n")
            racer.stdin.flush()
        said = [racer.communicate(timeout=60) for racer in racers]
        file = home / ".anporia/key.priv"
        agent_id = public_id(file)
        assert [racer.returncode for racer in racers] == [0] * many
        assert sorted(out for out, _ in said) == [f"{agent_id} 0\n"] * (many - 1) + [f"{agent_id} 1\n"]
        assert sorted(err for _, err in said) == [""] * (many - 1) + [
            f"new identity created: {agent_id} (key in {file})\n"
        ]
        assert os.listdir(file.parent) == ["key.priv"] and mode(file) == 0o600


def test_systems_without_posix_have_keys_too(tmp_path: Path) -> None:
    program = """
import os, sys
sys.modules.update(fcntl=None, uvloop=None, pwd=None, grp=None, keyring=None)
for name in ("link", "geteuid", "getegid", "O_NOFOLLOW", "fchmod", "chown"):
    delattr(os, name)
import anporia_client.keyfile as keyfile
keyfile._POSIX = False
from anporia_client.identity import begin_rotation, finish_rotation, load_or_create, resolve
made = resolve(home=sys.argv[1])
assert resolve(home=sys.argv[1]).agent_id == made.agent_id
keyfile.replace_sealed(made.path, new_passphrase="x")
following = begin_rotation(made.path, passphrase="x")
finish_rotation(made.path)
assert load_or_create(made.path, passphrase="x").agent_id == following.agent_id
print(following.agent_id)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.stdout == public_id(tmp_path / ".anporia/key.priv") + "\n", done.stderr
    assert done.stderr.startswith("new identity created: ") and done.stderr.count("\n") == 1


# rotation


def test_rotation_puts_the_next_key_in_place_and_keeps_the_old(tmp_path: Path) -> None:
    file = written(tmp_path / "key")
    following = begin_rotation(file)
    assert file.read_text() == SEED and mode(tmp_path / "key.next") == 0o600
    assert begin_rotation(file).seed == following.seed != bytes.fromhex(SEED)
    assert finish_rotation(file) == tmp_path / f"key.{AGENT[:8]}.retired"
    assert load_or_create(file).seed == following.seed
    assert (tmp_path / f"key.{AGENT[:8]}.retired").read_text() == SEED
    assert mode(file) == mode(tmp_path / f"key.{AGENT[:8]}.retired") == 0o600
    assert sorted(os.listdir(tmp_path)) == ["key", f"key.{AGENT[:8]}.retired"]
    assert finish_rotation(file) is None
    assert load_or_create(file).seed == following.seed


def test_the_next_key_is_kept_as_the_present_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory()
    monkeypatch.setattr(keyring.core, "_keyring_backend", memory)
    sealed, kept = tmp_path / "sealed", tmp_path / "kept"
    keyfile.create(sealed, passphrase=PASS)
    keyfile.create(kept, in_keychain=True)
    for file, passphrase in ((sealed, PASS), (kept, None)):
        form = keyfile.header(file).form
        following = begin_rotation(file, passphrase=passphrase)
        assert begin_rotation(file, passphrase=passphrase).seed == following.seed
        retired = finish_rotation(file)
        assert retired and keyfile.header(file).form == keyfile.header(retired).form == form
        assert keyfile.read(file, passphrase).seed == following.seed
        assert keyfile.read(retired, passphrase).agent_id[:8] in retired.name


def test_a_wrong_passphrase_begins_nothing(tmp_path: Path) -> None:
    file = tmp_path / "key"
    keyfile.create(file, passphrase=PASS)
    for wrong in (None, "", PASS + "x"):
        with pytest.raises(KeyLocked):
            begin_rotation(file, passphrase=wrong)
    with pytest.raises(IdentityError):
        begin_rotation(tmp_path / "none")
    assert os.listdir(tmp_path) == ["key"] and finish_rotation(tmp_path / "none") is None


def test_nothing_in_the_way_is_overwritten(tmp_path: Path) -> None:
    file = written(tmp_path / "key")
    retired = written(tmp_path / f"key.{AGENT[:8]}.retired", OTHER)
    following = begin_rotation(file)
    with pytest.raises(IdentityError, match="holds another key"):
        finish_rotation(file)
    assert (file.read_text(), retired.read_text()) == (SEED, OTHER)
    assert begin_rotation(file).seed == following.seed
    retired.unlink()
    retired.symlink_to(tmp_path / "nowhere")
    with pytest.raises(IdentityError):
        finish_rotation(file)
    assert file.read_text() == SEED and not (tmp_path / "nowhere").exists()
    retired.unlink()
    written(tmp_path / "key.next", "no key")
    with pytest.raises(InvalidKey):
        finish_rotation(file)
    written(tmp_path / "key.next", SEED)
    with pytest.raises(IdentityError, match="the present key itself"):
        begin_rotation(file)
    assert finish_rotation(file) is None
    assert file.read_text() == SEED


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = written(tmp_path / "real/key"), tmp_path / "key"
    link.symlink_to(real)
    following = begin_rotation(link)
    assert finish_rotation(link) == real.with_name(f"key.{AGENT[:8]}.retired")
    assert link.is_symlink() and load_or_create(real).seed == following.seed


class KilledError(BaseException):
    """The program ends here."""


STEPS = ["_keep", "os.replace", "os.link", "os.fsync", "keyfile.sync_folder", "os.unlink"]


@pytest.mark.parametrize("linked", [True, False], ids=["links", "no links"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_rotation_killed_at_any_step_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, after: bool, linked: bool
) -> None:
    file = written(tmp_path / "key")
    if not linked:
        monkeypatch.delattr(os, "link")
        if step == "os.link":
            return
    following = begin_rotation(file)
    where = f"anporia_client.identity.{step}"
    target = identity if "." not in step else getattr(identity, step.partition(".")[0])
    before = getattr(target, step.rpartition(".")[2])

    def killing(*arguments: object) -> object:
        if after:
            before(*arguments)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(where, killing)
        with pytest.raises(KilledError):
            finish_rotation(file)
    assert file.read_text() in (SEED, following.seed.hex())
    finish_rotation(file)
    assert load_or_create(file).seed == following.seed
    assert (tmp_path / f"key.{AGENT[:8]}.retired").read_text() == SEED
    assert not (tmp_path / "key.next").exists()


def test_a_file_changed_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "key")
    following = begin_rotation(file)
    before = identity._keep

    def keeping(retired: Path, data: bytes) -> None:
        before(retired, data)
        written(file, OTHER)

    with monkeypatch.context() as patch:
        patch.setattr(identity, "_keep", keeping)
        with pytest.raises(IdentityError, match="another program"):
            finish_rotation(file)
    assert file.read_text() == OTHER
    finish_rotation(file)
    kept = [public_id(tmp_path / f"key.{agent[:8]}.retired") for agent in (AGENT, OTHER_AGENT)]
    assert kept == [AGENT, OTHER_AGENT] and load_or_create(file).seed == following.seed


@pytest.mark.parametrize("half", ["", SEED[:10]])
def test_half_a_retired_key_is_written_again(tmp_path: Path, half: str) -> None:
    file = written(tmp_path / "key")
    retired = written(tmp_path / f"key.{AGENT[:8]}.retired", half)
    begin_rotation(file)
    assert finish_rotation(file) == retired
    assert retired.read_text() == SEED


def test_a_full_disk_is_an_error_and_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "key")
    following = begin_rotation(file)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(IdentityError, match="No space left"):
                finish_rotation(file)
        assert file.read_text() == SEED
        (tmp_path / f"key.{AGENT[:8]}.retired").unlink(missing_ok=True)  # for then the next one is met
    finish_rotation(file)
    assert load_or_create(file).seed == following.seed


TURNING = """
import sys
from anporia_client.identity import begin_rotation, finish_rotation
print("here", flush=True)
sys.stdin.readline()
begin_rotation(sys.argv[1])
finish_rotation(sys.argv[1])
"""


def test_processes_that_rotate_at_once_lose_no_key(tmp_path: Path) -> None:
    file = written(tmp_path / "key")
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", TURNING, str(file)]
    turning = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(4)]
    for process in turning:
        assert process.stdout and process.stdout.readline() == "here\n"
    for process in turning:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    for process in turning:
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0 or "IdentityError" in said, said
    # each name tells the truth, and the first key is still there
    retired = {path.name: public_id(path) for path in tmp_path.glob("*.retired")}
    assert {f"key.{agent_id[:8]}.retired" for agent_id in retired.values()} == set(retired)
    assert AGENT in retired.values() and public_id(file) not in retired.values()
