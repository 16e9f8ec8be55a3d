"""What a type checker and a reader of the client see: types, docstrings, and the same verbs on both kinds of agent."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import types
import typing
from pathlib import Path
from typing import Any

import pytest

import anporia_client
from anporia_client import Agent, AsyncAgent, crypto, errors
from anporia_client.base import Base, Options, StreamOptions
from anporia_client.reading import Conditions
from anporia_client.verbs import Verbs
from anporia_wire import AnporiaError

ROOT = Path(__file__).resolve().parents[2]
TYPED = Path(__file__).with_name("typed") / "calls.py"
VERBS = sorted(name for name in vars(Verbs) if not name.startswith("_"))
_IGNORED = re.compile(r"  # type: ignore\[([a-z, -]+)\]")
_ERROR = re.compile(r"^[^:]+:(\d+): error: .*\[([a-z-]+)\]$", re.MULTILINE)


def mypy(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", "--no-pretty", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_types_are_what_they_should_be() -> None:
    done = mypy(str(TYPED.relative_to(ROOT)))
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_wrong_is_an_error_of_that_line(tmp_path: Path) -> None:
    """The errors themselves, without the comments that expect them: so no comment hides another error."""
    text = TYPED.read_text()
    expected = {
        (number, code.strip())
        for number, line in enumerate(text.splitlines(), 1)
        for found in [_IGNORED.search(line)]
        if found
        for code in found[1].split(",")
    }
    assert len(expected) > 30
    bare = tmp_path / "bare_calls.py"
    bare.write_text(_IGNORED.sub("", text))
    found = {(int(number), code) for number, code in _ERROR.findall(mypy(str(bare)).stdout)}
    assert found == expected


def test_the_package_says_that_it_is_typed() -> None:
    """Without the marker type checkers take everything for Any."""
    assert Path(anporia_client.__file__).with_name("py.typed").exists()


# --------------------------------------------------------------------------------------------------- for the reader


@pytest.mark.parametrize("name", anporia_client.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    value = getattr(anporia_client, name)
    if isinstance(value, str):
        return  # a constant, explained where it is used
    assert _sentence(value), name
    if inspect.isclass(value) and value.__module__.startswith("anporia_client"):
        assert value.__doc__ not in {base.__doc__ for base in value.__mro__[1:]}, f"{name} has its base's"
        for method, member in vars(value).items():
            if not method.startswith("_") and callable(member):
                assert _sentence(member), f"{name}.{method}"


def _sentence(value: Any) -> bool:
    text = inspect.getdoc(value) or ""
    first = text.partition("\n")[0]
    # a dataclass without a docstring gets its signature as one
    return first.endswith((".", ":")) and not first.startswith(f"{getattr(value, '__name__', '')}(")


def test_all_is_sorted_and_there() -> None:
    for module in (anporia_client, crypto, errors):
        assert len(set(module.__all__)) == len(module.__all__)
        assert all(hasattr(module, name) for name in module.__all__)
    raised = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, AnporiaError)
    }
    assert raised <= set(anporia_client.__all__) | {"AnporiaError"}, "what may be caught can be imported"


@pytest.mark.parametrize("name", VERBS)
def test_both_kinds_of_agent_have_the_same_verb(name: str) -> None:
    plain, awaited = getattr(Agent, name), getattr(AsyncAgent, name)
    assert inspect.signature(plain) == inspect.signature(awaited)
    assert plain.__doc__ == awaited.__doc__ and _sentence(plain)
    assert plain.__name__ == awaited.__name__ == name
    assert inspect.iscoroutinefunction(awaited)
    assert not inspect.iscoroutinefunction(plain)
    # what the docstring explains, and what it takes, are the same words
    assert list(typing.get_type_hints(plain)) == list(typing.get_type_hints(awaited))


def test_both_kinds_of_agent_have_the_same_methods() -> None:
    def public(cls: type) -> set[str]:
        return {name for name in dir(cls) if not name.startswith("_")}

    assert public(Agent) == public(AsyncAgent)
    assert set(VERBS) < public(Agent)
    for name in public(Agent) - set(VERBS) - {"run", "core"}:
        plain, awaited = (inspect.getattr_static(cls, name) for cls in (Agent, AsyncAgent))
        if isinstance(plain, types.FunctionType):
            assert list(inspect.signature(plain).parameters) == list(inspect.signature(awaited).parameters), name
            assert _sentence(plain) and _sentence(awaited), name
        else:
            assert plain is awaited, name
    for name in ("__init__", "load_or_create", "from_passphrase", "from_environment"):
        assert inspect.getattr_static(Agent, name) is inspect.getattr_static(AsyncAgent, name)
        assert _sentence(getattr(Base, name)), name


@pytest.mark.parametrize("options", [Conditions, Options, StreamOptions], ids=lambda options: options.__name__)
def test_every_option_is_explained(options: Any) -> None:
    """An IDE shows them by name only; what they mean stands in the docstring of the dictionary."""
    words = (inspect.getdoc(options) or "") + (inspect.getdoc(Conditions) or "")
    speaks_for_itself = {"kinds", "authors", "include_hidden", "include_revoked"}
    assert {name for name in options.__annotations__ if f"`{name}`" not in words} <= speaks_for_itself


def test_the_table_of_verbs_can_be_looked_at() -> None:
    assert inspect.getdoc(Verbs.post)


@pytest.mark.parametrize("cls", [Agent, AsyncAgent])
def test_help_tells_what_verbs_give(cls: type) -> None:
    """`help(Agent.post)` reads `-> 'Steps[Ack]'`: names that nobody who calls it ever meets."""
    assert "Steps" not in str(inspect.signature(cls.post))  # type: ignore[attr-defined]
