"""The views' state in a file beside the log, so that a start need not read the whole log again.

The state is a pure function of the log, so another process can make it: while a relay runs, a helper at
the lowest priority folds the last snapshot on and writes the next, and the relay never pauses for it.
A snapshot that does not fit (other code, other database, damaged) is passed over; the log is the truth.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from anporia_store import Store
from anporia_wire import Filter
from anporia_wire.views import BadSnapshot, Views

from .views import fold

__all__ = ["EVERY", "Snapshots", "audit", "load", "path_of", "write"]

log = logging.getLogger("anporia.relay")

EVERY = 100_000  # events: folded in 0.7 s, which is what a start after a crash takes longer
_MAGIC = b"anporia-views "


def path_of(db: Path) -> Path:
    """Name the file beside a database."""
    return db.with_name(db.name + ".views")


async def write(store: Store, views: Views, path: Path) -> None:
    """Write the state whole or not at all. Raises `OSError`, `StoreError`."""
    state = views.snapshot()  # before anything is awaited: a commit may come meanwhile
    last = await store.replay(state["seq"] - 1, Filter(), 1) if state["seq"] else None
    state["database"] = store.database_id
    state["event"] = last.rows[0][1][7:71].decode() if last and last.rows else ""
    body = orjson.dumps(state)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # an operator's own may be on its way as well
    try:
        with partial.open("wb") as out:
            out.write(_MAGIC + blake2b(body, digest_size=16).hexdigest().encode() + b"\n" + body)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


async def load(store: Store, path: Path) -> Views | None:
    """Read the state of this very log, None when there is none yet. Raises `BadSnapshot` for one that does not fit."""
    try:
        head, _, body = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise BadSnapshot(exc.strerror or str(exc)) from None
    if head != _MAGIC + blake2b(body, digest_size=16).hexdigest().encode():
        raise BadSnapshot("its bytes are damaged")
    state: dict[str, Any] = orjson.loads(body)
    if state.get("database") != store.database_id:
        raise BadSnapshot("it is of another database")
    views = Views.restore(state)
    if views.seq > store.last_seq:
        raise BadSnapshot("it is of a longer log than this one")
    if views.seq:
        last = await store.replay(views.seq - 1, Filter(), 1)
        found = last.rows[0][1][7:71].decode() if last.rows else ""
        if found != state.get("event"):
            raise BadSnapshot("the log went on otherwise")  # a backup was restored
    return views


async def audit(store: Store, db: Path, progress: Callable[[int], None]) -> tuple[int | None, list[str]]:
    """Fold the log anew up to the snapshot and compare; gives its place (None: there is none) and what is wrong."""
    try:
        kept = await load(store, path_of(db))
    except BadSnapshot as exc:
        return 0, [f"{path_of(db).name} is not usable, and is passed over at the next start: {exc}"]
    if kept is None:
        return None, []
    anew = Views()
    await fold(store, anew, progress, upto=kept.seq)
    one, other = kept.snapshot(), anew.snapshot()
    wrong = [name for name in one if orjson.dumps(one[name]) != orjson.dumps(other[name])]
    return kept.seq, [f"view {name} differs from the log" for name in wrong]


class Snapshots:
    """Has another process write the next snapshot whenever the log has grown enough."""

    def __init__(self, db: Path, seq: int) -> None:
        self._db = db
        self._written = seq  # the place of the newest snapshot
        self._attempted = seq
        self._helper: asyncio.Task[None] | None = None

    def tick(self, last_seq: int) -> None:
        """Look whether it is time."""
        if last_seq - self._attempted >= EVERY and (self._helper is None or self._helper.done()):
            self._attempted = last_seq
            self._helper = asyncio.get_running_loop().create_task(self._take(last_seq))

    async def stop(self, store: Store, views: Views) -> None:
        """End the helper; write the last state here, where nobody waits for answers any more."""
        if self._helper is not None:
            self._helper.cancel()
            await asyncio.wait([self._helper])
        if views.seq > self._written or not path_of(self._db).exists():
            try:
                await write(store, views, path_of(self._db))
            except Exception as exc:  # whatever it is, the relay has to stop in good order
                log.warning("no snapshot of the views was written", extra={"problem": str(exc)})

    async def _take(self, seq: int) -> None:
        helper = None
        try:
            helper = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "anporia_relay", "--db", str(self._db), "snapshot"),
                stdin=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
            _, said = await helper.communicate()
            if helper.returncode:
                last = said.decode(errors="replace").strip().rpartition("\n")[2]
                log.warning("no snapshot of the views was written", extra={"problem": last[:200]})
            else:
                self._written = seq
        except OSError as exc:
            log.warning("no snapshot of the views was written", extra={"problem": str(exc)})
        finally:
            if helper is not None and helper.returncode is None:
                helper.kill()
                await helper.wait()


async def take(store: Store, db: Path, progress: Callable[[int], None]) -> int:
    """Fold the last snapshot on, or the whole log, and write the next; gives its place. Raises `OSError`."""
    try:
        views = await load(store, path_of(db))
    except BadSnapshot:
        views = None
    views = views or Views()
    await fold(store, views, progress)
    await write(store, views, path_of(db))
    return views.seq
