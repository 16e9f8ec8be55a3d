"""Carries steps out with plain calls; several relays are asked from threads of their own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from anporia_wire import AnporiaError

from .errors import AgentClosed, RelayTimeout
from .steps import Alone, Direct, Effect, Local, Send, Steps, Together, Wait, named, verb, verbs_of
from .transport import Transport

__all__ = ["Blocking"]

T = TypeVar("T")

_MOST_LEFT_BEHIND = 8  # calls at a relay that nobody waits for any more, before further ones are not begun


class Blocking(Direct):
    """Base of agents whose verbs are plain methods. `core`: whose steps they are."""

    core: Any

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, found in verbs_of(cls).items():
            setattr(cls, name, named(_method(found), cls, found))

    def __init__(self, transports: Sequence[Transport]) -> None:
        self._transports = transports
        self._left_behind = [0] * len(transports)
        self._counting = threading.Lock()
        self._alone = threading.Lock()

    def run(self, steps: Steps[T], stopped: threading.Event | None = None) -> T:
        """Carry steps out; gives their value, or raises their error, or `AgentClosed` once `stopped` is set."""
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
                if stopped is not None and stopped.is_set():
                    raise AgentClosed("the stream was closed")
                value = self._perform(effect)
            except AnporiaError as exc:
                error = exc

    def _perform(self, effect: Effect) -> Any:
        match effect:
            case Send(relay, request, timeout):
                return self._transports[relay].send(request, timeout=timeout)
            case Wait(seconds):
                return time.sleep(seconds)
            case Local(call):
                return call()
            case Together(steps, enough, grace):
                return self._together(steps, enough, grace)
            case Alone(steps):
                with self._alone:
                    return self.run(steps)

    def _together(self, steps: Sequence[Steps[Any]], enough: int, grace: float) -> list[Any]:
        done: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        waiting = _Waiting()

        def work(at: int, one: Steps[Any]) -> None:
            try:
                done.put((at, self.run(one)))
            except Exception as exc:  # noqa: BLE001, RUF100  # the calling thread gets it
                done.put((at, exc))
            finally:
                with self._counting:
                    waiting.under_way.discard(at)
                    self._left_behind[at] -= waiting.over

        for at, one in enumerate(steps):
            with self._counting:
                free = self._left_behind[at] < _MOST_LEFT_BEHIND
            if free:
                waiting.under_way.add(at)
                threading.Thread(target=work, args=(at, one), daemon=True).start()
            else:
                done.put((at, RelayTimeout("earlier calls still wait for an answer", self.core.relays[at].url)))
        results: list[Any] = [None] * len(steps)
        good = 0
        until: float | None = None
        for _ in steps:
            try:
                at, result = done.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if isinstance(result, Exception) and not isinstance(result, AnporiaError):
                raise result
            results[at] = result
            good += not isinstance(result, AnporiaError)
            if good >= enough and until is None:
                until = time.monotonic() + grace
        with self._counting:
            waiting.over = True
            for at in waiting.under_way:
                self._left_behind[at] += 1
        return results


class _Waiting:
    """Which calls of one `Together` are under way, and whether anybody still waits for them."""

    def __init__(self) -> None:
        self.under_way: set[int] = set()
        self.over = False


def _method(found: verb[Any, Any]) -> Callable[..., Any]:
    def method(self: Blocking, *args: Any, **kwargs: Any) -> Any:
        return self.run(found.steps(self.core, *args, **kwargs))

    return method
