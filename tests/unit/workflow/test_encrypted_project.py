"""Where keys come from, and what a project does with them."""

from pathlib import Path

import pytest

from gpuplan.core.errors import SpecError, StateEncrypted, StateError
from gpuplan.state.encryption_keys import COMMAND, PASSPHRASE
from gpuplan.workflow.places import keys
from gpuplan.workflow.project import Project, load_spec
from gpuplan.workflow.saved import kept_text, plain_text

HEAD = "version: 1\nproject: test\nproviders: {local: {}}\n"
KEY = f"printf {'k' * 43}="
OTHER = f"printf {'o' * 43}="


def project(folder: Path, block: str = "", **environ: str) -> Project:
    (folder / "gpuplan.yaml").write_text(HEAD + block)
    return Project(folder, environ={"PATH": "/usr/bin:/bin", **environ})


def named(command: str) -> str:
    return f"state: {{encryption: {{command: {command}}}}}\n"


def test_without_any_key_nothing_is_encrypted(tmp_path: Path) -> None:
    assert "the plan" == kept_text(project(tmp_path), "the plan")


def test_saved_plan_is_read_back_with_the_key_and_not_without(tmp_path: Path) -> None:
    kept = kept_text(project(tmp_path, **{COMMAND: KEY}), "the plan")

    assert "the plan" not in kept
    assert "the plan" == plain_text(project(tmp_path, **{COMMAND: KEY}), kept, "a.plan")
    for environ in ({}, {COMMAND: OTHER}):
        with pytest.raises(StateEncrypted):
            plain_text(project(tmp_path, **environ), kept, "a.plan")


def test_command_in_the_spec_gives_the_key_unless_the_environment_does(tmp_path: Path) -> None:
    kept = kept_text(project(tmp_path, named(KEY)), "the plan")

    assert "the plan" == plain_text(project(tmp_path, **{COMMAND: KEY}), kept, "a.plan")
    with pytest.raises(StateEncrypted):
        plain_text(project(tmp_path, named(KEY), **{COMMAND: OTHER}), kept, "a.plan")


def test_spec_that_asks_for_encryption_is_never_without_a_key(tmp_path: Path) -> None:
    with pytest.raises(StateError) as caught:
        keys(project(tmp_path, "state: {encryption: {}}\n"))

    assert "encryption-key-missing" == caught.value.diagnostics[0].id
    assert keys(project(tmp_path, "state: {encryption: {}}\n", **{PASSPHRASE: "correct horse battery"})).writes


def test_place_on_the_command_line_keeps_the_encryption_of_the_spec(tmp_path: Path) -> None:
    given = project(tmp_path, named(KEY))

    assert keys(Project(given.folder, environ=given.environ, state="elsewhere")).writes


@pytest.mark.parametrize("block", ["{passphrase: hunter2}", "true", "{command: 7}"])
def test_wrong_block_is_found_by_reading_the_spec(tmp_path: Path, block: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(project(tmp_path, f"state: {{encryption: {block}}}\n"))

    assert caught.value.locator is not None
