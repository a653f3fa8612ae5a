"""What `local` does, step by step and blocking: one method per verb of the contract. Called by `local` in threads."""

import errno
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path, PurePosixPath

from gpuplan.core.desired import Kind
from gpuplan.core.encoding import encode_value
from gpuplan.core.errors import Failure, InvalidRequest, NoCapacity, NotFound, Refused
from gpuplan.core.kinds import Mount, NodeAttrs, plain
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, OfferQuery
from gpuplan.core.ports import Account, Want
from gpuplan.core.secret import Secret
from gpuplan.core.values import Attrs, JsonValue, Ref, leaves
from gpuplan.providers import local_node
from gpuplan.providers.local_gpus import visible
from gpuplan.providers.local_machine import Options, account_of, devices_of, inherited, offers_of, root_of
from gpuplan.providers.local_node import NODE_ID
from gpuplan.providers.local_store import (
    CONTENT,
    VOLUME,
    Damaged,
    MarkFile,
    NodeFile,
    NoneLeft,
    Store,
    VolumeFile,
    is_token,
    read_model,
    read_node,
    write_model,
)

REPORTED = ("command", "env", "gpu", "restart", "labels")
"""The attributes of a node that can be told from what it is; the others are only gpuplan's own record."""
RESTART = ("always", "on-failure", "never")


class LocalAccount:
    """The registry of one machine, as the provider block `name` sees it."""

    def __init__(self, name: str, options: Options, environ: Mapping[str, str]) -> None:
        self._name = name
        self._options = options
        self._environ = environ
        self._store = Store(root_of(options, environ))

    @property
    def inherited(self) -> dict[str, str]:
        return inherited(self._environ)

    def health(self) -> Account:
        root = self._store.root
        if root.exists() and not root.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(root))
        if root.exists() and not os.access(root, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(root))
        return Account(account_of(root), endpoint=str(root))

    def offers(self, query: OfferQuery, now: datetime) -> list[Offer]:
        devices = devices_of(self._options, self._environ)
        return offers_of(devices, self._store.free(devices), query, provider=self._name, now=now)

    def list(self, kind: Kind) -> list[Observed]:
        folders = self._store.volume_folders() if kind is Kind.VOLUME else self._store.node_folders()
        return [seen for folder in folders if (seen := _observe(kind, folder)) is not None]

    def get(self, kind: Kind, remote_id: str) -> Observed | None:
        folder = self._store.folder(kind, remote_id)
        return None if folder is None else _observe(kind, folder)

    def create(self, want: Want, mark: Mark, now: datetime) -> Observed:
        if not is_token(mark.token):
            raise self._refusal(InvalidRequest, want, f"`{mark.token}` cannot name a folder")
        if want.kind is Kind.VOLUME:
            return self._create_volume(want, mark, now)
        return self._create_node(want, mark, now)

    def _create_volume(self, want: Want, mark: Mark, now: datetime) -> Observed:
        with self._store.locked():
            if self._store.folder(Kind.VOLUME, mark.token) is None:
                attrs = _reported(want.attrs, ("size_gb",))
                volume = VolumeFile(name=want.name, mark=MarkFile.of(mark), created_at=now, attrs=attrs)
                self._store.add_volume(mark.token, volume)
        return self._seen(Kind.VOLUME, mark.token)

    def _create_node(self, want: Want, mark: Mark, now: datetime) -> Observed:
        asked = NodeAttrs.of(want.attrs)
        mounts = self._mounts(want, asked)
        devices = devices_of(self._options, self._environ) if asked.gpu else ()
        with self._store.locked():
            if self._store.folder(Kind.NODE, mark.token) is None:
                try:
                    share = self._store.claim_gpus(mark.token, asked.gpu, devices) if asked.gpu else []
                except NoneLeft:
                    raise self._refusal(NoCapacity, want, gpu=str(asked.gpu)) from None
                node = NodeFile(
                    name=want.name,
                    mark=MarkFile.of(mark),
                    created_at=now,
                    stopped=asked.stopped,
                    grace_seconds=self._options.grace,
                    gpus=[device.id for device in share],
                    inherited={**self.inherited, **visible(share)},
                )
                self._store.add_node(mark.token, self._with(node, want, asked), mounts)
        return self.bring_up(mark.token)

    def bring_up(self, remote_id: str) -> Observed:
        """See that the node's supervisor runs; one that cannot be started now is tried again at the next call."""
        try:
            local_node.bring_up(self._store.nodes / remote_id, self.inherited)
        except OSError as exc:
            # The node exists already: this must not look as if nothing had happened.
            return replace(self._seen(Kind.NODE, remote_id), detail=f"its supervisor does not start: {exc.strerror}")
        return self._seen(Kind.NODE, remote_id)

    def delete(self, kind: Kind, remote_id: str) -> None:
        folder = self._store.folder(kind, remote_id)
        if folder is None:
            return
        if kind is Kind.VOLUME:
            self._store.take_out(folder)
        else:
            local_node.remove(self._store, folder)

    def update(self, want: Want, remote_id: str) -> Observed:
        folder = self._folder(want.kind, remote_id, f"update {want.address}")
        if want.kind is Kind.VOLUME:
            volume = read_model(folder / VOLUME, VolumeFile)
            if volume is not None:
                attrs = _reported(want.attrs, ("size_gb",))
                write_model(folder / VOLUME, volume.model_copy(update={"attrs": attrs}))
        elif found := read_node(folder):
            local_node.change(folder, self._with(found[0], want, NodeAttrs.of(want.attrs)))
        return self._seen(want.kind, remote_id)

    def stop(self, kind: Kind, remote_id: str) -> Observed:
        local_node.stop(self.node_folder(remote_id, "stop"))
        return self._seen(kind, remote_id)

    def start(self, kind: Kind, remote_id: str) -> Observed:
        local_node.start(self.node_folder(remote_id, "start"), self.inherited)
        return self._seen(kind, remote_id)

    def node_folder(self, remote_id: str, verb: str) -> Path:
        """Raises NotFound."""
        return self._folder(Kind.NODE, remote_id, f"{verb} node {remote_id}")

    def _folder(self, kind: Kind, remote_id: str, operation: str) -> Path:
        folder = self._store.folder(kind, remote_id)
        if folder is None:
            raise NotFound(Failure(self._name, operation))
        return folder

    def _seen(self, kind: Kind, remote_id: str) -> Observed:
        """What a verb leaves behind; someone else may have removed it meanwhile."""
        return self.get(kind, remote_id) or Observed(kind, remote_id, Status.TERMINATED)

    def _with(self, node: NodeFile, want: Want, asked: NodeAttrs) -> NodeFile:
        """The node as `want` asks for it; its generation grows if the command has to be restarted for that."""
        if asked.restart not in (None, *RESTART):
            raise self._refusal(InvalidRequest, want, f"`restart` is one of {', '.join(RESTART)}")
        if asked.command is not None and not asked.command:
            raise self._refusal(InvalidRequest, want, "`command` is empty")
        env = {name: plain(text) for name, text in asked.env.items()}
        changed = node.model_copy(
            update={
                "command": asked.command if isinstance(asked.command, str | None) else list(asked.command),
                "restart": asked.restart or "never",
                "env": {**node.inherited, **env, NODE_ID: node.mark.token},
                "attrs": _reported(want.attrs, REPORTED),
            }
        )
        if (changed.command, changed.env) != (node.command, node.env):
            changed.generation += 1
        return changed

    def _mounts(self, want: Want, asked: NodeAttrs) -> dict[str, Path]:
        """Volumes by their place in the workspace. Raises NotFound, InvalidRequest."""
        mounts: dict[str, Path] = {}
        for volume in asked.volumes:
            place = PurePosixPath(volume.mount.strip("/"))
            if not place.parts or ".." in place.parts:
                raise self._refusal(InvalidRequest, want, f"`{volume.mount}` is no place inside the workspace")
            if any(place.is_relative_to(other) or PurePosixPath(other).is_relative_to(place) for other in mounts):
                raise self._refusal(InvalidRequest, want, f"`{volume.mount}` lies within another mount")
            folder = self._folder(Kind.VOLUME, _volume_id(volume), f"mount a volume on {want.address}")
            mounts[str(place)] = folder / CONTENT
        return mounts

    def _refusal(self, error: type[Refused], want: Want, message: str = "", *, gpu: str | None = None) -> Refused:
        return error(Failure(self._name, f"create {want.address}", message, gpu=gpu))


def _observe(kind: Kind, folder: Path) -> Observed | None:
    if kind is Kind.NODE:
        return local_node.observe(folder)
    try:
        volume = read_model(folder / VOLUME, VolumeFile)
    except Damaged as exc:
        return Observed(kind, folder.name, Status.UNKNOWN, detail=str(exc))
    if volume is None:
        return None
    facts: dict[str, JsonValue] = {"name": volume.name, "folder": str(folder / CONTENT)}
    return Observed(kind, folder.name, Status.RUNNING, attrs=volume.attrs, facts=facts, mark=volume.mark.mark)


def _reported(attrs: Attrs, names: tuple[str, ...]) -> dict[str, JsonValue]:
    """What is told back of `attrs`: as it was asked, and nothing in which there is a secret."""
    return {
        name: encode_value(attrs[name])
        for name in names
        if name in attrs and not any(isinstance(leaf, Secret) for leaf in leaves(attrs[name]))
    }


def _volume_id(mount: Mount) -> str:
    return (mount.volume.remote_id or "") if isinstance(mount.volume, Ref) else mount.volume
