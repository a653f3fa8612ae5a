"""Whatever people, providers, networks and crashes do: nothing is lost, nothing is doubled, and plans tell the truth.

The machine drives spec changes, changes behind gpuplan's back, faults and deaths through recovery, refresh, planner,
executor and journal, over a world in memory behind the real transport. `tests/faults/test_mutants.py` proves that it
notices.
"""

from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto

from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gpuplan.core.address import Address
from gpuplan.core.desired import Configuration, Desired, Kind, Lifecycle, OnFailure, Settings
from gpuplan.core.errors import GpuplanError
from gpuplan.core.marks import Mark
from gpuplan.core.plan import Action
from gpuplan.core.state import State
from gpuplan.core.values import Ref
from gpuplan.engine.outcome import Limits
from gpuplan.engine.records import objects
from gpuplan.net.profile import Effect
from gpuplan.testing.crashes import Crash
from gpuplan.testing.memory import MemoryWorld
from gpuplan.testing.memory_capabilities import memory_capabilities
from gpuplan.testing.memory_world import Fault, MemoryObject, Script
from tests.property.remote import AFTER, Trouble
from tests.property.site import Applied, Site
from tests.unit.plan.build import cluster, spec, want

ACCOUNTS = ("here", "there")
MOMENTS = ("before", "within", "after")
"""Of a write of the state, at which the process may die."""
APPLIES_TO_CONVERGE = 2


@dataclass(frozen=True)
class Volume:
    name: str
    size: int


@dataclass(frozen=True)
class Cluster:
    """`used` names the volume that its nodes mount; it is where the volume is."""

    name: str
    nodes: int
    provider: str
    used: str
    image: str
    size: str
    team: str
    stopped: bool
    setup: bool
    create_first: bool
    one_by_one: bool
    on_failure: OnFailure

    def instances(self) -> list[Desired]:
        mounts = [{"volume": Ref(Address("volumes", self.used)), "mount": "/data"}]
        attrs = {
            "image": self.image,
            "instance_type": self.size,
            "labels": {"team": self.team},
            **({"volumes": mounts} if self.used else {}),
            **({"stopped": True} if self.stopped else {}),
            **({"setup": "install"} if self.setup else {}),
        }
        treatment = Settings(
            Lifecycle(create_before_destroy=self.create_first),
            max_unavailable=1 if self.one_by_one else None,
            on_failure=self.on_failure,
        )
        nodes = cluster(self.name, max(self.nodes, 1), attrs, provider=self.provider, settings=treatment)
        return nodes[: self.nodes]


@dataclass(frozen=True)
class Team:
    """A spec, in few words."""

    volumes: tuple[Volume, ...]
    clusters: tuple[Cluster, ...]

    def configuration(self) -> Configuration:
        instances = [want(f"volumes.{v.name}", {"size_gb": v.size}, provider="here") for v in self.volumes]
        instances += [node for group in self.clusters for node in group.instances()]
        return spec(*instances, providers=ACCOUNTS)


@st.composite
def teams(draw: st.DrawFn, *, full: bool = False) -> Team:
    """Two volumes and two clusters at most, whose attributes take every way to change."""
    volumes = [
        Volume(name, draw(st.sampled_from((10, 20)))) for name in ("data", "logs") if full or draw(st.booleans())
    ]
    clusters = []
    for name in ("train", "serve"):
        used = draw(st.sampled_from(("", *(volume.name for volume in volumes))))
        clusters.append(
            Cluster(
                name,
                draw(st.integers(1 if full else 0, 3)),
                "here" if used else draw(st.sampled_from(ACCOUNTS)),
                used,
                image=draw(st.sampled_from("ab")),
                size=draw(st.sampled_from("sm")),
                team=draw(st.sampled_from("xy")),
                stopped=draw(st.integers(0, 5)) == 5,
                setup=draw(st.integers(0, 3)) == 3,
                create_first=draw(st.booleans()),
                one_by_one=draw(st.booleans()),
                on_failure=draw(st.sampled_from(OnFailure)),
            )
        )
    return Team(tuple(volumes), tuple(clusters))


@st.composite
def effect_faults(draw: st.DrawFn) -> dict[int, Trouble]:
    """What happens to the first, second, ... request that changes the world: most often, an answer that is lost."""
    troubles = st.one_of(st.sampled_from(Trouble), st.sampled_from(sorted(AFTER, key=lambda trouble: trouble.name)))
    chosen = draw(st.lists(st.tuples(st.integers(0, 7), troubles), max_size=3))
    return dict(chosen)


@st.composite
def read_faults(draw: st.DrawFn) -> dict[int, Trouble]:
    """What happens to requests that only look: for once, for a while, or until the command gives up."""
    if draw(st.booleans()):
        return {}
    kinds = st.sampled_from((Trouble.ERROR_AFTER, Trouble.LOST_AFTER, Trouble.NEVER_SENT, Trouble.CRASH_AFTER))
    start, length = draw(st.integers(0, 8)), draw(st.sampled_from((1, 4, 1000)))
    return dict.fromkeys(range(start, start + length), draw(kinds))


class Lie(Enum):
    """Which of the objects that everyone knows the listings leave out."""

    ALL = auto()
    HALF = auto()


class WorldMachine(RuleBasedStateMachine):
    """See the rules of `tests/property/site.py` for what a command is."""

    @initialize(
        team=teams(full=True),
        visibility=st.sampled_from((0, 30, 30)),
        boot=st.sampled_from((0, 20, 20)),
        gone=st.sampled_from((0, 5)),
        steps=st.sampled_from((0, 0, 2)),
        parallelism=st.sampled_from((1, 4, 32)),
    )
    def begin(self, team: Team, visibility: float, boot: float, gone: float, steps: int, parallelism: int) -> None:
        site = Site(limits=Limits(parallelism), configuration=team.configuration())
        site.world = MemoryWorld(
            site.clock,
            boot_seconds=boot,
            delete_seconds=gone,
            stop_seconds=gone,
            visibility_seconds=visibility,
            steps=steps,
        )
        known = memory_capabilities(
            visibility_delay_seconds=visibility, page_size=2, poll_interval_seconds=5, ready_timeout_seconds=120
        )
        site.capabilities = dict.fromkeys(ACCOUNTS, known)
        self.site = site
        self.foreign = MemoryObject(
            "here", Kind.NODE, "foreign", "foreign", Mark("foreign", "other"), {}, {}, 0.0, 0.0, 0.0
        )
        site.world.add(self.foreign)

    @rule(team=teams())
    def edit_spec(self, team: Team) -> None:
        self.site.configuration = team.configuration()

    @rule(
        effects=effect_faults(),
        reads=st.one_of(st.just({}), read_faults()),
        looks=read_faults(),
        lie=st.sampled_from((None, None, *Lie)),
        write=st.one_of(st.none(), st.none(), st.tuples(st.integers(0, 12), st.sampled_from(MOMENTS))),
        room=st.one_of(st.none(), st.integers(0, 4)),
        broken=st.integers(0, 3),
    )
    def apply_with_faults(
        self,
        effects: dict[int, Trouble],
        reads: dict[int, Trouble],
        looks: dict[int, Trouble],
        lie: Lie | None,
        write: tuple[int, str] | None,
        room: int | None,
        broken: int,
    ) -> None:
        network = _Network(effects, reads, looks)
        writes = _Writes(write)
        world = self.site.world
        world.script = self._lying(lie)
        world.capacity = None if room is None else lambda want: len(list(world.living())) < room + 2
        booted = iter(range(1000))
        world.boots = lambda want: "no signal" if broken == 1 and next(booted) == 1 else None
        world.run_status = lambda command: int(broken == 2)
        self.site.network, self.site.survives = network, writes
        with suppress(Crash, GpuplanError):
            self.site.apply()
        for aim, count in network.met.items():
            event(f"faults that met an {aim}: {min(count, 3)}")
        self._calm()

    @rule()
    def apply(self) -> None:
        """Even without faults a plan may be refused: an account that cannot be asked, a spec that moved."""
        self.site.apply()

    @rule(seconds=st.sampled_from((1, 10, 100)))
    def wait(self, seconds: float) -> None:
        self.site.clock.advance(seconds)

    @rule(pick=st.integers(0, 100))
    def someone_deletes(self, pick: int) -> None:
        if thing := self._some(pick):
            self.site.world.vanish(thing.remote_id)

    @rule(pick=st.integers(0, 100), image=st.sampled_from("ab"))
    def someone_edits(self, pick: int, image: str) -> None:
        if (thing := self._some(pick)) and thing.kind is Kind.NODE:
            self.site.world.edit(thing.remote_id, image=image)

    @rule(pick=st.integers(0, 100))
    def someone_stops(self, pick: int) -> None:
        if (thing := self._some(pick)) and thing.kind is Kind.NODE:
            self.site.world.stop(thing.remote_id)

    @rule(pick=st.integers(0, 100))
    def something_breaks(self, pick: int) -> None:
        if (thing := self._some(pick)) and thing.kind is Kind.NODE:
            self.site.world.fail(thing.remote_id, "the disk is full")

    @invariant()
    def every_living_object_is_known(self) -> None:
        if self.site.store.snapshot is None:
            assert not list(self._ours())
            return
        known = _known(self.site.state)
        for thing in self._ours():
            assert thing.remote_id in known or thing.mark.token in known, f"{thing.remote_id} is lost"

    @invariant()
    def nobody_elses_object_is_touched(self) -> None:
        assert self.foreign.gone_at is None

    def teardown(self) -> None:
        """With all faults over, the world becomes what the spec says, and stays it."""
        site = self.site
        self._calm()
        for _ in range(APPLIES_TO_CONVERGE):
            is_complete = self._apply_and_compare()
        assert is_complete
        assert site.plan().operations == ()
        self.every_living_object_is_known()
        living = {thing.mark.address: thing for thing in self._ours()}
        assert len(list(self._ours())) == len(living), "something exists twice"
        assert site.configuration.instances.keys() == living.keys()
        for address, desired in site.configuration.instances.items():
            attrs = desired.candidates[0].attrs
            for name in attrs.keys() - {"volumes", "stopped", "setup"}:
                assert attrs[name] == living[address].attrs[name]

    def _apply_and_compare(self) -> bool:
        """What apply does is what its plan says, unless somebody stopped what was just coming up."""
        world, before = self.site.world, {id(thing) for thing in self.site.world.objects.values()}
        had = {id(thing) for thing in world.living()}
        applied = self.site.apply()
        if not applied.outcome.complete:
            return False
        created = [thing for thing in world.objects.values() if id(thing) not in before]
        deleted = had - {id(thing) for thing in world.living()}
        assert _planned(applied, Action.CREATE) == len(created)
        assert _planned(applied, Action.DELETE) >= len(deleted)
        return True

    def _calm(self) -> None:
        world = self.site.world
        self.site.network, self.site.survives = None, lambda moment: None
        world.script = world.capacity = world.boots = world.run_status = None

    def _lying(self, lie: Lie | None) -> Script | None:
        """Listings without objects that were long there. What they show of new ones is as good as promised: from no
        other place could an object be told that nobody has the id of."""
        if lie is None or self.site.store.snapshot is None:
            return None
        hidden = sorted(_known(self.site.state))[:: 1 if lie is Lie.ALL else 2]
        return lambda call: Fault(hides=hidden.__contains__) if call.verb == "list" else None

    def _ours(self) -> list[MemoryObject]:
        return [thing for thing in self.site.world.living() if thing is not self.foreign]

    def _some(self, pick: int) -> MemoryObject | None:
        ours = self._ours()
        return ours[pick % len(ours)] if ours else None


class _Network:
    """Counts effects, the reads before the first of them, and the reads after it, each by itself: so a fault meets what
    it is aimed at, be it the refresh, a request that changes something, or the watch over what it did."""

    def __init__(self, effects: dict[int, Trouble], reads: dict[int, Trouble], looks: dict[int, Trouble]) -> None:
        self._faults = {"effect": effects, "read": reads, "look": looks}
        self._seen = dict.fromkeys(self._faults, 0)
        self.met = dict.fromkeys(self._faults, 0)
        """How many faults met a request."""

    def __call__(self, verb: str, effect: Effect) -> Trouble | None:
        aim = "effect" if effect is not Effect.NONE else "look" if self._seen["effect"] else "read"
        trouble = self._faults[aim].get(self._seen[aim])
        self._seen[aim] += 1
        self.met[aim] += trouble is not None
        return trouble


class _Writes:
    """The process dies before or after the nth write of the state, or in the middle of one."""

    def __init__(self, death: tuple[int, str] | None) -> None:
        self._death = death
        self._seen = dict.fromkeys(MOMENTS, 0)

    def __call__(self, moment: str) -> None:
        number = self._seen[moment]
        self._seen[moment] += 1
        if self._death == (number, moment):
            raise Crash


def _known(state: State) -> set[str]:
    """Ids and tokens of all that the state speaks of."""
    things = [thing for recorded in state.instances.values() for thing in objects(recorded)]
    tokens = {intent.token for intent in state.intents.values()} | {thing.token for thing in things}
    return (tokens | {thing.remote_id for thing in things}) - {""}


def _planned(applied: Applied, action: Action) -> int:
    return sum(operation.action is action for operation in applied.plan.operations)


WorldMachine.TestCase.settings = settings(
    max_examples=400,
    stateful_step_count=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TestWorldMachine = WorldMachine.TestCase
