"""The engines that are compared: how each is told a graph, how it is run, and what it must print.

An engine is used as a program only. Each has the cheapest resource it knows, one that has no world outside of the
state: `terraform_data`, `local.Null`, and the provider of `bench.instant`.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from bench.graphs import Graph, Shape

ROOT = Path(__file__).resolve().parent.parent
SPEC_HEAD = """\
version: 1
project: bench
providers:
  instant: {type: "bench.instant:PROVIDER"}
clusters:
"""


class Step(StrEnum):
    """What is measured, in the order in which it runs in one folder."""

    PLAN = "plan"
    APPLY = "apply"
    NO_OP = "plan, nothing changed"
    CHANGED = "plan, 1% changed"
    UPDATE = "apply, 1% changed"
    DESTROY = "destroy"


class Engine(Protocol):
    name: str
    program: tuple[str, ...]
    version: tuple[str, ...]
    """The arguments that print it."""
    prepare: tuple[str, ...]
    """Arguments of a command that must run once in a folder and is not measured; empty: none."""

    def environ(self) -> Mapping[str, str]: ...

    def write(self, graph: Graph, folder: Path) -> None:
        """Write the graph in the engine's language, replacing an earlier one."""
        ...

    def arguments(self, step: Step) -> list[str]: ...

    def expected(self, step: Step, graph: Graph) -> str:
        """Words that the step must print, so that nothing is measured that did not do the work."""
        ...

    def state(self, folder: Path) -> list[Path]:
        """The files the engine keeps its state in."""
        ...

    def seed(self, graph: Graph, folder: Path) -> bool:
        """Write the state as an apply would have left it, where the format is simple enough; False: it is not."""
        ...


class Gpuplan:
    name = "gpuplan"
    program: tuple[str, ...] = (sys.executable, "-m", "gpuplan")
    version: tuple[str, ...] = ("version",)
    prepare: tuple[str, ...] = ()

    def environ(self) -> Mapping[str, str]:
        return {**_environ_without("GPUPLAN_", "PYTHON"), "PYTHONPATH": str(ROOT)}

    def write(self, graph: Graph, folder: Path) -> None:
        with (folder / "gpuplan.yaml").open("w") as spec:
            spec.write(
                'version: 1\nproject: bench\nproviders:\n  instant: {type: "bench.instant:PROVIDER"}\nclusters:\n'
            )
            if graph.shape is Shape.COUNTED:
                spec.write(f'  r: {{provider: instant, nodes: {graph.count}, labels: {{revision: "1"}}}}\n')
                return
            for resource in graph.resources():
                needs = ", ".join(f"clusters.{need}" for need in resource.needs)
                after = f", depends_on: [{needs}]" if needs else ""
                spec.write(
                    f'  {resource.name}: {{provider: instant, labels: {{revision: "{resource.revision}"}}{after}}}\n'
                )

    def arguments(self, step: Step) -> list[str]:
        match step:
            case Step.PLAN | Step.NO_OP | Step.CHANGED:
                return ["plan"]
            case Step.APPLY | Step.UPDATE:
                return ["apply", "--auto-approve"]
            case Step.DESTROY:
                return ["destroy", "--auto-approve"]

    def expected(self, step: Step, graph: Graph) -> str:
        return _terraform_words(step, graph)

    def state(self, folder: Path) -> list[Path]:
        return [folder / "state" / "default.json", folder / "state" / "default.journal"]

    def seed(self, graph: Graph, folder: Path) -> bool:
        return False


class Terraform:
    name = "Terraform"
    program: tuple[str, ...] = ("terraform",)
    version: tuple[str, ...] = ("version",)
    prepare: tuple[str, ...] = ("init", "-input=false")

    def environ(self) -> Mapping[str, str]:
        own = _environ_without("TF_")
        return {**own, "TF_CLI_CONFIG_FILE": os.devnull, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}

    def write(self, graph: Graph, folder: Path) -> None:
        with (folder / "main.tf").open("w") as program:
            if graph.shape is Shape.COUNTED:
                program.write(f'resource "terraform_data" "r" {{\n  count = {graph.count}\n  input = "1"\n}}\n')
                return
            for resource in graph.resources():
                program.write(f'resource "terraform_data" "{resource.name}" {{\n  input = "{resource.revision}"\n')
                if resource.needs:
                    needs = ", ".join(f"terraform_data.{need}" for need in resource.needs)
                    program.write(f"  depends_on = [{needs}]\n")
                program.write("}\n")

    def arguments(self, step: Step) -> list[str]:
        match step:
            case Step.PLAN | Step.NO_OP | Step.CHANGED:
                return ["plan", "-input=false", "-no-color"]
            case Step.APPLY | Step.UPDATE:
                return ["apply", "-input=false", "-no-color", "-auto-approve"]
            case Step.DESTROY:
                return ["destroy", "-input=false", "-no-color", "-auto-approve"]

    def expected(self, step: Step, graph: Graph) -> str:
        return _terraform_words(step, graph)

    def state(self, folder: Path) -> list[Path]:
        return [folder / "terraform.tfstate"]

    def seed(self, graph: Graph, folder: Path) -> bool:
        if graph.shape is Shape.COUNTED:
            return False
        with (folder / "terraform.tfstate").open("w") as state:
            state.write('{"version": 4, "terraform_version": "1.0.0", "serial": 1, ')
            state.write('"lineage": "00000000-0000-4000-8000-000000000000", "outputs": {}, "resources": [')
            for index, resource in enumerate(graph.resources()):
                state.write("," if index else "")
                needs = ", ".join(f'"terraform_data.{need}"' for need in resource.needs)
                text = f'{{"value": "{resource.revision}", "type": "string"}}'
                state.write(
                    f'{{"mode": "managed", "type": "terraform_data", "name": "{resource.name}",'
                    ' "provider": "provider[\\"terraform.io/builtin/terraform\\"]",'
                    f' "instances": [{{"schema_version": 0, "dependencies": [{needs}], "sensitive_attributes": [],'
                    f' "attributes": {{"id": "00000000-0000-4000-8000-{index:012}", "input": {text},'
                    f' "output": {text}, "triggers_replace": null}}}}]}}\n'
                )
            state.write("]}\n")
        return True


class Atlantide:
    name = "Atlantide"
    version: tuple[str, ...] = ("--version",)
    prepare: tuple[str, ...] = ()

    def __init__(self) -> None:
        own = ROOT / "bench" / ".venv" / "bin" / "atlantide"
        self.program: tuple[str, ...] = (str(own) if own.exists() else "atlantide",)

    def environ(self) -> Mapping[str, str]:
        return {**_environ_without("ATLANTIDE_", "PYTHON"), "NO_COLOR": "1", "COLUMNS": "100"}

    def write(self, graph: Graph, folder: Path) -> None:
        with (folder / "infra.py").open("w") as program:
            program.write("from atlantide.core import Stack\nfrom atlantide.providers.local import Null\n\n")
            program.write('with Stack("bench", region="none"):\n')
            if graph.shape is Shape.COUNTED:
                program.write(f"    for index in range({graph.count}):\n")
                program.write('        Null(f"r{index}", triggers={"revision": "1"})\n')
                return
            for resource in graph.resources():
                after = f", depends_on=[{', '.join(resource.needs)}]" if resource.needs else ""
                call = f'Null("{resource.name}", triggers={{"revision": "{resource.revision}"}}{after})'
                program.write(f"    {resource.name} = {call}\n")

    def arguments(self, step: Step) -> list[str]:
        match step:
            case Step.PLAN | Step.NO_OP | Step.CHANGED:
                return ["plan", "infra.py"]
            case Step.APPLY | Step.UPDATE:
                return ["apply", "--confirm", "infra.py"]
            case Step.DESTROY:
                return ["destroy", "--confirm"]

    def expected(self, step: Step, graph: Graph) -> str:
        added, updated = _changes(graph)
        some = f"{added} to add" if added else f"{updated} to change"
        match step:
            case Step.PLAN:
                return f"Plan: {graph.size} to add"
            case Step.APPLY:
                return f"Applied: {graph.size} to add"
            case Step.NO_OP:
                return f"Plan: {graph.size} unchanged"
            case Step.CHANGED:
                return f"Plan: {some}"
            case Step.UPDATE:
                return f"Applied: {some}"
            case Step.DESTROY:
                return f"Destroyed: {graph.size + added} resource(s)"

    def state(self, folder: Path) -> list[Path]:
        return [folder / "atlantide.db", folder / "atlantide.db-wal"]

    def seed(self, graph: Graph, folder: Path) -> bool:
        return False


def engines() -> tuple[Engine, ...]:
    return (Gpuplan(), Terraform(), Atlantide())


def is_installed(engine: Engine) -> bool:
    return shutil.which(engine.program[0]) is not None


def _environ_without(*prefixes: str) -> dict[str, str]:
    """The environment without settings of the engine's own, and without any that keep Python from caching bytecode."""
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


def _changes(graph: Graph) -> tuple[int, int]:
    """How many resources the changed graph adds, and how many it changes."""
    changed = replace(graph, changed=True)
    if graph.shape is Shape.COUNTED:
        return changed.count - graph.size, 0
    return 0, sum(resource.revision > 1 for resource in changed.resources())


def _terraform_words(step: Step, graph: Graph) -> str:
    """The summary lines, which gpuplan prints word for word as Terraform does."""
    added, updated = _changes(graph)
    match step:
        case Step.PLAN:
            return f"Plan: {graph.size} to add, 0 to change, 0 to destroy."
        case Step.APPLY:
            return f"Apply complete! Resources: {graph.size} added, 0 changed, 0 destroyed."
        case Step.NO_OP:
            return "No changes."
        case Step.CHANGED:
            return f"Plan: {added} to add, {updated} to change, 0 to destroy."
        case Step.UPDATE:
            return f"Apply complete! Resources: {added} added, {updated} changed, 0 destroyed."
        case Step.DESTROY:
            return f"Destroy complete! Resources: {graph.size + added} destroyed."
