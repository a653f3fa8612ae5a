"""`gpuplan drift`: does reality still match what was applied? Exit 0 yes, 2 no, 1 could not tell."""

from typing import TYPE_CHECKING

from gpuplan.cli.parser import Parser, choice

if TYPE_CHECKING:
    from gpuplan.cli.call import Call
    from gpuplan.cli.render.drift import DriftReport
    from gpuplan.workflow.planning import Surveyed

FORMATS = ("text", "json", "markdown", "junit", "sarif", "github")
_MATCHES, _COULD_NOT_TELL, _DRIFTED = 0, 1, 2


def arguments(parser: Parser) -> None:
    parser.flag("--format", metavar="FORMAT", type=choice(*FORMATS), help=", ".join(FORMATS))
    parser.flag(
        "--report", metavar="FORMAT=FILE", type=report, action="append", help="also write it to a file; may repeat"
    )


def report(text: str) -> tuple[str, str]:
    """A flag's type: `sarif=drift.sarif`."""
    import argparse

    form, equals, name = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"`{text}` is not FORMAT=FILE")
    return choice(*FORMATS)(form), name


def run(call: "Call") -> int:
    from gpuplan.cli.render.progress import remarks
    from gpuplan.core.plan import DriftKind
    from gpuplan.workflow.driftignore import expired_warnings
    from gpuplan.workflow.planning import find_project_drift

    surveyed = call.await_(find_project_drift(call.project, clock=call.clock, emit=remarks(call.console)))
    call.warn(expired_warnings(surveyed.expired), surveyed.configuration.locator)
    found = _report(surveyed, call.args.chdir)
    form = call.args.format or ("json" if call.console.json else "text")
    call.console.out(_rendered(found, form, color=call.console.out_color), end="")
    for other, name in call.args.report or ():
        call.write(name, _rendered(found, other, color=False))
    if any(drift.kind is DriftKind.UNREACHABLE for drift in surveyed.drift):
        return _COULD_NOT_TELL
    return _DRIFTED if surveyed.drift else _MATCHES


def _report(surveyed: "Surveyed", folder: str) -> "DriftReport":
    from gpuplan.cli.render.drift import DriftReport

    return DriftReport(
        surveyed.drift,
        addresses=tuple(sorted(surveyed.state.instances, key=lambda address: address.order)),
        silenced=surveyed.silenced,
        locator=surveyed.configuration.locator,
        folder=folder,
    )


def _rendered(report: "DriftReport", form: str, *, color: bool) -> str:
    from gpuplan.cli.render.drift import drift_markdown, drift_text, github_annotations
    from gpuplan.cli.render.drift_reports import drift_json, junit, sarif

    match form:
        case "json":
            return drift_json(report)
        case "markdown":
            return drift_markdown(report)
        case "junit":
            return junit(report)
        case "sarif":
            return sarif(report)
        case "github":
            return github_annotations(report)
        case _:
            return drift_text(report, color=color)
