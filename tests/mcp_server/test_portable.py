"""Where Claude Desktop runs: the server on stdio with the modules and calls gone that Windows and macOS do not have.

The SDK itself knows those systems and asks `sys.platform` when it is imported, so it is imported before.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import anporia_mcp_server
from tests.client.test_portable import _ELSEWHERE
from tests.mcp_server.pipe import Pipe
from tests.relays import RunningRelay

_OURS = Path(anporia_mcp_server.__file__).parent

_SDK = """
import anyio.to_thread, anyio.from_thread, click, cryptography.hazmat.primitives, mcp.server, mcp.server.stdio
import mcp.server.request_state, mcp.server.subscriptions, mcp.server.runner, mcp.server.transport_security
import pydantic, starlette.routing, tomllib, uuid, uvicorn.config, uvicorn.server, getpass, webbrowser
"""

# as in the client's own test, for our modules here
_SERVE = """
import importlib, os, pkgutil, sys
real = os.name, sys.platform
if SYSTEM != "here":
    sys.platform = SYSTEM
    os.name = "nt" if SYSTEM == "win32" else "posix"
try:
    import anporia_client, anporia_mcp_server, anporia_wire
    import anporia_mcp_server.server, anporia_mcp_server.tools
    # the commands beside serving are left out, as in the client's test: they have tests of their own
    modules = [found.name for package in (anporia_client, anporia_wire, anporia_mcp_server,
                                          anporia_mcp_server.server, anporia_mcp_server.tools)
               for found in pkgutil.iter_modules(package.__path__, package.__name__ + ".")
               if found.name not in ("anporia_client.cli", "anporia_mcp_server.__main__",
                                     "anporia_mcp_server.commands")]
    for name in modules:
        importlib.import_module(name)
finally:
    os.name, sys.platform = real

class View(type(sys)):
    def __init__(self, real, **other):
        super().__init__(real.__name__)
        self.__dict__.update(other, real=real)

    def __getattr__(self, name):
        return getattr(self.real, name)

if SYSTEM != "here":
    views = {"sys": View(sys, platform=SYSTEM), "os": View(os, name="nt" if SYSTEM == "win32" else "posix")}
    for module in map(sys.modules.get, modules):
        for name in views:
            if name in vars(module):
                setattr(module, name, views[name])
    assert "anporia_mcp_server.server.stdio" in modules
    print("asked for:", *sorted(Gone.asked), file=sys.stderr, flush=True)
sys.argv = ["anporia-mcp-server", *sys.argv[2:]]
from anporia_mcp_server.cli import main
main()
"""


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_it_serves_where_posix_has_no_say(open_relay: RunningRelay, tmp_path: Path, system: str) -> None:
    program = [sys.executable, "-I", "-W", "error", "-c", _SDK + _ELSEWHERE + _SERVE, system]
    with Pipe(open_relay.url, tmp_path, "--tools", "all", program=program) as pipe:
        pipe.initialize()
        stats = pipe.call("anporia_get_stats")
        posted = pipe.call("anporia_post", content="from elsewhere", topics=["portable"])
        assert posted["agent_id"] == stats["your_agent_id"]
        found = pipe.call("anporia_query", modern=True, authors=[stats["your_agent_id"]])
        assert [event["content"] for event in found["events"]] == ["from elsewhere"]
        heard = pipe.call("anporia_stream", topic="portable", wait_seconds=0)
        assert heard["next_cursor"]
        assert pipe.call("anporia_list_identities")["identities"][0]["agent_id"] == stats["your_agent_id"]
        spawned = pipe.call("anporia_spawn_agent", name="child", scope=[1])
        assert pipe.call("anporia_use_identity", agent=spawned["agent_id"])["agent_id"] == spawned["agent_id"]
        assert pipe.close() == 0
    assert "asked for: anporia_cython_ext" in pipe.stderr, "the kernels are done without; nothing else is asked for"
    assert "Traceback" not in pipe.stderr
    assert (tmp_path / ".anporia/key.priv").exists()


def test_only_one_folder_knows_the_sdk() -> None:
    knowing = set()
    for file in _OURS.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            if any(name.partition(".")[0] in ("mcp", "mcp_types") for name in names):
                knowing.add(file.relative_to(_OURS).parts[0])
    assert knowing == {"server"}
