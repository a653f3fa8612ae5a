"""What a fresh machine does on its first boot, for clouds whose images run cloud-init.

Machines have no place for environment variables and do not mount what is attached to them; this makes up for both.
"""

import json
import shlex
from collections.abc import Mapping, Sequence

from gpuplan.core.values import JsonValue

_BOUNDARY = "gpuplan-first-boot"
_DEVICE_SECONDS = 1800
"""How long a machine waits for a volume: it is attached only once the machine runs."""


def first_boot(
    *,
    env: Mapping[str, str] | None = None,
    mounts: Mapping[str, str] | None = None,
    keys: Sequence[str] = (),
    config: Mapping[str, JsonValue] | None = None,
    scripts: Sequence[str] = (),
    own: str | None = None,
) -> str | None:
    """User data that sets variables, authorises public keys, and mounts devices (device path to folder), beside the
    user's `own`. `config` and `scripts` are what else the cloud itself makes necessary, in the words of cloud-config
    and of the shell. None when there is nothing to do."""
    parts = []
    if keys or config:
        directives = {**(config or {}), **({"ssh_authorized_keys": list(keys)} if keys else {})}
        parts.append(("text/cloud-config", f"#cloud-config\n{json.dumps(directives)}\n"))
    if env or mounts:
        parts.append(("text/x-shellscript", _script(env or {}, mounts or {})))
    parts += [("text/x-shellscript", script) for script in scripts]
    if own:
        parts.append(("text/cloud-config" if own.startswith("#cloud-config") else "text/x-shellscript", own))
    if not parts:
        return None
    return parts[0][1] if len(parts) == 1 else _multipart(parts)


def _script(env: Mapping[str, str], mounts: Mapping[str, str]) -> str:
    lines = ["#!/bin/sh"]
    for name, value in env.items():
        # The first file is read by PAM as it stands, the second by every login shell.
        lines.append(f"printf '%s\\n' {shlex.quote(f'{name}={json.dumps(value)}')} >> /etc/environment")
        lines.append(
            f"printf '%s\\n' {shlex.quote(f'export {name}={shlex.quote(value)}')} >> /etc/profile.d/gpuplan.sh"
        )
    for device, folder in mounts.items():
        lines += _mounting(shlex.quote(device), shlex.quote(folder))
    return "\n".join(lines) + "\n"


def _mounting(device: str, folder: str) -> list[str]:
    """In the background: the boot goes on, and the volume comes when it is attached. What is on it stays."""
    return [
        "(",
        f"  for second in $(seq {_DEVICE_SECONDS}); do [ -e {device} ] && break; sleep 1; done",
        f"  blkid {device} >/dev/null 2>&1 || mkfs.ext4 -q {device}",
        f"  mkdir -p {folder}",
        f"  grep -qs {device} /etc/fstab || echo {device} {folder} auto defaults,nofail 0 2 >> /etc/fstab",
        f"  mount {folder}",
        ") >/var/log/gpuplan-volumes.log 2>&1 &",
    ]


def _multipart(parts: Sequence[tuple[str, str]]) -> str:
    lines = [f'Content-Type: multipart/mixed; boundary="{_BOUNDARY}"', "MIME-Version: 1.0", ""]
    for content_type, content in parts:
        lines += [f"--{_BOUNDARY}", f'Content-Type: {content_type}; charset="utf-8"', "", content]
    return "\n".join([*lines, f"--{_BOUNDARY}--", ""])
