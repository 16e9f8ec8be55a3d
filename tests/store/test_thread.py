"""The contract with aiosqlite's private parts that `anporia_store.thread` uses; pyproject.toml says which versions."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator

import aiosqlite
import pytest
import pytest_asyncio

from anporia_store.thread import within


class OwnError(Exception):
    """Nothing of the driver's."""


@pytest_asyncio.fixture
async def connection() -> AsyncIterator[aiosqlite.Connection]:
    opened = await aiosqlite.connect(":memory:")
    yield opened
    await opened.close()


async def test_it_runs_in_the_connections_own_thread(connection: aiosqlite.Connection) -> None:
    # the driver itself refuses its connection in any other thread
    threads = [await within(connection, lambda _: threading.get_ident()) for _ in range(2)]
    noted: list[int] = []
    await connection.create_function("note", 0, lambda: noted.append(threading.get_ident()))
    await connection.execute_fetchall("SELECT note()")
    assert {*threads, *noted} == {threads[0]} and threads[0] != threading.get_ident()


async def test_it_is_given_the_drivers_connection_and_gives_what_the_work_gives(
    connection: aiosqlite.Connection,
) -> None:
    async def kind() -> type[object]:
        return await within(connection, lambda raw: type(raw))

    assert await kind() is sqlite3.Connection
    await connection.execute("CREATE TABLE t (n)")
    await within(connection, lambda raw: raw.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(9)]))
    assert await within(connection, lambda raw: raw.in_transaction) is True
    await connection.commit()  # of the same transaction
    assert await within(connection, lambda raw: raw.execute("SELECT sum(n) FROM t").fetchall()) == [(36,)]
    assert await within(connection, lambda _: [None]) == [None]


@pytest.mark.parametrize("error", [OwnError("mine"), sqlite3.OperationalError("theirs"), KeyboardInterrupt()])
async def test_it_raises_what_the_work_raises_and_goes_on(
    connection: aiosqlite.Connection, error: BaseException
) -> None:
    def fail(_: sqlite3.Connection) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        await within(connection, fail)
    assert caught.value is error
    assert await within(connection, lambda raw: raw.execute("SELECT 1").fetchone()) == (1,)


async def test_it_keeps_the_order_of_all_calls_on_the_connection(connection: aiosqlite.Connection) -> None:
    gate = threading.Event()
    order: list[int] = []
    await connection.create_function("note", 1, order.append)

    async def usual(number: int) -> None:
        await connection.execute_fetchall("SELECT note(?)", (number,))

    def note(number: int) -> None:
        order.append(number)

    held = asyncio.create_task(within(connection, lambda _: gate.wait(10)))
    calls = [
        asyncio.create_task(usual(n) if n % 2 else within(connection, lambda _, n=n: note(n)))  # type: ignore[misc]
        for n in range(20)
    ]
    await asyncio.sleep(0.01)
    assert order == []
    gate.set()
    await asyncio.gather(held, *calls)
    assert order == list(range(20))


async def test_the_loop_goes_on_meanwhile_and_a_cancelled_caller_leaves_the_work_to_end(
    connection: aiosqlite.Connection,
) -> None:
    gate = threading.Event()
    ended: list[bool] = []
    call = asyncio.create_task(within(connection, lambda _: ended.append(gate.wait(10))))
    await asyncio.sleep(0.01)
    assert not call.done()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    gate.set()
    assert await within(connection, lambda raw: raw.in_transaction) is False
    assert ended == [True]


async def test_a_closed_connection_refuses(connection: aiosqlite.Connection) -> None:
    closed = await aiosqlite.connect(":memory:")
    await closed.close()
    called: list[bool] = []
    with pytest.raises(ValueError):
        await within(closed, lambda _: called.append(True))
    assert not called
