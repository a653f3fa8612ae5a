import pytest

from gpuplan.core.address import Address
from gpuplan.core.seal import seal_attrs
from gpuplan.core.secret import SHOWN, Sealed, Secret
from gpuplan.core.values import UNKNOWN, Attrs, Ref, Value
from gpuplan.plan.compare import Difference, current_attrs, differences

KEY = b"k" * 32
NODE = Address("clusters", "a", None, 0)
DATA = Address("volumes", "data")
TOKEN = seal_attrs({"env": {"T": Secret("hf_canary")}}, key=KEY, address=NODE)


def paths(before: Attrs, after: Attrs) -> list[str]:
    return [difference.path for difference in differences(before, after, KEY)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"image": "a"}, {"image": "a"}),
        ({"ports": (8000,)}, {"ports": [8000]}),
        ({"ports": [8000, "53/udp", 22]}, {"ports": ["53/udp", 22, 8000]}),
        ({"cpu": 48}, {"cpu": ">=32"}),
        ({"cpu": 32}, {"cpu": "32"}),
        ({"gpu": "H100-80GB-SXM:8"}, {"gpu": "H100-80GB:8"}),
        ({"gpu": "L40S"}, {"gpu": "L40S:1"}),
        ({}, {"confidential": False, "env": {}, "ports": [], "region": None}),
        ({"confidential": False, "env": {}}, {}),
        ({"volume": "vol-1"}, {"volume": Ref(DATA, "vol-1")}),
        ({"volume": Ref(Address("volumes", "old"), "vol-1")}, {"volume": Ref(DATA, "vol-1")}),
        ({"on": Ref(Address("clusters", "a"))}, {"on": Ref(Address("clusters", "a"))}),
        (TOKEN, {"env": {"T": Secret("hf_canary")}}),
        ({"env": {"T": "hf_canary"}}, {"env": {"T": Secret("hf_canary")}}),
        ({"stopped": True}, {}),
    ],
)
def test_what_means_the_same_is_no_difference(before: Attrs, after: Attrs) -> None:
    assert [] == paths(before, after)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"image": "a"}, {"image": "b"}, ["image"]),
        ({"cpu": 16}, {"cpu": ">=32"}, ["cpu"]),
        ({"cpu": 48}, {"cpu": 32}, ["cpu"]),
        ({"gpu": "H100-80GB-SXM:8"}, {"gpu": "H100-80GB:4"}, ["gpu"]),
        ({"env": {"A": "1", "B": "2"}}, {"env": {"A": "1", "B": "3", "C": "4"}}, ["env.B", "env.C"]),
        ({"region": "EU"}, {}, ["region"]),
        ({"ports": [1]}, {"ports": [1, 2]}, ["ports"]),
        ({"volume": Ref(DATA, "vol-1")}, {"volume": Ref(DATA)}, ["volume"]),
        ({"image": "a"}, {"image": UNKNOWN}, ["image"]),
        (TOKEN, {"env": {"T": Secret("hf_other")}}, ["env.T"]),
        (TOKEN, {"env": {"T": "hf_canary"}}, ["env.T"]),
    ],
)
def test_what_differs_is_named_by_its_path(before: Attrs, after: Attrs, expected: list[str]) -> None:
    assert expected == paths(before, after)


def test_a_lost_attribute_ends_in_nothing() -> None:
    assert [Difference("region", "EU", None)] == list(differences({"region": "EU"}, {}, KEY))


@pytest.mark.parametrize(
    ("recorded", "observed", "current"),
    [
        ({"image": "a"}, {"image": "b"}, {"image": "b"}),
        ({"image": "a"}, {"image": "a", "region": "EU"}, {"image": "a"}),
        ({"cpu": ">=32"}, {"cpu": 48}, {"cpu": ">=32"}),
        ({"env": {"A": "1"}}, {"env": {"A": "2", "PATH": "/bin"}}, {"env": {"A": "2"}}),
        ({"env": {"A": "1"}}, {"env": {}}, {"env": {}}),
    ],
)
def test_observation_overlays_the_record_where_it_disagrees(recorded: Attrs, observed: Attrs, current: Attrs) -> None:
    assert current == current_attrs(recorded, observed, KEY)


def test_a_list_that_held_a_secret_is_hidden_as_a_whole_when_it_changed() -> None:
    recorded = seal_attrs({"command": ["login", Secret("hf_canary")]}, key=KEY, address=NODE)

    current = current_attrs(recorded, {"command": ["login", "hf_canary_2"]}, KEY)

    assert [Secret("login"), Secret("hf_canary_2")] == current["command"]


@pytest.mark.parametrize(("observed", "secret"), [("hf_canary", Sealed), ("hf_changed", Secret)])
def test_a_secret_that_a_provider_reports_in_clear_is_never_shown(observed: str, secret: type[Value]) -> None:
    current = current_attrs(TOKEN, {"env": {"T": observed, "B": "1"}}, KEY)

    found = current["env"]["T"]  # type: ignore[index,call-overload]

    assert secret is type(found)
    assert SHOWN == str(found)
