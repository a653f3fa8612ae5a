"""Typed views of attributes, one per kind: what adapters read instead of a mapping.

The mapping (`core.values.Attrs`) is what plans compare; by the time an adapter sees it everything is known, and these
views give it types. The words are those of the spec: sizes in GB, money in USD.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gpuplan.core.gpus import GpuRequest, parse_gpu
from gpuplan.core.secret import Secret
from gpuplan.core.units import Constraint
from gpuplan.core.values import Attrs, JsonValue, Ref, Value

Text = str | Secret
"""A text that may be sensitive; `plain` reveals it on its way into a request."""


def plain(text: Text) -> str:
    return text.reveal() if isinstance(text, Secret) else text


@dataclass(frozen=True, slots=True)
class Mount:
    volume: Ref | str
    mount: str


@dataclass(frozen=True, slots=True)
class Spot:
    max_price: float | None = None
    fallback: bool = False
    """Take an on-demand node where no spot node is to be had."""


@dataclass(frozen=True, slots=True)
class Port:
    number: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class NodeAttrs:
    """A node, or a group of `nodes` equal ones. None and empty mean: the provider decides."""

    gpu: GpuRequest | None = None
    cpu: Constraint | None = None
    memory_gb: Constraint | None = None
    disk_gb: int | None = None
    region: str | None = None
    zone: str | None = None
    instance_type: str | None = None
    image: str | None = None
    command: str | Sequence[str] | None = None
    env: Mapping[str, Text] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    ssh_keys: tuple[Ref | str, ...] = ()
    volumes: tuple[Mount, ...] = ()
    networks: tuple[Ref | str, ...] = ()
    spot: Spot | None = None
    setup: Text | None = None
    user_data: Text | None = None
    confidential: bool = False
    stopped: bool = False
    restart: str | None = None
    """`always`, `on-failure` or `never`."""
    shm_gb: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    nodes: int = 1
    options: Mapping[str, JsonValue] = field(default_factory=dict)
    """Words of this provider alone, checked by its adapter."""

    @classmethod
    def of(cls, attrs: Attrs) -> "NodeAttrs":
        """The typed view of resolved attributes. Raises TypeError when one of them is still unknown: our bug."""
        return cls(
            gpu=parse_gpu(gpu) if (gpu := _text(attrs, "gpu")) else None,
            cpu=_constraint(attrs, "cpu"),
            memory_gb=_constraint(attrs, "memory_gb"),
            disk_gb=_number(attrs, "disk_gb"),
            region=_text(attrs, "region"),
            zone=_text(attrs, "zone"),
            instance_type=_text(attrs, "instance_type"),
            image=_text(attrs, "image"),
            command=_command(attrs.get("command")),
            env={key: _sensitive(key, value) for key, value in _mapping(attrs, "env").items()},
            ports=tuple(parse_port(port) for port in _items(attrs, "ports")),
            ssh_keys=tuple(_reference(item) for item in _items(attrs, "ssh_keys")),
            volumes=tuple(_mount(item) for item in _items(attrs, "volumes")),
            networks=tuple(_reference(item) for item in _items(attrs, "networks")),
            spot=_spot(attrs.get("spot")),
            setup=_optional_sensitive(attrs, "setup"),
            user_data=_optional_sensitive(attrs, "user_data"),
            confidential=attrs.get("confidential") is True,
            stopped=attrs.get("stopped") is True,
            restart=_text(attrs, "restart"),
            shm_gb=_number(attrs, "shm_gb"),
            labels={key: str(value) for key, value in _mapping(attrs, "labels").items()},
            nodes=_number(attrs, "nodes") or 1,
            options=_json_mapping(attrs, "options"),
        )


@dataclass(frozen=True, slots=True)
class VolumeAttrs:
    size_gb: int | None = None
    region: str | None = None
    zone: str | None = None
    type: str | None = None
    options: Mapping[str, JsonValue] = field(default_factory=dict)

    @classmethod
    def of(cls, attrs: Attrs) -> "VolumeAttrs":
        return cls(
            size_gb=_number(attrs, "size_gb"),
            region=_text(attrs, "region"),
            zone=_text(attrs, "zone"),
            type=_text(attrs, "type"),
            options=_json_mapping(attrs, "options"),
        )


@dataclass(frozen=True, slots=True)
class SshKeyAttrs:
    public_key: str

    @classmethod
    def of(cls, attrs: Attrs) -> "SshKeyAttrs":
        return cls(public_key=_text(attrs, "public_key") or "")


@dataclass(frozen=True, slots=True)
class NetworkAttrs:
    cidr: str | None = None
    region: str | None = None
    rules: tuple[Mapping[str, JsonValue], ...] = ()
    """Firewall rules: `{port, protocol, from}`."""
    options: Mapping[str, JsonValue] = field(default_factory=dict)

    @classmethod
    def of(cls, attrs: Attrs) -> "NetworkAttrs":
        rules = [_json_mapping({"rule": item}, "rule") for item in _items(attrs, "rules")]
        return cls(
            cidr=_text(attrs, "cidr"),
            region=_text(attrs, "region"),
            rules=tuple(rules),
            options=_json_mapping(attrs, "options"),
        )


def parse_port(value: Value) -> Port:
    """`8000` or `"8000/udp"`. Raises ValueError."""
    number, _, protocol = str(value).partition("/")
    if not number.isdigit() or not 0 < int(number) < 65536 or protocol not in ("", "tcp", "udp", "http"):
        raise ValueError(f'`{value}` is not a port: write 8000, "8000/udp" or "8000/http"')
    return Port(int(number), protocol or "tcp")


def _unexpected(name: str, value: Value) -> TypeError:
    return TypeError(f"attribute `{name}` cannot be {type(value).__name__} here")


def _text(attrs: Attrs, name: str) -> str | None:
    value = attrs.get(name)
    if value is None or isinstance(value, str):
        return value
    raise _unexpected(name, value)


def _number(attrs: Attrs, name: str) -> int | None:
    value = attrs.get(name)
    if value is None:
        return None
    if isinstance(value, (int, float)):
        return int(value)
    raise _unexpected(name, value)


def _constraint(attrs: Attrs, name: str) -> Constraint | None:
    value = attrs.get(name)
    if value is None:
        return None
    if isinstance(value, (str, int, float)):
        return Constraint.parse(value)
    raise _unexpected(name, value)


def _items(attrs: Attrs, name: str) -> Sequence[Value]:
    value = attrs.get(name)
    if value is None:
        return ()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return value
    raise _unexpected(name, value)


def _mapping(attrs: Attrs, name: str) -> Mapping[str, Value]:
    value = attrs.get(name)
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return value
    raise _unexpected(name, value)


def _json(name: str, value: Value) -> JsonValue:
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {key: _json(name, item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_json(name, item) for item in value]
    raise _unexpected(name, value)


def _json_mapping(attrs: Attrs, name: str) -> Mapping[str, JsonValue]:
    return {key: _json(name, value) for key, value in _mapping(attrs, name).items()}


def _sensitive(name: str, value: Value) -> Text:
    if isinstance(value, (str, Secret)):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    raise _unexpected(name, value)


def _optional_sensitive(attrs: Attrs, name: str) -> Text | None:
    value = attrs.get(name)
    return None if value is None else _sensitive(name, value)


def _reference(value: Value) -> Ref | str:
    if isinstance(value, (Ref, str)):
        return value
    raise _unexpected("reference", value)


def _mount(value: Value) -> Mount:
    if not isinstance(value, Mapping):
        raise _unexpected("volumes", value)
    return Mount(_reference(value["volume"]), str(value["mount"]))


def _command(value: Value) -> str | Sequence[str] | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return tuple(str(item) for item in value)
    raise _unexpected("command", value)


def _spot(value: Value) -> Spot | None:
    if value is None or value is False:
        return None
    if value is True:
        return Spot()
    if not isinstance(value, Mapping):
        raise _unexpected("spot", value)
    price = value.get("max_price")
    return Spot(
        max_price=float(price) if isinstance(price, (int, float)) else None,
        fallback=value.get("fallback") is True,
    )
