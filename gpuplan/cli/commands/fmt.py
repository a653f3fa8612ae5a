"""`gpuplan fmt`: lay spec files out in the canonical way, comments kept."""

from pathlib import Path
from typing import TYPE_CHECKING

from gpuplan.cli.parser import Parser

if TYPE_CHECKING:
    from gpuplan.cli.call import Call


def arguments(parser: Parser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="*", help="files and folders; default: the spec")
    parser.flag("--check", action="store_true", help="change nothing; exit 1 when a file would change")
    parser.flag("--diff", action="store_true", help="show what would change, and change nothing")


def run(call: "Call") -> int:
    from dataclasses import replace

    from gpuplan.spec.format import format_source
    from gpuplan.workflow.project import spec_sources

    project = replace(call.project, files=tuple(call.args.files)) if call.args.files else call.project
    changed = []
    for source in spec_sources(project):
        before = source.content.decode("utf-8", "surrogateescape")
        after = format_source(before)
        if after == before:
            continue
        changed.append(source.name)
        if call.args.diff:
            call.console.out(_difference(source.name, before, after), end="")
        elif not call.args.check:
            _write(call.path(source.name), after)
    if not call.args.diff:
        for name in changed:
            call.console.out(name)
    return 1 if changed and call.args.check else 0


def _difference(name: str, before: str, after: str) -> str:
    import difflib

    old, new = before.splitlines(), after.splitlines()
    lines = difflib.unified_diff(old, new, f"{name} (now)", f"{name} (formatted)", lineterm="")
    return "".join(f"{line}\n" for line in lines)


def _write(path: Path, text: str) -> None:
    """All or nothing: a spec is worth more than its layout."""
    aside = path.with_name(f".{path.name}.fmt")
    aside.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
    aside.chmod(path.stat().st_mode & 0o777)
    aside.replace(path)
