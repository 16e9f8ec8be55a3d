"""Opening what is not ours, not whole or not to be had; each time a typed error, and nothing left behind."""

from __future__ import annotations

import fcntl
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from anporia_store import (
    Query,
    SqliteStore,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreUnusable,
    audit,
    files,
)
from anporia_wire import Filter, id_of_serialised
from tests.store.samples import event, some
from tests.wire.samples import NOW, signed

ROOT = Path(__file__).resolve().parents[2]


async def make(path: Path, count: int = 3) -> None:
    store = await SqliteStore.open(path)
    await store.append(some(count))
    await store.close()


async def refused(path: Path, error: type[StoreError], *, write: bool = True) -> str:
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError) as caught:
        await SqliteStore.open(path, write=write)
    assert caught.type is error
    assert str(path) in str(caught.value) or "database" in str(caught.value)
    if before is not None:
        assert path.read_bytes() == before  # not ours to change
    return str(caught.value)


@pytest.mark.parametrize("write", [True, False])
@pytest.mark.parametrize("content", [b"x", b"some notes\n" * 500, b"SQLite format 3\0", b"\0" * 5_000])
async def test_a_file_that_is_no_database(path: Path, content: bytes, write: bool) -> None:
    path.write_bytes(content)
    await refused(path, StoreUnusable, write=write)


async def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    await refused(path, StoreUnusable, write=False)
    await make(path)
    store = await SqliteStore.open(path, write=False)
    assert store.last_seq == 3
    await store.close()


@pytest.mark.parametrize("write", [True, False])
async def test_a_database_of_another_program(path: Path, write: bool) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE events (id TEXT)")
    assert "another program" in await refused(path, StoreUnusable, write=write)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("PRAGMA application_id = 7")
        other.execute("PRAGMA user_version = 1")
    assert "another program" in await refused(path, StoreUnusable, write=write)


@pytest.mark.parametrize("write", [True, False])
async def test_a_newer_schema(path: Path, write: bool) -> None:
    await make(path)
    with closing(sqlite3.connect(path)) as newer, newer:
        newer.execute("PRAGMA user_version = 99")
    assert "newer version (schema 99" in await refused(path, StoreUnusable, write=write)


@pytest.mark.parametrize("sql", ["DELETE FROM meta", "UPDATE meta SET value = x'ff' WHERE name = 'database_id'"])
async def test_a_store_without_its_name(path: Path, sql: str) -> None:
    await make(path)
    with closing(sqlite3.connect(path)) as broken, broken:
        broken.execute(sql)
    await refused(path, StoreDamaged)


@pytest.mark.parametrize("write", [True, False])
async def test_nowhere(tmp_path: Path, write: bool) -> None:
    await refused(tmp_path / "missing" / "log.db", StoreUnusable, write=write)
    (tmp_path / "folder").mkdir()
    await refused(tmp_path / "folder", StoreUnusable, write=write)
    if not write:
        await refused(tmp_path / "log.db", StoreUnusable, write=write)
        assert not (tmp_path / "log.db").exists()


@pytest.fixture
def as_nobody() -> Iterator[tuple[Path, Callable[[], None]]]:
    """A folder of somebody else's, seen without the rights of root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        was = os.geteuid()
        folder.chmod(0o755)

        def drop() -> None:
            for each in folder.iterdir():
                each.chmod(0o444)
            folder.chmod(0o555)
            if was == 0:
                os.seteuid(65_534)

        yield folder, drop
        os.seteuid(was)
        folder.chmod(0o755)


async def test_a_folder_that_cannot_be_written(as_nobody: tuple[Path, Callable[[], None]]) -> None:
    folder, drop_rights = as_nobody
    path = folder / "log.db"
    await make(path)
    drop_rights()
    await refused(path, StoreUnusable)
    await refused(folder / "new.db", StoreUnusable)
    await refused(path, StoreUnusable, write=False)  # without a write-ahead log beside it SQLite cannot read it


FORGET = """
import asyncio, sys
from anporia_store import SqliteStore
from tests.store.samples import some

async def main():
    store = await SqliteStore.open(sys.argv[1])
    await store.append(some(3))
    keep.append(store)

keep = []
asyncio.run(main())
"""


async def test_a_program_that_forgets_to_close_still_ends(path: Path) -> None:
    subprocess.run([sys.executable, "-c", FORGET, str(path)], cwd=ROOT, timeout=30, capture_output=True)
    store = await SqliteStore.open(path)
    assert store.last_seq == 3
    await store.close()


HOLD = """
import asyncio, sys
from anporia_store import SqliteStore

async def main():
    store = await SqliteStore.open(sys.argv[1])
    print("open", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_one_writer(path: Path) -> None:
    await make(path)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "open\n"
    with pytest.raises(StoreBusy, match="another process"):
        await SqliteStore.open(path)
    reading = await SqliteStore.open(path, write=False)
    assert reading.last_seq == 3
    await reading.close()
    holder.kill()
    holder.communicate()
    store = await SqliteStore.open(path)  # the lock died with its holder
    with pytest.raises(StoreBusy):
        await SqliteStore.open(path)
    await store.close()
    store = await SqliteStore.open(path)
    await store.close()


async def test_a_failed_open_keeps_no_lock(path: Path) -> None:
    path.write_bytes(b"notes\n" * 100)
    await refused(path, StoreUnusable)
    with path.with_name("log.db.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def test_another_program_that_writes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An `sqlite3` shell knows nothing of our lock file; SQLite's own locks still hold."""
    monkeypatch.setattr(files, "_BUSY_SECONDS", 0.1)
    store = await SqliteStore.open(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy):
            await store.append(some(1))
        assert not store.writable
        other.rollback()
    await store.append(some(1))
    assert store.writable
    await store.close()


async def test_migrations_run_once_and_in_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await make(path)
    first = files._migrations()
    later = "CREATE TABLE later (x); INSERT INTO later SELECT count(*) FROM events;"
    monkeypatch.setattr(files, "_migrations", lambda: [*first, later, "INSERT INTO later VALUES ('third');"])
    with pytest.raises(StoreUnusable, match="older schema"):  # a reader changes nothing
        await SqliteStore.open(path, write=False)
    for _ in range(3):
        store = await SqliteStore.open(path)
        assert [value for (value,) in await store._fetch("SELECT x FROM later", ())] == [3, "third"]
        assert await store._fetch("PRAGMA user_version", ()) == [(len(first) + 2,)]
        assert store.last_seq == 3
        await store.close()
    fresh = await SqliteStore.open(path.with_name("fresh.db"))
    assert [value for (value,) in await fresh._fetch("SELECT x FROM later", ())] == [0, "third"]
    await fresh.close()


async def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await make(path)
    first = files._migrations()
    with monkeypatch.context() as patch:
        patch.setattr(files, "_migrations", lambda: [*first, "CREATE TABLE later (x); INSERT INTO nowhere VALUES (1);"])
        with pytest.raises(StoreError):
            await SqliteStore.open(path)
    store = await SqliteStore.open(path)
    assert await store._fetch("SELECT name FROM sqlite_master WHERE name = 'later'", ()) == []
    assert await store._fetch("PRAGMA user_version", ()) == [(len(first),)]
    assert store.last_seq == 3
    await store.close()


async def test_settings_that_keep_promises(path: Path) -> None:
    store = await SqliteStore.open(path)

    async def pragma(name: str) -> object:
        ((value,),) = await store._writer.execute_fetchall(f"PRAGMA {name}")
        return value

    assert await pragma("journal_mode") == "wal"
    assert await pragma("synchronous") == 2
    assert await pragma("application_id") == files.APPLICATION_ID
    with pytest.raises(StoreError):
        await store._fetch("DELETE FROM events", ())  # readers cannot write
    await store.close()


FULL_AT_OPEN = """
import asyncio, resource, sys
from anporia_store import SqliteStore, StoreFull

async def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    try:
        await SqliteStore.open(sys.argv[1])
    except StoreFull:
        print("full")

asyncio.run(main())
"""


@pytest.mark.parametrize("size", [0, 1_000, 20_000])
def test_no_space_to_begin_with(path: Path, size: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_AT_OPEN, str(path), str(size)], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.returncode) == ("full\n", 0), done.stderr


# -- damage


async def read_all(store: SqliteStore) -> tuple[set[bytes], bool]:
    """Read by every way there is; gives the rows and whether each way went through."""
    rows: set[bytes] = set()
    whole = True
    for filter_ in (Filter(), Filter(t="all"), Filter(kinds=frozenset({0, 1, 2, 3}))):
        after = None
        for _ in range(100):
            try:
                page = await store.query(Query(filter_, 50, after))
            except StoreError:
                whole = False
                break
            rows.update(page.rows)
            after = page.next
            if after is None:
                break
    for read in (store.replay, store.salvage):
        at = 0
        while at < store.last_seq:
            try:
                part = await read(at, Filter(), 100)
            except StoreError:
                whole = False
                break
            rows.update(raw for _, raw in part.rows)
            at = part.complete_to
    return rows, whole


async def test_random_damage(path: Path, counts: Callable[..., int]) -> None:
    """Whatever bytes change on disk: a typed error or true rows, never others; and the audit sees it."""
    log = [*some(150), *(event(1, "x" * 9_000 + f"{n}", [("t", "all")], at=NOW + n) for n in range(4))]
    store = await SqliteStore.open(path)
    await store.append(log)
    await store.close()
    intact = path.read_bytes()
    expected = {e.to_json() for e in log}
    ids = {e.id for e in log}
    draw = random.Random(1)
    outcomes = {"refused": 0, "unnoticed": 0, "noticed": 0}
    for number in range(counts(60)):
        damaged = bytearray(intact)
        match number % 4:
            case 0:  # anywhere
                places = [draw.randrange(len(intact)) for _ in range(draw.choice([1, 1, 3, 50]))]
            case 1:  # where pages describe themselves
                places = [draw.randrange(len(intact) // 4_096) * 4_096 + draw.randrange(12) for _ in range(2)]
            case 2:  # a whole sector
                start = draw.randrange(len(intact) // 512) * 512
                places = list(range(start, start + 512))
            case _:  # the file's header and the tables' definitions
                places = [draw.randrange(draw.choice([100, 4_096]))]
        for place in places:
            damaged[place] ^= draw.randrange(1, 256)
        write_alone(path, damaged)
        try:
            store = await SqliteStore.open(path, write=number % 2 == 0)
        except StoreError:
            outcomes["refused"] += 1
            continue
        rows, whole = await read_all(store)
        assert {id_of_serialised(raw) for raw in rows} <= ids
        for e in log[::10]:
            try:
                found = await store.get(e.id)
                assert found is None or id_of_serialised(found.serialised) == e.id
                await store.flags(e.id)
                await store.revocation(e.id)
            except StoreError:
                whole = False
        findings = [f async for f in audit(store)]
        # the samples have no real signatures: each whole row counts as one finding
        others = [f for f in findings if "bad signature" not in f.problem]
        if rows != expected or not whole:
            assert others or rows - expected  # a changed signature still has its id
            outcomes["noticed"] += 1
        else:
            outcomes["unnoticed"] += 1
        try:
            await store.append(some(1, seed=7))
        except StoreError:
            pass
        try:
            await store.close()
        except StoreError:
            pass
    assert min(outcomes.values()) > 0, outcomes  # each of the three ways was really taken


def write_alone(path: Path, content: bytes | bytearray) -> None:
    path.write_bytes(content)
    for side in ("-wal", "-shm"):
        path.with_name(path.name + side).unlink(missing_ok=True)


def the_only(content: bytearray, text: bytes) -> int:
    assert content.count(text) == 1
    return content.index(text)


@pytest.mark.parametrize("write", [True, False])
async def test_damaged_definitions(path: Path, write: bool) -> None:
    """`seq` without its key is a column that was never stored: the log would look empty, and begin anew at 1."""
    await make(path)
    content = bytearray(path.read_bytes())
    content[the_only(content, b"seq        INTEGER PRIMARY KEY") + 21] ^= 2
    write_alone(path, content)
    await refused(path, StoreDamaged, write=write)


@pytest.mark.parametrize("write", [True, False])
async def test_a_store_without_tables_is_not_made_anew(path: Path, write: bool) -> None:
    await make(path, 300)
    content = bytearray(path.read_bytes())
    content[103:105] = b"\0\0"  # no cells on the page that lists the tables
    write_alone(path, content)
    await refused(path, StoreDamaged, write=write)


async def test_statistics_do_no_harm(path: Path) -> None:
    await make(path)
    with closing(sqlite3.connect(path)) as plain, plain:
        plain.execute("ANALYZE")
        plain.execute("CREATE INDEX mine ON events (kind, seq)")
    await make(path)


async def test_a_truncated_file(path: Path) -> None:
    await make(path, 300)
    intact = path.read_bytes()
    ids = {e.id for e in some(300)}
    for size in (100, 512, 4_096, len(intact) // 2, len(intact) - 4_096):
        write_alone(path, intact[:size])
        try:
            store = await SqliteStore.open(path, write=False)
        except StoreError as exc:
            assert isinstance(exc, (StoreDamaged, StoreUnusable)), size
            continue
        rows, _ = await read_all(store)
        assert {id_of_serialised(raw) for raw in rows} <= ids
        assert [f async for f in audit(store) if "bad signature" not in f.problem], size
        await store.close()


async def test_salvage_goes_round_a_page_that_cannot_be_read(path: Path) -> None:
    log = [signed(1, f"{n} " + "x" * 500, at=NOW + n) for n in range(200)]
    store = await SqliteStore.open(path)
    await store.append(log)
    await store.close()
    with closing(sqlite3.connect(path)) as plain:
        page = (
            plain.execute(
                "SELECT pageno FROM dbstat WHERE name = 'events' AND pagetype = 'leaf' ORDER BY path LIMIT 1 OFFSET 9"
            ).fetchone()[0]
            if has_dbstat(plain)
            else None
        )
    if page is None:
        pytest.skip("this SQLite does not say which page is whose")
    with path.open("r+b") as file:
        file.seek((page - 1) * 4_096)
        file.write(b"\xff" * 100)
    store = await SqliteStore.open(path, write=False)
    lost: list[int] = []
    store.on_damage = lost.append
    rows: list[tuple[int, bytes]] = []
    after = 0
    while after < store.last_seq:
        part = await store.salvage(after, Filter(), 30)
        rows += part.rows
        after = part.complete_to
    assert 1 <= len(lost) <= 8  # what stood on that page
    assert rows == [(seq, e.to_json()) for seq, e in enumerate(log, 1) if seq not in lost]
    named = [f.seq async for f in audit(store) if f.seq]
    assert named == sorted(lost)
    with pytest.raises(StoreDamaged):
        await store.replay(0, Filter(), 1_000)
    await store.close()


def has_dbstat(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM pragma_module_list WHERE name = 'dbstat'").fetchone()[0])
