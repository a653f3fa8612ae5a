"""What holds for every plan."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from gpuplan.core.address import Address
from gpuplan.core.desired import Configuration, Desired, Lifecycle, Settings
from gpuplan.core.observed import Status, Survey
from gpuplan.core.plan import Action, Plan
from gpuplan.core.state import Deposed, Phase, Recorded, State
from gpuplan.core.values import Attrs, Ref, Value, resolve
from gpuplan.plan.document import decode_plan, encode_plan
from gpuplan.plan.lifetimes import tombstone
from tests.unit.plan.build import NOW, PROVIDER, plan, seen, spec, state, want

NAMES = [f"volumes.v{number}" for number in range(3)] + [
    f"clusters.c{letter}.nodes[{number}]" for letter in range(3) for number in range(3)
]
STATUSES = [Status.RUNNING, Status.RUNNING, Status.STOPPED, Status.FAILED, Status.STARTING, Status.TERMINATED, None]


class Ids:
    """A scope in which every instance has the id that `have` and the perfect world give it."""

    def remote_id(self, address: Address) -> str | None:
        return None if address.kind == "clusters" and address.node is None else str(address)

    def view(self, resource: Address) -> Value:
        return {}


@st.composite
def specs(draw: st.DrawFn, names: list[str]) -> list[Desired]:
    """Volumes and clusters; an instance depends on earlier ones only, by name, by cluster or by reference."""
    chosen = sorted(draw(st.lists(st.sampled_from(names), unique=True, min_size=2)), key=names.index)
    return [draw(instances(name, chosen[:number])) for number, name in enumerate(chosen)]


@st.composite
def edited(draw: st.DrawFn, old: list[Desired]) -> Configuration:
    """Today's spec: some of the old instances as they were, some other; or one that turns dependencies round."""
    if draw(st.integers(0, 3)) == 0:
        return spec(*draw(specs(NAMES[::-1])))
    merged = {desired.address: desired for desired in (*old, *draw(specs(NAMES)))}
    for address in [address for address in merged if draw(st.integers(0, 4)) == 0]:
        del merged[address]
    # The spec room lets no reference to a missing instance through.
    for address, desired in list(merged.items()):
        volumes = desired.candidates[0].attrs.get("volumes") or ()
        if not all(ref.address in merged for ref in volumes):  # type: ignore[union-attr]
            del merged[address]
    return spec(*merged.values())


@st.composite
def instances(draw: st.DrawFn, name: str, earlier: list[str]) -> Desired:
    needs = draw(st.lists(st.sampled_from(earlier), max_size=3, unique=True)) if earlier else []
    attrs: dict[str, Value] = {}
    if name.startswith("volumes"):
        attrs["size_gb"] = draw(st.integers(1, 3))
        attrs["region"] = draw(st.sampled_from(["EU", "US"]))
    else:
        attrs["image"] = draw(st.sampled_from("ab"))
        attrs["labels"] = {"x": draw(st.sampled_from("ab"))}
        attrs["instance_type"] = draw(st.sampled_from("ab"))
        attrs["stopped"] = draw(st.booleans())
        attrs["volumes"] = [Ref(Address.parse(need)) for need in needs if need.startswith("volumes")]
    clusters = {need.split(".nodes")[0] for need in needs if need.startswith("clusters")}
    own = name.split(".nodes")[0]
    if draw(st.booleans()):
        needs += sorted(clusters - {own})
    settings = Settings(
        lifecycle=Lifecycle(create_before_destroy=draw(st.booleans())),
        max_unavailable=draw(st.sampled_from([None, 1, 2])),
    )
    return want(name, attrs, needs=needs, settings=settings)


def recorded(desired: Desired, **more: Any) -> Recorded:
    attrs: Attrs = {name: resolve(value, Ids()) for name, value in desired.candidates[0].attrs.items()}
    return Recorded(
        address=desired.address,
        kind=desired.kind,
        provider=PROVIDER,
        account="acct",
        remote_id=str(desired.address),
        token="t",
        attrs=attrs,
        facts={},
        depends_on=desired.depends_on,
        created_at=NOW,
        phase=more.pop("phase", Phase.READY),
        create_before_destroy=desired.settings.lifecycle.create_before_destroy,
        **more,
    )


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Configuration, State, Survey]:
    """A state left by some earlier spec, what became of its objects, and the spec of today."""
    known: dict[Address, Recorded] = {}
    sights: dict[Address, Any] = {}
    old_spec = draw(specs(NAMES))
    for desired in old_spec:
        old = Deposed(PROVIDER, "acct", desired.kind, f"old {desired.address}", "t")
        phase = draw(st.sampled_from([Phase.READY, Phase.READY, Phase.PENDING, Phase.TAINTED]))
        record = recorded(desired, phase=phase, deposed=draw(st.sampled_from([(), (), (old,)])))
        status = draw(st.sampled_from(STATUSES)) if desired.kind == "node" else Status.RUNNING
        known[desired.address] = record
        sights[desired.address] = None if status is None else seen(record, status)
    return draw(edited(old_spec)), state(*known.values()), Survey(sights)


def applied(made: Plan) -> tuple[State, Survey]:
    """The state and the sights after every operation of the plan went as it should."""
    known: dict[Address, Recorded] = {}
    halted: dict[Address, bool] = {}
    for address, change in made.changes.items():
        record = change.refreshed or change.prior
        if record is not None:
            known[address] = record
            halted[address] = change.observed is not None and change.observed.status in (Status.STOPPED,)
    for operation in made.operations:
        if operation.action is Action.NO_OP:
            continue
        address = operation.address
        change = made.changes[address]
        match operation.action:
            case Action.CREATE:
                assert change.desired is not None
                known[address], halted[address] = recorded(change.desired), False
            case Action.DELETE | Action.FORGET if not operation.deposed:
                del known[address]
            case Action.DELETE:
                known[address] = replace(known[address], deposed=())
            case Action.UPDATE:
                assert change.desired is not None
                known[address] = recorded(change.desired, deposed=known[address].deposed)
            case Action.READ:
                known[address] = replace(known[address], phase=Phase.READY)
            case Action.START | Action.STOP:
                halted[address] = operation.action is Action.STOP
    known = {address: replace(record, phase=Phase.READY) for address, record in known.items()}
    statuses = {address: Status.STOPPED if halted[address] else Status.RUNNING for address in known}
    sights = {address: seen(record, statuses[address]) for address, record in known.items()}
    return state(*known.values()), Survey(sights)


def make(world: tuple[Configuration, State, Survey]) -> Plan:
    made = plan(*world)
    for change in made.changes.values():
        event(change.action.value)
    return made


def ancestors(made: Plan) -> Mapping[str, set[str]]:
    """All that comes before each operation; also checks that each comes after what it needs."""
    found: dict[str, set[str]] = {}
    for operation in made.operations:
        assert operation.id not in found
        found[operation.id] = {*operation.needs}.union(*(found[need] for need in operation.needs))
    return found


def covered(names: frozenset[Address], among: Mapping[Address, Any]) -> Iterator[Address]:
    return (address for address in among if any(name.covers(address) for name in names))


@given(worlds())
def test_the_same_inputs_give_the_same_bytes(world: tuple[Configuration, State, Survey]) -> None:
    configuration, prior, sights = world
    backwards = replace(configuration, instances=dict(reversed(list(configuration.instances.items()))))
    other = replace(prior, instances=dict(reversed(list(prior.instances.items()))))

    assert encode_plan(make(world)) == encode_plan(plan(backwards, other, sights))


@given(worlds())
def test_applying_a_plan_to_a_perfect_world_leaves_nothing_to_do(world: tuple[Configuration, State, Survey]) -> None:
    made = make(world)

    again = plan(world[0], *applied(made))

    assert {} == {str(address): change for address, change in again.changes.items() if change.action != Action.NO_OP}
    assert again.is_empty


@given(worlds())
def test_creates_come_after_what_they_need_and_deletes_before(world: tuple[Configuration, State, Survey]) -> None:
    configuration, prior, _ = world
    made = make(world)
    before = ancestors(made)

    for address, desired in configuration.instances.items():
        for need in covered(desired.depends_on, configuration.instances):
            for verb in ("create", "update"):
                if f"{verb} {address}" in before and f"create {need}" in before:
                    assert f"create {need}" in before[f"{verb} {address}"]
    removals = {o.remote_id: o.id for o in made.operations if o.action is Action.DELETE}
    for address, record in prior.instances.items():
        for need in covered(record.depends_on, prior.instances):
            if str(address) in removals and str(need) in removals:
                assert removals[str(address)] in before[removals[str(need)]]


@given(worlds())
def test_a_replacement_keeps_the_order_it_promises(world: tuple[Configuration, State, Survey]) -> None:
    made = make(world)
    before = ancestors(made)

    for address, change in made.changes.items():
        if change.action is Action.REPLACE:
            old = [o for o in made.operations if o.address == address and o.remote_id == str(address) and o.deposed]
            if change.create_first:
                assert all(f"create {address}" in before[operation.id] for operation in old)
                assert old
            else:
                assert f"delete {address}" in before[f"create {address}"]


@given(worlds())
def test_every_object_is_touched_by_the_operations_its_change_announces(
    world: tuple[Configuration, State, Survey],
) -> None:
    made = make(world)

    deleted = [operation.remote_id for operation in made.operations if operation.action is Action.DELETE]
    announced = [str(a) for a, c in made.changes.items() if c.action in (Action.DELETE, Action.REPLACE)]
    announced += [old.remote_id for c in made.changes.values() if c.prior is not None for old in c.prior.deposed]
    assert sorted(announced) == sorted(deleted)


@given(worlds())
def test_a_saved_plan_reads_back(world: tuple[Configuration, State, Survey]) -> None:
    made = make(world)

    read = decode_plan(encode_plan(made), world[0])

    assert made.operations == read.operations
    assert encode_plan(made).replace(f'"unchanged": {len(made.changes) - len(read.changes)}', '"unchanged": 0') == (
        encode_plan(read)
    )
    assert [change.action for change in read.changes.values()] == [
        change.action for address, change in made.changes.items() if address in read.changes
    ]


@st.composite
def lifetimes(draw: st.DrawFn) -> tuple[Configuration, State]:
    """Nodes that outlived the time the spec gave them, and a spec that asks for some of them as they were."""
    old = draw(specs(NAMES))
    today = draw(edited(old))
    short_lived = {
        address: replace(desired, settings=Settings(ttl_seconds=3600)) if address.kind == "clusters" else desired
        for address, desired in today.instances.items()
    }
    return replace(today, instances=short_lived), state(*map(recorded, old))


@given(lifetimes())
def test_what_has_expired_stays_gone_until_the_spec_asks_for_something_else(world: tuple[Configuration, State]) -> None:
    configuration, prior = world
    then = NOW + timedelta(hours=2)
    stays_gone = {
        address
        for address, desired in configuration.instances.items()
        if desired.settings.ttl_seconds
        and address in prior.instances
        and recorded(desired).attrs == prior.instances[address].attrs
    }

    now, sights = prior, Survey({address: seen(record) for address, record in prior.instances.items()})
    for _ in range(2):
        made = plan(configuration, now, sights, now=then)
        after, sights = applied(made)
        graves = {a: stone for a, change in made.changes.items() if (stone := tombstone(change, then)) is not None}
        fresh = {a: replace(r, created_at=then) for a, r in after.instances.items()}
        expired = {a: stone for a, stone in {**now.expired, **graves}.items() if a not in fresh}
        now = replace(after, instances=fresh, expired={a: s for a, s in expired.items() if a not in made.lifted})

    assert plan(configuration, now, sights, now=then).is_empty
    assert configuration.instances.keys() - stays_gone == now.instances.keys()
