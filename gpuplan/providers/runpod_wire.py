"""What RunPod answers about pods, volumes and keys, in our words. Pure; `runpod` makes the calls."""

import base64
import binascii
import hashlib
import json
import re
import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias, TypeVar

from pydantic import ValidationError

from gpuplan.core.desired import Kind
from gpuplan.core.observed import Observed, Status
from gpuplan.core.secret import Secret
from gpuplan.core.values import Attrs, JsonValue, Value
from gpuplan.net.marks import from_name, from_tags, from_text, is_mark_tag, name_in_text
from gpuplan.net.payload import CamelPayload
from gpuplan.providers.runpod_offers import gpu_of

Body: TypeAlias = dict[str, JsonValue]
P = TypeVar("P")

MARK, ASKED, KEYS = "GPUPLAN_MARK", "GPUPLAN_ASKED", "PUBLIC_KEY"
"""Variables of a pod: pods have no tags, and their variables are told back. The images of RunPod let in the keys in
`PUBLIC_KEY`."""
INJECTED = frozenset({MARK, ASKED, KEYS, "JUPYTER_PASSWORD"})
SSH_PORT = "22/tcp"
SYMMETRIC_PORT = 70000
"""Ports from here on ask for the same number inside and outside; none has this number in the end."""
SHELL = "/bin/sh -c "
_FAILED_PULL = re.compile(
    "pull access denied|manifest unknown|manifest for .* not found|repository does not exist|no matching manifest"
    "|toomanyrequests|unauthorized|no space left on device|failed to (pull|resolve)|error pulling",
    re.IGNORECASE,
)
GRACE_SECONDS = 300
"""A container that is up for so long without a public SSH port gets none: its host has no public address."""
STATUSES: Mapping[str, Status] = {
    "PROVISIONING": Status.PENDING,
    "STARTING": Status.STARTING,
    "RUNNING": Status.RUNNING,
    "EXITED": Status.STOPPED,
    "ERROR": Status.FAILED,
    "TERMINATED": Status.TERMINATED,
}


class Asked(CamelPayload):
    """What a pod was asked for and does not tell itself; it carries this along in a variable."""

    env: tuple[str, ...] = ()
    secret: tuple[str, ...] = ()
    ports: tuple[int | str, ...] = ()
    gpus: int = 0
    text: bool = False
    """The command was a text for the shell."""

    def encode(self) -> str:
        return json.dumps(self.model_dump(exclude_defaults=True), separators=(",", ":"))

    @classmethod
    def read(cls, env: Mapping[str, str]) -> "Asked | None":
        """None for a pod that was not made by gpuplan."""
        try:
            return cls.model_validate_json(env[ASKED])
        except (KeyError, ValidationError):
            return None


class Gpus(CamelPayload):
    id: str = ""
    count: int = 0
    vcpu_count: int | None = None
    memory: int | None = None


class Cpus(CamelPayload):
    id: str = ""
    vcpu_count: int = 0
    memory: int = 0


class NetworkMount(CamelPayload):
    volume_id: str = ""
    path: str = ""


class Mounts(CamelPayload):
    network: tuple[NetworkMount, ...] = ()


class SshEndpoint(CamelPayload):
    host: str
    port: int = 22
    username: str = "root"


class Ssh(CamelPayload):
    direct: SshEndpoint | None = None


class RuntimePort(CamelPayload):
    private: int = 0
    public: int = 0
    type: str = ""
    ip: str = ""


class Runtime(CamelPayload):
    ports: tuple[RuntimePort, ...] = ()


class GlobalNetworking(CamelPayload):
    ip: str | None = None
    internal_dns: str | None = None


class Pod(CamelPayload):
    id: str
    name: str = ""
    status: str = ""
    image: str = ""
    args: str = ""
    disk: int = 0
    ports: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    mounts: Mounts = Mounts()
    gpu: Gpus | None = None
    cpu: Cpus | None = None
    cloud: str = ""
    data_center_id: str | None = None
    cuda_version: str | None = None
    ssh: Ssh = Ssh()
    cost: float = 0
    global_networking: GlobalNetworking = GlobalNetworking()
    runtime: Runtime = Runtime()
    created_at: str = ""
    started_at: str | None = None

    @property
    def asked(self) -> Asked | None:
        return Asked.read(self.env)

    @property
    def lacks_gpus(self) -> bool:
        """Started without them: others took them while it was stopped."""
        wanted = self.asked.gpus if self.asked else 0
        return self.status == "RUNNING" and self.gpu is not None and self.gpu.count < wanted

    def to_observed(self, now: datetime) -> Observed:
        status, detail = self._status(now)
        mark = from_text(self.env.get(MARK, "")) or from_name(self.name)
        return Observed(Kind.NODE, self.id, status, self._attrs(), self._facts(), mark, detail)

    def _status(self, now: datetime) -> tuple[Status, str]:
        """The status in our words, and why it is so. A container that runs is not reachable yet."""
        status = STATUSES.get(self.status)
        if status is None:
            return Status.UNKNOWN, f"RunPod says it is `{self.status}`"
        if self.lacks_gpus:
            return Status.FAILED, "it was started without its GPUs: others took them while it was stopped"
        waits = status is Status.RUNNING and SSH_PORT in self.ports and self.ssh.direct is None
        if waits and age_seconds(self.started_at or self.created_at, now) < GRACE_SECONDS:
            return Status.STARTING, "waits for its public SSH port"
        return status, ""

    def _attrs(self) -> Attrs:
        attrs: dict[str, Value] = {
            "image": self.image,
            "command": self._command(),
            "disk_gb": self.disk,
            "ports": self._ports(),
            "env": self._env(),
            "volumes": [{"volume": mount.volume_id, "mount": mount.path} for mount in self.mounts.network],
        }
        if self.data_center_id:
            attrs["region"] = self.data_center_id
        if self.cpu:
            attrs |= {"instance_type": f"{self.cpu.id}-{self.cpu.vcpu_count}", "cpu": self.cpu.vcpu_count}
            attrs |= {"memory_gb": self.cpu.memory}
        if self.gpu:
            attrs["instance_type"] = self.gpu.id
            if self.gpu.count and (name := gpu_of(self.gpu.id)):
                attrs["gpu"] = f"{name}:{self.gpu.count}"
        return attrs

    def _facts(self) -> dict[str, JsonValue]:
        direct, units = self.ssh.direct, self.gpu or self.cpu
        return {
            "name": self.name,
            "public_ip": direct.host if direct else None,
            "ssh_port": direct.port if direct else None,
            "ssh_user": direct.username if direct else None,
            "private_ip": self.global_networking.ip,
            "hostname": self.global_networking.internal_dns,
            "endpoints": self._endpoints(),
            "region": self.data_center_id,
            "price_per_hour": self.cost,
            "cloud": self.cloud.lower(),
            "cuda": self.cuda_version,
            "vcpus": units.vcpu_count if units else None,
            "ram_gb": units.memory if units else None,
            "created_at": self.created_at,
            "started_at": self.started_at,
        }

    def _endpoints(self) -> dict[str, JsonValue]:
        """Where each port is reached; TCP ports get another number at every start."""
        mapped = {port.private: f"{port.ip}:{port.public}" for port in self.runtime.ports if port.type == "tcp"}
        web = [int(port.partition("/")[0]) for port in self.ports if port.endswith("/http")]
        proxied = {number: f"https://{self.id}-{number}.proxy.runpod.net" for number in web}
        return {str(number): address for number, address in {**mapped, **proxied}.items()}

    def _command(self) -> Value:
        text = self.args.strip()
        try:
            words = shlex.split(text)
        except ValueError:
            return text
        if self.asked and self.asked.text and text.startswith(SHELL) and len(words) == 3:
            return words[2]
        return words or None

    def _ports(self) -> list[Value]:
        """In the order they were asked for, which RunPod does not keep."""
        asked = self.asked.ports if self.asked else ()
        told = [_port(text) for text in self.ports if _number(text) < SYMMETRIC_PORT and text != SSH_PORT]
        if 22 in asked and SSH_PORT in self.ports:
            told.append(22)
        return list(asked) if set(told) == set(asked) else list(told)

    def _env(self) -> dict[str, Value]:
        """The variables that were asked for, secret ones as such. Of a stranger's pod all may be secret."""
        asked = self.asked
        if asked is None:
            return {name: Secret(value) for name, value in self.env.items() if name not in INJECTED}
        plain: dict[str, Value] = {name: self.env[name] for name in asked.env if name in self.env}
        return {**plain, **{name: Secret(self.env[name]) for name in asked.secret if name in self.env}}


class NetworkVolume(CamelPayload):
    id: str
    name: str = ""
    size: int = 0
    data_center: str = ""
    type: str = ""

    def to_observed(self, now: datetime) -> Observed:
        attrs: Attrs = {"size_gb": self.size, "region": self.data_center, "type": self.type}
        facts: dict[str, JsonValue] = {"name": name_in_text(self.name)}
        return Observed(Kind.VOLUME, self.id, Status.RUNNING, attrs, facts, from_text(self.name))


class KeyList(CamelPayload):
    """The account's SSH keys, one line each. RunPod knows only the whole list: one without `keys` is not understood."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Key:
    """One line of that list. Its comment carries our mark, its id is the token, or its fingerprint."""

    line: str

    @property
    def id(self) -> str:
        mark = from_text(self.line)
        return mark.token if mark else fingerprint(self.line)

    @property
    def public_key(self) -> str:
        return " ".join(word for word in self.line.split() if not is_mark_tag(word))

    def to_observed(self, now: datetime) -> Observed:
        facts: dict[str, JsonValue] = {"fingerprint": fingerprint(self.line)}
        mark = from_tags([self.line])
        return Observed(Kind.SSH_KEY, self.id, Status.RUNNING, {"public_key": self.public_key}, facts, mark)


class LogLine(CamelPayload):
    line: str = ""


async def log_lines(events: AsyncIterator[str]) -> AsyncIterator[str]:
    """The lines inside a stream of events; the rest of an event only frames it."""
    async for event in events:
        if event.startswith("data:"):
            with suppress(ValidationError):
                yield LogLine.model_validate_json(event.removeprefix("data:").strip()).line


def tells_failed_pull(line: str) -> bool:
    return _FAILED_PULL.search(line) is not None


def fingerprint(line: str) -> str:
    """As `ssh-keygen -l` prints it."""
    try:
        blob = base64.b64decode(line.split()[1], validate=True)
    except (IndexError, binascii.Error):
        blob = line.encode()
    return f"SHA256:{base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip('=')}"


def age_seconds(moment: str, now: datetime) -> float:
    """Seconds since then; 0 where no time is told."""
    with suppress(ValueError, TypeError):
        return (now - datetime.fromisoformat(moment)).total_seconds()
    return 0.0


def _number(text: str) -> int:
    number = text.partition("/")[0]
    return int(number) if number.isdigit() else 0


def _port(text: str) -> int | str:
    number, _, protocol = text.partition("/")
    return int(number) if protocol == "tcp" and number.isdigit() else text
