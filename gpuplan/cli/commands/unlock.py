"""`gpuplan unlock ID`: remove a lock that its owner left behind. `force-unlock` is the same."""

from typing import TYPE_CHECKING

from gpuplan.cli.parser import Parser

if TYPE_CHECKING:
    from gpuplan.cli.call import Call


def arguments(parser: Parser) -> None:
    parser.add_argument("lock", metavar="ID", help="the lock, as the message about it names it")


def run(call: "Call") -> int:
    from gpuplan.workflow.ledger import break_lock

    call.await_(break_lock(call.project, call.clock, call.args.lock))
    call.console.note("The lock is removed. The next command looks at what that run left open.")
    return 0
