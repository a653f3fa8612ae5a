"""What `lifecycle.ignore_changes` leaves alone.

Called by `diff`, and wherever the desired side of an update is made: by `planner`, and by `decoding` for a saved plan.
"""

from collections.abc import Mapping
from dataclasses import replace

from gpuplan.core.desired import Desired
from gpuplan.core.seal import has_secret
from gpuplan.core.state import Recorded
from gpuplan.core.values import Value


def is_ignored(path: str, ignored: tuple[str, ...]) -> bool:
    """Whether `ignore_changes` names this path, something around it, or `all`."""
    return any(name in ("all", path) or path.startswith((f"{name}.", f"{name}[")) for name in ignored)


def keep_ignored(desired: Desired, record: Recorded) -> Desired:
    """The instance as an update asks for it: what is ignored stays as recorded, so that changing one variable of an
    environment does not set another. The very same object where nothing is ignored.

    A sealed secret cannot be sent again: in its place the spec's own value is.
    """
    ignored = desired.settings.lifecycle.ignore_changes
    if not ignored:
        return desired
    candidates = tuple(
        replace(candidate, attrs=_kept("", candidate.attrs, record.attrs, ignored))
        if candidate.provider == record.provider
        else candidate
        for candidate in desired.candidates
    )
    return replace(desired, candidates=candidates)


def _kept(
    path: str, wanted: Mapping[str, Value], present: Mapping[str, Value], ignored: tuple[str, ...]
) -> Mapping[str, Value]:
    kept: dict[str, Value] = {}
    for name in [*wanted, *(name for name in present if name not in wanted)]:
        inner = f"{path}.{name}" if path else name
        now, then = wanted.get(name), present.get(name)
        if is_ignored(inner, ignored) and not has_secret(then):
            if name in present:
                kept[name] = then
        elif isinstance(now, Mapping) and isinstance(then, Mapping):
            kept[name] = _kept(inner, now, then, ignored)
        elif name in wanted:
            kept[name] = now
    return kept
