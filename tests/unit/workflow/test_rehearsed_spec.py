from dataclasses import replace

from gpuplan.core.address import Address
from gpuplan.core.desired import Candidate, Import, Output
from gpuplan.core.values import Ref
from gpuplan.workflow.rehearsed_spec import LeftOut, rehearsed_part
from tests.unit.plan.build import cluster, spec, want

TRAIN, DEV, DATA = Address("clusters", "train"), Address("clusters", "dev"), Address("volumes", "data")


def test_what_lives_elsewhere_is_left_out_and_what_needs_it_too() -> None:
    asked = spec(
        *cluster("train", 2, provider="cloud"),
        *cluster("dev", 1, {"volumes": [{"volume": Ref(DATA), "mount": "/data"}]}, provider="cloud"),
        want("volumes.data", provider="here"),
        providers=("cloud", "here"),
        outputs={"dev": Output(Ref(Address("clusters", "dev", None, 0)), False, ()), "train": Output("x", False, ())},
    )

    part = rehearsed_part(asked, {"cloud"})

    assert {TRAIN} == {address.resource for address in part.configuration.instances}
    assert (LeftOut(DATA, "here (memory) has no emulator"), LeftOut(DEV, "it needs `volumes.data`")) == part.left_out
    assert {"train"} == part.configuration.outputs.keys()


def test_of_several_places_those_that_are_emulated_stay() -> None:
    places = tuple(Candidate(name, {}, ()) for name in ("here", "cloud"))
    asked = spec(*cluster("train", 1, candidates=places), providers=("cloud", "here"))

    part = rehearsed_part(asked, {"cloud"})

    (desired,) = part.configuration.instances.values()
    assert ["cloud"] == [place.provider for place in desired.candidates]
    assert (LeftOut(TRAIN, "here (memory) has no emulator"),) == part.left_out


def test_what_would_be_imported_is_created_instead() -> None:
    node = Address("clusters", "train", None, 0)
    asked = replace(
        spec(*cluster("train", 1, provider="cloud"), providers=("cloud",)), imports=(Import(node, "i", ()),)
    )

    part = rehearsed_part(asked, {"cloud"})

    assert ((), {node}) == (part.configuration.imports, part.configuration.instances.keys())
    assert [TRAIN] == [each.resource for each in part.left_out]
