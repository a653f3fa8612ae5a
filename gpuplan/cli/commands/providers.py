"""`gpuplan providers`: what each provider type can do; with `--check`, whether the configured accounts work."""

from typing import TYPE_CHECKING

from gpuplan.cli.parser import Parser

if TYPE_CHECKING:
    from gpuplan.cli.call import Call


def arguments(parser: Parser) -> None:
    parser.add_argument("type", metavar="TYPE", nargs="?", help="only this one, with everything it says of itself")
    parser.flag("--check", action="store_true", help="ask every account of the spec; exit 1 unless all of them work")


def run(call: "Call") -> int:
    return _check(call) if call.args.check else _describe(call)


def _check(call: "Call") -> int:
    from gpuplan.cli.render.providers import checked_json, checked_table
    from gpuplan.workflow.looking import checked_accounts

    configuration, checked = call.await_(checked_accounts(call.project, call.args.type or "", clock=call.clock))
    call.console.out(checked_json(checked) if call.console.json else checked_table(checked), end="")
    problems = [found for each in checked if each.problem is not None for found in each.problem.diagnostics]
    call.warn(problems, configuration.locator, end="")
    return 1 if problems else 0


def _describe(call: "Call") -> int:
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
