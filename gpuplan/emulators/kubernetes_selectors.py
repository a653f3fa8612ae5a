"""Selectors of labels, of fields and of nodes, and quantities: the small languages inside the API."""

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, TypeAlias

from gpuplan.emulators.kubernetes_answers import Refused
from gpuplan.emulators.kubernetes_fields import Tree

Labels: TypeAlias = Mapping[str, str]

_REQUIREMENT = re.compile(
    r"\s*(?:(?P<absent>!)\s*(?P<no>[^\s=!,()]+)"
    r"|(?P<key>[^\s=!,()]+)\s*(?:(?P<op>==|=|!=)\s*(?P<value>[^\s,()]*)|(?P<set>in|notin)\s*\((?P<values>[^)]*)\))?)\s*"
)


def _regarding(name: str, tree: Tree) -> object:
    return tree["involvedObject"].get(name, "")


_POD_FIELDS: Mapping[str, Callable[[Tree], Any]] = {
    "spec.nodeName": lambda tree: tree["spec"].get("nodeName", ""),
    "status.phase": lambda tree: tree.get("status", {}).get("phase", ""),
    "spec.restartPolicy": lambda tree: tree["spec"].get("restartPolicy", ""),
    "spec.schedulerName": lambda tree: tree["spec"].get("schedulerName", ""),
    "spec.serviceAccountName": lambda tree: tree["spec"].get("serviceAccountName", ""),
    "status.podIP": lambda tree: tree.get("status", {}).get("podIP", ""),
}
_EVENT_FIELDS: Mapping[str, Callable[[Tree], Any]] = {
    **{f"involvedObject.{name}": partial(_regarding, name) for name in ("kind", "namespace", "name", "uid")},
    "reason": lambda tree: tree.get("reason", ""),
    "type": lambda tree: tree.get("type", ""),
}
_NAMED: Mapping[str, Callable[[Tree], Any]] = {
    "metadata.name": lambda tree: tree["metadata"]["name"],
    "metadata.namespace": lambda tree: tree["metadata"].get("namespace", ""),
}
_SUFFIXES = {
    **{suffix: Decimal(1024) ** power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"), 1)},
    "m": Decimal("0.001"),
    "u": Decimal("0.000001"),
    "n": Decimal("0.000000001"),
    "": Decimal(1),
}


def is_true(text: str) -> bool:
    """Of a parameter of the URL."""
    return text.lower() in ("1", "t", "true")


def label_filter(text: str) -> Callable[[Tree], bool]:
    """Of `labelSelector`. Raises Refused."""
    checks: list[Callable[[Labels], bool]] = []
    rest = text.strip()
    while rest:
        match = _REQUIREMENT.match(rest)
        if match is None or not match[0].strip():
            raise Refused(400, f"unable to parse requirement: found '{rest}', expected: identifier")
        checks.append(_check(match))
        rest = rest[match.end() :]
        if rest and not rest.startswith(","):
            raise Refused(400, f"unable to parse requirement: found '{rest}', expected: ',' or 'end of string'")
        rest = rest[1:]
    return lambda tree: all(check(tree["metadata"].get("labels") or {}) for check in checks)


def field_filter(text: str, kind: str) -> Callable[[Tree], bool]:
    """Of `fieldSelector`. Raises Refused for a field that cannot be selected by."""
    known = {**_NAMED, **{"Pod": _POD_FIELDS, "Event": _EVENT_FIELDS}.get(kind, {})}
    checks: list[Callable[[Tree], bool]] = []
    for part in filter(None, text.split(",")):
        name, negated, value = _term(part)
        if name not in known:
            raise Refused(400, f"field label not supported: {name}")
        checks.append(_field_check(known[name], value, negated=negated))
    return lambda tree: all(check(tree) for check in checks)


def matches(selector: Mapping[str, Any], labels: Labels) -> bool:
    """Whether a LabelSelector object means these labels."""
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(k) == v for k, v in wanted.items()) and all(
        _expression(each, labels) for each in selector.get("matchExpressions") or ()
    )


def fits_node(spec: Tree, labels: Labels, name: str) -> bool:
    """Whether a pod's nodeSelector and required node affinity let it onto a node."""
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(
        all(_expression(each, labels) for each in term.get("matchExpressions") or ())
        and all(_expression(each, {"metadata.name": name}) for each in term.get("matchFields") or ())
        for term in required["nodeSelectorTerms"]
    )


def tolerates(tolerations: Sequence[Tree], taint: Tree) -> bool:
    for each in tolerations:
        if each.get("effect") not in (None, "", taint.get("effect")):
            continue
        if each.get("key") not in (None, "", taint["key"]):
            continue
        if each.get("operator", "Equal") == "Exists" or each.get("value", "") == taint.get("value", ""):
            return True
    return False


def quantity(text: object) -> Decimal:
    """What `"8"`, `"191500m"`, `"2040Gi"` or `"1e3"` say. Raises ValueError."""
    match = re.fullmatch(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([A-Za-z]*)", str(text))
    if match is None or match[2] not in _SUFFIXES:
        raise ValueError("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    try:
        return Decimal(match[1]) * _SUFFIXES[match[2]]
    except InvalidOperation as exc:
        raise ValueError(f"`{text}` is no quantity") from exc


def _check(match: re.Match[str]) -> Callable[[Labels], bool]:
    if match["absent"]:
        return lambda labels: match["no"] not in labels
    key = match["key"]
    if match["set"]:
        values = {value.strip() for value in match["values"].split(",")}
        if match["set"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if match["op"] == "!=":
        return lambda labels: labels.get(key) != match["value"]
    if match["op"]:
        return lambda labels: labels.get(key) == match["value"]
    return lambda labels: key in labels


def _term(part: str) -> tuple[str, bool, str]:
    if "!=" in part:
        name, _, value = part.partition("!=")
        return name.strip(), True, value.strip()
    name, _, value = part.replace("==", "=").partition("=")
    return name.strip(), False, value.strip()


def _field_check(read: Callable[[Tree], Any], value: str, *, negated: bool) -> Callable[[Tree], bool]:
    return lambda tree: (str(read(tree)) == value) is not negated


def _expression(each: Mapping[str, Any], labels: Labels) -> bool:
    key, values = each["key"], list(each.get("values") or ())
    match each["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case "Gt":
            return key in labels and int(labels[key]) > int(values[0])
    return key in labels and int(labels[key]) < int(values[0])
