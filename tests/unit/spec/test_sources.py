from gpuplan.core.diagnostics import At, Span
from gpuplan.spec.source import SourceFile
from gpuplan.spec.sources import Sources


def sources(*texts: str) -> Sources:
    made = Sources()
    for index, text in enumerate(texts):
        made.add(SourceFile(f"{index}.yaml", text.encode()))
    return made


def test_values_keys_and_entries_of_lists_are_found() -> None:
    found = sources("clusters:\n  train: {gpu: H100, ports: [8000, 9000]}\n")

    assert Span("0.yaml", 2, 16, 4) == found.locate(At(("clusters", "train", "gpu")))
    assert Span("0.yaml", 2, 11, 3) == found.locate(At(("clusters", "train", "gpu"), key=True))
    assert Span("0.yaml", 2, 36, 4) == found.locate(At(("clusters", "train", "ports", 1)))


def test_block_with_lines_of_its_own_is_pointed_at_by_its_key() -> None:
    found = sources("clusters:\n  train:\n    gpu: H100\n")

    assert Span("0.yaml", 2, 3, 5) == found.locate(At(("clusters", "train")))


def test_missing_part_is_pointed_at_by_what_is_there() -> None:
    found = sources("clusters:\n  train:\n    gpu: H100\n")

    assert Span("0.yaml", 2, 3, 5) == found.locate(At(("clusters", "train", "nodes")))
    assert found.locate(At(("volumes", "data"))) is None


def test_position_follows_the_file_that_won() -> None:
    found = sources("a: {x: 1, y: 1}\n", "# prod\na: {y: 2}\n")

    assert Span("0.yaml", 1, 8, 1) == found.locate(At(("a", "x")))
    assert Span("1.yaml", 2, 8, 1) == found.locate(At(("a", "y")))


def test_merged_key_is_found_where_it_is_written() -> None:
    found = sources("a: &a {x: 1}\nb: {<<: *a, y: 2}\n")

    assert Span("0.yaml", 1, 11, 1) == found.locate(At(("b", "x")))


def test_quoted_line_hides_secrets_and_spans_fit_what_is_shown() -> None:
    found = sources("env: {TOKEN: abcdefghijklmnop, OTHER: x}\n")
    found.hide("abcdefghijklmnop")

    line = found.line("0.yaml", 1) or ""
    other = found.locate(At(("env", "OTHER")))

    assert "env: {TOKEN: ********, OTHER: x}" == line
    assert Span("0.yaml", 1, 14, 8) == found.locate(At(("env", "TOKEN")))
    assert other is not None
    assert "x" == line[other.column - 1 : other.column - 1 + other.length]


def test_secret_of_several_lines_is_hidden_line_by_line() -> None:
    found = sources("key: |\n  first line\n  second line\n")
    found.hide("first line\nsecond line\n")

    assert ["  ********", "  ********"] == [found.line("0.yaml", number) for number in (2, 3)]


def test_columns_count_characters() -> None:
    assert Span("0.yaml", 1, 10, 1) == sources("{é: 'ü', b: 1}\n").locate(At(("b",), key=True))
