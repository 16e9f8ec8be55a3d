"""What locust loads: the users, the options, and what happens at the beginning and end of a run."""

from __future__ import annotations

import json
import logging
import secrets
import sys
import threading
import time
from pathlib import Path
from typing import Any

from locust import events

from anporia_loadtest.curves import SHAPES
from anporia_loadtest.stock import Stock
from anporia_loadtest.swarm import shapes
from anporia_loadtest.swarm.markets import Markets
from anporia_loadtest.swarm.mischief import Mischief
from anporia_loadtest.swarm.posters import Posters
from anporia_loadtest.swarm.readers import Readers
from anporia_loadtest.swarm.recording import RECORDER
from anporia_loadtest.swarm.streamers import Streamers
from anporia_loadtest.target import NOT_YOURS, PERMISSION, Target, TargetError

__all__ = ["Markets", "Mischief", "Posters", "Readers", "Streamers"]

_AHEAD = 0.9  # of the stock, before the first user starts
_STATUS_S = 0.4

_log = logging.getLogger("anporia_loadtest")


def options(parser: Any) -> None:
    """Add ours to locust's; an option of theirs may be given by the web page, ours are settled at the start."""
    add = parser.add_argument
    add("--shape", choices=SHAPES, default="steady", include_in_web_ui=False, help="how the number of users moves")
    add("--seed", default="", include_in_web_ui=False, help="what is said and done by whom follows from it")
    add(
        PERMISSION,
        action="store_true",
        include_in_web_ui=False,
        help="allows another --host than this machine",
    )
    add(
        "--agent-rate",
        type=int,
        include_in_web_ui=False,
        help="events a minute of one agent (default: as the relay says)",
    )
    add("--notes", type=Path, include_in_web_ui=False, help="folder for what anporia-loadtest makes its verdict from")


def prepare(environment: Any, **_: Any) -> None:
    """Sign ahead, before anybody starts."""
    given = environment.parsed_options
    RECORDER.folder, RECORDER.seed = given.notes, given.seed or secrets.token_hex(4)
    RECORDER.only_loopback = not given.yes_this_is_my_relay
    if given.shape in shapes.BY_NAME:
        environment.shape_class = shapes.BY_NAME[given.shape]()
        environment.shape_class.runner = environment.runner
    if environment.host:
        _ask(environment.host, given.agent_rate)
    stock = RECORDER.stock = Stock(RECORDER.seed, max(1, RECORDER.agent_rate))
    _log.info("seed %s; signing ahead", RECORDER.seed)
    while stock.filled < _AHEAD:
        RECORDER.status("signing ahead", part=stock.filled)
        time.sleep(0.1)


def _ask(host: str, agent_rate: int | None) -> None:
    """Ask the relay for its limit and what it can do."""
    try:
        target = Target.parse(host)
        if RECORDER.only_loopback and not target.loopback:
            sys.stderr.write(f"{target.url} {NOT_YOURS}\n")
            sys.exit(2)  # a host that is named on the web page later is refused by the users themselves
        info = target.info()
    except TargetError as exc:
        _log.warning("%s", exc)
        return
    RECORDER.agent_rate = agent_rate if agent_rate is not None else info["limits"].get("agent_rate", 60)
    RECORDER.features = frozenset(info["features"])


def begin(**_: Any) -> None:
    """Start counting."""
    RECORDER.begin()
    threading.Thread(target=_tell, daemon=True).start()


def _tell() -> None:
    while not RECORDER.stopping:
        RECORDER.status("running")
        time.sleep(_STATUS_S)


def stop(**_: Any) -> None:
    """Let those who listen hear the rest."""
    RECORDER.stop()
    RECORDER.status("letting all finish", part=1.0)


def finish(environment: Any, **_: Any) -> None:
    """Write down what was seen."""
    exceptions = [f"{row['count']} times {row['msg']}" for row in environment.runner.exceptions.values()]
    if exceptions:
        _log.error("%s", json.dumps(list(environment.runner.exceptions.values()), default=str))
    RECORDER.finish(exceptions)
    if RECORDER.stock is not None:
        RECORDER.stock.close()


_EVENTS: Any = events  # locust gives its hooks no types
_EVENTS.init_command_line_parser.add_listener(options)
_EVENTS.init.add_listener(prepare)
_EVENTS.test_start.add_listener(begin)
_EVENTS.test_stopping.add_listener(stop)
_EVENTS.quitting.add_listener(finish)
