"""HTTP, through httpcore: this and `http_async.py` alone know it. None of its errors crosses their edge.

httpcore is what httpx stands on. Without the upper half a request costs half the CPU, a program has less to
import, and the network can be given deadlines: a relay that sends a byte now and then holds nobody for ever.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote_plus

import httpcore

from .address import Address
from .errors import (
    AgentClosed,
    BadAddress,
    BadAnswer,
    NoAnswer,
    ProxyTrouble,
    RelayError,
    RelayTimeout,
    RelayUnreachable,
)
from .transport import Auth, Request, Response

__all__ = ["Http"]

log = logging.getLogger("anporia.client")

MAX_REFUSAL = 64 * 1024
CONNECTIONS = 100  # at once to one relay, streams among them
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")  # the words behind it say more
KEPT_S = 30.0  # an idle connection; relays close theirs after 60 s (settled 15)


class Http:
    """Requests below one address, over connections that are kept open."""

    def __init__(self, url: str, auth: Auth | None) -> None:
        self._base = Wire(url, auth)
        self._network = _Deadlines()
        self._pool = httpcore.ConnectionPool(
            ssl_context=self._base.certificates(),
            proxy=self._base.proxy(),
            max_connections=CONNECTIONS,
            keepalive_expiry=KEPT_S,
            network_backend=self._network,
        )

    def send(self, request: Request, *, timeout: float) -> Response:
        """Send a request and read the whole answer."""
        self._base.check_open()
        with self._base.translated(), self._network.until(time.monotonic() + timeout):
            response = self._pool.handle_request(self._base.built(request, timeout))
            try:
                head = self._base.head(response)
                return self._whole(head, response.iter_stream(), request.most)
            finally:
                response.close()

    def open(self, request: Request, *, timeout: float, silence: float) -> HttpOpened:
        """Send a request and read the answer's head."""
        self._base.check_open()
        deadline = time.monotonic() + timeout
        with self._base.translated(), self._network.until(deadline):
            response = self._pool.handle_request(self._base.built(request, timeout, silence))
            try:
                head = self._base.head(response)
                if not is_success(head):
                    head = self._whole(head, response.iter_stream(), request.most)
            except BaseException:
                response.close()
                raise
        return HttpOpened(response, head, self._base, self._network, deadline)

    def close(self) -> None:
        """Close all connections."""
        self._base.closed = True
        self._pool.close()

    def _whole(self, head: Response, chunks: Iterable[bytes], most: int) -> Response:
        body = Body(head, self._base.url, most)
        for chunk in chunks:
            body.add(chunk)
        return body.response()


class HttpOpened:
    """An answer whose body is read as it comes."""

    def __init__(
        self, response: httpcore.Response, head: Response, base: Wire, network: _Deadlines, deadline: float
    ) -> None:
        self.head = head
        self._response = response
        self._base = base
        self._network = network
        self._deadline = deadline

    def chunks(self) -> Iterator[bytes]:
        """Give the body as it comes."""
        with self._base.translated():
            chunks = iter(self._response.iter_stream())
            with self._network.until(self._deadline):
                first = next(chunks, None)
            if first is not None:
                yield first
                yield from chunks

    def close(self) -> None:
        """End it; a thread that waits in `chunks` wakes up, since the socket says that nothing more comes."""
        stream = self._response.extensions.get("network_stream")
        connection = stream.get_extra_info("socket") if stream is not None else None
        if isinstance(connection, socket.socket):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        # the reading thread may be at it too
        with contextlib.suppress(httpcore.NetworkError, httpcore.ProtocolError, RuntimeError, OSError, ValueError):
            self._response.close()


class _Deadlines(httpcore.SyncBackend):
    """The network, where all that a call waits for ends at one time; httpcore's own timeouts are for each read."""

    def __init__(self) -> None:
        self._thread = threading.local()

    @contextlib.contextmanager
    def until(self, deadline: float) -> Iterator[None]:
        """Hold this thread's reads and writes to a deadline of the steady clock."""
        self._thread.deadline = deadline
        try:
            yield
        finally:
            self._thread.deadline = None

    def left(self, timeout: float | None) -> float | None:
        """Cut a timeout to what is left of the deadline."""
        deadline = getattr(self._thread, "deadline", None)
        if deadline is None:
            return timeout
        left: float = deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the answer did not end in time")
        return left if timeout is None else min(left, timeout)

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, *rest: Any, **more: Any) -> _Timed:
        """Connect to the first of the host's addresses that answers, all of them within what is left.

        Looking the addresses up is the system's, which has time limits of its own.
        """
        try:
            found = {info[4][0] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
        except OSError as exc:
            raise httpcore.ConnectError(str(exc)) from None
        last: Exception = httpcore.ConnectError("the host has no address")
        for address in sorted(map(str, found), key=lambda one: ":" in one):  # IPv4 first, which always has a route
            try:
                return _Timed(super().connect_tcp(address, port, self.left(timeout), *rest, **more), self)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                last = exc
        raise last


class _Timed(httpcore.NetworkStream):
    """A connection whose reads and writes end at the deadline of the thread that waits."""

    def __init__(self, stream: httpcore.NetworkStream, network: _Deadlines) -> None:
        self._stream = stream
        self._network = network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._network.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._network.left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> _Timed:
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, self._network.left(timeout)), self._network)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class Wire:
    """A relay's address, and what is sent to it with every request."""

    def __init__(self, url: str, auth: Auth | None) -> None:
        self.url = url
        self.closed = False
        self._address = address = Address.parse(url)
        self._host = address.host.encode()
        self._headers = [
            (b"host", address.authority.encode()),
            (b"user-agent", b"anporia-client"),
            (b"accept-encoding", b"identity"),
        ]
        if auth is not None:
            try:  # the environment may hold bytes that are no UTF-8: they go as they are
                pair = b64encode(f"{auth[0]}:{auth[1]}".encode("utf-8", "surrogateescape"))
            except UnicodeEncodeError:
                raise ValueError("auth holds characters that cannot be sent") from None
            self._headers.append((b"authorization", b"Basic " + pair))
            if address.scheme == "http" and not address.is_loopback:
                log.warning("the password for %s goes over the network unencrypted; use https", address.host)

    def check_open(self) -> None:
        """Raise `AgentClosed` once the transport was closed: the pool would open new connections for ever."""
        if self.closed:
            raise AgentClosed("the agent was closed", self.url)

    def built(self, request: Request, timeout: float, silence: float | None = None) -> httpcore.Request:
        """Put a request together. Raises `ValueError` for what no header can carry."""
        body = request.body or b""
        given = [(name.encode(), value.encode("latin-1")) for name, value in request.headers.items()]
        headers = [*self._headers, *given]
        if request.method != "GET":
            headers.append((b"content-length", str(len(body)).encode()))
        query = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in request.params.items())
        target = self._address.path + request.path + ("?" + query if query else "")
        address = self._address
        url = httpcore.URL(scheme=address.scheme, host=self._host, port=address.port, target=target)
        read = timeout if silence is None else silence
        # a little earlier than the whole: a connection that never came is another error than an answer that never did
        connect = timeout * 0.9
        limits = {"connect": connect, "pool": connect, "write": timeout, "read": read}
        return httpcore.Request(request.method, url, headers=headers, content=body, extensions={"timeout": limits})

    def head(self, response: Any) -> Response:
        """Read status and headers. Raises `BadAnswer`."""
        headers: dict[str, str] = {}
        for name, value in response.headers:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        if headers.get("content-encoding", "identity") != "identity":
            raise BadAnswer("the answer is compressed, which was not asked for", self.url)
        return Response(response.status, headers, b"")

    def certificates(self) -> Any:
        """Give what https needs to trust the relay, None for http: loading it takes 20 ms. Raises `BadAddress`."""
        if self._address.scheme == "http":
            return None
        import ssl

        named = {name: os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
        if not any(named.values()):
            return httpcore.default_ssl_context()
        try:
            return ssl.create_default_context(cafile=named["SSL_CERT_FILE"], capath=named["SSL_CERT_DIR"])
        except OSError as exc:
            detail = f"SSL_CERT_FILE or SSL_CERT_DIR cannot be used: {exc.strerror or type(exc).__name__}"
            raise BadAddress(detail, self.url, "Mend or unset that variable.") from None

    def proxy(self) -> httpcore.Proxy | None:
        """Find the proxy that the environment puts before the relay. Raises `ProxyTrouble`."""
        address = self._address
        if address.is_loopback or not _may_have_proxies():
            return None  # a proxy cannot reach our own machine for us
        from urllib.request import getproxies, proxy_bypass

        proxies = getproxies()
        through = proxies.get(address.scheme) or proxies.get("all")
        if not through or proxy_bypass(address.authority):
            return None
        if "://" not in through:
            through = "http://" + through
        try:
            scheme, _, rest = through.partition("://")
            user, at, place = rest.rpartition("@")
            if scheme not in ("http", "https", "socks5", "socks5h"):
                raise ValueError
            if scheme.startswith("socks") and find_spec("socksio") is None:
                advice = 'Install the extra for it: pip install "./client[socks]"'
                raise ProxyTrouble("the environment names a SOCKS proxy", self.url, advice)
            whole = Address.parse(f"http://{place}")
            name, _, password = user.partition(":")
            return httpcore.Proxy(
                httpcore.URL(scheme=scheme, host=whole.host, port=whole.port if ":" in place else None, target="/"),
                auth=(name, password) if at else None,
            )
        except (ValueError, BadAddress):
            detail = "HTTPS_PROXY, HTTP_PROXY or ALL_PROXY does not hold the address of a proxy"
            raise ProxyTrouble(detail, self.url) from None

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what httpcore and the system raise into our own errors."""
        try:
            yield
        except RelayError:
            raise
        except (httpcore.ConnectTimeout, httpcore.PoolTimeout):
            raise RelayUnreachable("could not connect in time", self.url) from None
        except httpcore.ConnectError as exc:
            raise self._no_connection(str(exc)) from None
        except httpcore.ProxyError as exc:
            raise ProxyTrouble(f"the proxy refused: {_shown(exc)}", self.url) from None
        except (httpcore.UnsupportedProtocol, httpcore.LocalProtocolError) as exc:
            raise RelayUnreachable(f"the request cannot be sent: {_shown(exc)}", self.url) from None
        except (httpcore.TimeoutException, TimeoutError):
            raise RelayTimeout("no answer in time", self.url) from None
        except httpcore.RemoteProtocolError as exc:
            if "without sending" in str(exc) or "incomplete" in str(exc):
                raise NoAnswer(f"the connection broke off: {_shown(exc)}", self.url) from None
            raise BadAnswer(f"the answer is not HTTP: {_shown(exc)}", self.url) from None
        except (httpcore.NetworkError, OSError, RuntimeError) as exc:
            raise NoAnswer(f"the connection broke off: {_shown(exc)}", self.url) from None

    def _no_connection(self, text: str) -> RelayUnreachable:
        if "CERTIFICATE_VERIFY_FAILED" in text:
            advice = "Nothing was sent. If the relay has a certificate of its own, name its CA in SSL_CERT_FILE."
            return RelayUnreachable("its certificate is not trusted", self.url, advice)
        if self.proxy() is not None:
            return ProxyTrouble(f"could not connect to the proxy: {_shown(text)}", self.url)
        return RelayUnreachable(f"could not connect: {_shown(text)}", self.url)


class Body:
    """The body of an answer, up to a limit."""

    def __init__(self, head: Response, url: str, most: int) -> None:
        self._head = head
        self._url = url
        self._limit = most if is_success(head) else min(most, MAX_REFUSAL)
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, chunk: bytes) -> None:
        """Take more of it. Raises `BadAnswer` when it is too much."""
        self._size += len(chunk)
        if self._size > self._limit:
            raise BadAnswer(f"the answer is larger than {self._limit} bytes", self._url)
        self._parts.append(chunk)

    def response(self) -> Response:
        """Give the answer, whole."""
        return Response(self._head.status, self._head.headers, b"".join(self._parts))


def is_success(head: Response) -> bool:
    """Say whether the answer is a yes."""
    return 200 <= head.status < 300


def _may_have_proxies() -> bool:
    """Say whether there is anything to look up: what looks it up is slow to import."""
    system = sys.platform in ("win32", "darwin")  # these have settings of their own besides the variables
    return system or any(name.lower().endswith("_proxy") for name in os.environ)


def _shown(text: object) -> str:
    # parts of it may be a stranger's: one line, printable, short
    whole = _ERRNO.sub("", str(text)) or type(text).__name__
    return "".join(c if c.isprintable() else " " for c in whole[:200])
