"""A new store for each test that names one."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from anporia_store import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest_asyncio.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(path)
    yield opened
    await opened.close()


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    """Whoever closes a store, or fails to open one, is left without threads of aiosqlite."""
    before = set(threading.enumerate())
    yield
    new = [thread for thread in threading.enumerate() if thread not in before and thread.daemon]
    for thread in new:
        thread.join(5)  # one that has answered may need a moment to end
    assert not [thread for thread in new if thread.is_alive()]
