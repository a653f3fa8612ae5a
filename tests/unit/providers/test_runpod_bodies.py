"""What RunPod is asked for."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.kinds import NodeAttrs, parse_port
from gpuplan.core.marks import Mark
from gpuplan.core.offers import Offer, Pricing
from gpuplan.core.ports import Want
from gpuplan.core.values import Value
from gpuplan.providers import runpod_bodies as bodies
from gpuplan.providers.runpod_bodies import Disk, Place, Unfit
from gpuplan.providers.runpod_wire import Pod

ADDRESS = Address("clusters", "train", None, 0)
MARK = Mark("t0000000000000000001", "llama", "default", "lineage", ADDRESS)
CARD = "NVIDIA GeForce RTX 4090"
PLACE = Place("secure", CARD, 2, "EU-RO-1")


def want(kind: Kind = Kind.NODE, update: frozenset[str] = frozenset(), **attrs: Value) -> Want:
    return Want(ADDRESS, kind, attrs, "train-0-00000001", None, update)


def launch(place: Place = PLACE, disk: Disk | None = None, **attrs: Value) -> dict[str, Any]:
    return dict(bodies.to_launch(want(**attrs), MARK, place, disk, ()))


def variables(body: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in body["env"].items() if not name.startswith("GPUPLAN_")}


def test_the_least_that_is_asked_for() -> None:
    body = launch()

    assert {
        "name": "train-0-00000001-t0000000000000000001",
        "image": bodies.DEFAULT_IMAGE,
        "cloud": "SECURE",
        "dataCenterIds": ["EU-RO-1"],
        "disk": 50,
        "gpu": {"id": CARD, "count": 2},
        "ports": ["22/tcp"],
    } == {name: value for name, value in body.items() if name != "env"}
    assert "gpuplan-token=t0000000000000000001" in body["env"]["GPUPLAN_MARK"]
    assert {"gpus": 2} == json.loads(body["env"]["GPUPLAN_ASKED"])


def test_everything_that_can_be_asked_for() -> None:
    options: Value = {
        "start_ssh": True, "start_jupyter": True, "global_networking": True, "min_cuda": "12.8", "registry": "r",
        "template": "t", "persistent_gb": 20, "symmetric_ports": 2,
    }  # fmt: skip
    body = launch(
        image="x", command=["serve", "a b"], env={"A": "1"}, ports=[8000], cpu=">=15", memory_gb=64, options=options
    )

    filters = {"minCudaVersion": "12.8", "minVcpuCountPerGpu": 8, "minRamPerGpu": 32}

    assert {"id": CARD, "count": 2, **filters} == body["gpu"]
    assert "serve 'a b'" == body["args"]
    assert ["22/tcp", "8000/tcp", "70000/tcp", "70001/tcp"] == body["ports"]
    assert {"persistent": {"size": 20, "path": "/workspace"}} == body["mounts"]
    assert (True, True, True) == (body["startSsh"], body["startJupyter"], body["globalNetworking"])
    assert ("r", "t", "x") == (body["registry"], body["templateId"], body["image"])
    assert {"A": "1"} == variables(body)


def test_a_template_keeps_its_say_about_the_image() -> None:
    assert "image" not in launch(options={"template": "t"})


def test_a_volume_comes_before_a_disk_of_the_host_and_decides_the_data_centre() -> None:
    body = launch(Place("secure", CARD, 1, None), Disk("v", "US-KS-2", "/data"), options={"persistent_gb": 20})

    assert {"network": [{"volumeId": "v", "path": "/data"}]} == body["mounts"]
    assert ["US-KS-2"] == body["dataCenterIds"]


@pytest.mark.parametrize(
    ("instance_type", "gpu", "place"),
    [
        (CARD, "RTX4090:2", Place("secure", CARD, 2, None)),
        (CARD, None, Place("secure", CARD, 1, None)),
        ("cpu3c-4", None, Place("cpu", "cpu3c", 4, None)),
        ("cpu3c-2-4", None, Place("cpu", "cpu3c-2", 4, None)),
    ],
)
def test_without_an_offer_the_instance_type_says_where(instance_type: str, gpu: str | None, place: Place) -> None:
    wanted = want(instance_type=instance_type, gpu=gpu)

    assert place == bodies.place_of(wanted, NodeAttrs.of(wanted.attrs))


def test_an_offer_says_where() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    offer = Offer("runpod", f"community/2/{CARD}", "EU-SE-1", "RTX4090", 2, Pricing.ON_DEMAND, None, now)
    wanted = Want(ADDRESS, Kind.NODE, {}, "x", offer)

    assert Place("community", CARD, 2, "EU-SE-1") == bodies.place_of(wanted, NodeAttrs())
    with pytest.raises(Unfit):
        bodies.place_of(want(), NodeAttrs())


def test_a_change_sends_what_differs_and_replaces_only_its_own_variables() -> None:
    asked = json.dumps({"env": ["A", "B"], "gpus": 2})
    env = {"A": "1", "B": "2", "PUBLIC_KEY": "k", "THEIRS": "3", "GPUPLAN_MARK": "m", "GPUPLAN_ASKED": asked}
    pod = Pod.model_validate({"id": "x", "env": env, "ports": ["22/tcp", "70000/tcp"]})
    only_image = bodies.to_changes(want(update=frozenset({"image"}), image="y"), pod, ())
    names = frozenset({"env", "ports", "disk_gb", "command"})
    more: Any = bodies.to_changes(want(update=names, env={"B": "4"}, ports=[8000], command="x"), pod, ())

    assert {"image": "y"} == only_image
    assert {"B": "4", "PUBLIC_KEY": "k", "THEIRS": "3"} == variables(more)
    assert {"env": ["B"], "ports": [8000], "gpus": 2, "text": True} == json.loads(more["env"]["GPUPLAN_ASKED"])
    assert "m" == more["env"]["GPUPLAN_MARK"]
    assert (["22/tcp", "8000/tcp", "70000/tcp"], 50, "/bin/sh -c x") == (more["ports"], more["disk"], more["args"])


def test_keys_are_taken_away_with_the_last_one() -> None:
    pod = Pod.model_validate({"id": "x", "env": {"PUBLIC_KEY": "k"}})

    assert {} == variables(bodies.to_changes(want(update=frozenset({"ssh_keys"})), pod, ()))
    assert {"PUBLIC_KEY": "a\nb"} == variables(bodies.to_changes(want(update=frozenset({"ssh_keys"})), pod, ("a", "b")))


@pytest.mark.parametrize("command", ["echo 'a b' && sleep 1", ["serve", "--name", "a b", ""], None])
def test_a_command_comes_back_as_it_was_written(command: Value) -> None:
    body = launch(command=command)
    seen = Pod.model_validate({**body, "id": "x"}).to_observed(datetime(2026, 1, 1, tzinfo=UTC))

    assert command == seen.attrs["command"]


def test_port_22_is_open_once_and_udp_is_not_to_be_had() -> None:
    assert ("22/tcp", "8888/http") == bodies.to_ports([parse_port("22"), parse_port("8888/http")], 0)
    with pytest.raises(Unfit):
        bodies.to_ports([parse_port("53/udp")], 0)


def test_a_volume_is_named_for_people_and_for_us() -> None:
    body = bodies.to_volume(want(Kind.VOLUME, size_gb=50, region="EU-RO-1"), MARK)

    assert (50, "EU-RO-1") == (body["size"], body["dataCenter"])
    assert str(body["name"]).startswith("train-0-00000001 gpuplan-token=t0000000000000000001 gpuplan-project=llama")
    assert len(str(body["name"])) <= bodies.VOLUME_NAME_LENGTH
    assert "type" not in body


def test_a_key_keeps_its_comment_before_the_mark() -> None:
    line = bodies.to_key_line(want(Kind.SSH_KEY, public_key="ssh-ed25519 AAAA ana"), Mark("t0000000000000000001"))

    assert "ssh-ed25519 AAAA ana gpuplan-token=t0000000000000000001" == line
