from gpuplan.core.address import Address
from gpuplan.core.desired import Output
from gpuplan.core.state import State
from gpuplan.core.values import UNKNOWN, Ref, Value
from tests.unit.plan.build import address, have, plan, spec, state, want

NODE = "clusters.train.nodes[0]"
VOLUMES = Address("volumes", "data")


def test_a_whole_resource_is_unknown_until_all_of_it_exists_and_shown_then() -> None:
    wanted = (want('volumes.data["a"]', {"size_gb": 1}), want('volumes.data["b"]', {"size_gb": 1}))
    configuration = spec(*wanted, outputs={"all": Output(Ref(VOLUMES), sensitive=False, path=())})
    half = state(have('volumes.data["a"]', {"size_gb": 1}))
    whole = state(*half.instances.values(), have('volumes.data["b"]', {"size_gb": 1}))

    assert UNKNOWN == plan(configuration, half).outputs["all"]
    assert {
        "a": {"size_gb": 1, "name": "data", "id": 'volumes.data["a"]'},
        "b": {"size_gb": 1, "name": "data", "id": 'volumes.data["b"]'},
    } == plan(configuration, whole).outputs["all"]


def test_a_create_shows_what_it_will_have_as_far_as_it_is_known() -> None:
    mount = {"volumes": [{"volume": Ref(address("volumes.data")), "mount": "/data"}]}
    wanted = (want("volumes.data", {"size_gb": 1}), want(NODE, mount))

    def planned_mount(prior: State | None) -> Value:
        chosen = plan(spec(*wanted), prior).changes[address(NODE)].chosen
        assert chosen is not None and chosen.attrs is not None
        return chosen.attrs["volumes"]

    assert [{"volume": Ref(VOLUMES), "mount": "/data"}] == planned_mount(None)
    there = state(have("volumes.data", {"size_gb": 1}))
    assert [{"volume": Ref(VOLUMES, "volumes.data"), "mount": "/data"}] == planned_mount(there)
