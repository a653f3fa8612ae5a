"""What the conformance kit asks of `acme`."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from gpuplan.core.desired import Kind, ProviderBlock
from gpuplan.core.ports import OpenContext
from gpuplan.core.secret import Redactor
from gpuplan.net.clock import SystemClock
from gpuplan.testing.bench import Bench
from gpuplan.testing.conformance import ProviderConformance
from gpuplan_acme import PROVIDER


class AcmeContract(ProviderConformance):
    provider_type = PROVIDER
    options: ClassVar = {"folder": "/nowhere"}
    asks: ClassVar = {Kind.NODE: {"image": "ubuntu:24.04", "labels": {"team": "research"}}}

    @contextmanager
    def open_bench(self, folder: Path) -> Iterator[Bench]:
        options = PROVIDER.options.model_validate({"folder": str(folder)})
        clock = SystemClock()
        context = OpenContext(ProviderBlock("acme", "acme", {}, ()), clock, {}, Redactor())
        with asyncio.Runner() as runner:
            yield Bench(PROVIDER.open(options, context), clock, runner.run, asks=self.asks)
