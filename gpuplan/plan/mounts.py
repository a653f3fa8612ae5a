"""Where the volumes are that a node mounts: it can only be where they are.

Called by `checks` and `demand` with what the spec says, and by `offers` with what is known while planning.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from gpuplan.core.address import Address
from gpuplan.core.desired import Configuration
from gpuplan.core.values import Attrs, Ref, Value


class Home(NamedTuple):
    """Where a volume is, or will be; what is not known is empty."""

    volume: Address
    provider: str
    region: str
    zone: str


def mounted(attrs: Attrs) -> Iterator[Address]:
    """The volumes among the attributes of a node."""
    mounts = attrs.get("volumes")
    if not isinstance(mounts, Sequence) or isinstance(mounts, str):
        return
    for mount in mounts:
        volume = mount.get("volume") if isinstance(mount, Mapping) else mount
        if isinstance(volume, Ref):
            yield volume.address


def homes_in_spec(attrs: Attrs, configuration: Configuration) -> list[Home]:
    """The homes that the spec itself tells."""
    homes = []
    for address in mounted(attrs):
        wanted = configuration.instances.get(address)
        if wanted is not None and len(wanted.candidates) == 1:
            (place,) = wanted.candidates
            homes.append(home(address, place.provider, place.attrs))
    return homes


def home(volume: Address, provider: str, known: Mapping[str, Value]) -> Home:
    """`known` are attributes and facts of the volume."""
    region, zone = known.get("region"), known.get("zone")
    return Home(volume, provider, region if isinstance(region, str) else "", zone if isinstance(zone, str) else "")
