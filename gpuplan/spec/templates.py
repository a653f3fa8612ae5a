"""The syntax of `${ }`: texts to parts, expressions to paths. No meaning: that is `expressions`.

A plain path such as `clusters.train.nodes[0].public_ip` is recognised here and never reaches CEL. Inside a larger
expression its paths are cut out, so that CEL sees only names for values.
"""

import json
import re
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from gpuplan.core.desired import SECTIONS

STATIC_ROOTS = ("vars", "locals", "env", "each", "count")
ROOTS = (*STATIC_ROOTS, *SECTIONS)

Step: TypeAlias = "str | int | PathExpression"
"""A key, an index, or a path that gives one of them: `volumes.data[each.key]`."""


class PathExpression(NamedTuple):
    root: str
    steps: tuple[Step, ...]
    text: str


class Cut(NamedTuple):
    """A path inside a larger expression, there called `name`. `asks` is how it is used: its value, whether it is
    there, or only how many it has."""

    name: str
    path: PathExpression
    asks: str


class Expression(NamedTuple):
    """What stands between `${` and `}`. A plain path has `path`; anything else is CEL in `code`, with `cuts`. Both are
    there when a dash in it may be part of a name or a minus."""

    text: str
    path: PathExpression | None
    code: str = ""
    cuts: tuple[Cut, ...] = ()


Part: TypeAlias = str | Expression


class TemplateError(ValueError):
    """The `${ }` themselves are not in order."""


_STRING = r'"(?:[^"\\]|\\.)*"|' + r"'(?:[^'\\]|\\.)*'"
_ROOT = re.compile(rf"(?:{'|'.join(ROOTS)})(?![\w-])")
_TOKEN = re.compile(rf"{_STRING}|(?<![\w.])(?:{'|'.join(ROOTS)})(?![\w(])")
_NAME_STEP = re.compile(r"\.([A-Za-z_]\w*(?:-\w+)*)")
_FIELD_STEP = re.compile(r"\.([A-Za-z_]\w*)(?!\w*\s*\()")
_LITERAL_STEP = re.compile(rf"\[\s*(?:(\d+)|({_STRING}))\s*\]")
_VALUE = "value"
_PRESENCE = "presence"
_SIZE = "size"


@lru_cache(maxsize=4096)
def parse_template(text: str) -> tuple[Part, ...]:
    """Split a text into literal texts and expressions; `$${` is a literal `${`. Raises TemplateError."""
    parts: list[Part] = []
    literal, position = "", 0
    while (start := text.find("${", position)) >= 0:
        if start > 0 and text[start - 1] == "$" and start - 1 >= position:
            literal += text[position : start - 1] + "${"
            position = start + 2
            continue
        literal += text[position:start]
        end = _closing(text, start + 2)
        if literal:
            parts.append(literal)
        literal = ""
        parts.append(parse_expression(text[start + 2 : end].strip()))
        position = end + 1
    literal += text[position:]
    if literal:
        parts.append(literal)
    return tuple(parts)


def parse_expression(text: str) -> Expression:
    """Raises TemplateError when there is none."""
    if not text:
        raise TemplateError("there is nothing between `${` and `}`")
    path, end = _path(text, 0, strict=True)
    if path is not None and end == len(text):
        is_ambiguous = path.root in STATIC_ROOTS and "-" in re.sub(_STRING, "", text)
        return Expression(text, path, *(_cut_out(text) if is_ambiguous else ()))
    return Expression(text, None, *_cut_out(text))


def _cut_out(text: str) -> tuple[str, tuple[Cut, ...]]:
    code, cuts, position = "", list[Cut](), 0
    while (match := _TOKEN.search(text, position)) is not None:
        code += text[position : match.start()]
        found, position = _path(text, match.start(), strict=False)
        if found is None:
            code, position = code + match[0], match.end()
            continue
        cut = Cut(f"path_{len(cuts)}", found, _asked(code, text[position:]))
        cuts.append(cut)
        if cut.asks == _PRESENCE:
            # `has()` is a macro over a field selection: the whole call becomes the name of its answer.
            code = re.sub(r"\bhas\s*\(\s*$", "", code)
            position = text.index(")", position) + 1
        code += cut.name
    return code + text[position:], tuple(cuts)


def _closing(text: str, position: int) -> int:
    """Where the `}` of an expression is, which may have braces and strings of its own."""
    depth = 0
    for match in re.compile(rf"{_STRING}|[{{}}]").finditer(text, position):
        if match[0] == "{":
            depth += 1
        elif match[0] == "}":
            if depth == 0:
                return match.start()
            depth -= 1
    raise TemplateError("a `${` has no `}`")


def _path(text: str, position: int, *, strict: bool) -> tuple[PathExpression | None, int]:
    """The longest path at `position`. Names of resources have dashes everywhere, other names where the path stands
    alone (`strict`); elsewhere a dash is a minus."""
    root = _ROOT.match(text, position)
    if root is None:
        return None, position
    start, position = position, root.end()
    is_static = root[0] in STATIC_ROOTS
    steps: list[Step] = []
    while position < len(text):
        if literal := _LITERAL_STEP.match(text, position):
            steps.append(int(literal[1]) if literal[1] else _unquoted(literal[2]))
            position = literal.end()
        elif text[position] == "[" and (nested := _nested(text, position)) is not None:
            steps.append(nested[0])
            position = nested[1]
        elif field := (_NAME_STEP if (strict if is_static else not steps) else _FIELD_STEP).match(text, position):
            if text[field.end() : field.end() + 1] == "(":
                break
            steps.append(field[1])
            position = field.end()
        else:
            break
    return PathExpression(root[0], tuple(steps), text[start:position]), position


def _nested(text: str, position: int) -> tuple[PathExpression, int] | None:
    inner, end = _path(text, position + 1, strict=True)
    if inner is None or inner.root not in STATIC_ROOTS or text[end : end + 1] != "]":
        return None
    return inner, end + 1


def _unquoted(literal: str) -> str:
    if literal.startswith("'"):
        literal = '"' + literal[1:-1].replace("\\'", "'").replace('"', '\\"') + '"'
    try:
        return str(json.loads(literal))
    except ValueError as exc:
        raise TemplateError(f"{literal} is not a text") from exc


def _asked(before: str, after: str) -> str:
    called = re.search(r"\b(has|size)\s*\(\s*$", before)
    if called is None or not re.match(r"\s*\)", after):
        return _VALUE
    return _PRESENCE if called[1] == "has" else _SIZE
