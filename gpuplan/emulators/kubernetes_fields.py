"""Who set which field of an object: server-side apply with its conflicts, and the managed fields of every other write.

Sets of fields are sets of paths here; `fieldsV1` is how the API shows them. Called by `kubernetes_writes`.
"""

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from gpuplan.emulators.kubernetes_schema import Field, field_of

Tree: TypeAlias = dict[str, Any]
"""An object of the API: a tree of JSON that is read and changed in place."""
Path: TypeAlias = tuple[str, ...]

APPLY, UPDATE = "Apply", "Update"
_IDENTITY = frozenset(
    ("f:metadata", f"f:{name}")
    for name in (
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "selfLink",
        "generateName",
    )
)
_EXISTS = object()
_AMOUNTS = (("f:limits",), ("f:requests",))
_KEY_DEFAULTS = {"protocol": "TCP"}


class ApplyConflict(Exception):
    """Others own fields that an apply would change: pairs of who that is and the path."""

    def __init__(self, conflicts: list[tuple[str, str]]) -> None:
        super().__init__(conflicts)
        self.conflicts = conflicts


def applied(live: Tree | None, wanted: Tree, manager: str, *, type: str, force: bool, now: str) -> Tree:
    """The object after an apply. Raises ApplyConflict."""
    wants = _values(wanted, type)
    before = {} if live is None else _values(live, type)
    entries = list((live or {}).get("metadata", {}).get("managedFields", ()))
    mine = next((e for e in entries if _is_of(e, manager, APPLY, "")), None)
    others = [entry for entry in entries if entry is not mine]
    conflicts = [
        (_title(entry), _shown(path))
        for entry in others
        for path in sorted(_paths(entry["fieldsV1"]))
        if path in wants and before.get(path, _EXISTS) != wants[path]
    ]
    if conflicts and not force:
        raise ApplyConflict(conflicts)
    result = copy.deepcopy(wanted) if live is None else _merged(live, wanted, Field(type))
    kept = {path for entry in others for path in _paths(entry["fieldsV1"])}
    for path in sorted(_paths(mine["fieldsV1"]) - wants.keys() - kept if mine else (), key=len, reverse=True):
        _remove(result, path)
    contested = {path for path in wants if before.get(path, _EXISTS) != wants[path]}
    shown = [_entry(e, _paths(e["fieldsV1"]) - contested) for e in others]
    version = str(wanted.get("apiVersion", ""))
    own: Tree = {"manager": manager, "operation": APPLY, "apiVersion": version, "time": now, "fieldsType": "FieldsV1"}
    result.setdefault("metadata", {})["managedFields"] = [
        _entry(own, set(wants)),
        *(entry for entry in shown if entry["fieldsV1"]),
    ]
    return result


def note_update(before: Tree | None, after: Tree, manager: str, *, type: str, now: str, subresource: str = "") -> None:
    """Write into `after` who set what, once someone has changed it in any other way than by applying."""
    old = {} if before is None else _values(before, type)
    new = _values(after, type)
    changed = {path for path, value in new.items() if old.get(path) is not value and old.get(path) != value}
    taken = {path for path in changed if path in old}
    entries = list(after.get("metadata", {}).get("managedFields", ()))
    mine = next((e for e in entries if _is_of(e, manager, UPDATE, subresource)), None)
    own = changed | (_paths(mine["fieldsV1"]) if mine else set())
    shown = [_entry(e, (_paths(e["fieldsV1"]) - taken) & _known(e, new)) for e in entries if e is not mine]
    if changed or mine is not None:
        fresh: Tree = {"manager": manager, "operation": UPDATE, "apiVersion": after.get("apiVersion", ""), "time": now}
        fresh |= {"fieldsType": "FieldsV1", **({"subresource": subresource} if subresource else {})}
        shown.append(_entry(fresh if changed or mine is None else mine, own & new.keys()))
    after.setdefault("metadata", {})["managedFields"] = [entry for entry in shown if entry["fieldsV1"]]


def without_times(tree: Tree) -> Tree:
    """The object as far as it can differ after an apply: when somebody applied the same is no difference."""
    meta = tree["metadata"]
    entries = [{**entry, "time": ""} for entry in meta.get("managedFields", ())]
    return {**tree, "metadata": {**meta, "managedFields": entries, "resourceVersion": ""}}


def _known(entry: Tree, new: Mapping[Path, object]) -> set[Path]:
    # What controllers say of the status is not followed field by field.
    return _paths(entry["fieldsV1"]) if entry.get("subresource") == "status" else set(new)


def _is_of(entry: Tree, manager: str, operation: str, subresource: str) -> bool:
    return (manager, operation, subresource) == (entry["manager"], entry["operation"], entry.get("subresource", ""))


def _title(entry: Tree) -> str:
    subresource = f' with subresource "{entry["subresource"]}"' if entry.get("subresource") else ""
    return f'"{entry["manager"]}"{subresource} using {entry["apiVersion"]}'


def _values(tree: Tree, type: str) -> dict[Path, object]:
    """What stands at every path of an object that somebody can own."""
    own = {name: value for name, value in tree.items() if name not in ("apiVersion", "kind", "status")}
    found = dict(_walk(own, Field(type), ()))
    return {path: value for path, value in found.items() if path[:2] not in _IDENTITY}


def _walk(value: Any, field: Field, path: Path) -> Iterator[tuple[Path, object]]:
    if isinstance(value, dict) and not field.is_atomic and not field.is_list and field.type != "*" and value:
        for name, item in value.items():
            inner = Field() if field.is_map else field_of(field.type, name)
            yield from _walk(item, inner, (*path, f"f:{name}"))
    elif isinstance(value, list) and field.keys and value:
        for item in value:
            place = (*path, _key(item, field))
            yield place, _EXISTS
            yield from _walk(item, Field(field.type), place)
    elif isinstance(value, list) and field.is_set and value:
        for item in value:
            yield (*path, f"v:{json.dumps(item)}"), item
    elif value is not None:
        # Amounts may be written as numbers, and are kept as texts.
        yield path, str(value) if path[-2:-1] in _AMOUNTS else value


def _key(item: Tree, field: Field) -> str:
    named = {key: item.get(key, _KEY_DEFAULTS.get(key)) for key in field.keys}
    return f"k:{json.dumps(named, separators=(',', ':'))}"


def _merged(live: Any, wanted: Any, field: Field) -> Any:
    if isinstance(live, dict) and isinstance(wanted, dict) and not field.is_atomic and field.type != "*":
        merged = dict(live)
        for name, value in wanted.items():
            inner = Field() if field.is_map else field_of(field.type, name)
            merged[name] = _merged(live[name], value, inner) if name in live else copy.deepcopy(value)
        return merged
    if isinstance(live, list) and isinstance(wanted, list) and field.keys:
        fresh = {_key(item, field): item for item in wanted}
        kept = [
            _merged(item, fresh.pop(key), Field(field.type)) if (key := _key(item, field)) in fresh else item
            for item in live
        ]
        return kept + copy.deepcopy(list(fresh.values()))
    if isinstance(live, list) and isinstance(wanted, list) and field.is_set:
        return live + [item for item in wanted if item not in live]
    return copy.deepcopy(wanted)


def _remove(tree: Tree, path: Path) -> None:
    """Take away what is at a path, and what is empty without it."""
    trail: list[tuple[Any, str]] = []
    here: Any = tree
    for step in path:
        if here is None:
            return
        trail.append((here, step))
        here = _child(here, step)
    for holder, step in reversed(trail):
        child = _child(holder, step)
        is_end = holder is trail[-1][0]
        if child is None or not (is_end or child in ({}, [])):
            return
        if isinstance(holder, dict):
            holder.pop(step[2:], None)
        else:
            holder.remove(child)


def _child(holder: Any, step: str) -> Any:
    if step.startswith("f:"):
        return holder.get(step[2:]) if isinstance(holder, dict) else None
    sought = json.loads(step[2:])
    for item in holder if isinstance(holder, list) else ():
        if step.startswith("v:") and item == sought:
            return item
        if step.startswith("k:") and all(item.get(k, _KEY_DEFAULTS.get(k)) == v for k, v in sought.items()):
            return item
    return None


def _paths(fields: Tree, prefix: Path = ()) -> set[Path]:
    found: set[Path] = set()
    for step, inner in fields.items():
        place = prefix if step == "." else (*prefix, step)
        found |= _paths(inner, place) if inner else {place}
    return found


def _entry(entry: Tree, paths: Iterable[Path]) -> Tree:
    fields: Tree = {}
    for path in sorted(paths):
        here = fields
        for step in path:
            here = here.setdefault(step, {})
        if path[-1].startswith("k:"):
            here["."] = {}
    return {**entry, "fieldsV1": fields}


def _shown(path: Path) -> str:
    text = ""
    for step in path:
        if step.startswith("f:"):
            text += f".{step[2:]}"
        elif step.startswith("k:"):
            text += f"[{','.join(f'{k}={json.dumps(v)}' for k, v in json.loads(step[2:]).items())}]"
        else:
            text += f"[{step[2:]}]"
    return text
