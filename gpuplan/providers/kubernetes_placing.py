"""Where the pods of a cluster may run: from what the spec asks to resources, affinity and tolerations. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gpuplan.core.gpus import gpu_satisfies, known_gpus, parse_gpu
from gpuplan.core.kinds import NodeAttrs
from gpuplan.core.offers import Offer, Pricing
from gpuplan.core.values import JsonValue
from gpuplan.providers.kubernetes_gpus import INSTANCE_TYPE, REGION, RESOURCES, SPOT, ZONE, Room, fits
from gpuplan.providers.kubernetes_options import Expected, NodeOptions, Options, Toleration
from gpuplan.providers.kubernetes_wire import Body, StatefulSet

MOVING = frozenset({"gpu", "region", "zone", "instance_type", "spot", "options"})
"""Attributes that decide which machines will do."""


@dataclass(frozen=True, slots=True)
class Placement:
    """`resource` is what GPUs are called there. `free` is how many nodes would find room now; None: not told."""

    resource: str = ""
    affinity: Body | None = None
    tolerations: tuple[Body, ...] = ()
    free: int | None = None

    @classmethod
    def of(cls, found: StatefulSet) -> "Placement":
        """As it is: what a change does not speak of shall not move."""
        spec = found.spec.template.spec
        gpu = next((name for name in found.main.resources.limits if "/" in name), "")
        affinity: Body | None = {**spec.affinity} or None
        return cls(gpu, affinity, tuple({**each} for each in spec.tolerations))


@dataclass(frozen=True, slots=True)
class Terms:
    """What has to hold of a machine."""

    gpu: str
    count: int
    region: str | None
    zone: str | None
    instance_type: str | None
    spot: bool | None
    """None: either will do."""

    @classmethod
    def of(cls, asked: NodeAttrs, offer: Offer | None) -> "Terms":
        """An offer that was chosen decides where the spec leaves it open."""
        spot: bool | None = asked.spot is not None
        if asked.spot is not None and asked.spot.fallback:
            spot = None if offer is None else offer.pricing is Pricing.SPOT
        return cls(
            asked.gpu.name if asked.gpu else "",
            asked.gpu.count if asked.gpu else 0,
            asked.region or (offer.region if offer else None) or None,
            asked.zone or (offer.zone if offer else None) or None,
            asked.instance_type or (offer.instance_type if offer else None) or None,
            spot,
        )

    def allow(self, room: Room) -> bool:
        labels = room.labels
        return (
            (not self.gpu or fits(room, self.gpu))
            and self.region in (None, labels.get(REGION))
            and self.zone in (None, labels.get(ZONE))
            and self.instance_type in (None, labels.get(INSTANCE_TYPE))
            and self.spot in (None, room.is_spot)
        )

    def expect(self, machine: Expected) -> bool:
        gpu = parse_gpu(machine.gpu)
        return (
            gpu_satisfies(gpu.name, self.gpu)
            and gpu.count >= self.count
            and self.region in (None, machine.region)
            and self.zone in (None, machine.zone)
            and self.instance_type in (None, machine.instance_type)
            and self.spot in (None, machine.spot)
        )


def place(terms: Terms, node: NodeOptions, block: Options, rooms: Sequence[Room] | None) -> Placement | None:
    """Where pods go that ask for this; None: no machine of the cluster will ever do. `rooms` None: nobody may look."""
    tolerations = [as_toleration(each) for each in (*block.tolerations, *node.tolerations)]
    if node.gpu_resource is not None or (not terms.gpu and rooms is None):
        return Placement(node.gpu_resource or "", _affinity(_base(terms), [], []), tuple(tolerations))
    fitting = [room for room in rooms or () if terms.allow(room)]
    expected = [machine for machine in block.expected if terms.gpu and terms.expect(machine)]
    if terms.gpu and not fitting and not expected:
        return _unseen(terms, node, tolerations) if rooms is None else None
    resource = ""
    if terms.gpu:
        resource = fitting[0].kit.resource if fitting else expected[0].resource
        fitting = [room for room in fitting if room.kit.resource == resource]
        expected = [machine for machine in expected if machine.resource == resource]
        tolerations.append({"key": resource, "operator": "Exists", "effect": "NoSchedule"})
    affinity = _affinity(_base(terms, rooms or ()), _kinds(terms, fitting, expected), _spots(terms, fitting))
    tolerations += [{"key": key, "operator": "Exists"} for key in SPOT if terms.spot is not False]
    free = None if expected or not terms.gpu else sum(room.free // terms.count for room in fitting)
    return Placement(resource, affinity, tuple(tolerations), free)


def as_toleration(each: Toleration) -> Body:
    return {name: value for name, value in each.model_dump().items() if value is not None}


def _unseen(terms: Terms, node: NodeOptions, tolerations: Sequence[Body]) -> Placement:
    """Nobody may list machines: the spec has to say which. Raises ValueError."""
    if not node.node_selector:
        message = f"machines cannot be listed: say by `node_selector` under `options` which have {terms.gpu}"
        raise ValueError(message)
    vendor = known_gpus()[terms.gpu].vendor
    resource = next((name for name, whose in RESOURCES.items() if whose is vendor), "nvidia.com/gpu")
    own: Body = {"key": resource, "operator": "Exists", "effect": "NoSchedule"}
    return Placement(resource, _affinity(_base(terms), [], []), (*tolerations, own))


def _base(terms: Terms, rooms: Iterable[Room] = ()) -> list[Body]:
    """What holds whichever GPU it is."""
    named = ((REGION, terms.region), (ZONE, terms.zone), (INSTANCE_TYPE, terms.instance_type))
    found = [_in(key, [value]) for key, value in named if value]
    if terms.spot is False:
        present = {key for room in rooms for key, value in SPOT.items() if room.labels.get(key) == value}
        found += [{"key": key, "operator": "NotIn", "values": [SPOT[key]]} for key in sorted(present)]
    return found


def _kinds(terms: Terms, fitting: Iterable[Room], expected: Iterable[Expected]) -> list[list[Body]]:
    """One group of conditions for each label that tells the GPU: one GPU may go by several names."""
    if not terms.gpu:
        return []
    values: dict[str, set[str]] = {}
    for room in fitting:
        key, value = room.kit.label
        values.setdefault(key, set()).add(value)
    groups = [[_in(key, sorted(names))] for key, names in sorted(values.items())]
    return groups + [[_in(key, [value]) for key, value in sorted(machine.labels.items())] for machine in expected]


def _spots(terms: Terms, fitting: Iterable[Room]) -> list[list[Body]]:
    if not terms.spot:
        return []
    present = {key for room in fitting for key, value in SPOT.items() if room.labels.get(key) == value}
    return [[_in(key, [SPOT[key]])] for key in sorted(present)]


def _in(key: str, values: Sequence[str]) -> Body:
    return {"key": key, "operator": "In", "values": list[JsonValue](values)}


def _affinity(base: Sequence[Body], kinds: Sequence[list[Body]], spots: Sequence[list[Body]]) -> Body | None:
    """Terms are alternatives; within one, everything must hold."""
    alternatives = [[*base, *kind, *spot] for kind in kinds or [[]] for spot in spots or [[]]]
    terms: list[Mapping[str, JsonValue]] = [{"matchExpressions": each} for each in alternatives if each]
    if not terms:
        return None
    required: Body = {"nodeSelectorTerms": terms}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
