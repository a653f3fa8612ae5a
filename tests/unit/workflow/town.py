"""A project whose one provider lives in memory, with a clock of its own: workflow from end to end without a network."""

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from gpuplan.core.events import Event
from gpuplan.core.plan import PlanOptions
from gpuplan.core.ports import ProviderType
from gpuplan.engine.outcome import Limits, Stop
from gpuplan.testing.clock import FakeClock
from gpuplan.testing.memory import MemoryWorld, memory_provider
from gpuplan.testing.memory_capabilities import memory_capabilities
from gpuplan.workflow.applying import Applied, Run, apply_project, apply_saved
from gpuplan.workflow.planning import Planned, Surveyed, find_project_drift, plan_project
from gpuplan.workflow.project import Project

T = TypeVar("T")

NORMAL = PlanOptions()

SPEC = """\
version: 1
project: town
variables:
  workers: {type: integer, default: 2}
  token: {type: string, sensitive: true, default: hunter2-hunter2}
providers:
  memory: {}
clusters:
  train: {provider: memory, nodes: "${vars.workers}", env: {TOKEN: "${vars.token}"}}
outputs:
  count: "${vars.workers}"
"""


class Options(BaseModel):
    pass


@dataclass
class Town:
    """The folder, the provider's world, and shortcuts to what commands do."""

    folder: Path
    clock: FakeClock = field(default_factory=FakeClock)
    events: list[Event] = field(default_factory=list)
    can: Mapping[str, Any] = field(default_factory=dict)
    """Capabilities of the provider that are not as they usually are."""

    def __post_init__(self) -> None:
        self.world = MemoryWorld(self.clock)
        self.write("gpuplan.yaml", SPEC)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def project(self, **changes: Any) -> Project:
        kind = ProviderType(
            name="memory",
            title="in memory",
            options=Options,
            capabilities=lambda options: memory_capabilities(**self.can),
            open=lambda options, context: memory_provider(
                self.world, context.block.name, memory_capabilities(**self.can) if self.can else None
            ),
        )
        return replace(Project(self.folder, types={"memory": kind}), **changes)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.clock.run(work)

    def plan(self, options: PlanOptions = NORMAL, **changes: Any) -> Planned:
        return self.run(plan_project(self.project(**changes), options, clock=self.clock, emit=self.events.append))

    def drift(self, **changes: Any) -> Surveyed:
        return self.run(find_project_drift(self.project(**changes), clock=self.clock, emit=self.events.append))

    def apply(self, options: PlanOptions = NORMAL, *, yes: bool = True, **changes: Any) -> Applied:
        return self.run(apply_project(self.project(**changes), options, self.orders(yes)))

    def apply_saved(self, text: str, limits: PlanOptions = NORMAL, **changes: Any) -> Applied:
        return self.run(apply_saved(self.project(**changes), text, limits, self.orders(True)))

    def orders(self, yes: bool) -> Run:
        async def approve(planned: Planned) -> bool:
            return yes

        return Run(self.clock, self.events.append, approve, Limits(), Stop())
