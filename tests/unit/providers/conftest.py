"""One machine per test, which must end without a single process."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuplan.core.desired import Kind
from gpuplan.testing.local import LocalMachine, end_all_in


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[LocalMachine]:
    with asyncio.Runner() as runner:
        machine = LocalMachine(tmp_path / "registry", runner)
        try:
            yield machine
            for seen in runner.run(machine.open().list(Kind.NODE, frozenset())).objects:
                machine.delete(seen.remote_id)
            machine.until_no_process()
        finally:
            end_all_in(machine.root)
