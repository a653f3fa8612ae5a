"""One trial of the fault campaign with real processes: a command is ended by SIGKILL, and the next one goes on.

Called by `bench.campaign`; what `bench.trial` does at every await of one process, this does to the whole of it.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.trial import NODES, Tally, Wrong, known_by, whose
from gpuplan.core.state import State
from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.control import ledger
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.faults import Fault, FaultKind
from gpuplan.emulators.http import Json
from gpuplan.emulators.serve import serving
from gpuplan.emulators.world import World
from gpuplan.net.clock import SystemClock
from gpuplan.state.backends.local import LocalBackend
from gpuplan.state.session import read_state
from gpuplan.testing.conformance import ProviderConformance
from gpuplan.testing.specs import crowded_knobs, sample_spec
from gpuplan.workflow.project import emulated_workspace

SPEED = 60.0
"""Of the emulator, and so of whoever waits there."""
_MOST_SECONDS = 1.5
"""A process that is to be killed is dead by then."""
_PATIENCE_SECONDS = 120
_APPLIES_TO_CONVERGE = 4


class KilledTrial:
    """`folder` is empty and the trial's own."""

    def __init__(self, contract: type[ProviderConformance], folder: Path, seed: int) -> None:
        self._chance = random.Random(seed)
        self._folder = folder
        self._name = contract.provider_type.name
        self._kinds = {str(kind) for kind in contract.asks}
        self._world = World(SystemClock(), seed=seed)
        self._world.time.set_speed(SPEED)
        self._world.knobs[self._name].update(crowded_knobs(contract, NODES))
        self._world.knobs[self._name]["rate_limited"] = False
        self._desk = Desk(self._world, emulator_types([self._name]))
        (folder / "gpuplan.yaml").write_text(sample_spec([contract], nodes=NODES), encoding="utf-8")
        self.tally = Tally()

    def run(self) -> Tally:
        """Raises Wrong."""
        with serving(self._desk) as url:
            with self._faults():
                self._killed(url, "apply")
            self._until_done(url, "apply")
            state = self._state()
            assert state is not None
            found = [whose(row, state) for row in self._living()]
            if len(set(found)) != len(found) or set(found) != state.instances.keys():
                raise Wrong(f"the ledger has {found}, the state has {list(state.instances)}")
            with self._faults():
                self._killed(url, "destroy")
            self._until_done(url, "destroy")
            if left := [(row["kind"], row["id"]) for row in self._living()]:
                raise Wrong(f"left after destroy: {left}")
        self.tally.objects = len(self._world.ledger)
        return self.tally

    def _killed(self, url: str, verb: str) -> None:
        """Run a command, and kill it somewhere on its way unless it is done before."""
        with self._command(url, verb) as process:
            deadline = time.monotonic() + _MOST_SECONDS * self._chance.random()
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                self.tally.killed += 1
            process.wait(_PATIENCE_SECONDS)
        if verb == "apply":
            self.tally.applies += 1
        else:
            self.tally.destroys += 1
        self._nothing_is_lost()

    def _until_done(self, url: str, verb: str) -> None:
        """In calm, to the end."""
        for _ in range(_APPLIES_TO_CONVERGE):
            with self._command(url, verb) as process:
                status = process.wait(_PATIENCE_SECONDS)
            self._nothing_is_lost()
            if status == 0:
                return
        raise Wrong(f"`{verb}` does not come to its end in calm: {(self._folder / 'output').read_text()[-2000:]}")

    @contextmanager
    def _command(self, url: str, verb: str) -> Iterator["subprocess.Popen[bytes]"]:
        environ = {"PATH": os.environ["PATH"], "HOME": str(self._folder), "GPUPLAN_EMULATOR": url}
        with (self._folder / "output").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "gpuplan", verb, "--auto-approve"],
                cwd=self._folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        kinds = [FaultKind.STATUS, FaultKind.STATUS_AFTER, FaultKind.DROP, FaultKind.DROP_AFTER, FaultKind.TRUNCATE]
        faults = [Fault(self._chance.choice(kinds), times=None, probability=0.1, status=503) for _ in range(2)]
        self._world.faults.extend(faults)
        try:
            yield
        finally:
            self._world.faults.clear()

    def _nothing_is_lost(self) -> None:
        known = known_by(self._state())
        lost = [row for row in self._living() if str(row["id"]) not in known and str(row["token"]) not in known]
        if lost:
            raise Wrong(f"lost: {[(row['kind'], row['id'], row['token']) for row in lost]}")

    def _living(self) -> list[Json]:
        rows = ledger(self._world, self._desk.types, self._name)
        return [row for row in rows if row["deleted_at"] is None and (row["token"] or row["kind"] in self._kinds)]

    def _state(self) -> State | None:
        import asyncio

        backend = LocalBackend(self._folder / "state", emulated_workspace("default"), SystemClock())
        return asyncio.run(read_state(backend))
