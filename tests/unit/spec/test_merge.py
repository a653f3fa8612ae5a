import pytest

from gpuplan.core.errors import SpecError
from gpuplan.spec.load import SourceFile, load
from tests.unit.spec.reading import HEAD, addresses, attrs, ids, inputs, read

TRAIN = HEAD + "clusters: {train: {provider: cloud, gpu: H100, region: eu, ports: [1, 2]}}\n"


def test_later_file_merges_maps_and_replaces_lists_and_scalars() -> None:
    read_ = read(TRAIN, "clusters: {train: {region: us, ports: [3], disk_gb: 5}, more: {provider: cloud}}\n")

    assert {"gpu": "H100-80GB:1", "region": "us", "ports": [3], "disk_gb": 5} == attrs(read_, "clusters.train.nodes[0]")
    assert "clusters.more.nodes[0]" in addresses(read_)


def test_null_in_a_later_file_removes_what_an_earlier_one_said() -> None:
    read_ = read(TRAIN, "clusters: {train: {gpu: null, ports: ~}}\n")

    assert {"region": "eu"} == attrs(read_, "clusters.train.nodes[0]")


def test_included_file_lies_under_the_one_that_includes_it() -> None:
    base = b"clusters: {train: {provider: cloud, region: eu, disk_gb: 5}}\n"

    read_ = read(HEAD + "include: [base.yaml]\nclusters: {train: {region: us}}\n", files={"base.yaml": base})

    assert {"region": "us", "disk_gb": 5} == attrs(read_, "clusters.train.nodes[0]")


def test_include_is_read_beside_the_file_that_asks() -> None:
    asked: list[tuple[str, str]] = []

    def read_file(path: str, asking: str) -> bytes:
        asked.append((path, asking))
        return b"include: [deeper.yaml]\n" if path != "deeper.yaml" else b"locals: {a: 1}\n"

    spec = SourceFile("infra/gpuplan.yaml", f"{HEAD}include: parts/one.yaml\n".encode())
    given = inputs()
    load([spec], type(given)("default", {}, {}, read_file, given.provider_types))

    assert [("parts/one.yaml", "infra/gpuplan.yaml"), ("deeper.yaml", "infra/parts/one.yaml")] == asked


def test_file_included_twice_is_read_once() -> None:
    files = {"a.yaml": b"include: [c.yaml]\n", "b.yaml": b"include: [c.yaml]\n", "c.yaml": b"locals: {x: 1}\n"}

    assert "test" == read(HEAD + "include: [a.yaml, b.yaml]\n", files=files).project


def test_empty_sections_and_providers_are_what_they_look_like() -> None:
    assert [] == ids("version: 1\nproject: a\nclusters:\nproviders:\n  cloud:\n")


def test_no_file_at_all_is_said() -> None:
    with pytest.raises(SpecError) as caught:
        load([], inputs())

    assert ["no-spec"] == [finding.id for finding in caught.value.diagnostics]
