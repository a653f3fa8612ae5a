"""`gpuplan completion SHELL`: a script that completes verbs and flags."""

from importlib import import_module
from typing import TYPE_CHECKING

from gpuplan.cli.parser import Parser, choice
from gpuplan.cli.verbs import ALIASES, VERBS, module_of

if TYPE_CHECKING:
    from gpuplan.cli.call import Call


def arguments(parser: Parser) -> None:
    parser.add_argument("shell", metavar="SHELL", type=choice("bash", "zsh", "fish"), help="bash, zsh or fish")


def run(call: "Call") -> int:
    flags = {verb: _flags(verb) for verb in VERBS}
    match call.args.shell:
        case "bash":
            text = _bash(flags)
        case "zsh":
            text = f"#compdef gpuplan\nautoload -U +X bashcompinit && bashcompinit\n{_bash(flags)}"
        case _:
            text = _fish(flags)
    call.console.out(text, end="")
    return 0


def _flags(verb: str) -> list[str]:
    parser = Parser(verb, VERBS[verb])
    import_module(module_of(verb)).arguments(parser)
    return parser.long_flags


def _bash(flags: dict[str, list[str]]) -> str:
    cases = "\n".join(f'    {verb}) words="{" ".join(names)}" ;;' for verb, names in flags.items())
    verbs = " ".join([*VERBS, *ALIASES])
    return f"""\
_gpuplan() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" verb="" words="{verbs}" word
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case " {verbs} " in *" $word "*) verb="$word"; break ;; esac
  done
  case "$verb" in
{cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [ ${{#COMPREPLY[@]}} -gt 0 ] || COMPREPLY=($(compgen -f -- "$current"))
}}
complete -o filenames -F _gpuplan gpuplan
"""


def _fish(flags: dict[str, list[str]]) -> str:
    known = " ".join([*VERBS, *ALIASES])
    lines = [f'complete -c gpuplan -n "not __fish_seen_subcommand_from {known}" -f']
    for verb, text in VERBS.items():
        lines.append(f'complete -c gpuplan -n "not __fish_seen_subcommand_from {known}" -a {verb} -d "{text}"')
        for name in flags[verb]:
            lines.append(f'complete -c gpuplan -n "__fish_seen_subcommand_from {verb}" -l {name.removeprefix("--")}')
    return "\n".join(lines) + "\n"
