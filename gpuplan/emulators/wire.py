"""Emulators without a port: requests of this process end at a desk of emulators in the same process.

Tests and rehearsals open their accounts on it, so that a virtual clock decides how long anything takes.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

from gpuplan.core.ports import Clock, ProviderType
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.http import FLOW_SECONDS, Cut, Delivery, Flow, Request
from gpuplan.net.exchange import Lost, Outgoing, Response, Wire
from gpuplan.net.http_provider import HttpOpener


class InProcessWire:
    """A `net.exchange.Wire` whose far end is a desk of emulators."""

    def __init__(self, desk: Desk, clock: Clock) -> None:
        self._desk = desk
        self._clock = clock

    async def send(self, outgoing: Outgoing, timeout_seconds: float) -> Response:
        return (await self._send(outgoing, timeout_seconds))[0]

    async def _send(self, outgoing: Outgoing, timeout_seconds: float) -> tuple[Response, Flow | None]:
        # A turn of the loop for others, as a network would give them.
        await self._clock.sleep(0)
        delivery = self._desk.answer(_request(outgoing))
        if delivery.cut is Cut.HANG or delivery.delay_seconds >= timeout_seconds:
            await self._clock.sleep(timeout_seconds)
            raise Lost("no answer in time")
        if delivery.delay_seconds:
            await self._clock.sleep(delivery.delay_seconds)
        if delivery.cut is not Cut.NONE:
            raise Lost("the connection broke")
        return _response(delivery), delivery.response.flow

    @asynccontextmanager
    async def stream(
        self, outgoing: Outgoing, timeout_seconds: float
    ) -> AsyncIterator[tuple[Response, AsyncIterator[str]]]:
        response, flow = await self._send(outgoing, timeout_seconds)
        yield response, _lines(response, flow, self._clock)

    async def close(self) -> None:
        """Nothing is held open."""


def speaks_http(type: ProviderType) -> bool:
    """Whether accounts of this type can be opened on a wire."""
    return isinstance(type.open, HttpOpener)


def with_wire(type: ProviderType, wire: Wire) -> ProviderType:
    """The same provider type, its accounts opened on this wire."""
    assert isinstance(type.open, HttpOpener), f"{type.name} speaks no HTTP"
    return replace(type, open=type.open.through(wire))


def _request(outgoing: Outgoing) -> Request:
    url = urlsplit(outgoing.url)
    headers = {name.lower(): value for name, value in outgoing.headers.items()}
    return Request(outgoing.method, url.path, parse_qs(url.query, keep_blank_values=True), headers, outgoing.content)


def _response(delivery: Delivery) -> Response:
    response = delivery.response
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Response(response.status, {"content-type": response.content_type, **headers}, response.content)


async def _lines(response: Response, flow: Flow | None, clock: Clock) -> AsyncIterator[str]:
    for line in response.text.splitlines():
        yield line
    while flow is not None and (blocks := flow()) is not None:
        for line in b"".join(blocks).decode().splitlines():
            yield line
        await clock.sleep(FLOW_SECONDS)
