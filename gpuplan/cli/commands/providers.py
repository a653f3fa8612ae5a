"""`gpuplan providers`: what each provider type can do."""

from typing import TYPE_CHECKING

from gpuplan.cli.parser import Parser

if TYPE_CHECKING:
    from gpuplan.cli.call import Call


def arguments(parser: Parser) -> None:
    parser.add_argument("type", metavar="TYPE", nargs="?", help="only this one, with everything it says of itself")


def run(call: "Call") -> int:
    from gpuplan.cli.render.providers import provider_text, providers_json, providers_table
    from gpuplan.workflow.looking import described_provider, described_providers

    if call.args.type is not None:
        described = [described_provider(call.project, call.args.type)]
    else:
        described = described_providers(call.project)
    if call.console.json:
        call.console.out(providers_json(described), end="")
    elif call.args.type is not None:
        call.console.out(provider_text(described[0]), end="")
    else:
        call.console.out(providers_table(described), end="")
        call.warn([found for each in described for found in each.problems], None)
    return 0
