"""The HTTP library, behind one seam. Imported only once an account is really opened."""

import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache

import httpx

from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import GpuplanError
from gpuplan.net.exchange import Lost, NeverSent, Outgoing, Response, Socket
from gpuplan.net.tls import Line

_CONNECT_SECONDS = 10.0
_IDLE_SECONDS = 5.0
"""A connection idle for longer is not used again: the other side may be closing it, and a request that crosses its
farewell is lost without anyone knowing what became of it."""


@cache
def _certificates() -> ssl.SSLContext:
    """Loading them takes tens of milliseconds: once for all accounts."""
    return httpx.create_ssl_context()


class HttpxWire:
    """One pool of connections for one account; HTTP/2 where the provider speaks it."""

    def __init__(self, *, concurrency: int, is_local: bool = False, line: Line | None = None) -> None:
        """`is_local`: an emulator on this machine, reached past any proxy. `line`: where connections are not made as
        for everyone."""
        self._line = line or Line()
        self._is_local = is_local
        limits = httpx.Limits(
            max_connections=concurrency, max_keepalive_connections=concurrency, keepalive_expiry=_IDLE_SECONDS
        )
        self._client = httpx.AsyncClient(
            http2=not is_local,
            verify=False if is_local else self._line.tls or _certificates(),
            trust_env=not is_local,
            proxy=self._line.proxy,
            limits=limits,
            follow_redirects=False,
        )

    async def send(self, outgoing: Outgoing, timeout_seconds: float) -> Response:
        with _translated():
            response = await self._client.send(self._request(outgoing, timeout_seconds))
        return _response(response, response.content)

    @asynccontextmanager
    async def stream(
        self, outgoing: Outgoing, timeout_seconds: float
    ) -> AsyncIterator[tuple[Response, AsyncIterator[str]]]:
        with _translated():
            response = await self._client.send(self._request(outgoing, timeout_seconds), stream=True)
            try:
                content = b"" if response.is_success else await response.aread()
                yield _response(response, content), response.aiter_lines()
            finally:
                await response.aclose()

    @asynccontextmanager
    async def socket(
        self, outgoing: Outgoing, protocols: Sequence[str], timeout_seconds: float
    ) -> AsyncIterator[Socket | Response]:
        # Few who talk to a provider ever open one.
        try:
            from gpuplan.net.websocket import open_socket
        except ModuleNotFoundError as exc:
            raise _missing(exc.name or "") from exc
        trusting = open_socket(outgoing, protocols, timeout_seconds, line=self._line, trust_env=not self._is_local)
        async with trusting as opened:
            yield opened

    async def close(self) -> None:
        await self._client.aclose()

    def _request(self, outgoing: Outgoing, timeout_seconds: float) -> httpx.Request:
        timeout = httpx.Timeout(timeout_seconds, connect=min(_CONNECT_SECONDS, timeout_seconds))
        named = {"sni_hostname": self._line.server_name} if self._line.server_name else {}
        return httpx.Request(
            outgoing.method,
            outgoing.url,
            headers=dict(outgoing.headers),
            content=outgoing.content or None,
            extensions={"timeout": timeout.as_dict(), **named},
        )


def _missing(module: str) -> GpuplanError:
    found = Diagnostic(
        id="provider-extra-missing",
        summary="a WebSocket needs a package that is not installed",
        facts=(f"there is no module `{module}`",),
        hint="install it",
        commands=("pip install websockets",),
    )
    return GpuplanError(diagnostics=(found,))


def _response(response: httpx.Response, content: bytes) -> Response:
    return Response(response.status_code, {name.lower(): value for name, value in response.headers.items()}, content)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as exc:
        raise NeverSent(_said(exc, "no connection")) from exc
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as exc:
        raise NeverSent(_said(exc, "not a URL that can be asked")) from exc
    except httpx.TimeoutException as exc:
        raise Lost("no answer in time") from exc
    except (httpx.TransportError, httpx.DecodingError, httpx.StreamError) as exc:
        raise Lost(_said(exc, "the connection broke")) from exc


def _said(exc: Exception, otherwise: str) -> str:
    return str(exc) or otherwise
