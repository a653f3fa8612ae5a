"""A run that dies at any single request, or at any single write of the state, is finished by the next one.

Nothing is lost, nothing is doubled, and what the state says is what there is.
"""

from collections.abc import Callable

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Configuration, Lifecycle, Settings
from gpuplan.core.values import Ref
from gpuplan.engine.records import objects
from gpuplan.net.profile import Effect
from gpuplan.testing.crashes import Crash
from gpuplan.testing.memory import MemoryWorld
from gpuplan.testing.memory_capabilities import memory_capabilities
from tests.property.remote import Trouble
from tests.property.site import Site
from tests.unit.plan.build import cluster, spec, want

CREATE_FIRST = Settings(Lifecycle(create_before_destroy=True))
MOUNTS = [{"volume": Ref(Address("volumes", "data")), "mount": "/data"}]


def before() -> Configuration:
    return spec(
        want("volumes.data", {"size_gb": 10}),
        want("ssh_keys.old", {"public_key": "one"}),
        *cluster("train", 3, {"image": "a", "labels": {"team": "x"}, "instance_type": "s", "volumes": MOUNTS}),
        *cluster("serve", 2, {"image": "a", "setup": "install"}, settings=CREATE_FIRST),
    )


def after() -> Configuration:
    """Something of everything: created, changed in place, changed while stopped, replaced both ways, deleted."""
    return spec(
        want("volumes.data", {"size_gb": 20}),
        want("ssh_keys.new", {"public_key": "two"}),
        *cluster("train", 2, {"image": "a", "labels": {"team": "y"}, "instance_type": "m", "volumes": MOUNTS}),
        *cluster("serve", 2, {"image": "b", "setup": "install"}, settings=CREATE_FIRST),
        *cluster("more", 2, {"image": "a"}),
        *cluster("late", 1, {"image": "a"}, needs=["clusters.more"]),
    )


WORLDS: dict[str, Callable[[Site], MemoryWorld]] = {
    "prompt": lambda site: MemoryWorld(site.clock),
    "slow": lambda site: MemoryWorld(
        site.clock, boot_seconds=20, delete_seconds=5, stop_seconds=5, visibility_seconds=30
    ),
    "in steps": lambda site: MemoryWorld(site.clock, boot_seconds=20, visibility_seconds=30, steps=2),
}


class Trap:
    """Dies at the nth time it is passed; without a number it only counts."""

    def __init__(self, number: int | None = None) -> None:
        self.number = number
        self.passed = 0

    def springs(self) -> bool:
        self.passed += 1
        return self.passed - 1 == self.number


def settled_site(world: str) -> Site:
    """`before` is applied, `after` is wanted."""
    site = Site(configuration=before())
    site.world = WORLDS[world](site)
    site.capabilities = {
        "here": memory_capabilities(
            visibility_delay_seconds=site.world.visibility_seconds, poll_interval_seconds=5, ready_timeout_seconds=120
        )
    }
    assert site.apply().outcome.complete
    site.configuration = after()
    return site


def set_traps(site: Site, requests: Trap, writes: Trap, moment: str) -> None:
    crash = Trouble.CRASH_BEFORE if moment == "before" else Trouble.CRASH_AFTER

    def network(verb: str, effect: Effect) -> Trouble | None:
        return crash if requests.springs() else None

    def survives(when: str) -> None:
        if when == moment and writes.springs():
            raise Crash

    site.network, site.survives = network, survives


def assert_finished(site: Site) -> None:
    """The next run, without any trap, brings about exactly what the spec says; another one has nothing to do."""
    site.network, site.survives = None, lambda moment: None
    assert site.apply().outcome.complete
    assert site.plan().operations == ()
    state = site.state
    assert not state.intents
    recorded = {thing.remote_id for known in state.instances.values() for thing in objects(known)}
    assert recorded == {thing.remote_id for thing in site.living().values()}
    assert {str(address) for address in site.configuration.instances} == site.living().keys()


def die(site: Site) -> bool:
    """Whether the trap was met."""
    try:
        site.apply()
    except Crash:
        return True
    return False


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("world", WORLDS)
def test_death_at_any_request_is_settled_by_the_next_run(world: str, moment: str) -> None:
    points = 0
    while True:
        site = settled_site(world)
        set_traps(site, Trap(points), Trap(), moment)
        if not die(site):
            break
        assert_finished(site)
        points += 1

    assert points > 25


@pytest.mark.parametrize("moment", ["before", "within", "after"])
@pytest.mark.parametrize("world", WORLDS)
def test_death_at_any_write_of_the_state_is_settled_by_the_next_run(world: str, moment: str) -> None:
    points = 0
    while True:
        site = settled_site(world)
        set_traps(site, Trap(), Trap(points), moment)
        if not die(site):
            break
        assert_finished(site)
        points += 1

    assert points > 8
