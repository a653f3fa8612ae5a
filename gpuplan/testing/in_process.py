"""Emulators without a port: the wire ends in the same process, and a `FakeClock` decides how long anything takes.

    account = InProcessAccount(PROVIDER)
    account.run(lambda provider: provider.health())

Hundreds of worlds a minute, for property tests, crash points and fault campaigns.
"""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from gpuplan.core.desired import ProviderBlock
from gpuplan.core.ports import Clock, OpenContext, Provider, ProviderType
from gpuplan.core.secret import Redactor
from gpuplan.core.values import JsonValue
from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.http import Cut, Delivery, Request
from gpuplan.emulators.world import World
from gpuplan.net.exchange import Lost, Outgoing, Response, Wire
from gpuplan.net.http_provider import HttpOpener
from gpuplan.testing.clock import FakeClock

T = TypeVar("T")

URL = "http://emulator.invalid"
"""The base URL to open providers with; no name of this domain is ever looked up."""


class InProcessWire:
    """A `net.exchange.Wire` whose far end is a desk of emulators."""

    def __init__(self, desk: Desk, clock: Clock) -> None:
        self._desk = desk
        self._clock = clock

    async def send(self, outgoing: Outgoing, timeout_seconds: float) -> Response:
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
        return _response(delivery)

    @asynccontextmanager
    async def stream(
        self, outgoing: Outgoing, timeout_seconds: float
    ) -> AsyncIterator[tuple[Response, AsyncIterator[str]]]:
        response = await self.send(outgoing, timeout_seconds)
        yield response, _lines(response)

    async def close(self) -> None:
        """Nothing is held open."""


class InProcessAccount:
    """A fresh world with one provider's emulator in it, and an account there."""

    def __init__(self, type: ProviderType, *, seed: int = 0, **knobs: JsonValue) -> None:
        self.clock = FakeClock(seed=seed)
        self.world = World(self.clock, seed=seed)
        self.world.knobs[type.name].update(knobs)
        self.desk = Desk(self.world, emulator_types([type.name]))
        self._type = with_wire(type, InProcessWire(self.desk, self.clock))

    def open(self, **options: JsonValue) -> Provider:
        """Only inside `run`: a provider belongs to the event loop it was opened in."""
        block = ProviderBlock(self._type.name, self._type.name, options, ())
        context = OpenContext(block, self.clock, {}, Redactor(), URL)
        return self._type.open(self._type.options.model_validate(options), context)

    def run(self, story: Callable[[Provider], Coroutine[Any, Any, T]], **options: JsonValue) -> T:
        """What a story of one open account returns, in virtual time."""

        async def told() -> T:
            provider = self.open(**options)
            try:
                return await story(provider)
            finally:
                await provider.close()

        return self.clock.run(told())


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


async def _lines(response: Response) -> AsyncIterator[str]:
    for line in response.text.splitlines():
        yield line
