"""A stored state as texts, for looking at it when it cannot be read.

Implemented by the backends that keep one snapshot and one journal as texts; asked by `workflow.mending`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from gpuplan.core.state import LockInfo, State


@dataclass(frozen=True, slots=True)
class RawState:
    """What a backend holds, unread. `kept` are the earlier snapshots by serial."""

    snapshot: bytes | None
    journal: bytes | None
    kept: Mapping[int, bytes] = field(default_factory=dict)


@runtime_checkable
class CanMend(Protocol):
    """Backends whose texts can be looked at one by one, and replaced although they are damaged."""

    async def raw(self) -> RawState: ...

    async def put_back(self, state: State, *, held: LockInfo) -> None:
        """Make this the snapshot, without a journal, whatever is there; what was there is kept beside it."""
        ...
