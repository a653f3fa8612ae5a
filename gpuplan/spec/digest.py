"""What a saved plan is bound to: a digest of everything a spec says once it is expanded.

Called by `load`. The same meaning gives the same digest, however it is laid out in files.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from decimal import Decimal

from gpuplan.core.address import Address
from gpuplan.core.desired import Desired
from gpuplan.core.secret import Secret
from gpuplan.core.values import Deferred, Ref


def spec_digest(project: str, instances: Mapping[Address, Desired], parts: Mapping[str, object]) -> str:
    """`parts` is whatever else the configuration consists of, by name. Secrets take part as keyed digests."""
    content = {"project": project, "instances": _instances(instances), **parts}
    text = json.dumps(content, default=_Plain(project), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _instances(instances: Mapping[Address, Desired]) -> list[object]:
    """One entry for the equal nodes of a cluster, with their number."""
    last: dict[Address, int | None] = {}
    blocks: dict[Address, Desired] = {}
    for address, desired in instances.items():
        block = address if address.node is None else address.block
        blocks.setdefault(block, desired)
        last[block] = address.node
    settings = {id(desired.settings): desired.settings for desired in blocks.values()}
    treated = {key: repr(value) for key, value in settings.items()}
    return [
        [
            str(block),
            last[block],
            desired.kind,
            [(candidate.provider, candidate.attrs) for candidate in desired.candidates],
            sorted(map(str, desired.depends_on)),
            treated[id(desired.settings)],
        ]
        for block, desired in sorted(blocks.items(), key=lambda item: item[0].order)
    ]


class _Plain:
    """JSON for what JSON does not know."""

    def __init__(self, project: str) -> None:
        self._key = f"gpuplan {project}".encode()

    def __call__(self, value: object) -> object:
        match value:
            case Secret():
                return {"$secret": hmac.new(self._key, value.reveal().encode(), hashlib.sha256).hexdigest()}
            case Ref():
                return {"$ref": str(value.address)}
            case Deferred():
                return {"$deferred": value.text, "of": getattr(value.evaluate, "identity", None)}
            case Decimal():
                return str(value)
            case Mapping():
                return dict(value)
        raise TypeError(f"{type(value).__name__} has no place in a digest")
