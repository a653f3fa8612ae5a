"""`python -m bench.calls`: how many API calls it takes to bring up, look at and remove a thousand nodes, by provider
type, and the table of it in `docs/performance.md`.

Counted are the calls that the emulators received. CI asserts the same of a hundred nodes: `tests/campaign`.
"""

import argparse
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

from bench.campaign import campaign_types
from bench.mortal import Life, MortalBackend
from bench.sections import put_section
from bench.trial import START, agree
from gpuplan.core.desired import Kind, ProviderBlock
from gpuplan.core.plan import Mode, PlanOptions
from gpuplan.core.ports import OpenContext, ProviderType
from gpuplan.core.secret import Redactor
from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.wire import InProcessWire, with_wire
from gpuplan.emulators.world import Visit, World
from gpuplan.engine.outcome import Limits, RunOutcome, Stop
from gpuplan.net.virtual_clock import VirtualClock
from gpuplan.state.backends.memory import MemoryStore
from gpuplan.testing.catalog import contract
from gpuplan.testing.conformance import ProviderConformance
from gpuplan.testing.specs import crowded_knobs, sample_spec
from gpuplan.workflow.applying import Run, apply_project
from gpuplan.workflow.project import Project, emulated_workspace

SECTION = "calls"
NODES = 1_000
FIRST_LOOKS = 8
"""Before the first interval is over it is looked a few times, ever less often; and the plan looks once."""
_MOST_RUNS = 10
_URL = "http://emulator.invalid"


@dataclass(frozen=True, slots=True)
class Counted:
    """Calls of one type. `pages` are those of one listing of all nodes, over all collections they are spread over; 0
    collections: all calls go to one address, and cannot be told apart."""

    type: str
    nodes: int
    is_group: bool
    page_size: int
    collections: int
    interval_seconds: float
    pages: int
    refresh: int
    """All calls of a plan that finds nothing to do, the pages among them."""
    creates: int
    refused: int
    """Creates that were sent away for coming too fast."""
    up_seconds: float
    look_pages: int
    """Pages of listings of nodes while they came up."""
    gets: int
    """Looks at a single node meanwhile."""
    deletes: int
    confirms: int
    """Looks at single objects while they went."""
    destroys: int
    """Runs it took until all of them were gone."""

    @property
    def promised_pages(self) -> int:
        return max(1, ceil(self.nodes / self.page_size)) * self.collections

    @property
    def promised_look_pages(self) -> int:
        """One listing per interval. While few nodes are there, it has fewer pages."""
        return (ceil(self.up_seconds / self.interval_seconds) + FIRST_LOOKS) * self.promised_pages


@dataclass
class _Town:
    """One type's emulator in process, and a user who applies the sample spec there."""

    tried: type[ProviderConformance]
    nodes: int
    folder: Path
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(START))
    store: MemoryStore = field(default_factory=MemoryStore)

    def __post_init__(self) -> None:
        self.name = self.tried.provider_type.name
        self.world = World(self.clock)
        self.world.knobs[self.name].update(crowded_knobs(self.tried, self.nodes))
        self.wire = InProcessWire(Desk(self.world, emulator_types([self.name])), self.clock)
        (self.folder / "gpuplan.yaml").write_text(sample_spec([self.tried], nodes=self.nodes), encoding="utf-8")

    @property
    def type(self) -> ProviderType:
        return with_wire(self.tried.provider_type, self.wire)

    def command(self, mode: Mode) -> list[Visit]:
        """The calls of one command, in their order."""
        self.world.visits.clear()
        project = Project(
            folder=self.folder,
            workspace=emulated_workspace("default"),
            types={self.name: self.type},
            emulator=_URL,
            backend=lambda clock: MortalBackend(clock, self.store, Life()),
        )
        run = Run(self.clock, lambda event: None, agree, Limits(), Stop())
        applied = self.clock.run(apply_project(project, PlanOptions(mode=mode), run))
        outcome = applied.outcome
        assert isinstance(outcome, RunOutcome)
        self.is_complete = outcome.complete
        return list(self.world.visits)

    def commands(self, mode: Mode) -> tuple[list[Visit], int]:
        """The calls of as many runs of a command as it takes, and how many that are."""
        visits: list[Visit] = []
        for number in range(1, _MOST_RUNS + 1):
            visits += self.command(mode)
            if self.is_complete:
                return visits, number
        raise RuntimeError(f"{self.name}: not even {_MOST_RUNS} runs bring it to an end")

    def listing_routes(self) -> set[tuple[str, str]]:
        """What a listing of nodes asks, besides what tells whose account it is."""

        about_the_account: set[tuple[str, str]] = set()

        async def listed() -> None:
            block = ProviderBlock(self.name, self.name, self.tried.options, ())
            type = self.type
            context = OpenContext(block, self.clock, {}, Redactor(), _URL)
            provider = type.open(type.options.model_validate(self.tried.options), context)
            try:
                self.world.visits.clear()
                await provider.health()
                about_the_account.update((visit.method, visit.route) for visit in self.world.visits)
                self.world.visits.clear()
                await provider.list(provider.capabilities.granularity, frozenset())
            finally:
                await provider.close()

        self.clock.run(listed())
        return {(visit.method, visit.route) for visit in self.world.visits} - about_the_account


def count_calls(name: str, nodes: int) -> Counted:
    """Apply the sample spec with so many nodes, plan again, destroy."""
    tried = contract(name)
    with tempfile.TemporaryDirectory(prefix="gpuplan-calls-") as folder:
        town = _Town(tried, nodes, Path(folder))
        up, _ = town.commands(Mode.NORMAL)
        up_seconds = town.clock.monotonic()
        listing = town.listing_routes()
        looked = town.command(Mode.NORMAL)
        down, destroys = town.commands(Mode.DESTROY)
    can = tried.subject().can
    made = Counter((v.method, v.route) for v in up if v.method != "GET" and 200 <= v.status < 300)
    (create, creates), *_ = made.most_common(1)
    return Counted(
        type=name,
        nodes=nodes,
        is_group=can.granularity is Kind.GROUP,
        page_size=can.page_size,
        collections=len(listing),
        interval_seconds=can.poll_interval_seconds,
        pages=sum((visit.method, visit.route) in listing for visit in looked),
        refresh=len(looked),
        creates=creates,
        refused=sum((visit.method, visit.route) == create and visit.status == 429 for visit in up),
        up_seconds=up_seconds,
        look_pages=sum((visit.method, visit.route) in listing for visit in up),
        gets=sum(_is_single(visit) for visit in up),
        deletes=sum(visit.method != "GET" and 200 <= visit.status < 300 for visit in down),
        confirms=sum(_is_single(visit) for visit in down),
        destroys=destroys,
    )


def _is_single(visit: Visit) -> bool:
    return visit.method == "GET" and re.search(r"\{\w*id\}$", visit.route) is not None


def calls_table(counted: Sequence[Counted]) -> str:
    heads = (
        "type",
        "nodes",
        "pages of a refresh",
        "promised",
        "refresh in all",
        "creates",
        "pages while they come up",
        "promised at most",
        "single looks",
        "minutes",
        "deletes",
        "looks while they go",
        "destroys",
    )
    rows = [
        (
            one.nodes,
            one.pages if one.collections else None,
            one.promised_pages if one.collections else None,
            one.refresh,
            one.creates,
            one.look_pages if one.collections else None,
            one.promised_look_pages if one.collections else None,
            one.gets,
            ceil(one.up_seconds / 60),
            one.deletes,
            one.confirms,
            one.destroys,
        )
        for one in counted
    ]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for one, row in zip(counted, rows, strict=True):
        lines.append(f"| `{one.type}` | {' | '.join('–' if value is None else f'{value:,}' for value in row)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.calls", description=__doc__)
    parser.add_argument("--types", type=lambda text: text.split(","), default=campaign_types())
    parser.add_argument("--nodes", type=int, default=NODES)
    parser.add_argument("--page", metavar="FILE", help="put the table into this page")
    arguments = parser.parse_args()
    counted = []
    for name in arguments.types:
        print(f"{name}...", file=sys.stderr, flush=True)
        counted.append(count_calls(name, arguments.nodes))
    table = calls_table(counted)
    print(table)
    if arguments.page:
        put_section(Path(arguments.page), SECTION, table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
