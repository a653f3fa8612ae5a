import pytest

from gpuplan.spec.scalars import as_text, typed


@pytest.mark.parametrize(
    "text", ["no", "on", "off", "yes", "y", "True", "NULL", "012", "0o14", "0x1F", "1_000", "1:30", "+1", ".5", "1."]
)
def test_surprises_of_yaml_stay_text(text: str) -> None:
    assert text == typed(text)


@pytest.mark.parametrize("text", ["2025-01-01", "1e999", "-", ".inf", ".nan", "1.2.3", "1" * 5000])
def test_dates_and_what_only_resembles_a_number_stay_text(text: str) -> None:
    assert text == typed(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("", None), ("~", None), ("null", None), ("true", True), ("false", False), ("0", 0), ("-7", -7), ("2.5", 2.5)],
)
def test_core_words_and_numbers_have_their_type(text: str, value: object) -> None:
    found = typed(text)

    assert (type(value), value) == (type(found), found)


@pytest.mark.parametrize("text", ["1.10", "2.0e3", "0.50", "-3.00"])
def test_number_remembers_how_it_was_written(text: str) -> None:
    found = typed(text)

    assert isinstance(found, float)
    assert float(text) == found
    assert text == as_text(found)


def test_booleans_are_written_as_the_spec_writes_them() -> None:
    assert ["true", "false", "8000"] == [as_text(value) for value in (True, False, 8000)]
