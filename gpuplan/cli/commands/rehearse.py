"""`gpuplan rehearse`: plan, apply and destroy the spec in a world of its own, and tell what would happen."""

from typing import TYPE_CHECKING

from gpuplan.cli.commands.emulate import scenario_text, speed
from gpuplan.cli.parser import Parser, count, duration, positive, usage_error

if TYPE_CHECKING:
    from gpuplan.cli.call import Call


def arguments(parser: Parser) -> None:
    parser.flag("--scenario", metavar="FILE", help="how the world begins, and what befalls it when")
    parser.flag("--for", dest="lasting", metavar="TIME", type=duration, help="how long to let it run: 12h")
    parser.flag("--keep", action="store_true", help="do not destroy it at the end, and tell what there is")
    parser.flag("--seed", metavar="N", type=count, default=0, help="another world, with other chances; default 0")
    parser.flag("--speed", metavar="N", type=speed, help="how fast time goes; as fast as it can when absent")
    parser.flag("--parallelism", metavar="N", type=positive, default=32, help="operations at work at once; default 32")


def run(call: "Call") -> int:
    from math import inf

    from gpuplan.cli.render.rehearsal import rehearsal_diagnostics, rehearsal_json, rehearsal_text
    from gpuplan.workflow.rehearsing import Wishes, rehearse

    args = call.args
    if args.emulator:
        raise usage_error(
            "`gpuplan rehearse` brings emulators of its own, and `--emulator` names another",
            hint="leave it away, or use that emulator step by step",
            commands=("gpuplan apply --emulator URL",),
        )
    wishes = Wishes(
        scenario=None if args.scenario is None else scenario_text(call, args.scenario),
        seed=args.seed,
        speed=args.speed or inf,
        lasting_seconds=args.lasting,
        destroys=not args.keep,
        parallelism=args.parallelism,
    )
    rehearsal = rehearse(call.project, wishes, clock=call.clock)
    call.console.out(rehearsal_json(rehearsal) if call.console.json else rehearsal_text(rehearsal), end="")
    if not call.console.json:
        call.warn(rehearsal_diagnostics(rehearsal), rehearsal.configuration.locator, end="")
    return 0 if rehearsal.is_clean else 1
