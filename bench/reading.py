"""What reading a large spec costs beside libyaml's own parse, each in a process of its own.

`python -m bench.reading READER FILE` is that process: it prints the fastest of three readings in seconds.
"""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.engines import SPEC_HEAD, Gpuplan
from bench.measure import run

CLUSTERS = 10_000
_TIMES = 3


@dataclass(frozen=True, slots=True)
class Reading:
    reader: str
    seconds: float | None
    peak_mb: float
    wrong: str = ""


def write_spec(file: Path) -> None:
    """Ten thousand clusters, each declared on its own, of about 150 bytes."""
    with file.open("w") as spec:
        spec.write(SPEC_HEAD)
        for index in range(CLUSTERS):
            spec.write(
                f"  worker-{index}:\n    provider: instant\n    nodes: 1\n    labels:\n"
                f"      team: research-{index % 7}\n      number: no-{index}\n      purpose: model {index % 100}\n"
            )


def _libyaml_events(content: bytes) -> None:
    import yaml

    for _ in yaml.parse(content, Loader=yaml.CSafeLoader):
        pass


def _libyaml_nodes(content: bytes) -> None:
    import yaml

    yaml.compose(content, Loader=yaml.CSafeLoader)


def _libyaml_values(content: bytes) -> None:
    import yaml

    yaml.load(content, Loader=yaml.CSafeLoader)


def _gpuplan_load(content: bytes) -> None:
    from gpuplan.providers.registry import provider_types
    from gpuplan.spec.load import Inputs, SourceFile, load

    def no_file(name: str, asking: str) -> bytes:
        raise FileNotFoundError(name)

    inputs = Inputs(workspace="default", environ={}, given={}, read_file=no_file, provider_types=provider_types())
    configuration = load([SourceFile("gpuplan.yaml", content)], inputs)
    if len(configuration.instances) != CLUSTERS:
        raise SystemExit(f"read {len(configuration.instances)} instances")


READERS: Mapping[str, Callable[[bytes], None]] = {
    "libyaml events": _libyaml_events,
    "libyaml nodes": _libyaml_nodes,
    "libyaml values": _libyaml_values,
    "gpuplan": _gpuplan_load,
}


def measure_reading(folder: Path, limit_seconds: float) -> list[Reading]:
    """Each reader on the same file of ten thousand clusters."""
    file = folder / "gpuplan.yaml"
    write_spec(file)
    readings = []
    for reader in READERS:
        measured = run(
            [sys.executable, "-m", "bench.reading", reader, str(file)],
            folder=folder,
            environ=Gpuplan().environ(),
            limit_seconds=limit_seconds,
        )
        if measured.status == 0:
            readings.append(Reading(reader, float(measured.output), measured.peak_mb))
        else:
            readings.append(Reading(reader, None, measured.peak_mb, wrong=measured.output))
    return readings


def _fastest(reader: Callable[[bytes], None], content: bytes) -> float:
    taken = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        reader(content)
        taken.append(time.perf_counter() - began)
    return min(taken)


if __name__ == "__main__":
    print(_fastest(READERS[sys.argv[1]], Path(sys.argv[2]).read_bytes()))
