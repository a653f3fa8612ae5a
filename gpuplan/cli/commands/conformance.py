"""`gpuplan conformance`: try what the contract says of every provider, on the type's emulator or on a real account."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from gpuplan.cli.commands.planning_flags import usd
from gpuplan.cli.parser import Parser, usage_error

if TYPE_CHECKING:
    from gpuplan.cli.call import Call
    from gpuplan.core.values import Attrs
    from gpuplan.testing.conformance import ProviderConformance
    from gpuplan.testing.suite import Checked


def arguments(parser: Parser) -> None:
    parser.add_argument("type", metavar="TYPE", nargs="?", help="a provider type; without one, those it can try")
    parser.flag("--check", metavar="NAME", action="append", help="only this one: a rule's number, or part of its name")
    parser.flag("--live", action="store_true", help="on your own account at the provider: it creates, and it costs")
    parser.flag("--max-cost", metavar="USD", type=usd, help="what --live may cost at most; it stops before that")
    parser.flag("--price", metavar="USD", type=usd, help="of a node per hour, where the provider does not tell it")
    parser.flag("--node", metavar="NAME=VALUE", action="append", help="what --live asks of a node instead; may repeat")
    parser.flag("--auto-approve", action="store_true", help="do not ask before --live begins")


def run(call: "Call") -> int:
    from gpuplan.testing.catalog import check_kit, contract_names

    if call.args.type is None:
        call.console.out("\n".join(contract_names()))
        return 0
    check_kit(call.args.type)
    return _report(call, _live(call) if call.args.live else _emulated(call))


def _emulated(call: "Call") -> "list[Checked]":
    from gpuplan.testing.suite import named, run_contract

    return run_contract(named(call.args.type), wanted=_wanted(call), tell=_teller(call))


def _live(call: "Call") -> "list[Checked]":
    from gpuplan.cli.commands.carry_out import is_approved
    from gpuplan.core.desired import ProviderBlock
    from gpuplan.core.ports import OpenContext
    from gpuplan.core.secret import Redactor
    from gpuplan.testing.catalog import contract
    from gpuplan.testing.live import Purse, live_contract, look_at
    from gpuplan.testing.suite import run_contract

    args, name = call.args, call.args.type
    if args.max_cost is None:
        raise usage_error(
            "`--live` creates nodes on your account, and nobody has said what they may cost",
            hint="say it in USD; nothing is created that could pass it",
            commands=(f"gpuplan conformance {name} --live --max-cost 5",),
        )
    tried = contract(name)
    block = ProviderBlock(name, tried.provider_type.name, tried.options, ())
    context = OpenContext(block, call.clock, call.environ, Redactor(), args.emulator or None)
    asked = _asked(call, tried)
    found = look_at(tried, asked, context)
    price = args.price if args.price is not None else found.price_per_hour
    if price is None:
        raise usage_error(f"`{name}` does not tell what such a node costs", hint="say it with `--price USD`")
    purse = Purse(args.max_cost, price)
    call.console.note(
        f"At {name}, account {found.account.id}: nodes with {_shown(asked)}.\n"
        f"Each counts {price} USD, and all of them {args.max_cost} USD at most; whatever is created is deleted again."
    )
    question = ("Do you want to try the contract there?", "gpuplan will create and delete real objects, which costs.")
    if not args.auto_approve and not call.await_(is_approved(call.console, f"conformance {name} --live", *question)):
        raise usage_error("nothing was tried")
    return run_contract(lambda: live_contract(tried, asked, context, purse), wanted=_wanted(call), tell=_teller(call))


def _asked(call: "Call", tried: "type[ProviderConformance]") -> "Attrs":
    """What nodes are asked for: what the contract says, and what `--node` says instead; an empty value takes away."""
    from gpuplan.core.desired import Kind

    asked = dict(tried.asks[Kind.NODE if Kind.NODE in tried.asks else Kind.GROUP])
    for text in call.args.node or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise usage_error(f"`--node {text}` has no value", hint=f"write `--node {name or 'NAME'}=VALUE`")
        if value:
            asked[name] = value
        else:
            asked.pop(name, None)
    return asked


def _shown(asked: "Attrs") -> str:
    words = ("instance_type", "gpu", "region", "image")
    return ", ".join(f"{name} {asked[name]}" for name in words if asked.get(name))


def _wanted(call: "Call") -> Callable[[str], bool]:
    asked = call.args.check or ()
    return lambda name: not asked or any(_is_called(name, text) for text in asked)


def _is_called(name: str, text: str) -> bool:
    if text.isdigit():
        return name.startswith(f"test_rule_{int(text):02}_")
    return text.replace(" ", "_") in name


def _teller(call: "Call") -> "Callable[[Checked], None]":
    from gpuplan.cli.render.conformance import checked_line

    return lambda checked: None if call.console.json else call.console.out(checked_line(checked))


def _report(call: "Call", checked: "list[Checked]") -> int:
    from gpuplan.cli.render.conformance import conformance_json, conformance_summary
    from gpuplan.testing.suite import Verdict

    if not checked:
        raise usage_error(
            f"no check of `{call.args.type}` is called `{', '.join(call.args.check or ())}`",
            hint="say the number of a rule in docs/adding-a-provider.md, or part of its name",
        )
    if call.console.json:
        call.console.out(conformance_json(call.args.type, checked), end="")
    else:
        call.console.out(conformance_summary(checked), end="")
    return 1 if any(each.verdict is Verdict.FAILED for each in checked) else 0
