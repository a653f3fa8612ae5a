"""Saved plans, and the spec they were made from."""

import hashlib
from dataclasses import replace

from gpuplan.core.desired import Configuration
from gpuplan.core.plan import Plan
from gpuplan.plan.document import decode_plan, encode_plan, saved_inputs
from gpuplan.workflow.project import Project, load_spec, spec_sources


def save_plan(plan: Plan, project: Project, configuration: Configuration) -> str:
    """The text of a plan file. It names the spec files and brings the variables along, but no sensitive one."""
    files = {source.name: hashlib.sha256(source.content).hexdigest() for source in spec_sources(project)}
    return encode_plan(plan, spec_files=files, variables=configuration.variables)


def read_saved(project: Project, text: str) -> tuple[Project, Configuration, Plan]:
    """The plan, bound to the spec as it is now. What the command line names counts more than what the plan remembers.

    Raises PlanStale when the spec or a variable is another one, PlanError when the text is no saved plan.
    """
    inputs = saved_inputs(text)
    project = replace(
        project,
        files=project.files or tuple(inputs.spec_files),
        workspace=inputs.workspace,
        stored=inputs.variables,
    )
    configuration = load_spec(project)
    return project, configuration, decode_plan(text, configuration)
