"""What of a spec can be rehearsed: the part whose providers have an emulator. Pure; called by `rehearsing`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from gpuplan.core.address import Address
from gpuplan.core.desired import Configuration, Desired, Output
from gpuplan.core.values import Deferred, Ref, leaves


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A resource that is not rehearsed, or not at every place it could be, and why."""

    resource: Address
    why: str


@dataclass(frozen=True, slots=True)
class Rehearsed:
    configuration: Configuration
    left_out: tuple[LeftOut, ...]


def rehearsed_part(configuration: Configuration, emulated: Collection[str]) -> Rehearsed:
    """The spec without what lives at other providers than the `emulated` blocks, and without what needs that.

    Objects that would be imported are left out too: an emulator has none of them.
    """
    kept: dict[Address, Desired] = {}
    why: dict[Address, str] = {}
    gone: set[Address] = set()
    for address, desired in configuration.instances.items():
        missing = sorted({place.provider for place in desired.candidates} - set(emulated))
        places = tuple(place for place in desired.candidates if place.provider in emulated)
        if missing:
            why.setdefault(address.resource, _elsewhere(missing, configuration))
        if places:
            kept[address] = desired if not missing else replace(desired, candidates=places)
        else:
            gone |= _names(address)
    while needing := {address: desired for address, desired in kept.items() if desired.depends_on & gone}:
        for address, desired in needing.items():
            why.setdefault(address.resource, f"it needs `{min(map(str, desired.depends_on & gone))}`")
            gone |= _names(address)
            del kept[address]
    for imported in configuration.imports:
        why.setdefault(imported.target.resource, "an emulator has nothing to import: it is created instead")
    outputs = {name: output for name, output in configuration.outputs.items() if not _mentions(output, gone)}
    return Rehearsed(
        replace(configuration, instances=kept, outputs=outputs, imports=()),
        tuple(LeftOut(resource, text) for resource, text in why.items()),
    )


def _names(address: Address) -> set[Address]:
    """Every name by which others may depend on an instance."""
    return {address, address.block, address.resource}


def _elsewhere(names: list[str], configuration: Configuration) -> str:
    blocks: Mapping[str, str] = {name: block.type for name, block in configuration.providers.items()}
    told = [name if blocks.get(name, name) == name else f"{name} ({blocks[name]})" for name in names]
    return f"{', '.join(told)} {'has' if len(told) == 1 else 'have'} no emulator"


def _mentions(output: Output, gone: set[Address]) -> bool:
    return any(
        (isinstance(leaf, Ref) and leaf.address in gone) or (isinstance(leaf, Deferred) and bool(leaf.refs & gone))
        for leaf in leaves(output.value)
    )
