"""Accounts at emulators without a port: the wire ends in the same process, and a `FakeClock` decides how long anything
takes.

    account = InProcessAccount(PROVIDER)
    account.run(lambda provider: provider.health())

Hundreds of worlds a minute, for property tests, crash points and fault campaigns.
"""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from gpuplan.core.desired import ProviderBlock
from gpuplan.core.ports import OpenContext, Provider, ProviderType
from gpuplan.core.secret import Redactor
from gpuplan.core.values import JsonValue
from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.wire import InProcessWire, with_wire
from gpuplan.emulators.world import World
from gpuplan.testing.clock import FakeClock

__all__ = ["URL", "InProcessAccount", "InProcessWire", "with_wire"]

T = TypeVar("T")

URL = "http://emulator.invalid"
"""The base URL to open providers with; no name of this domain is ever looked up."""


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
