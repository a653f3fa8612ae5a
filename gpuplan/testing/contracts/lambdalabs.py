"""What `lambda` is asked by the conformance kit."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from gpuplan.core.address import Address
from gpuplan.core.desired import Kind
from gpuplan.core.marks import Mark
from gpuplan.core.ports import Want
from gpuplan.providers.lambdalabs import PROVIDER
from gpuplan.testing.contracts import PUBLIC_KEY
from gpuplan.testing.http_bench import HttpBench
from gpuplan.testing.http_conformance import HttpProviderConformance

OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4rO0mHr1Vt0o3cE9bq4rWJX7n4P0l0u8y5b9w3c2d1 me@example.com"
TEAM_KEY = "team"


class LambdaContract(HttpProviderConformance):
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
            bench.run(_store_key(bench))
            yield bench


async def _store_key(bench: HttpBench) -> None:
    want = Want(Address("ssh_keys", "team"), Kind.SSH_KEY, {"public_key": PUBLIC_KEY}, TEAM_KEY)
    await bench.provider.create(want, Mark(bench.clock.token()), {})
