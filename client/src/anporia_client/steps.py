"""What an agent does, as steps: a generator that yields effects and gets their outcome sent in.

No sockets, clocks or threads are touched while steps run. `blocking.py` and `awaiting.py` carry the
effects out, so that each operation is written once and serves `Agent` and `AsyncAgent` alike.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass
from inspect import Signature, getattr_static, signature
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from .transport import Request

__all__ = [
    "Alone",
    "Awaited",
    "Direct",
    "Effect",
    "Local",
    "Send",
    "Steps",
    "Together",
    "Wait",
    "named",
    "verb",
    "verbs_of",
]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request to relay number `relay`; gives the `Response`, or raises `RelayError` into the steps."""

    relay: int
    request: Request
    timeout: float  # seconds for the whole exchange


@dataclass(frozen=True, slots=True)
class Wait:
    """Let `seconds` pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Local:
    """Call something that waits for a disk; gives its value."""

    call: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Together:
    """Run several steps at once, number i for relay number i.

    Gives a list with, for each, its value, the `AnporiaError` it ended with, or None while it goes on:
    once `enough` gave a value the others have `grace` seconds more, and finish unobserved.
    """

    steps: Sequence[Generator[Any, Any, Any]]
    enough: int
    grace: float


@dataclass(frozen=True, slots=True)
class Alone:
    """Run steps while no other `Alone` of the same agent runs; gives their value, or raises their error."""

    steps: Generator[Any, Any, Any]


Effect = Send | Wait | Local | Together | Alone
Steps = Generator[Effect, Any, T]


class Direct:
    """Base of agents whose verbs give their value; `blocking.py` makes them."""


class Awaited:
    """Base of agents whose verbs are coroutines; `awaiting.py` makes them."""


class verb(Generic[P, T]):  # noqa: N801, RUF100  # it reads as a function
    """An operation as a method: an `Agent`'s gives the value, an `AsyncAgent`'s an awaitable of it.

    For the type checker this is a descriptor; the two kinds of agent put real methods in its place.
    """

    def __init__(self, steps: Callable[Concatenate[Any, P], Steps[T]]) -> None:
        self.steps = steps
        self.__doc__ = steps.__doc__

    @overload
    def __get__(self, agent: Direct, owner: type | None = None) -> Callable[P, T]: ...
    @overload
    def __get__(self, agent: Awaited, owner: type | None = None) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, agent: None, owner: type | None = None) -> verb[P, T]: ...
    def __get__(self, agent: Any, owner: type | None = None) -> Any:
        return self


def verbs_of(cls: type) -> dict[str, verb[Any, Any]]:
    """Find the verbs that a class inherits and has not yet made methods of, or replaced by its own."""
    names = {name for base in cls.__mro__ for name, value in vars(base).items() if isinstance(value, verb)}
    return {name: found for name in names if isinstance(found := getattr_static(cls, name), verb)}


def named(method: Callable[..., Any], cls: type, found: verb[Any, Any]) -> Callable[..., Any]:
    """Dress a method so that `help` and `inspect` tell what its caller gets, which is not steps."""
    given = signature(found.steps)
    gives = given.return_annotation
    if isinstance(gives, str):
        gives = gives.removeprefix("Steps[").removesuffix("]")
    method.__name__ = found.steps.__name__
    method.__qualname__ = f"{cls.__name__}.{method.__name__}"
    method.__module__ = cls.__module__
    method.__doc__ = found.__doc__
    method.__annotations__ = found.steps.__annotations__
    method.__wrapped__ = found.steps  # type: ignore[attr-defined]
    method.__signature__ = Signature(list(given.parameters.values()), return_annotation=gives)  # type: ignore[attr-defined]
    return method
