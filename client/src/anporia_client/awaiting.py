"""Carries steps out on an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from anporia_wire import AnporiaError

from .steps import Alone, Awaited, Effect, Local, Send, Steps, Together, Wait, named, verb, verbs_of
from .transport import AsyncTransport

__all__ = ["Awaiting"]

T = TypeVar("T")


class Awaiting(Awaited):
    """Base of agents whose verbs are coroutines. `core`: whose steps they are."""

    core: Any

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, found in verbs_of(cls).items():
            setattr(cls, name, named(_method(found), cls, found))

    def __init__(self, transports: Sequence[AsyncTransport]) -> None:
        self._transports = transports
        self._unobserved: set[asyncio.Task[Any]] = set()
        self._alone = asyncio.Lock()

    async def run(self, steps: Steps[T]) -> T:
        """Carry steps out; gives their value, or raises their error."""
        value: Any = None
        error: AnporiaError | None = None
        while True:
            try:
                effect = steps.send(value) if error is None else steps.throw(error)
            except StopIteration as done:
                result: T = done.value
                return result
            value = error = None
            try:
                value = await self._perform(effect)
            except AnporiaError as exc:
                error = exc

    async def _perform(self, effect: Effect) -> Any:
        match effect:
            case Send(relay, request, timeout):
                return await self._transports[relay].send(request, timeout=timeout)
            case Wait(seconds):
                return await asyncio.sleep(seconds)
            case Local(call):
                return await asyncio.to_thread(call)
            case Together(steps, enough, grace):
                return await self._together(steps, enough, grace)
            case Alone(steps):
                async with self._alone:
                    return await self.run(steps)

    async def _together(self, steps: Sequence[Steps[Any]], enough: int, grace: float) -> list[Any]:
        tasks = [asyncio.create_task(self._caught(one)) for one in steps]
        left = set(tasks)
        until: float | None = None
        try:
            while left:
                wait = None if until is None else max(0.0, until - time.monotonic())
                done, left = await asyncio.wait(left, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                good = sum(1 for task in tasks if task.done() and not isinstance(task.result(), AnporiaError))
                if not done:
                    break
                if good >= enough and until is None:
                    until = time.monotonic() + grace
        except BaseException:
            for task in left:
                task.cancel()
            raise
        for task in left:  # they finish unobserved, or with the agent
            self._unobserved.add(task)
            task.add_done_callback(self._unobserved.discard)
        return [task.result() if task.done() else None for task in tasks]

    async def _caught(self, steps: Steps[Any]) -> Any:
        try:
            return await self.run(steps)
        except AnporiaError as exc:
            return exc

    async def _end_unobserved(self) -> None:
        for task in list(self._unobserved):
            task.cancel()
        await asyncio.gather(*self._unobserved, return_exceptions=True)


def _method(found: verb[Any, Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def method(self: Awaiting, *args: Any, **kwargs: Any) -> Any:
        return await self.run(found.steps(self.core, *args, **kwargs))

    return method
