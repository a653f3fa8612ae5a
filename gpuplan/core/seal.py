"""Seal the secrets inside attributes before they are recorded, tell whether a secret is the one that was sealed, and
hide what turns out to be sensitive.

Called by the engine for what it records and by the planner for what it compares.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence

from gpuplan.core.address import Address
from gpuplan.core.diagnostics import At, Diagnostic, Label, Path
from gpuplan.core.secret import Sealed, Secret, seal
from gpuplan.core.values import Attrs, Value, leaves


def seal_attrs(attrs: Attrs, *, key: bytes, address: Address) -> Attrs:
    """Replace every `Secret` by its digest under the key of the state; shares values that hold no secret."""
    return {name: _sealed(value, key, f"{address}:{name}") for name, value in attrs.items()}


def opens(secret: Secret, sealed: Sealed, *, key: bytes) -> bool:
    """Whether `sealed` was made from `secret`."""
    salt, _, digest = sealed.digest.partition(".")
    return hmac.compare_digest(digest, seal(secret, key=key, salt=salt).digest)


def hide(value: Value) -> Value:
    """The same shape with every scalar in it a `Secret`, for values that turn out to be sensitive as a whole."""
    if isinstance(value, bool):
        return Secret("true" if value else "false")
    if isinstance(value, (str, int, float)):
        return Secret(str(value))
    if isinstance(value, Mapping):
        return {name: hide(item) for name, item in value.items()}
    if isinstance(value, Sequence):
        return [hide(item) for item in value]
    return value


def veiled(value: Value) -> Value:
    """The value as other resources see it: of its secrets they learn only that they are there. Shares what has none."""
    if isinstance(value, str):
        return value
    if isinstance(value, Secret):
        return _VEIL
    if isinstance(value, Mapping):
        mapping = {name: veiled(item) for name, item in value.items()}
        return value if all(mapping[name] is value[name] for name in mapping) else mapping
    if isinstance(value, Sequence):
        items = [veiled(item) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    return value


def sealed_within(value: Value, path: Path = ()) -> Path | None:
    """Where in a value the first sealed secret is; None when there is none."""
    if isinstance(value, Sealed):
        return path
    if isinstance(value, Mapping):
        items: Iterable[tuple[str | int, Value]] = value.items()
    elif isinstance(value, Sequence) and not isinstance(value, str):
        items = enumerate(value)
    else:
        return None
    found = (sealed_within(item, (*path, key)) for key, item in items)
    return next((inner for inner in found if inner is not None), None)


def secret_elsewhere(at: At) -> Diagnostic:
    """The finding for an expression that asks another resource for one of its secrets."""
    return Diagnostic(
        id="secret-reference",
        summary="a secret of another resource cannot be read",
        labels=(Label(at, "asks for it"),),
        facts=("gpuplan keeps only a digest of a secret, enough to notice a change",),
        hint="write the variable that the secret comes from",
    )


def has_secret(value: Value) -> bool:
    """Whether a secret, sealed or not, is somewhere inside."""
    return not isinstance(value, str) and any(isinstance(leaf, (Secret, Sealed)) for leaf in leaves(value))


_VEIL = Sealed("")


def _sealed(value: Value, key: bytes, path: str) -> Value:
    if isinstance(value, str):
        return value
    if isinstance(value, Secret):
        # The salt stays with the digest: a record that moves to another address still opens.
        salt = hashlib.sha256(path.encode()).hexdigest()[:16]
        return Sealed(f"{salt}.{seal(value, key=key, salt=salt).digest}")
    if isinstance(value, Mapping):
        mapping = {name: _sealed(item, key, f"{path}.{name}") for name, item in value.items()}
        return value if all(mapping[name] is value[name] for name in mapping) else mapping
    if isinstance(value, Sequence):
        items = [_sealed(item, key, f"{path}[{index}]") for index, item in enumerate(value)]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    return value
