"""An account at an emulated RunPod in this process, and what its traps do with it."""

import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from gpuplan.core.desired import Kind, ProviderBlock
from gpuplan.core.observed import Observed
from gpuplan.core.ports import OpenContext
from gpuplan.core.secret import Redactor
from gpuplan.core.values import JsonValue, Value
from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.http import Json, Request
from gpuplan.emulators.world import World
from gpuplan.providers.runpod import PROVIDER, RunPod
from gpuplan.testing.bench import Bench, Made
from gpuplan.testing.clock import FakeClock
from gpuplan.testing.emulated import RecordingDesk
from gpuplan.testing.in_process import URL, InProcessWire, with_wire

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t ana@example.com"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1tGpBYoKq ben@example.com"
CARD = "NVIDIA GeForce RTX 4090"
ASKS: Mapping[Kind, Mapping[str, Value]] = {
    Kind.NODE: {"instance_type": CARD, "gpu": "RTX4090:1", "region": "EU-RO-1"},
    Kind.VOLUME: {"size_gb": 100, "region": "EU-RO-1"},
    Kind.SSH_KEY: {"public_key": KEY},
}


@dataclass(slots=True)
class Account:
    """An account at an emulator in this process."""

    provider: RunPod
    bench: Bench
    desk: RecordingDesk

    @property
    def world(self) -> World:
        return self.desk.world

    def turn(self, **knobs: JsonValue) -> None:
        self.world.knobs["runpod"].update(knobs)

    def sent(self, method: str, path: str) -> list[Json]:
        """The bodies of the requests that were sent there."""
        received = [exchange.request for exchange in self.desk.exchanges]
        return [each.json() for each in received if (each.method, each.path) == (method, f"/runpod/v2/{path}")]

    def console(self, method: str, path: str, body: Json | None = None) -> Json:
        """A call of the same account by somebody else."""
        content = json.dumps(body).encode() if body is not None else b""
        headers = {"authorization": "Bearer gpuplan-emulator"}
        answer = self.desk.answer(Request(method, f"/runpod/v2/{path}", headers=headers, content=content)).response
        assert isinstance(answer.body, dict), answer
        return answer.body

    async def get(self, made: Made) -> Observed:
        seen = await self.provider.get(made.kind, made.remote_id)
        assert seen is not None
        return seen

    async def refused(self, error: type[Exception], **attrs: Value) -> str:
        """Ask for a node that cannot be had; what the provider says."""
        want, mark = self.bench.ask(Kind.NODE, **attrs)
        with pytest.raises(error) as caught:
            await self.provider.create(want, mark, {})
        assert [] == [thing for thing in self.world.ledger if mark.token in thing.name]
        return str(getattr(caught.value, "failure").message)  # noqa: B009  of all provider errors


def open_account(**options: JsonValue) -> Account:
    clock = FakeClock()
    desk = RecordingDesk(World(clock), emulator_types(["runpod"]))
    type = with_wire(PROVIDER, InProcessWire(desk, clock))
    context = OpenContext(ProviderBlock("runpod", "runpod", {}, ()), clock, {}, Redactor(), URL)
    provider = type.open(type.options.model_validate(options), context)
    assert isinstance(provider, RunPod)
    return Account(provider, Bench(provider, clock, clock.run, ASKS), desk)


def in_virtual_time(body: Callable[[Account], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test with an account of its own."""

    def run() -> None:
        account = open_account()
        account.bench.run(body(account))

    run.__name__, run.__doc__ = body.__name__, body.__doc__
    return run
