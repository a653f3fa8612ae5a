from pathlib import Path

import pytest

from gpuplan.core.errors import SpecError, StateError
from gpuplan.net.clock import SystemClock
from gpuplan.testing.clock import FakeClock
from gpuplan.workflow.ledger import create_workspace, delete_workspace, known_workspaces, open_state
from gpuplan.workflow.places import configured_place, place_of
from gpuplan.workflow.project import Project, load_spec

HEAD = "version: 1\nproject: test\nproviders: {local: {}}\n"


def project(folder: Path, *, block: str = "", state: str = "", **environ: str) -> Project:
    (folder / "gpuplan.yaml").write_text(HEAD + block)
    return Project(folder, state=state, environ=environ)


def test_nothing_configured_is_the_folder_beside_the_spec(tmp_path: Path) -> None:
    assert configured_place(project(tmp_path)) is None
    assert "state" == place_of(project(tmp_path)).url
    assert str(tmp_path / "state/default.json") == open_state(project(tmp_path), SystemClock()).location


def test_command_line_counts_before_the_spec(tmp_path: Path) -> None:
    said = project(tmp_path, block="state: {type: s3, bucket: acme, prefix: train}\n")
    told = project(tmp_path, block="state: {type: s3, bucket: acme, prefix: train}\n", state="elsewhere")

    assert "s3://acme/train" == place_of(said).url
    assert "elsewhere" == place_of(told).url


def test_looking_at_a_state_needs_no_spec(tmp_path: Path) -> None:
    assert configured_place(Project(tmp_path)) is None
    with pytest.raises(SpecError):
        configured_place(Project(tmp_path, files=("missing.yaml",)))


@pytest.mark.parametrize(
    "block", ["state: {type: s4}\n", "state: {type: file, folde: x}\n", "state: {type: file, folder: 7}\n"]
)
def test_wrong_block_is_found_by_reading_the_spec(tmp_path: Path, block: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(project(tmp_path, block=block))

    assert caught.value.locator is not None


def test_where_the_state_is_does_not_change_what_a_plan_is_bound_to(tmp_path: Path) -> None:
    here = load_spec(project(tmp_path)).digest

    assert here == load_spec(project(tmp_path, block="state: {type: file, folder: x}\n")).digest


def test_workspaces_are_those_of_the_configured_place(tmp_path: Path) -> None:
    clock = FakeClock()
    elsewhere = project(tmp_path, state="elsewhere")

    async def scenario() -> None:
        await create_workspace(elsewhere, clock, "staging")
        assert ["default", "staging"] == await known_workspaces(elsewhere, clock)
        assert ["default"] == await known_workspaces(project(tmp_path), clock)
        await delete_workspace(elsewhere, clock, "staging")
        assert ["default"] == await known_workspaces(elsewhere, clock)
        with pytest.raises(StateError, match="cannot be the name"):
            await create_workspace(elsewhere, clock, "a/b")

    clock.run(scenario())
    assert (tmp_path / "elsewhere/.backup/staging.0.json").exists()
