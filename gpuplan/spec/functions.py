"""The functions of expressions that CEL itself does not have: `file`, `base64`, `json`, `yaml`, `sha256`, and the
usual ones of its strings extension (`'a,b'.split(',')`).

Called by `cel_language`. They are pure but for `file`, which asks the caller of `load`.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence

from gpuplan.core.diagnostics import Sink
from gpuplan.core.values import JsonValue
from gpuplan.spec.scalars import as_text
from gpuplan.spec.source import SourceFile, read_any

Function = Callable[..., JsonValue]


def functions(read_file: Callable[[str], bytes]) -> Mapping[str, Function]:
    """By name. Each raises ValueError with what is wrong with its argument."""

    def file(path: JsonValue) -> JsonValue:
        name = _text("file", path)
        try:
            return read_file(name).decode()
        except OSError as exc:
            raise ValueError(f"`{name}` cannot be read: {(exc.strerror or str(exc)).lower()}") from exc
        except UnicodeDecodeError as exc:
            raise ValueError(f"`{name}` is not UTF-8 text") from exc

    return {"file": file, **_PURE}


def _base64(text: JsonValue) -> JsonValue:
    return base64.b64encode(_text("base64", text).encode()).decode()


def _sha256(text: JsonValue) -> JsonValue:
    return hashlib.sha256(_text("sha256", text).encode()).hexdigest()


def _json(value: JsonValue) -> JsonValue:
    """Reads a text, writes anything else."""
    if not isinstance(value, str):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    try:
        parsed: JsonValue = json.loads(value)
    except ValueError as exc:
        raise ValueError(f"this text is not JSON: {exc}") from exc
    return parsed


def _yaml(value: JsonValue) -> JsonValue:
    """Reads a text, writes anything else (JSON is YAML)."""
    if not isinstance(value, str):
        return _json(value)
    sink = Sink()
    parsed = read_any(SourceFile("text", value.encode()), sink)
    if len(sink):
        raise ValueError(f"this text is not YAML: {next(iter(sink)).summary}")
    return parsed


def _text(function: str, value: JsonValue) -> str:
    if not isinstance(value, str):
        raise ValueError(f"`{function}` takes a text")
    return value


def _join(items: JsonValue, separator: JsonValue = "") -> JsonValue:
    if not isinstance(items, Sequence) or isinstance(items, str):
        raise ValueError("`join` takes a list of texts")
    return _text("join", separator).join(_text("join", item) for item in items)


def _split(text: JsonValue, separator: JsonValue) -> JsonValue:
    whole, mark = _text("split", text), _text("split", separator)
    return list(whole.split(mark) if mark else whole)


def _replace(text: JsonValue, old: JsonValue, new: JsonValue) -> JsonValue:
    return _text("replace", text).replace(_text("replace", old), _text("replace", new))


def _substring(text: JsonValue, start: JsonValue, end: JsonValue = None) -> JsonValue:
    whole = _text("substring", text)
    if not isinstance(start, int) or not (end is None or isinstance(end, int)):
        raise ValueError("`substring` takes whole numbers")
    if not 0 <= start <= (len(whole) if end is None else end) <= len(whole):
        raise ValueError(f"`substring` reaches beyond the {len(whole)} characters there are")
    return whole[start:end]


def _string(value: JsonValue) -> JsonValue:
    """As the spec writes it; CEL's own would write Python's `True`."""
    if not isinstance(value, (bool, int, float, str)):
        raise ValueError("`string` takes a number, a text, true or false; `json` writes anything")
    return as_text(value)


def _numbers(function: str, items: JsonValue) -> list[int | float]:
    if not isinstance(items, Sequence) or not items or not all(type(item) in (int, float) for item in items):
        raise ValueError(f"`{function}` takes a list of numbers")
    return [item for item in items if isinstance(item, (int, float))]


_PURE: Mapping[str, Function] = {
    "base64": _base64,
    "json": _json,
    "yaml": _yaml,
    "sha256": _sha256,
    "string": _string,
    "join": _join,
    "split": _split,
    "replace": _replace,
    "substring": _substring,
    "trim": lambda text: _text("trim", text).strip(),
    "lowerAscii": lambda text: _text("lowerAscii", text).lower(),
    "upperAscii": lambda text: _text("upperAscii", text).upper(),
    "sum": lambda items: sum(_numbers("sum", items)),
    "min": lambda items: min(_numbers("min", items)),
    "max": lambda items: max(_numbers("max", items)),
}
NAMES = ("file", *_PURE)
