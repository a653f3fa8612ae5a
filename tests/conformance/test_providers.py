"""Every provider keeps the contract of `docs/adding-a-provider.md`."""

import asyncio
import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gpuplan.core.capabilities import Capabilities, Idempotency, Lease
from gpuplan.core.desired import Kind, ProviderBlock
from gpuplan.core.observed import Status
from gpuplan.core.ports import OpenContext
from gpuplan.core.secret import Redactor
from gpuplan.core.values import Attrs
from gpuplan.net.clock import SystemClock
from gpuplan.providers.registry import provider_types
from gpuplan.testing.bench import Bench, Made
from gpuplan.testing.clock import FakeClock
from gpuplan.testing.conformance import ExposedConformance, FiniteConformance
from gpuplan.testing.local import end_all_in, no_process_in
from gpuplan.testing.memory import MemoryWorld, memory_provider
from gpuplan.testing.memory_capabilities import memory_capabilities

CONTRACT = Path(__file__).parents[2] / "docs" / "adding-a-provider.md"
LEASE = Lease(extendable=True, default_seconds=3600)


class TestLocal(FiniteConformance, ExposedConformance):
    @contextmanager
    def open_bench(self, folder: Path) -> Iterator[Bench]:
        local = provider_types()["local"]
        options = local.options.model_validate({"root": str(folder), "inventory": [{"gpu": "H100-80GB", "count": 4}]})
        context = OpenContext(ProviderBlock("local", "local", {}, ()), SystemClock(), os.environ, Redactor())
        node: Attrs = {
            "command": "echo begin; exec sleep 1000",
            "env": {"A": "1"},
            "gpu": "H100-80GB:1",
            "restart": "never",
            "labels": {"team": "x"},
        }
        changes: Attrs = {"command": ["sleep", "1001"], "env": {"A": "2"}, "labels": {"team": "y"}, "restart": "always"}
        with asyncio.Runner() as runner:
            yield Bench(
                local.open(options, context),
                SystemClock(),
                runner.run,
                asks={Kind.NODE: node, Kind.VOLUME: {"size_gb": 1}},
                changes={Kind.NODE: changes, Kind.VOLUME: {"size_gb": 2}},
            )
            try:
                runner.run(no_process_in(folder, SystemClock()))
            finally:
                end_all_in(folder)

    async def fill(self, bench: Bench) -> Attrs:
        await bench.make(Kind.NODE, gpu="H100-80GB:3")
        return {"gpu": "H100-80GB:2"}

    async def vanish(self, bench: Bench, made: Made) -> None:
        # Another project of the same user, on the same registry.
        await bench.until_gone(made.kind, made.remote_id)

    async def fail(self, bench: Bench, made: Made) -> None:
        pid = made.seen.facts["pid"]
        assert isinstance(pid, int)
        os.kill(pid, signal.SIGKILL)
        await bench.until(made, Status.FAILED)


class MemoryConformance(ExposedConformance):
    """The double that the engine's tests trust keeps the same contract."""

    knobs: Mapping[str, Any] = MappingProxyType({})
    capabilities: Capabilities

    @contextmanager
    def open_bench(self, folder: Path) -> Iterator[Bench]:
        clock = FakeClock()
        world = MemoryWorld(clock, run_status=lambda command: 3, **self.knobs)
        nodes = self.capabilities.granularity
        node: Attrs = {"gpu": "H100-80GB:8", "image": "ubuntu", "labels": {"team": "x"}}
        yield Bench(
            memory_provider(world, capabilities=self.capabilities),
            clock,
            clock.run,
            asks={
                nodes: node,
                Kind.VOLUME: {"size_gb": 1, "region": "eu"},
                Kind.SSH_KEY: {"public_key": "ssh-ed25519 AAAA"},
                Kind.NETWORK: {"cidr": "10.0.0.0/8"},
            },
            changes={nodes: {"labels": {"team": "y"}}, Kind.VOLUME: {"size_gb": 2}, Kind.NETWORK: {"rules": []}},
            has_shell=False,
        )

    async def vanish(self, bench: Bench, made: Made) -> None:
        world(bench).vanish(made.remote_id)

    async def fail(self, bench: Bench, made: Made) -> None:
        world(bench).fail(made.remote_id)


def world(bench: Bench) -> MemoryWorld:
    found = getattr(bench.provider, "world", None)
    assert isinstance(found, MemoryWorld)
    return found


class TestMemory(MemoryConformance):
    capabilities = memory_capabilities(lease=LEASE)


class TestMemoryWithKeys(MemoryConformance):
    knobs = MappingProxyType({"boot_seconds": 30, "stop_seconds": 5})
    capabilities = memory_capabilities(lease=LEASE, idempotency=Idempotency.KEY)


class TestMemoryInGroups(MemoryConformance):
    capabilities = memory_capabilities(lease=LEASE, groups=True)


class TestMemoryWithLagAndSteps(MemoryConformance):
    knobs = MappingProxyType({"boot_seconds": 60, "delete_seconds": 2, "visibility_seconds": 20, "steps": 3})
    capabilities = memory_capabilities(lease=LEASE, visibility_delay_seconds=20, poll_interval_seconds=1)


def test_every_rule_of_the_contract_is_checked_and_every_check_is_a_rule() -> None:
    written = re.findall(r"^\| (\d+) \| .* \| `(test_rule_\w+)` \|$", CONTRACT.read_text(), re.MULTILINE)
    checks = sorted(name for name in dir(TestLocal) if name.startswith("test_rule_"))

    assert checks == sorted(name for _, name in written)
    assert [f"test_rule_{int(number):02}" for number, _ in written] == [name[:12] for _, name in written]
