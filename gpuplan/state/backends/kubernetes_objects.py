"""The Lease and the Secrets of a state as manifests: names, labels, contents cut to what a Secret may hold. Pure."""

import base64
import gzip
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, TypeAlias

from gpuplan.state.backends.head import Head
from gpuplan.state.codec import MAX_BYTES, corrupt
from gpuplan.state.lock import LEASE

Tree: TypeAlias = dict[str, Any]
"""A manifest, or what the server answers."""

PIECE_BYTES = 700_000
"""Of a Secret's megabyte."""
_HEAD = "gpuplan.dev/head"
_NAME = "gpuplan.dev/name"
_PIECES = "gpuplan.dev/pieces"
_STATE = "gpuplan.dev/state"
_WORKSPACE = "gpuplan.dev/workspace"
_OBJECT = "gpuplan.dev/object"
_CONTENT = "content"


class Naming:
    """The names of one workspace's objects. `state` is that of the whole state, one for each project."""

    def __init__(self, state: str, workspace: str) -> None:
        self._state = state
        self._workspace = workspace
        self._labels = {
            "app.kubernetes.io/managed-by": "gpuplan",
            _STATE: state,
            _WORKSPACE: _digest(workspace),
        }

    @property
    def lease(self) -> str:
        return f"{self._state}-{_digest(self._workspace)}"

    def secret(self, name: str, piece: int) -> str:
        return f"{self.lease}-{_digest(name)}-{piece}"

    @property
    def everything(self) -> str:
        """Selects every Secret of the workspace."""
        return f"{_STATE}={self._state},{_WORKSPACE}={_digest(self._workspace)}"

    def selector(self, names: Sequence[str]) -> str:
        """Selects every piece of these objects."""
        return f"{self.everything},{_OBJECT} in ({','.join(map(_digest, names))})"

    def secrets(self, name: str, content: bytes) -> list[Tree]:
        """The manifests that hold a content; they may be created in any order."""
        packed = gzip.compress(content, 6, mtime=0)
        pieces = [packed[start : start + PIECE_BYTES] for start in range(0, len(packed), PIECE_BYTES)]
        return [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "gpuplan.dev/state",
                "immutable": True,
                "metadata": {
                    "name": self.secret(name, number),
                    "labels": {**self._labels, _OBJECT: _digest(name)},
                    "annotations": {_NAME: name, _PIECES: str(len(pieces))},
                },
                "data": {_CONTENT: base64.b64encode(piece).decode()},
            }
            for number, piece in enumerate(pieces)
        ]

    def lease_of(self, head: Head, content: bytes, version: str | None, now: datetime) -> Tree:
        """The Lease with this head; `version` is that of the one it replaces."""
        metadata: Tree = {
            "name": self.lease,
            "labels": self._labels,
            "annotations": {_HEAD: content.decode("ascii"), _NAME: self._workspace},
        }
        if version is not None:
            metadata["resourceVersion"] = version
        holder = head.holder
        identity = "" if holder is None else f"{holder.who}@{holder.host} {holder.operation} {holder.id}"
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": identity,
                "leaseDurationSeconds": int(LEASE.total_seconds()),
                "leaseTransitions": head.fence,
                "renewTime": _micro(now),
                **({} if holder is None else {"acquireTime": _micro(holder.created_at)}),
            },
        }


def pieces_of(secret: Tree) -> int:
    """How many Secrets hold the content that this one belongs to. Raises ValueError."""
    return int(_annotations(secret)[_PIECES])


def name_of(tree: Tree) -> str:
    """The name of the object a Secret is a piece of, or of the workspace a Lease is for."""
    return str(_annotations(tree).get(_NAME, ""))


def head_of(lease: Tree) -> bytes:
    return str(_annotations(lease).get(_HEAD, "")).encode()


def version_of(tree: Tree) -> str:
    return str(tree["metadata"]["resourceVersion"])


def content_of(secrets: Sequence[Tree], where: str) -> bytes:
    """What these Secrets hold together. Raises StateCorrupt."""
    try:
        packed = b"".join(base64.b64decode(secret["data"][_CONTENT], validate=True) for secret in secrets)
        with gzip.GzipFile(fileobj=BytesIO(packed)) as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError, KeyError, EOFError) as exc:
        raise corrupt(where, f"a Secret of it cannot be read: {exc}") from exc
    if len(content) > MAX_BYTES:
        raise corrupt(where, f"it unpacks to more than {MAX_BYTES} bytes")
    return content


def _annotations(tree: Tree) -> Mapping[str, str]:
    found = tree["metadata"].get("annotations")
    return found if isinstance(found, dict) else {}


def _digest(name: str) -> str:
    """Names of ours may hold what names there must not."""
    return hashlib.blake2b(name.encode(), digest_size=10).hexdigest()


def _micro(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
