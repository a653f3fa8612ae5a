"""What machines one already has can do: the capabilities of `ssh`, as data."""

from gpuplan.core.capabilities import Capabilities, Idempotency, KindCapabilities, Mutability, ProviderKind
from gpuplan.core.desired import Kind
from gpuplan.core.offers import Pricing

TOLD = ("command", "env", "gpu", "restart", "labels")
"""The attributes that a claim keeps, and that are compared."""
RESTARTING = frozenset({"command", "env"})
RESTART = ("always", "on-failure", "never")
NODE = KindCapabilities(
    attributes={
        "command": Mutability.RESTARTS,
        "env": Mutability.RESTARTS,
        "restart": Mutability.IN_PLACE,
        "labels": Mutability.IN_PLACE,
        "gpu": Mutability.REPLACE,
        "cpu": Mutability.REPLACE,
        "memory_gb": Mutability.REPLACE,
        "disk_gb": Mutability.REPLACE,
        "region": Mutability.REPLACE,
        "instance_type": Mutability.REPLACE,
        "spot": Mutability.REPLACE,
        "setup": Mutability.REPLACE,
        "ports": Mutability.LOCAL,
    },
    idempotency=Idempotency.KEY,
)
CAPABILITIES = Capabilities(
    kind=ProviderKind.ON_PREM,
    kinds={Kind.NODE: NODE},
    ready_timeout_seconds=120,
    poll_interval_seconds=1,
    pricing=(Pricing.FIXED, Pricing.SPOT),
    spot=True,
    stop_start=True,
    ssh=True,
    logs=True,
    log_streaming=True,
    raw_tcp=True,
    symmetric_ports=True,
    workspace_path=".",
    lacks={
        "image": "commands run on the machine itself, in no container",
        "ssh_keys": "who may log in to a machine is up to its owner",
    },
    notes=("a node has a whole machine: nobody else may claim it meanwhile",),
)
