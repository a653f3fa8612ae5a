"""Attribute values: JSON, plus the four things JSON cannot say.

`Secret` must not be shown, `Ref` is another instance, `Deferred` is an expression that waits for a fact, and `UNKNOWN`
is what a deferred expression yields while the fact is missing. Attributes are never changed in place.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, Union

from gpuplan.core.address import Address
from gpuplan.core.secret import Sealed, Secret

JsonValue: TypeAlias = Union[None, bool, int, float, str, Sequence["JsonValue"], Mapping[str, "JsonValue"]]
Value: TypeAlias = Union[
    None, bool, int, float, str, Sequence["Value"], Mapping[str, "Value"], Secret, Sealed, "Ref", "Deferred", "Unknown"
]
Attrs: TypeAlias = Mapping[str, Value]
"""Attributes of one instance in the spec's words and units; an absent key means 'the provider decides'."""

Facts: TypeAlias = Mapping[str, JsonValue]
"""What the provider tells and nobody asked for: addresses, prices, host names. Shown, referenced, never compared."""


@dataclass(frozen=True, slots=True)
class Ref:
    """Another instance as a value; `remote_id` is filled in once it is known."""

    address: Address
    remote_id: str | None = None

    def __str__(self) -> str:
        return str(self.address)


@dataclass(frozen=True, slots=True)
class Unknown:
    """Known only after apply. There is one: `UNKNOWN`."""

    def __str__(self) -> str:
        return "(known after apply)"


UNKNOWN = Unknown()


class Scope(Protocol):
    """What a deferred expression may look at: the recorded instances of a resource, as they will be when it runs."""

    def remote_id(self, address: Address) -> str | None:
        """The provider's id of the instance; None while it is not known."""
        ...

    def view(self, resource: Address) -> "Value":
        """The resource as expressions see it (a mapping, or a list or mapping of them); unknown parts are `UNKNOWN`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Deferred:
    """An expression over facts of other instances.

    `evaluate` is pure; it yields `UNKNOWN` (or a value that contains it) while a fact is missing, and raises SpecError
    when the expression itself cannot be computed.
    """

    text: str
    refs: frozenset[Address]
    evaluate: Callable[[Scope], Value] = field(repr=False)


def resolve(value: Value, scope: Scope) -> Value:
    """Replace every deferred expression and reference in `value` by what `scope` knows; shares what has none."""
    if isinstance(value, str):
        return value
    if isinstance(value, Deferred):
        return resolve(value.evaluate(scope), scope)
    if isinstance(value, Ref):
        remote_id = scope.remote_id(value.address)
        return value if remote_id == value.remote_id else Ref(value.address, remote_id)
    if isinstance(value, Mapping):
        mapping = {key: resolve(item, scope) for key, item in value.items()}
        return value if all(mapping[key] is value[key] for key in mapping) else mapping
    if isinstance(value, Sequence):
        items = [resolve(item, scope) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    return value


def leaves(value: Value) -> Iterator[Value]:
    """Every scalar inside a value, itself when it is one."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def is_static(value: Value) -> bool:
    """Whether the value has no reference, no deferred expression and nothing unknown in it."""
    return not any(isinstance(leaf, (Deferred, Ref, Unknown)) for leaf in leaves(value))


def has_unknown(value: Value) -> bool:
    """Whether part of the value is known only after apply."""
    return any(
        isinstance(leaf, (Deferred, Unknown)) or (isinstance(leaf, Ref) and leaf.remote_id is None)
        for leaf in leaves(value)
    )
