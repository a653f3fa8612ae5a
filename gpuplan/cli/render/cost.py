"""What things cost, as a table and as JSON. Called by `cost`."""

import json
from collections.abc import Sequence
from decimal import Decimal

from gpuplan.cli.render.table import render_table
from gpuplan.cli.render.value import money, spent
from gpuplan.core.encoding import encode_time
from gpuplan.core.values import JsonValue
from gpuplan.workflow.spending import Spending, total

_HEADINGS = ("what", "instances", "usd per hour", "usd so far", "price unknown of")


def cost_table(rows: Sequence[Spending]) -> str:
    return render_table(_HEADINGS, [*map(_row, rows), _row(total(rows))])


def cost_json(rows: Sequence[Spending]) -> str:
    return json.dumps({"resources": [_document(row) for row in rows], "total": _document(total(rows))}, indent=2) + "\n"


def _row(row: Spending) -> tuple[str, ...]:
    name = "total" if row.address is None else str(row.address)
    return name, str(row.instances), money(row.per_hour), spent(row.accrued), str(row.unpriced or "-")


def _document(row: Spending) -> dict[str, JsonValue]:
    return {
        **({} if row.address is None else {"address": str(row.address)}),
        "instances": row.instances,
        "price_per_hour": _number(row.per_hour),
        "accrued_usd": _number(row.accrued),
        "unpriced": row.unpriced,
        "since": None if row.since is None else encode_time(row.since),
    }


def _number(amount: Decimal | None) -> float | None:
    return None if amount is None else round(float(amount), 6)
