"""Attributes in the one form that plans compare and adapters read (`core.kinds`).

Called by `resources` with evaluated values whose shape has been checked. What is not known yet stays as it is.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, lru_cache
from typing import TypeGuard

from gpuplan.core.gpus import parse_gpu
from gpuplan.core.kinds import parse_port
from gpuplan.core.secret import Secret
from gpuplan.core.units import Constraint, format_duration, parse_duration
from gpuplan.core.values import Value
from gpuplan.spec.model import MODELS
from gpuplan.spec.scalars import as_text

SETTINGS = frozenset(
    {"count", "for_each", "depends_on", "lifecycle", "timeouts", "provider", "placement", "nodes", "update", "ttl"}
    | {"on_failure"}
)
"""Fields that say how gpuplan treats a resource; a provider never sees them."""


def attributes_of(evaluated: Mapping[str, Value]) -> dict[str, Value]:
    """The attributes among the fields of a resource, canonical, without those that turned out to be null."""
    attributes = {name: canonical(name, value) for name, value in evaluated.items() if name not in SETTINGS}
    if None in attributes.values():
        return {name: value for name, value in attributes.items() if value is not None}
    return attributes


def canonical(name: str, value: Value) -> Value:
    form = _FORMS.get(name)
    return value if form is None else form(value)


@cache
def attribute_names(section: str) -> Collection[str]:
    """The attributes a resource of that section may have."""
    return dict.fromkeys(name for name in MODELS[section].model_fields if name not in SETTINGS)


@lru_cache(maxsize=1024)
def _gpu_text(text: str) -> str:
    return str(parse_gpu(text))


@lru_cache(maxsize=1024)
def _amount_text(text: str) -> str | int | float:
    constraint = Constraint.parse(text)
    return str(constraint) if constraint.at_least else _short_number(constraint.amount)


def _short_number(number: float) -> int | float:
    return int(number) if number == int(number) else number


def _gpu(value: Value) -> Value:
    return _gpu_text(value) if isinstance(value, str) else value


def _amount(value: Value) -> Value:
    if isinstance(value, str):
        return _amount_text(value)
    return _short_number(value) if isinstance(value, (int, float)) else value


def _ports(value: Value) -> Value:
    return [_port(item) for item in value] if _is_list(value) else value


def _port(value: Value) -> Value:
    if value.__class__ is int or not isinstance(value, (str, int)):
        return value
    port = parse_port(value)
    return port.number if port.protocol == "tcp" else str(port)


def _texts(value: Value) -> Value:
    if not isinstance(value, Mapping):
        return value
    if all(item.__class__ is str for item in value.values()):
        return value
    return {key: _text(item) for key, item in value.items() if item is not None}


def _text(value: Value) -> Value:
    return as_text(value) if isinstance(value, (bool, int, float)) else value


def _command(value: Value) -> Value:
    return [_text(item) for item in value] if _is_list(value) else value


def _spot(value: Value) -> Value:
    if isinstance(value, bool):
        return {} if value else None
    if isinstance(value, Mapping):
        return {key: item for key, item in value.items() if item is not None and item is not False}
    return value


def _public_key(value: Value) -> Value:
    if isinstance(value, Secret):
        return value
    return " ".join(value.split()) if isinstance(value, str) else value


def _duration(value: Value) -> Value:
    return format_duration(parse_duration(value)) if isinstance(value, str) else value


def _health(value: Value) -> Value:
    if not isinstance(value, Mapping):
        return value
    return {key: _duration(item) if key in ("interval", "timeout") else item for key, item in value.items()}


def _rules(value: Value) -> Value:
    if not _is_list(value):
        return value
    return [
        {key: _rule_port(item) if key == "port" else item for key, item in rule.items()}
        if isinstance(rule, Mapping)
        else rule
        for rule in value
    ]


def _rule_port(value: Value) -> Value:
    """22, or `8000-8010`."""
    return int(value) if isinstance(value, str) and value.isdigit() else value


def _is_list(value: Value) -> TypeGuard[Sequence[Value]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


_FORMS: Mapping[str, Callable[[Value], Value]] = {
    "gpu": _gpu,
    "cpu": _amount,
    "memory_gb": _amount,
    "ports": _ports,
    "env": _texts,
    "labels": _texts,
    "command": _command,
    "spot": _spot,
    "public_key": _public_key,
    "timeout": _duration,
    "health": _health,
    "rules": _rules,
}
