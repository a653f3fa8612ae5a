"""`docs/providers.md` tells the truth: it is what the kit and the adapters say now, and the suite really runs it."""

import importlib
from pathlib import Path

import pytest

from bench.matrix import PAGE, contracts, sections
from gpuplan.testing.conformance import ProviderConformance
from gpuplan.testing.suite import checks_of

CONFORMANCE = Path(__file__).parents[1] / "conformance"
KIT = ("gpuplan.testing.conformance", "gpuplan.testing.http_conformance")


@pytest.mark.parametrize("section", ["capabilities", "attributes", "conformance"])
def test_the_page_is_what_the_command_writes(section: str) -> None:
    written = PAGE.read_text(encoding="utf-8").partition(f"<!-- {section}: begin -->")[2]

    assert sections(contracts())[section] == written.partition(f"<!-- {section}: end -->")[0].strip()


def test_the_suite_runs_every_contract_and_every_check_of_it() -> None:
    run: dict[type, type] = {}
    for path in sorted(CONFORMANCE.glob("test_*.py")):
        module = importlib.import_module(f"tests.conformance.{path.stem}")
        for found in vars(module).values():
            if isinstance(found, type) and issubclass(found, ProviderConformance) and found.__name__.startswith("Test"):
                run |= dict.fromkeys(found.__mro__, found)

    assert [] == [name for name, tried in contracts().items() if tried not in run]
    for tried in contracts().values():
        for check in checks_of(tried):
            assert getattr(run[tried], check).__module__ in KIT
