"""Offers as a price board. Called by `offers`."""

import json
from collections.abc import Container, Iterable
from datetime import datetime

from gpuplan.cli.render.table import render_table
from gpuplan.cli.render.value import money
from gpuplan.core.offers import Offer, Pricing, Stock
from gpuplan.core.values import JsonValue

_HEADINGS = ("provider", "offer", "gpu", "vcpu", "ram gb", "region", "pricing", "usd per hour", "stock")


def offers_table(offers: Iterable[Offer]) -> str:
    return render_table(_HEADINGS, map(_row, offers))


def offers_json(offers: Iterable[Offer], now: datetime, remembered: Container[str]) -> str:
    """Nulls for what the provider does not tell; `age_seconds` is how long ago it told the rest. `remembered` are the
    accounts that were not asked again."""
    return json.dumps(offer_documents(offers, now, remembered), indent=2) + "\n"


def offer_documents(offers: Iterable[Offer], now: datetime, remembered: Container[str]) -> list[JsonValue]:
    """As in `offers_json`."""
    return [_document(offer, now, "cache" if offer.provider in remembered else "provider") for offer in offers]


def _row(offer: Offer) -> tuple[str, ...]:
    return (
        offer.provider,
        offer.instance_type or offer.ref,
        f"{offer.gpu}:{offer.gpu_count}" if offer.gpu else offer.gpu_slice or "-",
        _number(offer.cpu),
        _number(offer.memory_gb),
        offer.region or "-",
        offer.pricing.value.replace("_", "-"),
        money(offer.price_per_hour),
        "-" if offer.stock is Stock.UNTOLD else offer.stock.value,
    )


def _document(offer: Offer, now: datetime, source: str) -> dict[str, JsonValue]:
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
        "source": source,
    }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
