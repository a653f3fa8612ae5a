"""Arguments: one parser per verb, built only when that verb is used; every flag also comes from the environment.

Called by `main`. Says what is wrong with a command line in the same voice as everything else.
"""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from gpuplan.core.diagnostics import Diagnostic
from gpuplan.core.errors import GpuplanError
from gpuplan.core.nearest import nearest

_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off", ""})


class UsageError(GpuplanError):
    """The command line is wrong; nothing was done."""

    id = "usage"


def usage_error(summary: str, *, hint: str | None = None, commands: tuple[str, ...] = ()) -> UsageError:
    return UsageError(diagnostics=(Diagnostic(id=UsageError.id, summary=summary, hint=hint, commands=commands),))


class Parser(argparse.ArgumentParser):
    """argparse with our words, our exit code, and `GPUPLAN_FLAG` for whatever was not given."""

    def __init__(self, verb: str, summary: str) -> None:
        super().__init__(prog=f"gpuplan {verb}", description=_sentence(summary), allow_abbrev=False, add_help=False)
        self._verb = verb
        self.takes_rest = False
        own, everywhere = self.add_argument_group("flags"), self.add_argument_group("global flags")
        self._defaults_of: dict[str, Any] = {}  # argparse's own defaults are of any type
        self._flags: list[argparse.Action] = []
        self._group = everywhere
        self._add_global_flags()
        self._group = own

    def flag(self, *names: str, **options: Any) -> None:  # what argparse takes
        """An option; `default` counts only when neither the command line nor the environment has it."""
        default = options.pop("default", False if options.get("action") == "store_true" else None)
        action = self._group.add_argument(*names, default=argparse.SUPPRESS, **options)
        self._defaults_of[action.dest] = default
        self._flags.append(action)

    @property
    def long_flags(self) -> list[str]:
        """`--target`, ... for completion."""
        return [name for action in self._flags for name in action.option_strings if name.startswith("--")]

    def _add_global_flags(self) -> None:
        self.flag("-C", "--chdir", metavar="DIR", default=".", help="work in that folder")
        self.flag("-f", "--file", metavar="FILE", action="append", help="a spec file or folder; may repeat")
        self.flag("--workspace", metavar="NAME", help="which state to work on")
        self.flag("--state", metavar="URL", default="", help="where the state is, instead of what the spec says")
        self.flag("--emulator", metavar="URL", type=url, default="", help="rehearse against `gpuplan emulate`")
        self.flag("--var", metavar="NAME=VALUE", action="append", help="set a variable; may repeat")
        self.flag("--var-file", metavar="FILE", action="append", help="read variables from a YAML file; may repeat")
        self.flag("--json", action="store_true", help="print for programs")
        self.flag("--no-color", action="store_true", help="no colour")
        self.flag("--log-level", metavar="LEVEL", type=choice("debug", "info", "warning"), help="what to log")
        self.flag("--log-file", metavar="FILE", help="where to log to; standard error when absent")
        self.flag("--debug", action="store_true", help="show stack traces")
        self.flag("-h", "--help", action="store_true", help="show this and do nothing")

    def read(self, arguments: Sequence[str], environ: Mapping[str, str]) -> argparse.Namespace:
        """Parse; raises UsageError. `rest` is what follows `--`, where the verb takes a command of somebody else's."""
        own, rest = _split(arguments)
        values, unknown = self.parse_known_args([self._two_dashes(argument) for argument in own])
        if unknown or (rest and not self.takes_rest):
            raise self._unknown([*unknown, *rest][0])
        values.rest = rest
        for action in self._flags:
            if not hasattr(values, action.dest):
                setattr(values, action.dest, self._from_environment(action, environ))
        return values

    def help_text(self) -> str:
        """What `--help` prints."""
        places = [str(action.metavar) for action in self._actions if not action.option_strings]
        self.usage = " ".join([self.prog, "[flags]", *places, *(["[-- COMMAND]"] if self.takes_rest else [])])
        return self.format_help()

    def error(self, message: str) -> NoReturn:
        match = re.fullmatch(r"argument (?:\S+/)?(\S+): (.*)", message, re.DOTALL)
        text = f"`{match[1]}`: {_own_words(match[2])}" if match else _own_words(message)
        raise usage_error(text, hint="this lists what it takes", commands=(f"{self.prog} --help",))

    def _two_dashes(self, argument: str) -> str:
        """Terraform's `-auto-approve` and `-out=FILE` mean what they mean there."""
        name = argument.partition("=")[0]
        if re.fullmatch(r"-[a-z][a-z-]+", name) and f"-{name}" in self._option_string_actions:
            return f"-{argument}"
        return argument

    def _unknown(self, argument: str) -> UsageError:
        if not argument.startswith("-"):
            return usage_error(f"`{argument}` is one argument too many", commands=(f"{self.prog} --help",))
        name = argument.partition("=")[0]
        near = nearest(name, self._option_string_actions)
        return usage_error(
            f"`gpuplan {self._verb}` has no flag `{name}`",
            hint=f"did you mean `{near}`?" if near else "this lists the flags",
            commands=() if near else (f"{self.prog} --help",),
        )

    def _from_environment(self, action: argparse.Action, environ: Mapping[str, str]) -> object:
        name = "GPUPLAN_" + action.dest.upper()
        # GPUPLAN_VAR_name sets variables; there is no GPUPLAN_VAR.
        text = None if action.dest == "var" else environ.get(name)
        if text is None:
            return self._defaults_of[action.dest]
        if action.nargs == 0:
            return _environment_value(name, boolean, text)
        convert: Callable[[str], object] = action.type if callable(action.type) else str
        if isinstance(self._defaults_of[action.dest], list) or _repeats(action):
            return [_environment_value(name, convert, part) for part in text.split(",") if part]
        return _environment_value(name, convert, text)


def _split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """What stands before `--`, and what after it."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


def _repeats(action: argparse.Action) -> bool:
    return type(action).__name__ == "_AppendAction"


def _environment_value(name: str, convert: Callable[[str], object], text: str) -> object:
    try:
        return convert(text)
    except (argparse.ArgumentTypeError, ValueError) as exc:
        raise usage_error(f"`{name}` in the environment: {exc}") from exc


def _own_words(message: str) -> str:
    """argparse's few sentences of its own, in ours."""
    if match := re.fullmatch(r"the following arguments are required: (.*)", message):
        return f"{match[1]} is missing"
    if message.startswith("expected "):
        return "a value is missing"
    if message.startswith("ignored explicit argument"):
        return "takes no value"
    return message


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def choice(*words: str) -> Callable[[str], str]:
    """A flag's type: one of these words."""

    def convert(text: str) -> str:
        if text in words:
            return text
        near = nearest(text, words)
        meant = f"; did you mean `{near}`?" if near else ""
        raise argparse.ArgumentTypeError(f"`{text}` is not one of {', '.join(words)}{meant}")

    return convert


def boolean(text: str) -> bool:
    """A flag's type: `true` or `false`, as in `--refresh=false`."""
    word = text.strip().lower()
    if word in _TRUE | _FALSE:
        return word in _TRUE
    raise argparse.ArgumentTypeError(f"`{text}` is neither `true` nor `false`")


def count(text: str) -> int:
    """A flag's type: a whole number, zero or more."""
    if text.isascii() and text.isdigit():
        return int(text)
    raise argparse.ArgumentTypeError(f"`{text}` is not a whole number")


def positive(text: str) -> int:
    """A flag's type: a whole number, one or more."""
    if count(text) > 0:
        return count(text)
    raise argparse.ArgumentTypeError("it must be at least 1")


def url(text: str) -> str:
    """A flag's type: a base URL, without the slash at its end; empty for none."""
    if not text or re.fullmatch(r"https?://[^/\s]+\S*", text):
        return text.rstrip("/")
    raise argparse.ArgumentTypeError(f"`{text}` is no URL like http://127.0.0.1:8900")


def duration(text: str) -> float:
    """A flag's type: `90s`, `20m`; a bare number means seconds."""
    from gpuplan.core.units import parse_duration

    try:
        return parse_duration(f"{text}s" if text.isdigit() else text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
