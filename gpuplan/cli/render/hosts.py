"""The nodes of the state as other programs take them. Called by `hostfile` and `ssh-config`."""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

from gpuplan.workflow.visiting import Reached

_TORCHRUN_PORT = 29500


def openssh(nodes: Sequence[Reached]) -> str:
    """Stanzas of ssh_config; a node is found by its name and by its address."""
    return "\n".join(_stanza(node) for node in nodes if node.options)


def _stanza(node: Reached) -> str:
    names = dict.fromkeys([node.name, str(node.address)])
    # A quotation mark would begin a quoted name.
    hosts = " ".join(name for name in names if '"' not in name) or node.name.replace('"', "")
    return f"Host {hosts}\n" + "".join(f"  {keyword} {value}\n" for keyword, value in node.options)


def ansible(nodes: Sequence[Reached]) -> str:
    """An inventory in Ansible's INI form, with a group for each cluster."""
    reachable = [node for node in nodes if node.target]
    parts = []
    for cluster, members in groupby(reachable, key=lambda node: node.cluster):
        lines = "".join(f"{_quoted_name(node)} {_variables(node)}\n" for node in members)
        parts.append(f"[{''.join(char if char.isalnum() else '_' for char in cluster)}]\n{lines}")
    return "\n".join(parts)


def _variables(node: Reached) -> str:
    assert node.target is not None
    known = {"HostName", "Port", "User", "IdentityFile"}
    others = " ".join(shlex.join(["-o", f"{word}={value}"]) for word, value in node.options if word not in known)
    variables = {
        "ansible_host": node.target.host,
        "ansible_port": str(node.target.port),
        "ansible_user": node.target.user,
        **({"ansible_ssh_private_key_file": node.key_file} if node.key_file else {}),
        "ansible_ssh_common_args": others,
    }
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())


def _quoted_name(node: Reached) -> str:
    return shlex.quote(node.name)


def mpi(nodes: Sequence[Reached]) -> str:
    """Lines of a hostfile for `mpirun`: one slot for each GPU, one for a node without."""
    return "".join(f"{node.host} slots={max(1, node.gpu_count)}\n" for node in nodes if node.host)


def torchrun(nodes: Sequence[Reached]) -> str:
    """The name of each node, and the arguments that `torchrun` takes there."""
    lines = []
    for _, members in groupby(nodes, key=lambda node: node.address.block):
        cluster = list(members)
        for rank, node in enumerate(cluster):
            arguments = {
                "nnodes": len(cluster),
                "node-rank": rank,
                "nproc-per-node": max(1, node.gpu_count),
                "master-addr": cluster[0].host,
                "master-port": _TORCHRUN_PORT,
            }
            lines.append(f"{node.name} {' '.join(f'--{name}={value}' for name, value in arguments.items())}\n")
    return "".join(lines)


def hosts_yaml(nodes: Sequence[Reached]) -> str:
    """`hosts.yaml`: what the inventory of the type `ssh` reads too."""
    return "hosts:\n" + "".join(_host(node) for node in nodes if node.target)


def _host(node: Reached) -> str:
    assert node.target is not None
    fields = {
        "name": node.name,
        "provider": node.provider,
        "gpu_type": node.gpu or None,
        "gpu_count": node.gpu_count,
        "ssh_host": node.target.host,
        "ssh_port": node.target.port,
        "ssh_user": node.target.user,
        "ssh_key": node.key_file or None,
        "is_ephemeral": node.is_ephemeral,
    }
    # Every JSON scalar is YAML.
    lines = [f"{name}: {json.dumps(value)}\n" for name, value in fields.items()]
    return "  - " + "    ".join(lines)


RENDERERS: Mapping[str, Callable[[Sequence[Reached]], str]] = {
    "openssh": openssh,
    "ansible": ansible,
    "mpi": mpi,
    "torchrun": torchrun,
    "hosts-yaml": hosts_yaml,
}


def missing(format: str, nodes: Sequence[Reached]) -> Iterator[str]:
    """What is left out, for standard error."""
    if not nodes:
        yield "The state has no nodes."
        return
    by_address = format in ("mpi", "torchrun")
    left = [node for node in nodes if not (node.host if by_address else node.target)]
    if left:
        what = "no address yet" if by_address else "no SSH"
        names = ", ".join(node.name for node in left[:3]) + (", ..." if len(left) > 3 else "")
        yield f"Left out, with {what}: {names}."
