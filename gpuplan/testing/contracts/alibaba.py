"""What `alibaba` is asked by the conformance kit."""

from typing import ClassVar

from gpuplan.core.desired import Kind
from gpuplan.providers.alibaba import PROVIDER
from gpuplan.testing.http_conformance import HttpProviderConformance

PUBLIC_KEY = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7vbqajDhA team@example.com"
REGION = "ap-southeast-1"


class AlibabaContract(HttpProviderConformance):
    provider_type = PROVIDER
    options: ClassVar = {
        "region_id": REGION,
        "security_group_id": "sg-of-the-team",
        "vswitch_id": [f"vsw-{REGION}a", f"vsw-{REGION}b"],
    }
    asks: ClassVar = {
        Kind.NODE: {
            "gpu": "A10:1",
            "instance_type": "ecs.gn7i-c8g1.2xlarge",
            "region": REGION,
            "image": "ubuntu_22_04_x64_20G_alibase_*.vhd",
            "labels": {"team": "research"},
        },
        Kind.SSH_KEY: {"public_key": PUBLIC_KEY},
    }
    changes: ClassVar = {Kind.NODE: {"labels": {"team": "production", "tier": "gold"}}}
    shelf: ClassVar = {"gpu": "A10", "region": REGION}
    # The clock of the checks runs a thousand times as fast as the machine.
    knobs: ClassVar = {"clock_window_seconds": 1e9}
    missing_id = f"{REGION}/i-t4n00000000000000000"
    unknown_status: ClassVar = {"Status": "Quantum"}
    create_route = "RunInstances"
    page_knobs: ClassVar = {"most_per_page": 2}
    quota_knobs: ClassVar = {"instance_limit": 1}
