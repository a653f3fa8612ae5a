"""The registry folder of the `local` provider: what a cloud account is elsewhere. Used by `local` and `local_node`.

    lock                    held while a node or volume is made, and while GPUs are given out
    nodes/TOKEN/            node.json, status.json, lock (held by its supervisor), log, setup.log, workspace/
    volumes/TOKEN/          volume.json, content/
    gpus/DEVICE -> TOKEN    which node has a GPU; void once that node is gone
    scratch/                half made and half removed: rubbish to whoever holds the lock

All projects of a user on this machine share it. An object exists from the rename that brings it in to the rename that
takes it out. Everything here blocks, briefly.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, Field, JsonValue, ValidationError

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.gpus import GpuRequest, gpu_satisfies
from gpuplan.core.marks import Mark
from gpuplan.providers.local_gpus import Device
from gpuplan.providers.local_pids import Pid
from gpuplan.providers.local_supervisor import NODE, SCRATCH, STATUS, WORKSPACE, remove_tree

VOLUME, CONTENT = "volume.json", "content"
_TOKEN = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")

M = TypeVar("M", bound=BaseModel)


class MarkFile(BaseModel):
    """The ownership mark as it is written down."""

    token: str
    project: str
    workspace: str
    lineage: str
    address: str | None

    @classmethod
    def of(cls, mark: Mark) -> "MarkFile":
        address = None if mark.address is None else str(mark.address)
        return cls(
            token=mark.token, project=mark.project, workspace=mark.workspace, lineage=mark.lineage, address=address
        )

    @property
    def mark(self) -> Mark:
        address = None if self.address is None else Address.parse(self.address)
        return Mark(self.token, self.project, self.workspace, self.lineage, address)


class NodeFile(BaseModel):
    """`node.json`: what was asked for. The supervisor reads `command`, `env`, `restart`, `grace_seconds` and
    `generation`, which grows with every change that takes a restart."""

    name: str
    mark: MarkFile
    created_at: datetime
    generation: int = 0
    stopped: bool = False
    command: str | list[str] | None = None
    restart: str = "never"
    inherited: dict[str, str] = Field(default_factory=dict, repr=False)
    """What every command on this node finds in its environment, before `env` of the spec: it is the same for life."""
    env: dict[str, str] = Field(default_factory=dict, repr=False)
    """All of the environment."""
    grace_seconds: float = 10
    gpus: list[str] = []
    attrs: dict[str, JsonValue] = Field(default_factory=dict, repr=False)
    """The attributes that are reported back, as they were asked for; none that is secret."""


class StatusFile(BaseModel):
    """`status.json`: what the supervisor says. Written by `local_supervisor.Keeper.tell`."""

    phase: Literal["running", "restarting", "stopping", "stopped", "ended"]
    generation: int
    keeper: Pid
    command: Pid | None
    exit: int | None
    restarts: int


class VolumeFile(BaseModel):
    name: str
    mark: MarkFile
    created_at: datetime
    attrs: dict[str, JsonValue]


class Damaged(Exception):
    """A file of the registry cannot be read as what it should be: the object is there, its state is unknown."""


class NoneLeft(Exception):
    """Not enough GPUs of that name are free."""


class Store:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.nodes, self.volumes = root / "nodes", root / "volumes"
        self._gpus, self._scratch = root / "gpus", root / SCRATCH

    def folder(self, kind: Kind, remote_id: str) -> Path | None:
        """Where an object lies; None if there is none."""
        parent, record = (self.volumes, VOLUME) if kind is Kind.VOLUME else (self.nodes, NODE)
        if not is_token(remote_id) or not (parent / remote_id / record).exists():
            return None
        return parent / remote_id

    # A folder listed here may vanish before it is read: whoever reads then finds nothing, and goes on.

    def node_folders(self) -> Iterator[Path]:
        return _objects(self.nodes)

    def volume_folders(self) -> Iterator[Path]:
        return _objects(self.volumes)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Alone in the registry, which is made if there is none yet; rubbish is swept."""
        for folder in (self.root, self.nodes, self.volumes, self._gpus, self._scratch):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.root / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for rubbish in self._scratch.iterdir():
                _sweep(rubbish)
            yield

    def add_node(self, token: str, node: NodeFile, mounts: Mapping[str, Path]) -> None:
        """Bring a node into being that is not there yet. Call it `locked`."""
        fresh = self._scratch / token
        workspace = fresh / WORKSPACE
        workspace.mkdir(parents=True)
        for mount, content in mounts.items():
            place = workspace / mount
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(content, target_is_directory=True)
        write_model(fresh / NODE, node)
        fresh.rename(self.nodes / token)

    def add_volume(self, token: str, volume: VolumeFile) -> None:
        """Bring a volume into being that is not there yet. Call it `locked`."""
        fresh = self._scratch / token
        (fresh / CONTENT).mkdir(parents=True)
        write_model(fresh / VOLUME, volume)
        fresh.rename(self.volumes / token)

    def claim_gpus(self, token: str, asked: GpuRequest, devices: Sequence[Device]) -> list[Device]:
        """Give a node its share; raises NoneLeft. Call it `locked`, before `add_node`."""
        free = [device for device in self.free(devices) if gpu_satisfies(device.gpu, asked.name)]
        if len(free) < asked.count:
            raise NoneLeft
        share = free[: asked.count]
        for device in share:
            claim = self._gpus / device.id
            claim.unlink(missing_ok=True)
            claim.symlink_to(token)
        return share

    def free(self, devices: Sequence[Device]) -> list[Device]:
        """The devices that no existing node has."""
        return [device for device in devices if not self._is_taken(device)]

    def _is_taken(self, device: Device) -> bool:
        try:
            owner = (self._gpus / device.id).readlink()
        except FileNotFoundError:
            return False
        return (self.nodes / owner / NODE).exists()

    def take_out(self, folder: Path) -> None:
        """End the existence of a node or volume, and remove what it was."""
        gone = self._scratch / f"{folder.name}.{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            folder.rename(gone)
            _sweep(gone)


def read_model(path: Path, model: type[M]) -> M | None:
    """None if there is no such file; raises Damaged if it is not what it should be."""
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as exc:
        raise Damaged(f"{path} cannot be read") from exc


def write_model(path: Path, model: BaseModel) -> None:
    """Replace a file as a whole; only its owner may read it."""
    fresh = path.with_name(f"{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(model.model_dump_json(indent=2))
    fresh.replace(path)


def read_node(folder: Path) -> tuple[NodeFile, StatusFile | None] | None:
    """None if the node is gone; raises Damaged."""
    node = read_model(folder / NODE, NodeFile)
    return None if node is None else (node, read_model(folder / STATUS, StatusFile))


def is_token(text: str) -> bool:
    """Whether it can name a folder here."""
    return _TOKEN.fullmatch(text) is not None


def _sweep(rubbish: Path) -> None:
    # What another user left in there (a container's root) stays where it is: it is in nobody's way.
    with contextlib.suppress(OSError):
        remove_tree(str(rubbish))


def _objects(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(folder.iterdir())
