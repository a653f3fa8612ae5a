"""`gpuplan emulate`: serve emulators of the providers on this machine, for rehearsals and tests."""

from typing import TYPE_CHECKING

from gpuplan.cli.parser import Parser, usage_error

if TYPE_CHECKING:
    from gpuplan.cli.call import Call
    from gpuplan.emulators.control import Types

_PORT = 8900


def arguments(parser: Parser) -> None:
    parser.flag("--providers", metavar="TYPE,...", type=names, help="which ones; all when absent")
    parser.flag("--port", metavar="PORT", type=port, default=_PORT, help=f"default {_PORT}; 0 takes a free one")
    parser.flag("--scenario", metavar="FILE", help="how the world begins, and what befalls it when")
    parser.flag("--speed", metavar="N", type=speed, help="how fast time goes for the emulated nodes")


def names(text: str) -> list[str]:
    """A flag's type: `vultr,runpod`."""
    return [name.strip() for name in text.split(",") if name.strip()]


def port(text: str) -> int:
    """A flag's type: a port number; SSH takes the one after it."""
    import argparse

    if text.isascii() and text.isdigit() and int(text) < 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"`{text}` is not a port below 65535")


def speed(text: str) -> float:
    """A flag's type: a factor above 0."""
    import argparse
    from math import isfinite

    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if factor > 0 and isfinite(factor):
        return factor
    raise argparse.ArgumentTypeError(f"`{text}` is not a number above 0")


def run(call: "Call") -> int:
    from gpuplan.workflow.emulating import make_desk, serve

    args = call.args
    scenario = None if args.scenario is None else scenario_text(call, args.scenario)
    desk = make_desk(args.providers or (), call.clock, scenario=scenario, speed=args.speed)
    serve(desk, args.port, lambda url: _announce(call, url, desk.types))
    call.console.note("The emulators have ended, and what was in them is gone.")
    return 0


def scenario_text(call: "Call", name: str) -> str:
    """The text of a scenario file. Raises UsageError."""
    try:
        return call.path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise usage_error(f"`{name}` cannot be read as a scenario", hint="name a YAML file") from exc


def _announce(call: "Call", url: str, types: "Types") -> None:
    if call.console.json:
        import json

        call.console.out(json.dumps({"url": url, "providers": sorted(types)}))
        return
    call.console.out(f"Emulating {', '.join(sorted(types))} at {url}\n")
    call.console.note(
        "Rehearse in another terminal; keys and accounts are not needed:\n"
        f"    gpuplan plan --emulator {url}\n"
        f"    export GPUPLAN_EMULATOR={url}\n"
        "What happens to the world is said under /_emulator. Ctrl-C ends it, and everything in it is gone."
    )
