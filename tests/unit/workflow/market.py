"""A town whose provider has a price list, and whose people have a home for what they learn of it."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from gpuplan.core.capabilities import ProviderKind
from gpuplan.core.offers import Offer, Pricing
from tests.unit.workflow.town import Town

SPEC = """\
version: 1
project: town
providers:
  memory: {}
clusters:
  train: {provider: memory, nodes: 2, gpu: L4, disk_gb: 10}
"""


class MarketTown(Town):
    """With offers `EU` and `US` of the same GPU, the first the cheaper one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.can = {"kind": ProviderKind.CLOUD, "offers": True, "poll_interval_seconds": 5, "ready_timeout_seconds": 60}
        self.world.offers = (offer("EU", "1"), offer("US", "2"))
        self.write("gpuplan.yaml", SPEC)

    @property
    def home(self) -> dict[str, dict[str, str]]:
        """For `Project`: the environment of somebody who is at home."""
        return {"environ": {"HOME": str(self.folder / "home")}}

    @property
    def kept(self) -> list[Path]:
        """What was remembered."""
        return sorted(path for path in (self.folder / "home").rglob("*") if path.is_file())

    @property
    def times_asked(self) -> int:
        return self.world.count("offers")


def offer(region: str, price: str) -> Offer:
    seen_at = datetime(2026, 1, 1, tzinfo=UTC)
    return Offer("memory", f"offer-{region}", region, "L4", 1, Pricing.ON_DEMAND, Decimal(price), seen_at)
