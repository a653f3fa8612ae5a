"""The shapes of Alibaba Cloud's actions as judges: what an adapter sends and what an emulator answers must fit them.

They come from the official SDK: names, types, and what must be there (`!` behind a type, `_required` of a list).
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from gpuplan.testing.emulated import Exchange
from tests.conformance.api_documents import VARIABLE

TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "any": (object,),
}
TEXTS = {"integer": r"-?\d+", "number": r"-?\d+(\.\d+)?", "boolean": "true|false"}
"""How the values of a form are written."""


class ActionShapes:
    def __init__(self, actions: Mapping[str, Any]) -> None:
        self._actions = actions

    @classmethod
    def read(cls) -> "ActionShapes | None":
        """None without a folder of documents, so that a test can say so."""
        folder = os.environ.get(VARIABLE)
        return cls(json.loads((Path(folder) / "alibaba.json").read_text())["actions"]) if folder else None

    def judge(self, exchanges: Iterable[Exchange]) -> set[str]:
        """What does not fit, each finding once."""
        findings: set[str] = set()
        for exchange in exchanges:
            action = exchange.request.headers.get("x-acs-action")
            if action is None:
                continue
            if action not in self._actions:
                findings.add(f"{action}: not in the document")
                continue
            shape = self._actions[action]
            findings |= {f"{action} sends {each}" for each in _sent(exchange, shape["request"])}
            if exchange.response.status == 200:
                body = json.loads(exchange.response.content)
                findings |= {f"{action} answers {each}" for each in _answered(body, shape["response"], "")}
        return findings


def _sent(exchange: Exchange, shape: Mapping[str, Any]) -> Iterator[str]:
    told = dict(parse_qsl(exchange.request.content.decode(), keep_blank_values=True))
    for name, value in told.items():
        kind = _kind_at(shape, name.split("."))
        if kind is None:
            yield f"{re.sub('[0-9]+', 'N', name)}: not in the document"
        elif not value or not re.fullmatch(TEXTS.get(kind, ".*"), value, re.DOTALL):
            yield f"{name}: no {kind}"
    for name, kind in shape.items():
        is_list = isinstance(kind, Mapping) and kind.get("_required") is True
        if (is_list and f"{name}.1" not in _heads(told)) or (str(kind).endswith("!") and name not in told):
            yield f"no {name}"


def _heads(told: Mapping[str, str]) -> set[str]:
    """What lists begin with."""
    return {".".join(name.split(".")[:2]) for name in told}


def _kind_at(shape: Any, steps: list[str]) -> str | None:
    for step in steps:
        if isinstance(shape, Mapping) and "_items" in shape:
            shape = shape["_items"]
        if isinstance(shape, list):
            shape = shape[0] if step.isdigit() and int(step) > 0 else None
        else:
            shape = shape.get(step) if isinstance(shape, Mapping) else None
    return shape.rstrip("!") if isinstance(shape, str) else None


def _answered(value: Any, shape: Any, at: str) -> Iterator[str]:
    if isinstance(shape, Mapping):
        if not isinstance(value, Mapping):
            yield f"{at}: no object"
            return
        for name, item in value.items():
            if name in shape:
                yield from _answered(item, shape[name], f"{at}.{name}")
            else:
                yield f"{at}.{name}: not in the document"
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield f"{at}: no list"
            return
        for item in value:
            yield from _answered(item, shape[0], f"{at}[]")
    elif not isinstance(value, TYPES[shape.rstrip("!")]):
        yield f"{at}: no {shape}"
