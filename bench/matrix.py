"""`python -m bench.matrix`: write `docs/providers.md`, what each provider type can do and which checks hold it to that.

A check says `passed` because the test suite runs it for the type in every build, on the commit that has this page;
`tests/guards` sees to it that it does, and that the page is not stale.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from enum import Enum
from pathlib import Path

from bench.sections import put_section
from gpuplan.core.capabilities import Capabilities, Lease, RateLimit
from gpuplan.core.units import format_duration
from gpuplan.testing.catalog import contract, contract_names
from gpuplan.testing.conformance import ProviderConformance
from gpuplan.testing.http_conformance import HttpProviderConformance
from gpuplan.testing.subject import lacks
from gpuplan.testing.suite import Checked, Verdict, checks_of

PAGE = Path(__file__).resolve().parent.parent / "docs" / "providers.md"
_NOT_SHOWN = {"kinds", "notes", "lacks", "deprecated"}
_NONE = "–"


def contracts() -> Mapping[str, type[ProviderConformance]]:
    """Every type that has a contract, by its name."""
    return {name: contract(name) for name in contract_names()}


def sections(tried: Mapping[str, type[ProviderConformance]]) -> Mapping[str, str]:
    """The generated parts of the page, by section."""
    return {
        "capabilities": _capabilities(tried),
        "attributes": _attributes(tried),
        "conformance": _conformance(tried),
    }


def _capabilities(tried: Mapping[str, type[ProviderConformance]]) -> str:
    can = {name: each.subject().can for name, each in tried.items()}
    rows = [("creates", [", ".join(sorted(one.kinds)) for one in can.values()])]
    rows += [
        (field.name.replace("_", " "), [_shown(getattr(one, field.name), field.name) for one in can.values()])
        for field in fields(Capabilities)
        if field.name not in _NOT_SHOWN
    ]
    return _table("capability", can, rows)


def _attributes(tried: Mapping[str, type[ProviderConformance]]) -> str:
    """Of nodes, or of the group where a provider creates one."""
    nodes = {name: each.subject().can.kinds[each.subject().can.granularity].attributes for name, each in tried.items()}
    names = sorted({attribute for attributes in nodes.values() for attribute in attributes})
    rows = [
        (f"`{attribute}`", [_shown(attributes.get(attribute)) for attributes in nodes.values()]) for attribute in names
    ]
    return _table("attribute", nodes, rows)


def _conformance(tried: Mapping[str, type[ProviderConformance]]) -> str:
    checks = sorted({check for each in tried.values() for check in checks_of(each)})
    reasons: dict[str, list[str]] = {}
    rows = []
    for check in checks:
        known = Checked(check, "", Verdict.PASSED)
        cells = []
        for name, each in tried.items():
            why = _why_not(check, each)
            cells.append("none" if why else "passed")
            if why:
                reasons.setdefault(f"`{name}`: {why}", []).append(str(known.rule))
        rows.append((f"{known.rule}. {known.title}", cells))
    lines = [f"- {why} ({'rule' if len(rules) == 1 else 'rules'} {', '.join(rules)})" for why, rules in reasons.items()]
    return "\n".join([_table("rule", tried, rows), "", "Where there is none:", "", *lines])


def _why_not(check: str, tried: type[ProviderConformance]) -> str:
    if hasattr(tried, check):
        return lacks(check, tried.subject())
    return "not reached over HTTP" if not issubclass(tried, HttpProviderConformance) else "not tried"


def _shown(value: object, name: str = "") -> str:
    match value:
        case None | "" | ():
            return _NONE
        case bool():
            return "yes" if value else _NONE
        case RateLimit(requests=requests, per_seconds=seconds):
            return f"{requests} in {format_duration(seconds)}"
        case Lease(extendable=extendable, default_seconds=seconds):
            return f"{format_duration(seconds)}{', can be extended' if extendable else ''}"
        case Enum():
            return str(value.value).replace("_", " ")
        case int() | float() if name.endswith("_seconds"):
            return format_duration(value)
        case tuple():
            return ", ".join(_shown(item) for item in value)
    return str(value)


def _table(head: str, columns: Iterable[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    names = [_linked(name) for name in columns]
    lines = [f"| {' | '.join([head, *names])} |", "|---" * (len(names) + 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join([name, *cells])} |" for name, cells in rows)])


def _linked(name: str) -> str:
    """To the page of the type, where there is one."""
    pages = (f"providers/{name}.md", f"{name}.md")
    page = next((page for page in pages if (PAGE.parent / page).exists()), None)
    return f"`{name}`" if page is None else f"[`{name}`]({page})"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.matrix", description=__doc__)
    parser.add_argument("--page", metavar="FILE", type=Path, default=PAGE)
    page = parser.parse_args().page
    for section, text in sections(contracts()).items():
        put_section(page, section, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
