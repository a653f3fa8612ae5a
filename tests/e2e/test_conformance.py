"""`gpuplan conformance` as users and authors of other packages run it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuplan.emulators.catalog import emulator_types
from gpuplan.emulators.control import ledger
from gpuplan.emulators.desk import Desk
from gpuplan.emulators.serve import serving
from gpuplan.emulators.world import World
from gpuplan.net.clock import SystemClock

COMMAND = str(Path(sys.executable).with_name("gpuplan"))
OUTSIDE = Path(__file__).parent / "outside"
"""A package as somebody else would install it: entry points, an adapter, its contract."""


def conformance(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "conformance", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(OUTSIDE), **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_a_type_from_another_package_is_tried_by_its_entry_point(tmp_path: Path) -> None:
    done = conformance(tmp_path, "acme", "--json")

    checks = json.loads(done.stdout)["checks"]
    assert 0 == done.returncode, done.stdout
    assert 20 == len(checks)
    assert {"passed", "none"} == {check["verdict"] for check in checks}
    assert "acme" in conformance(tmp_path).stdout.split()


def test_what_an_adapter_does_wrong_is_named_by_its_rule(tmp_path: Path) -> None:
    done = conformance(tmp_path, "acme", ACME_IS_STRICT="yes")

    assert 1 == done.returncode
    assert "rule 9   failed  delete of a missing object is success\n" in done.stdout
    assert "rule 8   passed  a missing object is none\n" in done.stdout
    assert "NotFound" in done.stdout
    assert "2 failed" in done.stdout.splitlines()[-1]


def test_single_checks_are_chosen_by_number_or_by_words(tmp_path: Path) -> None:
    done = conformance(tmp_path, "vultr", "--check", "12", "--check", "delete of a missing")

    assert [
        "rule 9   passed  delete of a missing object is success",
        "rule 12  none    a token sent twice makes one object: `idempotency` is `none` for every kind",
        "",
        "1 passed, 0 failed, 1 had nothing to try.",
    ] == done.stdout.splitlines()


@pytest.fixture
def world() -> World:
    world = World(SystemClock())
    world.time.set_speed(200)
    return world


def test_a_live_run_stops_before_it_costs_more_than_it_may_and_leaves_nothing(tmp_path: Path, world: World) -> None:
    types = emulator_types(["vultr"])
    with serving(Desk(world, types)) as url:
        live = ["vultr", "--live", "--emulator", url, "--check", "4", "--check", "11", "--auto-approve"]
        done = conformance(tmp_path, *live, "--max-cost", "5")
        cheaper = conformance(
            tmp_path, *live, "--max-cost", "5", "--node", "instance_type=vc2-1c-1gb", "--node", "gpu="
        )

    assert "nodes with instance_type vcg-a100-12c-120g-80vram" in done.stderr
    assert (1, "passed", "failed") == (done.returncode, *[line[9:15] for line in done.stdout.splitlines()[:2]])
    assert "one more could pass the ceiling" in done.stdout
    assert 0 == cheaper.returncode, cheaper.stdout
    rows = ledger(world, types, "vultr")
    assert {"node", "ssh_key"} <= {row["kind"] for row in rows}
    assert [] == [row for row in rows if row["deleted_at"] is None]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vulr"], "error[no-contract]: there is no contract of `vulr`\n  hint: did you mean `vultr`?"),
        (["vultr", "--check", "99"], "error[usage]: no check of `vultr` is called `99`"),
        (["vultr", "--live"], "error[usage]: `--live` creates nodes on your account, and nobody has said what"),
        (["vultr", "--live", "--max-cost", "5"], "error[no-credentials]: `vultr` has no credentials"),
    ],
)
def test_what_cannot_be_tried_is_said(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = conformance(tmp_path, *arguments)

    assert 1 == done.returncode
    assert message in done.stderr


def test_without_the_kit_it_is_said_how_to_install_it(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['pytest'] = None; "
        "from gpuplan.cli.main import main; sys.exit(main(['conformance', 'vultr']))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert 1 == done.returncode
    assert "    pip install 'gpuplan[test-kit]'" in done.stderr
