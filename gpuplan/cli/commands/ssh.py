"""`gpuplan ssh ADDRESS [-- COMMAND]`: a shell on a node, or the output and the exit code of one command there."""

import os
import shutil
import sys
from typing import TYPE_CHECKING

from gpuplan.cli.call import address
from gpuplan.cli.parser import Parser, usage_error

if TYPE_CHECKING:
    from gpuplan.cli.call import Call
    from gpuplan.workflow.visiting import Login


def arguments(parser: Parser) -> None:
    parser.add_argument("address", metavar="ADDRESS", type=address, help="clusters.train.nodes[0]")
    parser.flag("-i", "--stdin", action="store_true", help="hand standard input on to the command")
    parser.takes_rest = True


def run(call: "Call") -> int:
    from gpuplan.workflow.visiting import login

    if call.args.rest:
        return call.await_(_command(call))
    found = call.await_(login(call.project, call.args.address, call.clock))
    if found is None:
        where = f"`{call.args.address}`"
        raise usage_error(
            f"{where} has no SSH, and nothing else gives a shell there",
            hint="run one command after the other",
            commands=(f"gpuplan ssh '{call.args.address}' -- COMMAND",),
        )
    return _become(found)


async def _command(call: "Call") -> int:
    """Its words are put together as `ssh` does, and read by the shell there."""
    from gpuplan.cli.render.text import clean
    from gpuplan.workflow.visiting import visited

    raw = not call.console.out_is_terminal
    stdin = sys.stdin.buffer.read() if call.args.stdin else b""

    def show(line: str) -> None:
        # A file gets what the command wrote; a terminal must not obey it.
        call.console.out(line if raw else clean(line.replace("\t", "    ")))

    async with visited(call.project, call.args.address, call.clock) as channel:
        result = await channel.run(" ".join(call.args.rest), env={}, stdin=stdin, each_line=show)
    return result.status


def _become(login: "Login") -> int:
    """Leave the terminal to the system's `ssh`."""
    import shlex

    program = shutil.which("ssh")
    if program is None:
        raise usage_error(
            "there is no `ssh` in the PATH", hint="install OpenSSH's client, or give a command after `--`"
        )
    arguments = ["ssh"]
    for keyword, value in (*login.options, ("RequestTTY", "yes")):
        arguments += ["-o", f"{keyword}={value}"]
    place = shlex.quote(login.workspace)
    arguments += [login.target.host, f'cd {place} 2>/dev/null; exec "${{SHELL:-/bin/sh}}" -l']
    sys.stdout.flush()
    os.execv(program, arguments)
