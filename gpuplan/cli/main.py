"""The command line's entry: finds the verb, builds its parser, runs it, and turns errors into text and exit codes.

Exit codes: 0 done, 1 error, 2 changes or drift, 130 interrupted. Imports nothing heavy: `gpuplan version` and
`gpuplan --help` are as fast as the interpreter.
"""

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TextIO

from gpuplan.cli.verbs import ALIASES, FLAGS_WITH_VALUE, VERBS, module_of, overview

if TYPE_CHECKING:
    from gpuplan.cli.console import Console
    from gpuplan.core.errors import GpuplanError

DONE, FAILED, CHANGES, INTERRUPTED = 0, 1, 2, 130


class Streams(NamedTuple):
    stdin: TextIO
    stdout: TextIO
    stderr: TextIO


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets its number instead of a traceback.
        if stream.errors == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    # A command keeps nearly all it makes until it ends: looking for rubbish often would find none.
    gc.set_threshold(100_000, 50, 50)
    given = sys.argv[1:] if arguments is None else arguments
    code = run(given, Streams(sys.stdin, sys.stdout, sys.stderr), os.environ)
    # The interpreter looks for rubbish while it ends; what is frozen it leaves alone: a seventh of a short command.
    gc.freeze()
    return code


def run(arguments: Sequence[str], streams: Streams, environ: Mapping[str, str]) -> int:
    """One command, from its arguments to its exit code; tests call it with streams of their own."""
    before, verb, after = _find_verb(arguments)
    if verb == "help":
        before, verb, after = _find_verb(after)
        before = ["--help", *before]
    if verb is None:
        return _without_verb(before, streams, environ)
    return _run_verb(ALIASES.get(verb, verb), verb, [*before, *after], streams, environ)


def _find_verb(arguments: Sequence[str]) -> tuple[list[str], str | None, list[str]]:
    """The first argument that is neither a flag nor a flag's value."""
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        if not argument.startswith("-"):
            return list(arguments[:position]), argument, list(arguments[position + 1 :])
        position += 2 if argument in FLAGS_WITH_VALUE else 1
    return list(arguments), None, []


def _ours(arguments: Sequence[str]) -> Sequence[str]:
    """The arguments before `--`: what follows is a command of somebody else's."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _asks_for_help(arguments: Sequence[str]) -> bool:
    return "--help" in _ours(arguments) or "-h" in _ours(arguments)


def _without_verb(flags: Sequence[str], streams: Streams, environ: Mapping[str, str]) -> int:
    if "--version" in flags:
        return _run_verb("version", "version", [flag for flag in flags if flag != "--version"], streams, environ)
    console = _console(flags, streams, environ)
    if not flags or _asks_for_help(flags):
        console.out(overview(), end="")
        return DONE if flags else FAILED
    from gpuplan.cli.parser import usage_error

    return _report(usage_error("no verb is given", commands=("gpuplan --help",)), console)


def _run_verb(verb: str, typed: str, arguments: Sequence[str], streams: Streams, environ: Mapping[str, str]) -> int:
    console = _console(_ours(arguments), streams, environ)
    from gpuplan.core.errors import GpuplanError

    try:
        return _dispatch(verb, typed, arguments, console, environ)
    except GpuplanError as exc:
        if "--debug" in _ours(arguments):
            _trace(console)
        return _report(exc, console)
    except KeyboardInterrupt:
        console.note("Interrupted.")
        return INTERRUPTED
    except Exception as exc:  # whatever is not ours to foresee becomes a text people can report
        if "--debug" in _ours(arguments):
            _trace(console)
        return _report_bug(exc, verb, console)


def _dispatch(verb: str, typed: str, arguments: Sequence[str], console: "Console", environ: Mapping[str, str]) -> int:
    from importlib import import_module

    from gpuplan.cli.parser import Parser, usage_error
    from gpuplan.core.nearest import nearest

    if verb not in VERBS:
        near = nearest(typed, [*VERBS, *ALIASES])
        raise usage_error(
            f"gpuplan has no verb `{typed}`",
            hint=f"did you mean `{near}`?" if near else "this lists them",
            commands=() if near else ("gpuplan --help",),
        )
    command = import_module(module_of(verb))
    parser = Parser(typed, VERBS[verb])
    command.arguments(parser)
    if _asks_for_help(arguments):
        console.out(parser.help_text(), end="")
        return DONE
    values = parser.read(arguments, environ)
    from gpuplan.cli.call import Call

    with Call.open(values, console, environ) as call:
        return int(command.run(call))


def _console(arguments: Sequence[str], streams: Streams, environ: Mapping[str, str]) -> "Console":
    from gpuplan.cli.console import Console

    no_color = "--no-color" in arguments or bool(environ.get("GPUPLAN_NO_COLOR"))
    json = "--json" in arguments or environ.get("GPUPLAN_JSON", "") not in ("", "0", "false", "no", "off")
    return Console(*streams, environ, no_color=no_color, json=json)


def _report(error: "GpuplanError", console: "Console") -> int:
    from gpuplan.cli.render.diagnostic import diagnostics_json, render_diagnostics

    locator = error.locator
    if console.json:
        import json

        console.note(json.dumps({"diagnostics": diagnostics_json(error.diagnostics, locator)}))
    else:
        console.note(render_diagnostics(error.diagnostics, locator, color=console.note_color), end="")
    return FAILED


def _report_bug(error: Exception, verb: str, console: "Console") -> int:
    import gpuplan
    from gpuplan.core.diagnostics import Diagnostic
    from gpuplan.core.errors import InternalError

    found = Diagnostic(
        id=InternalError.id,
        summary="this is a bug in gpuplan",
        facts=(
            f"gpuplan {gpuplan.__version__}, Python {sys.version.split()[0]}, during `{verb}`",
            f"{type(error).__name__}: {error}",
            "what was done is in the state and its journal; the next command settles what was open",
        ),
        hint="run it again with `--debug`, and report what it prints in the project's issue tracker",
    )
    return _report(InternalError(diagnostics=(found,)), console)


def _trace(console: "Console") -> None:
    import traceback

    console.note(traceback.format_exc(), end="")
