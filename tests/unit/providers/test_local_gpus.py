"""What the drivers' tools print, as they print it, becomes devices with canonical names."""

import pytest

from gpuplan.providers.local_gpus import CannotTell, Device, parse_nvidia_smi, parse_rocm_smi, visible


@pytest.mark.parametrize(
    ("line", "gpu"),
    [
        ("GPU-1, NVIDIA H100 80GB HBM3, 81559", "H100-80GB-SXM"),
        ("GPU-1, NVIDIA A100-SXM4-40GB, 40960", "A100-40GB-SXM"),
        ("GPU-1, NVIDIA GeForce RTX 4090, 24564", "RTX4090"),
        ("GPU-1, Tesla T4, 15360", "T4"),
        ("GPU-1, Tesla V100-SXM2-32GB, 32768", "V100-32GB-SXM"),
        ("GPU-1, NVIDIA L40S, 46068", "L40S"),
    ],
)
def test_nvidia_names_become_canonical(line: str, gpu: str) -> None:
    assert [Device("GPU-1", gpu)] == parse_nvidia_smi(line + "\n")


def test_a_gpu_without_a_name_here_is_left_out() -> None:
    assert [Device("GPU-2", "L4")] == parse_nvidia_smi("GPU-1, NVIDIA Quantum 9000, 1\nGPU-2, NVIDIA L4, 23034\n\n")


def test_amd_cards_are_numbered_as_the_runtime_does() -> None:
    text = (
        '{"card10": {"Card Series": "AMD Instinct MI210"}, "card1": {"Card Series": "AMD Instinct MI300X"},'
        ' "system": {"Driver version": "6.2"}}'
    )

    assert [Device("0", "MI300X"), Device("1", "MI210")] == parse_rocm_smi(text)


def test_an_answer_that_is_no_json_is_not_an_empty_machine() -> None:
    with pytest.raises(CannotTell):
        parse_rocm_smi("ERROR: no driver")


def test_each_vendor_sees_its_own_devices() -> None:
    shown = visible([Device("GPU-1", "L4"), Device("GPU-2", "L4"), Device("0", "MI300X")])

    assert ("GPU-1,GPU-2", "0") == (shown["CUDA_VISIBLE_DEVICES"], shown["ROCR_VISIBLE_DEVICES"])
