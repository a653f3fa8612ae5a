"""Ownership marks: what a remote object carries so that it can be found after any crash."""

from dataclasses import dataclass
from enum import StrEnum

from gpuplan.core.address import Address


class MarkIn(StrEnum):
    """Where a provider keeps the mark; NONE means that nothing can be attached and intents settle by comparison."""

    TAG = "tag"
    LABEL = "label"
    NAME = "name"
    ENV = "env"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Mark:
    """`token` is fresh for every create attempt, so a late twin of an earlier attempt never passes for the new object.

    Places with little room carry the token alone; the other fields are then empty and `address` is None.
    """

    token: str
    project: str = ""
    workspace: str = ""
    lineage: str = ""
    address: Address | None = None
