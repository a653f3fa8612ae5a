"""Orphans, and what they cost. Called by `orphans`."""

import json
from collections.abc import Sequence
from decimal import Decimal

from gpuplan.cli.render.table import render_table
from gpuplan.cli.render.value import money
from gpuplan.workflow.adoption import Orphan

_HEADINGS = ("address", "kind", "provider", "id", "status", "usd per hour")


def orphans_table(orphans: Sequence[Orphan]) -> str:
    known = [orphan.price_per_hour for orphan in orphans if orphan.price_per_hour is not None]
    total = f"Together {money(sum(known, Decimal(0)))} USD per hour" if known else "What they cost is not told"
    rest = len(orphans) - len(known)
    unknown = f", and {rest} of which the price is not known" if known and rest else ""
    return f"{render_table(_HEADINGS, map(_row, orphans))}\n{total}{unknown}.\n"


def orphans_json(orphans: Sequence[Orphan]) -> str:
    return json.dumps([_document(orphan) for orphan in orphans], indent=2) + "\n"


def _row(orphan: Orphan) -> tuple[str, ...]:
    seen = orphan.observed
    address = "-" if orphan.address is None else str(orphan.address)
    return address, seen.kind.value, orphan.provider, seen.remote_id, seen.status.value, money(orphan.price_per_hour)


def _document(orphan: Orphan) -> dict[str, object]:
    seen = orphan.observed
    return {
        "address": None if orphan.address is None else str(orphan.address),
        "kind": seen.kind.value,
        "provider": orphan.provider,
        "account": orphan.account,
        "id": seen.remote_id,
        "status": seen.status.value,
        "price_per_hour": None if orphan.price_per_hour is None else float(orphan.price_per_hour),
    }
