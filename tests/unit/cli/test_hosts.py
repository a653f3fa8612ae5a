import shlex
from typing import Any

import pytest
import yaml

from gpuplan.cli.render.hosts import RENDERERS, missing
from gpuplan.core.address import Address
from gpuplan.core.ports import SshTarget
from gpuplan.workflow.visiting import Reached


def node(name: str = "train-0", address: str = "clusters.train.nodes[0]", **more: Any) -> Reached:
    known: dict[str, Any] = {
        "provider": "runpod",
        "gpu": "H100-80GB",
        "gpu_count": 8,
        "is_ephemeral": True,
        "private_ip": "10.0.0.1",
        "target": SshTarget("192.0.2.1", 10022, "root"),
        "key_file": "/keys/my key",
        "options": (
            ("HostName", "192.0.2.1"),
            ("HostKeyAlias", "gpuplan-1"),
            ("ProxyCommand", "ssh -W '[%h]:%p' jump"),
        ),
    }
    return Reached(name=name, address=Address.parse(address), **{**known, **more})


def test_hosts_yaml_has_the_fields_that_others_read() -> None:
    (host,) = yaml.safe_load(RENDERERS["hosts-yaml"]([node()]))["hosts"]

    assert {
        "name": "train-0",
        "provider": "runpod",
        "gpu_type": "H100-80GB",
        "gpu_count": 8,
        "ssh_host": "192.0.2.1",
        "ssh_port": 10022,
        "ssh_user": "root",
        "ssh_key": "/keys/my key",
        "is_ephemeral": True,
    } == host


def test_an_ansible_host_is_read_back_word_for_word() -> None:
    group, line = RENDERERS["ansible"]([node(address='clusters.train["e u"].nodes[0]')]).splitlines()

    name, *pairs = shlex.split(line)
    variables = dict(pair.split("=", 1) for pair in pairs)
    assert ("[train_e_u]", "train-0") == (group, name)
    assert "/keys/my key" == variables["ansible_ssh_private_key_file"]
    expected = ["-o", "HostKeyAlias=gpuplan-1", "-o", "ProxyCommand=ssh -W '[%h]:%p' jump"]
    assert expected == shlex.split(variables["ansible_ssh_common_args"])


def test_every_cluster_has_ranks_and_a_master_of_its_own() -> None:
    nodes = [
        node("a-0", "clusters.a.nodes[0]"),
        node("a-1", "clusters.a.nodes[1]", private_ip=""),
        node("b-0", "clusters.b.nodes[0]", gpu="", gpu_count=0, private_ip="10.0.0.3"),
    ]

    assert (
        "a-0 --nnodes=2 --node-rank=0 --nproc-per-node=8 --master-addr=10.0.0.1 --master-port=29500\n"
        "a-1 --nnodes=2 --node-rank=1 --nproc-per-node=8 --master-addr=10.0.0.1 --master-port=29500\n"
        "b-0 --nnodes=1 --node-rank=0 --nproc-per-node=1 --master-addr=10.0.0.3 --master-port=29500\n"
    ) == RENDERERS["torchrun"](nodes)
    assert "10.0.0.1 slots=8\n192.0.2.1 slots=8\n10.0.0.3 slots=1\n" == RENDERERS["mpi"](nodes)


def test_a_name_for_openssh_has_no_quotation_marks() -> None:
    stanza = RENDERERS["openssh"]([node('clusters.web["eu"].nodes[0]', 'clusters.web["eu"].nodes[0]')])

    assert stanza.startswith("Host clusters.web[eu].nodes[0]\n  HostName 192.0.2.1\n")


@pytest.mark.parametrize("format", ["openssh", "ansible", "hosts-yaml"])
def test_what_ssh_does_not_reach_is_left_out_and_named(format: str) -> None:
    here = node("here-0", "clusters.here.nodes[0]", target=None, options=())

    assert "here-0" not in RENDERERS[format]([here])
    assert ["Left out, with no SSH: here-0."] == list(missing(format, [here]))


def test_what_has_no_address_yet_is_left_out_and_named() -> None:
    fresh = [node(f"n-{n}", f"clusters.n.nodes[{n}]", target=None, private_ip="") for n in range(5)]

    assert "" == RENDERERS["mpi"](fresh)
    assert ["Left out, with no address yet: n-0, n-1, n-2, ...."] == list(missing("mpi", fresh))
    assert ["The state has no nodes."] == list(missing("mpi", []))
