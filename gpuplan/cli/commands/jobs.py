"""`gpuplan jobs ...`: how jobs stand; wait for them, or cancel them."""

from typing import TYPE_CHECKING

from gpuplan.cli.call import address
from gpuplan.cli.parser import Parser, choice, usage_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuplan.cli.call import Call
    from gpuplan.workflow.jobs import Job

_TAKES = {"list": "[ADDRESS ...]", "wait": "[ADDRESS ...]", "cancel": "ADDRESS ..."}


def arguments(parser: Parser) -> None:
    parser.epilog = "; ".join(f"jobs {verb} {takes}".strip() for verb, takes in _TAKES.items())
    parser.add_argument(
        "action", metavar="ACTION", nargs="?", default="list", type=choice(*_TAKES), help=", ".join(_TAKES)
    )
    parser.add_argument("addresses", metavar="ADDRESS", nargs="*", type=address, help="jobs.eval; all without one")


def run(call: "Call") -> int:
    """Of `wait`: 0 when all of them succeeded, else 1."""
    from gpuplan.workflow.jobs import SUCCEEDED, cancel_jobs, look_at_jobs, wait_for_jobs

    wanted = call.args.addresses
    match call.args.action:
        case "wait":
            jobs = call.await_(wait_for_jobs(call.project, wanted, call.clock))
        case "cancel":
            if not wanted:
                raise usage_error(f"`gpuplan jobs cancel` takes {_TAKES['cancel']}")
            jobs = call.await_(cancel_jobs(call.project, wanted, call.clock))
        case _:
            jobs = call.await_(look_at_jobs(call.project, wanted, call.clock))
    _print(call, jobs)
    return 1 if call.args.action == "wait" and any(job.state != SUCCEEDED for job in jobs) else 0


def _print(call: "Call", jobs: "Sequence[Job]") -> None:
    if call.console.json:
        import json

        told = [
            {
                "address": str(job.address),
                "provider": job.provider,
                "id": job.remote_id,
                "state": job.state,
                "exit_code": job.exit_code,
            }
            for job in jobs
        ]
        call.console.out(json.dumps(told, indent=2))
    elif not jobs:
        call.console.note("There are no jobs.")
    else:
        from gpuplan.cli.render.table import render_table

        rows = [(str(job.address), job.state, "" if job.exit_code is None else str(job.exit_code)) for job in jobs]
        call.console.out(render_table(("job", "state", "exit code"), rows), end="")
