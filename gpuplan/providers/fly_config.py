"""The configuration of a machine at Fly.io, read and in our words. Pure; part of `fly_wire` and `fly_bodies`."""

import json
import re
from collections.abc import Mapping
from typing import TypeAlias

from pydantic import ValidationError

from gpuplan.core.secret import Secret
from gpuplan.core.values import Attrs, JsonValue, Value
from gpuplan.net.payload import Payload
from gpuplan.providers.fly_guests import CPU_KINDS, Guest, card_of

Body: TypeAlias = dict[str, JsonValue]

MARK, ASKED = "gpuplan", "gpuplan_asked"
"""Keys of a machine's metadata; the others are labels, but for those of the platform itself."""
PLATFORM = "fly_"
SSH_PORT = 22
SHELL = ("/bin/sh", "-c")
POLICIES: Mapping[str, str] = {"always": "always", "on-failure": "on-failure", "never": "no"}
_HOME_OF_KEYS = re.compile(r"/(?:home/)?(?P<user>[^/]+)/\.ssh/authorized_keys")


class Asked(Payload):
    """What a machine was asked for and does not tell itself; it carries this along in its metadata."""

    env: tuple[str, ...] = ()
    secret: tuple[str, ...] = ()
    ports: tuple[int | str, ...] = ()
    image: str = ""
    text: bool = False
    """The command was a text for the shell."""

    def encode(self) -> str:
        return json.dumps(self.model_dump(exclude_defaults=True), separators=(",", ":"))

    @classmethod
    def read(cls, metadata: Mapping[str, str]) -> "Asked | None":
        """None for a machine that was not made by gpuplan."""
        try:
            return cls.model_validate_json(metadata[ASKED])
        except (KeyError, ValidationError):
            return None


class GuestTold(Payload):
    cpu_kind: str = "shared"
    cpus: int = 1
    memory_mb: int = 256
    gpu_kind: str = ""
    gpus: int = 0

    @property
    def guest(self) -> Guest | None:
        """None for a kind of machine that we do not know."""
        is_known = self.cpu_kind in CPU_KINDS and (not self.gpu_kind or card_of(self.gpu_kind) is not None)
        return Guest(self.cpu_kind, self.cpus, self.memory_mb, self.gpu_kind) if is_known else None


class Init(Payload):
    cmd: tuple[str, ...] = ()


class Mount(Payload):
    volume: str = ""
    path: str = ""


class OuterPort(Payload):
    port: int | None = None
    handlers: tuple[str, ...] = ()


class Service(Payload):
    """A port of a machine, and the ports of the app that lead to it."""

    protocol: str = "tcp"
    internal_port: int = 0
    ports: tuple[OuterPort, ...] = ()

    @property
    def outer(self) -> int | None:
        return next((port.port for port in self.ports if port.port), None)

    @property
    def is_web(self) -> bool:
        return any(port.handlers for port in self.ports)


class Restart(Payload):
    policy: str = ""


class File(Payload):
    guest_path: str = ""


class Rootfs(Payload):
    size_gb: int = 0


class Config(Payload):
    """The part of a machine's configuration that we speak of."""

    image: str = ""
    env: Mapping[str, str] = {}
    guest: GuestTold = GuestTold()
    init: Init = Init()
    metadata: Mapping[str, str] = {}
    mounts: tuple[Mount, ...] = ()
    services: tuple[Service, ...] = ()
    restart: Restart = Restart()
    files: tuple[File, ...] = ()
    rootfs: Rootfs = Rootfs()

    @property
    def asked(self) -> Asked:
        return Asked.read(self.metadata) or Asked()

    @property
    def outer_ports(self) -> dict[int, int]:
        """Ports of the machine to those of the app that lead there."""
        return {service.internal_port: service.outer for service in self.services if service.outer}

    def attrs(self, app: str) -> Attrs:
        policies = {theirs: ours for ours, theirs in POLICIES.items()}
        attrs: dict[str, Value] = {
            "image": self._image(),
            "command": self._command(),
            "env": self._env(),
            "ports": self._ports(),
            "volumes": [{"volume": f"{app}/{mount.volume}", "mount": mount.path} for mount in self.mounts],
            "labels": labels_in(self.metadata),
        }
        if guest := self.guest.guest:
            attrs |= {"instance_type": guest.preset, "cpu": guest.cpus, "memory_gb": guest.memory_mb / 1024}
            if card := card_of(guest.card):
                attrs["gpu"] = f"{card.gpu}:{self.guest.gpus}"
        if self.restart.policy in policies:
            attrs["restart"] = policies[self.restart.policy]
        if self.rootfs.size_gb:
            attrs["disk_gb"] = self.rootfs.size_gb
        return attrs

    def facts(self, app: str) -> dict[str, JsonValue]:
        outer, host = self.outer_ports, host_of(app)
        homes = [_HOME_OF_KEYS.fullmatch(file.guest_path) for file in self.files]
        web = {service.internal_port for service in self.services if service.is_web}
        return {
            "ssh_host": host if SSH_PORT in outer else None,
            "ssh_port": outer.get(SSH_PORT),
            "ssh_user": next((home["user"] for home in homes if home), "root"),
            "endpoints": {str(n): f"{'https://' if n in web else ''}{host}:{outer[n]}" for n in outer if n != SSH_PORT},
        }

    def _image(self) -> str:
        """Fly.io may pin what was asked for by its digest."""
        asked = self.asked.image
        return asked if asked and self.image.startswith(f"{asked}@") else self.image

    def _command(self) -> Value:
        words = list(self.init.cmd)
        return words[2] if self.asked.text and len(words) == 3 and tuple(words[:2]) == SHELL else words or None

    def _env(self) -> dict[str, Value]:
        """The variables that were asked for, secret ones as such. Of a stranger's machine all may be secret."""
        asked = Asked.read(self.metadata)
        if asked is None:
            return {name: Secret(value) for name, value in self.env.items()}
        plain: dict[str, Value] = {name: self.env[name] for name in asked.env if name in self.env}
        return {**plain, **{name: Secret(self.env[name]) for name in asked.secret if name in self.env}}

    def _ports(self) -> list[Value]:
        """In the order they were asked for. That of SSH is there with the keys, too."""
        asked = self.asked.ports
        told: list[Value] = [
            f"{service.internal_port}/http" if service.is_web else service.internal_port
            for service in self.services
            if service.internal_port != SSH_PORT or SSH_PORT in asked
        ]
        return list(asked) if set(told) == set(asked) else told


def labels_in(metadata: Mapping[str, str]) -> dict[str, Value]:
    return {name: value for name, value in metadata.items() if is_label(name)}


def is_label(name: str) -> bool:
    return name not in (MARK, ASKED) and not name.startswith(PLATFORM)


def host_of(app: str) -> str:
    return f"{app}.fly.dev"
