"""The GPUs of this machine: declared in the provider block, or told by the drivers' own tools; used by `local`."""

import csv
import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from gpuplan.core.gpus import Vendor, canonical_gpu, gpu_by_memory, known_gpus

_TOOL_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU. `id` is what the driver's own environment variable takes."""

    id: str
    gpu: str
    price_per_hour: Decimal = Decimal(0)


class CannotTell(Exception):
    """A driver is there and does not answer: not the same as 'no GPU'."""


def find_devices(path: str) -> Sequence[Device]:
    """Ask nvidia-smi and rocm-smi, where `path` has them. Raises CannotTell."""
    found: list[Device] = []
    if tool := shutil.which("nvidia-smi", path=path):
        found += parse_nvidia_smi(_run(tool, "--query-gpu=uuid,name,memory.total", "--format=csv,noheader,nounits"))
    if tool := shutil.which("rocm-smi", path=path):
        found += parse_rocm_smi(_run(tool, "--showproductname", "--json"))
    return found


def parse_nvidia_smi(text: str) -> list[Device]:
    """Lines of `uuid, name, MiB`. GPUs gpuplan has no name for are left out: nobody can ask for them."""
    found = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) != 3:
            continue
        uuid, name, mebibytes = row
        gpu = canonical_gpu(name)
        if mebibytes.isdigit() and gpu is not None:
            # The same board name comes in several sizes: the driver's number decides.
            family = gpu.split("-")[0]
            gpu = gpu if "-" not in gpu else _of_size(gpu, family, int(mebibytes) / 1024)
        if gpu is not None:
            found.append(Device(uuid, gpu))
    return found


def parse_rocm_smi(text: str) -> list[Device]:
    """`{"card0": {"Card Series": "AMD Instinct MI300X", ...}}`; the position is what ROCR_VISIBLE_DEVICES takes."""
    try:
        cards = json.loads(text)
    except json.JSONDecodeError as exc:
        raise CannotTell("rocm-smi answered no JSON") from exc
    found = []
    for number, card in enumerate(value for key, value in sorted(cards.items(), key=_card) if key.startswith("card")):
        words = {key.lower(): str(value) for key, value in card.items()}
        names = (words.get("card series", ""), words.get("card model", ""), words.get("card sku", ""))
        gpu = next((known for name in names if (known := canonical_gpu(name))), None)
        if gpu is not None:
            found.append(Device(str(number), gpu))
    return found


def visible(devices: Iterable[Device]) -> Mapping[str, str]:
    """The environment that shows a node these GPUs and no others."""
    by_vendor: dict[Vendor, list[str]] = {Vendor.NVIDIA: [], Vendor.AMD: []}
    for device in devices:
        by_vendor.setdefault(known_gpus()[device.gpu].vendor, []).append(device.id)
    return {
        # Without it CUDA numbers by speed, not as nvidia-smi does.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(by_vendor[Vendor.NVIDIA]),
        "ROCR_VISIBLE_DEVICES": ",".join(by_vendor[Vendor.AMD]),
    }


def _of_size(gpu: str, family: str, memory_gb: float) -> str:
    if abs(known_gpus()[gpu].memory_gb - memory_gb) <= 0.12 * known_gpus()[gpu].memory_gb:
        return gpu
    return gpu_by_memory(family, memory_gb) or gpu


def _card(item: tuple[str, object]) -> tuple[int, str]:
    digits = item[0].removeprefix("card")
    return (int(digits) if digits.isdigit() else 0, item[0])


def _run(tool: str, *arguments: str) -> str:
    try:
        done = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=_TOOL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise CannotTell(f"{tool} does not answer") from exc
    if done.returncode != 0:
        raise CannotTell(f"{tool}: {(done.stderr or done.stdout).strip()[:200]}")
    return done.stdout
