"""What `ignore_changes` leaves alone, in what an update sends."""

from gpuplan.core.desired import Desired, Lifecycle, Settings
from gpuplan.core.secret import Sealed, Secret
from gpuplan.core.values import Value
from gpuplan.plan.ignore import keep_ignored, live_attrs
from tests.unit.plan.build import PROVIDER, want


def wanted(*ignored: str, **attrs: Value) -> Desired:
    return want("clusters.a.nodes[0]", attrs, settings=Settings(lifecycle=Lifecycle(ignore_changes=ignored)))


def test_an_update_asks_for_ignored_paths_as_they_are() -> None:
    desired = wanted("env.DEBUG", "labels", env={"DEBUG": "1", "LEVEL": "2"}, labels={"x": "spec"})

    kept = keep_ignored(desired, PROVIDER, {"env": {"DEBUG": "0", "LEVEL": "1"}, "labels": {"x": "hand"}})

    assert {"env": {"DEBUG": "0", "LEVEL": "2"}, "labels": {"x": "hand"}} == kept.candidates[0].attrs


def test_an_ignored_key_that_the_spec_does_not_have_is_kept_and_any_other_dropped() -> None:
    desired = wanted("env.DEBUG", env={"LEVEL": "2"})

    kept = keep_ignored(desired, PROVIDER, {"env": {"DEBUG": "0", "OTHER": "1"}})

    assert {"env": {"DEBUG": "0", "LEVEL": "2"}} == kept.candidates[0].attrs


def test_a_sealed_secret_gives_way_to_the_value_of_the_spec() -> None:
    desired = wanted("env.TOKEN", env={"TOKEN": Secret("new-token")})

    assert desired.candidates == keep_ignored(desired, PROVIDER, {"env": {"TOKEN": Sealed("x")}}).candidates


def test_where_nothing_is_ignored_nothing_is_copied() -> None:
    desired = wanted(env={"A": "1"})

    assert desired is keep_ignored(desired, PROVIDER, {"env": {"A": "0"}})


def test_what_is_really_there_and_nobody_declared_may_be_a_secret() -> None:
    recorded = {"env": {"DEBUG": "0", "TOKEN": Sealed("x")}, "image": "a"}

    live = live_attrs(recorded, {"env": {"DEBUG": "1", "TOKEN": "t0ken", "HAND": "set"}, "image": "b"})

    assert {"env": {"DEBUG": "1", "TOKEN": Secret("t0ken"), "HAND": Secret("set")}, "image": "a"} == live
