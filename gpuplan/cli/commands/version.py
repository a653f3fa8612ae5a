"""`gpuplan version`."""

import sys
from typing import TYPE_CHECKING

import gpuplan
from gpuplan.cli.parser import Parser

if TYPE_CHECKING:
    from gpuplan.cli.call import Call


def arguments(parser: Parser) -> None:
    """Nothing but the global flags."""


def run(call: "Call") -> int:
    python = sys.version.split()[0]
    if call.console.json:
        import json

        call.console.out(json.dumps({"version": gpuplan.__version__, "python": python, "platform": sys.platform}))
    else:
        call.console.out(f"gpuplan {gpuplan.__version__} (Python {python}, {sys.platform})")
    return 0
