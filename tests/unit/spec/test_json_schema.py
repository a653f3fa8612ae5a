import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from gpuplan.spec.json_schema import spec_schema
from tests.unit.spec.reading import HEAD

SCHEMA = Path(__file__).parents[3] / "schemas" / "spec.v1.json"
VALIDATOR = Draft202012Validator(spec_schema())


def test_published_schema_is_up_to_date() -> None:
    assert spec_schema() == json.loads(SCHEMA.read_text())


def is_valid(fields: str) -> bool:
    return VALIDATOR.is_valid(yaml.safe_load(f"{HEAD}clusters: {{train: {{provider: cloud, {fields}}}}}\n"))


@pytest.mark.parametrize(
    "fields",
    [
        "nodes: 2, gpu: H100:8, cpu: '>=32', memory_gb: 256, spot: {max_price: 2.1}, ttl: 12h",
        "nodes: '${vars.n}', cpu: '${vars.n}', ports: ['${vars.n}'], lifecycle: {prevent_destroy: '${vars.b}'}",
        "env: {A: 1, B: true, C: '${vars.c}'}, volumes: [{volume: '${volumes.a}', mount: /a}], ports: [80, 53/udp]",
    ],
)
def test_editor_accepts_what_is_right(fields: str) -> None:
    assert is_valid(fields)


@pytest.mark.parametrize(
    "fields", ["nodes: two", "regoin: x", "gpu: null", "ttl: 12 hours", "lifecycle: {prevent: true}"]
)
def test_editor_marks_what_is_wrong(fields: str) -> None:
    assert not is_valid(fields)


def test_every_field_that_needs_words_has_them() -> None:
    cluster = spec_schema()["$defs"]["Cluster"]["properties"]

    assert "" != cluster["gpu"]["description"]
    assert "title" not in json.dumps(cluster)
