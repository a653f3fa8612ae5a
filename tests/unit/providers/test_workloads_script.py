"""Unit folders as a real shell makes, shows and ends them."""

import subprocess
from pathlib import Path

from gpuplan.providers.workloads_script import Unit, create_script, list_script, parse_units, stop_script


def unit(**changes: str) -> Unit:
    return Unit(
        token="t1",
        command=changes.get("command", "echo hello"),
        image=changes.get("image"),
        env={"TOKEN": "it's $secret\nin two lines"},
        ports=[8000],
        restart="never",
        timeout_seconds=0,
        mark={"kind": "job", "address": "jobs.eval"},
    )


def sh(script: str, folder: Path, *, path: str = "/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh"], input=script, cwd=folder, env={"PATH": path}, capture_output=True, text=True, check=False
    )


def test_second_create_of_one_token_changes_nothing(tmp_path: Path) -> None:
    assert 0 == sh(create_script(unit()), tmp_path).returncode
    assert 0 == sh(create_script(unit(command="echo other")), tmp_path).returncode

    assert "echo hello\n" == (tmp_path / ".gpuplan/units/t1/command").read_text()


def test_environment_is_read_by_its_owner_alone_and_comes_as_it_is(tmp_path: Path) -> None:
    sh(create_script(unit()), tmp_path)
    env = tmp_path / ".gpuplan/units/t1/env"

    assert 0o600 == env.stat().st_mode & 0o777
    assert "it's $secret\nin two lines" == sh(f'. {env}; printf %s "$TOKEN"', tmp_path).stdout


def test_unit_that_was_never_started_is_told_so(tmp_path: Path) -> None:
    sh(create_script(unit()), tmp_path)

    (seen,) = parse_units(sh(list_script(), tmp_path).stdout.splitlines())

    assert ("t1", False, []) == (seen.token, seen.is_up, seen.words)
    assert {"kind": "job", "address": "jobs.eval"} == seen.mark


def test_removed_unit_leaves_nothing_and_is_removed_again_in_peace(tmp_path: Path) -> None:
    sh(create_script(unit()), tmp_path)

    for _ in range(2):
        assert 0 == sh(stop_script("t1", remove=True), tmp_path).returncode
    assert [] == list((tmp_path / ".gpuplan/units").iterdir())


def test_image_without_a_container_engine_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    assert 3 == sh(create_script(unit(image="team/eval")), tmp_path, path=str(tmp_path)).returncode
    assert [] == list(tmp_path.iterdir())
