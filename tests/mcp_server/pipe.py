"""The server as a program, and the bytes on its pipes: for what the SDK's client would not send or would not show."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.mcp_server.host import SERVER, environment

__all__ = ["CLIENT", "MODERN", "Pipe", "ended"]

MODERN = "2026-07-28"
CLIENT = {"name": "a test", "version": "1"}
_PATIENCE_S = 30.0


class Pipe:
    """A running server. `lines` is all that came on its standard output, `stderr` all that it said there."""

    def __init__(
        self,
        relay_url: str,
        home: Path,
        *args: str,
        env: Mapping[str, str] | None = None,
        program: list[str] | None = None,
    ) -> None:
        self.process = subprocess.Popen(
            [*(program or [str(SERVER)]), *args],
            env=environment(relay_url, home, env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.lines: list[bytes] = []
        self.notices: list[dict[str, Any]] = []
        self._said: list[bytes] = []
        self._answers: dict[Any, queue.Queue[dict[str, Any]]] = {}
        self._turn = threading.Lock()
        self._next = 0
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._drain)]
        for thread in self._threads:
            thread.start()

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return b"".join(self._said).decode()

    def send(self, message: Any) -> None:
        """Write a line; bytes stand as they are."""
        assert self.process.stdin is not None
        self.process.stdin.write(message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def ask(
        self, method: str, params: Mapping[str, Any] | None = None, *, modern: bool = False, id_: Any = None
    ) -> Any:
        """Send a request and give its id."""
        self._next += 1
        id_ = self._next if id_ is None else id_
        given = dict(params or {})
        if modern:
            given["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientInfo": CLIENT,
                "io.modelcontextprotocol/clientCapabilities": {},
            }
        self.send({"jsonrpc": "2.0", "id": id_, "method": method, "params": given})
        return id_

    def answer(self, id_: Any, seconds: float = _PATIENCE_S) -> dict[str, Any]:
        """Wait for the answer to a request."""
        try:
            return self._of(id_).get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"no answer to {id_!r}; stderr: {self.stderr}") from None

    def asked(self, method: str, params: Mapping[str, Any] | None = None, *, modern: bool = False) -> Any:
        """Send a request and give its result; an error fails the test."""
        answer = self.answer(self.ask(method, params, modern=modern))
        assert "result" in answer, answer
        return answer["result"]

    def initialize(self) -> Any:
        """Shake hands, as hosts of the old era do."""
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}
        result = self.asked("initialize", params)
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return result

    def call(self, tool: str, *, modern: bool = False, **arguments: Any) -> Any:
        """Call a tool; gives the structured answer, or the text of an error."""
        result = self.asked("tools/call", {"name": tool, "arguments": arguments}, modern=modern)
        return result["content"][0]["text"] if result.get("isError") else result["structuredContent"]

    def close(self, seconds: float = 5.0) -> int:
        """Close its standard input, as a host does that leaves; it must end in time. Gives the exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(5.0 if kind is None else 0.5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            if kind is None:
                raise
        finally:
            for thread in self._threads:
                thread.join(5)
            for stream in (self.process.stdout, self.process.stderr):
                if stream is not None:
                    stream.close()
        for line in self.lines if kind is None else ():
            message = json.loads(line)
            assert message["jsonrpc"] == "2.0", "standard output belongs to the protocol"

    def _of(self, id_: Any) -> queue.Queue[dict[str, Any]]:
        with self._turn:
            return self._answers.setdefault(id_, queue.Queue())

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            try:
                message = json.loads(line)
            except ValueError:
                continue  # the test fails on leaving
            if "method" in message:
                self.notices.append(message)
            elif "id" in message:
                self._of(message["id"]).put(message)

    def _drain(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._said.append(line)


def ended(
    relay_url: str, home: Path, *args: str, env: Mapping[str, str] | None = None, seconds: float = 30.0
) -> tuple[int, str]:
    """Run the server with nothing on its standard input; gives the exit code and what it said on standard error."""
    done = subprocess.run(
        [str(SERVER), *args],
        env=environment(relay_url, home, env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.stdout == "", "standard output belongs to the protocol"
    return done.returncode, done.stderr
