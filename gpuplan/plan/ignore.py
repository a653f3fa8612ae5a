"""What `lifecycle.ignore_changes` leaves alone.

Called by `diff` and `adopt`, and by the engine for what an update sends.
"""

from collections.abc import Mapping
from dataclasses import replace

from gpuplan.core.desired import Desired
from gpuplan.core.seal import sealed_within
from gpuplan.core.secret import Secret
from gpuplan.core.values import Attrs, Value


def is_ignored(path: str, ignored: tuple[str, ...]) -> bool:
    """Whether `ignore_changes` names this path, something around it, or `all`."""
    return any(name in ("all", path) or path.startswith((f"{name}.", f"{name}[")) for name in ignored)


def keep_ignored(desired: Desired, provider: str, present: Attrs) -> Desired:
    """The instance as an update asks for it: what is ignored stays as it is, so that changing one variable of an
    environment does not set another. The very same object where nothing is ignored.

    A sealed secret cannot be sent again: in its place the spec's own value is.
    """
    ignored = desired.settings.lifecycle.ignore_changes
    if not ignored:
        return desired
    candidates = tuple(
        replace(candidate, attrs=_kept("", candidate.attrs, present, ignored))
        if candidate.provider == provider
        else candidate
        for candidate in desired.candidates
    )
    return replace(desired, candidates=candidates)


def live_attrs(recorded: Attrs, observed: Attrs) -> Attrs:
    """The recorded attributes, in their mappings what is really there. A variable of an environment that the record
    does not have in clear may be somebody's secret, and is one from here on."""
    live: dict[str, Value] = {}
    for name, now in observed.items():
        then = recorded.get(name)
        if isinstance(now, Mapping) and isinstance(then, Mapping):
            is_clear = name != "env"
            live[name] = {
                key: value
                if is_clear or isinstance(then.get(key), str) or not isinstance(value, str)
                else Secret(value)
                for key, value in now.items()
            }
    return {**recorded, **live}


def _kept(
    path: str, wanted: Mapping[str, Value], present: Mapping[str, Value], ignored: tuple[str, ...]
) -> Mapping[str, Value]:
    kept: dict[str, Value] = {}
    for name in [*wanted, *(name for name in present if name not in wanted)]:
        inner = f"{path}.{name}" if path else name
        now, then = wanted.get(name), present.get(name)
        if is_ignored(inner, ignored) and sealed_within(then) is None:
            if name in present:
                kept[name] = then
        elif isinstance(now, Mapping) and isinstance(then, Mapping):
            kept[name] = _kept(inner, now, then, ignored)
        elif name in wanted:
            kept[name] = now
    return kept
