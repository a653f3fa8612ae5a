"""Run the world machine against a gpuplan with one line changed. A process of its own, started by `test_mutants`.

    python -m tests.faults.mutant MODULE OLD NEW SEED EXAMPLES

Exit 0 when the machine notices, 1 when it does not, 2 when the line is not there any more.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

NOTICED, SURVIVED, NO_SUCH_LINE = 0, 1, 2


class _Mutated(importlib.machinery.SourceFileLoader):
    """Loads a module from its source with one line changed."""

    def __init__(self, module: str, path: str, old: str, new: str) -> None:
        super().__init__(module, path)
        self._old = old
        self._new = new

    def get_data(self, path: str) -> bytes:
        source = super().get_data(path).decode()
        if source.count(self._old) != 1:
            print(f"{self.name} has {source.count(self._old)} times: {self._old}")
            raise SystemExit(NO_SUCH_LINE)
        return source.replace(self._old, self._new).encode()

    def path_stats(self, path: str) -> dict[str, float]:
        # Without a time stamp no byte code is read from the cache or written to it.
        raise OSError


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, module: str, old: str, new: str) -> None:
        self._module = module
        self._old = old
        self._new = new

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._module:
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path)
        if found is None or found.origin is None:
            return None
        loader = _Mutated(fullname, found.origin, self._old, self._new)
        return importlib.util.spec_from_file_location(fullname, found.origin, loader=loader)


def main(module: str, old: str, new: str, number: int, examples: int) -> int:
    sys.meta_path.insert(0, _Finder(module, old, new))

    from hypothesis import Phase, seed, settings
    from hypothesis.stateful import run_state_machine_as_test

    from tests.property.test_world_machine import WorldMachine

    seed(number)(WorldMachine)
    budget = settings(
        WorldMachine.TestCase.settings,
        max_examples=examples,
        phases=[Phase.generate],
        database=None,
        report_multiple_bugs=False,
    )
    try:
        run_state_machine_as_test(WorldMachine, settings=budget)
    except Exception as noticed:  # whatever it is that the mutant breaks
        print(f"{type(noticed).__name__}: {noticed}")
        return NOTICED
    return SURVIVED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
