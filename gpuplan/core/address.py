"""Addresses: the stable, printable names of resources and of their instances.

`clusters.train` names a resource, `clusters.web["eu"].nodes[0]` one instance of it. Every room uses them.
"""

import json
import re
from typing import NamedTuple

_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_ADDRESS = re.compile(
    rf"(?P<kind>{_NAME})\.(?P<name>{_NAME})"
    r"(?:\[(?:(?P<index>\d+)|(?P<key>\"(?:[^\"\\]|\\.)*\"))\])?"
    r"(?:\.nodes\[(?P<node>\d+)\])?"
)


class Address(NamedTuple):
    """A resource, or one instance of it: `key` comes from `for_each` or `count`, `node` counts inside a cluster.

    A tuple, not a dataclass: a plan looks addresses up a hundred times each, and tuples hash in C.
    """

    kind: str
    name: str
    key: str | int | None = None
    node: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read what `str()` wrote. Raises ValueError for anything else."""
        match = _ADDRESS.fullmatch(text)
        if match is None:
            raise ValueError(f"`{text}` is not an address")
        key: str | int | None = None
        if match["index"] is not None:
            key = int(match["index"])
        elif match["key"] is not None:
            key = json.loads(match["key"])
        node = None if match["node"] is None else int(match["node"])
        return cls(match["kind"], match["name"], key, node)

    def __str__(self) -> str:
        text = f"{self.kind}.{self.name}"
        if self.key is not None:
            text += f"[{self.key if isinstance(self.key, int) else json.dumps(self.key)}]"
        if self.node is not None:
            text += f".nodes[{self.node}]"
        return text

    @property
    def resource(self) -> "Address":
        """The declared thing this instance belongs to: `clusters.web`."""
        return Address(self.kind, self.name)

    @property
    def block(self) -> "Address":
        """The instance of the resource without its node: `clusters.web["eu"]`."""
        return Address(self.kind, self.name, self.key)

    def covers(self, other: "Address") -> bool:
        """Whether `other` is this address or lies within it, as `--target` means it."""
        if (self.kind, self.name) != (other.kind, other.name):
            return False
        if self.key is not None and self.key != other.key:
            return False
        return self.node is None or self.node == other.node

    @property
    def order(self) -> tuple[str, str, bool, int, str, int]:
        """Sort key that counts numbers as numbers: nodes[2] comes before nodes[10]."""
        number = self.key if isinstance(self.key, int) else -1
        text = self.key if isinstance(self.key, str) else ""
        return (self.kind, self.name, bool(text), number, text, -1 if self.node is None else self.node)
