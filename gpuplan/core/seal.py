"""Seal the secrets inside attributes before they are recorded, tell whether a secret is the one that was sealed, and
hide what turns out to be sensitive.

Called by the engine for what it records and by the planner for what it compares.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from gpuplan.core.address import Address
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


def has_secret(value: Value) -> bool:
    """Whether a secret, sealed or not, is somewhere inside."""
    return not isinstance(value, str) and any(isinstance(leaf, (Secret, Sealed)) for leaf in leaves(value))


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
