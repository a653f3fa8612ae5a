"""What a provider finds while a plan is made, and what becomes of it."""

from pathlib import Path

import pytest

from gpuplan.core.address import Address
from gpuplan.core.diagnostics import At
from gpuplan.core.errors import PlanError
from gpuplan.core.plan import PlanOptions
from gpuplan.emulators.wire import InProcessWire, with_wire
from gpuplan.engine.outcome import Limits, Stop
from gpuplan.providers.kubernetes import PROVIDER
from gpuplan.testing.in_process import URL
from gpuplan.workflow.applying import Run, apply_project
from gpuplan.workflow.planning import Planned, plan_project
from gpuplan.workflow.project import Project
from tests.conformance.kubernetes_account import Cluster

SPEC = """\
version: 1
project: town
providers: {kubernetes: {}}
clusters:
  train: {provider: kubernetes, nodes: 2, gpu: "H100-80GB:8", image: "python:3.13", labels: {team: LABEL}}
"""


class Town:
    """A project whose one provider is an emulated cluster in this process."""

    def __init__(self, folder: Path) -> None:
        self.cluster = Cluster()
        kind = with_wire(PROVIDER, InProcessWire(self.cluster.desk, self.cluster.clock))
        self._folder = folder
        self.project = Project(folder, types={"kubernetes": kind}, emulator=URL, workspace="default-emulator")

    def write(self, **words: str) -> None:
        text = SPEC
        for old, new in {"LABEL": "research", **words}.items():
            text = text.replace(old, new)
        (self._folder / "gpuplan.yaml").write_text(text)

    def plan(self) -> Planned:
        clock = self.cluster.clock
        return clock.run(plan_project(self.project, PlanOptions(), clock=clock, emit=lambda event: None))

    def apply(self) -> None:
        async def approve(planned: Planned) -> bool:
            return True

        clock = self.cluster.clock
        run = Run(clock, lambda event: None, approve, Limits(), Stop())
        clock.run(apply_project(self.project, PlanOptions(), run))


@pytest.fixture
def town(tmp_path: Path) -> Town:
    town = Town(tmp_path)
    town.write()
    return town


def test_what_the_server_would_refuse_is_an_error_of_the_plan_at_its_place(town: Town) -> None:
    town.write(LABEL='"not a label!"')
    with pytest.raises(PlanError) as caught:
        town.plan()

    (found,) = caught.value.diagnostics
    assert "invalid-request" == found.id
    assert At(("clusters", "train"), key=True) == found.labels[0].where
    assert "this was only checked: nothing was done" in found.facts
    assert [] == town.cluster.world.ledger


def test_what_the_server_takes_is_planned_and_nothing_is_made(town: Town) -> None:
    planned = town.plan()

    assert [Address("clusters", "train")] == [operation.address for operation in planned.plan.operations]
    assert [] == town.cluster.world.ledger


def test_what_is_full_is_no_finding_while_something_else_goes(town: Town) -> None:
    quota = {
        "kind": "ResourceQuota",
        "apiVersion": "v1",
        "metadata": {"name": "gpus"},
        "spec": {"hard": {"requests.nvidia.com/gpu": "16"}},
    }
    town.cluster.asked("POST", "/api/v1/namespaces/default/resourcequotas", quota)
    town.apply()
    town.write(**{"nodes: 2": "nodes: 3"})
    with pytest.raises(PlanError) as caught:
        town.plan()
    town.write(train="other")

    assert "quota-exceeded" == caught.value.diagnostics[0].id
    assert 2 == len(town.plan().plan.operations)
