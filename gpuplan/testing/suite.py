"""Run a contract outside of a test suite: every check of the kit, and what came of each. Called by `conformance`.

pytest does the work, on a module of one line in a folder of its own, so that no configuration of the place it is
called from takes part.
"""

import io
import os
import re
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpuplan.testing import catalog

if TYPE_CHECKING:
    from gpuplan.testing.conformance import ProviderConformance

_RULE = re.compile(r"test_rule_(\d+)_(\w+)")
_SHOWN_LINES = 12


class Verdict(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    NONE = "none"
    """The provider has none of what the check tries."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of one check, or of one case of it."""

    name: str
    case: str
    verdict: Verdict
    why: str = ""
    """Of a failure its last lines; else what the provider lacks."""

    @property
    def rule(self) -> int | None:
        match = _RULE.match(self.name)
        return int(match[1]) if match else None

    @property
    def title(self) -> str:
        """The check's name as a sentence."""
        match = _RULE.match(self.name)
        return (match[2] if match else self.name.removeprefix("test_")).replace("_", " ")


def run_contract(
    contract: "Callable[[], type[ProviderConformance]]",
    *,
    wanted: Callable[[str], bool] = lambda name: True,
    tell: Callable[[Checked], None] = lambda checked: None,
) -> list[Checked]:
    """Try every wanted check. `contract` is called once pytest watches what is imported: assertions then say more."""
    recorder = _Recorder(contract, wanted, tell)
    silence = io.StringIO()
    os.environ.setdefault("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    with tempfile.TemporaryDirectory(prefix="gpuplan-conformance-") as folder, redirect_stdout(silence):
        module, settings = Path(folder, "test_contract.py"), Path(folder, "pytest.ini")
        module.write_text(f"from {__name__} import current\n\nTestContract = current()\n", encoding="utf-8")
        settings.write_text("[pytest]\n", encoding="utf-8")
        flags = ["-c", str(settings), "--rootdir", folder, "--basetemp", f"{folder}/folders", "--tb=short"]
        _RUNNING.append(recorder)
        try:
            with redirect_stderr(silence):
                status = pytest.main(
                    [*flags, "-p", "no:cacheprovider", "--import-mode=importlib", str(module)], plugins=[recorder]
                )
        finally:
            _RUNNING.pop()
    if status == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise RuntimeError(silence.getvalue())
    return recorder.checked


def current() -> "type[ProviderConformance]":
    """The contract that is being run; called by the module that pytest collects."""
    return _RUNNING[-1].made()


class _Recorder:
    """A pytest plugin."""

    def __init__(
        self,
        contract: "Callable[[], type[ProviderConformance]]",
        wanted: Callable[[str], bool],
        tell: Callable[[Checked], None],
    ) -> None:
        self._contract = contract
        self._wanted = wanted
        self._tell = tell
        self._made: type[ProviderConformance] | None = None
        self._failure = ""
        """Of the check that runs now: its first one, be it in the check or while its account is opened or cleared."""
        self.checked: list[Checked] = []

    def made(self) -> "type[ProviderConformance]":
        if self._made is None:
            pytest.register_assert_rewrite("gpuplan.testing.conformance", "gpuplan.testing.http_conformance")
            contract = self._contract()
            self._made = type("TestContract", (contract,), {})
        return self._made

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        wanted = [item for item in items if self._wanted(_name_of(item.name)[0])]
        # By rule; the cases of one stay as they are.
        items[:] = sorted(wanted, key=lambda item: _name_of(item.name)[0])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self._failure:
            self._failure = _last_lines(report)
        if report.when == "teardown":
            name, case = _name_of(report.nodeid.rpartition("::")[2])
            why, failure = self._lack(name), self._failure
            verdict = Verdict.FAILED if failure else Verdict.NONE if why else Verdict.PASSED
            self._note(Checked(name, case, verdict, failure or why))
            self._failure = ""

    def _lack(self, name: str) -> str:
        from gpuplan.testing.subject import lacks

        return lacks(name, self.made().subject())

    def _note(self, checked: Checked) -> None:
        self.checked.append(checked)
        self._tell(checked)


_RUNNING: list[_Recorder] = []


def _name_of(node: str) -> tuple[str, str]:
    """A check and its case: `test_rule_31_x[drop]`."""
    name, _, case = node.partition("[")
    return name, case.removesuffix("]")


def _last_lines(report: pytest.TestReport) -> str:
    return "\n".join(report.longreprtext.splitlines()[-_SHOWN_LINES:])


def checks_of(contract: "type[ProviderConformance]") -> list[str]:
    """The names of its checks, in the order of their rules."""
    return sorted(name for name in dir(contract) if _RULE.match(name))


def named(name: str) -> "Callable[[], type[ProviderConformance]]":
    """The contract of a type, looked up when it is needed."""
    return lambda: catalog.contract(name)
