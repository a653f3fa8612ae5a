"""The three ways to patch an object besides applying: JSON patch, merge patch, strategic merge patch."""

import copy
from typing import Any

from gpuplan.emulators.kubernetes_fields import Tree
from gpuplan.emulators.kubernetes_schema import Field, field_of

DIRECTIVE = "$patch"


class NotPatchable(ValueError):
    """A patch that does not fit the object."""


def merge_patched(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patched(result.get(name), value)
    return result


def strategically_patched(target: Tree, patch: Tree, type: str) -> Tree:
    """Lists whose items have keys are merged by them; `$patch: delete` and `$patch: replace` are obeyed."""
    patched: Tree = _merge(target, patch, Field(type))
    return patched


def json_patched(target: Tree, operations: list[Tree]) -> Tree:
    """RFC 6902. Raises NotPatchable."""
    result = copy.deepcopy(target)
    for step in operations:
        name, path = step.get("op"), str(step.get("path", ""))
        match name:
            case "add" | "replace":
                _put(result, path, copy.deepcopy(step.get("value")), insert=name == "add")
            case "remove":
                _take(result, path)
            case "test":
                if _look(result, path) != step.get("value"):
                    raise NotPatchable(f"testing value {path} failed")
            case "copy" | "move":
                source = str(step.get("from", ""))
                _put(result, path, _take(result, source) if name == "move" else _look(result, source), insert=True)
            case _:
                raise NotPatchable(f"Unexpected kind: {name}")
    return result


def _merge(target: Any, patch: Any, field: Field) -> Any:
    if isinstance(patch, dict):
        if patch.get(DIRECTIVE) == "replace":
            return {name: value for name, value in patch.items() if name != DIRECTIVE}
        result = dict(target) if isinstance(target, dict) else {}
        for name, value in patch.items():
            inner = Field() if field.is_map else field_of(field.type, name)
            if name.startswith("$"):
                continue
            if value is None:
                result.pop(name, None)
            else:
                result[name] = _merge(result.get(name), value, inner)
        return result
    if isinstance(patch, list) and field.is_set:
        kept = target if isinstance(target, list) else []
        return [*kept, *(item for item in patch if item not in kept)]
    if isinstance(patch, list) and field.merge_key:
        return _merge_items(target if isinstance(target, list) else [], patch, field)
    return copy.deepcopy(patch)


def _merge_items(target: list[Any], patch: list[Any], field: Field) -> list[Any]:
    key = field.merge_key
    if any(item == {DIRECTIVE: "replace"} for item in patch):
        return [item for item in patch if DIRECTIVE not in item]
    items = {item.get(key): item for item in target}
    for item in patch:
        if item.get(DIRECTIVE) == "delete":
            items.pop(item.get(key), None)
        else:
            items[item.get(key)] = _merge(items.get(item.get(key)), item, Field(field.type))
    return list(items.values())


def _steps(path: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]


def _look(tree: Any, path: str) -> Any:
    for step in _steps(path):
        try:
            tree = tree[int(step)] if isinstance(tree, list) else tree[step]
        except (KeyError, IndexError, ValueError, TypeError) as exc:
            raise NotPatchable(f"the path {path} does not exist") from exc
    return tree


def _put(tree: Tree, path: str, value: Any, *, insert: bool) -> None:
    holder, last = _look(tree, path.rpartition("/")[0]), _steps(path)[-1]
    if not insert:
        _look(tree, path)
    if isinstance(holder, dict):
        holder[last] = value
    elif insert:
        holder.insert(len(holder) if last == "-" else int(last), value)
    else:
        holder[int(last)] = value


def _take(tree: Tree, path: str) -> Any:
    value, last = _look(tree, path), _steps(path)[-1]
    holder = _look(tree, path.rpartition("/")[0])
    holder.pop(int(last) if isinstance(holder, list) else last)
    return value
