"""The functions of expressions that CEL itself does not have: `file`, `base64`, `json`, `yaml`, `sha256`.

Called by `cel_language`. They are pure but for `file`, which asks the caller of `load`.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping

from gpuplan.core.diagnostics import Sink
from gpuplan.core.values import JsonValue
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

    return {"file": file, "base64": _base64, "json": _json, "yaml": _yaml, "sha256": _sha256}


NAMES = ("file", "base64", "json", "yaml", "sha256")


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
