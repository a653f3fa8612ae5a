"""Which of the project's targets were met, by what was measured. Called by `report`.

Ratios and counts, so that they hold on any machine; the few seconds are those of a quiet machine with two cores.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log

from bench.compare import Row
from bench.emulated import Emulated
from bench.engines import Step
from bench.reading import Reading
from bench.startup import Startup

_STARTUP_SECONDS = (0.15, 0.6)
_TERRAFORM, _ATLANTIDE = 10.0, 2.0
_FROM_SIZE = 500
"""Below this only the fixed cost of a process is compared with Terraform; the chain has 500."""
_READING = 1.25
_MEMORY, _MEMORY_SIZE = 4.0, 10_000
_MAKESPAN = 1.1
_SAME_BYTES = 1.2


@dataclass(frozen=True, slots=True)
class Verdict:
    """`met` None: it was not measured."""

    target: str
    met: bool | None
    measured: str


def verdicts(
    startups: Sequence[Startup], readings: Sequence[Reading], emulated: Emulated, rows: Sequence[Row]
) -> Iterator[Verdict]:
    for startup, most in zip(startups, _STARTUP_SECONDS, strict=False):
        if startup.seconds is not None:
            yield Verdict(f"{startup.title} in {most} s", startup.seconds <= most, f"{startup.seconds:.2f} s")
    yield _faster("Terraform", _TERRAFORM, [row for row in rows if row.size >= _FROM_SIZE])
    yield _faster("Atlantide", _ATLANTIDE, rows)
    yield _growth(rows)
    yield _reading(readings)
    yield _memory(rows)
    for call in emulated.calls:
        yield Verdict(f"at most {call.most:,} {call.title}", call.sent <= call.most, f"{call.sent:,}")
    for makespan in emulated.makespans:
        ratio = makespan.seconds / makespan.bound_seconds
        target = f"apply of {makespan.title} with latency in {_MAKESPAN} times the shortest possible"
        yield Verdict(target, ratio <= _MAKESPAN, f"{ratio:.2f} times")
    yield _written(rows)


def _faster(engine: str, times: float, rows: Sequence[Row]) -> Verdict:
    """By the cases in which we were measured and they were measured, or stopped after a time that says enough."""
    ours = {(row.shape, row.size, row.step): row.seconds for row in rows if row.engine == "gpuplan"}
    ratios: dict[str, float] = {}
    for row in rows:
        taken, mine = row.seconds or row.stopped_after, ours.get((row.shape, row.size, row.step))
        if row.engine == engine and taken and mine and (row.seconds or taken / mine >= times):
            ratios[f"{row.shape} {row.size:,}, {row.step}"] = taken / mine
    target = f"{times:.0f} times as fast as {engine}"
    if not ratios:
        return Verdict(target, None, "")
    met = sum(ratio >= times for ratio in ratios.values())
    worst = min(ratios, key=ratios.__getitem__)
    return Verdict(target, met == len(ratios), f"{met} of {len(ratios)} cases; least {ratios[worst]:.1f} ({worst})")


def _growth(rows: Sequence[Row]) -> Verdict:
    """From each size to the next, beside n log n."""
    times = {(row.shape, row.step, row.size): row.seconds for row in rows if row.engine == "gpuplan" and row.seconds}
    worst, where = 0.0, ""
    for (shape, step, size), seconds in times.items():
        smaller = max((other for s, t, other in times if (s, t) == (shape, step) and other < size), default=None)
        if smaller is not None and seconds is not None and (before := times[shape, step, smaller]):
            growth = (seconds / before) / (size * log(size) / (smaller * log(smaller)))
            if growth > worst:
                worst, where = growth, f"{shape}, {step}, {smaller:,} to {size:,}"
    measured = f"at most {worst:.2f} of that ({where})" if where else ""
    return Verdict("growing no worse than n log n", worst <= 1 if where else None, measured)


def _reading(readings: Sequence[Reading]) -> Verdict:
    seconds = {reading.reader: reading.seconds for reading in readings}
    parse, ours = seconds.get("libyaml nodes"), seconds.get("gpuplan")
    target = f"reading 10,000 clusters in {_READING} times what libyaml's own parse takes"
    if not parse or not ours:
        return Verdict(target, None, "")
    return Verdict(target, ours / parse <= _READING, f"{ours / parse:.2f} times")


def _memory(rows: Sequence[Row]) -> Verdict:
    peaks = {(row.shape, row.step, row.engine): row.peak_mb for row in rows if row.size == _MEMORY_SIZE and row.peak_mb}
    ratios = [
        theirs / ours
        for (shape, step, engine), theirs in peaks.items()
        if engine == "Terraform" and theirs and (ours := peaks.get((shape, step, "gpuplan")))
    ]
    target = f"below a quarter of Terraform's memory at {_MEMORY_SIZE:,}"
    if not ratios:
        return Verdict(target, None, "")
    met = sum(ratio > _MEMORY for ratio in ratios)
    return Verdict(target, met == len(ratios), f"{met} of {len(ratios)} cases; at most 1/{min(ratios):.1f} of it")


def _written(rows: Sequence[Row]) -> Verdict:
    """What an apply writes for each resource, at the largest size beside the smallest."""
    worst = 0.0
    each: dict[str, dict[int, float]] = {}
    for row in rows:
        if row.engine == "gpuplan" and row.step is Step.APPLY and row.written_bytes:
            each.setdefault(row.shape, {})[row.size] = row.written_bytes / row.size
    for sizes in each.values():
        if len(sizes) > 1:
            worst = max(worst, sizes[max(sizes)] / sizes[min(sizes)])
    target = "bytes written in proportion to the changes"
    return Verdict(target, worst <= _SAME_BYTES if worst else None, f"{worst:.2f} times as many each" if worst else "")
