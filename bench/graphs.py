"""The graphs that every engine is given: resources that do nothing, in four shapes.

`engines` writes each of them in the language of each engine.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

LAYERS = 10
NEEDS_PER_RESOURCE = 3
CHANGED_ONE_IN = 100


class Shape(StrEnum):
    FLAT = "flat"
    """Independent resources, each declared on its own."""
    COUNTED = "counted"
    """One declaration with a count; the changed graph counts one in a hundred more."""
    LAYERED = "layered"
    """Ten layers; each resource waits for three of the layer before."""
    CHAIN = "chain"
    """Each resource waits for the one before."""


@dataclass(frozen=True, slots=True)
class Resource:
    name: str
    revision: int
    """The attribute that the changed graph changes in place."""
    needs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    shape: Shape
    size: int
    changed: bool = False
    """One in a hundred resources has another revision."""

    @property
    def count(self) -> int:
        """Instances of the one resource of a counted graph."""
        return self.size + max(1, self.size // CHANGED_ONE_IN) if self.changed else self.size

    def resources(self) -> Iterator[Resource]:
        """In an order in which every resource comes after what it needs."""
        for index in range(self.size):
            revision = 2 if self.changed and index % CHANGED_ONE_IN == 0 else 1
            yield Resource(f"r{index}", revision, tuple(f"r{need}" for need in self._needs(index)))

    def _needs(self, index: int) -> list[int]:
        if self.shape is Shape.CHAIN:
            return [index - 1] if index else []
        if self.shape is Shape.LAYERED:
            width = max(NEEDS_PER_RESOURCE, self.size // LAYERS)
            layer, place = divmod(index, width)
            before = (layer - 1) * width
            return [before + (place + step) % width for step in range(NEEDS_PER_RESOURCE)] if layer else []
        return []
