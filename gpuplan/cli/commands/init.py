"""`gpuplan init`: a starter spec that runs on this machine, and what git must not keep."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from gpuplan.cli.parser import Parser, usage_error

if TYPE_CHECKING:
    from gpuplan.cli.call import Call

_IGNORED = (".gpuplan/", "state/.work/", "state/*.lock", "*.plan")

_SCHEMA = ".gpuplan/spec.v1.json"
"""Written beside the spec: the editor then knows exactly the language of this gpuplan."""

_STARTER = """\
# yaml-language-server: $schema={schema}
version: 1
project: {project}

# Values that differ between runs: --var workers=3, GPUPLAN_VAR_workers=3, or a *.vars.yaml file.
variables:
  workers: {{type: integer, default: 2, minimum: 0}}

# Where nodes live. `local` runs them as processes on this machine: no account, no cost.
providers:
  local: {{}}

clusters:
  train:
    provider: local
    nodes: "${{vars.workers}}"
    command: |
      echo "hello from $(pwd)"
      exec sleep infinity

outputs:
  folders: "${{clusters.train.nodes.map(n, n.workspace)}}"
"""


def arguments(parser: Parser) -> None:
    parser.flag("--project", metavar="NAME", help="the project's name; default: the folder's")


def run(call: "Call") -> int:
    from gpuplan.workflow.project import DEFAULT_FILE

    folder = call.project.folder.resolve()
    path = folder / DEFAULT_FILE
    text = _STARTER.format(schema=_SCHEMA, project=call.args.project or _project_name(folder.name))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as exc:
        raise usage_error(
            f"there is a `{DEFAULT_FILE}` already", hint="nothing was written", commands=("gpuplan validate",)
        ) from exc
    _write_schema(folder / _SCHEMA)
    _ignore(folder / ".gitignore")
    call.console.note(f"Wrote `{DEFAULT_FILE}` and `.gitignore`. Next:\n    gpuplan plan\n    gpuplan apply")
    return 0


def _project_name(folder: str) -> str:
    name = re.sub(r"[^a-z0-9-]+", "-", folder.lower()).strip("-")
    return name if re.match(r"[a-z]", name) else "gpus"


def _write_schema(path: Path) -> None:
    import json

    from gpuplan.spec.json_schema import spec_schema

    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(spec_schema(), indent=2) + "\n", encoding="utf-8")


def _ignore(path: Path) -> None:
    """Add the lines that are not there yet."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    missing = [line for line in _IGNORED if line not in before.splitlines()]
    if missing:
        gap = "" if not before or before.endswith("\n") else "\n"
        path.write_text(before + gap + "".join(f"{line}\n" for line in missing), encoding="utf-8")
