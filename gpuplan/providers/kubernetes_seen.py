"""What is there, in gpuplan's words: clusters and volumes as observed, and what machines there are as offers. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from gpuplan.core.desired import Kind
from gpuplan.core.gpus import known_gpus, parse_gpu
from gpuplan.core.observed import Observed, Status
from gpuplan.core.offers import Offer, Pricing, Stock
from gpuplan.core.values import Attrs, JsonValue, Value
from gpuplan.net.marks import from_labels
from gpuplan.providers.kubernetes_bodies import GPU, REPLICAS, WAITS, own_labels
from gpuplan.providers.kubernetes_gpus import INSTANCE_TYPE, REGION, ZONE, Room
from gpuplan.providers.kubernetes_health import Health, look_at
from gpuplan.providers.kubernetes_options import Expected, Options
from gpuplan.providers.kubernetes_pods import IDLE, LEAST
from gpuplan.providers.kubernetes_wire import GB, Claim, Pod, StatefulSet, quantity

WAITING = "its service and its variables are still to be made"


def observed_set(found: StatefulSet, pods: Sequence[Pod], health: Health, owners: Mapping[str, str]) -> Observed:
    """A cluster. `owners` are the fields that somebody else has taken over."""
    meta = found.metadata
    wanted = meta.annotations.get(REPLICAS, "")
    is_stopped = found.spec.replicas == 0 and wanted.isdigit()
    if meta.annotations.get(WAITS) and health.status in (Status.STOPPED, Status.STOPPING):
        health = Health(Status.STARTING, WAITING)
    nodes = int(wanted) if is_stopped else found.spec.replicas
    attrs: dict[str, Value] = {"nodes": nodes, "labels": own_labels(meta.labels), **_machine(found)}
    facts: dict[str, JsonValue] = {
        "namespace": meta.namespace,
        "uid": meta.uid,
        "service": f"{meta.name}.{meta.namespace}.svc",
        "nodes": [_member(pod, found) for pod in sorted(pods, key=_ordinal)],
    }
    detail = health.detail
    if owners:
        facts["taken_over"] = dict[str, JsonValue](owners)
        detail = "; ".join(filter(None, [detail, *(f"`{name}` is set by {who}" for name, who in owners.items())]))
    return Observed(
        Kind.GROUP,
        meta.remote_id,
        health.status,
        attrs,
        facts,
        from_labels(meta.labels),
        detail,
        healthy=health.healthy,
        failure=health.failure,
    )


def observed_claim(found: Claim) -> Observed:
    """A volume. One that waits for its first node can be used: it is bound by that."""
    meta = found.metadata
    size = quantity(found.spec.resources.requests.get("storage", "")) / GB
    attrs: dict[str, Value] = {"size_gb": int(size) if size == int(size) else float(size)}
    if found.spec.storage_class_name:
        attrs["type"] = found.spec.storage_class_name
    status, detail = _claim_status(found)
    facts: dict[str, JsonValue] = {
        "namespace": meta.namespace,
        "uid": meta.uid,
        "phase": found.status.phase,
        "access_modes": list[JsonValue](found.spec.access_modes),
    }
    return Observed(Kind.VOLUME, meta.remote_id, status, attrs, facts, from_labels(meta.labels), detail)


def offers_of(rooms: Iterable[Room], options: Options, provider: str, now: datetime) -> list[Offer]:
    """One for every number of GPUs that a kind of machine could give a node, and how many such nodes find room now."""
    kinds: dict[tuple[str, str, str, str, bool], list[Room]] = {}
    for room in rooms:
        labels = room.labels
        place = (labels.get(REGION, ""), labels.get(ZONE, ""), labels.get(INSTANCE_TYPE, ""))
        kinds.setdefault((room.kit.gpu, *place, room.is_spot), []).append(room)
    offers: list[Offer] = []
    for (gpu, region, zone, instance_type, spot), alike in sorted(kinds.items()):
        most = max(room.kit.count for room in alike)
        for count in range(1, most + 1) if gpu else (0,):
            free = sum(room.free // count for room in alike) if count else None
            place = (region, zone, instance_type)
            offers.append(_offer(gpu, count, place, spot, free, options, provider, now))
    return [*offers, *(_expected(machine, options, provider, now) for machine in options.expected)]


def _offer(
    gpu: str,
    count: int,
    place: tuple[str, str, str],
    spot: bool,
    free: int | None,
    options: Options,
    provider: str,
    now: datetime,
) -> Offer:
    region, zone, instance_type = place
    return Offer(
        provider=provider,
        ref="/".join(filter(None, (instance_type, gpu and f"{gpu}:{count}", zone, "spot" if spot else ""))) or "any",
        region=region,
        zone=zone,
        gpu=gpu,
        gpu_count=count,
        gpu_memory_gb=known_gpus()[gpu].memory_gb if gpu else None,
        instance_type=instance_type,
        pricing=Pricing.SPOT if spot else Pricing.ON_DEMAND,
        price_per_hour=_price(gpu, count, options),
        seen_at=now,
        stock=Stock.UNTOLD if free is None else Stock.SOME if free else Stock.NONE,
        max_count=free,
    )


def _expected(machine: Expected, options: Options, provider: str, now: datetime) -> Offer:
    gpu = parse_gpu(machine.gpu)
    place = (machine.region, machine.zone, machine.instance_type or "expected")
    return _offer(gpu.name, gpu.count, place, machine.spot, None, options, provider, now)


def _price(gpu: str, count: int, options: Options) -> Decimal | None:
    for name in (gpu, known_gpus()[gpu].base if gpu else ""):
        if name in options.prices:
            return Decimal(str(options.prices[name])) * count
    return None


def _machine(found: StatefulSet) -> Attrs:
    """What each node is."""
    main = found.main
    attrs: dict[str, Value] = {"image": main.image}
    asked = found.metadata.annotations.get(GPU, "")
    gpus = next((text for name, text in main.resources.limits.items() if "/" in name), "")
    if asked and gpus:
        attrs["gpu"] = f"{asked.partition(':')[0]}:{gpus}"
    for name, resource, unit in (("cpu", "cpu", Decimal(1)), ("memory_gb", "memory", GB)):
        text = main.resources.requests.get(resource, "")
        if text and text != LEAST[resource]:
            amount = quantity(text) / unit
            attrs[name] = int(amount) if amount == int(amount) else float(amount)
    if main.command and main.command != IDLE:
        words = main.command
        attrs["command"] = words[2] if words[:2] == ("sh", "-c") and len(words) == 3 else list(words)
    claims = {
        volume.name: volume.persistent_volume_claim.claim_name
        for volume in found.spec.template.spec.volumes
        if volume.persistent_volume_claim is not None
    }
    mounts = [
        {"volume": f"{found.metadata.namespace}/{claims[mount.name]}", "mount": mount.mount_path}
        for mount in main.volume_mounts
        if mount.name in claims
    ]
    return {**attrs, "volumes": mounts} if mounts else attrs


def _member(pod: Pod, found: StatefulSet) -> dict[str, JsonValue]:
    meta = pod.metadata
    look = look_at(pod, meta.creation_timestamp) if meta.creation_timestamp else None
    return {
        "id": meta.uid,
        "name": meta.name,
        "private_ip": pod.status.pod_ip or None,
        "hostname": f"{meta.name}.{found.metadata.name}.{meta.namespace}.svc",
        "machine": pod.spec.node_name or None,
        "status": look.condition.value if look else "unknown",
    }


def _claim_status(found: Claim) -> tuple[Status, str]:
    if found.metadata.deletion_timestamp is not None:
        return Status.TERMINATING, ""
    match found.status.phase:
        case "Bound":
            return Status.RUNNING, ""
        case "Pending":
            return Status.RUNNING, "it is bound once a node uses it"
        case "Lost":
            return Status.FAILED, "what it was bound to is gone"
    return Status.UNKNOWN, f"Kubernetes says it is `{found.status.phase}`"


def _ordinal(pod: Pod) -> tuple[int, str]:
    number = pod.metadata.name.rpartition("-")[2]
    return (int(number) if number.isdigit() else -1, pod.metadata.name)
