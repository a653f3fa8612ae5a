"""SDLs as Akash reads them, and the manifest it makes of one: https://akash.network/docs/developers/deployment/akash-sdl."""

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Tree: TypeAlias = Mapping[str, Any]

_SIZE = re.compile(r"([\d.]+)([kKMGTPE])(i?)")
_PERSISTENT = ("beta1", "beta2", "beta3")


class BadSdl(ValueError):
    """What is wrong with an SDL."""


def read_sdl(text: str) -> Tree:
    """Raises BadSdl."""
    import yaml

    try:
        sdl = yaml.safe_load(text)
        check(sdl)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as exc:
        raise BadSdl(f"Invalid SDL: {exc}") from exc
    return dict(sdl)


def check(sdl: Tree) -> None:
    """What the schema and its keeper look at. Raises KeyError, TypeError, ValueError."""
    if sdl["version"] not in ("2.0", "2.1"):
        raise BadSdl("version must be 2.0 or 2.1")
    profiles = sdl["profiles"]
    for name, service in sdl["services"].items():
        if not service["image"]:
            raise BadSdl(f"service {name} has no image")
        credentials = service.get("credentials")
        if credentials and len(credentials["password"]) < 6:
            raise BadSdl(f"service {name}: the password of its registry has less than 6 characters")
        if not all(isinstance(item, str) and "=" in item for item in service.get("env") or ()):
            raise BadSdl(f"service {name}: env is a list of NAME=VALUE")
        for placement, deployment in sdl["deployment"][name].items():
            profile = deployment["profile"]
            _check_resources(profile, profiles["compute"][profile]["resources"], service)
            price = profiles["placement"][placement]["pricing"][profile]
            if price["denom"] not in ("uact", "uakt") or float(price["amount"]) <= 0:
                raise BadSdl(f"placement {placement}: pricing of {profile}")
    services = sdl["services"].values()
    if not any(to.get("global") for service in services for item in service.get("expose", ()) for to in item["to"]):
        raise BadSdl("no service is exposed globally")


def _check_resources(name: str, resources: Tree, service: Tree) -> None:
    if millicores(resources["cpu"]["units"]) < 10 or size_of(resources["memory"]["size"]) < 1:
        raise BadSdl(f"profile {name} is too small")
    gpu = resources.get("gpu") or {}
    if bool(gpu.get("units")) != bool(gpu.get("attributes")):
        raise BadSdl(f"profile {name}: GPU units and attributes go together")
    mounts = (service.get("params") or {}).get("storage") or {}
    for volume in volumes_of(resources):
        attributes = volume.get("attributes") or {}
        is_kept, kind = attributes.get("persistent", False), attributes.get("class")
        if (kind in _PERSISTENT) != bool(is_kept):
            raise BadSdl(f"profile {name}: class {kind} and persistent {is_kept}")
        if "name" in volume and volume["name"] not in mounts:
            raise BadSdl(f"profile {name}: volume {volume['name']} is not mounted")


def volumes_of(resources: Tree) -> list[Tree]:
    storage = resources["storage"]
    return storage if isinstance(storage, list) else [storage]


def size_of(text: str) -> int:
    """Bytes. Raises BadSdl."""
    match = _SIZE.fullmatch(str(text))
    if match is None:
        raise BadSdl(f"{text} is no size")
    power = "kmgtpe".index(match[2].lower()) + 1
    return math.ceil(float(match[1]) * float((1024 if match[3] else 1000) ** power))


def millicores(units: str | float) -> int:
    return int(float(units[:-1])) if isinstance(units, str) and units.endswith("m") else int(float(units) * 1000)


def manifest_of(sdl: Tree) -> str:
    """Canonical JSON: keys sorted, no blanks, what HTML would take for its own escaped."""
    numbers = {name: number for number, name in enumerate(sorted(set(_leased(sdl))), 1)}
    members: dict[str, list[str]] = {}
    ids: dict[str, dict[str, int]] = {}
    for name in sorted(sdl["services"]):
        for placement, deployment in sdl["deployment"][name].items():
            members.setdefault(placement, []).append(name)
            known = ids.setdefault(placement, {})
            known.setdefault(deployment["profile"], len(known) + 1)
    groups = [
        {"name": placement, "services": [_row(sdl, placement, name, ids[placement], numbers) for name in names]}
        for placement, names in sorted(members.items())
    ]
    text = json.dumps(groups, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def hash_of(manifest: str) -> str:
    return base64.b64encode(hashlib.sha256(manifest.encode()).digest()).decode()


def gpu_keys(gpu: Tree | None) -> list[str]:
    keys = []
    for vendor, models in sorted(((gpu or {}).get("attributes") or {}).get("vendor", {}).items()):
        for model in models or [{"model": "*"}]:
            more = "".join(f"/{part}/{model[part]}" for part in ("ram", "interface") if model.get(part))
            keys.append(f"vendor/{vendor}/model/{model['model']}{more}")
    return keys


def _leased(sdl: Tree) -> Iterator[str]:
    for service in sdl["services"].values():
        for item in service.get("expose", ()):
            yield from (to["ip"] for to in item["to"] if to.get("global") and to.get("ip"))


def _row(sdl: Tree, placement: str, name: str, ids: Mapping[str, int], numbers: Mapping[str, int]) -> Tree:
    service, deployment = sdl["services"][name], sdl["deployment"][name][placement]
    resources = sdl["profiles"]["compute"][deployment["profile"]]["resources"]
    doors = [(item, to) for item in service.get("expose", ()) for to in item["to"]]
    expose = [_door(item, to, numbers) for item, to in doors]
    expose.sort(key=lambda door: (door["service"], door["port"], door["proto"], not door["global"]))
    credentials = service.get("credentials")
    keys = gpu_keys(resources.get("gpu"))
    units = str(int((resources.get("gpu") or {}).get("units") or 0))
    row = {
        "name": name,
        "image": service["image"],
        **{field: service.get(field) or None for field in ("command", "args", "env")},
        "count": deployment["count"],
        "expose": expose,
        "credentials": {"email": "", **credentials} if credentials else None,
        "resources": {
            "id": ids[deployment["profile"]],
            "endpoints": [end for item, to in doors if to.get("global") for end in _endpoints(item, to, numbers)],
            "storage": [_volume(volume) for volume in volumes_of(resources)],
            "gpu": _with({"units": {"val": units}}, [{"key": key, "value": "true"} for key in keys]),
            "cpu": _with(
                {"units": {"val": str(millicores(resources["cpu"]["units"]))}},
                _pairs(resources["cpu"].get("attributes")),
            ),
            "memory": {"size": {"val": str(size_of(resources["memory"]["size"]))}},
        },
    }
    if service.get("params"):
        mounts = service["params"].get("storage") or {}
        rows = [
            {"name": mount, "mount": told.get("mount", ""), "readOnly": bool(told.get("readOnly"))}
            for mount, told in sorted((mount, told or {}) for mount, told in mounts.items())
        ]
        row["params"] = {"storage": rows or None}
    return row


def _door(item: Tree, to: Tree, numbers: Mapping[str, int]) -> dict[str, Any]:
    http, ip = item.get("http_options") or {}, to.get("ip") or ""
    options = {
        "maxBodySize": http.get("max_body_size", 1048576),
        "readTimeout": http.get("read_timeout", 60000),
        "sendTimeout": http.get("send_timeout", 60000),
        "nextTries": http.get("next_tries", 3),
        "nextTimeout": http.get("next_timeout", 0),
        "nextCases": http.get("next_cases", ["error", "timeout"]),
    }
    if http.get("proxy_buffer_size"):
        options["proxyBufferSize"] = http["proxy_buffer_size"]
    return {
        "port": item["port"],
        "externalPort": item.get("as") or 0,
        "proto": _protocol(item),
        "service": to.get("service") or "",
        "global": bool(to.get("global")),
        "hosts": item.get("accept") or None,
        "ip": ip,
        "endpointSequenceNumber": numbers.get(ip, 0),
        "httpOptions": options,
    }


def _endpoints(item: Tree, to: Tree, numbers: Mapping[str, int]) -> Iterator[Tree]:
    """Kinds: none for a shared one, 1 for a port of the provider's choice, 2 for a leased address."""
    is_web = _protocol(item) == "TCP" and (item.get("as") or item["port"]) == 80
    yield {"sequence_number": 0} if is_web else {"kind": 1, "sequence_number": 0}
    if to.get("ip"):
        yield {"kind": 2, "sequence_number": numbers[to["ip"]]}


def _protocol(item: Tree) -> str:
    return (item.get("proto") or "tcp").upper()


def _volume(volume: Tree) -> Tree:
    attributes = dict(volume.get("attributes") or {})
    if attributes.get("class") == "ram":
        attributes.setdefault("persistent", False)
    row = {"name": volume.get("name") or "default", "size": {"val": str(size_of(volume["size"]))}}
    return _with(row, _pairs(attributes))


def _pairs(attributes: Tree | None) -> list[Tree]:
    texts = {
        key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in (attributes or {}).items()
    }
    return [{"key": key, "value": value} for key, value in sorted(texts.items())]


def _with(unit: dict[str, Any], pairs: list[Any]) -> dict[str, Any]:
    return {**unit, "attributes": pairs} if pairs else unit
