"""What the provider in memory declares about itself: every attribute, one of each mutability."""

from dataclasses import replace
from typing import Any

from gpuplan.core.capabilities import Capabilities, Idempotency, KindCapabilities, Mutability, ProviderKind
from gpuplan.core.desired import Kind

_FIXED = ("gpu", "cpu", "memory_gb", "region", "zone", "image", "ssh_keys", "volumes", "networks", "spot", "setup")
_FIXED_TOO = ("user_data", "confidential", "shm_gb", "options")
_NODE = {
    **dict.fromkeys(_FIXED + _FIXED_TOO, Mutability.REPLACE),
    **dict.fromkeys(("ports", "stopped", "restart", "labels"), Mutability.IN_PLACE),
    **dict.fromkeys(("env", "command"), Mutability.RESTARTS),
    "instance_type": Mutability.NEEDS_STOP,
    "disk_gb": Mutability.GROW_ONLY,
}
_VOLUME = {"size_gb": Mutability.GROW_ONLY, **dict.fromkeys(["region", "zone", "type", "options"], Mutability.REPLACE)}
_SSH_KEY = {"public_key": Mutability.REPLACE}
_NETWORK = {"rules": Mutability.IN_PLACE, **dict.fromkeys(["cidr", "region", "options"], Mutability.REPLACE)}


def memory_capabilities(
    *, groups: bool = False, idempotency: Idempotency = Idempotency.NONE, **changes: Any
) -> Capabilities:
    """Capabilities of a provider without surprises; `changes` are fields of `Capabilities`.

    With `groups` it creates whole clusters instead of nodes.
    """
    tables = {Kind.VOLUME: _VOLUME, Kind.SSH_KEY: _SSH_KEY, Kind.NETWORK: _NETWORK}
    tables |= {Kind.GROUP: {**_NODE, "nodes": Mutability.IN_PLACE}} if groups else {Kind.NODE: _NODE}
    plain = Capabilities(
        kind=ProviderKind.LOCAL,
        kinds={kind: KindCapabilities(attributes, idempotency=idempotency) for kind, attributes in tables.items()},
        poll_interval_seconds=0.05,
        max_concurrency=1000,
        stop_start=True,
        bills_when_stopped=False,
        multi_node=True,
        confidential=True,
        spot=True,
        exec=True,
        offers=False,
    )
    return replace(plain, **changes)
