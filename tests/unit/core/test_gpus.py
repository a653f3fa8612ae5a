import pytest
from gpuhunt._internal.constraints import KNOWN_ACCELERATORS

from gpuplan.core.gpus import canonical_gpu, gpu_by_memory, gpu_satisfies, known_gpus, nearest_gpus, parse_gpu


@pytest.mark.parametrize("accelerator", KNOWN_ACCELERATORS, ids=lambda a: f"{a.name}-{a.memory}")
def test_every_accelerator_gpuhunt_knows_has_a_canonical_name(accelerator: object) -> None:
    name, memory = str(accelerator.name), int(accelerator.memory)  # type: ignore[attr-defined]  # a union without a base
    canonical = canonical_gpu(name)

    assert canonical is not None
    if memory:
        sized = canonical_gpu(f"{name}-{memory}GB") or canonical
        assert memory == known_gpus()[sized].memory_gb


@pytest.mark.parametrize("name", list(known_gpus()))
def test_a_canonical_name_means_itself(name: str) -> None:
    assert name == canonical_gpu(name)


@pytest.mark.parametrize(
    ("spelling", "canonical"),
    [
        ("h100", "H100-80GB"),
        ("NVIDIA-H100-80GB-HBM3", "H100-80GB-SXM"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB-SXM"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("RTX_3090", "RTX3090"),
        ("Tesla T4", "T4"),
        ("H100 NVL", "H100-94GB-NVL"),
        ("AMD Instinct MI300X", "MI300X"),
    ],
)
def test_vendors_spellings_are_understood(spelling: str, canonical: str) -> None:
    assert canonical == canonical_gpu(spelling)


def test_a_form_factor_satisfies_its_base_and_not_the_reverse() -> None:
    assert gpu_satisfies("H100-80GB-SXM", "H100-80GB")
    assert not gpu_satisfies("H100-80GB", "H100-80GB-SXM")


def test_count_defaults_to_one() -> None:
    assert "L40S:1" == str(parse_gpu("L40S"))
    assert "H100-80GB:8" == str(parse_gpu("H100:8"))


@pytest.mark.parametrize("text", ["H100:0", "H100:x", "H100:-1"])
def test_a_count_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="number of GPUs"):
        parse_gpu(text)


def test_reported_memory_may_be_a_tenth_too_small() -> None:
    assert "A100-40GB" == gpu_by_memory("A100", 39.4)
    assert gpu_by_memory("A100", 20) is None


def test_unknown_names_find_their_neighbours() -> None:
    assert "RTX4090" in nearest_gpus("RTX409O")
