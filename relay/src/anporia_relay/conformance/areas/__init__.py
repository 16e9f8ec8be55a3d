"""The checks, an area a module; here they become one registry."""

from __future__ import annotations

from ..check import Check, unique
from . import (
    beats,
    cors,
    credit,
    dry_run,
    envelope,
    errors,
    events,
    extensions,
    flags,
    home,
    intents,
    kinds,
    limits,
    pow,
    publish,
    revoke,
    rosters,
    search,
    single,
    sizes,
    stream,
    tasks,
    transport,
    trust,
    views,
)

__all__ = ["AREAS", "CHECKS"]

# from the simplest to what builds on it; the lists with most of what a run said in them come late
_MODULES = (
    transport, envelope, publish, sizes, kinds, pow, single, events, revoke, flags, stream, rosters, search, beats,
    trust, tasks, credit, views, home, dry_run, errors, cors, limits, extensions, intents,
)  # fmt: skip

CHECKS: tuple[Check, ...] = unique(module.AREA for module in _MODULES)
AREAS: tuple[str, ...] = tuple(module.AREA.name for module in _MODULES)
