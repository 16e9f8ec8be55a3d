"""What every test gets: a home and an environment of its own, and counts that ./dev soak makes large."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

# read before `own_environment` removes it
SOAK = os.environ.get("ANPORIA_SOAK", "") not in ("", "0")

# CI tries the same cases each time, on machines of any speed; a soak looks for new ones
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile(
    "soak", max_examples=5_000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("soak" if SOAK else "ci")

# a developer's own keys, relays, proxies and directories
_PRIVATE = re.compile(r"(ANPORIA|ANP2|XDG)_|.*_PROXY$", re.IGNORECASE)


@pytest.fixture(autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's ~/.anporia and settings out of the tests, and the tests out of ~/.anporia."""
    for name in [name for name in os.environ if _PRIVATE.match(name)]:
        monkeypatch.delenv(name)
    home = str(tmp_path_factory.mktemp("home"))
    monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("USERPROFILE", home)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")


@pytest.fixture(scope="session")
def counts() -> Callable[..., int]:
    """Say how often to repeat: `counts(5)` is 5, in a soak 50 times that; `counts(5, soak=200)` says both."""

    def count(usual: int, soak: int | None = None) -> int:
        if not SOAK:
            return usual
        return usual * 50 if soak is None else soak

    return count
