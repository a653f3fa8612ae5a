"""Offers as a price board. Called by `offers`."""

import json
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from gpuplan.cli.render.table import render_table
from gpuplan.core.offers import Offer, Pricing, Stock

_HEADINGS = ("provider", "offer", "gpu", "vcpu", "ram gb", "region", "pricing", "usd per hour", "stock")


def offers_table(offers: Iterable[Offer]) -> str:
    return render_table(_HEADINGS, map(_row, offers))


def offers_json(offers: Iterable[Offer], now: datetime) -> str:
    """Nulls for what the provider does not tell; `age_seconds` is how long ago it told the rest."""
    return json.dumps([_document(offer, now) for offer in offers], indent=2) + "\n"


def _row(offer: Offer) -> tuple[str, ...]:
    return (
        offer.provider,
        offer.instance_type or offer.ref,
        f"{offer.gpu}:{offer.gpu_count}" if offer.gpu else "-",
        _number(offer.cpu),
        _number(offer.memory_gb),
        offer.region or "-",
        offer.pricing.value.replace("_", "-"),
        _price(offer.price_per_hour),
        "-" if offer.stock is Stock.UNTOLD else offer.stock.value,
    )


def _document(offer: Offer, now: datetime) -> dict[str, object]:
    return {
        "provider": offer.provider,
        "provider_resource_id": offer.ref,
        "instance_type": offer.instance_type or None,
        "gpu_type": offer.gpu or None,
        "gpu_count": offer.gpu_count,
        "vcpu": offer.cpu,
        "ram_gb": offer.memory_gb,
        "region": offer.region or None,
        "pricing_model": offer.pricing.value,
        "price_per_hour": None if offer.price_per_hour is None else float(offer.price_per_hour),
        "stock": offer.stock.value,
        "spot": offer.pricing is Pricing.SPOT,
        "age_seconds": round(max(0.0, (now - offer.seen_at).total_seconds()), 1),
    }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _price(price: Decimal | None) -> str:
    """With as many decimals as it has, at least the cents: the cheapest machines cost fractions of one."""
    if price is None:
        return "unknown"
    return f"{price:.4f}".rstrip("0") if price != round(price, 2) else f"{price:.2f}"
