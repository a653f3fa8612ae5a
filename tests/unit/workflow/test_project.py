"""Which files a spec is read from, and which of several values a variable gets."""

from pathlib import Path

import pytest

from gpuplan.core.errors import SpecError
from gpuplan.workflow.project import (
    Project,
    given_variables,
    load_spec,
    select_workspace,
    selected_workspace,
    spec_names,
)
from tests.unit.workflow.town import Town


def test_flags_win_over_files_and_files_over_the_environment(tmp_path: Path):
    (tmp_path / "a.vars.yaml").write_text("file: 1\nlater: 1\nflag: 1\n")
    (tmp_path / "b.vars.yaml").write_text("later: 2\n")
    environ = {f"GPUPLAN_VAR_{name}": "0" for name in ("environment", "file", "later", "flag")}
    project = Project(
        tmp_path,
        environ={**environ, "GPUPLAN_VAR_FILE": "ignored.vars.yaml"},
        stored={"environment": 9, "stored": 9},
        variable_files=("a.vars.yaml", "b.vars.yaml"),
        variables={"flag": "3"},
    )

    given = given_variables(project)

    assert {"environment": "0", "file": 1, "later": 2, "flag": "3", "stored": 9} == {
        name: value.value for name, value in given.items()
    }
    assert ("GPUPLAN_VAR_environment", "b.vars.yaml", "--var") == tuple(
        given[name].source for name in ("environment", "later", "flag")
    )


def test_texts_of_a_variable_file_are_no_expressions(town: Town):
    town.write("p.vars.yaml", 'token: "${vars.workers}"\n')

    given = given_variables(town.project(variable_files=("p.vars.yaml",)))

    assert str is type(given["token"].value)


def test_a_variable_file_that_cannot_be_read_shows_its_line(town: Town):
    town.write("p.vars.yaml", "a: 1\na: 2\n")

    with pytest.raises(SpecError) as caught:
        load_spec(town.project(variable_files=("p.vars.yaml",)))

    assert "duplicate-key" == caught.value.diagnostics[0].id
    assert caught.value.locator is not None
    assert "a: 2" == caught.value.locator.line("p.vars.yaml", 2)


def test_a_folder_stands_for_the_specs_in_it(town: Town):
    for name in ("specs/b.yaml", "specs/a.yml", "specs/prod.vars.yaml", "specs/.hidden.yaml", "specs/notes.txt"):
        town.write(name, "version: 1\n")

    assert ["specs/a.yml", "specs/b.yaml"] == spec_names(town.project(files=("specs/",)))


def test_a_spec_that_is_not_there_says_where_it_was_looked_for(tmp_path: Path):
    with pytest.raises(SpecError, match=r"there is no `gpuplan\.yaml` in `.*`"):
        load_spec(Project(tmp_path))


def test_files_named_in_a_spec_lie_beside_it(town: Town):
    town.write("specs/gpuplan.yaml", "version: 1\nproject: p\noutputs: {key: \"${file('key.pub')}\"}\n")
    town.write("specs/key.pub", "ssh-ed25519 AAAA")

    outputs = load_spec(town.project(files=("specs/gpuplan.yaml",))).outputs

    assert "ssh-ed25519 AAAA" == outputs["key"].value


def test_the_selected_workspace_is_remembered_by_the_folder(tmp_path: Path):
    assert "default" == selected_workspace(tmp_path)
    select_workspace(tmp_path, "staging")

    assert "staging" == selected_workspace(tmp_path)
