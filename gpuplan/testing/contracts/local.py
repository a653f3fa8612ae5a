"""What `local` is asked by the conformance kit: real processes on this machine, in a registry of the check's own."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from gpuplan.core.desired import Kind, ProviderBlock
from gpuplan.core.observed import Status
from gpuplan.core.ports import OpenContext
from gpuplan.core.secret import Redactor
from gpuplan.core.values import Attrs
from gpuplan.net.clock import SystemClock
from gpuplan.providers.local import PROVIDER
from gpuplan.testing.bench import Bench, Made
from gpuplan.testing.conformance import ExposedConformance, FiniteConformance
from gpuplan.testing.local import end_all_in, no_process_in


class LocalContract(FiniteConformance, ExposedConformance):
    provider_type = PROVIDER
    asks: ClassVar = {
        Kind.NODE: {
            "command": "echo begin; exec sleep 1000",
            "env": {"A": "1"},
            "gpu": "H100-80GB:1",
            "restart": "never",
            "labels": {"team": "x"},
        },
        Kind.VOLUME: {"size_gb": 1},
    }
    changes: ClassVar = {
        Kind.NODE: {"command": ["sleep", "1001"], "env": {"A": "2"}, "labels": {"team": "y"}, "restart": "always"},
        Kind.VOLUME: {"size_gb": 2},
    }

    @contextmanager
    def open_bench(self, folder: Path) -> Iterator[Bench]:
        inventory = [{"gpu": "H100-80GB", "count": 4}]
        options = PROVIDER.options.model_validate({"root": str(folder), "inventory": inventory})
        context = OpenContext(ProviderBlock("local", "local", {}, ()), SystemClock(), os.environ, Redactor())
        with asyncio.Runner() as runner:
            yield Bench(
                PROVIDER.open(options, context), SystemClock(), runner.run, asks=self.asks, changes=self.changes
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
