"""What an adapter's own model says about its options, in our words."""

from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from gpuplan.core.diagnostics import At, Diagnostic
from gpuplan.spec.schema import check


class Ports(BaseModel):
    model_config = ConfigDict(extra="forbid")

    first: int = Field(8000, gt=0)


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    url: str
    size: int | None = None
    ratio: float = 1.0
    mode: Literal["fast", "slow"] = "fast"
    tags: list[str] | str = ""
    ports: Ports | None = None
    nested: dict[str, Ports] = {}

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if not value.startswith("https://"):
            raise ValueError("this is not an https URL")
        return value


def found(**options: object) -> list[Diagnostic]:
    checked = check(Options, {"url": "https://x", **options}, ("providers", "mine"))
    return list(checked) if isinstance(checked, tuple) else []


@pytest.mark.parametrize(
    ("options", "id", "summary"),
    [
        ({"size": "many"}, "wrong-type", "`size` must be a whole number"),
        ({"ratio": "x"}, "wrong-type", "`ratio` must be a number"),
        ({"mode": "fats"}, "not-one-of", "`mode` must be `fast` or `slow`"),
        ({"tags": 5}, "wrong-type", "`tags` must be a list or text"),
        ({"ports": {"frist": 1}}, "unknown-field", "`providers.mine.ports` has no field `frist`"),
        ({"ports": {"first": 0}}, "out-of-range", "`ports.first` must be more than 0"),
        ({"nested": {"a": {"first": 0}}}, "out-of-range", "`nested.a.first` must be more than 0"),
        ({"ports": 5}, "wrong-type", "`ports` must be a map"),
        ({"url": "http://x"}, "wrong-value", "`url` does not fit"),
    ],
)
def test_every_kind_of_mistake_has_one_finding(options: dict[str, object], id: str, summary: str) -> None:
    assert [(id, summary)] == [(finding.id, finding.summary) for finding in found(**options)]


def test_hint_of_a_field_in_a_field_comes_from_there() -> None:
    (finding,) = found(ports={"frist": 1})

    assert "did you mean `first`?" == finding.hint
    assert At(("providers", "mine", "ports", "frist"), key=True) == finding.labels[0].where


def test_own_words_of_a_model_are_the_label() -> None:
    (finding,) = found(url="http://x")

    assert "this is not an https URL" == finding.labels[0].text


def test_missing_field_is_asked_for_where_it_belongs() -> None:
    checked = check(Options, {}, ("providers", "mine"))

    assert isinstance(checked, tuple)
    assert ["`providers.mine` needs `url`"] == [finding.summary for finding in checked]
