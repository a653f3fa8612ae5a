"""Each shortcut that looks harmless and loses or doubles a node makes the world machine fail.

One seed here; `GPUPLAN_MUTANT_SEEDS=3` runs more in a row.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.mutant import NOTICED

ROOT = Path(__file__).parent.parent.parent
SEEDS = int(os.environ.get("GPUPLAN_MUTANT_SEEDS", "1"))
EXAMPLES = 1500


class Mutant(NamedTuple):
    module: str
    old: str
    new: str


MUTANTS = {
    "no record between create and readiness": Mutant(
        "gpuplan.engine.creation",
        "await run.write(Noted(address, found(planned, observed, Phase.PENDING)))",
        "run._ledger._ahead.fold(Noted(address, found(planned, observed, Phase.PENDING)))",
    ),
    "a request leaves before its intent is on the disk": Mutant(
        "gpuplan.engine.run",
        "await self._ledger.write(Begun(intent))",
        "self._ledger.submit(Begun(intent))",
    ),
    "repeat POST after a timeout": Mutant(
        "gpuplan.net.transport",
        "return call.is_repeatable",
        "return True",
    ),
    "500 on POST taken as not done": Mutant(
        "gpuplan.net.classify",
        "return Unavailable if effect is Effect.NONE else OutcomeUnknown",
        "return Unavailable",
    ),
    "a timeout taken as not done": Mutant(
        "gpuplan.net.transport",
        "in_doubt = isinstance(exc, Lost) and call.effect is not Effect.NONE",
        "in_doubt = False",
    ),
    "recover does not wait for visibility": Mutant(
        "gpuplan.engine.recover",
        "await self._clock.sleep(self._until_visible(missing, self._provider.capabilities))",
        "pass",
    ),
    "refresh believes a list": Mutant(
        "gpuplan.engine.refresh",
        "await together(self._get(recorded) for recorded in self._not_found(records, seen))",
        "self._findings.instances.update((r.address, None) for r in self._not_found(records, seen))",
    ),
}


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("name", MUTANTS)
def test_shortcut_is_noticed(name: str, seed: int) -> None:
    mutant = MUTANTS[name]

    run = subprocess.run(
        [sys.executable, "-m", "tests.faults.mutant", *mutant, str(seed), str(EXAMPLES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )

    assert run.returncode == NOTICED, run.stdout + run.stderr
