"""Saved plans, and the spec they were made from."""

import hashlib
import json
import re
import secrets
from dataclasses import replace

from gpuplan.core.desired import Configuration
from gpuplan.core.plan import Plan
from gpuplan.plan.document import decode_plan, encode_plan, saved_inputs
from gpuplan.workflow.places import keys
from gpuplan.workflow.project import Project, load_spec, spec_sources

_PLAN = "plan"
_ENVELOPE = re.compile(r'\s*\{\s*"encrypted": "(?P<text>[^"]*)",\s*"format": 1,\s*"salt": "(?P<salt>\w{1,64})"\s*\}\s*')


def save_plan(plan: Plan, project: Project, configuration: Configuration) -> str:
    """The text of a plan file. It names the spec files and brings the variables along, but no sensitive one."""
    files = {source.name: hashlib.sha256(source.content).hexdigest() for source in spec_sources(project)}
    return encode_plan(plan, spec_files=files, variables=configuration.variables)


def kept_text(project: Project, text: str) -> str:
    """The plan as it goes into a file: encrypted where the state is."""
    keyring = keys(project)
    if not keyring.writes:
        return text
    salt = secrets.token_hex(16)
    encrypted = keyring.encrypt(text.encode(), salt=salt, bound=_PLAN)
    return json.dumps({"encrypted": encrypted, "format": 1, "salt": salt}, indent=2) + "\n"


def plain_text(project: Project, text: str, where: str) -> str:
    """What a plan file says. Raises StateEncrypted without the right key, StateCorrupt for a damaged one."""
    match = _ENVELOPE.fullmatch(text)
    if match is None:
        return text
    return keys(project).decrypt(match["text"], salt=match["salt"], bound=_PLAN, where=where).decode()


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
