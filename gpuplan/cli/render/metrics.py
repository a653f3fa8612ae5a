"""The state of a project as Prometheus metrics. Called by `service`."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gpuplan.core.plan import Drift, DriftKind
from gpuplan.core.state import State
from gpuplan.workflow.spending import Spending


@dataclass(frozen=True, slots=True)
class Readings:
    """What one scrape tells. `drift` None: the last look failed."""

    state: State
    drift: Sequence[Drift] | None
    spending: Sequence[Spending]
    looked_at: datetime | None


def metrics_text(readings: Readings) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Gauges(readings))
    text: bytes = generate_latest(registry)
    return text


class _Gauges(Collector):
    """Nothing counts up here: every scrape reads the state anew."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield self._instances()
        yield from self._costs()
        yield from self._drift()
        yield GaugeMetricFamily("gpuplan_state_serial", "Version of the state.", value=self._readings.state.serial)
        yield GaugeMetricFamily(
            "gpuplan_open_intents",
            "Effects whose outcome is not known yet.",
            value=len(self._readings.state.intents),
        )

    def _instances(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "gpuplan_instances", "Recorded instances.", labels=("resource", "kind", "provider", "phase")
        )
        counted = Counter(
            (str(recorded.address.block), recorded.kind.value, recorded.provider, recorded.phase.value)
            for recorded in self._readings.state.instances.values()
        )
        for labels, number in sorted(counted.items()):
            family.add_metric(labels, number)
        return family

    def _costs(self) -> Iterator[GaugeMetricFamily]:
        hourly = GaugeMetricFamily("gpuplan_cost_usd_per_hour", "What it costs per hour, in USD.", labels=("resource",))
        accrued = GaugeMetricFamily("gpuplan_cost_usd", "What it has cost so far, in USD.", labels=("resource",))
        for row in self._readings.spending:
            if row.per_hour is not None:
                hourly.add_metric((str(row.address),), float(row.per_hour))
            if row.accrued is not None:
                accrued.add_metric((str(row.address),), float(row.accrued))
        yield hourly
        yield accrued

    def _drift(self) -> Iterator[GaugeMetricFamily]:
        drift, looked_at = self._readings.drift, self._readings.looked_at
        up = 0 if drift is None else 1
        yield GaugeMetricFamily("gpuplan_look_succeeded", "1 when the last look at the providers succeeded.", value=up)
        if looked_at is not None:
            yield GaugeMetricFamily(
                "gpuplan_look_timestamp_seconds",
                "When the providers were last looked at.",
                value=looked_at.timestamp(),
            )
        if drift is None:
            return
        family = GaugeMetricFamily("gpuplan_drift", "Instances that drifted, by how.", labels=("kind",))
        counted = Counter(item.kind for item in drift)
        for kind in DriftKind:
            family.add_metric((kind.value,), counted[kind])
        yield family
