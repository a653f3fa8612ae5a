"""What `hetzner` is asked by the conformance kit."""

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import ClassVar

from gpuplan.core.desired import Kind
from gpuplan.core.marks import Mark
from gpuplan.core.ports import Want
from gpuplan.core.values import Value
from gpuplan.providers.hetzner import PROVIDER
from gpuplan.testing.http_bench import HttpBench
from gpuplan.testing.http_conformance import HttpProviderConformance


def public_key(seed: str) -> str:
    """An Ed25519 key of the right form."""
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + hashlib.sha256(seed.encode()).digest()
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} {seed}@example.com"


class KeyedBench(HttpBench):
    """A public key can be in a project once: every further ask is for another one."""

    def ask(self, kind: Kind, **more: Value) -> tuple[Want, Mark]:
        if kind is Kind.SSH_KEY and any(made.kind is kind for made in self.made.values()):
            more.setdefault("public_key", public_key(str(len(self.made))))
        return super().ask(kind, **more)


class HetznerContract(HttpProviderConformance):
    provider_type = PROVIDER
    asks: ClassVar = {
        Kind.NODE: {
            "instance_type": "cpx22",
            "region": "fsn1",
            "image": "ubuntu-24.04",
            "labels": {"team": "research"},
        },
        Kind.SSH_KEY: {"public_key": public_key("team")},
        Kind.VOLUME: {"size_gb": 100, "region": "fsn1"},
        Kind.NETWORK: {"rules": [{"port": 22, "from": "10.0.0.0/8"}, {"port": "8000-8010", "protocol": "udp"}]},
    }
    changes: ClassVar = {
        Kind.NODE: {"labels": {"team": "production", "tier": "gold"}},
        Kind.VOLUME: {"size_gb": 200},
        Kind.NETWORK: {"rules": [{"port": 22, "from": "192.168.0.0/16"}]},
    }
    shelf: ClassVar = {"gpu": "cpx22", "region": "fsn1"}
    missing_id = "999999999999"
    page_knobs: ClassVar = {"most_per_page": 2}
    quota_knobs: ClassVar = {"server_limit": 1}
    public_path = "/v1"

    @contextmanager
    def open_bench(self, folder: Path) -> Iterator[HttpBench]:
        with super().open_bench(folder) as bench:
            yield KeyedBench(**{field.name: getattr(bench, field.name) for field in fields(bench)})
