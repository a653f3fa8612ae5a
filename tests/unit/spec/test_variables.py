import pytest

from gpuplan.core.secret import Secret
from gpuplan.core.values import Value
from gpuplan.spec.load import Given, SourceFile, load
from tests.unit.spec.reading import HEAD, ids, inputs, read


def value(declaration: str, given: str | None = None) -> Value:
    text = f'{HEAD}variables: {{x: {declaration}}}\noutputs: {{x: "${{vars.x}}"}}\n'
    return read(text, variables=None if given is None else {"x": given}).outputs["x"].value


@pytest.mark.parametrize(
    ("declaration", "given", "expected"),
    [
        ("{}", "5", "5"),
        ("{type: string}", "true", "true"),
        ("{type: integer}", "5", 5),
        ("{type: number}", "2.5", 2.5),
        ("{type: number}", "2", 2),
        ("{type: boolean}", "false", False),
        ("{type: list}", "[a, 1]", ["a", 1]),
        ("{type: map}", '{"a": {"b": 1}}', {"a": {"b": 1}}),
        ("{default: 3}", "4", 4),
        ("{default: [a]}", "[b]", ["b"]),
        ("{default: 3}", None, 3),
        ("{type: integer, default: null}", None, None),
        ("{type: integer, enum: [1, 2]}", "2", 2),
        ("{pattern: '[a-z]+'}", "abc", "abc"),
        ("{sensitive: true}", "s3cret", Secret("s3cret")),
        ("{type: list, sensitive: true}", "[a, 1]", [Secret("a"), Secret("1")]),
    ],
)
def test_given_text_is_read_as_the_declared_type(declaration: str, given: str | None, expected: Value) -> None:
    assert expected == value(declaration, given)


@pytest.mark.parametrize(
    ("declaration", "given", "id"),
    [
        ("{type: integer}", "2.5", "wrong-type"),
        ("{type: integer}", "yes", "wrong-type"),
        ("{type: boolean}", "yes", "wrong-type"),
        ("{type: boolean}", "1", "wrong-type"),
        ("{type: list}", "a,b", "wrong-type"),
        ("{type: list}", "[a", "wrong-type"),
        ("{type: integer, minimum: 1}", "0", "out-of-range"),
        ("{type: string, maximum: 3}", "abcd", "out-of-range"),
        ("{enum: [a, b]}", "c", "not-one-of"),
        ("{pattern: '[a-z]+'}", "abc1", "wrong-form"),
        ("{pattern: '['}", "abc1", "wrong-form"),
    ],
)
def test_value_outside_of_the_declaration_is_refused(declaration: str, given: str, id: str) -> None:
    assert [id] == ids(f"{HEAD}variables: {{x: {declaration}}}\n", variables={"x": given})


def test_values_of_files_keep_their_type() -> None:
    text = f'{HEAD}variables: {{x: {{type: string}}}}\noutputs: {{x: "${{vars.x}}"}}\n'
    given = {"x": Given("5", "prod.vars.yaml", False)}

    assert "5" == load([SourceFile("a.yaml", text.encode())], inputs(given=given)).outputs["x"].value


def test_plan_brings_along_what_was_given_and_is_not_sensitive() -> None:
    text = HEAD + "variables: {a: {default: 1}, b: {default: 2}, c: {sensitive: true}}\n"

    assert {"b": 3} == read(text, variables={"b": "3", "c": "s3cret"}).variables


def test_redactor_of_a_configuration_knows_its_secrets() -> None:
    read_ = read(HEAD + "variables: {c: {sensitive: true}}\n", variables={"c": "s3cret-token"})

    assert "token is ********" == read_.redactor("token is s3cret-token")


def test_default_that_is_sensitive_is_not_quoted() -> None:
    text = HEAD + "variables: {c: {sensitive: true, type: integer, default: hunter22hunter}}\n"

    from gpuplan.core.errors import SpecError

    with pytest.raises(SpecError) as caught:
        read(text)
    assert caught.value.locator is not None
    assert "hunter22" not in (caught.value.locator.line("gpuplan.yaml", 4) or "")


def test_a_variable_of_the_environment_that_the_spec_does_not_declare_is_somebody_elses() -> None:
    def warned(name: str) -> list[str | None]:
        given = {name: Given("1", f"GPUPLAN_VAR_{name}", True, ambient=True)}
        text = f'{HEAD}variables: {{workers: {{default: 2}}}}\noutputs: {{x: "${{vars.workers}}"}}\n'
        found = load([SourceFile("gpuplan.yaml", text.encode())], inputs(given=given))
        return [warning.hint for warning in found.warnings if warning.id == "undeclared-variable"]

    assert [] == warned("quota")
    assert ["did you mean `workers`?"] == warned("wrokers")
