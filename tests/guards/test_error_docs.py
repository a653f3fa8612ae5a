"""Every diagnostic id has its heading in docs/errors.md, and every heading an id in the source."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_PARAMETERS = ("id", "error_id")
_NOT_SHOWN = {"fields.py"}
"""Modules whose ids are pydantic's: `spec/schema.py` translates them."""


def _positions(tree: ast.Module) -> dict[str, int]:
    """The functions and classes of a module that take an id, and as which of their arguments."""
    positions: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            positions |= _position(node.name, node)
        elif isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and part.name == "__init__":
                    positions |= _position(node.name, part)
            # A record of one module's own: its fields are what it takes.
            fields = [p.target.id for p in node.body if isinstance(p, ast.AnnAssign) and isinstance(p.target, ast.Name)]
            if node.name.startswith("_") and (found := set(fields) & set(_PARAMETERS)):
                positions[node.name] = fields.index(found.pop())
    return positions


def _ids(tree: ast.Module, public: dict[str, int]) -> Iterator[str]:
    """The ids a module can give: to `Diagnostic`, to functions with such a parameter, and by a name of that kind."""
    positions = {"Diagnostic": 0, **public, **_positions(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id in _PARAMETERS for t in node.targets):
            yield from _texts(node.value)
        elif isinstance(node, ast.Call):
            yield from _given(node, positions)


def _position(name: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, int]:
    """Where in its arguments a function takes an id."""
    names = [argument.arg for argument in function.args.args if argument.arg not in ("self", "cls")]
    found = next((parameter for parameter in _PARAMETERS if parameter in names), None)
    return {} if found is None else {name: names.index(found)}


def _given(call: ast.Call, positions: dict[str, int]) -> Iterator[str]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name not in positions:
        return
    for keyword in call.keywords:
        if keyword.arg in _PARAMETERS:
            yield from _texts(keyword.value)
    if len(call.args) > positions[name]:
        yield from _texts(call.args[positions[name]])


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.IfExp):
        yield from (*_texts(node.body), *_texts(node.orelse))
    elif text := _text(node):
        yield text


def _text(node: ast.AST | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def ids_in_source() -> dict[str, str]:
    """Every id, with a module that gives it."""
    modules = {
        path: ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted((ROOT / "gpuplan").rglob("*.py"))
        if path.name not in _NOT_SHOWN
    }
    public: dict[str, int] = {}
    for tree in modules.values():
        public |= {name: position for name, position in _positions(tree).items() if not name.startswith("_")}
    return {
        found: str(path.relative_to(ROOT))
        for path, tree in modules.items()
        for found in _ids(tree, public)
        if _ID.fullmatch(found)
    }


def test_every_diagnostic_has_a_heading_in_the_documentation() -> None:
    documented = re.findall(r"^### `([\w-]+)`$", (ROOT / "docs" / "errors.md").read_text(encoding="utf-8"), re.M)

    assert sorted(ids_in_source()) == documented
