"""The capability matrix of the provider types, and the health of accounts. Called by `providers`."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from enum import Enum

from gpuplan.cli.render.diagnostic import diagnostics_json
from gpuplan.cli.render.table import render_table
from gpuplan.cli.render.text import clean
from gpuplan.core.capabilities import Capabilities, KindCapabilities, Lease, RateLimit
from gpuplan.core.desired import ProviderBlock
from gpuplan.core.values import JsonValue
from gpuplan.workflow.looking import Checked, Described

_HEADINGS = (
    "type",
    "kind",
    "creates",
    "pricing",
    "spot",
    "stop",
    "multi-gpu",
    "ssh",
    "exec",
    "logs",
    "volumes",
    "what",
)


def providers_table(described: Sequence[Described]) -> str:
    return render_table(_HEADINGS, (_row(each) for each in described))


def provider_text(described: Described) -> str:
    """Everything one type says of itself."""
    lines = [f"{clean(described.name)}: {clean(described.title)}"]
    if described.capabilities is not None:
        lines += [f"  {name} = {text}" for name, text in _lines(_json(described.capabilities))]
    return "\n".join(lines) + "\n"


def providers_json(described: Iterable[Described]) -> str:
    document = [
        {
            "type": each.name,
            "title": each.title,
            "capabilities": None if each.capabilities is None else _json(each.capabilities),
            "problems": diagnostics_json(each.problems, None),
        }
        for each in described
    ]
    return json.dumps(document, indent=2) + "\n"


def accounts_documents(accounts: Iterable[tuple[ProviderBlock, Described]]) -> list[JsonValue]:
    """Configured accounts, each with what its type can do."""
    return [
        {
            "name": block.name,
            "type": block.type,
            "kind": known.kind.value if (known := described.capabilities) is not None else None,
            "retired": block.retired,
            "capabilities": None if known is None else _json(known),
        }
        for block, described in accounts
    ]


def checked_table(checked: Iterable[Checked]) -> str:
    return render_table(("name", "type", "works", "account", "endpoint", "answered in"), map(_checked_row, checked))


def checked_json(checked: Iterable[Checked]) -> str:
    document = [
        {
            "name": each.block.name,
            "type": each.block.type,
            "ok": each.problem is None,
            "account": each.account.id if each.account else None,
            "endpoint": each.account.endpoint if each.account else None,
            "latency_seconds": round(each.seconds, 3),
            "problem": None if each.problem is None else each.problem.id,
        }
        for each in checked
    ]
    return json.dumps(document, indent=2) + "\n"


def _checked_row(checked: Checked) -> tuple[str, ...]:
    name, type = checked.block.name, checked.block.type
    if checked.account is None:
        return (name, type, "no", "-", "-", "-")
    account = checked.account
    return (name, type, "yes", account.id, account.endpoint or "-", f"{checked.seconds * 1000:.0f} ms")


def _row(described: Described) -> tuple[str, ...]:
    known = described.capabilities
    if known is None:
        return (described.name, *("?" for _ in _HEADINGS[2:]), described.title or "cannot be loaded")
    able = (known.spot, known.stop_start, known.multi_gpu, known.ssh, known.exec, known.logs)
    return (
        described.name,
        known.kind.value.replace("_", "-"),
        known.granularity.value,
        ",".join(pricing.value.replace("_", "-") for pricing in known.pricing),
        *("yes" if flag else "-" for flag in able),
        "yes" if "volume" in known.kinds else "-",
        described.title,
    )


def _lines(value: JsonValue, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _lines(item, f"{path}.{name}" if path else name)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield path, ", ".join(clean(str(item)) for item in value) or "-"
    else:
        yield path, "-" if value is None else clean(str(value).lower() if isinstance(value, bool) else str(value))


def _json(value: object) -> JsonValue:
    """Declared data as JSON."""
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, (Capabilities, KindCapabilities, Lease, RateLimit)):
        return {field.name: _json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(_json(name)): _json(item) for name, item in value.items()}
    if isinstance(value, (tuple, frozenset)):
        items = [_json(item) for item in value]
        return sorted(map(str, items)) if isinstance(value, frozenset) else items
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
