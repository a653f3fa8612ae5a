"""The manifest that follows from an SDL of ours, byte for byte: the chain keeps its hash, and shows it in listings.

What it covers and in which form is up to Akash's SDK. Pure; called by `akash_console` and `akash_sidecar`.
"""

import base64
import hashlib
import json
import math
from collections.abc import Mapping

from gpuplan.core.values import JsonValue
from gpuplan.providers.akash_sdl import SERVICE, Body

HTTP_OPTIONS: Mapping[str, JsonValue] = {
    "maxBodySize": 1048576,
    "readTimeout": 60000,
    "sendTimeout": 60000,
    "nextTries": 3,
    "nextTimeout": 0,
    "nextCases": ["error", "timeout"],
}


def to_manifest(sdl: Mapping[str, JsonValue]) -> str:
    """What Akash makes of an SDL of ours, byte for byte."""
    services, compute, group = _at(sdl, "services"), _at(sdl, "profiles", "compute"), _group(sdl)
    service, resources = _at(services, SERVICE), _at(compute, SERVICE, "resources")
    exposed = [_exposed(item) for item in _list(service, "expose")]
    exposed.sort(key=lambda item: (str(item["service"]), int(str(item["port"])), str(item["proto"])))
    row: Body = {
        "name": SERVICE,
        "image": service["image"],
        "command": service.get("command"),
        "args": service.get("args"),
        "env": service.get("env"),
        "count": 1,
        "expose": exposed,
        "credentials": {"email": "", **_at(service, "credentials")} if "credentials" in service else None,
        "resources": {
            "id": 1,
            "endpoints": [_endpoint(item) for item in _list(service, "expose")],
            "storage": [_volume(volume) for volume in _list(resources, "storage")],
            "gpu": _gpu(_at(resources, "gpu") if "gpu" in resources else {}),
            "cpu": {"units": {"val": str(int(float(str(_at(resources, "cpu")["units"])) * 1000))}},
            "memory": {"size": {"val": str(size_of(str(_at(resources, "memory")["size"])))}},
        },
    }
    if "params" in service:
        mounts = _at(service, "params", "storage")
        row["params"] = {"storage": [{"name": name, **_at(mounts, name)} for name in sorted(mounts)]}
    text = json.dumps([{"name": group, "services": [row]}], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def hash_of(manifest: str) -> str:
    return base64.b64encode(hashlib.sha256(manifest.encode()).digest()).decode()


def screening_of(sdl: Mapping[str, JsonValue]) -> Body:
    """The same as a question: who could bid for this now?"""
    resources, placement = _at(sdl, "profiles", "compute", SERVICE, "resources"), _at(sdl, "profiles", "placement")
    asked = _at(placement, _group(sdl))
    price = _at(asked, "pricing", SERVICE)
    wanted = _gpu(_at(resources, "gpu") if "gpu" in resources else {})
    storage: list[JsonValue] = []
    for volume in _list(resources, "storage"):
        row = _volume(volume)
        storage.append({"name": row["name"], "quantity": row["size"], "attributes": row.get("attributes", [])})
    resource: Body = {
        "id": 1,
        "cpu": {"units": {"val": str(int(float(str(_at(resources, "cpu")["units"])) * 1000))}},
        "memory": {"quantity": {"val": str(size_of(str(_at(resources, "memory")["size"])))}},
        "gpu": {"units": wanted["units"], "attributes": wanted.get("attributes", [])},
        "storage": storage,
    }
    attributes = _at(asked, "attributes") if "attributes" in asked else {}
    return {
        "resources": [
            {"resource": resource, "count": 1, "price": {"denom": price["denom"], "amount": str(price["amount"])}}
        ],
        "requirements": {
            "signedBy": asked.get("signedBy", {}),
            "attributes": [{"key": key, "value": value} for key, value in attributes.items()],
        },
        "timezone": "America/Chicago",
    }


def size_of(text: str) -> int:
    """Bytes of a size such as `32G`."""
    return math.ceil(float(text.rstrip("G")) * 10**9)


def _exposed(item: Mapping[str, JsonValue]) -> Body:
    return {
        "port": item["port"],
        "externalPort": item["as"],
        "proto": str(item.get("proto", "tcp")).upper(),
        "service": "",
        "global": True,
        "hosts": None,
        "ip": "",
        "endpointSequenceNumber": 0,
        "httpOptions": HTTP_OPTIONS,
    }


def _endpoint(item: Mapping[str, JsonValue]) -> Body:
    """Nothing but TCP 80 outside is shared; the rest gets a port of the provider's choice."""
    is_web = item["as"] == 80 and item.get("proto", "tcp") == "tcp"
    return {"sequence_number": 0} if is_web else {"kind": 1, "sequence_number": 0}


def _volume(volume: Mapping[str, JsonValue]) -> Body:
    row: Body = {"name": volume.get("name", "default"), "size": {"val": str(size_of(str(volume["size"])))}}
    if "attributes" in volume:
        pairs = sorted(_at(volume, "attributes").items())
        texts = [(key, str(value).lower() if isinstance(value, bool) else str(value)) for key, value in pairs]
        row["attributes"] = [{"key": key, "value": text} for key, text in texts]
    return row


def _gpu(gpu: Mapping[str, JsonValue]) -> Body:
    if not gpu:
        return {"units": {"val": "0"}}
    vendor = _at(gpu, "attributes", "vendor")
    keys = []
    for model in _list(vendor, "nvidia"):
        more = "".join(f"/{part}/{model[part]}" for part in ("ram", "interface") if part in model)
        keys.append(f"vendor/nvidia/model/{model['model']}{more}")
    return {"units": {"val": str(gpu["units"])}, "attributes": [{"key": key, "value": "true"} for key in keys]}


def _group(sdl: Mapping[str, JsonValue]) -> str:
    return next(iter(_at(sdl, "profiles", "placement")))


def _at(value: Mapping[str, JsonValue], *steps: str) -> Mapping[str, JsonValue]:
    for step in steps:
        inner = value[step]
        assert isinstance(inner, Mapping)
        value = inner
    return value


def _list(value: Mapping[str, JsonValue], name: str) -> list[Mapping[str, JsonValue]]:
    items = value[name]
    assert isinstance(items, list)
    return items
