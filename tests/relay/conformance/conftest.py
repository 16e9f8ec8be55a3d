"""One relay of ours with its limits off, for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.relays import RunningRelay

__all__ = ["NO_LIMITS"]

NO_LIMITS = {f"ANPORIA_{name}_RATE": "0" for name in ("AGENT", "PEER", "BAD_EVENT")}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRelay]:
    with RunningRelay(tmp_path_factory.mktemp("relay"), env=NO_LIMITS) as relay:
        yield relay
