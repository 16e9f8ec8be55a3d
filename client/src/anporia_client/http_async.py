"""HTTP for an event loop; the rules are those of `http_transport.py`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable

import httpcore

from .http_transport import CONNECTIONS, KEPT_S, Body, Wire, is_success
from .transport import Auth, Request, Response

__all__ = ["AsyncHttp"]


class AsyncHttp:
    """Requests below one address, over connections that are kept open."""

    def __init__(self, url: str, auth: Auth | None) -> None:
        self._base = Wire(url, auth)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=self._base.certificates(),
            proxy=self._base.proxy(),
            max_connections=CONNECTIONS,
            keepalive_expiry=KEPT_S,
        )

    async def send(self, request: Request, *, timeout: float) -> Response:
        """Send a request and read the whole answer."""
        self._base.check_open()
        with self._base.translated():
            async with asyncio.timeout(timeout):
                response = await self._pool.handle_async_request(self._base.built(request, timeout))
                try:
                    return await self._whole(self._base.head(response), response.aiter_stream(), request.most)
                finally:
                    await response.aclose()

    async def open(self, request: Request, *, timeout: float, silence: float) -> AsyncHttpOpened:
        """Send a request and read the answer's head."""
        self._base.check_open()
        deadline = asyncio.get_running_loop().time() + timeout
        with self._base.translated():
            async with asyncio.timeout_at(deadline):
                response = await self._pool.handle_async_request(self._base.built(request, timeout, silence))
                try:
                    head = self._base.head(response)
                    if not is_success(head):
                        head = await self._whole(head, response.aiter_stream(), request.most)
                except BaseException:
                    await response.aclose()
                    raise
        return AsyncHttpOpened(response, head, self._base, deadline)

    async def close(self) -> None:
        """Close all connections."""
        self._base.closed = True
        await self._pool.aclose()

    async def _whole(self, head: Response, chunks: AsyncIterable[bytes], most: int) -> Response:
        body = Body(head, self._base.url, most)
        async for chunk in chunks:
            body.add(chunk)
        return body.response()


class AsyncHttpOpened:
    """An answer whose body is read as it comes."""

    def __init__(self, response: httpcore.Response, head: Response, base: Wire, deadline: float) -> None:
        self.head = head
        self._response = response
        self._base = base
        self._deadline = deadline

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Give the body as it comes."""
        with self._base.translated():
            chunks = aiter(self._response.aiter_stream())
            async with asyncio.timeout_at(self._deadline):
                first = await anext(chunks, None)
            if first is None:
                return
            yield first
            async for chunk in chunks:
                yield chunk

    async def close(self) -> None:
        """End it."""
        with contextlib.suppress(httpcore.NetworkError, httpcore.ProtocolError, RuntimeError, OSError):
            await self._response.aclose()
