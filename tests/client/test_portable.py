"""Installed from its wheels, without a compiler and without our compiled kernels; and where POSIX has no say.

Claude Desktop runs on Windows and macOS (settled 20). Here neither is at hand: the same programs run with the
modules and functions taken away that are missing there, and with `os.name` and `sys.platform` saying so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.relays import RunningRelay

ROOT = Path(__file__).resolve().parents[2]

# as it was at the start, for the installer: a test's own environment hides its cache and its registries
_ENVIRONMENT = dict(os.environ)
_PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that holds our two wheels and what they ask for, as wheels only."""
    folder = tmp_path_factory.mktemp("installed")
    wheels, home, nothing = folder / "wheels", folder / "venv", folder / "nothing"
    nothing.mkdir()
    uv = Path(sys.executable).with_name("uv")
    with_uv = uv.exists() and _ENVIRONMENT.get("ANPORIA_DEV_NO_UV") != "1"
    # a compiler that is asked for all the same does not start
    env = {**_ENVIRONMENT, "PATH": str(nothing), "CC": str(nothing / "cc"), "CXX": str(nothing / "cc")}
    assert not any(shutil.which(name, path=env["PATH"]) for name in ("cc", "gcc", "clang", "c++"))

    def run(*command: Any) -> None:
        done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=_PATIENCE_S)
        assert done.returncode == 0, done.stdout + done.stderr

    installed = home / "bin/python"
    constraints = ROOT / "constraints.txt"
    for member in ("wire", "client"):
        source = folder / member  # a copy: a build leaves things beside the sources, where others work
        shutil.copytree(ROOT / member, source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        if with_uv:
            options = ["--python", sys.executable, "--build-constraints", constraints, "--out-dir", wheels]
            run(uv, "build", "-q", "--wheel", *options, source)
        else:
            run(sys.executable, "-m", "build", "--wheel", "--outdir", wheels, source)
    made = sorted(wheels.glob("*.whl"))
    assert [wheel.name.split("-")[0] for wheel in made] == ["anporia_client", "anporia_wire"]
    assert all(wheel.name.endswith("-py3-none-any.whl") for wheel in made)
    with zipfile.ZipFile(made[0]) as wheel:
        assert "anporia_client/py.typed" in wheel.namelist(), "without it no type of ours is seen"
    if with_uv:
        run(uv, "venv", "-q", "--python", sys.executable, home)
        run(uv, "pip", "install", "-q", "--python", installed, "--only-binary", ":all:", "-c", constraints, *made)
    else:
        run(sys.executable, "-m", "venv", home)
        run(installed, "-m", "pip", "install", "-qq", "--only-binary", ":all:", "-c", constraints, *made)
    return installed


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with RunningRelay(tmp_path_factory.mktemp("relay")) as relay:
        yield relay.url


# Takes away what other systems do not have, then lets the client be imported as on the system it is told.
_ELSEWHERE = """
import sys
SYSTEM = sys.argv[1]

# `_posixsubprocess` stays: it is how this Linux starts programs
GONE = {"fcntl", "termios", "tty", "pty", "pwd", "grp", "resource", "spwd", "crypt", "nis", "syslog", "readline",
        "posixfile", "uvloop", "anporia_cython_ext"}
CALLS = ("link", "symlink", "fchmod", "fchown", "chown", "lchown", "chroot", "fork", "forkpty", "getuid", "geteuid",
         "getgid", "getegid", "getgroups", "getpgid", "getpgrp", "getsid", "setsid", "setuid", "seteuid", "setgid",
         "setegid", "mkfifo", "mknod", "nice", "openpty", "pread", "pwrite", "sync", "uname", "wait3",
         "killpg", "statvfs", "sched_getaffinity", "posix_fallocate", "sendfile", "getloadavg")
FLAGS = ("O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "O_NONBLOCK", "O_SYNC", "O_DSYNC", "O_NOCTTY", "O_PATH",
         "O_TMPFILE", "O_ASYNC")

class Gone:
    asked = set()

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in GONE:
            self.asked.add(name)
            raise ModuleNotFoundError(f"No module named {name!r} (taken away)", name=name)
        return None

if SYSTEM != "here":
    # the standard library first, as it stands on this system: what is at stake is our own code
    import asyncio, ctypes, encodings.idna, http.client, importlib.metadata, logging.handlers, multiprocessing
    import os, pathlib, shutil, signal, socket, sqlite3, ssl, stat, subprocess, tempfile, urllib.request
    import anyio, anyio._backends._asyncio, certifi, h11, httpcore, nacl.bindings, orjson
    sys.meta_path.insert(0, Gone())
    for name in [name for name in sys.modules if name.partition(".")[0] in GONE]:
        sys.modules[name] = None
    if SYSTEM == "win32":
        for name in (*CALLS, *FLAGS):
            if hasattr(os, name):
                delattr(os, name)
        for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGKILL", "SIGQUIT", "alarm", "setitimer", "pause"):
            delattr(signal, name)
        del asyncio.unix_events._UnixSelectorEventLoop.add_signal_handler
"""

# What modules look at when they are imported, and then each time. For all others `os.name` goes back: pathlib asks
# it for every path.
_IMPORT = """
import importlib, os, pkgutil, sys
real = os.name, sys.platform
if SYSTEM != "here":
    sys.platform = SYSTEM
    os.name = "nt" if SYSTEM == "win32" else "posix"
try:
    import anporia_client, anporia_wire
    modules = [found.name for package in (anporia_client, anporia_wire)
               for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
               if not found.name.startswith("anporia_client.cli")]  # a program with tests of its own
    for name in modules:
        importlib.import_module(name)
finally:
    os.name, sys.platform = real

class View(type(sys)):
    # a module as our own code sees it, while the standard library sees the real one
    def __init__(self, real, **other):
        super().__init__(real.__name__)
        self.__dict__.update(other, real=real)

    def __getattr__(self, name):
        return getattr(self.real, name)

if SYSTEM != "here":
    views = {"sys": View(sys, platform=SYSTEM), "os": View(os, name="nt" if SYSTEM == "win32" else "posix")}
    seen = [(module, name) for module in map(sys.modules.get, modules) for name in views if name in vars(module)]
    assert {name for _, name in seen} == {"sys", "os"}
    for module, name in seen:
        setattr(module, name, views[name])
"""

_PROGRAM = """
import asyncio, json, logging
from pathlib import Path
from anporia_client import Agent, AsyncAgent, Event, Keypair, Outbox, crypto, identity, join, keyfile
from anporia_wire import ACCELERATED, dm, pow, verify_many

url, out = sys.argv[2], {}
out["accelerated"], out["modules"] = ACCELERATED, len(modules)
folder = Path.home() / "work"
folder.mkdir()

# sign, verify, mine
keypair = Keypair.generate()
event = Event.create(keypair, 1, "text", [("t", "x")], created_at=1_790_000_000)
event.check()
out["verify"] = [verify_many([event.signed()]), crypto.verify_signature(event.id, event.sig.hex()
                 if isinstance(event.sig, bytes) else event.sig, event.agent_id)]
mined = pow.mine(keypair, 0, "{}", (), 1_790_000_000)
pow.check(mined)
out["mined"] = pow.leading_zero_bits(mined.id) >= 12

# keys: made once, read again, sealed, exchanged for another
made = identity.load_or_create(folder / "keys/agent.priv")
out["key"] = identity.load_or_create(str(folder / "keys/agent.priv")).seed == made.seed
out["alone"] = sorted(path.name for path in (folder / "keys").iterdir())
out["resolve"] = identity.resolve({}).created, identity.resolve({}).created
keyfile._PASSES, keyfile._MEM_KIB = 1, 8
sealed = identity.load_or_create(folder / "keys/sealed", passphrase="correct horse")
opened = keyfile.read(folder / "keys/sealed", "correct horse")
out["sealed"] = keyfile.header(folder / "keys/sealed").form, opened.seed == sealed.seed
keyfile.replace_sealed(folder / "keys/sealed", "correct horse")
out["plain again"] = keyfile.header(folder / "keys/sealed").form
out["problems"] = keyfile.problems(folder / "keys/agent.priv")
try:
    keyfile.create(folder / "keys/sealed")
except keyfile.KeyFileExists:
    out["never replaced"] = keyfile.read(folder / "keys/sealed").seed == sealed.seed
following = identity.begin_rotation(folder / "keys/sealed")
retired = identity.finish_rotation(folder / "keys/sealed")
present = identity.load_or_create(folder / "keys/sealed")
out["rotated"] = present.seed == following.seed, keyfile.read(retired).seed == sealed.seed

# an agent of each kind
with Agent.load_or_create(folder / "keys/agent.priv", url, outbox=folder / "box/outbox.db") as agent:
    agent.ensure_profile(name="Portable")
    heard = agent.stream(topic="portable")
    sent = agent.post("Hello", topics=["portable"])
    out["post"], out["stream"] = sent["accepted"], next(heard)["id"] == sent["id"]
    heard.close()
    out["query"] = [event["content"] for event in agent.query(topic="portable", authors=[agent.agent_id])]
    out["many"] = [answer["accepted"] for answer in agent.publish_many([(1, "a"), (1, "b")])]
    agent.send_dm(agent.agent_id, "to myself")
    out["letters"] = [letter["text"] for letter in agent.read_dms()]
    out["drain"] = agent.drain()

# nobody there: it waits in the outbox, through another start
with Agent(keypair, "http://127.0.0.1:9", outbox=folder / "later.db", timeout=2) as away:
    queued = away.post("later")
    out["queued"] = [queued["accepted"], queued["queued"]]
box = Outbox(folder / "later.db")
out["kept"] = [one.event.content for one in box.undelivered()]
box.close()

async def main():
    async with AsyncAgent.load_or_create(folder / "keys/agent.priv", url) as agent:
        heard = agent.stream(topic="awaited")
        await heard.opened()
        sent = await agent.post("Hello", topics=["awaited"])
        same = (await anext(heard))["id"] == sent["id"]
        await heard.aclose()
        walked = [event async for event in agent.events(topic="awaited", authors=[agent.agent_id])]
        both = AsyncAgent(keypair, relay_urls=[url, url + "/api"], quorum=2)
        async with both:
            return same, walked == [sent["event"]], (await both.post("twice"))["accepted"]

out["awaited"] = asyncio.run(main())
with join(name="Portable Too", capabilities=["test.portable.v1"], relay_url=url) as joined:
    out["join"] = joined.has_recent_event(0)
out["home"] = sorted(path.name for path in (Path.home() / ".anporia").iterdir())
if SYSTEM != "here":
    out["asked for"] = sorted(Gone.asked)
print(json.dumps(out))
"""


@pytest.mark.parametrize("system", ["here", "win32", "darwin"])
def test_it_works_from_its_wheels(system: str, python: Path, url: str, tmp_path: Path) -> None:
    assert python.exists()
    env = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "PATH": ""}
    command = [str(python), "-I", "-W", "error", "-c", _ELSEWHERE + _IMPORT + _PROGRAM, system, url]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=_PATIENCE_S)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert said.pop("modules") > 30
    # "uvloop" would be a mistake of ours; the kernels are asked for, and done without
    assert set(said.pop("asked for", ["anporia_cython_ext"])) == {"anporia_cython_ext"}
    drained = said.pop("drain")
    assert (drained["sent"], drained["waiting"], drained["undelivered"]) == (0, 0, [])
    assert said == {
        "accelerated": False,
        "verify": [[True], True],
        "mined": True,
        "key": True,
        "alone": ["agent.priv"],
        "resolve": [True, False],
        "sealed": ["sealed", True],
        "plain again": "plain",
        "problems": [],
        "never replaced": True,
        "rotated": [True, True],
        "post": True,
        "stream": True,
        "query": ["Hello"],
        "many": [True, True],
        "letters": ["to myself"],
        "queued": [False, True],
        "kept": ["later"],
        "awaited": [True, True, True],
        "join": True,
        "home": ["key.priv", "portable_too.priv"],
    }


def test_nothing_else_was_installed(python: Path) -> None:
    """What the wheels ask for, and nothing that needs a compiler; neither the kernels nor store and relay."""
    program = "import importlib.metadata as m; print(*sorted(d.name.lower() for d in m.distributions()))"
    done = subprocess.run([python, "-I", "-c", program], capture_output=True, text=True, check=True)
    names = set(done.stdout.split())
    assert {"anporia-client", "anporia-wire"} <= names
    assert not names & {"anporia-cython-ext", "anporia-store", "anporia-relay", "uvloop", "cython"}
