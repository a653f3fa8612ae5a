import pytest

from gpuplan.spec.templates import Expression, PathExpression, TemplateError, parse_expression, parse_template


def path(text: str) -> tuple[object, ...] | None:
    found = parse_expression(text).path
    return None if found is None else (found.root, *found.steps)


def test_text_is_split_into_literals_and_expressions() -> None:
    parts = parse_template("a ${vars.x} b ${vars.y}c")

    assert ["a ", "vars.x", " b ", "vars.y", "c"] == [p.text if isinstance(p, Expression) else p for p in parts]


@pytest.mark.parametrize(
    ("text", "literal"), [("$${HOME}", "${HOME}"), ("a $${b} c", "a ${b} c"), ("$$${", "$${"), ("$5", "$5")]
)
def test_doubled_dollar_is_a_plain_one(text: str, literal: str) -> None:
    assert (literal,) == parse_template(text)


def test_braces_and_strings_inside_an_expression_do_not_end_it() -> None:
    (first, second) = parse_template("""${ {"a": "}"}["a"] }!""")

    assert isinstance(first, Expression)
    assert """{"a": "}"}["a"]""" == first.text
    assert "!" == second


@pytest.mark.parametrize("text", ["${vars.x", "${", "${ }"])
def test_expressions_that_are_not_closed_or_empty_are_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        parse_template(text)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("vars.x", ("vars", "x")),
        ("locals.a.b[0]", ("locals", "a", "b", 0)),
        ("clusters.my-train.nodes[12].public_ip", ("clusters", "my-train", "nodes", 12, "public_ip")),
        ('clusters.web["eu"].nodes[0]', ("clusters", "web", "eu", "nodes", 0)),
        ("volumes['data'].id", ("volumes", "data", "id")),
        ("clusters", ("clusters",)),
    ],
)
def test_plain_paths_need_no_cel(text: str, steps: tuple[object, ...]) -> None:
    assert steps == path(text)


def test_index_may_be_a_path_itself() -> None:
    found = parse_expression("volumes.data[each.key]").path

    assert found is not None
    assert ("data", PathExpression("each", ("key",), "each.key")) == found.steps


@pytest.mark.parametrize(
    "text", ["vars.x + 1", "size(vars.x)", "vars.x.size()", "varsity.x", "resource.vars.x", "'vars.x'"]
)
def test_everything_else_is_cel(text: str) -> None:
    assert path(text) is None


def test_paths_are_cut_out_of_larger_expressions() -> None:
    found = parse_expression("clusters.a.nodes.map(n, n.ip)[0] + 'vars.x' + string(vars.port - 1)")

    assert ["clusters.a.nodes", "vars.port"] == [cut.path.text for cut in found.cuts]
    assert "path_0.map(n, n.ip)[0] + 'vars.x' + string(path_1 - 1)" == found.code


def test_presence_and_size_are_asked_of_the_path_itself() -> None:
    found = parse_expression("has(vars.a.b) ? size(vars.a) : vars.c")

    assert ["presence", "size", "value"] == [cut.asks for cut in found.cuts]
    assert "path_0 ? size(path_1) : path_2" == found.code
