"""Copies through a shell: what a real one takes and gives, whole and cut short."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from gpuplan.core.errors import Failure, OutcomeUnknown
from gpuplan.net.ssh_archive import giving, packed, taking, unpacked

SHORT = Failure("here", "copy `it` from clusters.a.nodes[0]")


def shell(script: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["sh", "-c", script], input=given, capture_output=True, timeout=60, check=False)


def keep(content: bytes, target: Path) -> None:
    async def main() -> None:
        async with unpacked("it", target, SHORT) as take:
            take(content)

    asyncio.run(main())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "it's"
    path.write_bytes(os.urandom(100_000))
    path.chmod(0o750)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    path.mkdir()
    for number in range(40):
        (path / str(number)).write_bytes(bytes(512))
    return path


def test_a_file_arrives_with_its_mode(file: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()

    assert 0 == shell(taking(file, str(tmp_path / "there")), b"".join(packed(file))).returncode
    arrived = tmp_path / "there" / file.name
    assert (file.read_bytes(), 0o750) == (arrived.read_bytes(), arrived.stat().st_mode & 0o777)


def test_a_file_that_grew_on_its_way_is_not_refused(file: Path, tmp_path: Path) -> None:
    done = shell(taking(file, str(tmp_path / "there")), file.read_bytes() + b"more")

    assert 0 == done.returncode


def test_a_file_that_came_short_there_is_refused(file: Path, tmp_path: Path) -> None:
    done = shell(taking(file, str(tmp_path / "there")), file.read_bytes()[:-1])

    assert (1, b"it came short\n") == (done.returncode, done.stderr)


def test_what_is_fetched_comes_back(file: Path, folder: Path, tmp_path: Path) -> None:
    keep(shell(giving(str(file))).stdout, tmp_path / "back")
    keep(shell(giving(str(folder))).stdout, tmp_path / "tree")

    assert file.read_bytes() == (tmp_path / "back").read_bytes()
    assert {str(number) for number in range(40)} == {path.name for path in (tmp_path / "tree").iterdir()}


@pytest.mark.parametrize("source", ["file", "folder"])
@pytest.mark.parametrize("length", [0, 3, 8, 32768 + 7, -1])
def test_what_came_short_here_is_refused_and_nothing_is_written(
    source: str, length: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    content = shell(giving(str(request.getfixturevalue(source)))).stdout
    with pytest.raises(OutcomeUnknown):
        keep(content[:length], tmp_path / "back")

    assert not (tmp_path / "back").exists()
