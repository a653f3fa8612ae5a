"""One call of a command: its arguments, the console, and the project they name. What every `commands/*.run` gets."""

from argparse import Namespace
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gpuplan.cli.console import Console
from gpuplan.cli.parser import usage_error

if TYPE_CHECKING:
    from gpuplan.core.address import Address
    from gpuplan.core.diagnostics import Diagnostic, Locator
    from gpuplan.core.ports import Clock
    from gpuplan.workflow.project import Project

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    args: Namespace
    console: Console
    environ: Mapping[str, str] = field(repr=False)

    @classmethod
    @contextmanager
    def open(cls, args: Namespace, console: Console, environ: Mapping[str, str]) -> Iterator["Call"]:
        """With logging as the flags ask for it, for as long as the command runs."""
        if args.log_level is None and args.log_file is None:
            yield cls(args, console, environ)
            return
        from gpuplan.cli.logs import logging_to

        with logging_to(args.log_file, args.log_level or "info", args.chdir):
            yield cls(args, console, environ)

    @cached_property
    def project(self) -> "Project":
        from gpuplan.workflow.project import Project, emulated_workspace, selected_workspace

        folder = Path(self.args.chdir)
        if not folder.is_dir():
            raise usage_error(f"there is no folder `{folder}`")
        workspace = self.args.workspace or selected_workspace(folder)
        return Project(
            folder=folder,
            files=tuple(self.args.file or ()),
            workspace=emulated_workspace(workspace) if self.args.emulator else workspace,
            variables=dict(_pair(text) for text in self.args.var or ()),
            variable_files=tuple(self.args.var_file or ()),
            environ=self.environ,
            emulator=self.args.emulator,
            state=self.args.state,
        )

    @cached_property
    def clock(self) -> "Clock":
        if self.args.emulator:
            from gpuplan.workflow.emulating import clock_of

            return clock_of(self.args.emulator)
        from gpuplan.net.clock import SystemClock

        return SystemClock()

    def path(self, name: str) -> Path:
        """A file named on the command line: relative to `-C`."""
        return Path(self.args.chdir) / Path(name).expanduser()

    def write(self, name: str, text: str) -> None:
        """Write a file named on the command line. Raises UsageError when that cannot be done."""
        try:
            self.path(name).write_text(text, encoding="utf-8")
        except OSError as exc:
            raise usage_error(f"`{name}` cannot be written: {(exc.strerror or str(exc)).lower()}") from exc

    def await_(self, main: Coroutine[Any, Any, T]) -> T:  # whatever the event loop sends in between
        """Run the one coroutine of this command. Raises KeyboardInterrupt when a signal ended it."""
        import asyncio

        kept: list[T] = []

        async def keep() -> None:
            # Not the task's result: when the loop ends, the signal module formats the finished task with all it holds,
            # which for a plan of ten thousand nodes is a quarter of the command.
            kept.append(await main)

        try:
            asyncio.run(keep())
        except asyncio.CancelledError as exc:
            raise KeyboardInterrupt from exc
        return kept[0]

    def warn(self, warnings: Iterable["Diagnostic"], locator: "Locator | None", *, end: str = "\n") -> None:
        """Diagnostics that do not end the command, to standard error, followed by an empty line."""
        found = list(warnings)
        if not found:
            return
        from gpuplan.cli.render.diagnostic import diagnostics_json, render_diagnostics

        if self.console.json:
            import json

            self.console.note(json.dumps({"diagnostics": diagnostics_json(found, locator)}))
        else:
            self.console.note(render_diagnostics(found, locator, color=self.console.note_color), end=end)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise usage_error(f"`--var {text}` has no value", hint=f"write `--var {name or 'NAME'}=VALUE`")
    return name.strip(), value


def address(text: str) -> "Address":
    """An argument that names an instance or a resource."""
    import argparse

    from gpuplan.core.address import Address

    try:
        return Address.parse(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{exc}; write `clusters.train.nodes[0]` or `volumes.data`") from exc
