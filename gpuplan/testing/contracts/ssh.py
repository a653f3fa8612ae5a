"""What `ssh` is asked by the conformance kit: real shells on several machines, each behind a server of its own."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from gpuplan.core.desired import Kind
from gpuplan.core.observed import Status
from gpuplan.core.values import Attrs
from gpuplan.net.clock import SystemClock
from gpuplan.providers.ssh import PROVIDER
from gpuplan.testing.bench import Bench, Made
from gpuplan.testing.conformance import ExposedConformance, FiniteConformance
from gpuplan.testing.local import end_all_in, no_process_in
from gpuplan.testing.ssh_rig import H100, Rig

MACHINES = 3


class SshContract(FiniteConformance, ExposedConformance):
    provider_type = PROVIDER
    options: ClassVar = {"hosts": ["m0"]}
    asks: ClassVar = {
        Kind.NODE: {
            "command": "echo begin; exec sleep 1000",
            "env": {"A": "1"},
            "gpu": "H100-80GB-SXM:1",
            "restart": "never",
            "labels": {"team": "x"},
        }
    }
    changes: ClassVar = {
        Kind.NODE: {"command": ["sleep", "1001"], "env": {"A": "2"}, "labels": {"team": "y"}, "restart": "always"}
    }
    missing_id = "m0/aaaaaaaaaaaaaaaaaaaa"

    @contextmanager
    def open_bench(self, folder: Path) -> Iterator[Bench]:
        with asyncio.Runner() as runner:
            rig = Rig(folder)
            for number in range(MACHINES):
                runner.run(rig.add(f"m{number}", H100))
            try:
                yield Bench(
                    rig.open(),
                    SystemClock(),
                    runner.run,
                    asks=self.asks,
                    changes=self.changes,
                    missing_id=self.missing_id,
                )
                runner.run(no_process_in(folder, SystemClock()))
            finally:
                end_all_in(folder)
                runner.run(rig.close())

    async def fill(self, bench: Bench) -> Attrs:
        for _ in range(MACHINES):
            await bench.make(Kind.NODE)
        return {}

    async def vanish(self, bench: Bench, made: Made) -> None:
        # Somebody else who logs in to the same machines.
        await bench.until_gone(made.kind, made.remote_id)

    async def fail(self, bench: Bench, made: Made) -> None:
        pid = made.seen.facts["pid"]
        assert isinstance(pid, int)
        os.kill(pid, signal.SIGKILL)
        await bench.until(made, Status.FAILED)
