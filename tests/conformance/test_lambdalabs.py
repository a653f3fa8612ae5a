"""`lambda` against its emulator: the contract, and both sides against the official document."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.errors import Conflict, InvalidRequest, NoCapacity, QuotaExceeded
from gpuplan.core.marks import Mark
from gpuplan.core.ports import CanUpdate, Want
from gpuplan.providers.lambdalabs import PROVIDER
from gpuplan.testing.http_bench import HttpBench
from gpuplan.testing.http_conformance import HttpProviderConformance
from tests.conformance.api_documents import VARIABLE, ApiDocument

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpBYoKqHmF3jr7xkmI9YvNMM2bIXcSJ8vMfQ2vFKq1t team@example.com"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4rO0mHr1Vt0o3cE9bq4rWJX7n4P0l0u8y5b9w3c2d1 me@example.com"
TEAM_KEY = "team"
DEVIATIONS: Mapping[str, str] = {}
"""What does not fit the official document 1.10.0, and why it is right all the same."""


class TestLambda(HttpProviderConformance):
    provider_type = PROVIDER
    asks: ClassVar = {
        Kind.NODE: {
            "gpu": "H100-80GB-SXM:1",
            "instance_type": "gpu_1x_h100_sxm5",
            "region": "us-east-1",
            "image": "lambda-stack-24-04",
            "ssh_keys": [PUBLIC_KEY],
            "labels": {"team": "research"},
        },
        Kind.SSH_KEY: {"public_key": OTHER_KEY},
        Kind.VOLUME: {"region": "us-east-1"},
        Kind.NETWORK: {
            "region": "us-east-1",
            "rules": [
                {"port": 22, "from": "0.0.0.0/0"},
                {"port": "8000-8010", "protocol": "udp"},
                {"protocol": "icmp"},
            ],
        },
    }
    changes: ClassVar = {Kind.NETWORK: {"rules": [{"port": 22, "from": "10.0.0.0/8"}]}}
    shelf: ClassVar = {"gpu": "H100-80GB-SXM", "region": "us-east-1"}
    missing_id = "0" * 32
    quota_knobs: ClassVar = {"instance_limit": 1}
    public_path = "/api/v1"

    @contextmanager
    def open_bench(self, folder: Path) -> Iterator[HttpBench]:
        """With the key already there, so that a fault on a launch does not meet the adding of a key."""
        with super().open_bench(folder) as bench:
            bench.run(store_key(bench))
            yield bench

    def test_the_official_document_judges_both_sides(
        self, bench: HttpBench, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What the adapter sends and what the emulator answers, over the whole life of every kind of object."""
        document = ApiDocument.named("lambda.json")
        bench.run(_everything(bench))
        if document is None:
            with capsys.disabled():
                print(f"\nlambda: {len(bench.emulator.exchanges)} exchanges not judged, {VARIABLE} is not set")
            return

        assert set(DEVIATIONS) == document.judge(bench.emulator.exchanges, "/lambda")


async def store_key(bench: HttpBench) -> None:
    want = Want(Address("ssh_keys", "team"), Kind.SSH_KEY, {"public_key": PUBLIC_KEY}, TEAM_KEY)
    await bench.provider.create(want, Mark(bench.clock.token()), {})


async def _everything(bench: HttpBench) -> None:
    """All that the checks of the contract do not come by: companions in use, several keys, every refusal."""
    # Of limits the document says nothing.
    bench.emulator.knobs("lambda", {"rate_limited": False, "launch_limited": False})
    await bench.live_through()
    volume, network, key = [await bench.make(kind) for kind in (Kind.VOLUME, Kind.NETWORK, Kind.SSH_KEY)]
    node = await bench.make(
        Kind.NODE,
        ssh_keys=[key.remote_id, PUBLIC_KEY],
        volumes=[{"volume": volume.remote_id, "mount": "/data/sets"}],
        networks=[network.remote_id],
        env={"MODE": "a b"},
    )
    assert isinstance(bench.provider, CanUpdate)
    change = replace(network.want, attrs={**network.want.attrs, "rules": []}, update=frozenset({"rules"}))
    await bench.provider.update(change, network.remote_id, bench.links)
    for used in (volume, network):
        with pytest.raises(Conflict):
            await bench.provider.delete(used.kind, used.remote_id, bench.links)
    with pytest.raises(InvalidRequest):
        elsewhere = {"region": "us-south-2", "volumes": node.want.attrs["volumes"]}
        await bench.send(*bench.ask(Kind.NODE, **elsewhere))
    with pytest.raises(InvalidRequest):
        await bench.send(*bench.ask(Kind.NODE, image="no-such-family"))
    bench.emulator.stock(provider="lambda", gpu="A10", region="us-east-1", available=0)
    with pytest.raises(NoCapacity):
        await bench.send(*bench.ask(Kind.NODE, instance_type="gpu_1x_a10"))
    bench.emulator.knobs("lambda", {"instance_limit": 0})
    with pytest.raises(QuotaExceeded):
        await bench.send(*bench.ask(Kind.NODE))
    for made in reversed(list(bench.made.values())):
        await bench.until_gone(made.kind, made.remote_id)
