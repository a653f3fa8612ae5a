"""A lab of machines for the tests of `ssh`, and shortcuts to what is done with them."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import Want
from gpuplan.core.values import Value
from gpuplan.net.clock import SystemClock
from gpuplan.providers.ssh import Ssh
from gpuplan.testing.ssh_rig import Machine, Rig

T = TypeVar("T")
_PATIENCE_SECONDS = 20


@dataclass
class Lab:
    rig: Rig
    runner: asyncio.Runner

    @property
    def folder(self) -> Path:
        return self.rig.folder

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def add(self, name: str, *gpus: str, **more: Any) -> Machine:
        return self.run(self.rig.add(name, *gpus, **more))

    def ask(self, workspace: str = "default", offer: Offer | None = None, **attrs: Value) -> tuple[Want, Mark]:
        address = Address("clusters", "train", None, 0)
        mark = Mark(self.rig.clock.token(), "project", workspace, "lineage", address)
        return Want(address, Kind.NODE, attrs, f"train-0-{mark.token[:6]}", offer), mark

    def create(self, ssh: Ssh, offer: Offer | None = None, **attrs: Value) -> Observed:
        return self.run(ssh.create(*self.ask("default", offer, **attrs), {}))

    def offers(self, ssh: Ssh) -> dict[str, Offer]:
        """By the name of the machine."""
        return {offer.host: offer for offer in self.run(ssh.offers(OfferQuery()))}

    def until(self, ssh: Ssh, remote_id: str, wanted: str) -> Observed:
        """Wait for a status."""

        async def wait() -> Observed:
            clock = SystemClock()
            deadline = clock.monotonic() + _PATIENCE_SECONDS
            while True:
                seen = await ssh.get(Kind.NODE, remote_id)
                if seen is not None and seen.status == wanted:
                    return seen
                assert clock.monotonic() < deadline, f"it is {seen}"
                await clock.sleep(0.05)

        return self.run(wait())

    def log(self, ssh: Ssh, remote_id: str, *, follow: bool = False) -> list[str]:
        async def read() -> list[str]:
            return [line async for line in ssh.logs(Kind.NODE, remote_id, follow=follow, tail=None)]

        return self.run(read())
