"""HTTP, through httpx: the one place that knows it. No error of httpx crosses this module's edge."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address
from urllib.request import getproxies, proxy_bypass

import httpx

from .errors import BadAddress, BadAnswer, NoAnswer, ProxyTrouble, RelayError, RelayTimeout, RelayUnreachable
from .transport import Auth, Request, Response

__all__ = ["AsyncHttp", "Http", "awaiting", "blocking"]

log = logging.getLogger("anporia.client")

_MAX_ANSWER = 256 * 1024 * 1024  # 1,000 events of the largest content, escaped, and some more
_MAX_REFUSAL = 64 * 1024
_HOSTS = ("all://127.0.0.1", "all://localhost", "all://[::1]")

_ADDRESS = "Use an address such as https://anporia.com/api"


def blocking(url: str, auth: Auth | None) -> Http:
    """Make a transport for plain calls. Raises `BadAddress`."""
    return Http(url, auth)


def awaiting(url: str, auth: Auth | None) -> AsyncHttp:
    """Make a transport for an event loop. Raises `BadAddress`."""
    return AsyncHttp(url, auth)


class Http:
    """Requests below one address, over connections that are kept open."""

    def __init__(self, url: str, auth: Auth | None) -> None:
        self._base = _checked(url, auth)
        # A proxy cannot reach our own machine for us.
        direct: dict[str, httpx.BaseTransport | None] = dict.fromkeys(_HOSTS)
        with _environment_errors(url):
            self._client = httpx.Client(auth=auth, follow_redirects=False, mounts=direct)

    def send(self, request: Request, *, timeout: float) -> Response:
        """Send a request and read the whole answer."""
        deadline = time.monotonic() + timeout
        with _translated(self._base):
            response = self._start(request, httpx.Timeout(timeout))
            try:
                body = b"".join(_within(response.iter_bytes(), deadline, _limit(response), self._base))
            finally:
                response.close()
        return _head(response, body)

    def open(self, request: Request, *, timeout: float, silence: float) -> HttpOpened:
        """Send a request and read the answer's head."""
        with _translated(self._base):
            response = self._start(request, httpx.Timeout(timeout, read=max(timeout, silence)))
            body = b""
            try:
                if not response.is_success:
                    deadline = time.monotonic() + timeout
                    body = b"".join(_within(response.iter_bytes(), deadline, _MAX_REFUSAL, self._base))
            except BaseException:
                response.close()
                raise
        return HttpOpened(response, body, self._base)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _start(self, request: Request, timeout: httpx.Timeout) -> httpx.Response:
        return self._client.send(_built(self._client, self._base, request, timeout), stream=True)


class HttpOpened:
    """An answer whose body is read as it comes."""

    def __init__(self, response: httpx.Response, body: bytes, base: str) -> None:
        self.head = _head(response, body)
        self._response = response
        self._base = base

    def chunks(self) -> Iterator[bytes]:
        """Give the body as it comes."""
        with _translated(self._base):
            yield from self._response.iter_bytes()

    def close(self) -> None:
        """End it; a thread that waits in `chunks` wakes up, since the socket says that nothing more comes."""
        stream = self._response.extensions.get("network_stream")
        connection = stream.get_extra_info("socket") if stream is not None else None
        if isinstance(connection, socket.socket):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(httpx.HTTPError, RuntimeError, OSError):  # the reading thread may be at it too
            self._response.close()


class AsyncHttp:
    """As `Http`, for an event loop."""

    def __init__(self, url: str, auth: Auth | None) -> None:
        self._base = _checked(url, auth)
        direct: dict[str, httpx.AsyncBaseTransport | None] = dict.fromkeys(_HOSTS)
        with _environment_errors(url):
            self._client = httpx.AsyncClient(auth=auth, follow_redirects=False, mounts=direct)

    async def send(self, request: Request, *, timeout: float) -> Response:
        """Send a request and read the whole answer."""
        with _translated(self._base):
            async with asyncio.timeout(timeout):
                response = await self._start(request, httpx.Timeout(timeout))
                try:
                    body = await _whole(response, _limit(response), self._base)
                finally:
                    await response.aclose()
        return _head(response, body)

    async def open(self, request: Request, *, timeout: float, silence: float) -> AsyncHttpOpened:
        """Send a request and read the answer's head."""
        with _translated(self._base):
            async with asyncio.timeout(timeout):
                response = await self._start(request, httpx.Timeout(timeout, read=max(timeout, silence)))
                body = b""
                try:
                    if not response.is_success:
                        body = await _whole(response, _MAX_REFUSAL, self._base)
                except BaseException:
                    await response.aclose()
                    raise
        return AsyncHttpOpened(response, body, self._base)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _start(self, request: Request, timeout: httpx.Timeout) -> httpx.Response:
        return await self._client.send(_built(self._client, self._base, request, timeout), stream=True)


class AsyncHttpOpened:
    """As `HttpOpened`, for an event loop."""

    def __init__(self, response: httpx.Response, body: bytes, base: str) -> None:
        self.head = _head(response, body)
        self._response = response
        self._base = base

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give the body as it comes."""
        with _translated(self._base):
            async for chunk in self._response.aiter_bytes():
                yield chunk

    async def close(self) -> None:
        """End it."""
        with contextlib.suppress(httpx.HTTPError, RuntimeError, OSError):
            await self._response.aclose()


def _checked(url: str, auth: Auth | None) -> str:
    """Hold a relay's address against the rules; gives it without a slash at the end. Raises `BadAddress`."""
    # an address that does not parse may hold a password: the text must not repeat it
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise BadAddress("relay_url is not an address", advice=_ADDRESS) from None
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment:
        raise BadAddress("relay_url is not an address of a relay", advice=_ADDRESS)
    if parsed.userinfo:
        raise BadAddress("relay_url must not hold a password", advice="Give auth=(user, password) instead.")
    if auth is not None and parsed.scheme == "http" and not _is_loopback(parsed.host):
        log.warning("the password for %s goes over the network unencrypted; use https", parsed.host)
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _built(
    client: httpx.Client | httpx.AsyncClient, base: str, request: Request, timeout: httpx.Timeout
) -> httpx.Request:
    return client.build_request(
        request.method,
        base + request.path,
        params=dict(request.params) or None,
        headers=dict(request.headers),
        content=request.body,
        timeout=timeout,
    )


def _head(response: httpx.Response, body: bytes) -> Response:
    return Response(response.status_code, response.headers, body)


def _limit(response: httpx.Response) -> int:
    return _MAX_ANSWER if response.is_success else _MAX_REFUSAL


def _within(chunks: Iterator[bytes], deadline: float, limit: int, base: str) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise BadAnswer(f"the answer is larger than {limit} bytes", base)
        if time.monotonic() > deadline:  # a relay that sends a byte now and then must not hold us for ever
            raise RelayTimeout("the answer did not end in time", base)
        yield chunk


async def _whole(response: httpx.Response, limit: int, base: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > limit:
            raise BadAnswer(f"the answer is larger than {limit} bytes", base)
        parts.append(chunk)
    return b"".join(parts)


@contextlib.contextmanager
def _translated(base: str) -> Iterator[None]:
    """Turn what httpx and the loop raise into our own errors."""
    try:
        yield
    except RelayError:
        raise
    except httpx.HTTPError as exc:
        raise _meaning(exc, base) from None
    except httpx.StreamError:  # closed by us, in another thread
        raise NoAnswer("the connection was closed", base) from None
    except TimeoutError:
        raise RelayTimeout("no answer in time", base) from None
    except (OSError, RuntimeError) as exc:  # a socket closed under a reading thread; a closed client
        raise NoAnswer(f"the connection broke off: {_text(exc)}", base) from None


def _meaning(exc: httpx.HTTPError, base: str) -> RelayError:
    match exc:
        case httpx.ProxyError():
            return ProxyTrouble(f"the proxy refused: {_text(exc)}", base)
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            return RelayUnreachable("could not connect in time", base)
        case httpx.ConnectError() if "CERTIFICATE_VERIFY_FAILED" in str(exc):
            advice = "Nothing was sent. If the relay has a certificate of its own, name its CA in SSL_CERT_FILE."
            return RelayUnreachable("its certificate is not trusted", base, advice)
        case httpx.ConnectError() if _proxied(base):
            return ProxyTrouble(f"could not connect to the proxy: {_text(exc)}", base)
        case httpx.ConnectError():
            return RelayUnreachable(f"could not connect: {_text(exc)}", base)
        case httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
            return RelayUnreachable(f"the request cannot be sent: {_text(exc)}", base)
        case httpx.TimeoutException():
            return RelayTimeout("no answer in time", base)
        case httpx.RemoteProtocolError() if "without sending" not in str(exc) and "incomplete" not in str(exc):
            return BadAnswer(f"the answer is not HTTP: {_text(exc)}", base)
        case httpx.DecodingError():
            return BadAnswer("the answer's compression is damaged", base)
        case _:
            return NoAnswer(f"the connection broke off: {_text(exc)}", base)


def _proxied(base: str) -> bool:
    """Say whether the environment puts a proxy before the relay: then it is the proxy that we connect to."""
    url = httpx.URL(base)
    proxies = getproxies()
    through = proxies.get(url.scheme) or proxies.get("all")
    return bool(through) and not _is_loopback(url.host) and not proxy_bypass(url.host)


def _text(exc: Exception) -> str:
    # parts of it may be a stranger's: one line, printable, short
    text = str(exc) or type(exc).__name__
    return "".join(c if c.isprintable() else " " for c in text[:200])


@contextlib.contextmanager
def _environment_errors(url: str) -> Iterator[None]:
    """Name the variable that is wrong, instead of what httpx makes of it."""
    try:
        yield
    except (ValueError, TypeError, httpx.InvalidURL, ImportError):
        raise ProxyTrouble("HTTPS_PROXY, HTTP_PROXY, ALL_PROXY or NO_PROXY cannot be used as it is", url) from None
    except OSError as exc:
        detail = f"SSL_CERT_FILE or SSL_CERT_DIR cannot be used: {exc.strerror or type(exc).__name__}"
        raise BadAddress(detail, url, "Mend or unset that variable.") from None
