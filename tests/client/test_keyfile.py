"""The bytes of the key file: three forms, whole or not at all, no hostile file obeyed, no secret in any text."""

from __future__ import annotations

import os
import re
import stat
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import keyring
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nacl.pwhash import argon2id

from anporia_client import keyfile
from anporia_client.errors import IdentityError, KeychainError, KeyLocked
from anporia_client.keyfile import Header, KeyFileExists, create, header, problems, read, replace_sealed, seal, unseal
from anporia_wire import AnporiaError, InvalidKey, Keypair
from tests.client.test_keychain import Memory, Plain

SEED = "ab" * 32
KEYPAIR = Keypair.from_hex(SEED)
PASS = "correct horse"
OPS, MEM = keyfile._PASSES, keyfile._MEM_KIB


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2 at its least, for cost is not the point here."""
    monkeypatch.setattr(keyfile, "_PASSES", 1)
    monkeypatch.setattr(keyfile, "_MEM_KIB", 8)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    backend = Memory()
    monkeypatch.setattr(keyring.core, "_keyring_backend", backend)
    return backend


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def raises(call: Callable[[], object], error: type[AnporiaError], *says: str) -> str:
    """Hold an error to its type and its words, and to showing no secret anywhere."""
    with pytest.raises(AnporiaError) as caught:
        call()
    assert type(caught.value) is error, caught.value
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    for secret in (SEED, SEED[:16], PASS, PASS + "!"):
        assert secret not in shown, secret
    assert [word for word in says if word not in str(caught.value)] == [], caught.value
    return str(caught.value)


# forms


def test_a_plain_file_is_what_published_clients_write(tmp_path: Path) -> None:
    file = tmp_path / "new/key"
    old = os.umask(0)
    try:
        assert create(file, KEYPAIR).seed == KEYPAIR.seed
    finally:
        os.umask(old)
    assert (mode(file), mode(file.parent)) == (0o600, 0o700)
    assert file.read_bytes() == SEED.encode()
    assert read(str(file)).seed == KEYPAIR.seed
    assert header(file) == Header(KEYPAIR.agent_id, "plain")
    assert create("~/k").agent_id == read("~/k").agent_id != KEYPAIR.agent_id


def test_a_sealed_file_is_one_line_that_tells_whose_it_is(tmp_path: Path) -> None:
    file = tmp_path / "key"
    create(file, KEYPAIR, PASS)
    text = file.read_text()
    assert re.fullmatch(
        rf"anporia-key:v1:argon2id:{KEYPAIR.agent_id}:1:8:[0-9a-f]{{32}}:[0-9a-f]{{144}}\n", text, re.ASCII
    )
    assert header(file) == Header(KEYPAIR.agent_id, "sealed")
    assert mode(file) == 0o600 and SEED not in text
    assert read(file, PASS).seed == KEYPAIR.seed == unseal(text.encode(), PASS).seed
    assert seal(KEYPAIR, PASS) != seal(KEYPAIR, PASS)


def test_the_cost_is_that_of_rfc_9106(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfile, "_PASSES", OPS)
    monkeypatch.setattr(keyfile, "_MEM_KIB", MEM)
    line = seal(KEYPAIR, PASS)
    assert line.split(b":")[4:6] == [b"3", b"65536"]
    assert unseal(line, PASS).seed == KEYPAIR.seed


def test_a_line_of_this_version_is_read_for_ever() -> None:
    # made once, by this code: later ones must open it
    line = (
        "anporia-key:v1:argon2id:248acbdbaf9e050196de704bea2d68770e519150d103b587dae2d9cad53dd930"
        ":2:16:485a96425dba0189a9749739d2a0a4c6:b0ecea8c7e3d411071ad85af1d3b45dfdc6eec130d28effab6eaa92370f7"
        "4ba35b2b34c149d1c73b10a8f91efd4c84f25a40d91b71fe53ee02770845dfcaf2024b1eb0b99098af1e"
    )
    assert unseal(line.encode(), "pässwörd").seed == KEYPAIR.seed
    assert unseal(line.encode(), "pa\u0308sswo\u0308rd").seed == KEYPAIR.seed  # as macOS may hand it over


@pytest.mark.parametrize("passphrase", [None, "", PASS + "!", PASS + " ", "\udcff"])
def test_without_the_passphrase_it_stays_shut(tmp_path: Path, passphrase: str | None) -> None:
    file = tmp_path / "key"
    create(file, KEYPAIR, PASS)
    hint = "passphrase is wrong" if passphrase else "ANPORIA_KEY_PASSPHRASE"
    raises(lambda: read(file, passphrase), KeyLocked, str(file), hint)
    assert header(file).agent_id == KEYPAIR.agent_id


def test_any_passphrase_that_is_not_empty_will_do(tmp_path: Path) -> None:
    for number, passphrase in enumerate([" ", "日本", "\udcff", "\ud800", "x" * 10_000]):
        create(tmp_path / str(number), KEYPAIR, passphrase)
        assert read(tmp_path / str(number), passphrase).seed == KEYPAIR.seed
    raises(lambda: create(tmp_path / "none", KEYPAIR, ""), IdentityError, "empty")
    assert not (tmp_path / "none").exists()


def test_the_keychain_holds_the_seed_and_the_file_says_so(tmp_path: Path, memory: Memory) -> None:
    file = tmp_path / "key"
    create(file, KEYPAIR, in_keychain=True)
    assert file.read_text() == f"anporia-key:v1:keychain:{KEYPAIR.agent_id}\n"
    assert memory.held == {("anporia-key", KEYPAIR.agent_id): SEED}
    assert header(file) == Header(KEYPAIR.agent_id, "keychain")
    assert read(file).seed == KEYPAIR.seed
    memory.held["anporia-key", KEYPAIR.agent_id] = "cd" * 32
    raises(lambda: read(file), InvalidKey, "names another agent")
    memory.held["anporia-key", KEYPAIR.agent_id] = SEED + "ab"
    raises(lambda: read(file), InvalidKey, "is not a key")
    memory.held.clear()
    raises(lambda: read(file), IdentityError, "the keychain has no key", KEYPAIR.agent_id)


def test_a_keychain_that_does_not_hold_makes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring.core, "_keyring_backend", Plain())
    raises(lambda: create(tmp_path / "key", KEYPAIR, in_keychain=True), KeychainError)
    forgetful = Memory()
    monkeypatch.setattr(forgetful, "set_password", lambda *_: None)
    monkeypatch.setattr(keyring.core, "_keyring_backend", forgetful)
    raises(lambda: create(tmp_path / "key", KEYPAIR, in_keychain=True), IdentityError, "has no key")
    assert os.listdir(tmp_path) == []


# hostile files

ID = KEYPAIR.agent_id
SALT, BOX = "0" * 32, "0" * 144


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (b"\0" * 64, InvalidKey, "64 hex characters"),
        (b"\xff\xfe" + SEED.encode("utf-16-le"), InvalidKey, "64 hex characters"),
        (SEED.encode() + b"0", InvalidKey, "64 hex characters"),
        (SEED.encode() + b"\n" + SEED.encode(), InvalidKey, "64 hex characters"),
        (SEED.encode() + b" " * 5_000, InvalidKey, "larger than 4096"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\n", InvalidKey, "64 hex characters"),
        (b"anporia-key:", InvalidKey, "damaged"),
        (b"anporia-key:v1", InvalidKey, "damaged"),
        (b"anporia-key:v1:argon2id:", InvalidKey, "damaged"),
        (f"anporia-key:v1:keychain:{ID}:x".encode(), InvalidKey, "damaged"),
        (f"anporia-key:v1:keychain:{ID[1:]}".encode(), InvalidKey, "damaged"),
        (f"anporia-key:v1:argon2id:{ID}:0:8:{SALT}:{BOX}".encode(), InvalidKey, "damaged"),
        (f"anporia-key:v1:argon2id:{ID}:-1:8:{SALT}:{BOX}".encode(), InvalidKey, "damaged"),
        (f"anporia-key:v1:argon2id:{ID}:1:{'9' * 10}:{SALT}:{BOX}".encode(), InvalidKey, "damaged"),
        (f"anporia-key:v1:argon2id:{ID}:１:8:{SALT}:{BOX}".encode(), InvalidKey, "damaged"),
        (f"anporia-key:v1:argon2id:{ID}:1:8:{SALT}:{BOX}\n{SEED}".encode(), InvalidKey, "damaged"),
        # 100 GiB, a day's work, a little too much of both, too little to be argon2
        (f"anporia-key:v1:argon2id:{ID}:1:104857600:{SALT}:{BOX}".encode(), InvalidKey, "104857600 KiB"),
        (f"anporia-key:v1:argon2id:{ID}:99999999:65536:{SALT}:{BOX}".encode(), InvalidKey, "99999999 passes"),
        (f"anporia-key:v1:argon2id:{ID}:65:65536:{SALT}:{BOX}".encode(), InvalidKey, "65 passes"),
        (f"anporia-key:v1:argon2id:{ID}:1:7:{SALT}:{BOX}".encode(), InvalidKey, "7 KiB"),
        (f"anporia-key:v2:argon2id:{ID}:whatever".encode(), IdentityError, "newer Anporia"),
        (f"anporia-key:v10:sphincs:{ID}".encode(), IdentityError, "newer Anporia"),
        (f"anporia-key:v1:yubikey:{ID}".encode(), IdentityError, "newer Anporia"),
    ],
    ids=range(23),
)
def test_what_is_no_key_is_refused_unshown_and_untouched(
    tmp_path: Path, content: bytes, error: type[AnporiaError], says: str
) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    started = time.monotonic()
    said = raises(lambda: read(file, PASS), error, str(file), says)
    assert time.monotonic() - started < 5 and len(said) < 400
    raises(lambda: create(file, KEYPAIR), KeyFileExists, "not replaced")
    raises(lambda: replace_sealed(file, PASS, new_passphrase="x"), error)
    assert file.read_bytes() == content and os.listdir(tmp_path) == ["key"]


def test_huge_and_endless_files_are_not_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "key"
    with file.open("wb") as out:
        out.truncate(1 << 40)  # a hole: the disk holds nothing
    raises(lambda: read(file), InvalidKey, "larger")
    raises(lambda: read("/dev/zero"), InvalidKey, "larger")


@given(st.binary(max_size=500) | st.from_regex(r"\Aanporia-key:v[0-9:a-z]{0,300}\Z").map(str.encode))
@example(b"\xff" * 64)
def test_any_bytes_have_a_typed_answer(data: bytes) -> None:
    for call in (lambda: keyfile.header_of(data), lambda: unseal(data, PASS)):
        try:
            call()
        except (InvalidKey, IdentityError) as exc:
            assert exc.__cause__ is None and (exc.__context__ is None or exc.__suppress_context__)


@pytest.mark.parametrize("place", range(0, 330, 7))
def test_a_sealed_file_with_one_changed_character_gives_no_other_key(place: int) -> None:
    line = seal(KEYPAIR, PASS).decode().strip()
    place %= len(line)
    changed = line[:place] + ("1" if line[place] != "1" else "2") + line[place + 1 :]
    with pytest.raises((InvalidKey, KeyLocked, IdentityError)):
        unseal(changed.encode(), PASS)
    with pytest.raises((InvalidKey, KeyLocked)):
        unseal(line[:place].encode(), PASS)


def test_a_header_that_names_somebody_else_is_found_out() -> None:
    other = Keypair.generate()
    line = seal(KEYPAIR, PASS).decode().replace(KEYPAIR.agent_id, other.agent_id)
    raises(lambda: unseal(line.encode(), PASS), InvalidKey, "another agent")
    raises(lambda: unseal(SEED.encode(), PASS), InvalidKey, "not encrypted")


def test_memory_that_is_not_there_has_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> bytes:
        raise MemoryError

    line = seal(KEYPAIR, PASS)
    monkeypatch.setattr(argon2id, "kdf", full)
    raises(lambda: unseal(line, PASS), IdentityError, "8 KiB of memory")


# making: whole or not at all


def no_link(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


@pytest.fixture(params=["link", "no link", "no os.link"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way in which a disk or system may have hard links or not."""
    if request.param == "no link":
        monkeypatch.setattr(os, "link", no_link)
    elif request.param == "no os.link":  # and what else Windows has not
        monkeypatch.setattr(keyfile, "_POSIX", False)
        for name in ("link", "O_NOFOLLOW", "geteuid", "getegid"):
            monkeypatch.delattr(os, name)


@pytest.mark.usefixtures("links")
def test_a_key_is_made_and_never_replaced(tmp_path: Path) -> None:
    file = tmp_path / "key"
    create(file, KEYPAIR)
    raises(lambda: create(file), KeyFileExists, str(file))
    assert read(file).seed == KEYPAIR.seed and problems(file) == []
    assert mode(file) == 0o600 and os.listdir(tmp_path) == ["key"]
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    raises(lambda: create(tmp_path / "dangling"), KeyFileExists)
    assert not (tmp_path / "nowhere").exists()


class KilledError(BaseException):
    """Stands for whatever ends a program in the middle: Ctrl-C, a full disk."""


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("name", ["fsync", "link", "write", "unlink"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KilledError()], ids=["full", "killed"])
def test_a_failure_at_any_step_leaves_a_whole_key_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException
) -> None:
    for step in range(1, 5):
        file = tmp_path / f"{step}/key"
        calls = 0
        with monkeypatch.context() as patch:
            patched: object = os
            if name == "write":
                patched, before = keyfile, keyfile._write
                name_ = "_write"
            elif not hasattr(os, name):
                continue
            else:
                name_, before = name, getattr(os, name)

            def failing(*args: object, before: Callable[..., object] = before, step: int = step) -> object:
                nonlocal calls
                calls += 1
                if calls == step:
                    if name == "write":
                        os.close(args[0])  # type: ignore[arg-type]
                    raise error
                return before(*args)

            patch.setattr(patched, name_, failing)
            try:
                create(file, KEYPAIR, PASS)
            except (IdentityError, KilledError):
                pass
        if file.exists():
            assert read(file, PASS).seed == KEYPAIR.seed
        else:
            create(file, KEYPAIR, PASS)
        if name != "unlink":
            assert os.listdir(file.parent) == ["key"]


def test_where_no_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(SEED)
    for path in (tmp_path / "file/key", "/proc/none/key", tmp_path / ("x" * 300), "nul\0"):
        raises(lambda path=path: create(path), IdentityError, "key file")  # type: ignore[misc]
        raises(lambda path=path: read(path), IdentityError, "key file")  # type: ignore[misc]
        assert problems(path) == []
    raises(lambda: read(tmp_path), IdentityError, "Is a directory")
    raises(lambda: read("~nobody-of-this-name/key"), IdentityError)


# another form, in one step


def test_locking_and_unlocking_keeps_the_key(tmp_path: Path, memory: Memory) -> None:
    file = tmp_path / "key"
    create(file, KEYPAIR)
    steps: list[tuple[str | None, str | None, bool, str]] = [
        (None, PASS, False, "sealed"),
        (PASS, PASS + "!", False, "sealed"),
        (PASS + "!", None, False, "plain"),
        (None, None, True, "keychain"),
        (None, PASS, False, "sealed"),
    ]
    for passphrase, new, in_keychain, form in steps:
        keypair = replace_sealed(file, passphrase, new_passphrase=new, in_keychain=in_keychain)
        assert keypair.seed == KEYPAIR.seed == read(file, new).seed
        assert header(file) == Header(KEYPAIR.agent_id, form)  # type: ignore[arg-type]
        assert mode(file) == 0o600 and os.listdir(tmp_path) == ["key"]
    before = file.read_bytes()
    raises(lambda: replace_sealed(file, "wrong", new_passphrase="x"), KeyLocked)
    raises(lambda: replace_sealed(file, PASS, new_passphrase=""), IdentityError, "empty")
    raises(lambda: replace_sealed(tmp_path / "none", new_passphrase="x"), IdentityError, "No such file")
    assert file.read_bytes() == before


def test_a_link_stays_and_no_plain_key_stays_behind_it(tmp_path: Path) -> None:
    real, link = tmp_path / "real/key", tmp_path / "key"
    create(real, KEYPAIR)
    link.symlink_to(real)
    replace_sealed(link, new_passphrase=PASS)
    assert link.is_symlink() and header(real).form == header(link).form == "sealed"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KilledError()], ids=["full", "killed"])
@pytest.mark.parametrize("place", [(os, "fsync"), (os, "replace"), (keyfile, "_write"), (keyfile, "_key")])
def test_a_failure_at_any_step_leaves_the_old_file_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: tuple[object, str], error: BaseException
) -> None:
    file = tmp_path / "key"
    before = getattr(*place)
    for step in (1, 2):
        file.unlink(missing_ok=True)
        create(file, KEYPAIR)
        calls = 0

        def failing(*args: object, step: int = step) -> object:
            nonlocal calls
            calls += 1
            if calls == step:
                raise error
            return before(*args)

        with monkeypatch.context() as patch:
            patch.setattr(*place, failing)
            try:
                replace_sealed(file, new_passphrase=PASS)
            except (IdentityError, KilledError, OSError):
                pass
        assert read(file, PASS).seed == KEYPAIR.seed
        assert os.listdir(tmp_path) == ["key"]


def test_a_disk_that_gives_back_something_else_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    create(file, KEYPAIR)
    monkeypatch.setattr(keyfile, "seal", lambda *_: Keypair.generate().seed.hex().encode())
    raises(lambda: replace_sealed(file, new_passphrase=PASS), IdentityError, "nothing was changed")
    assert file.read_text() == SEED and os.listdir(tmp_path) == ["key"]


def test_what_another_program_wrote_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    create(file, KEYPAIR)

    def sealing(keypair: Keypair, passphrase: str) -> bytes:
        file.write_text("cd" * 32)
        return seal(keypair, passphrase)

    monkeypatch.setattr(keyfile, "seal", sealing)
    raises(lambda: replace_sealed(file, new_passphrase=PASS), IdentityError, "another program")
    assert file.read_text() == "cd" * 32 and os.listdir(tmp_path) == ["key"]


# problems


def test_a_file_as_we_make_it_has_no_problems(tmp_path: Path) -> None:
    create(tmp_path / "key", KEYPAIR)
    assert problems(tmp_path / "key") == problems(tmp_path / "none") == []
    for fine in (0o400, 0o700):
        (tmp_path / "key").chmod(fine)
        assert problems(tmp_path / "key") == []


@pytest.mark.parametrize(("bits", "what"), [(0o644, "read"), (0o640, "read"), (0o622, "change"), (0o777, "read")])
def test_an_open_mode_comes_with_the_command_that_mends_it(tmp_path: Path, bits: int, what: str) -> None:
    file = tmp_path / "my key"
    create(file, KEYPAIR)
    file.chmod(bits)
    assert problems(file) == [f"key file {file} has mode {bits:04o}; others can {what} it. Run: chmod 600 '{file}'"]
    assert os.system(problems(file)[0].partition("Run: ")[2]) == 0
    assert problems(file) == []


def test_an_open_folder_is_told_a_sticky_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "open/key"
    create(file, KEYPAIR)
    for bits, bad in [(0o777, True), (0o702, True), (0o1777, False), (0o755, False), (0o775, False)]:
        file.parent.chmod(bits)
        found = problems(file)
        assert bool(found) is bad, (oct(bits), found)
    file.parent.chmod(0o777)
    said = f"the folder of key file {file} has mode 0777; others can replace it. Run: chmod go-w {file.parent}"
    assert problems(file) == [said]


def test_owners_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, link = tmp_path / "key", tmp_path / "link"
    create(file, KEYPAIR)
    link.symlink_to(file)
    if os.geteuid() == 0:
        os.chown(file, 4321, -1)
        os.lchown(link, 4322, -1)
        mine, theirs = 4321, 4322
    else:
        mine, theirs = os.geteuid(), os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: 4321)
        assert f"belongs to user {mine}, who can read" in problems(file)[0]
        assert f"is a link that belongs to user {theirs}" in problems(link)[1]
        return
    assert problems(file) == [f"key file {file} belongs to user {mine}, who can read and replace it"]
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    assert problems(file) == []
    assert problems(link) == [f"key file {link} is a link that belongs to user {theirs}, who can point it elsewhere"]


def test_what_is_no_file_and_what_was_left_behind(tmp_path: Path) -> None:
    assert problems(tmp_path) == [f"key file {tmp_path} is not a regular file"]
    file, left = tmp_path / "key", tmp_path / ".key-abcdefgh"
    create(file, KEYPAIR)
    left.write_text(SEED)
    assert problems(file) == []  # somebody may be writing it
    os.utime(left, (time.time() - 120, time.time() - 120))
    assert problems(file) == [f"{left} was left behind by an interrupted write and may hold a key; remove it"]


def test_systems_without_modes_are_not_nagged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(tmp_path / "key", KEYPAIR)
    (tmp_path / "key").chmod(0o666)
    monkeypatch.setattr(keyfile, "_POSIX", False)
    monkeypatch.delattr(os, "geteuid")
    assert problems(tmp_path / "key") == []
