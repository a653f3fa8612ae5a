"""Where secrets may stand: what is kept secret on its way to a node. Called by `resources`."""

from collections.abc import Iterator, Mapping, Sequence

from gpuplan.core.diagnostics import At, Diagnostic, Label, Path
from gpuplan.core.secret import Secret
from gpuplan.core.values import Deferred, Value
from gpuplan.spec.attributes import attribute_names

_KEPT = ("env", "setup", "user_data")
_HINTS = {"command": "give it in `env`, and let the command read it from there: `$NAME`"}


def misplaced_secrets(fields: Mapping[str, Value], path: Path) -> Iterator[Diagnostic]:
    """Secrets in evaluated fields of a resource that would be sent, or shown, in clear."""
    attributes = attribute_names(str(path[0]))
    kept = [name for name in _KEPT if name in attributes]
    words = " and ".join(f"`{name}`" for name in kept)
    where_to = f"only in {words} is it kept secret" if kept else "nothing of this resource is kept secret"
    for name, value in fields.items():
        if name in attributes and name not in kept:
            for where in _secrets(value, (*path, name)):
                yield Diagnostic(
                    "secret-misplaced",
                    f"`{name}` cannot hold a secret",
                    (Label(At(where), "this is sensitive"),),
                    hint=_HINTS.get(name, where_to),
                )
    placement = fields.get("placement")
    places = placement.get("any_of") if isinstance(placement, Mapping) else None
    if isinstance(places, Sequence) and not isinstance(places, str):
        for index, place in enumerate(places):
            if isinstance(place, Mapping):
                yield from misplaced_secrets(place, (*path, "placement", "any_of", index))


def _secrets(value: Value, path: Path) -> Iterator[Path]:
    """Where the secrets in a value are; an expression that will yield one is where it stands."""
    if isinstance(value, Secret) or (isinstance(value, Deferred) and _yields_secret(value)):
        yield path
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _secrets(item, (*path, key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, item in enumerate(value):
            yield from _secrets(item, (*path, index))


def _yields_secret(deferred: Deferred) -> bool:
    parts: Value = getattr(deferred.evaluate, "identity", None)
    return any(True for _ in _secrets(parts, ()))
