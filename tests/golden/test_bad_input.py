"""Every page in `bad_input` is a mistake people make: the files they wrote, and what they are told.

A block ` ```yaml NAME ` is a file; those called `gpuplan*.yaml` are the spec, the others are there to be read.
A block ` ```python NAME ` holds an expression for the bytes of a file that no page can show, ` ```var NAME ` gives a
variable as `--var` does, and ` ```text ` is the whole answer. `pytest tests/golden --accept` rewrites it.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from gpuplan.cli.render.diagnostic import render_diagnostics
from gpuplan.core.errors import SpecError
from gpuplan.spec.load import Given, SourceFile, load
from tests.unit.spec.reading import inputs

PAGES = sorted((Path(__file__).parent / "bad_input").glob("*.md"))
_BLOCK = re.compile(r"^```(?P<language>\w+)(?: (?P<name>\S+))?\n(?P<body>.*?)^```$", re.M | re.S)


def _files(page: str) -> Mapping[str, bytes]:
    files: dict[str, bytes] = {}
    for block in _BLOCK.finditer(page):
        if block["language"] == "yaml":
            files[block["name"]] = block["body"].encode()
        elif block["language"] == "python":
            # Pages are part of this repository, as trusted as the code beside them.
            files[block["name"]] = eval(block["body"], {})
    return files


def _answer(page: str) -> str:
    files = _files(page)
    given = {
        b["name"]: Given(b["body"].strip(), "--var", True) for b in _BLOCK.finditer(page) if b["language"] == "var"
    }
    sources = [SourceFile(name, content) for name, content in files.items() if name.startswith("gpuplan")]
    with pytest.raises(SpecError) as caught:
        load(sources, inputs(files, given=given, environ={"HOME": "/home/ana"}))
    return render_diagnostics(caught.value.diagnostics, caught.value.locator)


def test_there_are_at_least_sixty_kinds_of_bad_input() -> None:
    assert len(PAGES) >= 60


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_mistake_is_answered_with_its_place_and_a_way_out(path: Path, accept: bool) -> None:
    page = path.read_text(encoding="utf-8")
    answer = _answer(page)
    expected = next(block["body"] for block in _BLOCK.finditer(page) if block["language"] == "text")

    if accept and answer != expected:
        path.write_text(page.replace(f"```text\n{expected}```", f"```text\n{answer}```"), encoding="utf-8")
        return

    assert expected == answer
