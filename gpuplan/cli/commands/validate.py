"""`gpuplan validate`: check the spec; every problem at once, with file, line and column."""

from typing import TYPE_CHECKING

from gpuplan.cli.parser import Parser

if TYPE_CHECKING:
    from gpuplan.cli.call import Call


def arguments(parser: Parser) -> None:
    """Nothing but the global flags."""


def run(call: "Call") -> int:
    from gpuplan.core.errors import SpecError
    from gpuplan.workflow.project import load_spec

    if not call.console.json:
        configuration = load_spec(call.project)
        call.warn(configuration.warnings, configuration.locator)
        instances = configuration.instances
        resources = {address.resource for address in instances}
        of = f"{_counted(len(instances), 'instance')} of {_counted(len(resources), 'resource')}"
        call.console.out(f"The spec is valid: {of}.")
        return 0
    import json

    from gpuplan.cli.render.diagnostic import diagnostics_json

    try:
        configuration = load_spec(call.project)
    except SpecError as exc:
        found = diagnostics_json(exc.diagnostics, exc.locator)
        call.console.out(json.dumps({"valid": False, "diagnostics": found}, indent=2))
        return 1
    found = diagnostics_json(configuration.warnings, configuration.locator)
    call.console.out(json.dumps({"valid": True, "diagnostics": found}, indent=2))
    return 0


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
