"""A spec made of what contracts ask: every kind their providers have, and at each a cluster of as many nodes as one
likes.

Campaigns, call counts and end-to-end tests are run with it for every type that has a contract and an emulator.
"""

import json
from collections.abc import Mapping, Sequence

from gpuplan.core.desired import Kind
from gpuplan.core.values import Attrs, JsonValue
from gpuplan.testing.conformance import ProviderConformance
from gpuplan.testing.http_conformance import HttpProviderConformance

_NAMES: Mapping[Kind, tuple[str, str]] = {
    Kind.NODE: ("clusters", "train"),
    Kind.GROUP: ("clusters", "train"),
    Kind.VOLUME: ("volumes", "data"),
    Kind.SSH_KEY: ("ssh_keys", "team"),
    Kind.NETWORK: ("networks", "lan"),
}


def crowded_knobs(contract: type[ProviderConformance], nodes: int) -> dict[str, JsonValue]:
    """Knobs of the type's emulator that make room for so many nodes of the sample spec."""
    if not issubclass(contract, HttpProviderConformance):
        return {}
    return {**contract.knobs, **{name: each * nodes for name, each in contract.crowd_knobs.items()}}


def sample_spec(contracts: Sequence[type[ProviderConformance]], *, nodes: int, changed: bool = False) -> str:
    """YAML. `changed`: with the other values that the contracts have for what can be changed in place."""
    document: dict[str, dict[str, JsonValue]] = {"providers": {}}
    for contract in contracts:
        type = contract.provider_type.name
        document["providers"][type] = dict(contract.options)
        suffix = f"-{type}" if len(contracts) > 1 else ""
        for kind, asked in contract.asks.items():
            if kind in _NAMES:
                section, name = _NAMES[kind]
                attrs: Attrs = {**asked, **(contract.changes.get(kind, {}) if changed else {})}
                if section == "clusters":
                    attrs = _cluster(contract, attrs, nodes, f"{_NAMES[Kind.SSH_KEY][1]}{suffix}")
                # Contracts ask for plain values: JSON says all of them.
                resource = {"provider": type, **json.loads(json.dumps(attrs))}
                document.setdefault(section, {})[f"{name}{suffix}"] = resource
    return json.dumps({"version": 1, "project": "sample", **document}, indent=2) + "\n"


def _cluster(contract: type[ProviderConformance], attrs: Attrs, nodes: int, key: str) -> Attrs:
    """With the key of the spec where nodes take any, so that nothing is made which no resource stands for."""
    crowd = contract.crowd if issubclass(contract, HttpProviderConformance) else {}
    kept = {name: value for name, value in {**attrs, **crowd}.items() if value is not None}
    if Kind.SSH_KEY in contract.asks and contract.subject().has_attribute("ssh_keys"):
        kept["ssh_keys"] = [f"${{ssh_keys.{key}}}"]
    return {**kept, "nodes": nodes}
