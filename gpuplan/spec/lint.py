"""What is allowed but hardly meant: secrets in the spec, and things nobody uses.

Called by `load`.
"""

import re
from collections.abc import Iterator, Mapping

from gpuplan.core.address import Address
from gpuplan.core.desired import Desired
from gpuplan.core.diagnostics import At, Diagnostic, Label, Path, Severity
from gpuplan.core.values import JsonValue
from gpuplan.spec.expressions import Names
from gpuplan.spec.scalars import texts_in

_TOKENS: tuple[tuple[str, str], ...] = (
    (r"hf_[A-Za-z0-9]{20,}", "a Hugging Face token"),
    (r"sk-[A-Za-z0-9_-]{20,}", "an API key"),
    (r"(?:AKIA|ASIA)[0-9A-Z]{16}", "an AWS access key"),
    (r"rpa_[A-Za-z0-9]{20,}", "a RunPod API key"),
    (r"gh[pousr]_[A-Za-z0-9]{30,}", "a GitHub token"),
    (r"github_pat_[A-Za-z0-9_]{30,}", "a GitHub token"),
    (r"glpat-[A-Za-z0-9_-]{20,}", "a GitLab token"),
    (r"xox[abprs]-[A-Za-z0-9-]{20,}", "a Slack token"),
    (r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----", "a private key"),
)
_ANY_TOKEN = re.compile("|".join(f"(?P<t{index}>{pattern})" for index, (pattern, _) in enumerate(_TOKENS)))
_BEGINNINGS = re.compile(r"hf_|sk-|AKIA|ASIA|rpa_|gh[pousr]_|github_pat_|glpat-|xox[abprs]-|-----BEGIN")


def tokens_in(text: str) -> Iterator[str]:
    """What looks like a token in a text that may not even be YAML: never to be quoted."""
    if _BEGINNINGS.search(text) is not None:
        yield from (match[0] for match in _ANY_TOKEN.finditer(text))


def literal_secrets(document: JsonValue) -> Iterator[tuple[str, Diagnostic]]:
    """Every token that is written out, with what to say about it."""
    for path, value in texts_in(document, ()):
        match = _ANY_TOKEN.search(value)
        if match is None:
            continue
        what = _TOKENS[int((match.lastgroup or "t0")[1:])][1]
        diagnostic = Diagnostic(
            "literal-secret",
            "a token is written into the spec",
            (Label(At(path), f"looks like {what}"),),
            facts=("specs are committed and shown in CI logs",),
            hint=f'declare a variable with `sensitive: true` and write `"${{vars.{_variable(path)}}}"`',
        )
        # Of a text of several lines every line is hidden.
        yield value if "\n" in value else match[0], diagnostic


def unused(
    document: Mapping[str, JsonValue], instances: Mapping[Address, Desired], names: Names
) -> Iterator[Diagnostic]:
    """Variables, locals, volumes and keys that nothing refers to."""
    for section, root in (("variables", "vars"), ("locals", "locals")):
        for name in _keys(document, section):
            if f"{root}.{name}" not in names.used:
                id = "unused-variable" if section == "variables" else "unused-local"
                yield _warning(id, f"{root}.{name}", (section, name))
    needed = {need.resource for desired in instances.values() for need in desired.depends_on}
    for section in ("volumes", "ssh_keys"):
        for name in _keys(document, section):
            if Address(section, name) not in needed and not _is_guarded(document, section, name):
                yield _warning("unused-resource", f"{section}.{name}", (section, name))


def _is_guarded(document: Mapping[str, JsonValue], section: str, name: str) -> bool:
    """Kept on purpose: `prevent_destroy` says that it outlives its users."""
    blocks = document[section]
    block = blocks[name] if isinstance(blocks, dict) else None
    lifecycle = block.get("lifecycle") if isinstance(block, dict) else None
    return isinstance(lifecycle, dict) and lifecycle.get("prevent_destroy") is True


def _warning(id: str, what: str, path: Path) -> Diagnostic:
    label = Label(At(path, key=True), "declared here")
    return Diagnostic(id, f"nothing uses `{what}`", (label,), severity=Severity.WARNING)


def _keys(document: Mapping[str, JsonValue], section: str) -> list[str]:
    found = document.get(section)
    return list(found) if isinstance(found, dict) else []


def _variable(path: Path) -> str:
    named = [part for part in path if isinstance(part, str)]
    return re.sub(r"\W", "_", named[-1]).lower() if named else "token"
