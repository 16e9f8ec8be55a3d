"""What a host says to an MCP server, as bare lines: over standard input, and over HTTP; no SDK in between."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

__all__ = ["HttpHost", "StdioHost", "paced"]

_WAIT_S = 60.0
_HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
_MODERN = "2026-07-28"
# every request of the new era says all of this, since there is no handshake
_ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": _MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


class StdioHost:
    """Starts a server and speaks the old era with it, or asks the new one's first question. Times are seconds."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command, self._environment = command, dict(environment)
        self._number = 0
        self.received = 0
        """Bytes of the last answer."""

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(_WAIT_S)
        self._process.stdout.close()

    @property
    def since_start(self) -> float:
        """How long ago the program was started."""
        return time.perf_counter() - self._started

    @property
    def resident(self) -> float:
        """Megabytes in memory."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if "VmRSS" in line).split()[1]) / 1024

    def initialize(self) -> None:
        """Shake hands."""
        self.ask("initialize", _HELLO)
        self._send({"method": "notifications/initialized"})

    def discover(self) -> None:
        """Ask what a host of the new era asks first."""
        self.ask("server/discover", {"_meta": _ENVELOPE})

    def call(self, tool: str, arguments: Mapping[str, Any]) -> Any:
        """Call a tool that must succeed."""
        return _checked(self.ask("tools/call", {"name": tool, "arguments": arguments}))

    def ask(self, method: str, params: Mapping[str, Any]) -> Any:
        """Send a request; gives its result."""
        assert self._process.stdout is not None
        self._number += 1
        self._send({"id": self._number, "method": method, "params": params})
        while True:
            line = self._process.stdout.readline()
            if not line:
                raise RuntimeError(f"{self._command[0]} ended")
            message = json.loads(line)
            if message.get("id") == self._number:
                self.received = len(line)
                return message["result"]

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self._process.stdin.flush()


class HttpHost:
    """Calls tools of a server at `url` on one kept connection, in the new era."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._path = parts.path
        self._connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=_WAIT_S)
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def call(self, tool: str, arguments: Mapping[str, Any]) -> Any:
        """Call a tool that must succeed."""
        self._number += 1
        params = {"name": tool, "arguments": arguments, "_meta": _ENVELOPE}
        body = {"jsonrpc": "2.0", "id": self._number, "method": "tools/call", "params": params}
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": _MODERN,
            "Mcp-Method": "tools/call",
            "Mcp-Name": tool,
        }
        self._connection.request("POST", self._path, json.dumps(body), headers)
        answer = self._connection.getresponse()
        said = answer.read().decode()
        if answer.status != 200:
            raise RuntimeError(f"HTTP {answer.status}: {said[:200]}")
        if "event-stream" in str(answer.headers["content-type"]):
            said = next(line[5:] for line in said.splitlines() if line.startswith("data:") and '"id"' in line)
        return _checked(json.loads(said)["result"])


def paced(call: Callable[[], Any], count: int) -> list[float]:
    """Call one after the other; gives the milliseconds each took."""
    took = []
    for _ in range(count):
        started = time.perf_counter()
        call()
        took.append((time.perf_counter() - started) * 1e3)
    return took


def _checked(result: Any) -> Any:
    if result.get("isError"):
        raise RuntimeError(str(result["content"][0]["text"]))
    return result
