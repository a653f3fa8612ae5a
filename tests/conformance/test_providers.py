"""Every provider keeps the contract of `docs/adding-a-provider.md`."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gpuplan.core.capabilities import Capabilities, Idempotency, Lease
from gpuplan.core.desired import Kind
from gpuplan.core.values import Attrs
from gpuplan.testing.bench import Bench, Made
from gpuplan.testing.clock import FakeClock
from gpuplan.testing.conformance import ExposedConformance
from gpuplan.testing.contracts.local import LocalContract
from gpuplan.testing.memory import MemoryWorld, memory_provider
from gpuplan.testing.memory_capabilities import memory_capabilities

CONTRACT = Path(__file__).parents[2] / "docs" / "adding-a-provider.md"
LEASE = Lease(extendable=True, default_seconds=3600)


class TestLocal(LocalContract):
    """Its commands are run; the doubles below only write them down."""


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
