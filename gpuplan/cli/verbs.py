"""The verbs of the command line, as a table: what `--help` lists without importing any of them."""

from typing import Final

VERBS: Final = {
    "init": "write a starter gpuplan.yaml here",
    "validate": "check the spec; every problem with file, line and column",
    "fmt": "lay the spec out in the canonical way",
    "plan": "show what would change, in which order, why, and what it costs",
    "apply": "make it so",
    "destroy": "delete everything the state has",
    "drift": "tell whether reality still matches; exit 0 yes, 2 no, 1 could not tell",
    "show": "print the state, or a saved plan",
    "graph": "print the dependency graph as DOT or Mermaid",
    "output": "print the outputs of the last apply",
    "state": "list, show, move, remove, pull or push what the state has; migrate, verify, recover",
    "import": "take over an object that exists already",
    "orphans": "list, adopt or destroy what carries our mark and is in no state",
    "offers": "print what the configured accounts rent now, and for how much",
    "cost": "print what the clusters cost per hour, and have cost so far",
    "providers": "print what each provider can do, or whether the accounts work",
    "logs": "print what a node, a service or a job wrote",
    "jobs": "list jobs with their state and exit code, wait for them, cancel them",
    "ssh": "log in to a node, or run a command there",
    "cp": "copy files and folders to a node, or from one",
    "forward": "carry a port of this machine to a port of a node",
    "ssh-config": "print what OpenSSH needs to reach every node by name",
    "hostfile": "print the nodes for OpenSSH, Ansible, MPI, torchrun, or as hosts.yaml",
    "emulate": "serve emulators of the providers on this machine",
    "conformance": "try whether a provider type keeps the contract, on its emulator or live",
    "rehearse": "tell what applying the spec would do, in a world of its own where nothing costs",
    "watch": "stay and look: tell what drifts, keep leases alive; with --apply, make it so",
    "serve": "answer over HTTP what is rented, what the state has, and whether it drifted",
    "unlock": "remove a lock that its owner left behind",
    "workspace": "list, select, create or delete workspaces",
    "version": "print the version",
    "completion": "print a completion script for bash, zsh or fish",
}

ALIASES: Final = {"force-unlock": "unlock"}

_MODULES: Final = {"import": "import_", "ssh-config": "ssh_config"}


def module_of(verb: str) -> str:
    """The module that runs a verb; not every verb can be its name."""
    return f"gpuplan.cli.commands.{_MODULES.get(verb, verb)}"


FLAGS_WITH_VALUE: Final = frozenset(
    {
        "-C",
        "--chdir",
        "-f",
        "--file",
        "--workspace",
        "--state",
        "--emulator",
        "--var",
        "--var-file",
        "--log-level",
        "--log-file",
    }
)
"""Of the global flags: needed to find the verb among them without building a parser."""


def overview() -> str:
    """The text of `gpuplan --help`."""
    longest = max(map(len, VERBS))
    lines = [f"  {verb:<{longest}}  {text}" for verb, text in VERBS.items()]
    return _OVERVIEW.format(verbs="\n".join(lines))


_OVERVIEW = """\
Keep the GPU clusters you want in YAML; plan, apply and watch them for drift.

usage: gpuplan [global flags] VERB [flags]

{verbs}

Global flags, before or after the verb:
  -C DIR             work in that folder
  -f FILE            a spec file or folder; may repeat, later ones merge over earlier ones
  --workspace NAME   which state to work on
  --state URL        where the state is: a folder, s3://, postgres://, https:// or kubernetes://
  --emulator URL     rehearse: every HTTP provider is the emulator there, and the state is one of its own
  --var NAME=VALUE   set a variable; may repeat
  --var-file FILE    read variables from a YAML file; may repeat
  --json             print for programs
  --no-color         no colour, as with NO_COLOR in the environment
  --log-level LEVEL  debug, info or warning; goes to standard error or to --log-file FILE
  --debug            show stack traces

Every flag can come from the environment: GPUPLAN_WORKSPACE, GPUPLAN_VAR_name, GPUPLAN_PARALLELISM, ...
Exit codes: 0 done, 1 error, 2 changes or drift, 130 interrupted.
More about one verb: gpuplan VERB --help
"""
