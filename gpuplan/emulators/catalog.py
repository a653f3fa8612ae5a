"""Which emulators there are: ours by module, those of other packages by the entry-point group `gpuplan.emulators`."""

from collections.abc import Iterable, Mapping
from importlib import import_module

from gpuplan.emulators.site import EmulatorType

MODULES: Mapping[str, str] = {
    "akash": "gpuplan.emulators.akash",
    "alibaba": "gpuplan.emulators.alibaba",
    "fly": "gpuplan.emulators.fly",
    "hetzner": "gpuplan.emulators.hetzner",
    "kubernetes": "gpuplan.emulators.kubernetes",
    "lambda": "gpuplan.emulators.lambdalabs",
    "lium": "gpuplan.emulators.lium",
    "nosana": "gpuplan.emulators.nosana",
    "runpod": "gpuplan.emulators.runpod",
    "vast": "gpuplan.emulators.vast",
    "vultr": "gpuplan.emulators.vultr",
}
"""Provider type to the module whose `EMULATOR` stands in for it."""


def emulator_names() -> list[str]:
    return sorted({*MODULES, *_outside()})


def emulator_types(names: Iterable[str] = ()) -> dict[str, EmulatorType]:
    """The emulators of these provider types, all when none is named. Raises KeyError for a name that has none."""
    outside = _outside()
    wanted = list(names) or emulator_names()
    return {name: _load(MODULES[name]) if name in MODULES else outside[name] for name in wanted}


def _load(module: str) -> EmulatorType:
    found: EmulatorType = import_module(module).EMULATOR
    return found


def _outside() -> dict[str, EmulatorType]:
    from importlib.metadata import entry_points

    return {entry.name: entry.load() for entry in entry_points(group="gpuplan.emulators") if entry.name not in MODULES}
