"""What the stories of `lambda` begin with: wants, launches, looks, and what the emulator was asked."""

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.marks import Mark
from gpuplan.core.observed import Observed
from gpuplan.core.ports import Provider, Want
from gpuplan.core.values import Value
from gpuplan.testing.in_process import InProcessAccount

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t team@example.com"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4rO0mHr1Vt0o3cE9bq4rWJX7n4P0l0u8y5b9w3c2d1 me@example.com"
NODE: dict[str, Value] = {"instance_type": "gpu_1x_h100_sxm5", "region": "us-east-1", "ssh_keys": [PUBLIC_KEY]}
SECTIONS = {Kind.NODE: "clusters", Kind.VOLUME: "volumes", Kind.NETWORK: "networks", Kind.SSH_KEY: "ssh_keys"}
LAUNCH = "/api/v1/instance-operations/launch"


def ask(account: InProcessAccount, kind: Kind, **attrs: Value) -> tuple[Want, Mark]:
    address = Address(SECTIONS[kind], "train", None, 0 if kind is Kind.NODE else None)
    mark = Mark(account.clock.token(), "llama", "default", "lineage", address)
    return Want(address, kind, attrs, "train-0"), mark


async def create(account: InProcessAccount, provider: Provider, kind: Kind, **attrs: Value) -> Observed:
    return await provider.create(*ask(account, kind, **attrs), {})


async def launch(account: InProcessAccount, provider: Provider, **attrs: Value) -> Observed:
    return await create(account, provider, Kind.NODE, **{**NODE, **attrs})


async def look(provider: Provider, seen: Observed) -> Observed:
    now = await provider.get(seen.kind, seen.remote_id)
    assert now is not None
    return now


async def later(account: InProcessAccount, provider: Provider, seen: Observed, seconds: float = 600) -> Observed:
    await account.clock.sleep(seconds)
    return await look(provider, seen)


def visits(account: InProcessAccount, method: str, route: str) -> list[int]:
    return [visit.status for visit in account.world.visits if (visit.method, visit.route) == (method, route)]


def node_of(account: InProcessAccount) -> dict[str, object]:
    (thing,) = account.world.living["lambda", "node"].values()
    return {**thing.hidden, **thing.body}
