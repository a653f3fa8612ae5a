"""What the system's own `ssh` has to be told to reach a node as gpuplan does. Pure; used by `workflow.visiting`."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from gpuplan.core.ports import SshTarget
from gpuplan.net.ssh import jump_alias

Options: TypeAlias = Sequence[tuple[str, str]]


def ssh_options(target: SshTarget, alias: str, known_hosts: Path, key_file: str) -> Options:
    """Keywords of ssh_config with their values. Host keys are checked against gpuplan's own record, under the name that
    a node has there whatever its address."""
    options = [
        ("HostName", target.host),
        ("Port", str(target.port)),
        ("User", target.user),
        ("HostKeyAlias", target.alias or alias),
        ("UserKnownHostsFile", _quoted(str(known_hosts))),
        ("StrictHostKeyChecking", "accept-new"),
        # A hashed name would be one that gpuplan cannot find again.
        ("HashKnownHosts", "no"),
        ("UpdateHostKeys", "no"),
    ]
    if key := target.key_file or key_file:
        options += [("IdentityFile", _quoted(key)), ("IdentitiesOnly", "yes")]
    if target.jump is not None:
        options.append(("ProxyCommand", _proxy(target.jump, known_hosts, key_file)))
    return options


def _proxy(jump: SshTarget, known_hosts: Path, key_file: str) -> str:
    """The command that carries the connection over a jump host: `ProxyJump` would take none of these options along."""
    words = ["ssh"]
    for keyword, value in ssh_options(jump, jump_alias(jump), known_hosts, key_file):
        words += ["-o", f"{keyword}={value}"]
    return f"{shlex.join(words).replace('%', '%%')} -W '[%h]:%p' {shlex.quote(jump.host)}"


def _quoted(value: str) -> str:
    """A file name as ssh_config takes it."""
    escaped = value.replace("%", "%%")
    return f'"{escaped}"' if any(char.isspace() for char in escaped) else escaped
