from dataclasses import replace

import pytest

from gpuplan.core.address import Address
from gpuplan.core.errors import StateError
from gpuplan.core.state import Recorded, State
from gpuplan.core.values import Ref
from gpuplan.state.edit import adopt, covered, move, remove
from gpuplan.state.journal import replay
from gpuplan.testing.state_samples import begun, fresh, node

DATA = Address("volumes", "data")


def at(text: str) -> Address:
    return Address.parse(text)


def record(text: str, **changes: object) -> Recorded:
    return replace(node(0), address=at(text), remote_id=f"id of {text}", depends_on=frozenset(), **changes)  # type: ignore[arg-type]  # fields by name


def state_of(*records: Recorded) -> State:
    return replace(fresh(), instances={each.address: each for each in records})


def ids(state: State) -> dict[str, str]:
    return {str(address): recorded.remote_id for address, recorded in state.instances.items()}


def moved(state: State, source: str, target: str) -> dict[str, str]:
    return ids(replay(state, move(state, at(source), at(target))))


def test_moved_instance_keeps_its_object() -> None:
    state = state_of(record("volumes.a"), record("volumes.b"))

    assert {"volumes.b": "id of volumes.b", "volumes.c": "id of volumes.a"} == moved(state, "volumes.a", "volumes.c")


def test_moved_record_names_its_new_address() -> None:
    state = state_of(record("volumes.a"))
    after = replay(state, move(state, at("volumes.a"), at("volumes.c")))

    assert at("volumes.c") == after.instances[at("volumes.c")].address


@pytest.mark.parametrize(
    ("source", "target", "before", "after"),
    [
        ("clusters.a", "clusters.b", "clusters.a.nodes[1]", "clusters.b.nodes[1]"),
        ("clusters.a", "clusters.b", 'clusters.a["eu"].nodes[1]', 'clusters.b["eu"].nodes[1]'),
        ("clusters.a", 'clusters.a["eu"]', "clusters.a.nodes[1]", 'clusters.a["eu"].nodes[1]'),
        ('clusters.a["eu"]', "clusters.a", 'clusters.a["eu"].nodes[1]', "clusters.a.nodes[1]"),
        ('clusters.a["eu"]', "clusters.b[0]", 'clusters.a["eu"].nodes[1]', "clusters.b[0].nodes[1]"),
        ("clusters.a.nodes[1]", "clusters.b.nodes[7]", "clusters.a.nodes[1]", "clusters.b.nodes[7]"),
        ("volumes.a", "volumes.a[0]", "volumes.a", "volumes.a[0]"),
    ],
)
def test_moving_a_resource_moves_what_it_covers(source: str, target: str, before: str, after: str) -> None:
    assert {after: f"id of {before}"} == moved(state_of(record(before)), source, target)


@pytest.mark.parametrize(
    ("source", "target", "before"),
    [
        ("clusters.a", "clusters.b.nodes[0]", "clusters.a.nodes[0]"),
        ("clusters.a", 'clusters.b["eu"]', 'clusters.a["us"].nodes[0]'),
        ("clusters.a.nodes[0]", "clusters.b", "clusters.a.nodes[0]"),
        ("volumes.a", "volumes.a.nodes[0]", "volumes.a"),
    ],
)
def test_move_to_another_level_is_refused(source: str, target: str, before: str) -> None:
    with pytest.raises(StateError, match="cannot become"):
        moved(state_of(record(before)), source, target)


def test_move_to_another_kind_is_refused() -> None:
    with pytest.raises(StateError, match=r"`volumes.a` cannot become `networks.a`"):
        moved(state_of(record("volumes.a")), "volumes.a", "networks.a")


def test_move_onto_an_instance_is_refused() -> None:
    with pytest.raises(StateError, match=r"`volumes.b` is in the state already"):
        moved(state_of(record("volumes.a"), record("volumes.b")), "volumes.a", "volumes.b")


def test_references_follow_a_moved_instance() -> None:
    user = record(
        "clusters.train.nodes[0]",
        attrs={
            "volumes": [{"volume": Ref(DATA, "v-1"), "mount": "/w"}],
            "env": {"A": "b"},
            "ssh_keys": [Ref(at("ssh_keys.k"), "k")],
        },
    )
    user = replace(user, depends_on=frozenset({DATA, at("ssh_keys.k")}))
    state = state_of(record("volumes.data"), user)

    after = replay(state, move(state, DATA, at("volumes.other"))).instances[user.address]

    assert {at("volumes.other"), at("ssh_keys.k")} == after.depends_on
    assert {
        "volumes": [{"volume": Ref(at("volumes.other"), "v-1"), "mount": "/w"}],
        "env": {"A": "b"},
        "ssh_keys": [Ref(at("ssh_keys.k"), "k")],
    } == after.attrs


def test_dependencies_on_a_whole_resource_follow_it() -> None:
    state = state_of(
        record("clusters.a.nodes[0]"), replace(record("services.s"), depends_on=frozenset({at("clusters.a")}))
    )

    after = replay(state, move(state, at("clusters.a"), at("clusters.b")))

    assert {at("clusters.b")} == after.instances[at("services.s")].depends_on


def test_instances_that_refer_to_each_other_move_together() -> None:
    state = state_of(
        record("clusters.a.nodes[0]"),
        replace(record("clusters.a.nodes[1]"), depends_on=frozenset({at("clusters.a.nodes[0]")})),
    )

    after = replay(state, move(state, at("clusters.a"), at("clusters.b")))

    assert {at("clusters.b.nodes[0]"), at("clusters.b.nodes[1]")} == set(after.instances)
    assert {at("clusters.b.nodes[0]")} == after.instances[at("clusters.b.nodes[1]")].depends_on


def test_no_crash_in_the_middle_of_a_move_loses_or_doubles_an_object() -> None:
    state = state_of(*(record(f"clusters.a.nodes[{number}]") for number in range(4)))
    entries = move(state, at("clusters.a"), at("clusters.b"))

    for cut in range(len(entries) + 1):
        assert sorted(ids(state).values()) == sorted(ids(replay(state, entries[:cut])).values())


def test_removed_resource_is_forgotten_whole() -> None:
    state = state_of(record("clusters.a.nodes[0]"), record("clusters.a.nodes[1]"), record("volumes.a"))

    assert {"volumes.a": "id of volumes.a"} == ids(replay(state, remove(state, at("clusters.a"))))


def test_instance_with_an_open_intent_is_not_edited() -> None:
    state = replace(state_of(node(1)), intents={1: begun(1).intent})

    left_open = r"a crashed run left `clusters.train.nodes\[1\]` open"
    with pytest.raises(StateError, match=left_open):
        remove(state, at("clusters.train"))
    with pytest.raises(StateError, match=left_open):
        move(state, at("clusters.train"), at("clusters.b"))


def test_adopted_object_is_in_the_state() -> None:
    state = state_of(record("volumes.a"))

    after = replay(state, adopt(state, record("volumes.b")))

    assert {"volumes.a", "volumes.b"} == set(ids(after))


def test_address_that_is_taken_cannot_adopt() -> None:
    with pytest.raises(StateError, match=r"`volumes.a` is in the state already"):
        adopt(state_of(record("volumes.a")), record("volumes.a"))


def test_object_that_has_an_address_is_not_adopted_again() -> None:
    twin = replace(record("volumes.b"), remote_id="id of volumes.a")

    with pytest.raises(StateError) as caught:
        adopt(state_of(record("volumes.a")), twin)

    assert ("it is `volumes.a`; one object has one address", "nothing was changed") == caught.value.diagnostics[0].facts


def test_covered_instances_come_in_order() -> None:
    state = state_of(*(record(f"clusters.a.nodes[{number}]") for number in (10, 9, 1)))

    assert [1, 9, 10] == [address.node for address in covered(state, at("clusters.a"))]


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("clusters.trian", "did you mean `clusters.train`?"),
        ("clusters.train.nodes[9]", "did you mean `clusters.train.nodes[0]`?"),
        ("volumes.model", "see what is there"),
    ],
)
def test_unknown_address_suggests_the_nearest(typed: str, hint: str) -> None:
    state = state_of(record("clusters.train.nodes[0]"), record("clusters.train.nodes[1]"))

    with pytest.raises(StateError) as caught:
        remove(state, at(typed))

    (finding,) = caught.value.diagnostics
    assert (f"`{typed}` is not in the state", hint) == (finding.summary, finding.hint)
