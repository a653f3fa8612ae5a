"""The rules of the house that a machine can check: sizes, names, floors, and what starting up may import."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gpuplan

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES = 400
TEST_FILE_LINES = 600
FUNCTION_LINES = 60
SHAPELESS = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "managers"}
HEAVY = {"pydantic", "asyncio", "rich", "networkx", "httpx"}


def _modules() -> list[Path]:
    folders = (ROOT / "gpuplan", ROOT / "bench", ROOT / "tests")
    found = [path.relative_to(ROOT) for folder in folders for path in sorted(folder.rglob("*.py"))]
    return [path for path in found if not any(part.startswith(".") for part in path.parts)]


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_every_module_fits_on_a_few_screens() -> None:
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in _modules()}

    limits = {name: TEST_FILE_LINES if name.startswith("tests/") else FILE_LINES for name in lengths}
    assert {} == {name: length for name, length in lengths.items() if length > limits[name]}


def test_every_function_fits_on_a_screen() -> None:
    lengths = {f"{path}:{name}": length for path in _modules() for name, length in _functions(path)}

    assert {} == {name: length for name, length in lengths.items() if length > FUNCTION_LINES}


def test_every_module_is_named_for_what_it_holds() -> None:
    assert [] == [str(path) for path in _modules() if SHAPELESS & set(re.split(r"[/_.]", str(path)))]


def test_every_module_says_what_it_is_for() -> None:
    sources = {path: (ROOT / path).read_text() for path in _modules() if path.parts[0] != "tests"}

    assert [] == [str(path) for path, text in sources.items() if text and not ast.get_docstring(ast.parse(text))]


def test_rooms_import_only_from_the_floors_below() -> None:
    linter = Path(sys.executable).with_name("lint-imports")

    checked = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=110)

    assert 0 == checked.returncode, checked.stdout + checked.stderr


def test_every_public_name_can_be_imported() -> None:
    imported = _python("-c", "import gpuplan; print(*(name for name in gpuplan.__all__ if hasattr(gpuplan, name)))")

    assert "" == imported.stderr
    assert list(gpuplan.__all__) == imported.stdout.split()


def test_version_is_told_without_importing_anything_heavy() -> None:
    told = _python("-X", "importtime", "-m", "gpuplan", "version")

    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in told.stderr.splitlines()}
    assert "gpuplan" in imported
    assert set() == HEAVY & imported
