"""A database file that was damaged: what is broken is named and kept out, what is whole is still to be had."""

from __future__ import annotations

import json
import re
import sqlite3
import struct
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from tests.e2e.traffic import read_log
from tests.relays import RELAY, RunningRelay

SAMPLE = Path(__file__).resolve().parents[2] / "demo/sample.jsonl"
PAGE = 4096
PATIENCE_S = 60.0


def run(db: Path, *words: object) -> subprocess.CompletedProcess[bytes]:
    command = [str(RELAY), "--db", str(db), *map(str, words)]
    return subprocess.run(command, capture_output=True, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the sample, all of it in one file."""
    db = tmp_path_factory.mktemp("whole") / "relay.db"
    assert run(db, "import", SAMPLE).returncode == 0
    with closing(sqlite3.connect(db)) as file:
        file.execute("PRAGMA journal_mode = DELETE")
    return db


@pytest.fixture
def db(whole: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "relay.db"
    copy.write_bytes(whole.read_bytes())
    return copy


def _in_the_content(raw: bytes) -> int:
    return raw.index(b',"content":"') + len(b',"content":"')


def _in_the_signature(raw: bytes) -> int:
    return len(raw) - 20


@pytest.mark.parametrize("where", [_in_the_content, _in_the_signature])
def test_a_damaged_event_is_named_kept_out_and_mended(where: Callable[[bytes], int], db: Path) -> None:
    log = dict(read_log(db))
    # a row whose bytes lie together in the file up to the damage
    seq = next(seq for seq, raw in log.items() if len(raw) < 800 and db.read_bytes().count(raw) == 1)
    raw = log[seq]
    id_ = json.loads(raw)["id"]
    file = bytearray(db.read_bytes())
    file[file.index(raw) + where(raw)] = 1  # a control character, which no JSON text may hold
    db.write_bytes(file)

    done = run(db, "verify", "--json")
    assert done.returncode == 1
    first = json.loads(done.stdout)["findings"][0]
    assert first["seq"] == seq and id_ in first["problem"]
    done = run(db, "verify")
    assert done.returncode == 1
    assert done.stdout.decode().startswith(f"row {seq}: event {id_}: ")

    done = run(db, "--port", "0")
    assert done.returncode == 2
    assert re.match(rf"anporia-relay: row {seq} .*verify", done.stderr.decode().splitlines()[-1])
    assert b"Traceback" not in done.stderr and b"ready" not in done.stderr

    done = run(db, "export")
    assert done.returncode == 1
    assert done.stdout.split(b"\n")[:-1] == [raw for place, raw in log.items() if place != seq]
    assert done.stderr == b"%d events written, 1 damaged rows left out\n" % (len(log) - 1)

    assert run(db, "import", SAMPLE).returncode == 0
    assert run(db, "verify").returncode == 0
    assert dict(read_log(db)) == log
    with RunningRelay(db.parent):
        pass


def test_rows_out_of_order_end_no_command_in_a_circle(db: Path) -> None:
    with closing(sqlite3.connect(db)) as file:
        ((root,),) = file.execute("SELECT rootpage FROM sqlite_master WHERE name = 'events'")
    pages = bytearray(db.read_bytes())
    start = (root - 1) * PAGE
    assert pages[start] == 5, "an interior page: its first child is the first leaf, its last the last"
    leaf = (struct.unpack_from(">I", pages, start + 8)[0] - 1) * PAGE
    assert pages[leaf] == 13, "a leaf, whose cell pointers begin after eight bytes"
    cells = slice(leaf + 8, leaf + 8 + 2 * struct.unpack_from(">H", pages, leaf + 3)[0])
    pointers = struct.unpack(f">{(cells.stop - cells.start) // 2}H", pages[cells])
    pages[cells] = struct.pack(f">{len(pointers)}H", *reversed(pointers))
    db.write_bytes(pages)

    assert run(db, "verify").returncode == 1
    assert run(db, "export", "-o", db.with_name("out.jsonl")).returncode == 1
    done = run(db, "--port", "0")
    assert done.returncode == 2
    assert b"damaged" in done.stderr


def test_whatever_is_damaged_no_command_fails_without_a_word(whole: Path, db: Path, counts: Callable[..., int]) -> None:
    rng = Random(8)
    sound = {raw for _, raw in read_log(whole)}
    pristine = whole.read_bytes()
    outcomes: Counter[tuple[str, int]] = Counter()
    for _ in range(counts(5, soak=400)):
        pages = bytearray(pristine)
        at = rng.randrange(len(pages))
        if rng.random() < 0.7:
            pages[at] ^= 1 << rng.randrange(8)
        else:
            end = min(at + PAGE, len(pages))
            pages[at:end] = rng.randbytes(end - at)
        db.write_bytes(pages)
        verified = 0
        for word in ("verify", "export", "import"):
            done = run(db, word, *([SAMPLE] if word == "import" else []))
            outcomes[word, done.returncode] += 1
            verified = done.returncode if word == "verify" else verified
            assert b"Traceback" not in done.stderr, (at, done.stderr.decode())
            assert done.returncode in (0, 1, 2), (at, done)
            assert done.returncode == 0 or done.stdout + done.stderr, at
            if word == "export":
                found = done.stdout.split(b"\n")[:-1]
                # a signature is not covered by the id: only verify holds the two against each other
                heads = {raw[:-130] for raw in sound}
                assert {raw[:-130] for raw in found} <= heads, f"at {at}: it gave out what was never put in"
                # a page of the index knows of events that the table no longer shows: only verify reads both
                said = done.returncode or verified
                assert said or len(found) == len(sound), f"at {at}: some are missing, and nothing said so"
        for rest in db.parent.glob("relay.db-*"):
            rest.unlink()
    assert outcomes["verify", 1] + outcomes["verify", 2] > 0, outcomes
